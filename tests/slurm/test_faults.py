"""What happens when jobs, nodes and Snakemake itself are ended: nothing is lost, by the records.

Results must in each case be those of the undisturbed study.
"""

import re
from dataclasses import dataclass
from datetime import datetime

import polars as pl
import pytest
import yaml
from cluster import command
from cluster_project import (
    APART,
    CONFIG,
    WEAK_EVALUATION,
    ClusterProject,
    Run,
    comment,
    hold,
    kill,
    training,
    wait_for,
)

pytestmark = pytest.mark.slow

CANCELLED, CUT, LOST = APART
ROUND = comment("generate", WEAK_EVALUATION)
#: Of the round: 60 questions, answered greedily and twice sampled.
SAMPLES = 180
#: A checkpoint after each update, and a shard after each question: much to be stopped between.
OFTEN = ("--set-resources", "train:checkpoint_steps=1", "generate:shard_size=1")


@dataclass
class Disturbed:
    """Trainings and a round that were stopped in every way, and have ended.

    Attributes:
        killed: the run whose main process was killed.
        left: comments of its jobs that went on without the main process.
        steps: step of each training's newest checkpoint after these jobs were cancelled.
        run: the next run.
    """

    project: ClusterProject
    killed: Run
    left: list[str]
    steps: dict[str, int]
    run: Run


def catch(project: ClusterProject, run: Run, generating: bool = False) -> dict[str, str]:
    """Suspend each training once it has a new checkpoint, and the round once it has a shard.

    Returns:
        Job ids, by node; the round's job id has the key ROUND.
    """
    caught: dict[str, str] = {}
    shards = project.path("results/store/requests")

    def started(job: str) -> float:
        text = command("squeue", "-h", "-j", job, "-o", "%S").strip()
        return datetime.fromisoformat(text).timestamp()

    def all_caught() -> bool:
        for node in APART:
            written = project.checkpoints(node).values()
            job = run.job(training(node)) if written and node not in caught else None
            # Not a checkpoint of an earlier job.
            if job and max(written) > started(job) + 1:
                hold(job, "train")
                caught[node] = job
        if generating and ROUND not in caught and any(shards.rglob("shard-*.parquet")):
            caught[ROUND] = run.job(ROUND)
            hold(caught[ROUND], "generate")
        return len(caught) == len(APART) + generating

    wait_for(all_caught, 240, run, "checkpoints and shards")
    return caught


def states_of(job: str) -> list[str]:
    """States of a job, one for each time that it ran."""
    lines = command("sacct", "-nXPD", "-j", job, "-o", "State").splitlines()
    return [line.split(" ")[0] for line in lines]


@pytest.fixture(scope="module")
def disturbed(study, tmp_path_factory) -> Disturbed:
    project = study.project.copy(tmp_path_factory.mktemp("disturbed") / "project")
    for node in APART:
        project.forget(node)
    project.result(f"generations/{WEAK_EVALUATION}.parquet").unlink()
    for shard in project.path("results/store/requests").rglob("shard-*.parquet"):
        shard.unlink()
    targets = [project.manifest(node) for node in APART]
    killed = project.start(*OFTEN, "--", *targets)
    catch(project, killed)
    kill(killed)
    left = command("squeue", "-h", f"--name={killed.identity}", "-o", "%k").splitlines()

    # As docs/cluster.md tells the user to do.
    command("scancel", f"--name={killed.identity}")
    wait_for(lambda: not command("squeue", "-h", f"--name={killed.identity}"), 60, what="scancel")
    steps = {node: max(project.checkpoints(node)) for node in APART}
    project.start("--unlock").finish(60)

    text = f"results/test/generations/{WEAK_EVALUATION}.parquet"
    run = project.start(*OFTEN, "--", *targets, text)
    jobs = catch(project, run, generating=True)
    command("scancel", jobs[ROUND], jobs[CANCELLED])
    # SLURM compares with the clock every 30 s, as it does with any time limit. It refuses a time
    # that has gone by when it reads it.
    command("scontrol", "update", f"JobId={jobs[CUT]}", "EndTime=now+5")
    wait_for(lambda: "TIMEOUT" in states_of(jobs[CUT]), 60, run, "time limit")
    place = command("squeue", "-h", "-j", jobs[LOST], "-o", "%N").strip()
    command("scontrol", "update", f"NodeName={place}", "State=DOWN", "Reason=test")
    wait_for(lambda: "NODE_FAIL" in states_of(jobs[LOST]), 30, run, "node set down")
    command("scontrol", "update", f"NodeName={place}", "State=RESUME")
    run.finish(400)
    return Disturbed(project, killed, left, steps, run)


@pytest.fixture(scope="module")
def states(disturbed) -> dict[str, list[str]]:
    """States of the jobs of the second run, by comment in order of time."""
    table = disturbed.run.allocations().sort("started", nulls_last=True)
    grouped = table.group_by("comment", maintain_order=True).agg("state")
    return dict(grouped.rows())


