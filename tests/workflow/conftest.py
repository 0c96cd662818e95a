"""The project before and after one complete run, and ways to change it for a test."""

from pathlib import Path

import pytest
from project import Project, changed


@pytest.fixture(scope="session")
def untouched(tmp_path_factory) -> Project:
    """The project before any run, to be copied."""
    return Project.create(tmp_path_factory.mktemp("project") / "untouched")


@pytest.fixture(scope="session")
def project(untouched) -> Project:
    """The project after one complete run. A test that changes it puts it back."""
    project = untouched.copy(untouched.folder.with_name("complete"))
    project.run()
    return project


@pytest.fixture
def fresh_project(untouched, tmp_path) -> Project:
    """The project before any run."""
    return untouched.copy(tmp_path / "fresh")


@pytest.fixture
def project_copy(project, tmp_path) -> Project:
    """A copy of the project after its run, for tests that run more."""
    return project.copy(tmp_path / "copy")


@pytest.fixture
def edit(project):
    """Change a file for the length of a test."""
    originals: dict[Path, bytes] = {}

    def change(name: str, old: str, new: str) -> None:
        path = project.path(name)
        originals.setdefault(path, path.read_bytes())
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    yield change
    for path, content in originals.items():
        path.write_bytes(content)


@pytest.fixture
def configure(project):
    """Change the configuration for the length of a test: dotted key -> value."""

    def change(key: str, value) -> None:
        project.write_config(changed(project.config, key, value))

    yield change
    project.write_config(project.config)
