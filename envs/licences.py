"""Write requirements/licences.csv: the licence that each locked package states. `make licences`."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from email import message_from_bytes
from email.message import Message
from importlib import metadata
from pathlib import Path
from urllib.request import Request, urlopen

from pin import ROOT, pins

TABLE = ROOT / "requirements/licences.csv"
LOCKS = tuple(ROOT / f"requirements/{name}.txt" for name in ("cpu", "cuda", "build"))
INDEX = "https://pypi.org/simple"


def licence(facts: Message) -> str:
    """What a package says in its metadata; where that is long text, its first line."""
    classes = [
        text.split(" :: ")[-1] for text in facts.get_all("Classifier", []) if "License ::" in text
    ]
    text = (facts.get("License") or "").strip()
    stated = facts.get("License-Expression") or "; ".join(classes) or text.partition("\n")[0]
    files = facts.get_all("License-File", [])
    return stated or (f"see {files[0]}" if files else "not stated")


def find_facts(name: str, version: str) -> Message:
    """Metadata of a package: of the installed one, else what the index has of a wheel.

    Raises:
        ValueError: there is neither.
    """
    try:
        if metadata.version(name).partition("+")[0] == version:
            facts = metadata.metadata(name)
            for file in metadata.files(name) or []:
                if "licen" in file.name.lower():
                    facts["License-File"] = file.name  # adds one
            return facts
    except metadata.PackageNotFoundError:
        pass
    accepted = {"Accept": "application/vnd.pypi.simple.v1+json"}
    try:
        with urlopen(Request(f"{INDEX}/{name}/", headers=accepted), timeout=60) as answer:
            files = json.load(answer)["files"]
        for file in files:
            if file["filename"].endswith(".whl") and file["filename"].split("-")[1] == version:
                with urlopen(f"{file['url']}.metadata", timeout=60) as answer:
                    return message_from_bytes(answer.read())
    except OSError as error:
        raise ValueError(f"{name} {version}: no metadata from {INDEX} ({error})") from error
    raise ValueError(f"{name} {version}: {INDEX} has no wheel of it")


def main(locks: Sequence[Path] = LOCKS, table: Path = TABLE) -> None:
    """Write the table of lock lists; what is not installed is looked up, which needs a network."""
    packages = sorted({pin for lock in locks for pin in pins(lock.read_text()).items()})
    rows = [(name, version, licence(find_facts(name, version))) for name, version in packages]
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("package", "version", "licence"), *rows])


if __name__ == "__main__":
    main()
