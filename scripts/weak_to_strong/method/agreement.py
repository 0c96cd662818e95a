"""The Stage I filter: keep the questions to which the weak and the ICL side answer alike."""

from __future__ import annotations

import polars as pl

from weak_to_strong.method.answers import Judge, judge_table, string_judge


def agreement_filter(
    weak: pl.DataFrame,
    icl: pl.DataFrame,
    *,
    keep_empty: bool = False,
    judge: Judge = string_judge,
) -> pl.DataFrame:
    """Questions on which both sides give the same final answer (paper, Stage I).

    Args:
        weak: LABELS of the weak side.
        icl: LABELS of the ICL side, in any row order.
        keep_empty: keep questions to which neither side gives an answer (8 of the 2683 rows in
            the released first iteration of GSM8K with Llama-2-7b).
        judge: compares weak with ICL predictions; sides agree where its verdict is "right".

    Returns:
        KEPT in the weak side's row order; `prediction` is the weak side's.

    Raises:
        ValueError: the sides label different questions, or no answers agree.
    """
    for name, side in (("weak", weak), ("ICL", icl)):
        if side["id"].is_duplicated().any():
            raise ValueError(f"{name} labels: an id stands twice")
    if len(odd := odd_ids(weak["id"], icl["id"])):
        raise ValueError(
            f"weak and ICL labels are of different questions: {len(odd)} ids stand on one side "
            f"only, such as {odd.min()!r}; generate both from the same train_2"
        )
    pairs = weak.select("id", "prediction", weak_response="response").join(
        icl.select("id", icl_prediction="prediction", icl_response="response"),
        on="id",
        how="left",
        maintain_order="left",
    )
    verdicts = judge_table(pairs.select("id", "prediction", "icl_prediction"), judge)
    kept = pairs.filter(verdicts == "right")
    if not keep_empty:
        kept = kept.filter(pl.col("prediction") != "", pl.col("icl_prediction") != "")
    if kept.is_empty():
        raise ValueError(
            f"no weak and ICL answers agree ({len(pairs)} questions; without a final answer: "
            f"{count_empty(weak)} weak, {count_empty(icl)} ICL); check `answer_key`, train the "
            "weak model for longer, or use a stronger base model"
        )
    return kept.select("id", "weak_response", "icl_response", "prediction")


def odd_ids(ids: pl.Series, others: pl.Series) -> pl.Series:
    """Ids that stand in one of two columns only."""
    sides = ((ids, others), (others, ids))
    return pl.concat([one.filter(~one.is_in(other.implode())) for one, other in sides])


def count_empty(labels: pl.DataFrame) -> int:
    """Number of LABELS rows without a final answer."""
    return labels.filter(pl.col("prediction") == "").height
