"""The GPUs of the job in which a script runs, of SLURM or of this machine, and steps on its nodes.

The numbers of training processes and of engines follow from them. A job without GPUs has no
allocation, and keeps to the threads of its rule.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: What tells srun which job it is in. The rest would give a step the shape of the step around it.
_IDENTITY = ("SLURM_JOB_ID", "SLURM_JOBID", "SLURM_CLUSTER_NAME", "SLURM_CONF")


@dataclass(frozen=True)
class Allocation:
    """GPUs and CPUs of a job, the same on each of its nodes.

    Attributes:
        gpus: on each node; at least 1.
        cpus: on each node.
        nodes: names of the nodes where there are several, the script's own first; else empty.
    """

    gpus: int
    cpus: int
    nodes: tuple[str, ...] = ()

    @property
    def all_gpus(self) -> int:
        return self.gpus * max(1, len(self.nodes))

    def engines(self, size: int) -> int:
        """Engines of `size` GPUs that the job has room for, none of them over two nodes."""
        return max(1, self.gpus // size) * max(1, len(self.nodes))


def find_allocation(
    resources: Any, threads: int, environment: Mapping[str, str] | None = None
) -> Allocation | None:
    """The allocation of this job; None in a job without GPUs.

    The GPUs of a node are those in sight (CUDA_VISIBLE_DEVICES, which SLURM sets), else those that
    the job asked for. Only SLURM's jobs have several nodes.

    Args:
        resources: of the Snakemake job; `gpu` (on all nodes), `nodes` and `cpus_per_task` count.
        threads: CPUs, where `cpus_per_task` is not among the resources.
        environment: variables; this process's own by default.

    Raises:
        RuntimeError: SLURM does not name as many nodes as were asked for.
    """
    environment = os.environ if environment is None else environment
    if not resources.get("gpu"):
        return None
    count = (resources.get("nodes") or 1) if "SLURM_JOB_ID" in environment else 1
    visible = environment.get("CUDA_VISIBLE_DEVICES", "")
    gpus = len(visible.split(",")) if visible else max(1, resources.get("gpu") // count)
    nodes = node_names(environment) if count > 1 else ()
    if nodes and len(nodes) != count:
        raise RuntimeError(f"{count} nodes were asked for, SLURM gave {', '.join(nodes)}")
    return Allocation(gpus, resources.get("cpus_per_task") or threads, nodes)


def node_names(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the job's nodes in SLURM's order, which begins with that of the batch script."""
    listed = environment.get("SLURM_JOB_NODELIST")
    if not listed:  # Snakemake's job step leaves little more than the job's number
        job = environment["SLURM_JOB_ID"]
        listed = _output("squeue", "--noheader", f"--jobs={job}", "--format=%N")
    return tuple(_output("scontrol", "show", "hostnames", listed).split())


def _output(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return done.stdout.strip()


def step_command(allocation: Allocation, nodes: Sequence[str]) -> list[str]:
    """The front of a command that runs once on each of `nodes`, beside the job's other steps.

    Args:
        allocation: of the job.
        nodes: all or some of its nodes; the command has all GPUs and CPUs of each.
    """
    return [
        shutil.which("srun") or "srun",
        "--overlap",
        f"--nodelist={','.join(nodes)}",
        f"--nodes={len(nodes)}",
        f"--ntasks={len(nodes)}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={allocation.cpus}",
        f"--gres=gpu:{allocation.gpus}",  # else SLURM looks for the whole job's on these nodes
        "--mem=0",  # all that the job has
        "--kill-on-bad-exit=1",
        "--quiet",
    ]


def step_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` without what SLURM set for the step in which this process runs."""
    return {
        name: value
        for name, value in environment.items()
        if name in _IDENTITY or not name.startswith(("SLURM_", "SRUN_", "SBATCH_", "PMI"))
    }


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as found:
        found.bind(("", 0))
        return found.getsockname()[1]
