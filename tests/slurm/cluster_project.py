"""The study of random models in a project folder whose jobs go to the cluster."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import polars as pl
import psutil
import random_study
from cluster import command
from project import ROOT, Project

from weak_to_strong.cluster.slurm_costs import read_allocations
from weak_to_strong.tables.files import hash_file
from weak_to_strong.training.checkpoints import SEAL

CHAIN = "dice/random_weak/random_strong/seed-0"
STRONG_SIDE = "dice/none/random_strong/seed-0"
CEILING = f"{STRONG_SIDE}/ceiling-0"
#: Trainings that can be done again apart from one another.
APART = (f"{CHAIN}/weak_ft-1", f"{CHAIN}/icl_ft-1", f"{CHAIN}/dpo-0")
WEAK_EVALUATION = "evaluation/dice/random_weak"

#: Some tens of steps, so that a training can be stopped half-way.
LONG = {"global_batch_size": 4, "per_device_batch_size": 4, "epochs": 10}
CONFIG = {
    **random_study.CONFIG,
    "iterations": 1,
    "methods": {
        "full_weak": None,
        "orpo": None,
        "weak_ft": {"training": LONG},
        "icl_ft": {"training": LONG},
        "dpo": {"training": LONG},
        "ceiling": {
            "training": {"deepspeed": "config/deepspeed/zero3.json", "per_device_batch_size": 4}
        },
    },
}
#: Folders and files of results that must not depend on where they were made.
RESULTS = (
    *("data", "bases", "models", "labels", "filter", "votes", "generations", "scores"),
    *("report/metrics.csv", "report/metrics.json", "report/table.txt"),
    *("report/diagnostics.csv", "report/diagnostics.json"),
)


@cache
def look_seconds() -> str:
    """When the executor first looks for ended jobs; after a look without one it waits 10 s longer.

    Most jobs here take about twice as long as vLLM's import. The second look comes after that.
    """
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "from vllm import LLMEngine"], check=True)
    job = 2 * (time.monotonic() - began) + 3
    return str(max(1, round((job - 10) / 2)))


@dataclass
class Run:
    """A run of Snakemake on the cluster, in the background or finished."""

    process: subprocess.Popen
    output: Path

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    @property
    def identity(self) -> str:
        """The id of the run, which is the name of all its jobs; waits until it is known."""
        match = wait_for(lambda: re.search(r"^SLURM run ID: (\S+)$", self.text(), re.M), 120, self)
        return match[1]

    def finish(self, seconds: float = 900) -> str:
        """Wait for the end of the run, which must succeed, and return its output."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"no end after {seconds} s:\n{self.text()[-6000:]}") from None
        assert status == 0, self.text()[-6000:]
        return self.text()

    def allocations(self) -> pl.DataFrame:
        """SLURM's records of the run's jobs."""
        return read_allocations([self.identity], time.strftime("%Y-%m-%d"))

    def job(self, comment: str) -> str | None:
        """Id of the running job with this comment; None if there is none."""
        listed = command("squeue", "-h", f"--name={self.identity}", "-tR", "-o", "%i %k")
        jobs = dict(reversed(line.split(" ", 1)) for line in listed.splitlines())
        return jobs.get(comment)


class ClusterProject(Project):
    """A project folder whose jobs go to the cluster."""

    def start(self, *arguments: str, **environment: str) -> Run:
        """Start `snakemake --profile slurm --configfile config/test.yaml` with more arguments."""
        number = len(list(self.folder.glob("run-*.log")))
        output = self.path(f"run-{number}.log")
        variables = {**os.environ, **environment}
        variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
        with output.open("w") as file:
            process = subprocess.Popen(
                [
                    *("snakemake", "--profile", "slurm", "--configfile", "config/test.yaml"),
                    *("--slurm-init-seconds-before-status-checks", look_seconds(), *arguments),
                ],
                cwd=self.folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Run(process, output)

    def hashes(self) -> dict[str, str]:
        """Digests of all results by file."""
        roots = [self.result(name) for name in RESULTS]
        files = [
            file
            for root in roots
            for file in (root.rglob("*") if root.is_dir() else [root])
            if not file.is_dir()
        ]
        return {str(file.relative_to(self.folder)): hash_file(file) for file in files}

    def forget(self, node: str) -> None:
        """Remove a trained model, so that it has to be trained again."""
        folder = self.result(f"models/{node}")
        shutil.rmtree(folder / "model")
        for name in ("manifest.json", "history.json"):
            (folder / name).unlink()

    def manifest(self, node: str) -> str:
        """The target that trains a node."""
        return f"results/test/models/{node}/manifest.json"

    def log(self, node: str) -> str:
        """The log of a node's last training."""
        file = self.result(f"logs/train/{node}.log")
        return file.read_text() if file.exists() else ""

    def checkpoints(self, node: str) -> dict[int, float]:
        """Complete checkpoints of a node's training: step -> time of writing."""
        work = re.search(r"work folder (\w+)", self.log(node))
        if not work:
            return {}
        folder = self.path(f"results/store/training/{work[1]}")
        times = {}
        for seal in folder.glob(f"checkpoint-*/{SEAL}"):
            with suppress(FileNotFoundError):  # only the newest are kept
                step = int(seal.parent.name.removeprefix("checkpoint-"))
                times[step] = seal.stat().st_mtime
        return times


def comment(rule: str, *wildcards: str) -> str:
    """The comment that the executor gives a job."""
    return f"rule_{rule}_wildcards_{'_'.join(wildcards).replace('/', '_')}"


def training(node: str) -> str:
    """The comment of a node's training."""
    chain, name = node.rsplit("/", 1)
    return comment("train", chain, *name.split("-"))


def wait_for(ready: Callable, seconds: float, run: Run | None = None, what: str = ""):
    """Wait for a true value of `ready()` and return it.

    Fails after `seconds`, or when the run ends first.
    """
    end = time.monotonic() + seconds
    while True:
        over = run is not None and run.process.poll() is not None
        if value := ready():
            return value
        output = run.text()[-6000:] if run else ""
        assert not over, f"the run ended first ({what}):\n{output}"
        assert time.monotonic() < end, f"not within {seconds} s ({what}):\n{output}"
        time.sleep(0.1)


def create(folder: Path) -> ClusterProject:
    """The project before any run, as it is checked out."""
    project = ClusterProject.create(folder)
    shutil.copy(ROOT / "slurm", folder / "slurm", follow_symlinks=False)
    project.write_config(CONFIG)
    return project


@dataclass
class Study:
    """The study on the cluster and on this machine, with the cluster's two runs."""

    project: ClusterProject
    local: ClusterProject
    two_nodes: Run
    run: Run


def kill(run: Run) -> None:
    """Send SIGKILL to the main process, which can then neither cancel jobs nor release its lock."""
    run.process.send_signal(signal.SIGKILL)
    run.process.wait(10)


def hold(job: str, script: str) -> None:
    """Suspend a job's script, so that it cannot end before the test acts on it."""
    suspended = 0
    for process in psutil.process_iter():
        try:
            if process.environ().get("SLURM_JOB_ID") == job and any(
                part.endswith(f".{script}.py") for part in process.cmdline()
            ):
                process.suspend()
                suspended += 1
        except psutil.Error:
            continue
    assert suspended, f"job {job} has no process of {script}.py"
