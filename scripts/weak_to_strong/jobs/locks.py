"""Runs of a project folder: two never make the same files, none leaves a process behind.

Snakemake's lock is a file. It outlives a killed run, and does not show whether its run is alive.
A lock of the kernel (`flock`) ends with its process. So each run has a marker,
`.snakemake/runs/<host>-<process>-<time>`, which it holds with `flock`, and which names the run's
file locks. A marker that nobody holds belongs to a run that was killed: the next run removes the
file locks that it names, and no others, since other experiments may be at work in the folder.
The scripts of a run hold a second file (`.scripts`), and the next run waits until they have ended.
A script ends when its run ends.

In three cases a lock is left to Snakemake's own `--unlock`: the file system has no `flock`, the run
was started on another machine, or its jobs are on a cluster, where they may still be queued.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import json
import logging
import os
import select
import signal
import socket
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from weak_to_strong.jobs.snakemake_adapter import (
    is_rule_script,
    list_locks,
    locks_folder,
    was_killed,
)
from weak_to_strong.jobs.stop_signals import STOP_SIGNALS, ignore_stop_signals

logger = logging.getLogger("weak_to_strong")

#: The process with which a script ends, as `host:pid`.
PARENT = "W2S_PARENT"
#: The file that a run's scripts hold, beside its marker.
SCRIPTS_FILE = "W2S_SCRIPTS_FILE"
#: How long (seconds) a start waits for another start in the folder, or for a dead run's scripts.
START_SECONDS = 60.0
#: How long (seconds) scripts have to end in order; then they are killed.
END_SECONDS = 20.0
#: How much (seconds) the clocks of file servers and machines may differ.
CLOCK_SECONDS = 60.0
#: Locks that this process keeps until it ends.
_held: list[IO[str]] = []


@dataclass(frozen=True)
class Marker:
    """What a run says of itself in its marker.

    Attributes:
        host: name of the machine.
        process: id of the process of Snakemake there.
        since: when its jobs began, as text.
        on_cluster: whether its jobs run elsewhere and outlive the process.
        locks: names of Snakemake's lock files that the run has made.
    """

    host: str
    process: int
    since: str
    on_cluster: bool
    locks: tuple[str, ...]

    def __str__(self) -> str:
        place = ", jobs on a cluster" if self.on_cluster else ""
        return f"machine {self.host}, process {self.process}, since {self.since}{place}"

    @property
    def ends_with_its_process(self) -> bool:
        """Whether the run is over, with all of its jobs, when nobody holds its marker."""
        return self.host == socket.gethostname() and not self.on_cluster


class Runs:
    """The locks of one run of Snakemake.

    Args:
        folder: of Snakemake's records, `.snakemake`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._starting: IO[str] | None = None
        self._marker: IO[str] | None = None
        self._stopped_by: signal.Signals | None = None

    def enter(self, unlock: bool = False) -> None:
        """Before the workflow is planned: remove what killed runs left, and name those at work.

        Args:
            unlock: the user says that no run is at work (`--unlock`): all locks go, except those
                of a run that is seen to be alive.

        Raises:
            ValueError: processes of a killed run do not end; a run is at work that `--unlock` would
                expose; or a lock file is no plain file.
        """
        try:
            _marker_folder(self._folder).mkdir(parents=True, exist_ok=True)
            # The plan, up to Snakemake's lock, is made by one run after the other; otherwise two
            # that start at the same time both find the folder free.
            self._starting = open_lock(self._folder / "starting.flock")
            is_alone = _wait(self._starting, "another run in this folder to start")
            if unlock and not is_alone:
                raise ValueError("--unlock: another run is about to start; wait for it, or end it")
            self._report(*self._clear(unlock, is_alone), unlock)
        except OSError:
            return  # a read-only folder, or no `flock`

    def _clear(self, unlock: bool, is_alone: bool) -> tuple[list[Marker], list[Marker]]:
        """End what killed runs left: their last scripts, their markers and their file locks.

        Args:
            unlock: see `enter`.
            is_alone: whether no other run is between its plan and its marker. Else nothing is
                removed, since that run's locks are in no marker.

        Returns:
            The runs that are at work; then those that may be, here or elsewhere.
        """
        alive, unknown = [], []
        for path, marker in _read_markers(self._folder):
            if _is_held(path):
                alive.append(marker)
            elif not unlock and marker and self._may_be_at_work(marker):
                unknown.append(marker)
            elif is_alone:
                self._wait_for_scripts(path)
                path.unlink(missing_ok=True)
        # Any lock may belong to a run whose marker cannot be read.
        if None in alive or not is_alone:
            return [marker for marker in alive if marker], unknown
        kept = {name for marker in (*alive, *unknown) for name in marker.locks}
        if left := [path for path in list_locks(self._folder) if path.name not in kept]:
            print("A run was killed; this one goes on from what it left.", file=sys.stderr)
            for path in left:
                path.unlink(missing_ok=True)
        return alive, unknown

    def _may_be_at_work(self, marker: Marker) -> bool:
        """Whether a run that holds no marker may go on elsewhere: then its locks are there."""
        locks = locks_folder(self._folder)
        return not marker.ends_with_its_process and any(
            (locks / Path(name).name).exists() for name in marker.locks
        )

    def _wait_for_scripts(self, marker: Path) -> None:
        path = _scripts_file(marker)
        if path.exists():
            with open_lock(path) as scripts:
                if not _wait(scripts, "the last processes of a run that was killed"):
                    raise ValueError(
                        "processes of a run that was killed are still at work in this folder; end "
                        "them and run again"
                    )
            path.unlink(missing_ok=True)

    def _report(self, alive: list[Marker], unknown: list[Marker], unlock: bool) -> None:
        if alive and unlock:
            raise ValueError(
                f"--unlock: a run is at work in this folder ({alive[0]}), and its lock stays; wait "
                "for it, or end it with `kill -TERM`. Locks of runs that were killed are removed"
            )
        for marker in alive:
            print(
                f"Another run is at work in this folder ({marker}). If it makes the same files, "
                "this one ends: wait for the other, or end it with `kill -TERM`.",
                file=sys.stderr,
            )
        for marker in unknown:
            print(
                f"A run that may still be at work has a lock in this folder ({marker}). Where it "
                "and its jobs have ended, remove the lock with --unlock.",
                file=sys.stderr,
            )

    def started(self, locks: Iterable[str] = (), cluster: bool = False) -> None:
        """When Snakemake has its own lock: let others plan, and end in order from now on.

        Args:
            locks: names of the lock files that Snakemake has made for this run.
            cluster: whether jobs run elsewhere and outlive this process.
        """
        marker = Marker(
            host=socket.gethostname(),
            process=os.getpid(),
            since=time.strftime("%Y-%m-%d %H:%M"),
            on_cluster=cluster,
            locks=tuple(locks),
        )
        # Without a marker, the run keeps the lock of starts: the next one then removes nothing.
        with suppress(OSError):
            if self._starting:
                self._mark(marker)
                self._starting.close()
        for number in STOP_SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._stop)

    def _mark(self, marker: Marker) -> None:
        # The time: after a restart of the machine, a process may have the id of an older one.
        name = f"{marker.host}-{marker.process}-{time.time_ns()}"
        path = _marker_folder(self._folder) / name
        self._marker = open_lock(path)
        fcntl.flock(self._marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        json.dump(asdict(marker), self._marker)
        self._marker.flush()
        os.environ[SCRIPTS_FILE] = str(_scripts_file(path).absolute())
        atexit.register(self._leave, path, os.getpid())

    def _leave(self, marker: Path, process: int) -> None:
        """Remove the marker of a run that ends by itself. A killed run leaves its marker."""
        if os.getpid() == process:  # not a copy of the process
            for path in (marker, _scripts_file(marker)):
                with suppress(OSError):
                    path.unlink()

    def _stop(self, number: int, _frame: object) -> None:
        """End all scripts, then Snakemake, which by itself would wait for running jobs."""
        ignore_stop_signals()
        self._stopped_by = signal.Signals(number)
        # Not print: the interrupted code may be printing.
        os.write(2, f"\n{self._stopped_by.name}: ending the jobs\n".encode())
        end_scripts()
        raise KeyboardInterrupt

    def explain(self, logs: Iterable[str]) -> str | None:
        """Why a run ended without success, where Snakemake does not say it.

        Args:
            logs: Snakemake's log files.
        """
        if self._stopped_by:
            return (
                f"Ended by {self._stopped_by.name}. No process is left; the same command goes on "
                "from what is finished."
            )
        if was_killed(logs):
            return (
                "A job was killed from outside (SIGKILL), which mostly means that the machine ran "
                "out of memory: run fewer jobs at once (--cores), or lower batch sizes. The same "
                "command goes on from what is finished."
            )
        return None


def check_writable(folder: Path) -> None:
    """Check that a folder can be made and written to; it is not made.

    Raises:
        ValueError: it cannot; says why.
    """
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(bytes(2**13))
            file.flush()
    except OSError as error:
        raise ValueError(
            f"{folder}: cannot be written to ({error.strerror}); make room or give the right to "
            "write there, and run again"
        ) from error


def check_times(paths: Iterable[str]) -> None:
    """Reject inputs whose modification time lies in the future.

    Snakemake would refuse each result that is made from one.

    Args:
        paths: of inputs. Files that do not exist yet pass.

    Raises:
        ValueError: a file's time is later than now by more than `CLOCK_SECONDS`; names the file.
    """
    now = time.time()
    for path in dict.fromkeys(paths):
        with suppress(FileNotFoundError):
            if (changed := os.stat(path).st_mtime) > now + CLOCK_SECONDS:
                text = time.strftime("%Y-%m-%d %H:%M", time.localtime(changed))
                raise ValueError(
                    f"{path}: its time, {text}, is in the future; set the clock right if it is "
                    f"wrong, else `touch` the file, and run again"
                )


def mark_parent(environment: MutableMapping[str, str]) -> None:
    """Let scripts and processes that are started with `environment` end with this process."""
    environment[PARENT] = f"{socket.gethostname()}:{os.getpid()}"


def join_run() -> None:
    """Take a script's part in its run: end with it, and hold up the next one until then."""
    follow_parent()
    if not (path := os.environ.get(SCRIPTS_FILE)):
        return
    try:
        lock = open_lock(Path(path))
        fcntl.flock(lock, fcntl.LOCK_SH)
    except OSError:
        return
    _held.append(lock)


@contextmanager
def claim_folder(folder: Path) -> Iterator[bool]:
    """Keep runs out of a project folder; yields whether no run is at work there.

    Args:
        folder: of Snakemake's records.

    Raises:
        ValueError: a lock file is no plain file.
    """
    _marker_folder(folder).mkdir(parents=True, exist_ok=True)
    with open_lock(folder / "starting.flock") as starting:
        yield _lock(starting, fcntl.LOCK_EX) and not any(
            _is_held(path) for path, _ in _read_markers(folder)
        )


def follow_parent() -> None:
    """End this process by SIGTERM, and soon by force, when the one of `mark_parent` has ended."""
    host, _, pid = os.environ.get(PARENT, "").rpartition(":")
    if host != socket.gethostname():
        return
    try:
        parent = os.pidfd_open(int(pid))
    except ProcessLookupError:
        sys.exit(128 + signal.SIGTERM)
    except OSError:  # an old kernel
        return

    def follow() -> None:
        waiting = select.poll()
        waiting.register(parent, select.POLLIN)
        waiting.poll()
        logger.warning("the run that started this job is gone")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(END_SECONDS)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=follow, daemon=True).start()


