"""Runs of a project folder: one at a time starts, none leaves a process behind.

Snakemake's lock is a file. It outlives a killed run, and does not show whether its run is alive.
A lock of the kernel (`flock`) ends with its process. Each run holds one, and each job's script
holds another. From them the next run knows that a file lock belongs to a dead run, and removes it.
It also waits until the last scripts of that run have ended. A script ends when its run ends.

In three cases everything is left to Snakemake's own lock: the file system has no `flock`, the last
run started on another machine, or its jobs are on a cluster, where they may still be queued.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from weak_to_strong.jobs.snakemake_adapter import is_rule_script, locks_folder, was_killed

logger = logging.getLogger("weak_to_strong")

#: The process with which a script ends, as `host:pid`.
PARENT = "W2S_PARENT"
#: Marks a run whose jobs are on a cluster.
ON_CLUSTER = ", jobs on a cluster"
#: How long (seconds) a start waits for another start in the folder, or for a dead run's scripts.
START_SECONDS = 60.0
#: How long (seconds) scripts have to end in order; then they are killed.
END_SECONDS = 20.0
#: How much (seconds) the clocks of file servers and machines may differ.
CLOCK_SECONDS = 60.0
#: Locks that this process keeps until it ends.
_held: list[IO[str]] = []


class Runs:
    """The locks of one run of Snakemake.

    Args:
        folder: of Snakemake's records, `.snakemake`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._starting: IO[str] | None = None
        self._running: IO[str] | None = None
        self._stopped_by: signal.Signals | None = None

    def enter(self) -> None:
        """Before the workflow is planned: remove what a killed run left.

        Raises:
            ValueError: processes of a killed run do not end.
        """
        try:
            self._folder.mkdir(exist_ok=True)
            self._starting = _open(self._folder / "starting.flock")
            self._running = _open(self._folder / "running.flock")
            # The plan, up to Snakemake's lock, is made by one run after the other; otherwise two
            # that start at the same time both find the folder free.
            _wait(self._starting, "another run in this folder to start")
            if _lock(self._running, fcntl.LOCK_EX):
                self._clear()
            elif other := self._running.read().strip():
                print(
                    f"Another run is at work in this folder ({other}). If it makes the same files, "
                    "this one ends: wait for the other, or end it with `kill -TERM`.",
                    file=sys.stderr,
                )
            fcntl.flock(self._running, fcntl.LOCK_SH)
        except OSError:
            return  # a read-only folder, or no `flock`

    def _clear(self) -> None:
        """End what a dead run left: its last scripts, and Snakemake's lock."""
        last_run = self._running.read().strip()
        host = last_run.partition(",")[0].removeprefix("machine ")
        if host not in ("", socket.gethostname()) or last_run.endswith(ON_CLUSTER):
            return
        with _open(self._folder / "scripts.flock") as scripts:
            if not _wait(scripts, "the last processes of a run that was killed"):
                raise ValueError(
                    "processes of a run that was killed are still at work in this folder; end them "
                    "and run again"
                )
        locks = locks_folder(self._folder)
        if locks.is_dir() and any(locks.iterdir()):
            print("The last run was killed; this one goes on from what it left.", file=sys.stderr)
            shutil.rmtree(locks)

    def started(self, cluster: bool = False) -> None:
        """When Snakemake has its own lock: let others plan, and end in order from now on.

        Args:
            cluster: whether jobs run elsewhere and outlive this process.
        """
        if self._running and self._starting:
            self._running.seek(0)
            self._running.truncate()
            now = time.strftime("%Y-%m-%d %H:%M")
            host = socket.gethostname()
            place = ON_CLUSTER if cluster else ""
            self._running.write(f"machine {host}, process {os.getpid()}, since {now}{place}\n")
            self._running.flush()
            self._starting.close()
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._stop)

    def _stop(self, number: int, _frame: object) -> None:
        """End all scripts, then Snakemake, which by itself would wait for running jobs."""
        for stop_signal in (signal.SIGTERM, signal.SIGINT):
            signal.signal(stop_signal, signal.SIG_IGN)
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


def join_run(folder: Path) -> None:
    """Take a script's part in its run: end with it, and hold up the next one until then.

    Args:
        folder: of Snakemake's records.
    """
    follow_parent()
    try:
        lock = _open(folder / "scripts.flock")
        fcntl.flock(lock, fcntl.LOCK_SH)
    except OSError:
        return
    _held.append(lock)


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

    this = psutil.Process()
    end = time.monotonic() + END_SECONDS
    terminated: set[psutil.Process] = set()
    while (below := this.children(recursive=True)) and time.monotonic() < end:
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


def _open(path: Path) -> IO[str]:
    return path.open("a+", encoding="utf-8")


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
