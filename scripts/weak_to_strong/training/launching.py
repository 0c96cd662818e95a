"""Entry of a training: in this process, or in several of their own (`processes.py`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from weak_to_strong.jobs.allocation import Allocation, step_command
from weak_to_strong.jobs.child_processes import start_child
from weak_to_strong.jobs.errors import ProcessDied
from weak_to_strong.jobs.gpus import usable_gpus
from weak_to_strong.jobs.logs import logger
from weak_to_strong.jobs.trackers import stay_offline, tracker_variables
from weak_to_strong.training.checkpoints import alone_in, find_checkpoint, step_of
from weak_to_strong.training.libraries import hide_quantiser
from weak_to_strong.training.saving import copy_model
from weak_to_strong.training.train import train
from weak_to_strong.training.training_run import TrainingJob, TrainingRun, resolve


def run_training(job: TrainingJob, allocation: Allocation | None = None) -> int:
    """Train in this process, or under a launcher for several processes or DeepSpeed.

    The model of an equal training that has ended is copied instead.

    Args:
        job: what to train.
        allocation: GPUs of the SLURM job. On several nodes the processes are spread evenly.

    Returns:
        The update from which training resumed: 0 without a checkpoint, the last one where nothing
        was left to train.

    Raises:
        ValueError: bad settings or input, or no package to quantise with.
        ProcessDied: a launched process failed; its own messages have been logged.
    """
    training = resolve(job)
    if training.tracked:
        stay_offline(training.tracked)  # before TRL imports trackio, which settles its folder
    if allocation and usable_gpus():
        # Snakemake sets the rule's threads, which are one. Offloaded updates run on the CPUs.
        threads = allocation.threads(training.settings.processes)
        os.environ["OMP_NUM_THREADS"] = str(threads)
    work = Path(training.work)
    with alone_in(work):
        if steps := copy_model(training):
            return steps
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
    """Train in processes of a launcher (see `run_training`), which read the run from a file.

    Raises:
        ProcessDied: a launched process failed; its own messages have been logged.
    """
    spec = Path(f"{training.work}.json")
    training.write(spec)
    address = Path(f"{spec}.address")  # of the first process, where there are several nodes
    address.unlink(missing_ok=True)
    command = launch_command(training.settings.processes, allocation, str(spec))
    # Libraries warn of their own next versions, once in each process.
    warnings = {"PYTHONWARNINGS": os.environ.get("PYTHONWARNINGS", "ignore::FutureWarning")}
    added = warnings | tracker_variables(training.tracked, os.environ)
    with start_child(command, added, stderr=subprocess.STDOUT, errors="replace") as launched:
        try:
            for line in launched.stdout:
                logger.info("%s", line.rstrip())
        except BaseException:  # such as SIGTERM (see `script.run_script`)
            launched.terminate()
            raise
    spec.unlink()
    address.unlink(missing_ok=True)
    if launched.returncode:
        raise ProcessDied(
            f"a training process ended with status {launched.returncode}; its messages are above; "
            "one that was killed (SIGKILL, -9) usually ran out of memory: lower "
            "per_device_batch_size"
        )


def launch_command(processes: int, allocation: Allocation | None, spec: str) -> list[str]:
    """The command that runs a training's processes: on this machine, or once on each node.

    Args:
        processes: number of training processes on all nodes together.
        allocation: GPUs of the SLURM job, or None.
        spec: file of the resolved run.

    Raises:
        ValueError: `processes` is no multiple of the number of nodes.
    """
    nodes = allocation.nodes if allocation else ()
    module = ["-m", "weak_to_strong.training.processes", spec, f"--processes={processes}"]
    if not nodes:
        return [sys.executable, *module]
    if processes % len(nodes) or not processes:
        raise ValueError(f"processes: {processes} cannot be spread evenly over {len(nodes)} nodes")
    return [*step_command(allocation, nodes), sys.executable, *module, f"--nodes={','.join(nodes)}"]
