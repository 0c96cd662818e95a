"""Checkpoints that are whole or ignored."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from weak_to_strong.jobs.logs import logger
from weak_to_strong.models.manifests import (
    list_files,
)
from weak_to_strong.tables.files import (
    hash_file,
    read_json,
    sync_files,
    write_json,
)

#: Written last into a checkpoint: size in bytes of each of its files, and sha256 of the small ones.
SEAL = "complete.json"

#: Checkpoint files up to this size have a sha256. An optimiser of a 70B model has a terabyte, which
#: to read once more after every save would cost more than a repeated training is likely to.
HASHED_BYTES = 2**30


def seal_checkpoint(checkpoint: Path) -> None:
    """Declare a checkpoint complete, once all of its files are on disk."""
    sync_files(checkpoint)
    seal = {name: _describe(checkpoint / name) for name in list_files(checkpoint)}
    write_json(seal, checkpoint / SEAL)


def _describe(path: Path) -> list[Any]:
    size = path.stat().st_size
    return [size, hash_file(path) if size <= HASHED_BYTES else None]


def is_complete(checkpoint: Path) -> bool:
    """Whether a checkpoint was sealed and still has every sealed file as it was.

    Raises:
        OSError: a file is there and cannot be read, which says nothing against it.
    """
    try:
        seal = json.loads((checkpoint / SEAL).read_bytes())
        return all(_describe(checkpoint / name) == sealed for name, sealed in seal.items())
    except (FileNotFoundError, ValueError, AttributeError):
        return False


def list_unhashed(checkpoint: Path) -> list[str]:
    """Files of a complete checkpoint of which only the size is known."""
    return [name for name, (_, digest) in read_json(checkpoint / SEAL).items() if digest is None]


def step_of(checkpoint: Path) -> int:
    """The updates that a `checkpoint-<step>` has seen."""
    return int(checkpoint.name.split("-")[-1])


def find_checkpoint(work: Path) -> Path | None:
    """The latest complete `checkpoint-<step>` in `work`; torn ones are passed over."""
    found = [path for path in work.glob("checkpoint-*") if path.name.split("-")[-1].isdigit()]
    for path in sorted(found, key=step_of, reverse=True):
        if is_complete(path):
            return path
    return None


def remove_torn(work: Path) -> None:
    """Delete the checkpoints of `work` that are not complete."""
    for path in work.glob("checkpoint-*"):
        if not is_complete(path):
            logger.warning("%s is incomplete or damaged: not resumed from", path.name)
            shutil.rmtree(path)


@contextmanager
def alone_in(work: Path) -> Iterator[None]:
    """Hold a work folder, which need not be there; wait as long as another process does.

    The lock is a file beside it, gone when the holder ends. A file system without `flock` has none.
    """
    path = work.with_name(f"{work.name}.flock")
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.info("another job is training the same model; this one goes on after it")
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError:
                logger.warning("%s: cannot be locked on this file system", path)
                yield
                return
            try:
                current = os.path.samestat(path.stat(), os.fstat(file.fileno()))
            except FileNotFoundError:
                current = False
            if not current:
                continue  # the holder before removed it: a third process may have a new one
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return
