"""Write requirements/licences.csv: the licence that each locked package states. `make licences`."""

from __future__ import annotations

import csv
from importlib import metadata
from pathlib import Path

from pin import ROOT, pins

TABLE = ROOT / "requirements/licences.csv"


def licence(name: str) -> str:
    """What an installed package says in its metadata; where that is long text, its first line.

    Raises:
        importlib.metadata.PackageNotFoundError: it is not installed.
    """
    facts = metadata.metadata(name)
    classes = [
        text.split(" :: ")[-1] for text in facts.get_all("Classifier", []) if "License ::" in text
    ]
    text = (facts.get("License") or "").strip()
    stated = facts.get("License-Expression") or "; ".join(classes) or text.partition("\n")[0]
    if stated:
        return stated
    files = [file.name for file in metadata.files(name) or [] if "licen" in file.name.lower()]
    return f"see {files[0]}" if files else "not stated"


def main(lock: Path = ROOT / "requirements/cpu.txt", table: Path = TABLE) -> None:
    """Write the table of one lock list, whose packages are installed."""
    rows = [(name, version, licence(name)) for name, version in pins(lock.read_text()).items()]
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("package", "version", "licence"), *rows])


if __name__ == "__main__":
    main()
