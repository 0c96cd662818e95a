"""How far a job is: a small file beside its log while it runs, which the run's progress line reads.

The file's name ends in `.progress`. It goes when the job ends. A job that is killed leaves it, and
the run that started the job removes it.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

#: Environment variable with the path of the job's note. Processes that the job starts inherit it.
NOTE_VARIABLE = "W2S_NOTE"
#: Seconds between two writings of a note, at least.
NOTE_SECONDS = 2.0
#: When this process wrote its note last, in seconds of the monotonic clock.
_last = {"written": float("-inf")}


@dataclass(frozen=True)
class WorkNote:
    """How far a job is.

    Attributes:
        first: units of work that an earlier run of the job had done.
        done: units that are done, with the first ones.
        total: all units; 0 where the job does not know them (yet).
        tokens: tokens that this run of the job has trained on or generated.
    """

    first: int = 0
    done: int = 0
    total: int = 0
    tokens: int = 0


def note_path(log: str | Path) -> Path:
    """Where a job's note is, by its log."""
    return Path(log).with_suffix(".progress")


def begin_note(log: str | Path) -> None:
    """Write the note of a job that begins, and let its processes know where it is."""
    os.environ[NOTE_VARIABLE] = str(note_path(log).absolute())
    _last["written"] = float("-inf")
    note_work(WorkNote())


def note_work(note: WorkNote) -> None:
    """Write how far the job is, unless that was done a moment ago; nothing outside a job.

    A note that cannot be written is left out: no job fails for it.
    """
    path, now = os.environ.get(NOTE_VARIABLE), time.monotonic()
    if not path or now - _last["written"] < NOTE_SECONDS:
        return
    _last["written"] = now
    with suppress(OSError):
        Path(path).write_text(json.dumps(asdict(note)), encoding="utf-8")


def end_note() -> None:
    """Remove the note of a job that ends."""
    if path := os.environ.pop(NOTE_VARIABLE, None):
        with suppress(OSError):
            Path(path).unlink()


def read_note(log: str | Path) -> WorkNote | None:
    """The note of a job; None for a job that has not begun, or while the note is being written."""
    try:
        note = json.loads(note_path(log).read_text(encoding="utf-8"))
        return WorkNote(**{name: int(value) for name, value in note.items()})
    except (OSError, ValueError, TypeError, AttributeError):
        return None
