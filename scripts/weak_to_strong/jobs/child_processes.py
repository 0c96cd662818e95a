"""Child processes of a job: the environment that each of them starts with.

Training processes, engines and math-verify's workers run Python modules of this package. They need
no network, so they get no secrets: what they print goes to logs as it is. A child never imports
from its working folder, where a user's `tokenize.py` would shadow a module of the same name.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from weak_to_strong.jobs.allocation import step_environment
from weak_to_strong.jobs.locks import mark_parent
from weak_to_strong.jobs.secret_values import without_secrets

#: Folder from which `weak_to_strong` is imported.
PACKAGE_ROOT = Path(__file__).resolve().parents[2]
#: Interface of the connections between processes of one machine, unless the user names another.
#: Otherwise gloo listens at the address of the machine's name, which other machines may reach.
_LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}


def loopback_variables() -> dict[str, str]:
    """Variables that keep the connections between processes of one machine on that machine."""
    return {name: os.environ.get(name, value) for name, value in _LOOPBACK.items()}


def child_environment(added: Mapping[str, str]) -> dict[str, str]:
    """Variables of a child process.

    They are those of this process without secrets and without the shape of its SLURM step, then
    `added`. The child finds this package, has no working folder on its module path, and its own
    children neither. It may follow this process (`locks.follow_parent`).

    Args:
        added: variables that are set whatever this process has.
    """
    environment = without_secrets(step_environment(os.environ)) | added
    # An empty entry of PYTHONPATH would stand for the working folder.
    inherited = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    environment["PYTHONPATH"] = os.pathsep.join([str(PACKAGE_ROOT), *inherited])
    leave_out_working_folder(environment)
    mark_parent(environment)
    return environment


def leave_out_working_folder(environment: MutableMapping[str, str]) -> None:
    """Set that no Python process with these variables imports from its working folder."""
    environment["PYTHONSAFEPATH"] = "1"


def start_child(
    command: Sequence[str], added: Mapping[str, str] | None = None, **options: Any
) -> subprocess.Popen[str]:
    """Start a child process whose standard output, and input if it has one, are UTF-8 pipes.

    Args:
        command: the program and its arguments.
        added: see `child_environment`.
        options: further arguments of `subprocess.Popen`.
    """
    return subprocess.Popen(
        command,
        env=child_environment(added or {}),
        stdout=subprocess.PIPE,
        encoding="utf-8",
        **options,
    )
