"""Token ids of many prompts, kept in a file instead of in memory.

It keeps the memory of the process that drives a round from growing with the data: for 100,000
four-shot prompts (92 million tokens) that process peaks at 329 MB, and at 576 MB with the tokens in
arrays. CPU time is the same (`benchmarks/driver_memory.py`).
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

_TOKEN_BYTES = array("I").itemsize


class TokenFile:
    """Prompts as token ids, numbered from 0 in the order in which they were added.

    Memory has only where each prompt ends, eight bytes a prompt. The file has no name, so nothing
    of it is left when the process ends, however it ends. Threads may read at the same time.

    Args:
        folder: folder of the file; made if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._ends = array("Q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, prompts: Iterable[Sequence[int]]) -> None:
        """Add prompts at the end."""
        block = array("I")
        for tokens in prompts:
            block.extend(tokens)
            self._ends.append(self._ends[-1] + len(tokens))
        block.tofile(self._file)
        self._file.flush()

    def length(self, number: int) -> int:
        """Number of tokens of a prompt."""
        return self._ends[number + 1] - self._ends[number]

    def read(self, first: int, end: int) -> list[list[int]]:
        """The prompts from number `first` to before `end`.

        Raises:
            OSError: the file is shorter than what was added.
        """
        start = self._ends[first]
        size = (self._ends[end] - start) * _TOKEN_BYTES
        data = os.pread(self._file.fileno(), size, start * _TOKEN_BYTES)
        if len(data) < size:
            raise OSError(f"the file of tokens ends {size - len(data)} bytes early")
        tokens = array("I", data).tolist()
        edges = [edge - start for edge in self._ends[first : end + 1]]
        return [tokens[begin:stop] for begin, stop in pairwise(edges)]
