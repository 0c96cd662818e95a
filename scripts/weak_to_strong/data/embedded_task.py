"""The embedded task: grade-school word problems written by reasoning-gym's `gsm_symbolic`.

It stands in for GSM8K where there is no network: the same kind of question, a step-by-step
solution, and a last line `#### n`.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator
from random import Random

# A constant request for a bare number that the library adds to each question; the answer key
# `####` already asks for it.
LIBRARY_SUFFIX = " Give the result as your final answer. Do not include units."


def _generators() -> dict:
    with warnings.catch_warnings():  # a dependency of reasoning-gym compiles with SyntaxWarnings
        warnings.simplefilter("ignore")
        import reasoning_gym
    return reasoning_gym.create_dataset("gsm_symbolic", size=1, seed=0).generators


def generate_problems(
    templates: Collection[int], seed: int, exclude: Collection[str] = (), difficulty: float = 1.0
) -> Iterator[dict]:
    """Endless stream of distinct problems, the template drawn anew for each.

    Args:
        templates: numbers of `gsm_symbolic` templates.
        seed: the stream is a function of (templates, seed, exclude, difficulty).
        exclude: questions never to yield (those of another split, say).
        difficulty: the library's own factor on the size of numbers.

    Yields:
        `{"question", "solution", "answer", "template"}`; `solution` ends in a line `#### answer`.

    Raises:
        ValueError: a template number that the library does not have, or templates so small that
            1,000 draws in a row gave nothing new.
    """
    generators = _generators()
    unknown = sorted(set(templates) - set(generators))
    if unknown or not templates:
        raise ValueError(f"unknown gsm_symbolic templates {unknown}; known: 0 to {max(generators)}")
    pool, rng, seen, misses = sorted(templates), Random(seed), set(exclude), 0
    while True:
        template = rng.choice(pool)
        problem = generators[template](rng, difficulty)
        question = problem["question"].removesuffix(LIBRARY_SUFFIX).strip()
        if question in seen:
            misses += 1
            if misses == 1000:
                raise ValueError(f"templates {pool} are exhausted after {len(seen)} questions")
            continue
        seen.add(question)
        misses = 0
        steps, _, _ = problem["metadata"]["answer_cot"].rpartition("####")
        answer = str(problem["answer"])
        yield {
            "question": question,
            "solution": f"{steps.strip()}\n#### {answer}",
            "answer": answer,
            "template": template,
        }
