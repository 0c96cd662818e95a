"""Locks of runs and scripts, and a process that ends with the one that started it."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from weak_to_strong.jobs import locks as runs
from weak_to_strong.jobs.locks import PARENT, Runs, check_times, check_writable

SCRIPTS = Path(__file__).parents[2] / "scripts"
FOLLOWER = """
import os, subprocess, sys, time
from weak_to_strong.jobs import locks as runs
if sys.argv[1] == "parent":
    runs.mark_parent(os.environ)
    subprocess.Popen([sys.executable, "-c", sys.argv[2], "child", sys.argv[2]])
    time.sleep(60)
runs.follow_parent()
print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def signals():
    """`started` takes over the signals of its process."""
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


def leave_lock(folder: Path) -> Path:
    lock = folder / "locks/0.output.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("results/a\n")
    return lock


def test_a_process_ends_with_its_parent():
    parent = subprocess.Popen(
        [sys.executable, "-c", FOLLOWER, "parent", FOLLOWER],
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
        stdout=subprocess.PIPE,
        text=True,
    )
    child = os.pidfd_open(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    # The pipe ends when the last process that holds it does.
    assert parent.stdout.read() == ""
    os.close(child)


def test_a_process_whose_parent_is_gone_does_not_begin(monkeypatch):
    gone = subprocess.Popen(["true"])
    gone.wait()
    monkeypatch.setenv(PARENT, f"{socket.gethostname()}:{gone.pid}")
    with pytest.raises(SystemExit):
        runs.follow_parent()


def test_a_parent_on_another_machine_is_not_followed(monkeypatch):
    monkeypatch.setenv(PARENT, "elsewhere:1")
    runs.follow_parent()


def test_the_lock_of_a_dead_run_goes(tmp_path, capsys):
    lock = leave_lock(tmp_path)
    Runs(tmp_path).enter()
    assert not lock.exists()
    assert "this one goes on from what it left" in capsys.readouterr().err


def test_the_lock_of_a_live_run_stays(tmp_path, capsys):
    first = Runs(tmp_path)
    first.enter()
    first.started()
    lock = leave_lock(tmp_path)
    Runs(tmp_path).enter()
    assert lock.exists()
    assert f"process {os.getpid()}, since" in capsys.readouterr().err


def test_the_lock_of_a_run_on_another_machine_stays(tmp_path):
    lock = leave_lock(tmp_path)
    (tmp_path / "running.flock").write_text("machine elsewhere, process 1, since then\n")
    Runs(tmp_path).enter()
    assert lock.exists()


def test_the_lock_of_a_dead_run_on_a_cluster_stays(tmp_path):
    """Its jobs may still be queued."""
    dead = Runs(tmp_path)
    dead.enter()
    dead.started(cluster=True)
    dead._running.close()
    lock = leave_lock(tmp_path)
    Runs(tmp_path).enter()
    assert lock.exists()


def test_scripts_that_do_not_end_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "START_SECONDS", 0.2)
    lock = leave_lock(tmp_path)
    with (tmp_path / "scripts.flock").open("a") as script:
        fcntl.flock(script, fcntl.LOCK_SH)
        with pytest.raises(ValueError, match="are still at work in this folder"):
            Runs(tmp_path).enter()
    assert lock.exists()


def test_a_start_waits_for_another(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runs, "START_SECONDS", 0.2)
    first = Runs(tmp_path)
    first.enter()
    began = time.monotonic()
    Runs(tmp_path).enter()
    assert time.monotonic() - began >= 0.2
    assert "Waiting for another run in this folder to start." in capsys.readouterr().err
    first.started()


def test_a_kill_is_explained(tmp_path):
    log = tmp_path / "log"
    log.write_text("Command 'x' died with <Signals.SIGKILL: 9>.\n")
    assert "ran out of memory" in Runs(tmp_path).explain([str(log)])
    log.write_text("Command 'x' returned non-zero exit status 1.\n")
    assert Runs(tmp_path).explain([str(log)]) is None


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    check_writable(tmp_path / "new/folder")
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match=r"file/results: cannot be written to \(Not a directory\)"):
        check_writable(tmp_path / "file/results")


def test_a_file_from_the_future_is_named(tmp_path):
    file = tmp_path / "data.jsonl"
    file.touch()
    check_times([str(file), str(tmp_path / "none")])
    os.utime(file, (0, time.time() + 3600))
    with pytest.raises(ValueError, match=r"data\.jsonl: its time, .*, is in the future; .*`touch`"):
        check_times([str(file)])
