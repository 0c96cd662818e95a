"""One line for an error that is no fault of the programme."""

from __future__ import annotations

import errno
import re


class ProcessDied(RuntimeError):
    """A process that a job started has ended; the message says which, and what to do."""


#: What the system says of a file that cannot be written, in words that tell what to do.
_STORAGE = {
    errno.ENOSPC: "the disk is full: make room",
    errno.EDQUOT: "the disk quota is used up: make room",
    errno.EFBIG: "the file would be larger than is allowed: raise the limit (ulimit -f)",
    errno.EROFS: "the file system is read-only: make it writable",
    errno.EACCES: "no permission: make it readable and writable",
    errno.EIO: "the disk fails: look after it",
}

#: In torch's message where a checkpoint cannot be written, which does not tell why.
_TORCH_WRITER = "inline_container.cc"


def explain_storage(error: BaseException) -> str | None:
    """One line on a file that cannot be read or written; None where an error is another one.

    Libraries in Rust wrap the system's error in one of their own, and leave its number in the text.
    """
    seen: BaseException | None = error
    while seen is not None:
        number = getattr(seen, "errno", None)
        if number is None and (named := re.search(r"\(os error (\d+)\)", str(seen))):
            number = int(named[1])
        if number is None and _TORCH_WRITER in str(seen):
            number = errno.ENOSPC  # mostly
        if number in _STORAGE:
            file = getattr(seen, "filename", None)
            where = f"{file}: " if file else ""
            return f"{where}{_STORAGE[number]}, then run again; nothing half-written was kept"
        seen = seen.__cause__ or seen.__context__
    return None


def explain(error: Exception) -> str | None:
    """One line for an error that is no fault of the programme; None for others."""
    if said := explain_storage(error):
        return said
    if isinstance(error, MemoryError):
        return "out of memory: run fewer jobs at once (--cores), or lower batch sizes; run again"
    return str(error) if isinstance(error, ValueError | ProcessDied) else None
