"""One line on a whole run while it runs: jobs, tokens, time left, GPU-hours.

Time and tokens that are left follow from jobs that have been measured: those of this run, else
those that an earlier run left records of. A kind of job that has not been measured has no estimate,
and the line then says "more than". Nothing is guessed before the first measurement.
"""

from __future__ import annotations

import math
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from weak_to_strong.jobs.logs import CLEAR
from weak_to_strong.jobs.work_notes import WorkNote, note_path, read_note
from weak_to_strong.tables.files import read_json

#: Environment variable: `off`, or the seconds between two lines where stderr is no terminal.
PROGRESS = "W2S_PROGRESS"
#: Seconds between two looks at the jobs, and between two lines by default.
LOOK_SECONDS, LINE_SECONDS = 2.0, 60.0


@dataclass(frozen=True)
class PlannedWork:
    """What is known of a job before it runs.

    Attributes:
        kind: jobs of one kind take time and tokens in proportion to their size.
        size: gives the number of units of work; None while it is not known.
        makes_tokens: whether such jobs train on tokens or generate them.
    """

    kind: str
    size: Callable[[], float | None] = lambda: 1.0
    makes_tokens: bool = False


@dataclass(frozen=True)
class RunState:
    """Where a run stands. Jobs are named by the paths of their logs.

    Attributes:
        done: number of finished jobs, those without a log too.
        total: number of all jobs.
        running: jobs that have been started or submitted, each with the GPUs that it asked for.
        finished: jobs that have ended well.
    """

    done: int
    total: int
    running: Mapping[str, int]
    finished: frozenset[str]


@dataclass
class Measured:
    """Sums over finished jobs of one kind."""

    jobs: int = 0
    size: float = 0.0
    seconds: float = 0.0
    tokens: float = 0.0

    def add(self, size: float, seconds: float, tokens: float) -> None:
        self.jobs += 1
        self.size += size
        self.seconds += seconds
        self.tokens += tokens

    def expect(self, size: float | None) -> tuple[float, float]:
        """Seconds and tokens of a job; that of a mean job where its size is not known."""
        share = 1 / self.jobs if size is None else size / self.size
        return share * self.seconds, share * self.tokens


def add_record(measured: dict[str, Measured], work: PlannedWork, cost: Mapping[str, Any]) -> int:
    """Add the cost of a finished job (`records.py`) to its kind; return its tokens.

    A round that found some texts in the store counts those that it generated.
    """
    tokens = sum(cost.get(name) or 0 for name in ("response_tokens", "trained_tokens"))
    size = cost["samples"] if "samples" in cost else work.size()
    # Where nothing was left to do, nothing was measured.
    if size and (tokens or not work.makes_tokens):
        measured.setdefault(work.kind, Measured()).add(size, cost["wall_seconds"], tokens)
    return tokens


class RunProgress:
    """What the line says, from looks at a run.

    Args:
        works: the jobs that the run will start, by their logs.
        earlier: sums over jobs of earlier runs, by kind. This run's own come before them.
    """

    def __init__(self, works: Mapping[str, PlannedWork], earlier: Mapping[str, Measured]) -> None:
        self._works = works
        self._earlier = earlier
        self._measured: dict[str, Measured] = {}
        self._counted: set[str] = set()
        self._since: dict[str, float] = {}
        self._notes: dict[str, WorkNote] = {}
        self._state = RunState(0, 0, {}, frozenset())
        self._tokens = 0.0
        self._gpu_seconds = self._busy_seconds = 0.0
        self._began = self._now = 0.0
        self._has_gpus = False

    def look(self, state: RunState, now: float) -> None:
        """Take in where the run stands.

        Args:
            state: the run's jobs.
            now: time in seconds, from any beginning.
        """
        passed = now - self._now if self._began else 0.0
        self._began, self._now, self._state = self._began or now, now, state
        for log in self._since.keys() - state.running.keys():
            # An attempt that was killed leaves its note, which would count for the next one.
            del self._since[log]
            self._notes.pop(log, None)
            with suppress(OSError):
                note_path(log).unlink()
        for log, gpus in state.running.items():
            # Jobs of a cluster wait in its queue first.
            if note := read_note(log):
                self._notes[log] = note
                self._since.setdefault(log, now)
            if log in self._notes:
                self._busy_seconds += passed
                self._gpu_seconds += gpus * passed
                self._has_gpus |= gpus > 0
        for log in state.finished - self._counted:
            if log in self._works and self._count(log):
                self._counted.add(log)

    def _count(self, log: str) -> bool:
        """Count a finished job by its record, once that can be seen from here."""
        try:
            cost = read_json(Path(log).with_suffix(".json"))["cost"]
            self._tokens += add_record(self._measured, self._works[log], cost)
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return True

    def _rate(self, work: PlannedWork) -> Measured | None:
        """What has been measured of a job's kind; of jobs without tokens, of all such jobs."""
        rate = self._measured.get(work.kind) or self._earlier.get(work.kind)
        if rate or work.makes_tokens:
            return rate
        plain = {other.kind for other in self._works.values() if not other.makes_tokens}
        known = [sums for kind, sums in self._measured.items() if kind in plain]
        if not known:
            return None
        jobs, seconds = sum(sums.jobs for sums in known), sum(sums.seconds for sums in known)
        return Measured(jobs, jobs, seconds)

    def _left(self) -> tuple[float, float, bool, bool]:
        """Job-seconds and tokens left, and whether each of them is all that is left."""
        seconds = tokens = longest = 0.0
        all_seconds = all_tokens = True
        for log, work in self._works.items():
            if log in self._state.finished:
                continue
            rate, note = self._rate(work), self._notes.get(log)
            if note and note.total and note.done > note.first:
                share = (note.total - note.done) / (note.done - note.first)
                left = share * (self._now - self._since[log]), share * note.tokens
            elif rate:
                left = rate.expect(work.size())
                if log in self._since:
                    left = max(0.0, left[0] - (self._now - self._since[log])), left[1]
            else:
                all_seconds = False
                all_tokens &= not work.makes_tokens
                continue
            seconds, tokens = seconds + left[0], tokens + left[1]
            longest = max(longest, left[0])
        passed = self._now - self._began
        side_by_side = max(1.0, self._busy_seconds / passed) if passed else 1.0
        return max(longest, seconds / side_by_side), tokens, all_seconds, all_tokens

    def line(self) -> str:
        """The line, without a line break."""
        state = self._state
        share = f" ({state.done / state.total:.0%})" if state.total else ""
        parts = [f"{state.done} of {state.total} jobs{share}"]
        seconds, tokens, all_seconds, all_tokens = self._left()
        done = self._tokens + sum(note.tokens for note in self._notes.values())
        if done or tokens:
            of = f" of {'about' if all_tokens else 'more than'} {_count(done + tokens)}"
            parts.append(f"{_count(done)}{of if tokens else ''} tokens")
        if seconds:
            parts.append(f"{'about' if all_seconds else 'more than'} {_duration(seconds)} left")
        if self._has_gpus:
            parts.append(f"{self._gpu_seconds / 3600:.2f} GPU-hours")
        return f"Progress: {', '.join(parts)}"


