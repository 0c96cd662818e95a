"""What a training's processes get of their job."""

import os

import pytest
from training_runs import bare_run

from weak_to_strong.jobs.allocation import Allocation
from weak_to_strong.training import launching


@pytest.mark.parametrize(
    ("gpus", "allocation", "threads"),
    [
        (2, Allocation(gpus=2, cpus=16), "8"),
        # Without a SLURM job, and with placeholders for GPUs, the threads are those of the rule.
        (2, None, "1"),
        (None, Allocation(gpus=2, cpus=16), "1"),
    ],
)
def test_processes_on_gpus_share_the_cpus_of_their_job(
    monkeypatch, tmp_path, gpus, allocation, threads
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as Snakemake sets it
    monkeypatch.setattr(launching, "resolve", lambda job: bare_run(str(tmp_path / "work")))
    monkeypatch.setattr(launching, "usable_gpus", lambda: gpus)
    monkeypatch.setattr(launching, "launch", lambda training, allocation: None)
    launching.run_training(None, allocation)
    assert os.environ["OMP_NUM_THREADS"] == threads
