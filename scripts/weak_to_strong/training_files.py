"""Checkpoints that are whole or ignored, and folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from weak_to_strong.logs import logger
from weak_to_strong.tables import hash_file, read_json, write_json

#: Written last into a checkpoint: the size in bytes of each of its files.
SEAL = "complete.json"


def list_files(folder: Path) -> list[str]:
    """Names of all files below `folder`, relative and sorted."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def hash_files(folder: Path) -> dict[str, str]:
    """sha256 (hex) of each file below `folder`, by relative name."""
    return {name: hash_file(folder / name) for name in list_files(folder)}


def sync_files(folder: Path) -> None:
    """Force the files below `folder`, and their folders, to disk."""
    for path in (folder, *folder.rglob("*")):
        _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def seal_checkpoint(checkpoint: Path) -> None:
    """Declare a checkpoint complete, once all of its files are on disk."""
    sync_files(checkpoint)
    sizes = {name: (checkpoint / name).stat().st_size for name in list_files(checkpoint)}
    write_json(sizes, checkpoint / SEAL)


def is_complete(checkpoint: Path) -> bool:
    """Whether a checkpoint was sealed and still has every sealed file at its full size."""
    try:
        sizes = read_json(checkpoint / SEAL)
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def find_checkpoint(work: Path) -> Path | None:
    """The latest complete `checkpoint-<step>` in `work`; torn ones are passed over."""
    found = [path for path in work.glob("checkpoint-*") if path.name.split("-")[-1].isdigit()]
    for path in sorted(found, key=lambda path: int(path.name.split("-")[-1]), reverse=True):
        if is_complete(path):
            return path
        logger.warning("%s is incomplete: not resumed from", path.name)
    return None


def remove_torn(work: Path) -> None:
    """Delete the checkpoints of `work` that are not complete."""
    for path in work.glob("checkpoint-*"):
        if not is_complete(path):
            shutil.rmtree(path)


@contextmanager
def publish_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling folder; on success sync it and rename it to `path`.

    A failed writer leaves `path` as it was; a former folder at `path` is replaced.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        part.chmod(0o755)
        yield part
        sync_files(part)
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
            path.replace(old)
            part.replace(path)
            shutil.rmtree(old)
        else:
            part.replace(path)
        _sync(path.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)
