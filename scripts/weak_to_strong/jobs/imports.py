"""Imports of large libraries."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Iterator[None]:
    """Import large libraries in here, with no garbage collection on the way.

    They leave a million objects that are never garbage. While these come, Python looks through all
    of them again and again. Afterwards they are frozen, so that later collections pass them by.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
