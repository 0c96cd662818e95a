"""Entry of a training: in this process, or in several that torchrun starts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from weak_to_strong.jobs.allocation import Allocation, free_port, step_command
from weak_to_strong.jobs.child_processes import start_child
from weak_to_strong.jobs.errors import ProcessDied
from weak_to_strong.jobs.logs import logger
from weak_to_strong.training.checkpoints import alone_in, find_checkpoint, step_of
from weak_to_strong.training.libraries import hide_quantiser
from weak_to_strong.training.train import train
from weak_to_strong.training.training_run import TrainingJob, TrainingRun, resolve


def run(job: TrainingJob, allocation: Allocation | None = None) -> int:
    """Train in this process, or under a launcher for several processes or DeepSpeed.

    Args:
        job: what to train.
        allocation: GPUs of the SLURM job. On several nodes the processes are spread evenly.

    Returns:
        The update from which training resumed, 0 without a checkpoint.

    Raises:
        ValueError: bad settings or input, or no package to quantise with.
        ProcessDied: a launched process failed; its own messages have been logged.
    """
    training = resolve(job)
    work = Path(training.work)
    with alone_in(work):
        checkpoint = find_checkpoint(work)
        if training.settings.processes == 1 and not training.settings.deepspeed:
            # With several devices visible transformers would use torch's DataParallel.
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
            os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[0]
            hide_quantiser(training.settings.quantization)
            train(training)
        else:
            launch(training, allocation)
    return step_of(checkpoint) if checkpoint else 0


def launch(training: TrainingRun, allocation: Allocation | None) -> None:
    """Train in processes of a launcher, see `run`. They read the resolved run from a file."""
    spec = Path(f"{training.work}.json")
    training.write(spec)
    command = launch_command(training.settings.processes, allocation, str(spec))
    # Libraries warn of their own next versions, once in each process.
    warnings = {"PYTHONWARNINGS": os.environ.get("PYTHONWARNINGS", "ignore::FutureWarning")}
    with start_child(command, warnings, stderr=subprocess.STDOUT, errors="replace") as launched:
        try:
            for line in launched.stdout:
                logger.info("%s", line.rstrip())
        except BaseException:  # such as SIGTERM (see `script.run_script`)
            launched.terminate()
            raise
    spec.unlink()
    if launched.returncode:
        raise ProcessDied(
            f"a training process ended with status {launched.returncode}; its messages are above; "
            "one that was killed (SIGKILL, -9) usually ran out of memory: lower "
            "per_device_batch_size"
        )


def launch_command(processes: int, allocation: Allocation | None, spec: str) -> list[str]:
    """torchrun of `train`: on this machine, or once on each node, with the first as their meeting.

    Args:
        processes: number of training processes on all nodes together.
        allocation: GPUs of the SLURM job, or None.
        spec: file of the resolved run.

    Raises:
        ValueError: `processes` is no multiple of the number of nodes.
    """
    torchrun = ["-m", "torch.distributed.run"]
    module = ["-m", "weak_to_strong.training.train", spec]
    nodes = allocation.nodes if allocation else ()
    if not nodes:
        nproc = f"--nproc-per-node={processes}"
        return [sys.executable, *torchrun, "--standalone", nproc, *module]
    node_processes, rest = divmod(processes, len(nodes))
    if rest or not node_processes:
        raise ValueError(f"processes: {processes} cannot be spread evenly over {len(nodes)} nodes")
    return [
        *step_command(allocation, nodes),
        # Only a task on a node knows the node's number. The first node has the first process.
        *("bash", "-c", 'exec "$0" "${@:1:2}" --node-rank="$SLURM_NODEID" "${@:3}"'),
        *(sys.executable, *torchrun),
        *(f"--nnodes={len(nodes)}", f"--nproc-per-node={node_processes}"),
        *(f"--master-addr={socket.gethostname()}", f"--master-port={free_port()}", *module),
    ]