def _count(number: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class ProgressLine:
    """Shows the line while a run is at work: in place on a terminal, else once a minute.

    Args:
        works: see `RunProgress`.
        earlier: gives what `RunProgress` gets, in the thread that shows the line: it reads files.
        state: gives the state of the run.
        seconds: see `line_seconds`.
        stream: where to show it; standard error by default.
    """

    def __init__(
        self,
        works: Mapping[str, PlannedWork],
        earlier: Callable[[], Mapping[str, Measured]],
        state: Callable[[], RunState],
        seconds: float = LINE_SECONDS,
        stream: TextIO | None = None,
    ) -> None:
        self._works = works
        self._earlier = earlier
        self._state = state
        self._seconds = seconds
        self._stream = sys.stderr if stream is None else stream
        self._in_place = self._stream.isatty()
        self._is_shown = False
        #: Held by whoever writes: the line, or what is written in its place.
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Show the line from now on, until `stop`."""
        for log in self._works:
            with suppress(OSError):
                note_path(log).unlink()  # that of a killed run
        self._thread.start()

    def stop(self) -> None:
        """End the thread and remove the line."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(2 * LOOK_SECONDS)
        self.clear()

    def clear(self) -> None:
        """Remove the line, so that another one can be written in its place."""
        with self._lock:
            if self._is_shown:
                self._write(CLEAR)
                self._is_shown = False

    @contextmanager
    def room(self) -> Iterator[None]:
        """Room for other output: the line is removed, and comes back only after this context."""
        with self._lock:
            self.clear()
            yield

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()

    def _run(self) -> None:
        try:
            self._show()
        except Exception as error:  # a line about the run is no reason to disturb it
            self.clear()
            reason = " ".join(str(error).split())[:200]
            self._write(f"Progress: not shown any more ({type(error).__name__}: {reason})\n")

    def _show(self) -> None:
        progress = RunProgress(self._works, self._earlier())
        shown = time.monotonic()
        is_over = False
        while not is_over:  # the first look is at once, so that short runs have a line too
            now = time.monotonic()
            # Sets that change during the look (RuntimeError) are looked at again.
            with suppress(RuntimeError):
                progress.look(self._state(), now)
            line = progress.line()
            if self._in_place:
                width = shutil.get_terminal_size().columns - 1
                with self._lock:
                    self._write(f"{CLEAR}{line[:width]}\r")
                    self._is_shown = True
            elif now - shown >= self._seconds:
                shown = now
                with self._lock:
                    self._write(f"{line}\n")
            is_over = self._over.wait(LOOK_SECONDS)


def line_seconds(environment: Mapping[str, str]) -> float | None:
    """Seconds between two lines where stderr is no terminal; None where no line is wanted.

    Raises:
        ValueError: the variable says neither; names it.
    """
    text = environment.get(PROGRESS, "").strip().lower()
    if text == "off":
        return None
    try:
        seconds = float(text or LINE_SECONDS)
    except ValueError:
        seconds = -1.0
    if not 1 <= seconds < math.inf:
        raise ValueError(f"{PROGRESS}: {text!r} is neither `off` nor a number of seconds from 1 on")
    return seconds


def measure_records(
    records: Iterable[Mapping[str, Any]],
    work_of: Callable[[str, Mapping[str, str]], PlannedWork | None],
) -> dict[str, Measured]:
    """Sums over the jobs that earlier runs left records of, by kind.

    Args:
        records: see `records.read_job_records`.
        work_of: gives the work of a job by rule and wildcards; None where it is not known (any
            more).
    """
    measured: dict[str, Measured] = {}
    for record in records:
        if work := work_of(record["rule"], record.get("wildcards", {})):
            add_record(measured, work, record["cost"])
    return measured
