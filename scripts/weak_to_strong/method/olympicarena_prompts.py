"""Prompts of OlympicArena (Huang et al. 2024, arXiv 2406.12753), one wording for each answer type.

Prompts of the types SC, MC, TF, NV, EX, EQ, TUP and MA equal those of the paper's released training
rows, letter for letter. The released rows have no question of type SET, IN or MPV, no MA with
units, and a unit only for NV; such prompts have words of our own in the same pattern.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_CONTEXT = (
    "Here is some context information for this question, which might assist you in solving it:"
)
_LATEX = "All mathematical formulas and symbols you output should be represented with LaTeX!"
_STEPS = "You can solve it step by step."
_MANY = "should be the sequence of your final answers, separated by commas, for example: 5, 7, 2.5"


@dataclass(frozen=True)
class AnswerWording:
    """What a prompt says about an answer type.

    Attributes:
        name: name of the type, for lists of types.
        described: the line that announces the type.
        form: what ANSWER must be; `{options}` stands for the letters of the options.
        form_with_unit: the same where the answer's unit must be left out; "" where it is `form`.
    """

    name: str
    described: str
    form: str
    form_with_unit: str = ""


WORDINGS = {
    "SC": AnswerWording(
        "single choice",
        "This is a multiple choice question (only one correct answer).",
        "should be one of the options: [{options}].",
    ),
    "MC": AnswerWording(
        "multiple choice",
        "This is a multiple choice question (more than one correct answer).",
        "should be two or more of the options: [{options}].",
    ),
    "TF": AnswerWording(
        "True or False",
        "This is a True or False question.",
        'should be either "True" or "False".',
    ),
    "NV": AnswerWording(
        "numerical value",
        "The answer to this question is a numerical value.",
        "is the numerical value.",
        "is the numerical value without any units.",
    ),
    "SET": AnswerWording(
        "set",
        "The answer to this question is a set.",
        r"is the set of all its elements, e.g. ANSWER=\{3, 4, 5\}",
        r"is the set of all its elements without any units, e.g. ANSWER=\{3, 4, 5\}",
    ),
    "IN": AnswerWording(
        "interval",
        "The answer to this question is an interval.",
        r"is an interval or a union of intervals, e.g. ANSWER=(1, 2] \cup [7, \infty)",
        "is an interval or a union of intervals without any units, "
        r"e.g. ANSWER=(1, 2] \cup [7, \infty)",
    ),
    "EX": AnswerWording(
        "expression",
        "The answer to this question is an expression.",
        r"is an expression without equals signs, e.g. ANSWER=\frac{1}{2} g t^2",
        r"is an expression without units or equals signs, e.g. ANSWER=\frac{1}{2} g t^2",
    ),
    "EQ": AnswerWording(
        "equation",
        "The answer to this question is an equation.",
        r"is an equation, e.g. ANSWER=\frac{x^2}{4}+\frac{y^2}{2}=1",
        r"is an equation without any units, e.g. ANSWER=\frac{x^2}{4}+\frac{y^2}{2}=1",
    ),
    "TUP": AnswerWording(
        "tuple",
        "The answer to this question is a tuple.",
        "is a tuple, e.g. ANSWER=(3, 5)",
        "is a tuple without any units, e.g. ANSWER=(3, 5)",
    ),
    "MPV": AnswerWording(
        "multiple quantities",
        "This question asks for several quantities.",
        _MANY,
    ),
    "MA": AnswerWording(
        "multiple answers",
        "This question has more than one correct answer, you need to include them all.",
        _MANY,
    ),
}
#: Types that choose among given answers, and so need no formulas.
_GIVEN = ("SC", "MC", "TF")
#: Types whose answer is a sequence of answers; each of them has its own type.
SEVERAL = ("MPV", "MA")

_PROMPT = re.compile(
    r"You are participating in an international [^\n]* competition [^\n]*\n[^\n]*\n"
    rf"(?:{re.escape(_CONTEXT)}\n(?P<context>.*?)\n)?\nQuestion: (?P<question>.*)\n\n"
    rf"(?:{re.escape(_LATEX)}\n)?{re.escape(_STEPS)}\n.*",
    re.DOTALL,
)


def olympicarena_prompt(problem: Mapping[str, Any]) -> str:
    """The prompt of a problem, including the last line `Answer:`.

    Args:
        problem: a row of PROBLEMS or QUESTIONS with `question` (options are lines `A: ...` at its
            end), `subject`, `answer_type` and, each or null, `unit`, `parts` (see `read_parts`) and
            `context`.

    Raises:
        ValueError: the answer type has no wording; names the problem.
    """
    kind = problem["answer_type"]
    wording = WORDINGS.get(kind)
    if wording is None:
        raise ValueError(
            f"problem {problem.get('id', '?')!r}: no OlympicArena prompt for answer type {kind!r} "
            f"(known: {', '.join(WORDINGS)}); set the task's `prompt: question_answer`"
        )
    unit, parts = problem.get("unit"), read_parts(problem.get("parts"))
    lines = [
        f"You are participating in an international {problem['subject']} competition and need to "
        "solve the following question.",
        wording.described,
    ]
    if problem.get("context"):
        lines += [_CONTEXT, problem["context"]]
    lines += ["", f"Question: {problem['question']}", ""]
    if kind not in _GIVEN:
        lines.append(_LATEX)
    lines.append(_STEPS)
    if kind in SEVERAL:
        lines += _describe_parts(kind, parts)
    elif unit:
        lines.append(
            f"Remember, your answer should be calculated in the unit of {unit}, but when "
            "concluding your final answer, do not include the unit."
        )
    lines.append(_describe_ending(wording, problem["question"], bool(unit), kind in SEVERAL))
    return "\n".join([*lines, "", "Answer:"])


def _describe_ending(wording: AnswerWording, question: str, has_unit: bool, several: bool) -> str:
    """The line that says how the response must end."""
    final = (
        r"The final answers are \boxed{ANSWER}"
        if several
        else r"The final answer is $\boxed{ANSWER}$"
    )
    form = wording.form_with_unit if has_unit and wording.form_with_unit else wording.form
    form = form.replace("{options}", ", ".join(option_letters(question)))
    return f'Please end your response with: "{final}", where ANSWER {form}'


def _describe_parts(kind: str, parts: Sequence[Mapping[str, str | None]]) -> list[str]:
    lines = []
    if kind == "MPV" and any(part["name"] for part in parts):
        names = ", ".join(part["name"] or "?" for part in parts)
        lines.append(f"Give the quantities in this order: [{names}].")
    if any(part["unit"] for part in parts):
        units = ", ".join(part["unit"] or "none" for part in parts)
        lines.append(
            f"Their units are, in order, [{units}], but leave the units out of your final answers."
        )
    if parts:
        types = ", ".join(
            WORDINGS[part["type"]].name if part["type"] in WORDINGS else str(part["type"])
            for part in parts
        )
        lines.append(f"Their answer types are, in order, [{types}].")
    return lines


def read_parts(parts: str | None) -> list[dict[str, str | None]]:
    """The answers that one question asks for: a list of {type, unit, name}, each a text or None.

    Args:
        parts: JSON from the column `parts`; null or "" gives an empty list.

    Raises:
        ValueError: it is not JSON of this form.
    """
    try:
        answers = json.loads(parts) if parts else []
    except (ValueError, RecursionError) as error:
        raise ValueError("no JSON") from error
    if not isinstance(answers, list) or not all(map(_is_part, answers)):
        raise ValueError("no list of objects with `type`, `unit` and `name`, each text or null")
    return answers


def _is_part(part: Any) -> bool:
    keys = ("type", "unit", "name")
    return isinstance(part, dict) and all(
        key in part and isinstance(part[key], str | None) for key in keys
    )


def option_letters(question: str) -> list[str]:
    """Letters of the options, which are lines `A: ...`, `B: ...` at the end of a question."""
    letters: list[str] = []
    for line in question.split("\n"):
        if line[:2] == "A:":
            letters = ["A"]
        elif letters and line[:2] == f"{chr(ord(letters[-1]) + 1)}:":
            letters.append(line[0])
    return letters


def split_prompt(prompt: str) -> dict[str, str | None] | None:
    """`question` and `context` inside a prompt of OlympicArena; None for any other text.

    The data set gives the context of a problem only inside its published prompts.
    """
    match = _PROMPT.fullmatch(prompt)
    return match and match.groupdict()
