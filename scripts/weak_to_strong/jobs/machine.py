"""What the machine must give to a run: checked before the first job, mended where possible."""

from __future__ import annotations

import getpass
import os
import resource
import shlex
import sys
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

from weak_to_strong.jobs.locks import check_writable

#: Open files that a process is allowed at least (`ulimit -n`). A study on a CPU runs with so many.
LEAST_OPEN_FILES = 256
#: Shared memory, through which processes of training and generation exchange data.
SHARED_MEMORY = Path("/dev/shm")
#: Characters that the path of the workflow may not hold, and why.
_SIGNS = {
    "{": "Snakemake takes braces for a wildcard",
    "}": "Snakemake takes braces for a wildcard",
    ":": "Python and the shell take a colon for the end of a path",
}


def check_checkout_path(folder: str) -> None:
    """Check that Snakemake and Python can work with the path of the workflow's own folder.

    Raises:
        ValueError: the path holds a brace or a colon, or is not UTF-8.
    """
    fix = "move or rename the folder, and run `make setup` there"
    for sign, reason in _SIGNS.items():
        if sign in folder:
            raise ValueError(f"{folder}: the path of this workflow holds `{sign}`; {reason}; {fix}")
    try:
        folder.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{folder!a}: the path of this workflow is not UTF-8; {fix}") from error


def allow_open_files() -> None:
    """Raise this process's limit of open files where it is low; its children inherit it.

    Raises:
        ValueError: the system does not allow `LEAST_OPEN_FILES`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= LEAST_OPEN_FILES:
        return
    if hard != resource.RLIM_INFINITY and hard < LEAST_OPEN_FILES:
        raise ValueError(
            f"a process may have only {hard} files open (ulimit -n), which is too few; raise the "
            f"limit to at least {LEAST_OPEN_FILES} and run again"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (LEAST_OPEN_FILES, hard))


def check_temporary_folders() -> None:
    """Check that the folders can be written to in which processes keep short-lived files.

    Raises:
        ValueError: one of them is full or read-only, or there is none; names it and the fix.
    """
    if SHARED_MEMORY.exists():
        check_writable(SHARED_MEMORY)
    given = os.environ.get("TMPDIR", "")
    try:
        # Python goes on to another folder where TMPDIR is full. Other programs do not.
        check_writable(Path(given if os.path.isdir(given) else tempfile.gettempdir()))
    except FileNotFoundError as error:
        raise ValueError(
            "no folder for temporary files can be written to; make room in /tmp, or name a folder "
            "with TMPDIR, and run again"
        ) from error


def name_user(environment: MutableMapping[str, str]) -> None:
    """Give a name to a user who is only a number, as in many containers.

    torch asks for the name, and fails for a user whom /etc/passwd does not list.

    Args:
        environment: variables for this process and its children.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        environment["USER"] = environment["LOGNAME"] = f"user-{os.getuid()}"


def call_python_by_name(environment: MutableMapping[str, str]) -> None:
    """Let Snakemake start scripts where the path of Python holds a space.

    Snakemake puts `sys.executable` into a shell's command without quotes. By its name alone, the
    shell finds Python in its folder, which comes first on PATH.

    Args:
        environment: variables for this process and its children.
    """
    if shlex.quote(sys.executable) != sys.executable:
        folder, name = os.path.split(sys.executable)
        environment["PATH"] = os.pathsep.join([folder, environment.get("PATH", os.defpath)])
        sys.executable = name
