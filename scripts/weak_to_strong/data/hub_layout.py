"""Data sets in the layout of the Hugging Face Hub: which files are a split of a configuration.

A data set is a folder of data files. The head of its README.md may say which files belong to which
configuration and split; else the names of the files say it. The library `datasets` reads both, for
local folders and for repositories. No code of a data set runs: `datasets` has no loading scripts
any more. The files are then read as all raw files are (`readers.read_rows`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any

from weak_to_strong.data.hub_errors import explain_hub_error
from weak_to_strong.data.readers import check_suffix, read_rows

logger = logging.getLogger("weak_to_strong")

#: Files of a data set that describe its configurations.
CARD_FILES = ("README.md", ".huggingface.yaml", "dataset_infos.json")
#: A part of a split: `train-00000-of-00002.parquet`.
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<ending>\.[^/]+)")
#: Most names in a message.
_SHOWN = 12


def find_split_files(folder: str | Path, config: str | None, split: str) -> tuple[list[str], int]:
    """Files of one split of a data set, and the number of rows that its card names.

    Args:
        folder: the data set.
        config: its configuration; None for the only one, or the one called default.
        split: its split.

    Returns:
        Names relative to `folder`, in the order of the split. The number is 0 where the card names
        none.

    Raises:
        ValueError: "message; fix": no data, several configurations and none chosen, an unknown
            configuration or split, a part that is missing, or a file that cannot be read.
    """
    with _quiet_library() as datasets, tempfile.TemporaryDirectory() as cache:
        path = Path(folder).resolve()
        try:
            configs = datasets.get_dataset_config_names(str(path))
            default = datasets.get_dataset_default_config_name(str(path))
        except Exception as error:
            reason = " ".join(str(error).replace(str(path), str(folder)).split())[:300]
            raise ValueError(
                f"is no data set in the layout of the Hub ({reason}); complete it, with README.md "
                "and data files such as `data/train-00000-of-00001.parquet`"
            ) from error
        if config is None and default is None:
            raise ValueError(f"has several configurations; set `config` to one of {_list(configs)}")
        if config is not None and config not in configs:
            raise ValueError(f"has no configuration `{config}`; it has {_list(configs)}")
        try:
            builder = datasets.load_dataset_builder(
                str(path), name=config or default, cache_dir=cache
            )
            files = {str(name): paths for name, paths in builder.config.data_files.items()}
        except Exception as error:
            reason = " ".join(str(error).replace(str(path), str(folder)).split())[:300]
            raise ValueError(
                f"its configuration `{config or default}` names files that are not there "
                f"({reason}); complete the copy"
            ) from error
        rows = {name: info.num_examples or 0 for name, info in (builder.info.splits or {}).items()}
    if not files.get(split):
        there = _list(sorted(name for name, paths in files.items() if paths)) or "no files"
        raise ValueError(f"has no split `{split}` of `{config or default}`; it has {there}")
    names = [str(Path(name).relative_to(path)) for name in files[split]]
    _check_parts(names)
    for name in names:
        try:
            check_suffix(PurePosixPath(name).name)
        except ValueError as error:
            message, _, fix = str(error).partition("; ")
            raise ValueError(
                f"has the file {name}: {message}; {fix}, and name it by `path`"
            ) from error
    return names, rows.get(split, 0)


def _list(names: Collection[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(list(names)[:_SHOWN]) + more


def _check_parts(names: Collection[str]) -> None:
    """Refuse a split of which a numbered part is missing."""
    for match in filter(None, map(_SHARD.fullmatch, names)):
        for number in range(int(match["count"])):
            part = f"{match['stem']}-{number:05}-of-{match['count']}{match['ending']}"
            if part not in names:
                raise ValueError(f"lacks the file {part}; complete the copy")


@contextlib.contextmanager
def _quiet_library() -> Iterator[Any]:
    """`datasets`, which shows no progress meanwhile."""
    import datasets

    shown = datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield datasets
    finally:
        if not shown:
            datasets.enable_progress_bars()


def find_hub_files(entry: Mapping[str, Any]) -> tuple[list[str], int]:
    """`find_split_files` of a split on the Hub, without its data.

    Args:
        entry: a source with `hub`, `revision`, `split` and perhaps `config`.

    Raises:
        ValueError: as for `find_split_files`.
        OSError: or another error of huggingface_hub: the repository cannot be reached.
    """
    names = _list_repository(entry)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, PurePosixPath(entry["hub"]).name)
        for name in names:
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
            if name in CARD_FILES:
                with hub_file(entry, name, folder) as path:
                    shutil.copyfile(path, target)
        root.mkdir(exist_ok=True)
        return find_split_files(root, entry.get("config"), entry["split"])


def _list_repository(entry: Mapping[str, Any]) -> list[str]:
    """Names of the files of a repository: from the cache of huggingface_hub, or from the Hub.

    Older versions of the library keep no list of files. Where the Hub gives none either, the files
    in the cache count, with a warning: there may be fewer than in the repository.
    """
    from huggingface_hub import HfApi, get_cached_repo_tree, snapshot_download
    from huggingface_hub.errors import (
        CachedRepoTreeNotFoundError,
        HTTPError,
        LocalEntryNotFoundError,
    )

    place = {"repo_type": "dataset", "revision": entry["revision"]}
    try:
        return [file.path for file in get_cached_repo_tree(entry["hub"], **place)]
    except CachedRepoTreeNotFoundError:
        pass
    try:
        return HfApi().list_repo_files(entry["hub"], **place)
    except (HTTPError, OSError) as error:  # refused, or not reached
        try:
            folder = Path(snapshot_download(entry["hub"], **place, local_files_only=True))
        except LocalEntryNotFoundError:
            raise error from None
        reason = explain_hub_error(error, entry["hub"], entry["revision"])
        logger.warning(
            "%s: the files in the cache are taken for all there are: %s", entry["hub"], reason
        )
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def cached_file(entry: Mapping[str, Any], name: str) -> str | None:
    """Where the cache of huggingface_hub has a file of a repository; None if it has not."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(
        entry["hub"], name, repo_type="dataset", revision=entry["revision"]
    )
    return found if isinstance(found, str) else None


