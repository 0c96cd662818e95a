"""Raw files of a task: their origin, their pins (sha256 or commit), and their download.

A source entry of the config is one of

- `{path}`: a local file, which is read in place;
- `{path[, config], split}`: a split of a local folder in the layout of the Hub (`hub_layout`);
- `{url, sha256}`: a file on a server (http, https or file);
- `{hub, revision, file[, sha256]}`: a file of a Hugging Face data set at one commit;
- `{hub, revision[, config], split}`: a split of such a data set, as `load_dataset` names it.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from weak_to_strong.data.hub_errors import COMMIT, OFFLINE_FIX, explain_hub_error
from weak_to_strong.data.hub_layout import (
    check_hub_files,
    find_hub_files,
    hub_file,
    write_hub_split,
)
from weak_to_strong.data.split_names import list_splits
from weak_to_strong.tables.files import hash_file, publish

logger = logging.getLogger("weak_to_strong")

#: Kind of entry -> keys that it must have, and keys that it may have.
SOURCE_KINDS = {
    "path": (("path",), ("config", "split")),
    "url": (("url", "sha256"), ()),
    "hub": (("hub", "revision"), ("file", "sha256", "config", "split")),
}
SHA256 = re.compile(r"[0-9a-f]{64}")
#: Names of query parameters that give access. Addresses with them are refused, because addresses
#: are written into results, logs and records.
SECRET_PARAMETER = re.compile(r"token|secret|signature|credential|passw|auth|key|\Asig\Z", re.I)
TIMEOUT_SECONDS = 60


def source_entries(settings: Mapping[str, Any]) -> list[tuple[str, dict]]:
    """The raw files that a task reads, as (split or "pool", source entry), in a fixed order.

    A split names one entry or a list of them. Sizes and `{from, count}` need no file.

    Args:
        settings: the task's config, its splits as `flatten_splits` gives them.
    """
    splits = settings.get("splits", {})
    named = {**splits, "pool": settings.get("pool")}
    named_entries = []
    for split in (*list_splits(splits), "pool"):
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
        given = " and ".join(f"`{kind}`" for kind in kinds) or "none of them"
        raise ValueError(f"{key}: has {given}; give exactly one of `path`, `url` or `hub`")
    kind = kinds[0]
    required, optional = SOURCE_KINDS[kind]
    if unknown := sorted(set(entry) - {*required, *optional}):
        names = ", ".join(f"`{name}`" for name in unknown)
        raise ValueError(f"{key}: has {names}, and `{kind}` has no such key; remove it")
    if missing := [name for name in required if not entry.get(name)]:
        if missing[0] == kind:
            raise ValueError(f"{key}.{kind}: is empty; write where the file is")
        raise ValueError(
            f"{key}.{missing[0]}: is missing; add it beside `{kind}`, so that the data cannot "
            "change"
        )
    if "config" in entry and "split" not in entry:
        raise ValueError(f"{key}.config: needs `split` beside it; name the split")
    if kind == "hub":
        if ("file" in entry) == ("split" in entry):
            raise ValueError(f"{key}: `hub` needs one of `file` and `split`; give either")
        if "sha256" in entry and "split" in entry:
            raise ValueError(f"{key}.sha256: is of a `file`; remove it, `revision` pins a `split`")
    if "sha256" in entry and not SHA256.fullmatch(entry["sha256"]):
        raise ValueError(
            f"{key}.sha256: not 64 lower-case hexadecimal digits; write what `sha256sum` prints"
        )
    if kind == "url":
        _check_address(entry["url"], key)
    if kind == "hub":
        if not COMMIT.fullmatch(entry["revision"]):
            raise ValueError(
                f"{key}.revision: {entry['revision']!r} is not a full commit of 40 lower-case "
                "hexadecimal digits (branches and tags move); write the commit"
            )
        name = PurePosixPath(entry.get("file", ""))
        if name.is_absolute() or ".." in name.parts:
            raise ValueError(
                f"{key}.file: {entry['file']!r} is not a path inside the data set; write it as the "
                "data set's page shows it"
            )
    return kind


def _check_address(address: str, key: str) -> None:
    """Refuse an address that cannot be fetched, or that gives access to everyone who reads it."""
    try:
        parts = urlsplit(address)
        secret = "a user or password" if "@" in parts.netloc else None
    except ValueError as error:
        raise ValueError(f"{key}.url: no address ({error}); correct it") from error
    if parts.scheme not in ("http", "https", "file"):
        raise ValueError(
            f"{key}.url: is neither http, https nor file; fetch the file yourself and name it by "
            "`path`"
        )
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
    if "split" in entry:
        parts = [PurePosixPath(entry["hub"]).name, entry.get("config"), entry["split"]]
        # A configuration may have any name.
        return re.sub(r"[^\w.-]", "_", ".".join(filter(None, parts)))[:100] + ".jsonl"
    path = entry["file"] if "file" in entry else unquote(urlsplit(entry["url"]).path)
    return PurePosixPath(path).name or "data"


def fetch_source(entry: Mapping[str, Any], destination: str | Path, key: str = "source") -> None:
    """Download a `url` or `hub` source to `destination`; a split becomes JSON Lines.

    The file appears only when it is complete and has the pinned sha256.

    Args:
        entry: the source entry, see `check_source`.
        destination: the file to write.
        key: config key of the entry, for messages.

    Raises:
        ValueError: `check_source` refuses the entry, the file or split does not exist, there is no
            network, or the contents differ from the pin. `destination` is then unchanged.
    """
    kind = check_source(entry, key)
    if kind == "path":
        raise ValueError(f"{key}: {entry['path']} is a local file and is not fetched")
    with publish(destination) as part:
        if kind == "url":
            _download(entry["url"], part, key)
        else:
            with _hub_errors(entry, key):
                _copy_from_hub(entry, part)
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


def check_remote(entry: Mapping[str, Any], key: str) -> None:
    """Check, without its data, that a `hub` source can be fetched; others are not asked for.

    Raises:
        ValueError: as for `fetch_source`.
    """
    if check_source(entry, key) == "hub":
        with _hub_errors(entry, key):
            names = [entry["file"]] if "file" in entry else find_hub_files(entry)[0]
            check_hub_files(entry, names)


def _copy_from_hub(entry: Mapping[str, Any], part: Path) -> None:
    if "split" in entry:
        write_hub_split(entry, part)
        return
    with hub_file(entry, entry["file"], part.parent) as path:
        shutil.copyfile(path, part)


@contextlib.contextmanager
def _hub_errors(entry: Mapping[str, Any], key: str) -> Iterator[None]:
    """Errors of huggingface_hub and of a data set's layout as one line."""
    try:
        yield
    except Exception as error:
        reason = explain_hub_error(error, entry["hub"], entry["revision"])
        if reason:
            what = entry.get("file") or f"split `{entry['split']}`"
            raise ValueError(f"{key}: {what}: {reason}") from error
        if isinstance(error, ValueError):
            raise ValueError(f"{key}: {entry['hub']}: {error}") from error
        raise
