"""Word problems of one or two steps with small numbers, for models that reason a little.

They are further templates of the embedded task. The problems of reasoning-gym's `gsm_symbolic` have
more steps and larger numbers than a model of a hundred million parameters can follow in context.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

NAMES = ("Anna", "Ben", "Carla", "David", "Emma", "Frank", "Grace", "Henry", "Ivy", "Jack", "Kate")
THINGS = ("apples", "books", "cards", "coins", "cookies", "marbles", "pencils", "shells", "stamps")

#: Largest number that is added or taken away, and largest that is multiplied.
LARGEST_TERM, LARGEST_FACTOR = 20, 10


def _terms(rng: Random) -> tuple[int, int]:
    return rng.randint(2, LARGEST_TERM), rng.randint(2, LARGEST_TERM)


def _factors(rng: Random) -> tuple[int, int]:
    return rng.randint(2, LARGEST_FACTOR), rng.randint(2, LARGEST_FACTOR)


def _receive(rng: Random, one: str, other: str, things: str) -> tuple[str, str, int]:
    a, b = _terms(rng)
    question = f"{one} has {a} {things}. {other} gives {one} {b} more."
    return f"{question} How many {things} does {one} have now?", f"{a} + {b} = {a + b}", a + b


def _lose(rng: Random, one: str, other: str, things: str) -> tuple[str, str, int]:
    lost, left = _terms(rng)
    question = f"{one} has {lost + left} {things} and loses {lost} of them."
    return f"{question} How many {things} are left?", f"{lost + left} - {lost} = {left}", left


def _boxes(rng: Random, one: str, other: str, things: str) -> tuple[str, str, int]:
    a, b = _factors(rng)
    question = f"{one} has {a} boxes with {b} {things} in each box."
    return f"{question} How many {things} does {one} have?", f"{a} * {b} = {a * b}", a * b


def _share(rng: Random, one: str, other: str, things: str) -> tuple[str, str, int]:
    friends, each = _factors(rng)
    question = f"{one} shares {friends * each} {things} equally among {friends} friends."
    steps = f"{friends * each} / {friends} = {each}"
    return f"{question} How many {things} does each friend get?", steps, each


def _together(rng: Random, one: str, other: str, things: str) -> tuple[str, str, int]:
    a, b = _terms(rng)
    question = f"{one} has {a} {things}. {other} has {b} more {things} than {one}."
    steps = f"{other}: {a} + {b} = {a + b}\nTogether: {a} + {a + b} = {a + a + b}"
    return f"{question} How many {things} do they have together?", steps, a + a + b


def _find_and_give(rng: Random, one: str, other: str, things: str) -> tuple[str, str, int]:
    a, b = _terms(rng)
    given = rng.randint(1, a + b - 1)
    question = f"{one} has {a} {things} and finds {b} more. Then {one} gives {given} to {other}."
    steps = f"First: {a} + {b} = {a + b}\nThen: {a + b} - {given} = {a + b - given}"
    return f"{question} How many {things} does {one} have now?", steps, a + b - given


def _buy_and_give(rng: Random, one: str, other: str, things: str) -> tuple[str, str, int]:
    a, b = _factors(rng)
    given = rng.randint(1, a * b - 1)
    question = f"{one} buys {a} bags of {b} {things} and gives {given} {things} to {other}."
    steps = f"First: {a} * {b} = {a * b}\nThen: {a * b} - {given} = {a * b - given}"
    return f"{question} How many {things} does {one} keep?", steps, a * b - given


def _pay(rng: Random, one: str, other: str, things: str) -> tuple[str, str, int]:
    a, b = _factors(rng)
    price = rng.randint(2, LARGEST_TERM)
    bought = f"{one} buys {b} tickets, and {things} for {price} dollars."
    steps = f"Tickets: {a} * {b} = {a * b}\nTogether: {a * b} + {price} = {a * b + price}"
    question = f"A ticket costs {a} dollars. {bought} How many dollars does {one} pay?"
    return question, steps, a * b + price


#: Template -> function (random generator, two names, things) -> question, steps, result. The first
#: four have one step, the others two.
SHORT: Mapping[int, Callable[[Random, str, str, str], tuple[str, str, int]]] = dict(
    enumerate(
        (_receive, _lose, _boxes, _share, _together, _find_and_give, _buy_and_give, _pay), start=100
    )
)


def short_problem(template: int, rng: Random) -> dict[str, str]:
    """One problem: `question`, `steps` (one line each) and `answer`, a whole number above 0.

    Args:
        template: one of SHORT.
        rng: draws names, things and numbers.
    """
    one, other = rng.sample(NAMES, 2)
    question, steps, result = SHORT[template](rng, one, other, rng.choice(THINGS))
    return {"question": question, "steps": steps, "answer": str(result)}
