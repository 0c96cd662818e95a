"""Prompts, training targets and the cleaning of generated text.

`chat` makes the messages of a chat from them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from weak_to_strong.method.answer_keys import BOXED
from weak_to_strong.method.answers import WHITESPACE
from weak_to_strong.method.olympicarena_prompts import olympicarena_prompt

#: Ways to ask: the paper's plain one, OlympicArena's by answer type, and the turns of a chat.
PROMPTS = ("question_answer", "olympicarena", "chat")

_ZERO_SHOT = "Question: {}\nAnswer:"
_CALCULATOR_MARK = re.compile(r"<<[^<>\n]*>>")


def zero_shot_prompt(question: str) -> str:
    """The prompt `Question: {question}` and, on the next line, `Answer:`."""
    return _ZERO_SHOT.format(question)


def problem_prompt(problem: Mapping[str, Any], style: str = "question_answer") -> str:
    """The zero-shot prompt of a row of PROBLEMS or QUESTIONS; of a chat, the user's turn.

    Args:
        problem: a mapping with `question`; for `olympicarena` see `olympicarena_prompt`.
        style: one of `PROMPTS`.

    Raises:
        ValueError: an unknown style, or a problem that has no prompt in it.
    """
    if style == "olympicarena":
        return olympicarena_prompt(problem)
    if style == "chat":
        return problem["question"]
    if style != "question_answer":
        raise ValueError(f"prompt {style!r} is not one of {', '.join(PROMPTS)}")
    return zero_shot_prompt(problem["question"])


def problem_prompts(problems: pl.DataFrame, style: str = "question_answer") -> dict[str, str]:
    """Id -> `problem_prompt` of each row, in their order."""
    return dict(zip(problems["id"], prompt_column(problems, style), strict=True))


def prompt_column(problems: pl.DataFrame, style: str = "question_answer") -> pl.Series:
    """`problem_prompt` of each row, in their order, as the column `prompt`."""
    if style == "question_answer":
        return problems.select(prompt=pl.format(_ZERO_SHOT, "question")).to_series()
    prompts = [problem_prompt(row, style) for row in problems.iter_rows(named=True)]
    return pl.Series("prompt", prompts, pl.String)


def few_shot_prompt(prompt: str, demonstrations: Sequence[Mapping[str, str]]) -> str:
    """A zero-shot prompt after solved examples, blank lines between them.

    Args:
        prompt: the zero-shot prompt of the question to answer.
        demonstrations: mappings with `prompt` (zero-shot) and `response`, in prompt order.
    """
    shots = [f"{shot['prompt']} {shot['response']}" for shot in demonstrations]
    return "\n\n".join([*shots, prompt])


def answer_line(solution: str) -> str | None:
    """What follows the last `####` on its line, stripped; null where nothing does."""
    _, key, rest = solution.rpartition("####")
    return (rest.strip(" \t\u00a0").split("\n", 1)[0].strip() or None) if key else None


def sft_target(solution: str, answer: str, answer_key: str) -> str:
    """The text that supervised fine-tuning on a gold solution teaches, without a leading space.

    With key `####` the solution already ends in its answer line and only loses its calculator
    marks (`<<48/2=24>>`). A line `####42` without a space gets one, and what follows the answer's
    line is left out. With key `\\boxed` a sentence with the boxed answer is appended, with
    another ` {answer_key} {answer}`. An empty solution teaches key and answer alone.

    Raises:
        ValueError: key `####` and a solution without an answer line.
    """
    if answer_key == BOXED:
        boxed = answer.strip().strip("$").strip()
        sentence = rf"The final answer is $\boxed{{{boxed}}}$."
        return f"{solution} {sentence}" if solution else sentence
    if not solution:
        return f"{answer_key} {answer}"
    if answer_key != "####":
        return f"{solution} {answer_key} {answer}"
    target = _CALCULATOR_MARK.sub("", solution)
    if "#### " not in target.rsplit("\n", 1)[-1]:
        before = target.rpartition("####")[0]
        if line := answer_line(target):
            return f"{before}#### {line}"
        raise ValueError(
            f"solution {solution[-60:]!r} has no last line `#### answer`; "
            "add it or set `answer_key` of the task"
        )
    return target


def clean_response(text: str, stops: Sequence[str] = ()) -> str:
    """Generated text up to the first stop string, without outer whitespace, then outer full stops.

    The engine already stops there; cutting again makes text from other sources equal to it.
    """
    ends = [position for stop in stops if (position := text.find(stop)) >= 0]
    return text[: min(ends, default=len(text))].strip().strip(".")


def clean_column(texts: pl.Series, stops: Sequence[str] = ()) -> pl.Series:
    """`clean_response` of each string of a column."""
    if stops:
        first = "|".join(map(pl.escape_regex, stops))
        texts = texts.str.replace(f"(?s)(?:{first}).*", "")
    return texts.str.strip_chars(WHITESPACE).str.strip_chars(".")
