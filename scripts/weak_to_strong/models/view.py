"""A folder with exactly the files that a manifest lists, for the libraries that read a model.

Each library decides by itself which files of a folder make a model. Where `model.safetensors` has
neighbours, or an index names other shards, transformers may read one set of weights and vLLM
another. Training and generation therefore never read a model's own folder but its view: a folder of
links to the listed files and to nothing else.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from weak_to_strong.models.manifests import read_manifest
from weak_to_strong.tables.files import apply_umask, hash_value

#: Folder of the views. It may be deleted between runs (`make clean-work`).
VIEWS = Path("results/store/views")


def model_view(manifest: str | Path, views: Path = VIEWS) -> Path:
    """Make the view of a model, or find the one that is there.

    Args:
        manifest: of a base model, an adapter or trained weights.
        views: folder of all views, on a disk that all nodes of a job share.

    Returns:
        Absolute path of a folder whose files are links to the files that the manifest lists.

    Raises:
        ValueError: the manifest is damaged, or one of its files is missing; names the file.
    """
    model = read_manifest(manifest)
    folder = Path(model["path"]).resolve()
    links = {name: str(folder / name) for name in sorted(model["files"])}
    view = views.resolve() / hash_value(links)[:16]
    if _links_of(view) == links:
        return view
    views.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{view.name}.", suffix=".part", dir=views))
    apply_umask(part)
    try:
        link_files(folder, links, part)
        with suppress(OSError):  # another process may have made the same view in the meantime
            part.rename(view)
        if _links_of(view) != links:
            shutil.rmtree(view)
            part.rename(view)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return view


def link_files(folder: Path, names: Iterable[str], target: Path) -> None:
    """Fill the folder `target` with links to the named files of `folder`."""
    for name in names:
        link = target / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(folder.resolve() / name)


def _links_of(view: Path) -> dict[str, str]:
    """Target of each file below `view`; a file that is no link has the target ""."""
    files = (path for path in view.rglob("*") if path.is_symlink() or not path.is_dir())
    return {
        path.relative_to(view).as_posix(): os.readlink(path) if path.is_symlink() else ""
        for path in files
    }
