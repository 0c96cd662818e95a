"""A copy of the project with a small study of its own, on which the real workflow is run."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from random_study import write_study

ROOT = Path(__file__).parents[2]
SOURCES = ("Snakefile", "rules", "scripts", "config", "envs", "profiles", "resources")
#: For so few samples a second engine process costs more than it brings.
MACHINE = ("--set-threads", "generate=1")
MACHINE += ("--set-resources", "generate:engine_processes=1")


class Project:
    """A project folder; its methods run Snakemake there as a user would.

    `config` is the study's configuration as it was when the object was made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = yaml.safe_load((folder / "config/test.yaml").read_text())

    def copy(self, folder: Path) -> "Project":
        return Project(shutil.copytree(self.folder, folder))

    def write_config(self, config: dict) -> None:
        (self.folder / "config/test.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def snakemake(self, *arguments: str, config: str = "config/test.yaml"):
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        return subprocess.run(
            [
                *(sys.executable, "-m", "snakemake", "--cores", "2", *arguments),
                *("--configfile", config, *MACHINE),
            ],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
        )

    def run(self, *arguments: str) -> str:
        """Run to success; return what Snakemake said."""
        done = self.snakemake(*arguments)
        assert done.returncode == 0, done.stderr[-6000:]
        return done.stdout + done.stderr

    def planned(self, *arguments: str) -> set[str]:
        """Messages of the jobs that a run would start."""
        return jobs(self.run("--dry-run", *arguments))

    def path(self, name: str) -> Path:
        return self.folder / name

    def result(self, name: str) -> Path:
        return self.folder / "results/test" / name


def jobs(output: str) -> set[str]:
    """Messages of the jobs in Snakemake's output."""
    return set(re.findall(r"^Job \d+: (.*)$", output, flags=re.M))


@pytest.fixture(scope="session")
def untouched(tmp_path_factory) -> Project:
    """The project before any run, to be copied."""
    folder = tmp_path_factory.mktemp("project") / "untouched"
    folder.mkdir()
    for name in SOURCES:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    (folder / "config/test.yaml").write_text(yaml.safe_dump(write_study(folder), sort_keys=False))
    return Project(folder)


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


def changed(config: dict, key: str, value) -> dict:
    """A copy of `config` with another value under a dotted key."""
    config = json.loads(json.dumps(config))
    *parents, last = key.split(".")
    place = config
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    return config


@pytest.fixture
def configure(project):
    """Change the configuration for the length of a test: dotted key -> value."""

    def change(key: str, value) -> None:
        project.write_config(changed(project.config, key, value))

    yield change
    project.write_config(project.config)
