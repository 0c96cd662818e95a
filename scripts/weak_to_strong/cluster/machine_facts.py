"""Looking at a machine: outside commands with a time limit, and versions of packages."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from weak_to_strong.jobs.child_processes import child_environment
from weak_to_strong.jobs.secret_values import hide_secrets

#: Folder of this checkout.
PROJECT = Path(__file__).parents[3]
#: Seconds that an outside command may take.
COMMAND_SECONDS = 20.0
#: Seconds that all checks may take together.
ALL_SECONDS = 60.0
#: What nvidia-smi is asked of each GPU, see `machine_checks.parse_gpus`.
GPU_FIELDS = "name,memory.total,memory.used,driver_version,compute_cap"
#: What sinfo is asked of each node, see `machine_checks.parse_partition_nodes`.
NODE_FORMAT = "%N|%c|%m|%G|%t"


def ask_command(command: Sequence[str], seconds: float = COMMAND_SECONDS) -> str:
    """Standard output of a command.

    A command that does not end is killed and not waited for: one that waits for a dead driver or a
    dead disk cannot be killed.

    Raises:
        ValueError: one line: there is no such command, it failed, or did not answer in time.
    """
    name = command[0]
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as messages:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=messages,
                env=child_environment({}),
                start_new_session=True,
            )
        except OSError as error:
            raise ValueError(f"{name} cannot be called ({error.strerror})") from error
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise ValueError(f"{name} gave no answer in {seconds:.0f} s") from None
        output.seek(0)
        text = output.read().decode(errors="replace")
        if status:
            messages.seek(0)
            lines = (messages.read().decode(errors="replace").strip() or text.strip()).splitlines()
            last = hide_secrets(lines[-1]) if lines else f"status {status}"
            raise ValueError(f"{name} failed ({last[:200]})")
        return text


def installed_versions() -> dict[str, str]:
    """Version of each installed package by its normalised name."""
    return {
        distribution.metadata["Name"].lower().replace("_", "-").replace(".", "-"): (
            distribution.version
        )
        for distribution in metadata.distributions()
        if distribution.metadata["Name"]
    }


def call_all(calls: Mapping[str, Callable[[], Any]], seconds: float) -> dict[str, Any]:
    """Results of functions that are called at the same time, each in a thread.

    Args:
        calls: the functions by name.
        seconds: how long all may take together. A function that takes longer is left behind: no
            thread holds up the end of this process.

    Returns:
        By name what the function returned, the exception that it raised, or TimeoutError.
    """
    results: dict[str, Any] = {}

    def call(name: str) -> None:
        try:
            results[name] = calls[name]()
        except Exception as error:
            results[name] = error

    threads = [threading.Thread(target=call, args=(name,), daemon=True) for name in calls]
    for thread in threads:
        thread.start()
    over = threading.Event()
    timer = threading.Timer(seconds, over.set)
    timer.daemon = True
    timer.start()
    for thread in threads:
        while thread.is_alive() and not over.is_set():
            thread.join(0.1)
    timer.cancel()
    late = TimeoutError(f"no answer in {seconds:.0f} s")
    return {name: results.get(name, late) for name in calls}
