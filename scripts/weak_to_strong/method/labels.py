"""Labels: the greedy answers of one side (weak or ICL) to the questions of train_2.

Paper section 3.1: D_weak and D_icl.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeVar

import polars as pl

from weak_to_strong.method.answers import PAPER, PaperQuirks, predict_column
from weak_to_strong.method.chat import complete_reasoning, final_part
from weak_to_strong.method.prompts import clean_column

#: A table in memory, or a lazy one that is read piece by piece.
Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)


def select_request(generations: Frame, request: str) -> Frame:
    """The GENERATIONS rows of one request.

    Raises:
        ValueError: there are none; names the requests that there are.
    """
    names = generations.lazy().select(pl.col("request").unique().sort())
    requests = names.collect(engine="streaming")["request"].to_list()
    if request not in requests:
        known = ", ".join(requests) or "none"
        raise ValueError(f"request {request!r} has no generations (requests of the file: {known})")
    return generations.filter(pl.col("request") == request)


def read_answers(
    generations: Frame,
    answer_key: str,
    stops: Sequence[str] = (),
    quirks: PaperQuirks = PAPER,
    *,
    raw: bool = False,
    extraction: str = "paper",
    answer_after: str | None = None,
) -> Frame:
    """GENERATIONS rows with the response cleaned, and its final answer as `prediction`.

    The answer is extracted from the cleaned text; with `answer_after` from what is after that mark.
    A response with reasoning then begins with the mark that opens it. Row order is kept.

    Args:
        generations: GENERATIONS.
        answer_key: text that introduces the final answer.
        stops: stop strings; a response is cut at the first one.
        quirks: flaws of the paper's normalisation to keep.
        raw: leave the answer as it stands in the text, without normalisation.
        extraction: how the answer is found, one of `answers.EXTRACTIONS`.
        answer_after: mark that ends the reasoning, see `chat.complete_reasoning`.
    """
    response = pl.col("response")
    clean = partial(clean_column, stops=stops)
    predict = partial(
        predict_column, answer_key=answer_key, quirks=quirks, raw=raw, extraction=extraction
    )
    cleaned = generations.with_columns(
        response.map_batches(clean, return_dtype=pl.String, is_elementwise=True)
    )
    final = response
    if answer_after:
        cleaned = cleaned.with_columns(
            response=complete_reasoning(response, pl.col("finish_reason"), answer_after)
        )
        final = final_part(response, answer_after)
    return cleaned.with_columns(
        prediction=final.map_batches(predict, return_dtype=pl.String, is_elementwise=True)
    )


def labels_from_generations(
    generations: pl.DataFrame,
    answer_key: str,
    stops: Sequence[str] = (),
    quirks: PaperQuirks = PAPER,
    *,
    raw: bool = False,
    extraction: str = "paper",
    answer_after: str | None = None,
) -> pl.DataFrame:
    """LABELS of one greedy request, in the row order of its generations.

    Args:
        generations: GENERATIONS rows of a single request with one sample for each id.
        answer_key: text that introduces the final answer.
        stops, quirks, raw, extraction, answer_after: as for `read_answers`.

    Raises:
        ValueError: rows of several requests, or several rows for one id.
    """
    if generations["request"].n_unique() > 1:
        raise ValueError(
            "these generations are of several requests; labels need one greedy request"
        )
    repeated = generations.filter(pl.col("id").is_duplicated())
    if not repeated.is_empty():
        raise ValueError(
            f"request {repeated['request'][0]!r} has several responses to id "
            f"{repeated['id'][0]!r}; labels need one greedy response for each question"
        )
    answers = read_answers(
        generations,
        answer_key,
        stops,
        quirks,
        raw=raw,
        extraction=extraction,
        answer_after=answer_after,
    )
    return answers.select("id", "response", "prediction")
