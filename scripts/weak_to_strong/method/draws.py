"""Random draws of questions that the agreement filter and named selections share."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random


def draw_places(height: int, count: int, seed: int) -> list[int]:
    """Places of `count` random rows of a table with `height` rows, in the order of the rows."""
    return sorted(Random(seed).sample(range(height), count))


def draw_padding(ids: Sequence[str], kept: Collection[str], target: int, seed: int) -> list[str]:
    """Ids of random questions that are not kept, so many that there are `target` with the kept.

    Args:
        ids: of all questions. Their order is that of the draw.
        kept: ids of the kept questions.
        target: number of questions with the padding. There is none if as many are kept.
        seed: of the draw.

    Returns:
        The ids in the order in which they were drawn.

    Raises:
        ValueError: there are fewer questions than `target`.
    """
    kept = set(kept)
    rest = [name for name in ids if name not in kept]
    missing = max(0, target - len(kept))
    if missing > len(rest):
        raise ValueError(f"cannot pad to {target} questions: there are {len(kept) + len(rest)}")
    return Random(seed).sample(rest, missing)