def log_of_last_attempt(disturbed, node: str) -> int:
    """Step from which the last attempt of a training went on."""
    text = disturbed.project.log(node)
    match = re.search(r"resuming from checkpoint-(\d+)", text)
    assert match, text
    return int(match[1])


def test_jobs_outlive_the_main_process(disturbed):
    """So docs/cluster.md tells the user to cancel them by the run's id."""
    assert set(disturbed.left) == {training(node) for node in APART}


def test_a_killed_main_process_costs_no_step(disturbed, states):
    """The next run goes on from what the cancelled jobs had written."""
    cancelled = disturbed.killed.allocations()
    assert set(cancelled["state"]) == {"CANCELLED"}
    for node in APART:
        assert log_of_last_attempt(disturbed, node) >= disturbed.steps[node] >= 1


def test_a_cancelled_job_is_retried(states):
    first, *_, last = states[training(CANCELLED)]
    assert (first, last) == ("CANCELLED", "COMPLETED")


def test_a_job_cut_by_the_time_limit_is_retried(states):
    first, *_, last = states[training(CUT)]
    assert (first, last) == ("TIMEOUT", "COMPLETED")


def test_a_job_of_a_lost_node_is_queued_again(states):
    assert states[training(LOST)] == ["NODE_FAIL", "COMPLETED"]


def test_stopped_trainings_end_with_the_same_model(disturbed, study):
    before, after = study.project.hashes(), disturbed.project.hashes()
    for node in APART:
        files = [name for name in before if name.startswith(f"results/test/models/{node}/")]
        assert len(files) > 4
        assert {name for name in files if before[name] != after[name]} == set()


def test_a_cancelled_round_generates_only_what_it_lacks(disturbed, states, study):
    first, *_, last = states[ROUND]
    assert (first, last) == ("CANCELLED", "COMPLETED")
    jobs = disturbed.run.allocations().filter(comment=ROUND).sort("started")
    began = jobs["started"][-1].timestamp()
    # All shards are of this round. It may have been caught when little or nothing was left to do.
    shards = list(disturbed.project.path("results/store/requests").rglob("shard-*.parquet"))
    rows = {shard: pl.read_parquet(shard).height for shard in shards}
    late = sum(rows[shard] for shard in shards if shard.stat().st_mtime > began)
    cost = disturbed.project.cost(f"generate/{WEAK_EVALUATION}")
    assert cost["samples"] == late < sum(rows.values()) == SAMPLES
    table = f"results/test/generations/{WEAK_EVALUATION}.parquet"
    assert disturbed.project.hashes()[table] == study.project.hashes()[table]


@pytest.fixture(scope="module")
def changed(study, cluster, tmp_path_factory) -> tuple[ClusterProject, Run]:
    """The study after one test question changed, where jobs without a GPU get little memory."""
    project = study.project.copy(tmp_path_factory.mktemp("changed") / "project")
    test = project.path("data/test.jsonl")
    test.write_text(test.read_text().replace('"die ', '"die die ', 1))
    site = cluster.site()
    site["cpu"]["mem_gb"] = SMALL_MEMORY_GB
    small = project.path("small_site.yaml")
    small.write_text(yaml.safe_dump(site))
    run = project.start(W2S_SITE=str(small))
    run.finish(400)
    return project, run


#: Not enough for a job's Snakemake, of 0.21 for seconds: SLURM looks once a second, and scoring, at
#: some 0.35, may take less. Enough at the second or third attempt.
SMALL_MEMORY_GB = 0.15


def test_a_changed_question_submits_only_what_depends_on_it(changed):
    _, run = changed
    assert set(run.allocations()["comment"]) == {
        comment("generate", WEAK_EVALUATION),
        comment("generate", "evaluation/dice/random_strong"),
        comment("score", "dice"),
        "rule_metrics",
    }


def test_a_job_short_of_memory_is_retried_with_more(changed):
    _, run = changed
    scored = run.allocations().filter(rule="score").sort("started")
    first, *_, last = scored.rows(named=True)
    assert len(scored) > 1
    assert first["state"] != "COMPLETED"
    assert first["peak_memory_mb"] > first["requested_memory_mb"] == SMALL_MEMORY_GB * 1000
    assert last["state"] == "COMPLETED"
    asked = scored["requested_memory_mb"].to_list()
    assert asked == [(attempt + 1) * asked[0] for attempt in range(len(asked))]


def test_unchanged_models_stay_as_they_are(changed, study):
    project, _ = changed
    before, after = study.project.hashes(), project.hashes()
    models = [name for name in before if "/models/" in name]
    assert {name for name in models if before[name] != after[name]} == set()
    scores = "results/test/scores/dice.parquet"
    assert before[scores] != after[scores]
    assert CONFIG["evaluation"]["samples"] == 2
