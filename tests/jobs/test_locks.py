"""Locks of runs and scripts, and a process that ends with the one that started it."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from weak_to_strong.jobs import locks as runs
from weak_to_strong.jobs.locks import (
    PARENT,
    SCRIPTS_FILE,
    Runs,
    check_times,
    check_writable,
    claim_folder,
    join_run,
)

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
def signals(monkeypatch):
    """`started` takes over the signals of its process, and sets a variable for its scripts."""
    monkeypatch.setenv(SCRIPTS_FILE, "")
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def leave_lock(folder: Path, number: int = 0) -> Path:
    lock = folder / f"locks/{number}.output.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text("results/a\n")
    return lock


def start(folder: Path, *numbers: int, **options) -> Runs:
    """A run that has made the locks with these numbers."""
    run = Runs(folder)
    run.enter()
    run.started([leave_lock(folder, number).name for number in numbers], **options)
    return run


def kill(run: Runs) -> None:
    """Release what the kernel releases when a run is killed."""
    run._marker.close()


def markers(folder: Path) -> list[Path]:
    return sorted((folder / "runs").iterdir())


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
    start(tmp_path, 0)
    Runs(tmp_path).enter()
    assert (tmp_path / "locks/0.output.lock").exists()
    assert f"process {os.getpid()}, since" in capsys.readouterr().err


def test_of_two_runs_only_the_lock_of_the_killed_one_goes(tmp_path, capsys):
    killed = start(tmp_path, 0)
    start(tmp_path, 1)
    [dead, alive] = markers(tmp_path)
    dead.write_text(dead.read_text().replace(str(os.getpid()), "999999999"))
    kill(killed)
    capsys.readouterr()
    Runs(tmp_path).enter()
    messages = capsys.readouterr().err
    assert [path.name for path in (tmp_path / "locks").iterdir()] == ["1.output.lock"]
    assert markers(tmp_path) == [alive]
    assert "this one goes on from what it left" in messages
    assert f"({runs.Marker(**json.loads(alive.read_text()))})" in messages
    assert "999999999" not in messages


def test_unlock_takes_the_lock_of_a_killed_run_and_not_of_a_live_one(tmp_path):
    live = start(tmp_path, 0)
    kill(start(tmp_path, 1, cluster=True))
    with pytest.raises(ValueError, match=f"--unlock: a run is at work .*process {os.getpid()}"):
        Runs(tmp_path).enter(unlock=True)
    assert [path.name for path in (tmp_path / "locks").iterdir()] == ["0.output.lock"]
    kill(live)
    Runs(tmp_path).enter(unlock=True)
    assert list((tmp_path / "locks").iterdir()) == markers(tmp_path) == []


def test_the_lock_of_a_run_on_another_machine_stays(tmp_path, capsys):
    kill(start(tmp_path, 0))
    [marker] = markers(tmp_path)
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "host": "elsewhere"}))
    Runs(tmp_path).enter()
    assert (tmp_path / "locks/0.output.lock").exists()
    assert "machine elsewhere" in capsys.readouterr().err
    # Snakemake's --unlock on that machine, or the end of the run there.
    (tmp_path / "locks/0.output.lock").unlink()
    Runs(tmp_path).enter()
    assert markers(tmp_path) == []


def test_the_lock_of_a_dead_run_on_a_cluster_stays(tmp_path):
    """Its jobs may still be queued. A small run of another experiment changes nothing."""
    kill(start(tmp_path, 0, cluster=True))
    kill(start(tmp_path, 1))
    Runs(tmp_path).enter()
    assert [path.name for path in (tmp_path / "locks").iterdir()] == ["0.output.lock"]
    assert len(markers(tmp_path)) == 1


@pytest.mark.parametrize("text", ["", "[]", '{"host": 1}', "\0", '{"locks": 5}'])
def test_a_damaged_marker_of_a_dead_run_goes_with_its_locks(tmp_path, text):
    kill(start(tmp_path, 0))
    markers(tmp_path)[0].write_text(text)
    Runs(tmp_path).enter()
    assert list((tmp_path / "locks").iterdir()) == markers(tmp_path) == []


@pytest.mark.parametrize("kind", ["link", "folder", "fifo"])
@pytest.mark.parametrize("name", ["starting.flock", "runs/host-1-1", "runs/host-1-1.scripts"])
def test_a_lock_file_that_is_no_plain_file_is_named(tmp_path, name, kind):
    precious = tmp_path / "precious"
    precious.write_text("text")
    path = tmp_path / ".snakemake" / name
    path.parent.mkdir(parents=True)
    if name.endswith(".scripts"):
        path.with_suffix("").write_text("{}")
    if kind == "link":
        path.symlink_to(precious)
    else:
        (Path.mkdir if kind == "folder" else os.mkfifo)(path)
    with pytest.raises(ValueError, match=f"{name}: is no plain file; remove it and run again"):
        Runs(tmp_path / ".snakemake").enter()
    assert precious.read_text() == "text"


@pytest.mark.parametrize("name", ["running.flock", "scripts.flock", "starting.flock"])
def test_no_link_is_followed(tmp_path, name):
    """Also not under the names that lock files had in earlier versions."""
    precious = tmp_path / "precious"
    precious.write_text("text")
    (tmp_path / name).symlink_to(precious)
    with suppress(ValueError):
        start(tmp_path, 0)
    assert precious.read_text() == "text"


def test_scripts_that_do_not_end_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "START_SECONDS", 0.2)
    run = start(tmp_path, 0)
    join_run()
    kill(run)
    with pytest.raises(ValueError, match="are still at work in this folder"):
        Runs(tmp_path).enter()
    assert (tmp_path / "locks/0.output.lock").exists()
    runs._held.pop().close()
    Runs(tmp_path).enter()
    assert markers(tmp_path) == []


def test_scripts_of_another_run_hold_up_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "START_SECONDS", 0.2)
    kill(start(tmp_path, 0))
    scripts = os.environ[SCRIPTS_FILE]
    start(tmp_path, 1)
    assert os.environ[SCRIPTS_FILE] != scripts
    join_run()
    Runs(tmp_path).enter()
    runs._held.pop().close()


def test_a_run_that_ends_by_itself_leaves_no_marker(tmp_path):
    code = "import sys; from pathlib import Path; from weak_to_strong.jobs.locks import Runs\n"
    code += "run = Runs(Path(sys.argv[1])); run.enter(); run.started(['0.output.lock'])\n"
    code += "assert len(list(Path(sys.argv[1], 'runs').iterdir())) == 1"
    command = [sys.executable, "-c", code, str(tmp_path)]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(SCRIPTS)}, check=True)
    assert markers(tmp_path) == []


def test_a_folder_is_claimed_only_while_no_run_is_at_work(tmp_path):
    run = start(tmp_path, 0)
    with claim_folder(tmp_path) as is_free:
        assert not is_free
    kill(run)
    with claim_folder(tmp_path) as is_free:
        assert is_free
    with Path(tmp_path / "starting.flock").open() as flock_file:
        fcntl.flock(flock_file, fcntl.LOCK_EX)
        with claim_folder(tmp_path) as is_free:
            assert not is_free


def test_a_start_waits_for_another(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runs, "START_SECONDS", 0.2)
    first = Runs(tmp_path)
    first.enter()
    began = time.monotonic()
    Runs(tmp_path).enter()
    assert time.monotonic() - began >= 0.2
    assert "Waiting for another run in this folder to start." in capsys.readouterr().err
    first.started()


def test_while_another_run_starts_no_lock_is_removed(tmp_path, monkeypatch):
    """Its locks are not in its marker yet."""
    monkeypatch.setattr(runs, "START_SECONDS", 0.2)
    kill(start(tmp_path, 0))
    starting = Runs(tmp_path)
    starting.enter()
    lock = leave_lock(tmp_path, 1)
    Runs(tmp_path).enter()
    assert lock.exists()
    with pytest.raises(ValueError, match="--unlock: another run is about to start"):
        Runs(tmp_path).enter(unlock=True)
    assert lock.exists()
    starting.started([lock.name])
    Runs(tmp_path).enter()
    assert lock.exists()


def test_the_lock_of_a_run_that_could_not_write_its_marker_stays(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "START_SECONDS", 0.2)
    run = Runs(tmp_path)
    run.enter()
    with monkeypatch.context() as full:
        full.setattr(Runs, "_mark", refuse)
        run.started([leave_lock(tmp_path, 0).name])
    Runs(tmp_path).enter()
    assert (tmp_path / "locks/0.output.lock").exists()


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
