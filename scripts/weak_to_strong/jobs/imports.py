"""Imports of large libraries.

Pausing garbage collection takes a third off the start of a training: 4.3 instead of 6.3 CPU seconds
(benchmarks/training_start.csv).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Iterator[None]:
    """Pause garbage collection while the body imports large libraries.

    The libraries leave a million objects that are never garbage, and Python would look through them
    again and again. Afterwards they are frozen, so that later collections skip them.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
