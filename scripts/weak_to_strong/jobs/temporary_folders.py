"""Folders for temporary files, and those that killed processes have left.

A process holds a lock on its folder, which the kernel takes away when the process has ended with
all that it started. The next process of the same user and machine then removes the folder.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Names of these folders.
_NAME = re.compile(r"w2s-[0-9A-Za-z_-]+")
#: Age (seconds) up to which a folder without a lock may be one that is just being made.
_NEW = 60.0
#: Open folders, with their locks.
_held: list[int] = []


def hold_folder(folder: Path) -> None:
    """Hold a folder of this process until it ends; remove those beside it that nobody holds.

    On a file system without locks of folders nothing is held, and nothing is removed.

    Args:
        folder: `w2s-...`.
    """
    for path in folder.parent.glob("w2s-*"):
        if path != folder and _NAME.fullmatch(path.name) and _is_left(path):
            shutil.rmtree(path, ignore_errors=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    _held.append(handle)
    if not _lock(handle):
        os.close(_held.pop())


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_left(path: Path) -> bool:
    """Whether a folder is this user's, not new, and held by no process."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        status = os.fstat(handle)
        is_old = time.time() - status.st_mtime > _NEW
        return status.st_uid == os.getuid() and is_old and _lock(handle)
    finally:
        os.close(handle)


@contextmanager
def held_folder(kind: str) -> Iterator[Path]:
    """A temporary folder that only the user can open, removed at the end.

    Args:
        kind: part of its name.
    """
    with tempfile.TemporaryDirectory(prefix=f"w2s-{kind}-") as name:
        before = len(_held)
        hold_folder(Path(name))
        try:
            yield Path(name)
        finally:
            for handle in _held[before:]:
                os.close(handle)
            del _held[before:]
