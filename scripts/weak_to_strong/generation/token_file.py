"""Token ids of many prompts, kept in a file in place of memory."""

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

    In memory is where each ends, eight bytes a prompt. The file has no name, so that nothing of it
    is left when the process ends, however it does. Threads may read at the same time.

    Args:
        folder: where the file takes its place; made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        self._ends = array("Q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, prompts: Iterable[Sequence[int]]) -> None:
        """Add prompts at the end."""
        block = array("I")
        end = self._ends[-1]
        for tokens in prompts:
            block.extend(tokens)
            end += len(tokens)
            self._ends.append(end)
        view = memoryview(block).cast("B")
        while view:
            view = view[self._file.write(view) :]

    def length(self, number: int) -> int:
        """Tokens of a prompt."""
        return self._ends[number + 1] - self._ends[number]

    def read(self, first: int, end: int) -> list[list[int]]:
        """The prompts from number `first` to before `end`."""
        start = self._ends[first]
        data = bytearray()
        size = (self._ends[end] - start) * _TOKEN_BYTES
        while len(data) < size:  # a read may return less than it was asked for
            place = start * _TOKEN_BYTES + len(data)
            piece = os.pread(self._file.fileno(), size - len(data), place)
            if not piece:
                raise OSError(f"the file of tokens ends {size - len(data)} bytes early")
            data += piece
        tokens = array("I", bytes(data)).tolist()
        edges = [edge - start for edge in self._ends[first : end + 1]]
        return [tokens[a:b] for a, b in pairwise(edges)]
