"""Snakemake inside a small job of its own, as docs/cluster.md recommends."""

import re
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from cluster import command
from cluster_project import APART, comment, look_seconds, training

from weak_to_strong.cluster.slurm_costs import read_allocations
from weak_to_strong.tables.files import hash_file

pytestmark = pytest.mark.slow

NODE = APART[0]
ROUND = comment("generate", "evaluation/dice/random_strong")
SCORE = comment("score", "dice")
#: What the small job has: less of everything than the jobs that it submits.
CPUS, MEMORY_MB = 1, 1500


@pytest.fixture(scope="module")
def inside(study, tmp_path_factory):
    """A study that lacks one model and the scores, made anew from inside a job.

    The job is bound to one CPU, as clusters do it, and Snakemake runs in a step of it.
    """
    project = study.project.copy(tmp_path_factory.mktemp("inside") / "project")
    project.forget(NODE)
    scores = project.result("scores/dice.parquet")
    scores.unlink()
    log = project.path("outer.log")
    script = project.path("outer.sh")
    script.write_text(
        "#!/bin/bash\nset -eu\n"
        f"export PATH={Path(sys.executable).parent}:$PATH\n"
        "srun --ntasks=1 taskset --cpu-list 0 snakemake --profile slurm --cores all "
        "--configfile config/test.yaml "
        f"--slurm-init-seconds-before-status-checks {look_seconds()} "
        f"-- {project.manifest(NODE)} results/test/scores/dice.parquet\n"
    )
    command(
        *("sbatch", "--wait", "--partition=cpu", f"--cpus-per-task={CPUS}"),
        *(f"--mem-per-cpu={MEMORY_MB}", f"--chdir={project.folder}", f"--output={log}"),
        str(script),
        timeout=400,
    )
    return project, log.read_text(errors="replace")


@pytest.fixture(scope="module")
def jobs(inside) -> pl.DataFrame:
    """SLURM's records of the jobs that the small job submitted."""
    identity = re.search(r"^SLURM run ID: (\S+)$", inside[1], re.M)[1]
    return read_allocations([identity], time.strftime("%Y-%m-%d"))


def test_the_jobs_are_those_that_were_missing(jobs):
    assert sorted(jobs["comment"]) == sorted([training(NODE), ROUND, SCORE])
    assert set(jobs["state"]) == {"COMPLETED"}


def test_cpus_and_memory_are_those_of_the_rules(jobs, study):
    """As in the run that was started outside of any job."""
    asked: dict[str, set] = {}
    for table in (jobs, study.run.allocations()):
        for job, name, memory in table.select("job", "comment", "requested_memory_mb").rows():
            cpus = command("sacct", "-nXP", "-j", job, "-o", "NCPUS").strip()
            asked.setdefault(name, set()).add((int(cpus), memory))
    for name in jobs["comment"]:
        ((cpus, memory),) = asked[name]
        assert cpus > CPUS
        assert memory > MEMORY_MB


def test_threads_are_limited_by_the_node_only(jobs):
    """`--cores all` is one CPU in the small job, and would be the limit of every job's threads."""
    for job in jobs["job"]:
        line = command("sacct", "-nXP", "-j", job, "-o", "SubmitLine")
        assert re.search(r"--cores '?(\w+)", line)[1] == "all", line


def test_results_are_the_same(inside, study):
    project, _ = inside
    for name in (f"models/{NODE}/model/adapter_model.safetensors", "scores/dice.parquet"):
        assert hash_file(project.result(name)) == hash_file(study.project.result(name))


def test_nobody_is_advised_against_it(inside):
    """The executor would warn of a job's variables and remove even SLURM_CONF."""
    assert "SLURM job context" not in inside[1]
