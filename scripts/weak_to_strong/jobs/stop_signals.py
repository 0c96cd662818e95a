"""The signals that end a process in order, and how an ending process ignores further ones."""

from __future__ import annotations

import signal
from types import FrameType

#: SIGTERM is a cluster's time limit or a cancelled job. SIGINT is Ctrl-C.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def ignore_stop_signals() -> None:
    """Ignore further stop signals, so that nothing interrupts the cleaning up of an ending process.

    A function ignores them, and not SIG_IGN: when SIG_IGN is set after a signal has come and
    before its handler has run, Python writes a traceback ("ignored due to race condition").
    """
    for number in STOP_SIGNALS:
        signal.signal(number, _ignore)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    pass
