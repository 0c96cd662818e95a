"""Tasks of reasoning-gym's families: any number of problems by family, seed and settings.

Only some families fit. A final answer must be one short text that is right alone, since answers are
compared with it and no verifier of the family runs. It must also be read alike by both scorers.
So grids, move lists and expressions are left out, and so are numbers to a tolerance, hexadecimal
numbers and shuffled letters, which the math scorer would read as products. So is `acre`, whose
problems depend on how many are asked for.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import fields
from difflib import get_close_matches
from itertools import count
from typing import Any

#: Family -> judge of its answers: `math` for numbers, `string` for words.
FAMILIES = {
    "aiw": "math",
    "basic_arithmetic": "math",
    "binary_alternation": "math",
    "calendar_arithmetic": "string",
    "chain_sum": "math",
    "circuit_logic": "math",
    "color_cube_rotation": "string",
    "count_bits": "math",
    "count_primes": "math",
    "course_schedule": "string",
    "decimal_chain_sum": "math",
    "dice": "math",
    "family_relationships": "string",
    "game_of_life_halting": "string",
    "gcd": "math",
    "gsm_symbolic": "math",
    "isomorphic_strings": "string",
    "largest_island": "math",
    "lcm": "math",
    "leg_counting": "math",
    "letter_counting": "math",
    "mahjong_puzzle": "string",
    "maze": "math",
    "needle_haystack": "string",
    "number_sequence": "math",
    "products": "math",
    "ransom_note": "string",
    "rectangle_count": "math",
    "rotten_oranges": "math",
    "self_reference": "math",
    "simple_equations": "math",
    "simple_geometry": "math",
    "syllogism": "string",
}
#: Settings of every family that the key `reasoning_gym` and the sizes of the splits decide.
_DECIDED = ("seed", "size")
#: The library wants a number of problems. Problems do not depend on it.
_SIZE = 1_000_000
#: So many problems in a row without a new question end a stream.
_MISSES = 1000


def check_family(family: str, settings: Mapping[str, Any]) -> None:
    """Check a family and its settings.

    Raises:
        ValueError: "key: message; fix", where key is `family` or `settings.<name>`.
    """
    if family not in FAMILIES:
        close = get_close_matches(family, FAMILIES, n=3, cutoff=0.5)
        fix = f"did you mean {', '.join(close)}?" if close else "config/README.md lists what fits"
        what = "has answers that cannot be compared" if family in _library()[1] else "is unknown"
        raise ValueError(f"family: `{family}` {what}; {fix}")
    known = [item.name for item in fields(_library()[1][family][1]) if item.name not in _DECIDED]
    for name in settings:
        if name in _DECIDED:
            fix = "use the key `reasoning_gym.seed`" if name == "seed" else "sizes are in `splits`"
            raise ValueError(f"settings.{name}: is no setting here; {fix}")
        if name not in known:
            close = get_close_matches(name, known, n=3, cutoff=0.5)
            fix = f"did you mean {', '.join(close)}?" if close else f"known: {', '.join(known)}"
            raise ValueError(f"settings.{name}: `{family}` has no such setting; {fix}")
    _make(family, 0, settings)


def generate_family(family: str, seed: int, settings: Mapping[str, Any]) -> Iterator[dict]:
    """Endless stream of distinct problems of a family.

    Args:
        family: one of FAMILIES.
        seed: seed of the stream.
        settings: settings of the family, as the library names them; () for its defaults.

    Yields:
        `{"question", "solution", "answer"}`. `solution` is "" where the library gives no steps:
        training on gold then teaches the answer alone.

    Raises:
        ValueError: as for `check_family`; 1,000 problems in a row gave no new question.
    """
    check_family(family, settings)
    problems, seen, misses = _make(family, seed, settings), set(), 0
    for number in count():
        row = problems[number]
        question = row["question"].strip()
        if question in seen:
            misses += 1
            if misses == _MISSES:
                raise ValueError(
                    f"reasoning_gym: `{family}` gave {len(seen)} distinct questions and no new one "
                    f"in {_MISSES} more; ask for fewer, or widen its `settings`"
                )
            continue
        seen.add(question)
        misses = 0
        steps, _, _ = row["metadata"].get("answer_cot", "").rpartition("####")
        yield {"question": question, "solution": steps.strip(), "answer": str(row["answer"])}


def _library() -> tuple[Any, Mapping[str, Any]]:
    """reasoning-gym, and its families by name."""
    with warnings.catch_warnings():  # a dependency of reasoning-gym gives SyntaxWarnings
        warnings.simplefilter("ignore")
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    return reasoning_gym, DATASETS


def _make(family: str, seed: int, settings: Mapping[str, Any]) -> Any:
    library, _ = _library()
    try:
        return library.create_dataset(family, seed=seed, size=_SIZE, **settings)
    except (AssertionError, TypeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"settings: `{family}` refuses them ({reason}); correct their values"
        ) from error
