"""Checkpoints that are whole or ignored, and folders that appear whole or not at all."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from weak_to_strong.logs import logger
from weak_to_strong.tables import (
    AGAIN,
    has_writer,
    hash_file,
    list_unpublished,
    mark_writer,
    read_json,
    sync,
    write_json,
)

#: Written last into a checkpoint: size in bytes of each of its files, and sha256 of the small ones.
SEAL = "complete.json"
#: Checkpoint files up to this size have a sha256. An optimiser of a 70B model has a terabyte, which
#: to read once more after every save would cost more than a repeated training is likely to.
HASHED_BYTES = 2**30
#: Suffixes of files with weights.
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")


def list_files(folder: Path) -> list[str]:
    """Names of all files below `folder`, relative and sorted."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def hash_files(folder: Path) -> dict[str, str]:
    """sha256 (hex) of each file below `folder`, by relative name."""
    return {name: hash_file(folder / name) for name in list_files(folder)}


def read_manifest(path: str | Path, *keys: str) -> dict[str, Any]:
    """The manifest of a model whose files are all there.

    Args:
        path: of the manifest.
        keys: that it must have beside `path` and `files`.

    Raises:
        ValueError: it is damaged, or a file is missing; names both and the remedy.
    """
    manifest = read_json(path)
    try:
        for key in keys:
            manifest[key]
        missing = [name for name in manifest["files"] if not Path(manifest["path"], name).is_file()]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a model manifest ({error}); {AGAIN}") from error
    if missing:
        raise ValueError(
            f"{path}: {manifest['path']} lacks {missing[0]}; delete the manifest and run again"
        )
    return manifest


def check_files(manifest: str | Path, names: Sequence[str] | None = None) -> None:
    """Check the contents of a model's files against their sha256 in its manifest.

    All of them, at each use: weights are read in full anyway, files are hashed side by side (a
    gigabyte takes a core one to two seconds), and a wrong model costs more.

    Args:
        manifest: of the model.
        names: of the files to check; None is all.

    Raises:
        ValueError: a file has other contents; or, where all are checked, other weights lie beside
            them (engines load each safetensors file of a folder without an index). Names the file
            and the remedy.
    """
    model = read_manifest(manifest)
    folder = Path(model["path"])
    trained = f"delete {manifest} and run again to train it anew"
    # Models from elsewhere often bring pickle weights too, which are never read.
    kinds = WEIGHTS if "training" in model else WEIGHTS[:1]
    found = {path.name for path in folder.iterdir() if path.suffix in kinds}
    foreign = {name for name in found - set(model["files"]) if not name.startswith(".")}
    if names is None and foreign:
        remedy = "" if "training" in model else f", or delete {manifest} if it is part of the model"
        raise ValueError(
            f"{folder / min(foreign)}: weights that {manifest} does not name; move the file "
            f"elsewhere{remedy}, and run again"
        )
    chosen = [name for name in model["files"] if names is None or name in names]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        digests = pool.map(lambda name: hash_file(folder / name), chosen)
        wrong = [
            name
            for name, found in zip(chosen, digests, strict=True)
            if found != model["files"][name]
        ]
    if wrong:
        brought = f"put the right file there, or delete {manifest} if the change is meant"
        raise ValueError(
            f"{folder / wrong[0]}: is damaged or was changed (its sha256 is not the one in "
            f"{manifest}); {trained if 'training' in model else brought}"
        )


def sync_files(folder: Path) -> None:
    """Force the files below `folder`, and their folders, to disk."""
    for path in (folder, *folder.rglob("*")):
        sync(path)


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