def end_scripts() -> None:
    """End the jobs that this process runs, with all that they started, in bounded time."""
    import psutil

    own_process = psutil.Process()
    end = time.monotonic() + END_SECONDS
    terminated: set[psutil.Process] = set()
    while (below := own_process.children(recursive=True)) and time.monotonic() < end:
        # Only the scripts: they end what they started, and a shell would leave its script behind.
        for process in set(below) - terminated:
            with suppress(psutil.Error):
                if is_rule_script(process.cmdline()):
                    process.terminate()
                    terminated.add(process)
        psutil.wait_procs(below, timeout=0.2)
    for process in below:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(below, timeout=END_SECONDS)


def _marker_folder(folder: Path) -> Path:
    return folder / "runs"


def _scripts_file(marker: Path) -> Path:
    return marker.with_name(f"{marker.name}.scripts")


def _read_markers(folder: Path) -> list[tuple[Path, Marker | None]]:
    """Markers of all runs by path; None for one that cannot be read, as after a full disk."""
    markers = []
    for path in sorted(_marker_folder(folder).iterdir()):
        if path.suffix == ".scripts":
            continue
        try:
            with open_lock(path) as file:
                file.seek(0)
                values = json.load(file)
            marker = Marker(**{**values, "locks": tuple(map(str, values["locks"]))})
        except (LookupError, TypeError, ValueError):
            marker = None
        markers.append((path, marker))
    return markers


def _is_held(path: Path) -> bool:
    with open_lock(path) as file:
        return not _lock(file, fcntl.LOCK_EX)


def open_lock(path: Path) -> IO[str]:
    """Open a lock file, and make it where there is none.

    Raises:
        ValueError: it is a link or no plain file. Another user may have made it, so it, and what it
            leads to, stays as it is.
    """
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        try:
            handle = os.open(path, flags | os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        except PermissionError:  # of another user; it can be read and locked
            handle = os.open(path, flags | os.O_RDONLY)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR):
            raise
        raise ValueError(f"{path}: is no plain file; remove it and run again") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError(f"{path}: is no plain file; remove it and run again")
    return os.fdopen(handle, "a+", encoding="utf-8")


def _lock(file: IO[str], kind: int) -> bool:
    """Whether the lock was free."""
    file.seek(0)
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(file: IO[str], what: str) -> bool:
    """Wait for a lock, and say so; false when START_SECONDS were not enough."""
    end, announced = time.monotonic() + START_SECONDS, False
    while not _lock(file, fcntl.LOCK_EX):
        if time.monotonic() > end:
            return False
        if not announced:
            print(f"Waiting for {what}.", file=sys.stderr, flush=True)
            announced = True
        time.sleep(0.1)
    return True
