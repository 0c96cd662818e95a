"""Manifests: the files that a model consists of, with their sha256."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from weak_to_strong.tables.files import AGAIN, hash_file, read_json

#: Suffixes of files with weights.
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")


def list_files(folder: Path) -> list[str]:
    """Names of all files below `folder`, relative and sorted."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def hash_files(folder: Path) -> dict[str, str]:
    """sha256 (hex) of each file below `folder`, by relative name."""
    return {name: hash_file(folder / name) for name in list_files(folder)}


def read_manifest(path: str | Path, *keys: str) -> dict[str, Any]:
    """Read a manifest and check that all files of its model exist.

    Args:
        path: path of the manifest.
        keys: keys that it must have beside `path` and `files`.

    Raises:
        ValueError: it is damaged, or a file is missing; names both and the remedy.
    """
    manifest = read_json(path)
    try:
        for key in keys:
            manifest[key]
        if outside := [name for name in manifest["files"] if not _is_inside(name)]:
            raise TypeError(f"the file {outside[0]!r} is not in the model's folder")
        missing = [name for name in manifest["files"] if not Path(manifest["path"], name).is_file()]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a model manifest ({error}); {AGAIN}") from error
    if missing:
        source = manifest.get("source")
        is_of_the_user = isinstance(source, dict) and "path" in source
        remedy = "put the model back there" if is_of_the_user else "delete the manifest"
        raise ValueError(f"{path}: {manifest['path']} lacks {missing[0]}; {remedy} and run again")
    return manifest


def _is_inside(name: Any) -> bool:
    """Whether a file's name leads to a place in the model's folder."""
    return not Path(name).is_absolute() and ".." not in Path(name).parts


def check_files(manifest: str | Path, names: Sequence[str] | None = None) -> None:
    """Check the contents of a model's files against their sha256 in its manifest.

    All files are checked at each use of the model. Weights are read in full anyway, files are
    hashed side by side (a gigabyte takes a core one to two seconds), and a wrong model costs more.

    Args:
        manifest: path of the manifest.
        names: names of the files to check; None for all.

    Raises:
        ValueError: a file has other contents; or, where all are checked, the folder of a trained
            model has other weights too. Names the file and the remedy.
    """
    model = read_manifest(manifest)
    folder = Path(model["path"])
    trained = f"delete {manifest} and run again to train it anew"
    # A model from elsewhere may have further weights. No library sees them (`view.model_view`).
    if "training" in model and names is None:
        weights = {path.name for path in folder.iterdir() if path.suffix in WEIGHTS}
        foreign = {name for name in weights - set(model["files"]) if not name.startswith(".")}
        if foreign:
            raise ValueError(
                f"{folder / min(foreign)}: weights that {manifest} does not name; move the file "
                "elsewhere, and run again"
            )
    chosen = [name for name in model["files"] if names is None or name in names]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        digests = pool.map(lambda name: hash_file(folder / name), chosen)
        wrong = [
            name
            for name, digest in zip(chosen, digests, strict=True)
            if digest != model["files"][name]
        ]
    if wrong:
        brought = f"put the right file there, or delete {manifest} if the change is meant"
        raise ValueError(
            f"{folder / wrong[0]}: is damaged or was changed (its sha256 is not the one in "
            f"{manifest}); {trained if 'training' in model else brought}"
        )
