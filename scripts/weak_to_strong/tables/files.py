"""Files and folders that appear whole or not at all; JSON; hashes."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl

#: What `publish` and `training_files.publish_folder` write or set aside, by the name of its target.
_UNPUBLISHED = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.(?:part|old)")

#: How a damaged file is made anew.
AGAIN = "delete the file and run again"


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some file systems of servers cannot do that to a folder.
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(handle)


def published_name(path: Path) -> str | None:
    """What an unpublished file or folder was to be called; None for any other."""
    found = _UNPUBLISHED.fullmatch(path.name)
    return found and found[1]


def mark_writer(handle: int) -> None:
    """Show others that what is open under `handle` has a writer, see `has_writer`."""
    with suppress(OSError):  # no locks on this file system
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def has_writer(path: Path) -> bool | None:
    """Whether a living process is at work on something unpublished; None where nothing shows it.

    The kernel takes the lock of `mark_writer` from a process that ends, however it does.
    """
    try:
        # Over NFS only what is open for writing can be locked; folders cannot.
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(handle)
    return False


def list_unpublished(path: Path) -> list[Path]:
    """What stands beside `path` to be renamed to it: a living writer's, or left by a killed one."""
    return [each for each in path.parent.iterdir() if published_name(each) == path.name]


@contextmanager
def publish(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success fsync it and rename it there.

    A killed or failed writer leaves the final path as it was. What a killed one left beside it goes
    with the next; a living one, as another run in the store of requests, is not disturbed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in list_unpublished(path):
        if has_writer(left) is False:
            left.unlink(missing_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    mark_writer(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)
        sync(part)
        part.replace(path)
        sync(path.parent)
    finally:
        os.close(handle)
        part.unlink(missing_ok=True)


def write_json(value: Any, path: str | Path) -> None:
    """Write `value` as indented JSON with sorted keys, atomically."""
    with publish(path) as part:
        part.write_text(
            json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def json_text(text: pl.Expr) -> pl.Expr:
    """Strings as `write_json` writes them."""
    return pl.struct(text.alias("_")).struct.json_encode().str.slice(len('{"_":')).str.head(-1)


def write_json_rows(batches: Iterable[pl.Series], path: str | Path) -> None:
    """What `write_json` makes of all rows in one list, with one batch of them in memory at once.

    Args:
        batches: columns of rows as they stand in that list, each ending with its brace.
        path: the file.
    """
    with publish(path) as part, part.open("w", encoding="utf-8") as file:
        before = "[\n"
        for batch in batches:
            for row in batch:
                file.write(before + row)
                before = ",\n"
        file.write("\n]\n" if before == ",\n" else "[]\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file; a broken one raises ValueError naming the file."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable JSON file ({error}); {AGAIN}") from error


def hash_value(value: Any) -> str:
    """sha256 (hex) of a JSON-like value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_file(path: str | Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_files(folder: Path) -> None:
    """Force the files below `folder`, and their folders, to disk."""
    for path in (folder, *folder.rglob("*")):
        sync(path)


@contextmanager
def publish_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling folder; on success sync it and rename it to `path`.

    A failed writer leaves `path` as it was; a former folder at `path` is replaced. What a killed
    one left beside it is removed first: two models have room where three may not. Each folder has
    one writer at a time (see `alone_in`), so where nothing shows one there is none.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in list_unpublished(path):
        if not has_writer(left):
            shutil.rmtree(left, ignore_errors=True)
    part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    handle = os.open(part, os.O_RDONLY)
    mark_writer(handle)
    try:
        part.chmod(0o755)
        yield part
        sync_files(part)
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
            path.replace(old)
            part.replace(path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            part.replace(path)
        sync(path.parent)
    finally:
        os.close(handle)
        shutil.rmtree(part, ignore_errors=True)
