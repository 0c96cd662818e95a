"""GPUs and nodes of the job in which a script runs, and commands that run on its nodes.

The numbers of training processes and of engines follow from them. A job without GPUs has no
allocation and uses the threads of its rule.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Variables that tell srun its job. Others would give a step the shape of the step around it.
#: SLURM_JWT is how srun says who the user is, on clusters that ask for a token.
_IDENTITY = ("SLURM_JOB_ID", "SLURM_JOBID", "SLURM_CLUSTER_NAME", "SLURM_CONF", "SLURM_JWT")
#: Variables that tell SLURM's commands which cluster they speak to, and as whom.
_CLUSTER = ("SLURM_CONF", "SLURM_JWT", "SLURM_CLUSTERS")


@dataclass(frozen=True)
class Allocation:
    """GPUs and CPUs of a job, the same on each of its nodes.

    Attributes:
        gpus: GPUs of each node, at least 1.
        cpus: CPUs of each node.
        nodes: names of the nodes of a job with several, the script's own first; else empty.
    """

    gpus: int
    cpus: int
    nodes: tuple[str, ...] = ()

    @property
    def all_gpus(self) -> int:
        """Number of GPUs on all nodes together."""
        return self.gpus * max(1, len(self.nodes))

    def threads(self, processes: int) -> int:
        """CPUs of each of `processes` processes on all nodes together; at least 1."""
        return max(1, self.cpus * max(1, len(self.nodes)) // processes)

    def engines(self, size: int, nodes: int = 1) -> int:
        """Number of engines that have room.

        Args:
            size: GPUs that an engine takes of each of its nodes. At least one engine has room.
            nodes: nodes of an engine. An engine on several has them alone.
        """
        if nodes > 1:
            return max(1, len(self.nodes) // nodes)
        return max(1, self.gpus // size) * max(1, len(self.nodes))


def find_allocation(
    resources: Any, threads: int, environment: Mapping[str, str] | None = None
) -> Allocation | None:
    """The allocation of this job; None in a job without GPUs.

    The GPUs of a node are the visible ones (CUDA_VISIBLE_DEVICES, which SLURM sets), else those
    that the job asked for. Only SLURM's jobs have several nodes.

    Args:
        resources: resources of the Snakemake job. It reads `gpu` (on all nodes), `nodes` and
            `cpus_per_task`.
        threads: CPUs of a node, unless `cpus_per_task` is among the resources.
        environment: variables; this process's own by default.

    Raises:
        RuntimeError: SLURM gave another number of nodes than the job asked for.
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
    """Names of the job's nodes in SLURM's order. The batch script runs on the first."""
    listed = environment.get("SLURM_JOB_NODELIST")
    if not listed:  # Snakemake's job step has the job's number, and no list of nodes
        job = environment["SLURM_JOB_ID"]
        listed = _output("squeue", "--noheader", f"--jobs={job}", "--format=%N")
    return tuple(_output("scontrol", "show", "hostnames", listed).split())


def node_address(name: str) -> str:
    """The address at which SLURM reaches a node.

    Raises:
        RuntimeError: SLURM knows no such node.
    """
    shown = _output("scontrol", "show", "node", "--oneliner", name)
    match = re.search(r"\bNodeAddr=(\S+)", shown)
    if not match:
        raise RuntimeError(f"SLURM has no address of node {name}: {shown}")
    return match[1]


def own_address(other_node: str) -> str:
    """Address of the interface through which this machine reaches another one.

    A machine's own name may stand for an address that no other machine can reach (127.0.1.1).

    Args:
        other_node: name of a node. A name that only SLURM knows is looked up there.
    """
    try:
        address = socket.gethostbyname(other_node)
    except OSError:
        address = socket.gethostbyname(node_address(other_node))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))  # nothing is sent
        return probe.getsockname()[0]


def _output(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return done.stdout.strip()


def step_command(allocation: Allocation, nodes: Sequence[str]) -> list[str]:
    """The beginning of a command that runs once on each node, beside the job's other steps.

    Args:
        allocation: allocation of the job.
        nodes: all or some of its nodes. The command gets all GPUs and CPUs of each.
    """
    return [
        shutil.which("srun") or "srun",
        "--overlap",
        f"--nodelist={','.join(nodes)}",
        f"--nodes={len(nodes)}",
        f"--ntasks={len(nodes)}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={allocation.cpus}",
        f"--gres=gpu:{allocation.gpus}",  # else SLURM wants the whole job's GPUs on these nodes
        "--mem=0",  # all memory of the job
        "--kill-on-bad-exit=1",
        "--quiet",
    ]


def step_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` without the variables that SLURM set for the step of this process."""
    return {
        name: value
        for name, value in environment.items()
        if name in _IDENTITY or not name.startswith(("SLURM_", "SRUN_", "SBATCH_", "PMI"))
    }


def leave_job(environment: MutableMapping[str, str]) -> None:
    """Remove the variables of the SLURM job that this process runs in, if it runs in one.

    A run may itself be a small job. The jobs that it submits inherit its variables, and must not
    take its memory, CPUs or GPUs for theirs. The executor would remove some of these variables, but
    with them those that name a cluster. A login node's variables stay.

    Args:
        environment: variables of this process and of the jobs that it submits.
    """
    if not any(name.startswith(("SLURM_JOB", "SLURM_STEP")) for name in environment):
        return
    for name in list(environment):
        of_job = name.startswith(("SLURM", "SRUN_", "PMI")) or name == "CUDA_VISIBLE_DEVICES"
        if of_job and name not in _CLUSTER:
            del environment[name]
