"""The whole study through `snakemake --profile slurm`, checked against SLURM's own records."""

import re
import subprocess
import sys

import polars as pl
import pytest
import yaml
from cluster import NODES, command
from cluster_project import CEILING, CONFIG, ROOT, comment, training

from weak_to_strong.cluster.slurm_costs import SLURM_COSTS
from weak_to_strong.experiment.configuration import complete
from weak_to_strong.experiment.graph import Graph

pytestmark = pytest.mark.slow

GPU_RULES = ("train", "generate")
GPUS = {node.name: node.gpus for node in NODES}


@pytest.fixture(scope="module")
def jobs(study) -> pl.DataFrame:
    """SLURM's records of both runs."""
    return pl.concat([study.two_nodes.allocations(), study.run.allocations()])


@pytest.fixture(scope="module")
def gpu_jobs(jobs) -> pl.DataFrame:
    return jobs.filter(pl.col("rule").is_in(GPU_RULES))


def asked_for(job: str) -> int:
    """Number of GPUs that a job's submitting command asked for."""
    line = command("sacct", "-nXP", "-j", job, "-o", "SubmitLine").partition(" --wrap")[0]
    nodes = int((re.search(r"--nodes=(\d+)", line) or [0, 1])[1])
    if per_node := re.search(r"--gpus-per-node=(?:\w+:)?(\d+)", line):
        return nodes * int(per_node[1])
    return int(re.search(r"--gpus=(?:\w+:)?(\d+)", line)[1])


def hosts(nodes: str) -> list[str]:
    return command("scontrol", "show", "hostnames", nodes).split()


def test_each_training_and_round_is_one_job(gpu_jobs):
    graph = Graph(complete(CONFIG))
    expected = [training(node.key) for node in graph.trained_nodes()]
    expected += [comment("generate", round_.key) for round_ in graph.rounds()]
    assert sorted(gpu_jobs["comment"]) == sorted(expected)
    assert len(expected) == 11
    assert set(gpu_jobs["state"]) == {"COMPLETED"}


def test_gpu_rules_ran_on_gpu_nodes_with_the_gpus_they_asked_for(gpu_jobs):
    assert set(gpu_jobs["partition"]) == {"gpu"}
    for job, nodes, gpus in gpu_jobs.select("job", "nodes", "gpus").rows():
        assert gpus == asked_for(job) >= 1
        assert all(GPUS[node] for node in hosts(nodes))


def test_other_rules_took_no_gpu(jobs, study):
    others = jobs.filter(~pl.col("rule").is_in(GPU_RULES))
    assert set(others["rule"]) == {"score", "metrics"}
    assert set(others["partition"]) == {"cpu"}
    assert set(others["gpus"]) == {0}
    # Rules without a record in SLURM ran beside Snakemake.
    ran = set(re.findall(r"^Finished jobid: \d+ \(Rule: (\w+)\)$", study.run.text(), re.M))
    assert ran - set(jobs["rule"]) >= {"problems", "sft_set", "pairs", "majority_vote", "report"}


def test_never_more_gpus_in_use_than_there_are(gpu_jobs):
    """By the times of SLURM's records, on each node and at each start of a job."""
    for node, count in GPUS.items():
        spans = [
            (start, end, gpus // len(hosts(nodes)))
            for start, end, gpus, nodes in gpu_jobs.select(
                "started", "ended", "gpus", "nodes"
            ).rows()
            if node in hosts(nodes)
        ]
        in_use = [
            sum(gpus for start, end, gpus in spans if start <= now < end) for now, _, _ in spans
        ]
        assert max(in_use, default=0) <= count
    # The cluster was shared: jobs ran beside one another.
    spans = gpu_jobs.select("started", "ended").rows()
    beside = [sum(start <= now < end for start, end in spans) for now, _ in spans]
    assert max(beside) > 1


def test_no_job_used_more_memory_than_it_asked_for(jobs):
    assert jobs["peak_memory_mb"].is_not_null().all()
    assert (jobs["peak_memory_mb"] < jobs["requested_memory_mb"]).all()


def test_results_equal_those_of_this_machine(study):
    """Tables, models, generated text and figures, byte by byte."""
    on_this_machine, on_cluster = study.local.hashes(), study.project.hashes()
    assert on_this_machine.keys() == on_cluster.keys()
    assert {name for name in on_this_machine if on_this_machine[name] != on_cluster[name]} == set()
    kinds = {name.split("/")[2] for name in on_cluster}
    assert kinds >= {"data", "models", "labels", "filter", "votes", "generations", "scores"}


def test_a_second_run_submits_nothing(study):
    again = study.project.start()
    assert "Nothing to be done" in again.finish(120)
    # Without a job Snakemake starts no executor, and the run has no id.
    assert "SLURM run ID" not in again.text() or not command(
        "sacct", "-nX", f"--name={again.identity}"
    )


def test_two_nodes_train_one_model(study, gpu_jobs):
    """DeepSpeed's ZeRO-3 over two nodes gives the weights that two processes here give.

    Both sum the gradients of two processes; how these reach each other does not change a bit.
    """
    row = gpu_jobs.row(by_predicate=pl.col("comment") == training(CEILING), named=True)
    assert hosts(row["nodes"]) == ["gpu01", "gpu02"]
    assert row["gpus"] == 2
    steps = command("sacct", "-nP", "-j", row["job"], "-o", "JobName,NNodes,NTasks").splitlines()
    assert any(step.endswith("|2|2") for step in steps), steps
    weights = f"results/test/models/{CEILING}/model/adapter_model.safetensors"
    assert study.project.hashes()[weights] == study.local.hashes()[weights]
    manifest = yaml.safe_load(study.project.result(f"models/{CEILING}/manifest.json").read_text())
    assert manifest["training"]["processes"] == 2
    assert manifest["training"]["deepspeed"] == "config/deepspeed/zero3.json"


def test_costs_are_those_of_the_records(study, jobs, tmp_path):
    """The command that users run, in the project's folder."""
    file = tmp_path / "costs.csv"
    completed = subprocess.run(
        [sys.executable, "-m", "weak_to_strong.cluster.slurm_costs", "test", "--output", str(file)],
        cwd=study.project.folder,
        env={"PATH": "/usr/bin", "PYTHONPATH": str(ROOT / "scripts")},
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stderr
    costs = pl.read_csv(file, schema=SLURM_COSTS)
    assert costs["rule"].to_list()[-1] == "all rules"
    assert dict(costs.select("rule", "jobs").rows()) == {
        **dict(jobs.group_by("rule").len().rows()),
        "all rules": len(jobs),
    }
    train = costs.row(by_predicate=pl.col("rule") == "train", named=True)
    spent = jobs.filter(rule="train").select(pl.col("gpus") * pl.col("wall_seconds")).sum().item()
    assert train["gpu_hours"] == pytest.approx(spent / 3600)
    manifests = study.project.result("models").rglob("manifest.json")
    tokens = [yaml.safe_load(file.read_text())["facts"]["tokens"] for file in manifests]
    assert train["trained_tokens"] == sum(tokens)
    generated = costs.row(by_predicate=pl.col("rule") == "generate", named=True)
    assert generated["response_tokens"] > 1000
