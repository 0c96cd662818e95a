"""SIGKILL at random moments: the same command continues, and the artefacts are the same.

W2S_KILLS (default 51) is how many; W2S_KILL_SEED (default 0) gives the moments.
"""

import os
import signal
import time
from collections import Counter
from contextlib import suppress
from random import Random

import psutil
import pytest
from faulty import COMPARISONS, SCORES, alive_in, wait_for

from weak_to_strong.jobs.clean_work import clean

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("W2S_KILLS", "51"))
SEED = int(os.environ.get("W2S_KILL_SEED", "0"))
#: Seconds: a victim lives for at most so long after it has been seen. A start of Snakemake takes
#: about three, a script's imports up to eight.
LONGEST = {"main": 9.0, "script": 5.0, "worker": 9.0}
#: What the victims have in their command.
MARKS = {"script": "/.snakemake/scripts/", "worker": "weak_to_strong.generation.engine_worker"}


def disturb(run, kind: str, rng: Random) -> bool:
    """Kill one process of a kind at a random moment; return false if the run ends first."""
    if kind == "main":
        victims = [psutil.Process(run.process.pid)]
    else:
        victims = wait_for(lambda: run.find(MARKS[kind]), 300, run)
    if not victims:
        return False
    time.sleep(rng.uniform(0, LONGEST[kind]))
    # The first may be gone by now, and others at work.
    alive = victims if kind == "main" else run.find(MARKS[kind])
    for victim in alive[:1]:
        try:
            if victim.status() == "zombie":
                continue
            victim.send_signal(signal.SIGKILL)
            return True
        except psutil.NoSuchProcess:
            continue
    return False


def test_killed_runs_end_with_the_same_artefacts(untouched, undisturbed, tmp_path, capsys):
    rng = Random(SEED)
    expected = undisturbed.hashes()
    kills, starts, studies = Counter(), 0, 0
    while kills.total() < KILLS:
        studies += 1
        project = untouched.copy(tmp_path / f"study-{studies}")
        over = False
        while not over and kills.total() < KILLS:
            # Engines work for a part of the time only, so what is rarest comes first.
            kind = min(LONGEST, key=lambda kind: (kills[kind], rng.random()))
            run = project.start()
            starts += 1
            hit = disturb(run, kind, rng)
            kills[kind] += hit
            # The next start finds what this one leaves, stragglers and lock included.
            over = run.wait() == 0
            # A lost worker of a round that had all its texts changes nothing.
            assert not (over and hit and kind != "worker"), run.text()[-4000:]
        project.finish()
        assert project.hashes() == expected
        # What a job was writing when it was killed stays until it is made again, or cleaned away.
        clean(project.path("results"), everything=False)
        assert list(project.path("results").rglob("*.part")) == []
        assert project.hashes() == expected
        assert alive_in(project.folder) == []
    with capsys.disabled():
        print(f"\n{kills.total()} kills in {starts} starts of {studies} studies: {dict(kills)}")
    assert kills.total() >= KILLS
    assert set(kills) == set(LONGEST)


def test_killed_comparisons_end_with_the_same_scores(finished, undisturbed):
    """A comparison is killed at a random moment of its three seconds; the job continues."""
    rng = Random(SEED)
    kills, starts = 0, 0
    while kills < 5:
        starts += 1
        assert starts < 50
        finished.path(SCORES).unlink()
        run = finished.start(SCORES)
        assert wait_for(lambda run=run: run.find(COMPARISONS), 300, run), run.text()[-4000:]
        time.sleep(rng.uniform(0, 3))
        # The helper that has loaded the library, or its fork that compares.
        if victims := run.find(COMPARISONS):
            with suppress(psutil.NoSuchProcess):
                rng.choice(victims).kill()
                kills += 1
        assert run.wait() == 0, run.text()[-4000:]
        assert finished.hashes() == undisturbed.hashes()
        assert alive_in(finished.folder) == []
