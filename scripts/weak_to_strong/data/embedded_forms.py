"""The embedded task's word problems in the forms of MATH and of OlympicArena.

The word problem and its steps do not change. Words before it ask for its result in another form, so
that each answer follows from the whole number that the generator knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from math import gcd, isqrt
from random import Random

from weak_to_strong.data.authors import gold_problem

FORMS = ("gsm8k", "authors", "math", "authors_math", "olympicarena")

#: Form `math`: how often each way to ask for the result is drawn.
MATH_SHARES = {"plain": 4, "percent": 1, "dollars": 1, "angle": 1, "fraction": 2, "root": 1}
#: Form `math`: what each way adds to the level of the steps (1, or 2 from three steps on).
MATH_COSTS = {"plain": 0, "percent": 1, "dollars": 1, "angle": 1, "fraction": 2, "root": 3}
#: Divisors of fractions. Each result below 3 * 5 * 7 * 11 has no common factor with one of them.
DIVISORS = (3, 5, 7, 11)

#: Form `olympicarena`: how often each answer type is drawn.
TYPE_SHARES = {
    **{"NV": 5, "SC": 2, "MC": 1, "TF": 3, "SET": 1, "IN": 1, "EX": 1, "EQ": 1, "TUP": 1},
    **{"MPV": 1, "MA": 1},
}
#: Unit and subject by template. All other templates have no unit and the subject Math.
UNITS = {10: "years", 20: "pieces", 50: "pieces", 62: "days"}
SUBJECTS = {58: "Chemistry", 62: "Biology", 95: "Biology"}

_LETTERS = "ABCD"


def restate(problem: dict, form: str, seed: int) -> dict:
    """A generated problem in another form.

    Args:
        problem: from `embedded_task.generate_problems`.
        form: one of `FORMS`; `gsm8k` leaves the problem as it is, `authors` adds a request to the
            question and writes the gold solution in one of four styles; `authors_math` is `math`
            with that request and that solution.
        seed: seed and question decide how the result is asked for.

    Returns:
        Columns of PROBLEMS: `question`, `solution`, `answer` and `subject`; with `math` and
        `authors_math` also `level` (1 to 5); with `olympicarena` also `answer_type`, `level`
        (equal to it), `unit` and `parts`. Only with `gsm8k` and `authors` the solution ends in a
        line `#### answer`.

    Raises:
        ValueError: the form is unknown, or the result is not a whole number above 0.
    """
    subject = f"template {problem['template']}"
    if form == "gsm8k":
        return {**problem, "subject": subject}
    if form not in FORMS:
        raise ValueError(f"form: {form!r} is not one of {', '.join(FORMS)}")
    if form.startswith("authors"):
        problem = gold_problem(problem)
    if form == "authors":
        return {**problem, "subject": subject}
    answer = problem["answer"]
    if not answer.isdecimal() or int(answer) == 0:
        raise ValueError(
            f"form {form!r} needs results that are whole numbers above 0; {subject} gave "
            f"{answer!r}: leave it out"
        )
    steps, _, _ = problem["solution"].rpartition("\n#### ")
    rng = Random(f"{seed} {form} {problem['question']}")
    if form in ("math", "authors_math"):
        return {"subject": subject, **_as_math(problem["question"], steps, int(answer), rng)}
    unit = UNITS.get(problem["template"])
    return {
        "subject": SUBJECTS.get(problem["template"], "Math"),
        **_as_olympicarena(problem["question"], steps, int(answer), unit, rng),
    }


def _draw(rng: Random, shares: dict[str, int]) -> str:
    return rng.choices(list(shares), list(shares.values()))[0]


def _as_math(question: str, steps: str, result: int, rng: Random) -> dict:
    kind = _draw(rng, MATH_SHARES)
    divisors = [divisor for divisor in DIVISORS if gcd(divisor, result) == 1]
    if kind == "root" and not is_square_free(result):
        kind = "fraction"
    if kind == "fraction" and not divisors:
        kind = "plain"
    divisor = rng.choice(divisors) if kind == "fraction" else 0
    request, answer = {
        "plain": ("", f"{result}"),
        "percent": ("In percent of 100: ", rf"{result}\%"),
        "dollars": ("In dollars: ", rf"\${result}"),
        "angle": ("As an angle: ", rf"{result}^\circ"),
        "fraction": (f"Divided by {divisor}: ", rf"\frac{{{result}}}{{{divisor}}}"),
        "root": ("The square root of it: ", rf"\sqrt{{{result}}}"),
    }[kind]
    return {
        "question": f"{request}{question}",
        "solution": steps,
        "answer": answer,
        "level": min(max(steps.count("\n"), 1), 2) + MATH_COSTS[kind],
    }


def is_square_free(number: int) -> bool:
    """Whether the square root of `number` cannot be simplified (4 and 12 can); false for 1."""
    return number > 1 and all(number % root**2 for root in range(2, isqrt(number) + 1))


def _as_olympicarena(question: str, steps: str, result: int, unit: str | None, rng: Random) -> dict:
    kind = _draw(rng, TYPE_SHARES)
    problem = {"solution": steps, "level": kind, "answer_type": kind, "unit": None, "parts": None}
    if kind in _CHOICES:
        lines, answer = _CHOICES[kind](result, rng)
        return {**problem, "question": "\n".join([question, *lines]), "answer": answer}
    if kind == "NV":
        return {**problem, "question": question, "answer": str(result), "unit": unit}
    if kind == "TF":
        true = rng.random() < 0.5
        stated = result if true else _draw_near(result, rng, 1)[0]
        return {**problem, "question": f"Is it {stated}? {question}", "answer": str(true)}
    request, answer = _ASKED[kind]
    names = ("result", "double") if kind == "MPV" else (None, None) if kind == "MA" else ()
    parts = [{"type": "NV", "unit": None, "name": name} for name in names]
    return {
        **problem,
        "question": f"{request} {question}",
        "answer": answer(result),
        "parts": json.dumps(parts) if parts else None,
    }


def _draw_near(result: int, rng: Random, count: int) -> list[int]:
    """`count` distinct numbers above 0 near the result, but not the result."""
    low = max(1, result - 12)
    return rng.sample([number for number in range(low, low + 25) if number != result], count)


def _offer(right: list[str], wrong: list[int], rng: Random) -> tuple[list[str], str]:
    """Lines of options in random order, and the letters of the right options."""
    options = [*right, *map(str, wrong)]
    rng.shuffle(options)
    lines = [f"{letter}: {option}" for letter, option in zip(_LETTERS, options, strict=True)]
    return lines, ", ".join(_LETTERS[place] for place in sorted(map(options.index, right)))


#: Answer type -> function that makes the lines of options and the answer from the result.
_CHOICES: dict[str, Callable[[int, Random], tuple[list[str], str]]] = {
    "SC": lambda result, rng: _offer([f"{result}"], _draw_near(result, rng, 3), rng),
    "MC": lambda result, rng: _offer([f"{result}", f"{result}.0"], _draw_near(result, rng, 2), rng),
}
#: Answer type -> words before the question, and function that makes the answer from the result.
_ASKED: dict[str, tuple[str, Callable[[int], str]]] = {
    "SET": ("As a set with 0:", lambda result: rf"\{{0, {result}\}}"),
    "IN": ("As an interval from 0:", lambda result: f"[0, {result}]"),
    "EX": ("Times x:", lambda result: f"{result} x"),
    "EQ": ("Times x, as a line y:", lambda result: f"y={result} x"),
    "TUP": ("As a pair after 0:", lambda result: f"(0, {result})"),
    "MPV": ("And its double:", lambda result: f"{result}, {2 * result}"),
    "MA": ("With either sign:", lambda result: f"{result}, -{result}"),
}
