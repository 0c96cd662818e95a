"""A copy of the project with a small task of its own, on which the real workflow is run."""

import json
import shutil
from pathlib import Path

import pytest
from project import CONFIG, Project


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Project:
    """The project after one complete run. A test that changes it puts it back."""
    project = Project.create(tmp_path_factory.mktemp("project"))
    project.run()
    return project


@pytest.fixture
def fresh_project(tmp_path) -> Project:
    """The project before any run."""
    return Project.create(tmp_path)


@pytest.fixture
def project_copy(project, tmp_path) -> Project:
    """A copy of the project after its run, for tests that run more."""
    return Project(shutil.copytree(project.folder, tmp_path / "copy"))


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
        config = json.loads(json.dumps(CONFIG))
        *parents, last = key.split(".")
        place = config
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
        project.write_config(config)

    yield change
    project.write_config(CONFIG)
