"""One-line messages for errors that are not bugs of this program."""

from __future__ import annotations

import errno
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
}

#: Part of torch's message when it cannot write a checkpoint. The message does not say why.
_TORCH_WRITER = "inline_container.cc"


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
        if number in _STORAGE:
            file = getattr(cause, "filename", None)
            where = f"{file}: " if file else ""
            return f"{where}{_STORAGE[number]}, then run again; nothing half-written was kept"
        cause = cause.__cause__ or cause.__context__
    return None


def explain(error: Exception) -> str | None:
    """One line for an error that is not a bug of this program; None for others."""
    if line := explain_storage(error):
        return line
    if isinstance(error, MemoryError):
        return "out of memory: run fewer jobs at once (--cores), or lower batch sizes; run again"
    return str(error) if isinstance(error, ValueError | ProcessDied) else None
