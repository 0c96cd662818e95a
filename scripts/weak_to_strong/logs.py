"""Logging of a rule's script, and its one-line end on bad input."""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from weak_to_strong.ledger import Meter
from weak_to_strong.records import COMMAND, leave_record, start_record
from weak_to_strong.runs import join_run
from weak_to_strong.secret_values import hide_secrets

logger = logging.getLogger("weak_to_strong")


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return hide_secrets(super().format(record))


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


def configure_logging(log_file: str | Path | None, label: str) -> None:
    """Send the package's messages to `log_file` and, marked with `label`, to standard error."""
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # A full disk must not add a traceback for each line.
    logging.raiseExceptions = False
    logger.handlers.clear()
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(_Formatter(f"[{label}] %(message)s"))
    logger.addHandler(console)
    if log_file:
        Path(log_file).parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(log_file, mode="w", encoding="utf-8")
        file.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(file)


def _end(number: int, _frame: Any) -> None:
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)  # once: cleaning up must not be interrupted
    logger.warning("ended from outside; what is finished stays, and the next run goes on from it")
    sys.exit(128 + number)


def run_script(main: Callable[[Any], Mapping[str, Any] | None], snakemake: Any) -> None:
    """Run a rule's `main(snakemake)`, and leave the record of what it used, made and took.

    Inputs that are not as the jobs that made them left them are refused first (`records.py`).

    What `main` returns are counts of its work, such as tokens; they go beside what was measured
    (`ledger.py`).

    A ValueError (bad input), a full disk and the like, want of memory and the death of a process
    that the job started become one line and exit status 1; anything else keeps its traceback,
    which also goes to the log. SIGTERM - a cluster's time limit, a cancelled job - and Ctrl-C
    end the script like an exception, so that the processes that it started end with it. It also
    ends with the run of Snakemake that started it.
    """
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    join_run(Path(".snakemake"))
    # Native libraries read these when they are first loaded, which is inside main().
    os.environ.setdefault("OMP_NUM_THREADS", str(snakemake.threads))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    label = "/".join([snakemake.rule, *(str(value) for value in snakemake.wildcards)])
    try:
        configure_logging(snakemake.log[0] if snakemake.log else None, label)
        with Meter() as meter:
            inputs = start_record(snakemake)
            counts = main(snakemake) or {}
        command = hide_secrets(os.environ.get(COMMAND, ""))
        leave_record(snakemake, command, inputs, {**meter.cost(), **counts})
    except Exception as error:
        if said := explain(error):
            logger.debug("%s failed", snakemake.rule, exc_info=True)
            logger.error("%s", said)
        else:
            logger.exception("%s failed", snakemake.rule)
        sys.exit(1)


def explain(error: Exception) -> str | None:
    """One line for an error that is no fault of the programme; None for others."""
    if said := explain_storage(error):
        return said
    if isinstance(error, MemoryError):
        return "out of memory: run fewer jobs at once (--cores), or lower batch sizes; run again"
    return str(error) if isinstance(error, ValueError | ProcessDied) else None
