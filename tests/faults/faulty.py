"""A project with a short study, ways to disturb its runs, and the expected results."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import random_study
from project import MACHINE, Project

from weak_to_strong.jobs.verify import artefacts
from weak_to_strong.tables.files import hash_file

CHAIN = random_study.CHAIN
WEAK_SIDE = random_study.WEAK_SIDE
#: A study in which every rule has a job, without baselines.
CONFIG = {"methods": dict.fromkeys(("full_weak", "ceiling", "strong_zero_shot", "weak_icl"))}
#: Frequent checkpoints and small shards, so that a few seconds of work have several.
OFTEN = ("--set-resources", "train:checkpoint_steps=2", "generate:shard_size=8")
OFTEN += ("generate:engine_processes=1", "--set-threads", "generate=1")
COSTS = ("report/costs.csv", "report/ledger.csv", "report/models.csv")
REPORT = "report/index.html"
SCORES = "results/test/scores/dice.parquet"
COMPARISONS = "weak_to_strong.evaluation.math_verify_worker"


@dataclass
class Run:
    """A run of Snakemake in the background, in its own process group."""

    process: subprocess.Popen
    output: Path

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def below(self) -> list[psutil.Process]:
        """All live processes that the run has started."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def find(self, *words: str) -> list[psutil.Process]:
        """Live processes of the run whose command contains one of `words`."""
        processes = []
        for process in self.below():
            try:
                command = process.cmdline()
            except psutil.Error:
                continue
            if any(word in part for word in words for part in command[1:4]):
                processes.append(process)
        return processes

    def wait(self, seconds: float = 300) -> int:
        """Wait for the end of the run, and return its exit status."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"no end after {seconds} s:\n{self.text()[-4000:]}") from None


class FaultProject(Project):
    """A project folder with the short study."""

    #: Plain numbers are scored without math-verify; these answers need it.
    ANSWERS = ("x+1", "1+x", "|x|")

    @classmethod
    def create(cls, folder: Path) -> "FaultProject":
        made = super().create(folder)
        made.config |= CONFIG
        made.write_config(made.config)
        return made

    def start(
        self,
        *arguments: str,
        prefix: tuple[str, ...] = (),
        config: str = "config/test.yaml",
        **variables: str,
    ) -> Run:
        """Start a run in the background, as a user would."""
        output = self.path(f"run-{time.monotonic_ns()}.log")
        with output.open("w") as file:
            process = subprocess.Popen(
                [
                    *(*prefix, sys.executable, "-m", "snakemake", "--cores", "2", *arguments),
                    *("--configfile", config, *OFTEN),
                ],
                cwd=self.folder,
                env={**os.environ, "HF_HUB_OFFLINE": "1", **variables},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Run(process, output)

    def finish(self, *arguments: str, **options: Any) -> str:
        """Run the same command to its end. It must succeed."""
        run = self.start(*arguments, **options)
        assert run.wait(600) == 0, run.text()[-6000:]
        return run.text()

    def fail(self, *arguments: str, **options: Any) -> str:
        """Run the same command to its end. It must fail, without a traceback."""
        run = self.start(*arguments, **options)
        assert run.wait(300) != 0, run.text()[-6000:]
        assert "Traceback" not in run.text(), run.text()[-6000:]
        return run.text()

    def hashes(self) -> dict[str, str]:
        """Digest of each artefact without measured times, which are in COSTS and in the report."""
        root = self.path("results/test")
        digests = {}
        for file in artefacts(root):
            name = file.relative_to(root).as_posix()
            if name == REPORT:
                page = file.read_text()
                rest = re.sub(
                    r'<section aria-labelledby="cost">.*?</section>', "", page, flags=re.S
                )
                assert rest != page
                digests[name] = rest
            elif name not in COSTS:
                digests[name] = hash_file(file)
        return digests


def wait_for(ready: Callable, seconds: float, run: Run | None = None):
    """Wait for a true value of `ready()` and return it; None when `run` ends first."""
    end = time.monotonic() + seconds
    while not (value := ready()):
        if run and run.process.poll() is not None:
            return None
        assert time.monotonic() < end, run.text()[-4000:] if run else "not in time"
        time.sleep(0.05)
    return value


def alive_in(folder: Path) -> list[str]:
    """Commands of the processes that work in `folder`."""
    commands = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder) and process.status() != "zombie":
                commands.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return commands


__all__ = ["MACHINE", "FaultProject", "Run", "alive_in", "wait_for"]
