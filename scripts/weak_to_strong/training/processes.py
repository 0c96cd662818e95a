"""The processes of one training on one machine: `python -m weak_to_strong.training.processes`.

It replaces torchrun, whose agents meet through a TCP store that listens on all interfaces, asks
nobody who they are and unpickles what it gets: whoever reaches the port runs code as the user. Here
the processes of one machine meet through a file in a folder that only the user can open, and speak
over the loopback interface. Processes on several nodes meet as `meeting.py` says.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from weak_to_strong.jobs.child_processes import loopback_variables
from weak_to_strong.jobs.stop_signals import ignore_stop_signals
from weak_to_strong.jobs.temporary_folders import held_folder
from weak_to_strong.training.meeting import ADDRESS_FILE, OTHER_NODE, STORE_FILE

#: How long (seconds) the other processes have to end by themselves when one has failed.
KILL_AFTER_SECONDS = 10.0


def process_environments(
    processes: int, node: int, nodes: Sequence[str], folder: str, address_file: str
) -> list[dict[str, str]]:
    """Variables of each process on one machine, as torch and accelerate read them.

    Args:
        processes: of all nodes together, a multiple of the number of nodes.
        node: number of this node, from 0.
        nodes: names of all nodes; empty on one machine.
        folder: of this machine's own, for the file through which its processes meet.
        address_file: on a disk that all nodes share, for the address where nodes meet.
    """
    local = processes // max(1, len(nodes))
    shared = {
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(local),
        # accelerate asks whether they are set. Nothing connects there.
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "1",
    }
    if nodes:
        shared |= {ADDRESS_FILE: address_file, OTHER_NODE: nodes[1]}
    else:
        shared |= {STORE_FILE: str(Path(folder) / "store")}
        shared |= loopback_variables()
    return [
        {**shared, "RANK": str(node * local + number), "LOCAL_RANK": str(number)}
        for number in range(local)
    ]


def run_processes(command: Sequence[str], environments: Sequence[Mapping[str, str]]) -> int:
    """Run a command once for each environment; end all of them when one fails.

    Returns:
        0, or the status of the first process that failed.
    """
    running = [subprocess.Popen(command, env={**os.environ, **added}) for added in environments]
    try:
        status = 0
        while running and not status:
            time.sleep(0.1)
            ended = [process for process in running if process.poll() is not None]
            running = [process for process in running if process not in ended]
            status = next((process.returncode for process in ended if process.returncode), 0)
        return status
    finally:
        end_processes(running)


def end_processes(processes: Sequence[subprocess.Popen]) -> None:
    """End processes by SIGTERM, and by SIGKILL those that do not end in KILL_AFTER_SECONDS."""
    for process in processes:
        process.terminate()
    end = time.monotonic() + KILL_AFTER_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end(number: int, _frame: FrameType | None) -> None:
    ignore_stop_signals()
    sys.exit(128 + number)


def main(arguments: Sequence[str]) -> int:
    """Run `weak_to_strong.training.train SPEC` in several processes; the status of the first that
    failed, or 0."""
    parser = argparse.ArgumentParser(prog="python -m weak_to_strong.training.processes")
    parser.add_argument("spec", help="file of the resolved training")
    parser.add_argument("--processes", type=int, required=True, help="of all nodes together")
    parser.add_argument("--nodes", default="", help="names of the nodes, with commas")
    given = parser.parse_args(arguments)
    nodes = [name for name in given.nodes.split(",") if name]
    # SLURM names the node in the variables of its step.
    node = int(os.environ["SLURM_NODEID"]) if nodes else 0
    signal.signal(signal.SIGTERM, _end)
    command = [sys.executable, "-m", "weak_to_strong.training.train", given.spec]
    with held_folder("training") as folder:
        environments = process_environments(
            given.processes, node, nodes, str(folder), f"{given.spec}.address"
        )
        return run_processes(command, environments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