@contextlib.contextmanager
def hub_file(entry: Mapping[str, Any], name: str, folder: str | Path) -> Iterator[str]:
    """A file of a repository at the entry's revision: from the cache, or downloaded for a while.

    Args:
        entry: a source with `hub` and `revision`.
        name: name of the file in the repository.
        folder: where a temporary folder can be made.

    Raises:
        OSError: or another error of huggingface_hub.
    """
    from huggingface_hub import hf_hub_download

    if path := cached_file(entry, name):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix=".hub-", dir=folder) as temporary:
        yield hf_hub_download(
            entry["hub"],
            name,
            repo_type="dataset",
            revision=entry["revision"],
            local_dir=temporary,
        )


def check_hub_files(entry: Mapping[str, Any], names: Collection[str]) -> None:
    """Ask the Hub for the head of each file that the cache lacks: it says who may read it.

    Raises:
        OSError: or another error of huggingface_hub: a file is not there, or may not be read.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    for name in names:
        if not cached_file(entry, name):
            url = hf_hub_url(entry["hub"], name, repo_type="dataset", revision=entry["revision"])
            get_hf_file_metadata(url)


def write_hub_split(entry: Mapping[str, Any], part: Path) -> None:
    """Write the rows of a split on the Hub as JSON Lines.

    Raises:
        ValueError: as for `find_hub_files`; a file cannot be read, or the number of rows is not
            that of the data set's card.
        OSError: or another error of huggingface_hub.
    """
    names, expected = find_hub_files(entry)
    count = 0
    with part.open("w", encoding="utf-8") as lines:
        for name in names:
            with hub_file(entry, name, part.parent) as path:
                rows = read_rows(path)
            for row in rows:
                lines.write(json.dumps(row, ensure_ascii=False, default=_plain) + "\n")
            count += len(rows)
    if expected and count != expected:
        raise ValueError(
            f"split `{entry['split']}` has {count} rows and its card names {expected}; take "
            "another revision, or fetch the files yourself and name them by `path`"
        )


def _plain(value: Any) -> Any:
    """Of a value that JSON has no form for: a number as text, nothing of a picture or the like."""
    return str(value) if isinstance(value, Decimal) else None
