"""Files that an experiment starts from: raw data, and base models of local folders.

Their digests are parameters of the rules that read them. Snakemake compares contents only where an
input is younger than its output. A digest shows a change even where the clock was set back, or a
copied file kept its time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from weak_to_strong.data.hub_layout import find_split_files
from weak_to_strong.data.sources import remote_name, source_entries
from weak_to_strong.data.split_names import split_key
from weak_to_strong.data.splits import narrow_settings
from weak_to_strong.experiment.graph import Graph
from weak_to_strong.models.model_files import model_files
from weak_to_strong.tables.files import hash_file, hash_value

#: Larger files (bytes) are compared by time only, as in the profile.
_SMALL = 100_000_000

_hash_once = cache(hash_file)


def digest_small(paths: Iterable[str]) -> dict[str, str]:
    """sha256 by path of the files that exist and are small."""
    small = (path for path in paths if Path(path).is_file() and Path(path).stat().st_size <= _SMALL)
    return {path: _hash_once(path) for path in small}


def _name_files(entry: Any) -> Any:
    """An entry of a split, with each split of a local data set as its files."""
    if isinstance(entry, list):
        parts = [_name_files(part) for part in entry]
        return [file for part in parts for file in (part if isinstance(part, list) else [part])]
    if not (isinstance(entry, Mapping) and {"path", "split"} <= entry.keys()):
        return entry
    names, _ = find_split_files(entry["path"], entry.get("config"), entry["split"])
    return [{"path": str(Path(entry["path"], name))} for name in names]


class RawFiles:
    """Raw files of an experiment's tasks and models."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._settings: dict[str, dict[str, Any]] = {}

    def data_settings(self, task: str, split: str | None = None) -> dict[str, Any]:
        """What decides a task's tables, or one split of it.

        A split of a local data set stands there as the files that it consists of.
        """
        if task not in self._settings:
            data = dict(self._graph.task(task).data)
            data["splits"] = {name: _name_files(entry) for name, entry in data["splits"].items()}
            if "pool" in data:
                data["pool"] = _name_files(data["pool"])
            self._settings[task] = data
        settings = self._settings[task]
        return narrow_settings(settings, split) if split else dict(settings)

    def _entries(self, task: str, split: str | None = None) -> list[dict[str, Any]]:
        return [entry for _, entry in source_entries(self.data_settings(task, split))]

    def _file(self, task: str, entry: dict[str, Any]) -> str:
        """Where a raw file lies: as given, or where `fetch_source` puts it."""
        if "path" in entry:
            return entry["path"]
        name = f"{hash_value(entry)[:12]}-{remote_name(entry)}"
        return self._graph.paths.source.format(task=task, name=name)

    def sources(self, task: str, split: str | None = None) -> list[str]:
        """Raw files of a task, or of one split."""
        return [self._file(task, entry) for entry in self._entries(task, split)]

    def local_digests(self, task: str, split: str | None = None) -> dict[str, str]:
        """Digests of a task's local raw files."""
        entries = self._entries(task, split)
        return digest_small(entry["path"] for entry in entries if "path" in entry)

    def remote_key(self, task: str, name: str) -> tuple[str, dict[str, Any]]:
        """The config key, and the pinned entry, of a file that `fetch_source` brings.

        Raises:
            KeyError: the task has no such file.
        """
        remote = {}
        for split, entry in source_entries(self.data_settings(task)):
            place = "pool" if split == "pool" else f"splits.{split_key(split)}"
            remote[self._file(task, entry)] = f"tasks.{task}.{place}", entry
        return remote[self._graph.paths.source.format(task=task, name=name)]

    def remote_entry(self, task: str, name: str) -> dict[str, Any]:
        """The pinned entry of a file that `fetch_source` brings.

        Raises:
            KeyError: the task has no such file.
        """
        return self.remote_key(task, name)[1]

    def base_files(self, base: str) -> list[str]:
        """Files that make a local base model, sorted; none for a model that is fetched."""
        entry = self._graph.experiment.base_entry(base)
        if "path" not in entry:
            return []
        trusted = entry.get("trust_remote_code") is True
        names = model_files(Path(entry["path"]), f"models.{base}", trust_remote_code=trusted)
        return [str(Path(entry["path"], name)) for name in names]
