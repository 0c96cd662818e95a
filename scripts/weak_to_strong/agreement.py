"""The Stage I filter: keep the questions to which the weak and the ICL side answer alike."""

from __future__ import annotations

from collections.abc import Callable
from operator import eq

import polars as pl


def agreement_filter(
    weak: pl.DataFrame,
    icl: pl.DataFrame,
    *,
    keep_empty: bool = False,
    equal: Callable[[str, str], bool] = eq,
) -> pl.DataFrame:
    """Questions on which both sides give the same final answer (paper, Stage I).

    Args:
        weak: LABELS of the weak side.
        icl: LABELS of the ICL side, in any row order.
        keep_empty: keep questions to which neither side gives an answer (8 of the 2683 rows in
            the released first iteration of GSM8K with Llama-2-7b).
        equal: compares a weak with an ICL prediction.

    Returns:
        KEPT in the weak side's row order; `prediction` is the weak side's.

    Raises:
        ValueError: the sides label different questions, or no answers agree.
    """
    for name, side in (("weak", weak), ("ICL", icl)):
        if side["id"].is_duplicated().any():
            raise ValueError(f"{name} labels: an id stands twice")
    if odd := set(weak["id"]) ^ set(icl["id"]):
        raise ValueError(
            f"weak and ICL labels are of different questions: {len(odd)} ids stand on one side "
            f"only, such as {min(odd)!r}; generate both from the same train_2"
        )
    pairs = weak.select("id", "prediction", weak_response="response").join(
        icl.select("id", icl_prediction="prediction", icl_response="response"),
        on="id",
        how="left",
        maintain_order="left",
    )
    agree = [
        equal(ours, theirs) and (keep_empty or bool(ours and theirs))
        for ours, theirs in pairs.select("prediction", "icl_prediction").iter_rows()
    ]
    kept = pairs.filter(pl.Series(agree, dtype=pl.Boolean))
    if kept.is_empty():
        raise ValueError(
            f"no weak and ICL answers agree ({len(pairs)} questions; without a final answer: "
            f"{count_empty(weak)} weak, {count_empty(icl)} ICL); check `answer_key`, train the "
            "weak model for longer, or use a stronger base model"
        )
    return kept.select("id", "weak_response", "icl_response", "prediction")


def count_empty(labels: pl.DataFrame) -> int:
    """Number of LABELS rows without a final answer."""
    return labels.filter(pl.col("prediction") == "").height
