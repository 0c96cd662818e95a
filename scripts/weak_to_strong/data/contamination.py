"""Contamination: questions that occur twice in a split, or in two splits.

There are two measures. *exact*: the texts are equal except for case, spacing and Unicode
composition. *ngram*: exact, or the other split has at least MIN_SHARED of the question's distinct
8-grams of words. One common 8-gram is not enough: problems of one template share many.

In the authors' data for GSM8K, 279 questions of train_2 also occur in train_1.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from weak_to_strong.data.split_names import held_out_first, list_test_sets

#: Words of an n-gram.
NGRAM = 8
#: Least share of a question's n-grams that another split must have, in [0, 1].
MIN_SHARED = 0.8
#: Most ids that a row of the report lists.
SAMPLE = 10
#: Columns of contamination.csv, see `contamination_report`.
CONTAMINATION = pl.Schema(
    {
        "kind": pl.String,
        "split": pl.String,
        "other_split": pl.String,
        "count": pl.UInt32,
        "rows": pl.UInt32,
        "ids": pl.String,
    }
)

# Multiplier of a polynomial hash of 64 bits; the arithmetic wraps around. One collision does not
# make two questions a match: most of their n-grams would have to collide.
_MULTIPLIER = 0x9E3779B97F4A7C15


def normalised_question(column: str = "question") -> pl.Expr:
    """The text by which questions are compared. It keeps punctuation, which formulas need."""
    return (
        pl.col(column)
        .str.normalize("NFC")
        .str.to_lowercase()
        .str.replace_all(r"\s+", " ")
        .str.strip_chars()
    )


def _questions(splits: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """One row for each question: split (its rank in `held_out_first`), row, id, text."""
    return pl.concat(
        splits[name].select(
            pl.lit(rank, pl.UInt8).alias("split"),
            pl.int_range(pl.len(), dtype=pl.UInt32).alias("row"),
            "id",
            normalised_question().alias("text"),
        )
        for rank, name in enumerate(held_out_first(splits))
        if name in splits
    )


def _exact_matches(questions: pl.DataFrame) -> pl.DataFrame:
    others = questions.select("text", pl.col("split").alias("other")).unique()
    return (
        questions.join(others, on="text")
        .filter(pl.col("split") != pl.col("other"))
        .select("split", "row", "other")
    )


def _ngrams(questions: pl.DataFrame) -> pl.DataFrame:
    """Columns split, row, gram: the distinct hashed n-grams of each question.

    A question of fewer than NGRAM words has none.
    """
    words = (
        questions.with_row_index("question")
        .select(
            "question",
            "split",
            "row",
            pl.col("text").str.extract_all(r"\w+|[^\w\s]").alias("word"),
        )
        .explode("word")
        .with_columns(pl.col("word").hash(seed=0))
    )
    gram = pl.col("word")
    for step in range(1, NGRAM):
        gram = gram * pl.lit(_MULTIPLIER, pl.UInt64) + pl.col("word").shift(-step)
    inside = pl.col("question") == pl.col("question").shift(1 - NGRAM)
    return (
        words.select("split", "row", gram.alias("gram"), inside.alias("inside"))
        .filter("inside")
        .drop("inside")
        .unique()
    )


def _ngram_matches(questions: pl.DataFrame) -> pl.DataFrame:
    grams = _ngrams(questions)
    others = grams.select("gram", pl.col("split").alias("other")).unique()
    totals = grams.group_by("split", "row").len("total")
    return (
        grams.join(others, on="gram")
        .filter(pl.col("split") != pl.col("other"))
        .group_by("split", "row", "other")
        .len("shared")
        .join(totals, on=["split", "row"])
        .filter(pl.col("shared") >= MIN_SHARED * pl.col("total"))
        .select("split", "row", "other")
    )


def find_matches(splits: Mapping[str, pl.DataFrame], kind: str) -> pl.DataFrame:
    """Questions that also stand in another split.

    Args:
        splits: PROBLEMS tables by split name.
        kind: "exact" or "ngram" (which includes exact).

    Returns:
        Columns split, row (from 0), other, sorted: one row for each question and other split that
        has it. `split` and `other` are ranks in `split_names.held_out_first`.

    Raises:
        ValueError: another kind.
    """
    questions = _questions(splits)
    matches = _exact_matches(questions)
    if kind == "ngram":
        matches = pl.concat([matches, _ngram_matches(questions)]).unique()
    elif kind != "exact":
        raise ValueError(f"remove_overlap: {kind!r} is neither none, exact nor ngram")
    return matches.sort("split", "row", "other")


def contamination_report(splits: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Count the questions that occur twice.

    Args:
        splits: PROBLEMS tables by split name; splits without rows are left out.

    Returns:
        CONTAMINATION, also with rows whose `count` is 0. `kind` is "duplicate" (questions of
        `split` that occur earlier in it), "exact" or "ngram" (questions of `split` that
        `other_split` has).
        `rows` is the size of `split`; `ids` lists the first ids counted, joined by spaces.
    """
    questions = _questions(splits)
    order = held_out_first(splits)
    names = [name for name in order if name in splits and splits[name].height]
    repeated = questions.filter(~pl.struct("split", "text").is_first_distinct())
    counted = [repeated.select(pl.lit("duplicate").alias("kind"), "split", "row", other="split")]
    for kind in ("exact", "ngram"):
        matches = find_matches(splits, kind)
        counted.append(matches.select(pl.lit(kind).alias("kind"), "split", "row", "other"))
    matched = (
        pl.concat(counted)
        .join(questions, on=["split", "row"])
        .sort("kind", "split", "other", "row")
        .group_by("kind", "split", "other", maintain_order=True)
        .agg(pl.len().alias("count"), pl.col("id").head(SAMPLE).str.join(" ").alias("ids"))
    )
    counts = {row[:3]: row[3:] for row in matched.iter_rows()}
    rows = []
    for kind in ("duplicate", "exact", "ngram"):
        for split in names:
            for other in names:
                if (split == other) == (kind == "duplicate"):
                    key = (kind, order.index(split), order.index(other))
                    count, ids = counts.get(key, (0, ""))
                    rows.append((kind, split, other, count, splits[split].height, ids))
    return pl.DataFrame(rows, schema=CONTAMINATION, orient="row")


def remove_overlap(splits: Mapping[str, pl.DataFrame], kind: str) -> dict[str, pl.DataFrame]:
    """Drop each question that a split earlier in `split_names.held_out_first` also has.

    A test set never loses a row, not even to another test set. Ids and order of the remaining rows
    do not change. Questions that occur twice in one split stay.

    Args:
        splits: PROBLEMS tables by split name.
        kind: "none", "exact" or "ngram".

    Raises:
        ValueError: another kind, or a split loses all its rows.
    """
    if kind == "none":
        return dict(splits)
    matches = find_matches(splits, kind).filter(pl.col("other") < pl.col("split"))
    order, test_sets = held_out_first(splits), list_test_sets(splits)
    kept = {}
    for name, frame in splits.items():
        if name in test_sets:
            kept[name] = frame
            continue
        dropped = matches.filter(pl.col("split") == order.index(name))["row"].unique()
        keep = ~pl.int_range(pl.len(), dtype=pl.UInt32).is_in(dropped.implode())
        kept[name] = frame.filter(keep)
        if frame.height and not kept[name].height:
            raise ValueError(
                f"remove_overlap: {kind} leaves nothing of {name}; its questions all stand in "
                "other splits, name other files or set `remove_overlap: none`"
            )
    return kept
