"""The embedded task: grade-school word problems by reasoning-gym's `gsm_symbolic`, or shorter ones.

It replaces GSM8K where there is no network: the same kind of question, a step-by-step solution, and
a last line `#### n`.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator
from random import Random
from typing import Any

from weak_to_strong.data.short_problems import SHORT, short_problem

#: The library appends this sentence to each question. The answer key `####` makes it superfluous.
LIBRARY_SUFFIX = " Give the result as your final answer. Do not include units."


def _generators() -> dict:
    """Template number -> the library's function (random generator, difficulty) -> problem."""
    with warnings.catch_warnings():  # a dependency of reasoning-gym gives SyntaxWarnings
        warnings.simplefilter("ignore")
        import reasoning_gym
    return reasoning_gym.create_dataset("gsm_symbolic", size=1, seed=0).generators


def _write(template: int, rng: Random, generators: dict, difficulty: float) -> dict[str, Any]:
    """One problem: `question`, `steps` and `answer`."""
    if template in SHORT:
        return short_problem(template, rng)
    problem = generators[template](rng, difficulty)
    steps, _, _ = problem["metadata"]["answer_cot"].rpartition("####")
    question = problem["question"].removesuffix(LIBRARY_SUFFIX).strip()
    return {"question": question, "steps": steps.strip(), "answer": str(problem["answer"])}


def generate_problems(
    templates: Collection[int], seed: int, exclude: Collection[str] = (), difficulty: float = 1.0
) -> Iterator[dict]:
    """Endless stream of distinct problems. A template is drawn for each of them.

    Args:
        templates: numbers of `gsm_symbolic` templates (0 to 99) or of `short_problems.SHORT`.
        seed: seed of the stream. Equal arguments give equal streams.
        exclude: questions never to yield, such as those of another split.
        difficulty: factor on the size of the library's numbers, as it defines it.

    Yields:
        `{"question", "solution", "answer", "template"}`; `solution` ends in a line `#### answer`.

    Raises:
        ValueError: a template number is unknown, or 1,000 draws in a row gave no new question.
    """
    generators = _generators() if set(templates) - set(SHORT) else {}
    unknown = sorted(set(templates) - set(generators) - set(SHORT))
    if unknown or not templates:
        raise ValueError(f"unknown templates {unknown}; known: 0 to {max(SHORT)}")
    pool, rng, seen, misses = sorted(templates), Random(seed), set(exclude), 0
    while True:
        template = rng.choice(pool)
        problem = _write(template, rng, generators, difficulty)
        question = problem["question"]
        if question in seen:
            misses += 1
            if misses == 1000:
                raise ValueError(f"templates {pool} are exhausted after {len(seen)} questions")
            continue
        seen.add(question)
        misses = 0
        yield {
            "question": question,
            "solution": f"{problem['steps']}\n#### {problem['answer']}",
            "answer": problem["answer"],
            "template": template,
        }
