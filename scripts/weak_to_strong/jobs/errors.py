"""One-line messages for errors that are not bugs of this program."""

from __future__ import annotations

import errno
import os
import re


class ProcessDied(RuntimeError):
    """A process that a job started has ended; the message names the process and the fix."""


#: Causes and fixes for files that cannot be read or written, by the system's error number.
_STORAGE = {
    errno.ENOSPC: "the disk is full: make room",
    errno.EDQUOT: "the disk quota is used up: make room",
    errno.EFBIG: "the file would be larger than is allowed: raise the limit (ulimit -f)",
    errno.EROFS: "the file system is read-only: make it writable",
    errno.EACCES: "no permission: make it readable and writable",
    errno.EIO: "the disk reports errors: check it",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n)",
    errno.ENFILE: "the machine has too many open files: end other programs",
}

#: Free space (bytes) below which a place counts as full: a failed write may have been undone.
_LITTLE = 2**20

#: Part of torch's message when it cannot write a checkpoint. The message does not say why.
_TORCH_WRITER = "inline_container.cc"


def find_full_place() -> str | None:
    """Name the full one of the places in which jobs write, with the fix; None where none is full.

    Messages of libraries often name no file. A full `/dev/shm` then looks like a full disk.
    """
    places = {
        os.getcwd(): "make room",
        os.environ.get("TMPDIR", "/tmp"): "make room, or name another folder with TMPDIR",
        "/dev/shm": "make room, or make it larger (with Docker: --shm-size)",
    }
    for folder, fix in places.items():
        try:
            status = os.statvfs(folder)
        except OSError:
            continue
        free = status.f_bavail * status.f_frsize
        # Some file systems do not count their files.
        if free < _LITTLE or (status.f_files and not status.f_favail):
            return f"{folder}: the disk is full: {fix}"
    return None


def explain_storage(error: BaseException) -> str | None:
    """One line about a file that cannot be read or written; None for another error.

    Looks through the error and its causes. Libraries in Rust wrap the system's error in one of
    their own, whose text has the number.
    """
    cause: BaseException | None = error
    while cause is not None:
        number = getattr(cause, "errno", None)
        if number is None and (in_text := re.search(r"\(os error (\d+)\)", str(cause))):
            number = int(in_text[1])
        if number is None and _TORCH_WRITER in str(cause):
            number = errno.ENOSPC  # the usual reason
        if number is None and os.strerror(errno.ENOSPC) in str(cause):
            number = errno.ENOSPC
        if number in _STORAGE:
            file = getattr(cause, "filename", None)
            reason = _STORAGE[number]
            if number == errno.ENOSPC and not file and (place := find_full_place()):
                reason = place
            where = f"{file}: " if file else ""
            return f"{where}{reason}, then run again; nothing half-written was kept"
        cause = cause.__cause__ or cause.__context__
    return None


def explain(error: Exception) -> str | None:
    """One line for an error that is not a bug of this program; None for others."""
    if line := explain_storage(error):
        return line
    if isinstance(error, MemoryError):
        return "out of memory: run fewer jobs at once (--cores), or lower batch sizes; run again"
    return str(error) if isinstance(error, ValueError | ProcessDied) else None
