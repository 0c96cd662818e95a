"""Majority vote over the samples of a question (paper, Stage II)."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import polars as pl

from weak_to_strong.method.answers import Judge, string_judge
from weak_to_strong.tables.schemas import VOTES

#: Cleaned samples of M_plus and their normalised final answers.
SAMPLES = pl.Schema(
    {"id": pl.String, "sample": pl.Int32, "response": pl.String, "prediction": pl.String}
)


def majority_vote(
    samples: pl.DataFrame | pl.LazyFrame, *, judge: Judge = string_judge
) -> pl.DataFrame:
    """The most frequent answer of each question, and its share.

    An empty prediction is a vote for "no answer", as in the paper. Of equally frequent answers the
    one that comes first in sample order wins. Answers that the judge finds the same are one,
    written as the first of them in sample order: each answer counts for the earliest one that it is
    the same as.

    Args:
        samples: columns id, sample, prediction; rows in any order. Others are not read.
        judge: compares the answers to a question.

    Returns:
        VOTES, ids in the order of their first row; `samples` counts the votes.

    Raises:
        ValueError: no samples, or a (id, sample) that stands twice.
    """
    cast = pl.col("sample").cast(pl.Int32)
    rows = samples.lazy().select("id", cast, "prediction").collect(engine="streaming")
    if rows.is_empty():
        raise ValueError("no samples to vote over")
    questions = rows.select(pl.col("id").unique(maintain_order=True)).with_row_index("question")
    rows = rows.join(questions, on="id", how="left", maintain_order="left").drop("id")
    # One number in place of two columns: a tenth of the time.
    both = pl.col("question").cast(pl.Int64) * 2**32 + pl.col("sample")
    if rows.select(both.n_unique()).item() < rows.height:
        raise ValueError("a sample of a question stands twice in the samples")
    counts = (
        rows.lazy()
        .group_by("question", "prediction")
        .agg(votes=pl.len(), first=pl.col("sample").min())
        .collect(engine="streaming")
    )
    if judge is not string_judge:
        counts = _merge_votes(counts.join(questions, on="question"), judge)
    winners = (
        counts.sort("question", "votes", "first", descending=[False, True, False])
        .group_by("question")
        .agg(
            majority=pl.col("prediction").first(),
            share=pl.col("votes").first(),
            samples=pl.col("votes").sum(),
        )
    )
    return (
        questions.join(winners, on="question", how="left", maintain_order="left")
        .select(
            "id",
            "majority",
            confidence=pl.col("share") / pl.col("samples"),
            samples="samples",
        )
        .cast(dict(VOTES))
    )


def _merge_votes(counts: pl.DataFrame, judge: Judge) -> pl.DataFrame:
    """Votes with those for the same answer added up; all are judged at once."""
    votes: dict[tuple[int, str], dict[str, tuple[int, int]]] = {}
    columns = ("question", "id", "prediction", "votes", "first")
    for number, name, answer, count, first in (
        counts.sort("question", "first").select(columns).rows()
    ):
        votes.setdefault((number, name), {})[answer] = count, first
    questions = [
        (name, later, earlier)
        for (_, name), answers in votes.items()
        for earlier, later in combinations(filter(None, answers), 2)
    ]
    verdicts = zip(questions, judge(questions), strict=True)
    same = {question for question, verdict in verdicts if verdict == "right"}
    merged = []
    for (number, name), answers in votes.items():
        totals: Counter[str] = Counter()
        for answer, (count, _) in answers.items():
            written = next((each for each in totals if (name, answer, each) in same), answer)
            totals[written] += count
        merged += [(number, each, total, answers[each][1]) for each, total in totals.items()]
    schema = {name: counts.schema[name] for name in ("question", "prediction", "votes", "first")}
    return pl.DataFrame(merged, schema=schema, orient="row")
