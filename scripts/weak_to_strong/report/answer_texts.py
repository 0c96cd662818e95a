"""Answers of many models to the same questions, stored compactly for the page of a comparison.

All verdicts are on the page, one letter each. Texts are there for questions on which models differ:
where all models are right, or all are not, no two of them can be told apart. A question and its
distinct answers are one packed text, which the browser unpacks when it shows the question.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from weak_to_strong.report.compared_models import ComparedExperiment, model_label, name_questions
from weak_to_strong.report.display_text import shorten, show_controls
from weak_to_strong.report.names import NodeName, natural_key, node_key
from weak_to_strong.tables.schemas import SCORERS

#: Most characters of packed texts on a page. A page of this size opens in a second or two.
MAX_PACKED_CHARACTERS = 8_000_000
#: Most characters of a prediction.
_MAX_PREDICTION = 200


class AnswerSet(NamedTuple):
    """The answers of models to the same questions.

    Attributes:
        problems: PROBLEMS.
        labels: experiment and name of each model, with its seed.
        answers: of each model: columns id, response, prediction, and a verdict for each of SCORERS.
    """

    problems: pl.DataFrame
    labels: list[tuple[str, str]]
    answers: list[pl.DataFrame]


def answer_sets(experiments: Iterable[ComparedExperiment]) -> dict[str, AnswerSet]:
    """The answers of all models and seeds, by the questions that they answer.

    Returns:
        `compared_models.name_questions` -> the answers, both in the order of the experiments.
    """
    sets: dict[str, AnswerSet] = {}
    for experiment in experiments:
        answers = experiment.answers.partition_by("request", as_dict=True)
        names = {path: name_questions(table) for path, table in experiment.problems.items()}
        for row in sorted(experiment.models.iter_rows(named=True), key=_order):
            problems = experiment.problems[row["problems"]]
            of_set = sets.setdefault(names[row["problems"]], AnswerSet(problems, [], []))
            label = f"{model_label(row)}, seed {row['seed']}"
            of_set.labels.append((experiment.name, label))
            of_set.answers.append(answers[(row["request"],)])
    return sets


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    node = NodeName(row["method"], row["iteration"])
    return row["task"], node_key(node), row["weak"], row["strong"], row["seed"]


def pack_answers(answers: AnswerSet, limit: int = MAX_PACKED_CHARACTERS) -> dict[str, Any]:
    """What the page has of an answer set, without characters that could hide or turn text.

    Args:
        answers: the answers.
        limit: most characters of packed texts. The questions with texts are drawn by a hash of
            their ids, and not by result.

    Returns:
        `ids`; `models`, the labels; for each of SCORERS a text for each model with one letter for
        each question, the first one of its verdict; `texts`, for each question its packed text, or
        None; `differing`, the number of questions on which models differ; `packed`, the number of
        those with texts.
    """
    ids = sorted(answers.problems["id"], key=natural_key)
    in_order = pl.DataFrame({"id": ids})
    tables = [
        in_order.join(table, on="id", how="left", maintain_order="left")
        for table in answers.answers
    ]
    verdicts = {
        scorer: ["".join(table[scorer].str.head(1)) for table in tables] for scorer in SCORERS
    }
    texts = [table.select("response", "prediction").rows() for table in tables]
    differing = [
        number
        for number in range(len(ids))
        if any(len({letters[number] == "r" for letters in verdicts[name]}) > 1 for name in SCORERS)
    ]
    problems = {row["id"]: row for row in answers.problems.iter_rows(named=True)}
    packed: dict[int, str] = {}
    for number in sorted(differing, key=lambda number: _draw(ids[number])):
        answered = [of_model[number] for of_model in texts]
        text = _pack(_describe(problems[ids[number]], answered))
        limit -= len(text)
        if limit < 0:
            break
        packed[number] = text
    return {
        "ids": [show_controls(name) for name in ids],
        "models": [list(map(show_controls, label)) for label in answers.labels],
        **verdicts,
        "texts": [packed.get(number) for number in range(len(ids))],
        "differing": len(differing),
        "packed": len(packed),
    }


def _draw(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _describe(problem: dict[str, Any], answers: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """A question with its distinct answers, and the number of each model's answer among them."""
    distinct: dict[tuple[str, str], int] = {}
    of_models = [distinct.setdefault(answer, len(distinct)) for answer in answers]
    texts = (problem["context"], problem["question"])
    return {
        "question": show_controls(shorten("\n\n".join(filter(None, texts)))),
        "gold": show_controls(shorten(problem["answer"] or "", _MAX_PREDICTION)),
        "answers": [
            [
                show_controls(shorten(response or "")),
                show_controls(shorten(prediction or "", _MAX_PREDICTION)),
            ]
            for response, prediction in distinct
        ],
        "of": of_models,
    }


def _pack(value: Any) -> str:
    """JSON, compressed, as letters that HTML has no other meaning for."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # Lone surrogates have been replaced by `show_controls`. A time would change the page.
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
