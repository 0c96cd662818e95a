"""Labels: one side's greedy answers to the questions of a split."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeVar

import polars as pl

from weak_to_strong.method.answers import PAPER, PaperQuirks, predict_column
from weak_to_strong.method.prompts import clean_column

#: A table, or one that is read piece by piece.
Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)


def select_request(generations: Frame, request: str) -> Frame:
    """The GENERATIONS rows of one request.

    Raises:
        ValueError: the table holds none; names those it holds.
    """
    names = generations.lazy().select(pl.col("request").unique().sort())
    held = names.collect(engine="streaming")["request"].to_list()
    if request not in held:
        found = ", ".join(held) or "none"
        raise ValueError(f"request {request!r} has no generations (requests of the file: {found})")
    return generations.filter(pl.col("request") == request)


def read_answers(
    generations: Frame,
    answer_key: str,
    stops: Sequence[str] = (),
    quirks: PaperQuirks = PAPER,
    *,
    raw: bool = False,
    extraction: str = "paper",
) -> Frame:
    """GENERATIONS rows with `response` cleaned and `prediction`, its normalised answer, added.

    The answer is read from the cleaned text, by one of `answers.EXTRACTIONS`, and normalised with
    `quirks`, or with `raw` not at all. Row order is kept.
    """
    response = pl.col("response")
    clean = partial(clean_column, stops=stops)
    predict = partial(
        predict_column, answer_key=answer_key, quirks=quirks, raw=raw, extraction=extraction
    )
    return generations.with_columns(
        response.map_batches(clean, return_dtype=pl.String, is_elementwise=True)
    ).with_columns(
        prediction=response.map_batches(predict, return_dtype=pl.String, is_elementwise=True)
    )


def labels_from_generations(
    generations: pl.DataFrame,
    answer_key: str,
    stops: Sequence[str] = (),
    quirks: PaperQuirks = PAPER,
    *,
    raw: bool = False,
    extraction: str = "paper",
) -> pl.DataFrame:
    """LABELS of one greedy request, in the row order of its generations.

    Args:
        generations: GENERATIONS rows of a single request with one sample for each id.
        answer_key: text that introduces the final answer.
        stops: stop strings at which a response is cut.
        quirks: flaws of the paper's normalisation that are kept.
        raw: leave out this normalisation.
        extraction: one of `answers.EXTRACTIONS`.

    Raises:
        ValueError: rows of several requests, or several rows for an id.
    """
    if generations["request"].n_unique() > 1:
        raise ValueError("generations of several requests where one greedy request is due")
    repeated = generations.filter(pl.col("id").is_duplicated())
    if not repeated.is_empty():
        raise ValueError(
            f"request {repeated['request'][0]!r} has several responses to id "
            f"{repeated['id'][0]!r}; labels need one greedy response for each question"
        )
    answers = read_answers(generations, answer_key, stops, quirks, raw=raw, extraction=extraction)
    return answers.select("id", "response", "prediction")
