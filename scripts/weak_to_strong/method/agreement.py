"""The agreement filter: keep questions that both sides answer alike (paper section 3.1)."""

from __future__ import annotations

import polars as pl

from weak_to_strong.method.answers import Judge, judge_table, string_judge
from weak_to_strong.tables.schemas import KEPT


def agreement_filter(
    weak: pl.DataFrame,
    icl: pl.DataFrame,
    *,
    keep_empty: bool = False,
    keep: str = "agreeing",
    judge: Judge = string_judge,
) -> pl.DataFrame:
    """Questions on which both sides give the same final answer (paper section 3.1, Stage I).

    Args:
        weak: LABELS of the weak side.
        icl: LABELS of the ICL side, in any row order.
        keep_empty: keep questions that neither side gives a final answer to. The released first
            iteration of GSM8K with Llama-2-7b has 8 of them among 2683 questions.
        keep: "agreeing". To break the filter on purpose: "disagreeing" keeps the questions on which
            the sides give two different final answers, and "all" keeps every question.
        judge: compares weak with ICL predictions; the sides agree where its verdict is "right".

    Returns:
        KEPT in the weak side's row order; `prediction` is the weak side's.

    Raises:
        ValueError: an id occurs twice, the sides label different questions, or no answers agree
            (with `keep`: no question is kept).
    """
    for name, side in (("weak", weak), ("ICL", icl)):
        if side["id"].is_duplicated().any():
            raise ValueError(f"{name} labels: an id stands twice")
    if len(unmatched := unmatched_ids(weak["id"], icl["id"])):
        raise ValueError(
            f"weak and ICL labels are of different questions: {len(unmatched)} ids stand on one "
            f"side only, such as {unmatched.min()!r}; generate both from the same train_2"
        )
    pairs = weak.select("id", "prediction", weak_response="response").join(
        icl.select("id", icl_prediction="prediction", icl_response="response"),
        on="id",
        how="left",
        maintain_order="left",
    )
    verdicts = judge_table(pairs.select("id", "prediction", "icl_prediction"), judge)
    if keep == "all":
        return pairs.select(KEPT.names())
    verdict = {"agreeing": "right", "disagreeing": "wrong"}[keep]
    kept = pairs.filter(verdicts == verdict)
    if not keep_empty:
        kept = kept.filter(pl.col("prediction") != "", pl.col("icl_prediction") != "")
    if kept.is_empty():
        verb = keep.removesuffix("ing")
        raise ValueError(
            f"no weak and ICL answers {verb} ({len(pairs)} questions; without a final answer: "
            f"{count_empty(weak)} weak, {count_empty(icl)} ICL); check `answer_key`, train the "
            "weak model for longer, or use a stronger base model"
        )
    return kept.select(KEPT.names())


def unmatched_ids(first: pl.Series, second: pl.Series) -> pl.Series:
    """Ids that only one of two columns has."""
    only_first = first.filter(~first.is_in(second.implode()))
    only_second = second.filter(~second.is_in(first.implode()))
    return pl.concat([only_first, only_second])


def count_empty(labels: pl.DataFrame) -> int:
    """Number of LABELS rows without a final answer."""
    return labels.filter(pl.col("prediction") == "").height
