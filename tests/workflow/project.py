"""A copy of the project with a small study, on which tests run the real workflow."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from planted import SECRETS
from random_study import ANSWERS, write_study

ROOT = Path(__file__).parents[2]
SOURCES = ("Snakefile", "rules", "scripts", "config", "envs", "profiles", "resources")
#: A second engine process costs more than it saves with so few samples.
MACHINE = ("--set-threads", "generate=1")
MACHINE += ("--set-resources", "generate:engine_processes=1")


class Project:
    """A project folder; its methods run Snakemake there as a user would.

    `config` is the study's configuration when the object was made. `ANSWERS` are the final answers
    of a new study.
    """

    ANSWERS = ANSWERS

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = yaml.safe_load((folder / "config/test.yaml").read_text())

    @classmethod
    def create(cls, folder: Path) -> "Project":
        """A project before any run, in a new folder."""
        folder.mkdir()
        for name in SOURCES:
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, folder / name)
        config = yaml.safe_dump(write_study(folder, cls.ANSWERS), sort_keys=False)
        (folder / "config/test.yaml").write_text(config)
        return cls(folder)

    def copy(self, folder: Path) -> "Project":
        return type(self)(shutil.copytree(self.folder, folder, symlinks=True))

    def write_config(self, config: dict) -> None:
        (self.folder / "config/test.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def snakemake(self, *arguments: str, config: str = "config/test.yaml"):
        environment = {**os.environ, **SECRETS, "HF_HUB_OFFLINE": "1"}
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
        """Run Snakemake, which must succeed, and return its output."""
        completed = self.snakemake(*arguments)
        assert completed.returncode == 0, completed.stderr[-6000:]
        return completed.stdout + completed.stderr

    def planned(self, *arguments: str) -> set[str]:
        """Messages of the jobs that a run would start."""
        return jobs(self.run("--dry-run", *arguments))

    def verify(self) -> None:
        """`snakemake verify` must find every file as its job made it.

        The first check of a folder records its files, and an earlier test may have made that one.
        """
        assert re.search(r"\d+ files (recorded|are as their jobs made them)", self.run("verify"))

    def path(self, name: str) -> Path:
        return self.folder / name

    def result(self, name: str) -> Path:
        return self.folder / "results/test" / name

    def cost(self, job: str) -> dict:
        """The cost of a job, from its record."""
        return json.loads(self.result(f"logs/{job}.json").read_text())["cost"]


def jobs(output: str) -> set[str]:
    """Messages of the jobs in Snakemake's output."""
    return set(re.findall(r"^Job \d+: (.*)$", output, flags=re.M))


def changed(config: dict, key: str, value) -> dict:
    """A copy of `config` with another value under a dotted key."""
    config = json.loads(json.dumps(config))
    *parents, last = key.split(".")
    place = config
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    return config
