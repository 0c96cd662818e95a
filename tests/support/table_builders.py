"""Small tables with the project's schemas, from the few values that a test is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from weak_to_strong.method.majority_vote import SAMPLES
from weak_to_strong.tables.schemas import GENERATIONS, LABELS, PROBLEMS, QUESTIONS, VOTES


def table(schema: pl.Schema, rows: Iterable[tuple]) -> pl.DataFrame:
    """A table of rows whose values stand in the order of the schema's columns."""
    return pl.DataFrame(list(rows), schema=schema, orient="row")


def problems(**columns: Any) -> pl.DataFrame:
    """PROBLEMS with these columns: each a list, or one value for all rows.

    The ids are the row numbers by default; the other columns are null.
    """
    height = max(len(values) for values in columns.values() if isinstance(values, list))
    filled = {"id": list(map(str, range(height))), **columns}
    return pl.DataFrame(
        {
            name: values if isinstance(values, list) else [values] * height
            for name, values in {**dict.fromkeys(PROBLEMS), **filled}.items()
        },
        schema=PROBLEMS,
    )


def questions(ids: Iterable[Any], **columns: Any) -> pl.DataFrame:
    """QUESTIONS with these ids and columns; the question of id `a` is `a?` by default."""
    names = list(map(str, ids))
    asked = {"question": [f"{name}?" for name in names], **columns}
    return problems(id=names, **asked).select(QUESTIONS.names())


def labels(
    answers: Mapping[str, str] | Iterable[str], response: str = "{id}: {answer}"
) -> pl.DataFrame:
    """LABELS.

    Args:
        answers: final answer by id; or final answers, whose ids are the row numbers.
        response: template of the response.
    """
    answers = answers if isinstance(answers, Mapping) else dict(enumerate(answers))
    return table(
        LABELS,
        [
            (str(name), response.format(id=name, answer=answer), answer)
            for name, answer in answers.items()
        ],
    )


def samples(
    answers: Mapping[str, Sequence[str]], response: str = "{sample}: {answer}"
) -> pl.DataFrame:
    """SAMPLES.

    Args:
        answers: final answers of the samples by id.
        response: template of the response.
    """
    return table(
        SAMPLES,
        [
            (name, number, response.format(id=name, sample=number, answer=answer), answer)
            for name, drawn in answers.items()
            for number, answer in enumerate(drawn)
        ],
    )


def generations(rows: Iterable[tuple[str, str, int, str]]) -> pl.DataFrame:
    """GENERATIONS of rows (request, id, sample, response), each ended by a stop string."""
    return table(GENERATIONS, [(*row, "stop", 1, 1) for row in rows])


def votes(rows: Iterable[tuple[str, str, float]]) -> pl.DataFrame:
    """VOTES of rows (id, majority, confidence), each of ten samples."""
    return table(VOTES, [(*row, 10) for row in rows])
