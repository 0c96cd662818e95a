"""The page that compares experiments: their models in a table, a figure, and pairs of models.

Like the report it is one HTML page that makes no outside request. `compare.html.j2` lays it out.
Texts of models reach the page escaped or packed, and its script shows them as text only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from weak_to_strong.report.answer_texts import MAX_PACKED_CHARACTERS, AnswerSet, pack_answers
from weak_to_strong.report.compared_models import chain_text, is_check, model_label
from weak_to_strong.report.display_text import (
    MAX_SHOWN_CHARACTERS,
    count_text,
    fixed_decimals,
    p_text,
    percent,
    share_cell,
)
from weak_to_strong.report.names import MetricValue, NodeName, method_label, node_label
from weak_to_strong.report.page import render_page
from weak_to_strong.report.tokens_figure import mark_of, tokens_figure
from weak_to_strong.tables.schemas import CONTROL


class _Column(NamedTuple):
    """A column of the table.

    Attributes:
        heading: its heading.
        make: makes the cell from a row: a text, a `share_cell`, or None.
        key: makes what the column is sorted by, or None for an empty cell.
        is_text: whether it is aligned to the left and sorted as text.
    """

    heading: str
    make: Callable[[Mapping[str, Any]], Any]
    key: Callable[[Mapping[str, Any]], Any]
    is_text: bool = False


def _text_column(heading: str, make: Callable[[Mapping[str, Any]], str | None]) -> _Column:
    return _Column(heading, make, make, is_text=True)


def _share_column(heading: str, name: str, *, signed: bool = False) -> _Column:
    def make(row: Mapping[str, Any]) -> dict[str, str | None] | None:
        if row[name] is None:
            return None
        ends = (row.get(f"{name}_{end}") for end in ("low", "high"))
        return share_cell(MetricValue(row[name], *ends, row["questions"]), signed=signed)

    return _Column(heading, make, lambda row: row[name])


def _p_column(heading: str, name: str) -> _Column:
    def make(row: Mapping[str, Any]) -> dict[str, str] | None:
        p, single = row[f"{name}_p_holm"], row[f"{name}_p"]
        return None if p is None else {"text": p_text(p), "range": f"alone {p_text(single)}"}

    return _Column(heading, make, lambda row: row[f"{name}_p_holm"])


def _number_column(heading: str, name: str, digits: int = 0) -> _Column:
    def make(row: Mapping[str, Any]) -> str | None:
        number = row[name]
        if number is None or not digits:
            return count_text(number)
        return fixed_decimals(number, digits)

    return _Column(heading, make, lambda row: row[name])


def _before(row: Mapping[str, Any]) -> str | None:
    return row["before"] and node_label(NodeName.read(row["before"]))


_COLUMNS = (
    _text_column("Experiment", lambda row: row["experiment"]),
    _text_column("Method", lambda row: method_label(row["method"])),
    _text_column("Variant", lambda row: row["variant"]),
    _Column(
        "Iteration", lambda row: count_text(row["iteration"] or None), lambda row: row["iteration"]
    ),
    _text_column("Task", lambda row: row["task"]),
    _text_column("Chain", chain_text),
    _text_column("Seeds", lambda row: row["seeds"]),
    _share_column("Accuracy, paper scorer (%)", "accuracy"),
    _share_column("Accuracy, math scorer (%)", "math_accuracy"),
    _share_column("Difference to full weak fine-tuning", "full_weak_difference", signed=True),
    _p_column("Exact p, corrected", "full_weak"),
    _share_column("Difference to Hybrid-FT", "hybrid_ft_difference", signed=True),
    _p_column("Exact p, corrected", "hybrid_ft"),
    _text_column("The model before", _before),
    _share_column("Difference to it", "before_difference", signed=True),
    _p_column("Exact p, corrected", "before"),
    _share_column("Gap recovered (%)", "pgr"),
    _share_column("Label precision (%)", "label_precision"),
    _share_column("Label coverage (%)", "label_coverage"),
    _number_column("Generated tokens", "generated_tokens"),
    _number_column("Trained tokens", "trained_tokens"),
    _number_column("CPU hours", "cpu_hours", 3),
    _number_column("GPU hours", "gpu_hours", 3),
)
#: What the table can be filtered by: column of COMPARED_MODELS or "chain", and its name.
_FILTERS = {
    "experiment": "Experiment",
    "task": "Task",
    "chain": "Chain",
    "method": "Method",
    "variant": "Variant",
}


def build_comparison(
    models: pl.DataFrame, answers: Mapping[str, AnswerSet], limit: int = MAX_PACKED_CHARACTERS
) -> str:
    """The page as HTML.

    Args:
        models: compared_models.COMPARED_MODELS.
        answers: see `answer_texts.answer_sets`.
        limit: most characters of packed texts on the page.
    """
    rows = list(models.iter_rows(named=True))
    experiments = list(dict.fromkeys(row["experiment"] for row in rows))
    marks = {name: mark_of(number) for number, name in enumerate(experiments)}
    sets = _name_sets(rows)
    packed = {name: pack_answers(part, limit // len(answers)) for name, part in answers.items()}
    return render_page(
        "compare.html.j2",
        {
            "experiments": [{"name": name, "mark": marks[name]} for name in experiments],
            "models": len(rows),
            "columns": [{"heading": column.heading, "text": column.is_text} for column in _COLUMNS],
            "rows": [_table_row(number, row) for number, row in enumerate(rows)],
            "filters": [
                {"key": key, "name": name, "options": _options(rows, key)}
                for key, name in _FILTERS.items()
            ],
            "tests": sum(row[f"{name}_p"] is not None for row in rows for name in _TESTED),
            "figures": [
                {"name": name, **_figure(rows, marks, questions)}
                for questions, name in sets.items()
            ],
            "not_compared": list(sets.values()) if len(sets) > 1 else [],
            "sets": [
                {
                    "name": sets[name],
                    "limits": _describe_limits(content, limit),
                    "json": json.dumps(content, separators=(",", ":")),
                }
                for name, content in packed.items()
            ],
        },
    )


#: Beginnings of the columns with tests.
_TESTED = ("full_weak", "before")


def _table_row(number: int, row: Mapping[str, Any]) -> dict[str, Any]:
    keys = [column.key(row) for column in _COLUMNS]
    cells = [
        {
            "text": cell["text"] if isinstance(cell, Mapping) else cell,
            "range": cell["range"] if isinstance(cell, Mapping) else None,
            "key": "" if key is None else str(key),
        }
        for column, key in zip(_COLUMNS, keys, strict=True)
        for cell in (column.make(row),)
    ]
    filters = {key: _filter_value(row, key) for key in _FILTERS}
    return {
        "number": number,
        "cells": cells,
        "filters": filters,
        "tag": None if not is_check(row) else "control" if row["stage"] == CONTROL else "broken",
    }


def _filter_value(row: Mapping[str, Any], key: str) -> str:
    return chain_text(row) if key == "chain" else row[key] or "(none)"


def _options(rows: Sequence[Mapping[str, Any]], key: str) -> list[tuple[str, str]]:
    """Values of a filter and their names, in the order of the rows."""
    values = dict.fromkeys(_filter_value(row, key) for row in rows)
    return [(value, method_label(value) if key == "method" else value) for value in values]


def _name_sets(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """A name for each set of questions: whose it is, and how many questions it has."""
    users: dict[str, dict[str, None]] = {}
    sizes = {}
    for row in rows:
        users.setdefault(row["test_set"], {})[f"{row['experiment']}: {row['task']}"] = None
        sizes[row["test_set"]] = row["questions"]
    return {
        name: f"{sizes[name]:,} questions of {', '.join(of_set)}" for name, of_set in users.items()
    }


def _figure(
    rows: Sequence[Mapping[str, Any]], marks: Mapping[str, dict[str, Any]], questions: str
) -> dict[str, Any]:
    """The figure of the models that answered a set of questions."""
    points = []
    for number, row in enumerate(rows):
        spent = (row["generated_tokens"], row["trained_tokens"])
        if row["test_set"] != questions or None in (*spent, row["accuracy"]):
            continue
        tokens = sum(spent)
        text = (
            f"{row['experiment']}, {model_label(row)}: {percent(row['accuracy'])}%, "
            f"{count_text(tokens)} tokens"
        )
        points.append(
            {
                "number": number,
                "mark": marks[row["experiment"]],
                "tokens": tokens,
                "accuracy": row["accuracy"],
                "low": row["accuracy_low"],
                "high": row["accuracy_high"],
                "text": text,
            }
        )
    return tokens_figure(points)


def _describe_limits(content: Mapping[str, Any], limit: int) -> str:
    """What of an answer set is on the page, and what is left out."""
    differing, packed, total = content["differing"], content["packed"], len(content["ids"])
    left_out = differing - packed
    text = (
        f"The page has the verdicts on all {total:,} questions, and the texts of {packed:,} of the "
        f"{differing:,} questions on which models differ; texts above {MAX_SHOWN_CHARACTERS:,} "
        "characters are cut."
    )
    if left_out:
        text += (
            f" The texts of the other {left_out:,} are left out, drawn by a hash of the question's "
            f"id, because packed texts are limited to {limit:,} characters on the page."
        )
    return text
