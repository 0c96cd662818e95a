"""Few-shot demonstrations, drawn from the weak model's answers without a check (section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import polars as pl

from weak_to_strong.method.chat import final_part
from weak_to_strong.method.prompts import problem_prompts, sft_target
from weak_to_strong.tables.schemas import LABELS


def draw_demonstrations(
    weak_labels: pl.DataFrame,
    questions: pl.DataFrame,
    count: int,
    seed: int,
    ids: Sequence[str] | None = None,
    prompt: str = "question_answer",
    *,
    repeat_question: bool = False,
    answer_after: str | None = None,
) -> pl.DataFrame:
    """Draw demonstrations uniformly from the rows that have a response and a final answer.

    All rows are shuffled, and the first `count` usable ones are taken. Seed 42 gives the ids that
    the paper used for MATH (Gemma-2b, Mistral-7b) and for GSM8K (Gemma-2b).

    Args:
        weak_labels: LABELS of train_2.
        questions: QUESTIONS of train_2.
        count: number of demonstrations.
        seed: seed of the shuffle.
        ids: take these rows in this order instead; `count` and `seed` are then not used.
        prompt: style of the prompts, see `prompts.problem_prompt`.
        repeat_question: every demonstration asks the question of the first one, so that all answers
            but the first belong to other questions, as in the released OlympicArena prompt.
        answer_after: show only what is after this mark. Templates leave the reasoning out of
            earlier turns, too.

    Returns:
        DEMONSTRATIONS in prompt order; `id` is the row that the response is from.

    Raises:
        ValueError: unknown or repeated ids, fewer usable rows than `count`, or a weak label whose
            question is missing.
    """
    response = final_part(pl.col("response"), answer_after) if answer_after else "response"
    responses = dict(weak_labels.select("id", response).iter_rows())
    if ids is None:
        chosen = _draw_ids(weak_labels, count, seed)
    else:
        chosen = list(ids)
        if unknown := [name for name in chosen if name not in responses]:
            raise ValueError(f"demonstrations.ids: {unknown[0]!r} is not an id of train_2")
        if len(set(chosen)) < len(chosen):
            raise ValueError("demonstrations.ids: an id stands twice")
    prompts = problem_prompts(questions.filter(pl.col("id").is_in(chosen)), prompt)
    if missing := [name for name in chosen if name not in prompts]:
        raise ValueError(f"weak label {missing[0]!r} has no question in train_2")
    question_ids = [chosen[0]] * len(chosen) if repeat_question else chosen
    return pl.DataFrame(
        {
            "id": chosen,
            "prompt": [prompts[name] for name in question_ids],
            "response": [responses[name] for name in chosen],
        },
        schema_overrides={"id": pl.String, "prompt": pl.String, "response": pl.String},
    )


def gold_labels(problems: pl.DataFrame, answer_key: str) -> pl.DataFrame:
    """PROBLEMS of train_1 as LABELS whose responses are the gold solutions.

    Demonstrations from them break the method on purpose: the strong model must see no gold.

    Args:
        problems: PROBLEMS of train_1.
        answer_key: text before the final answer of a response.

    Returns:
        LABELS.
    """
    rows = problems.select("id", "solution", "answer").rows()
    return pl.DataFrame(
        [(name, sft_target(text, answer, answer_key), answer) for name, text, answer in rows],
        schema=LABELS,
        orient="row",
    )


def _draw_ids(weak_labels: pl.DataFrame, count: int, seed: int) -> list[str]:
    rows = weak_labels.select("id", "response", "prediction").rows()
    Random(seed).shuffle(rows)
    usable = [name for name, response, prediction in rows if response and prediction]
    if len(usable) < count:
        raise ValueError(
            f"demonstrations.count is {count}, but only {len(usable)} weak answers have a "
            "final answer; lower it, or train the weak model for longer"
        )
    return usable[:count]
