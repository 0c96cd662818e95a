"""The log of a job: a file and standard error, without secrets."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from weak_to_strong.jobs.secret_values import hide_secrets

logger = logging.getLogger("weak_to_strong")
#: Clears a terminal's line from the cursor on. The progress line of a run (`progress.py`) leaves
#: the cursor at its beginning, and would show behind a shorter message.
CLEAR = "\033[K"


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return hide_secrets(super().format(record))


def configure_logging(log_file: str | Path | None, label: str) -> None:
    """Send the package's messages to `log_file`, where there is one, and to standard error.

    Each line on standard error begins with `label`. Secrets are hidden in both.
    """
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # Where the disk is full, `logging` would add a traceback for each line.
    logging.raiseExceptions = False
    logger.handlers.clear()
    console = logging.StreamHandler(sys.stderr)
    clear = CLEAR if sys.stderr.isatty() else ""
    console.setFormatter(_Formatter(f"{clear}[{label}] %(message)s"))
    logger.addHandler(console)
    if log_file:
        Path(log_file).parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(log_file, mode="w", encoding="utf-8")
        file.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(file)
