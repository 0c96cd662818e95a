"""Names of a task's splits, one or several test sets among them, and their order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

TEST = "test"
#: The splits of a task that has one test set.
SPLITS = ("train_1", "train_2", "validation", TEST)
#: Keys of a split's entry: of a source, and of rows of another split. No test set has such a name.
ENTRY_KEYS = frozenset(
    ("path", "url", "sha256", "hub", "revision", "file", "config", "split", "from", "count")
)


def flatten_splits(splits: Mapping[str, Any]) -> dict[str, Any]:
    """Split -> its entry. Of several test sets, each is a split `test-<name>`.

    Args:
        splits: the key `splits` of a task. Under `test` it has one entry, or entries by name.
    """
    flat = {}
    for split, entry in splits.items():
        if split == TEST and isinstance(entry, Mapping) and not ENTRY_KEYS & entry.keys():
            flat |= {f"{TEST}-{name}": part for name, part in entry.items()}
        else:
            flat[split] = entry
    return flat


def split_key(split: str) -> str:
    """The config key of a split below `splits`: `test.platinum` of `test-platinum`."""
    return split.replace("-", ".", 1)


def list_test_sets(splits: Iterable[str]) -> list[str]:
    """Those of the splits that are test sets, in their order."""
    return [split for split in splits if split == TEST or split.startswith(f"{TEST}-")]


def list_splits(splits: Iterable[str]) -> list[str]:
    """SPLITS, with the test sets among `splits` in the place of `test` where there are some."""
    return [*SPLITS[:-1], *(list_test_sets(splits) or [TEST])]


def held_out_first(splits: Iterable[str]) -> list[str]:
    """`list_splits` in the order in which questions are given to them.

    A test set, drawn first, stays the same when a training split grows. A question in several
    splits is kept in the first of them.
    """
    train_1, train_2, validation, *test_sets = list_splits(splits)
    return [*test_sets, validation, train_1, train_2]
