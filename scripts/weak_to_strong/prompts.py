"""Prompts, training targets and the cleaning of generated text (no chat template is used)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_CALCULATOR_MARK = re.compile(r"<<[^<>\n]*>>")


def zero_shot_prompt(question: str) -> str:
    """The prompt `Question: {question}` and, on the next line, `Answer:`."""
    return f"Question: {question}\nAnswer:"


def few_shot_prompt(question: str, demonstrations: Sequence[Mapping[str, str]]) -> str:
    """The zero-shot prompt after solved examples, blank lines between them.

    Args:
        question: the question to answer.
        demonstrations: mappings with `question` and `response`, in prompt order.
    """
    shots = [f"{zero_shot_prompt(shot['question'])} {shot['response']}" for shot in demonstrations]
    return "\n\n".join([*shots, zero_shot_prompt(question)])


def sft_target(solution: str, answer: str, answer_key: str) -> str:
    """The text that supervised fine-tuning on a gold solution teaches, without a leading space.

    With key `####` the solution already ends in its answer line and only loses its calculator
    marks (`<<48/2=24>>`); with another key, ` {answer_key} {answer}` is appended.

    Raises:
        ValueError: key `####` and a solution without an answer line.
    """
    if answer_key != "####":
        return f"{solution} {answer_key} {answer}"
    target = _CALCULATOR_MARK.sub("", solution)
    if "#### " not in target.rsplit("\n", 1)[-1]:
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
