"""A pytest plugin: only tests marked `slow` load a model's libraries or start Snakemake.

`make test-unit` leaves out the tests with that mark. Without this check a test that belongs to them
could join the others unnoticed.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path

import pytest

LIBRARIES = {"torch", "vllm"}
PROGRAM = "snakemake"

_heavy: list[str] = []


def _note_heavy_work(event: str, arguments: tuple) -> None:
    """Audit hook: note the first import of a library, and each start of Snakemake."""
    if event == "import" and arguments[0] in LIBRARIES:
        _heavy.append(f"imports {arguments[0]}")
    elif event == "subprocess.Popen":
        command = arguments[1]
        words = command.split() if isinstance(command, str) else map(str, command)
        if any(Path(word).name == PROGRAM for word in words):
            _heavy.append(f"starts {PROGRAM}")


def pytest_configure() -> None:
    sys.addaudithook(_note_heavy_work)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems() -> None:
    """Refuse modules of tests that import a library when they are collected."""
    if _heavy:
        raise pytest.UsageError(f"a test module {_heavy[0]} at its top: import it in the tests")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    _heavy.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    result = yield
    if _heavy and item.get_closest_marker("slow") is None:
        pytest.fail(f"this test {' and '.join(_heavy)}: mark it with `pytest.mark.slow`")
    return result
