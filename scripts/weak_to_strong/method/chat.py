"""Chats: the messages that a chat template gets, and the answer that stands after the reasoning.

A reasoning model writes `<think>`, its reasoning, `</think>`, then its answer. `</think>` is the
mark after which the answer is read (`answer_after`); the same text without the slash opens the
reasoning. Some templates put the opening mark into the prompt, so that a response lacks it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from weak_to_strong.jobs.logs import logger
from weak_to_strong.method.answers import WHITESPACE

#: The mark after which most reasoning models answer.
DEFAULT_ANSWER_AFTER = "</think>"

#: One turn of a chat: `role` is system, user or assistant.
Turn = dict[str, str]


def chat_messages(
    prompt: str, system: str | None = None, demonstrations: Sequence[Mapping[str, str]] = ()
) -> list[Turn]:
    """The messages of a question: the system text, a turn pair for each example, the question.

    Args:
        prompt: text of the question.
        system: text of the system turn; None for no such turn.
        demonstrations: mappings with `prompt` and `response`, in prompt order.
    """
    messages = [{"role": "system", "content": system}] if system else []
    for shot in demonstrations:
        messages += [
            {"role": "user", "content": shot["prompt"]},
            {"role": "assistant", "content": shot["response"]},
        ]
    return [*messages, {"role": "user", "content": prompt}]


def opening_mark(answer_after: str) -> str:
    """The mark that opens the reasoning: `<think>` for `</think>`, `[THINK]` for `[/THINK]`."""
    return answer_after.replace("/", "", 1)


def complete_reasoning(response: pl.Expr, finish_reason: pl.Expr, answer_after: str) -> pl.Expr:
    """Responses with the opening mark before their reasoning, also where the prompt had it.

    A response that was cut at its token budget before `answer_after` is taken for unfinished
    reasoning. So an opening mark without `answer_after` always means that there is no answer.

    Args:
        response: cleaned responses.
        finish_reason: why each ended, as in GENERATIONS.
        answer_after: the mark after which the answer is read.
    """
    opening = opening_mark(answer_after)
    has_reasoning = response.str.contains(answer_after, literal=True) | (finish_reason == "length")
    lacks_opening = ~response.str.contains(opening, literal=True)
    return (
        pl.when(has_reasoning & lacks_opening)
        .then(pl.lit(f"{opening}\n") + response)
        .otherwise(response)
    )


def is_unfinished(text: pl.Expr, answer_after: str) -> pl.Expr:
    """Whether a text has reasoning that did not come to its end."""
    return text.str.contains(opening_mark(answer_after), literal=True) & ~text.str.contains(
        answer_after, literal=True
    )


def final_part(text: pl.Expr, answer_after: str) -> pl.Expr:
    """The text after the last `answer_after`: all of a text without reasoning, "" of an unfinished.

    Args:
        text: texts of `complete_reasoning`.
        answer_after: the mark after which the answer is read.
    """
    return (
        pl.when(is_unfinished(text, answer_after))
        .then(pl.lit(""))
        .otherwise(text.str.split(answer_after).list.last().str.strip_chars(WHITESPACE))
    )


def settle_reasoning(
    rows: pl.DataFrame, columns: Sequence[str], answer_after: str, reasoning: str
) -> pl.DataFrame:
    """Training rows whose reasoning is kept or dropped, without the rows that are unfinished.

    Args:
        rows: SFT_ROWS or PAIRS.
        columns: names of the columns of answers, each of which starts with one space.
        answer_after: the mark after which the answer is read.
        reasoning: "keep" leaves the answers as they are; "drop" takes what is after the mark.

    Raises:
        ValueError: all rows are unfinished.
    """
    unfinished = pl.any_horizontal(is_unfinished(pl.col(name), answer_after) for name in columns)
    finished = rows.filter(~unfinished)
    if finished.is_empty() and not rows.is_empty():
        raise ValueError(
            f"all {len(rows)} answers end before `{answer_after}`; raise the task's `max_tokens`"
        )
    if len(finished) < len(rows):
        logger.warning(
            "%d of %d rows are left out: an answer ends before %s",
            *(len(rows) - len(finished), len(rows), answer_after),
        )
    if reasoning == "keep":
        return finished
    return finished.with_columns(
        (pl.lit(" ") + final_part(pl.col(name), answer_after)).alias(name) for name in columns
    )
