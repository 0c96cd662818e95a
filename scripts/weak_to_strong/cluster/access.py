"""Can the models and raw files of a configuration be had from here? Nothing is downloaded."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from weak_to_strong.cluster.machine_checks import MEND, OK, REMARK, Finding
from weak_to_strong.data.sources import OFFLINE_FIX, explain_hub_error, source_entries
from weak_to_strong.experiment.graph import Graph
from weak_to_strong.experiment.raw_files import RawFiles
from weak_to_strong.jobs.secret_values import hide_secrets

#: Seconds that a server has for its answer.
ANSWER_SECONDS = 10.0


def access_checks(graph: Graph) -> dict[str, Callable[[], Finding]]:
    """A check by config key of each model and each raw file that the chains use.

    Args:
        graph: of a checked configuration. The files of its local models are there.
    """
    checks: dict[str, Callable[[], Finding]] = {}
    for name in sorted({name for chain in graph.chains for name in (chain.weak, chain.strong)}):
        key, entry = f"models.{name}", graph.config["models"][name]
        manifest = graph.base_manifest(name)
        if "hub" in entry and not Path(manifest).is_file():
            checks[key] = partial(ask_hub, key, entry, "config.json", "model")
        elif "hub" in entry:
            checks[key] = partial(Finding, key, OK, f"{entry['hub']} is downloaded")
        else:
            place = entry.get("path") or entry.get("gguf_package")
            state, words = (OK, f"{place} is here") if place else (REMARK, "is not asked for")
            checks[key] = partial(Finding, key, state, words)
    files = RawFiles(graph)
    for task in sorted({chain.task for chain in graph.chains}):
        entries = source_entries(files.data_settings(task))
        for (split, entry), file in zip(entries, files.sources(task), strict=True):
            key = f"tasks.{task}.{'' if split == 'pool' else 'splits.'}{split}"
            while key in checks:
                key += "'"  # a split of several files
            checks[key] = partial(_source_access, key, entry, Path(file))
    return checks


def _source_access(key: str, entry: Mapping[str, Any], file: Path) -> Finding:
    if file.is_file():
        return Finding(key, OK, f"{file} is here")
    if "hub" in entry:
        return ask_hub(key, entry, entry["file"], "dataset")
    if "url" in entry:
        return ask_server(key, entry["url"])
    return Finding(key, MEND, f"there is no file {file}", "put it there, or correct the path")


def ask_hub(key: str, entry: Mapping[str, Any], file: str, kind: str) -> Finding:
    """Ask the Hub for a file at the pinned commit, as a download would, and not for its content.

    Args:
        key: config key of the entry.
        entry: has `hub`, and `revision` or null. Then the finding has the present commit.
        file: path in the repository.
        kind: "model" or "dataset".
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    name, revision = entry["hub"], entry.get("revision")
    address = hf_hub_url(name, file, repo_type=kind, revision=revision or "main")
    try:
        found = get_hf_file_metadata(address, timeout=ANSWER_SECONDS)
    except Exception as error:
        reason = explain_hub_error(error, name, revision or "main")
        if reason is None:
            reason = f"{name}: {hide_secrets(' '.join(str(error).split()))[:200]}"
        fix = "" if ";" in reason or ": accept" in reason else f"correct `{key}`, or set HF_TOKEN"
        return Finding(key, MEND, reason, fix)
    if revision is None:
        fix = f"set `{key}.revision` to {found.commit_hash}"
        return Finding(key, MEND, f"{name} can be had, and is not pinned", fix)
    return Finding(key, OK, f"{name} can be had")


def ask_server(key: str, url: str) -> Finding:
    """Ask a server for a file, and close the connection at its first byte."""
    parts = urlsplit(url)
    shown = parts._replace(netloc=parts.hostname or "", query="", fragment="").geturl()
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:
            answer.read(1)
    except urllib.error.HTTPError as error:
        return Finding(
            key, MEND, f"the server answers {error.code} for {shown}", f"correct `{key}`"
        )
    except (OSError, http.client.HTTPException) as error:
        reason = hide_secrets(str(getattr(error, "reason", error)))
        return Finding(key, MEND, f"cannot fetch {shown} ({reason})", OFFLINE_FIX)
    return Finding(key, OK, f"{shown} can be had")
