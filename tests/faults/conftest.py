"""The short study before any run, and after one undisturbed run."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow"))

from faulty import FaultProject


@pytest.fixture(scope="session")
def untouched(tmp_path_factory) -> FaultProject:
    """The project before any run, to be copied."""
    return FaultProject.create(tmp_path_factory.mktemp("project") / "untouched")


@pytest.fixture(scope="session")
def undisturbed(untouched) -> FaultProject:
    """The project after a complete undisturbed run, to be copied."""
    project = untouched.copy(untouched.folder.with_name("undisturbed"))
    project.finish()
    return project


@pytest.fixture
def fresh(untouched, tmp_path) -> FaultProject:
    """The project before any run."""
    return untouched.copy(tmp_path / "fresh")


@pytest.fixture
def finished(undisturbed, tmp_path) -> FaultProject:
    """A copy of the project after its run."""
    return undisturbed.copy(tmp_path / "finished")
