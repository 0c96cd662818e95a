"""Raw files of a task: their origin, their pins (sha256 or commit), and their download.

A source entry of the config is one of

- `{path}`: a local file, which is read in place;
- `{url, sha256}`: a file on a server (http, https or file);
- `{hub, revision, file[, sha256]}`: a file of a Hugging Face data set at one commit.
"""

from __future__ import annotations

import http.client
import logging
import re
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from weak_to_strong.jobs.secret_values import hide_secrets
from weak_to_strong.tables.files import hash_file, publish

logger = logging.getLogger("weak_to_strong")

SPLITS = ("train_1", "train_2", "validation", "test")
#: Kind of entry -> keys that it must have, and keys that it may have.
SOURCE_KINDS = {
    "path": (("path",), ()),
    "url": (("url", "sha256"), ()),
    "hub": (("hub", "revision", "file"), ("sha256",)),
}
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
#: Names of query parameters that give access. Addresses with them are refused, because addresses
#: are written into results, logs and records.
SECRET_PARAMETER = re.compile(r"token|secret|signature|credential|passw|auth|key|\Asig\Z", re.I)
TIMEOUT_SECONDS = 60
OFFLINE_FIX = "where there is no network, fetch the file elsewhere and name it by `path`"


def source_entries(settings: Mapping[str, Any]) -> list[tuple[str, dict]]:
    """The raw files that a task reads, as (split or "pool", source entry), in a fixed order.

    A split names one entry or a list of them. Sizes and `{from, count}` need no file.

    Args:
        settings: the task's config.
    """
    named = {**settings.get("splits", {}), "pool": settings.get("pool")}
    named_entries = []
    for split in (*SPLITS, "pool"):
        entries = named.get(split)
        for entry in entries if isinstance(entries, list) else [entries]:
            if isinstance(entry, Mapping) and "from" not in entry:
                named_entries.append((split, dict(entry)))
    return named_entries


def check_source(entry: Mapping[str, Any], key: str) -> str:
    """Check a source entry, and return its kind: "path", "url" or "hub".

    Args:
        entry: the source entry.
        key: its config key, for messages.

    Raises:
        ValueError: unknown or missing keys, an address that cannot be fetched or gives access, or
            a pin that is not complete.
    """
    kinds = [kind for kind in SOURCE_KINDS if kind in entry]
    if len(kinds) != 1:
        raise ValueError(f"{key}: give exactly one of `path`, `url` or `hub`; got {sorted(entry)}")
    kind = kinds[0]
    required, optional = SOURCE_KINDS[kind]
    if unknown := sorted(set(entry) - {*required, *optional}):
        raise ValueError(f"{key}: unknown keys {unknown} beside `{kind}`")
    if missing := [name for name in required if not entry.get(name)]:
        raise ValueError(f"{key}: `{kind}` needs `{missing[0]}`, so that the data cannot change")
    if "sha256" in entry and not SHA256.fullmatch(entry["sha256"]):
        raise ValueError(f"{key}.sha256: not 64 lower-case hexadecimal digits")
    if kind == "url":
        _check_address(entry["url"], key)
    if kind == "hub":
        if not COMMIT.fullmatch(entry["revision"]):
            raise ValueError(
                f"{key}.revision: {entry['revision']!r} is not a full commit of 40 lower-case "
                "hexadecimal digits (branches and tags move)"
            )
        name = PurePosixPath(entry["file"])
        if name.is_absolute() or ".." in name.parts:
            raise ValueError(f"{key}.file: {entry['file']!r} is not a path inside the data set")
    return kind


def _check_address(address: str, key: str) -> None:
    """Refuse an address that cannot be fetched, or that gives access to everyone who reads it."""
    try:
        parts = urlsplit(address)
        secret = "a user or password" if "@" in parts.netloc else None
    except ValueError as error:
        raise ValueError(f"{key}.url: no address ({error}); correct it") from error
    if parts.scheme not in ("http", "https", "file"):
        raise ValueError(f"{key}.url: neither http, https nor file")
    for name, _ in parse_qsl(parts.query, keep_blank_values=True):
        if SECRET_PARAMETER.search(name):
            secret = f"`{name}`"
    if secret:
        raise ValueError(
            f"{key}.url: holds {secret}, and the address is written into the results; fetch the "
            "file yourself and name it by `path`"
        )


def remote_name(entry: Mapping[str, Any]) -> str:
    """File name of a `url` or `hub` source, without the query of an address."""
    path = entry["file"] if "file" in entry else unquote(urlsplit(entry["url"]).path)
    return PurePosixPath(path).name or "data"


def fetch_source(entry: Mapping[str, Any], destination: str | Path, key: str = "source") -> None:
    """Download a `url` or `hub` source to `destination`.

    The file appears only when it is complete and has the pinned sha256.

    Raises:
        ValueError: `check_source` refuses the entry, the file does not exist, there is no network,
            or the contents differ from the pin. `destination` is then unchanged.
    """
    kind = check_source(entry, key)
    if kind == "path":
        raise ValueError(f"{key}: {entry['path']} is a local file and is not fetched")
    with publish(destination) as part:
        if kind == "url":
            _download(entry["url"], part, key)
        else:
            _download_from_hub(entry, part, key)
        expected, actual = entry.get("sha256"), hash_file(part)
        if expected and actual != expected:
            raise ValueError(
                f"{key}.sha256: the fetched file has {actual}, expected {expected}; it was "
                "changed or damaged, compare it with the one you meant"
            )
        logger.info("fetched %s (%d bytes)", Path(destination).name, part.stat().st_size)


def _download(url: str, part: Path, key: str) -> None:
    parts = urlsplit(url)
    # The address may hold a user, a password or a token, which must not reach a log.
    safe_address = parts._replace(netloc=parts.hostname or "", query="", fragment="").geturl()
    try:
        with (
            urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer,
            part.open("wb") as file,
        ):
            shutil.copyfileobj(answer, file)
    except urllib.error.HTTPError as error:
        raise ValueError(
            f"{key}.url: the server answers {error.code} for {safe_address}"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise ValueError(
            f"{key}.url: cannot fetch {safe_address} ({reason}); {OFFLINE_FIX}"
        ) from error


def _download_from_hub(entry: Mapping[str, Any], part: Path, key: str) -> None:
    from huggingface_hub import hf_hub_download

    with tempfile.TemporaryDirectory(prefix=".hub-", dir=part.parent) as folder:
        try:
            downloaded = hf_hub_download(
                entry["hub"],
                entry["file"],
                repo_type="dataset",
                revision=entry["revision"],
                local_dir=folder,
            )
        except Exception as error:
            reason = explain_hub_error(error, entry["hub"], entry["revision"])
            if reason is None:
                raise
            raise ValueError(f"{key}: {entry['file']}: {reason}") from error
        shutil.copyfile(downloaded, part)


def explain_hub_error(error: Exception, name: str, revision: str) -> str | None:
    """One line that says why the Hub did not give a repository; None for errors of other kinds."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return f"{name} is gated: accept its terms on the Hub, then `hf auth login` or set HF_TOKEN"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{name} has no revision {revision}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{name} is not on the Hub, or is private and HF_TOKEN is not set"
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"no such file in {name} at {revision}"
    if isinstance(error, errors.HFValidationError):
        return f"{name!r} is not a name that the Hub can have"
    # OSError includes offline mode and a full disk.
    if isinstance(error, (errors.HTTPError, OSError)):
        detail = hide_secrets(" ".join(str(error).split()))[:200]
        return f"cannot fetch {name} from the Hub ({detail}); {OFFLINE_FIX}"
    return None
