"""Two runs in one folder: the second ends with one line and does not harm the first.

Stale locks are removed.
"""

import fcntl
import json
import signal
import socket
from pathlib import Path

import pytest
import yaml
from faulty import WEAK_SIDE, alive_in, wait_for

pytestmark = pytest.mark.slow

TABLES = [f"results/test/data/dice/{split}.parquet" for split in ("train_1", "train_2", "test")]

TRAINING = f"results/test/models/{WEAK_SIDE}/weak-0/manifest.json"


def is_held(path: Path) -> bool:
    """Whether a process has a kernel lock on a file."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_second_run_is_refused(fresh, undisturbed):
    first = fresh.start(*TABLES)
    assert wait_for(lambda: first.find("/.snakemake/scripts/"), 300, first)
    first.process.send_signal(signal.SIGSTOP)
    try:
        output = fresh.fail(*TABLES)
    finally:
        first.process.send_signal(signal.SIGCONT)
    assert f"process {first.process.pid}, since" in output
    assert "Another run is at work in this folder" in output
    assert "Directory cannot be locked" in output
    assert first.wait() == 0, first.text()[-4000:]
    assert "Nothing to be done" in fresh.finish(*TABLES)
    expected = undisturbed.hashes()
    assert {name: expected[name] for name in fresh.hashes()} == fresh.hashes()


def test_two_that_start_at_once(fresh):
    runs = [fresh.start(*TABLES) for _ in range(2)]
    statuses = sorted(run.wait() for run in runs)
    assert statuses == [0, 1]
    [refused] = [run.text() for run in runs if run.process.returncode]
    assert "Directory cannot be locked" in refused
    assert "Another run is at work in this folder" in refused


def test_a_dry_run_beside_a_run(fresh):
    first = fresh.start(*TABLES)
    assert wait_for(lambda: first.find("/.snakemake/scripts/"), 300, first)
    fresh.finish("--dry-run", *TABLES)
    assert first.wait() == 0, first.text()[-4000:]


def test_the_lock_of_a_killed_run_goes_and_its_scripts_end_first(fresh):
    run = fresh.start(TRAINING)
    [script] = wait_for(lambda: run.find(".train.py"), 300, run)
    runs = fresh.path(".snakemake/runs")
    wait_for(lambda: any(map(is_held, runs.glob("*.scripts"))), 300, run)
    script.suspend()
    run.process.kill()
    run.wait()
    assert list(fresh.path(".snakemake/locks").iterdir())
    again = fresh.start(*TABLES)
    message = "Waiting for the last processes of a run that was killed"
    wait_for(lambda: message in again.text(), 300, again)
    script.resume()
    assert again.wait() == 0, again.text()[-4000:]
    assert "this one goes on from what it left" in again.text()
    assert alive_in(fresh.folder) == []


def test_a_lock_from_another_machine_stays(fresh):
    """The run may still be alive there: not every file system shares kernel locks."""
    run = fresh.start(*TABLES)
    assert wait_for(lambda: run.find("/.snakemake/scripts/"), 300, run)
    run.process.kill()
    run.wait()
    wait_for(lambda: not alive_in(fresh.folder), 300)
    [marker] = fresh.path(".snakemake/runs").glob("*[0-9]")
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "host": "elsewhere"}))
    output = fresh.fail(*TABLES)
    assert "Directory cannot be locked" in output
    assert f"(machine elsewhere, process {run.process.pid}, since" in output
    fresh.finish("--unlock", *TABLES)
    fresh.finish(*TABLES)


def test_of_two_experiments_one_is_killed(fresh):
    """The other goes on, keeps its lock, and is the one that is named."""
    other_config = {**fresh.config, "experiment": "other"}
    fresh.path("config/other.yaml").write_text(yaml.safe_dump(other_config))
    table = "results/other/data/dice/train_1.parquet"
    alive = fresh.start(*TABLES)
    assert wait_for(lambda: alive.find("/.snakemake/scripts/"), 300, alive)
    alive.process.send_signal(signal.SIGSTOP)
    try:
        killed = fresh.start(table, config="config/other.yaml")
        assert wait_for(lambda: killed.find("/.snakemake/scripts/"), 300, killed)
        killed.process.kill()
        killed.wait()
        output = fresh.finish(table, config="config/other.yaml")
        assert "this one goes on from what it left" in output
        assert f"process {alive.process.pid}, since" in output
        assert f"process {killed.process.pid}, since" not in output
        # The end of that run took its own lock only.
        assert f"process {alive.process.pid}, since" in fresh.fail(*TABLES)
        assert "Directory cannot be locked" in fresh.fail(*TABLES)
        output = fresh.fail("--unlock", *TABLES)
        assert (
            f"--unlock: a run is at work in this folder (machine {socket.gethostname()}" in output
        )
        assert "Directory cannot be locked" in fresh.fail(*TABLES)
    finally:
        alive.process.send_signal(signal.SIGCONT)
    assert alive.wait() == 0, alive.text()[-4000:]
    assert list(fresh.path(".snakemake/runs").iterdir()) == []
    assert "Nothing to be done" in fresh.finish(*TABLES)
