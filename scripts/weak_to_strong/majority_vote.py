"""Majority vote over the samples of a question (paper, Stage II)."""

from __future__ import annotations

from collections import Counter

import polars as pl

from weak_to_strong.tables import VOTES

#: Cleaned samples of M_plus and their normalised final answers.
SAMPLES = pl.Schema(
    {"id": pl.String, "sample": pl.Int32, "response": pl.String, "prediction": pl.String}
)


def majority_vote(samples: pl.DataFrame, *, count_empty: bool = True) -> pl.DataFrame:
    """The most frequent normalised answer of each question, and its share.

    Of equally frequent answers the one that comes first in sample order wins.

    Args:
        samples: columns id, sample, prediction; rows in any order.
        count_empty: an empty prediction is a vote for "no answer", as in the paper; off, it is
            no vote, and a question without any vote gets majority "" and confidence 0.

    Returns:
        VOTES, ids in the order of their first row; `samples` counts the votes.

    Raises:
        ValueError: no samples, or a (id, sample) that stands twice.
    """
    if samples.is_empty():
        raise ValueError("no samples to vote over")
    if samples.select("id", "sample").is_duplicated().any():
        raise ValueError("a sample of a question stands twice in the samples")
    votes: dict[str, Counter[str]] = {name: Counter() for name in samples["id"]}
    ordered = samples.sort("sample", maintain_order=True)
    for name, prediction in ordered.select("id", "prediction").iter_rows():
        if prediction or count_empty:
            votes[name][prediction] += 1
    rows = []
    for name, counts in votes.items():
        # most_common keeps the order of first insertion among equals.
        (majority, share), total = (counts.most_common(1) or [("", 0)])[0], counts.total()
        rows.append((name, majority, share / total if total else 0.0, total))
    return pl.DataFrame(rows, schema=VOTES, orient="row")
