"""SIGTERM and Ctrl-C: the run ends soon with a message and no process left; the next continues."""

import os
import signal
import time

import psutil
import pytest
from faulty import WEAK_SIDE, alive_in, wait_for

pytestmark = pytest.mark.slow

LONGEST = 30.0
TRAINING = f"results/test/models/{WEAK_SIDE}/weak-0/manifest.json"
ROUND = f"results/test/generations/{WEAK_SIDE}/weak-1.parquet"


def terminate(run):
    run.process.send_signal(signal.SIGTERM)


def interrupt(run):
    """Send the signal to the whole process group, as a terminal does."""
    os.killpg(run.process.pid, signal.SIGINT)


@pytest.mark.parametrize(
    ("stop", "target", "mark"),
    [(terminate, TRAINING, ".train.py"), (interrupt, ROUND, "engine_worker")],
)
def test_a_stopped_run_goes_on(fresh, undisturbed, stop, target, mark):
    run = fresh.start(target)
    assert wait_for(lambda: run.find(mark), 300, run), run.text()[-4000:]
    started = psutil.Process(run.process.pid).children(recursive=True)
    began = time.monotonic()
    stop(run)
    assert run.wait(LONGEST) != 0
    assert time.monotonic() - began < LONGEST
    _, alive = psutil.wait_procs(started, timeout=5)
    assert alive == []
    assert alive_in(fresh.folder) == []
    name = "SIGTERM" if stop is terminate else "SIGINT"
    lines = [line for line in run.text().splitlines() if line.startswith("Ended by")]
    assert lines == [
        f"Ended by {name}. No process is left; the same command goes on from what is finished."
    ]
    assert "Traceback" not in run.text()
    fresh.finish(target)
    after, expected = fresh.hashes(), undisturbed.hashes()
    assert {name: expected[name] for name in after} == after


def test_sigterm_while_the_run_is_planned(fresh):
    run = fresh.start()
    wait_for(lambda: "Building DAG" in run.text() or "profile" in run.text(), 300, run)
    run.process.send_signal(signal.SIGTERM)
    assert run.wait(LONGEST) != 0
    assert alive_in(fresh.folder) == []
    assert not fresh.path("results/test/data").exists()
