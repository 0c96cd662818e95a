"""The section "Sample answers": some questions with the greedy answer of every model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import polars as pl

from weak_to_strong.report.display_text import shorten
from weak_to_strong.report.names import (
    NodeName,
    evaluated_set,
    list_chains,
    natural_key,
    node_key,
    node_label,
)
from weak_to_strong.report.sections import VERDICT_ORDER

#: Most questions on the page.
MAX_QUESTIONS = 60
#: Class and mark of a verdict; other verdicts have ("soft", "?").
_MARKS = {"right": ("good", "✓"), "wrong": ("bad", "✗")}


def pick_questions(problems: Mapping[str, pl.DataFrame], limit: int) -> list[tuple[str, str]]:
    """(key, id) of at most `limit` questions, as many of each task or test set.

    They are drawn by a hash of key and id, so that neither results nor row order decide.

    Args:
        problems: PROBLEMS by `names.evaluated_set`.
        limit: most questions.
    """
    share = max(1, limit // max(1, len(problems)))
    chosen = []
    for task, frame in problems.items():

        def draw(question: str, task: str = task) -> bytes:
            return hashlib.sha256(f"{task}\0{question}".encode()).digest()

        ids = sorted(frame["id"].to_list(), key=draw)[:share]
        chosen += [(task, question) for question in sorted(ids, key=natural_key)]
    return chosen[:limit]


def sample_answers(
    metrics: pl.DataFrame,
    problems: Mapping[str, pl.DataFrame],
    nodes: Mapping[str, Mapping[str, Any]],
    scores: pl.DataFrame,
    generations: pl.DataFrame,
) -> dict[str, Any]:
    """What the template shows: greedy answers of the first seed to some questions.

    Args:
        metrics: METRICS; names the chains.
        problems: PROBLEMS of the evaluated questions by `names.evaluated_set`.
        nodes: facts of each request, as in `metrics.metrics_table`.
        scores: SCORES of all tasks.
        generations: GENERATIONS of the same requests.

    Returns:
        `note`, `tasks`, `methods` (pairs of key and label), `verdicts`, and `questions` with their
        `answers`.
    """
    chosen = pick_questions(problems, MAX_QUESTIONS)
    requests = _greedy_of_first_seed(nodes)
    answers = _read_answers(requests, {question for _, question in chosen}, scores, generations)
    tasks_of_chains = [chain.task for chain in list_chains(metrics)]
    several_chains = {task for task in tasks_of_chains if tasks_of_chains.count(task) > 1}
    methods: dict[str, str] = {}
    questions = []
    for task, question in chosen:
        answers_of_models = []
        for request, facts in requests.items():
            if evaluated_set(facts) == task and (request, question) in answers:
                node = _node_of(facts)
                key = f"{node.method}-{node.iteration}"
                methods[key] = label = node_label(node)
                if facts["task"] in several_chains:
                    label = f"{label} ({facts['weak']} → {facts['strong']})"
                answer = answers[request, question]
                answers_of_models.append({"key": key, "label": label, **answer})
        problem = problems[task].row(by_predicate=pl.col("id") == question, named=True)
        questions.append(
            {
                "task": task,
                "id": question,
                "level": problem["level"],
                "text": shorten(problem["question"]),
                "gold": problem["answer"],
                "answers": answers_of_models,
            }
        )
    return {
        "note": _note(len(questions), sorted({facts["seed"] for facts in requests.values()})),
        "tasks": list(dict.fromkeys(task for task, _ in chosen)),
        "methods": list(methods.items()),
        "verdicts": VERDICT_ORDER,
        "questions": questions,
    }


def _greedy_of_first_seed(nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Greedy requests of the lowest seed of each task, in the order of presentation."""
    greedy = {request: facts for request, facts in nodes.items() if facts["decoding"] == "greedy"}
    first_seeds: dict[str, int] = {}
    for facts in greedy.values():
        seed = first_seeds.setdefault(facts["task"], facts["seed"])
        first_seeds[facts["task"]] = min(seed, facts["seed"])
    first = [
        (request, facts)
        for request, facts in greedy.items()
        if facts["seed"] == first_seeds[facts["task"]]
    ]
    return dict(sorted(first, key=lambda entry: _order(entry[1])))


def _node_of(facts: Mapping[str, Any]) -> NodeName:
    return NodeName(facts["method"], facts["iteration"] or 0)


def _order(facts: Mapping[str, Any]) -> tuple[Any, ...]:
    """Sort key: the order of presentation, then weak and strong model."""
    return *node_key(_node_of(facts)), str(facts["weak"]), str(facts["strong"])


def _read_answers(
    requests: Mapping[str, Any],
    questions: set[str],
    scores: pl.DataFrame,
    generations: pl.DataFrame,
) -> dict[tuple[str, str], dict[str, str]]:
    """(request, id) -> verdicts, prediction and response as the template shows them."""
    keep = (
        pl.col("request").is_in(list(requests))
        & pl.col("id").is_in(list(questions))
        & (pl.col("sample") == 0)
    )
    rows = generations.filter(keep).select("request", "id", "response").iter_rows()
    responses = {(request, question): response for request, question, response in rows}
    answers = {}
    for row in scores.filter(keep).iter_rows(named=True):
        key = row["request"], row["id"]
        tone, mark = _MARKS.get(row["paper"], ("soft", "?"))
        answers[key] = {
            "paper": row["paper"],
            "math": row["math"],
            "tone": tone,
            "mark": mark,
            "prediction": shorten(row["prediction"] or "", 200),
            "response": shorten(responses.get(key) or "(empty)"),
        }
    return answers


def _note(questions: int, seeds: list[int]) -> str:
    seed = f" of seed {seeds[0]}" if len(seeds) == 1 else ""
    return (
        f"{questions} questions, drawn by a hash of their ids and not by result, with the raw "
        f"greedy answers{seed}. The solutions and answers of train_2 are not part of this page."
    )
