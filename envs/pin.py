"""Bring the pins of envs/*.yaml in step with requirements/cuda.txt. `make lock` calls it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_PIN = re.compile(r"^(\s*- )?([A-Za-z0-9_.-]+)==([^\s#+]+)", re.MULTILINE)


def pins(text: str) -> dict[str, str]:
    """Versions by package name, without the mark of a build (`+cpu`).

    Args:
        text: a lock list or an environment file.
    """
    return {name: version for _, name, version in _PIN.findall(text)}


def repinned(environment: str, locked: dict[str, str]) -> str:
    """An environment file's text with the locked versions.

    Raises:
        KeyError: it pins a package that the lock list lacks.
    """
    return _PIN.sub(lambda pin: f"{pin[1] or ''}{pin[2]}=={locked[pin[2]]}", environment)


if __name__ == "__main__":
    locked = pins((ROOT / "requirements/cuda.txt").read_text(encoding="utf-8"))
    for path in sorted((ROOT / "envs").glob("*.yaml")):
        path.write_text(repinned(path.read_text(encoding="utf-8"), locked), encoding="utf-8")
