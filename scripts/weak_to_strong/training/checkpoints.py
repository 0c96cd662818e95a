"""Checkpoints: a complete one is resumed from, any other is ignored."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from weak_to_strong.jobs.locks import open_lock
from weak_to_strong.jobs.logs import logger
from weak_to_strong.models.manifests import list_files
from weak_to_strong.tables.files import (
    apply_umask_below,
    hash_file,
    read_json,
    sync_files,
    write_json,
)

#: The last file of a checkpoint: the size in bytes of each other file, and sha256 of small ones.
SEAL = "complete.json"

#: Largest checkpoint file (bytes) with a sha256. The optimiser of a 70B model has a terabyte.
#: Reading it after every save would cost more time than repeated trainings are likely to.
HASHED_BYTES = 2**30


def seal_checkpoint(checkpoint: Path) -> None:
    """Mark a checkpoint as complete, once all of its files are on disk."""
    apply_umask_below(checkpoint)  # only the owner may read files of safetensors
    sync_files(checkpoint)
    seal = {name: _describe(checkpoint / name) for name in list_files(checkpoint)}
    write_json(seal, checkpoint / SEAL)


def _describe(path: Path) -> list[Any]:
    size = path.stat().st_size
    return [size, hash_file(path) if size <= HASHED_BYTES else None]


def is_complete(checkpoint: Path) -> bool:
    """Whether a checkpoint was sealed and all of its sealed files are unchanged.

    Raises:
        OSError: a file exists and cannot be read. It may be intact.
    """
    try:
        seal = json.loads((checkpoint / SEAL).read_bytes())
        return all(_describe(checkpoint / name) == sealed for name, sealed in seal.items())
    except (FileNotFoundError, ValueError, AttributeError):
        return False


def list_unhashed(checkpoint: Path) -> list[str]:
    """Files of a complete checkpoint that are checked by their size only."""
    return [name for name, (_, digest) in read_json(checkpoint / SEAL).items() if digest is None]


def step_of(checkpoint: Path) -> int:
    """Number of updates before a `checkpoint-<step>`."""
    return int(checkpoint.name.split("-")[-1])


def find_checkpoint(work: Path) -> Path | None:
    """The latest complete `checkpoint-<step>` in `work`, or None."""
    named = [path for path in work.glob("checkpoint-*") if path.name.split("-")[-1].isdigit()]
    for path in sorted(named, key=step_of, reverse=True):
        if is_complete(path):
            return path
    return None


def remove_torn(work: Path) -> None:
    """Delete the checkpoints of `work` that are not complete."""
    for path in work.glob("checkpoint-*"):
        if not is_complete(path):
            logger.warning("%s is incomplete or damaged; it is removed", path.name)
            shutil.rmtree(path)


@contextmanager
def alone_in(work: Path) -> Iterator[None]:
    """Lock a work folder, which need not exist; wait while another process has it.

    The lock is a file beside the folder, removed at the end. A file system without `flock` has no
    lock.

    Raises:
        ValueError: in the place of the lock is a link, or no plain file.
    """
    path = work.with_name(f"{work.name}.flock")
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with open_lock(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.info("another job trains the same model; this one waits for it")
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
                continue  # the last holder removed this file; a third process may have a new one
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return
