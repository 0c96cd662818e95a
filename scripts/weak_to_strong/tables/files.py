"""Files and folders that appear whole or not at all; JSON; hashes."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl

#: Temporary names of `publish` and `publish_folder`: `.<target>.<8 characters>.part` or `.old`.
_UNPUBLISHED = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.(?:part|old)")

#: What Git leaves in the place of a large file where Git LFS is not installed begins so.
LFS_POINTER = b"version https://git-lfs"
#: End of a message on a damaged file.
AGAIN = "delete the file and run again"


def with_folder(path: str | Path) -> str:
    """A path for a message: a relative one with the folder in which it was looked for."""
    return str(path) if os.path.isabs(path) else f"{path} (in {os.getcwd()})"


def sync(path: Path) -> None:
    """Force a file, or the list of names of a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot sync a folder.
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(handle)


def apply_umask(path: Path) -> None:
    """Give a file or folder the permissions that the user's umask gives to a new one.

    Temporary files are private, and safetensors makes its files so. A folder keeps its set-group-ID
    bit: with it, the files of a shared project belong to the project's group.
    """
    everything, kept = 0o666, 0
    if path.is_dir():
        everything, kept = 0o777, path.stat().st_mode & stat.S_ISGID
    path.chmod(everything & ~_read_umask() | kept)


def apply_umask_below(folder: Path) -> None:
    """Do so for everything in a folder; what links lead to stays as it is."""
    for path in folder.rglob("*"):
        if not path.is_symlink():
            apply_umask(path)


def _read_umask() -> int:
    """The umask of this process; 0o022 on a system that does not show it.

    `os.umask` can only read it by setting it, which other threads would notice.
    """
    with suppress(OSError, AttributeError):
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(re.search(r"^Umask:\s*([0-7]+)$", status, re.MULTILINE)[1], 8)
    return 0o022


def published_name(path: Path) -> str | None:
    """Name under which an unfinished file or folder would be published; None for other paths."""
    match = _UNPUBLISHED.fullmatch(path.name)
    return match and match[1]


def mark_writer(handle: int) -> None:
    """Lock the open file or folder, so that `has_writer` sees its writer."""
    with suppress(OSError):  # some file systems have no locks
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def has_writer(path: Path) -> bool | None:
    """Whether a running process writes an unfinished file or folder; None where it is unknown.

    The kernel releases the lock of `mark_writer` when its process ends, in whatever way.
    """
    try:
        # NFS locks only files that are open for writing, and no folders.
        access = os.O_RDONLY if path.is_dir() else os.O_RDWR
        handle = os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK)
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
    """Unfinished files or folders for `path` beside it, of running and of killed writers."""
    return [entry for entry in path.parent.iterdir() if published_name(entry) == path.name]


@contextmanager
def publish(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success sync it and rename it to `path`.

    The file has the permissions of the user's umask. A killed or failed writer leaves `path`
    unchanged. The next writer removes the temporary files of killed ones. Those of running writers
    stay: another run may write to the same store.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for unfinished in list_unpublished(path):
        if has_writer(unfinished) is False:
            unfinished.unlink(missing_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    mark_writer(handle)
    part = Path(name)
    try:
        yield part
        apply_umask(part)
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
    """A column of strings as JSON strings, in the form that `write_json` gives them."""
    return pl.struct(text.alias("_")).struct.json_encode().str.slice(len('{"_":')).str.head(-1)


def write_json_rows(batches: Iterable[pl.Series], path: str | Path) -> None:
    """Write rows as a JSON list, in the form of `write_json`, with one batch in memory at a time.

    Args:
        batches: columns of rows. A row is its JSON text, indented by two spaces.
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
    """Read a JSON file.

    Raises:
        ValueError: it cannot be read or is not JSON; names the file.
    """
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
    """Yield a temporary folder beside `path`; on success sync it and rename it to `path`.

    The folder and its files have the permissions of the user's umask. A folder that is already at
    `path` is replaced. A failed writer leaves `path` unchanged. Folders of killed writers are
    removed first, because the disk may not have room for a third model. Where locks do not show
    whether a folder has a writer, it has none: each folder has one writer at a time
    (`training.checkpoints.alone_in`).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for unfinished in list_unpublished(path):
        if not has_writer(unfinished):
            shutil.rmtree(unfinished, ignore_errors=True)
    part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    handle = os.open(part, os.O_RDONLY)
    mark_writer(handle)
    try:
        apply_umask(part)
        yield part
        apply_umask_below(part)
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
