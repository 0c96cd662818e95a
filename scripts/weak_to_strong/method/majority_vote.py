"""Majority vote over the samples of a question (paper section 3.2, Stage II)."""

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
    """The most frequent answer of each question, and its share: the confidence (section 3.2).

    An empty prediction is a vote for "no answer", as in the paper. Of equally frequent answers the
    one that comes first in sample order wins. Answers that the judge calls the same are counted
    together, under the first of them in sample order.

    Args:
        samples: columns id, sample, prediction, with rows in any order; others are not read.
        judge: compares the answers to a question.

    Returns:
        VOTES, ids in the order of their first row; `samples` counts the votes.

    Raises:
        ValueError: there are no samples, or an (id, sample) occurs twice.
    """
    questions, counts = count_votes(samples, judge)
    winners = (
        counts.sort("question", "votes", "first", descending=[False, True, False])
        .group_by("question")
        .agg(
            majority=pl.col("prediction").first(),
            confidence=pl.col("votes").first() / pl.col("votes").sum(),
            samples=pl.col("votes").sum(),
        )
    )
    return (
        questions.join(winners, on="question", how="left", maintain_order="left")
        .select(VOTES.names())
        .cast(dict(VOTES))
    )


def count_votes(
    samples: pl.DataFrame | pl.LazyFrame, judge: Judge = string_judge
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """How many samples of each question have each answer.

    Args:
        samples: see `majority_vote`.
        judge: compares the answers to a question.

    Returns:
        Columns question (its number), id, in the order of questions' first rows; and columns
        question, prediction, votes, first (the first sample with the answer), in no order.

    Raises:
        ValueError: there are no samples, or an (id, sample) occurs twice.
    """
    sample = pl.col("sample").cast(pl.Int32)
    rows = samples.lazy().select("id", sample, "prediction").collect(engine="streaming")
    if rows.is_empty():
        raise ValueError("no samples to vote over")
    questions = rows.select(pl.col("id").unique(maintain_order=True)).with_row_index("question")
    rows = rows.join(questions, on="id", how="left", maintain_order="left").drop("id")
    # Comparing one number takes a tenth of the time of comparing two columns.
    number = pl.col("question").cast(pl.Int64) * 2**32 + pl.col("sample")
    if rows.select(number.n_unique()).item() < rows.height:
        raise ValueError("a sample of a question stands twice in the samples")
    counts = (
        rows.lazy()
        .group_by("question", "prediction")
        .agg(votes=pl.len(), first=pl.col("sample").min())
        .collect(engine="streaming")
    )
    if judge is not string_judge:
        counts = _merge_votes(counts.join(questions, on="question"), judge)
    return questions, counts


def _merge_votes(counts: pl.DataFrame, judge: Judge) -> pl.DataFrame:
    """Add up the votes for answers that the judge calls the same; it is called once.

    Args:
        counts: columns question (its number), id, prediction, votes, first (sample with it).
        judge: compares the answers to a question.

    Returns:
        Columns question, prediction, votes, first.
    """
    columns = ("question", "id", "prediction", "votes", "first")
    votes: dict[tuple[int, str], dict[str, tuple[int, int]]] = {}
    for number, name, answer, count, first in (
        counts.sort("question", "first").select(columns).rows()
    ):
        votes.setdefault((number, name), {})[answer] = count, first
    comparisons = [
        (name, later, earlier)
        for (_, name), answers in votes.items()
        for earlier, later in combinations(filter(None, answers), 2)
    ]
    verdicts = zip(comparisons, judge(comparisons), strict=True)
    same = {comparison for comparison, verdict in verdicts if verdict == "right"}
    merged = []
    for (number, name), answers in votes.items():
        totals: Counter[str] = Counter()
        for answer, (count, _) in answers.items():
            # The first equal answer in sample order gets the votes.
            equal = next((earlier for earlier in totals if (name, answer, earlier) in same), answer)
            totals[equal] += count
        merged += [(number, answer, total, answers[answer][1]) for answer, total in totals.items()]
    schema = {name: counts.schema[name] for name in ("question", "prediction", "votes", "first")}
    return pl.DataFrame(merged, schema=schema, orient="row")
