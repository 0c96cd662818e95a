"""A generation round whose engines are on two nodes."""

import polars as pl
import pytest
from cluster import command
from cluster_project import WEAK_EVALUATION, ClusterProject, comment

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def spread(study, tmp_path_factory):
    """The round that evaluates the weak model, anew and over two nodes."""
    project: ClusterProject = study.project.copy(tmp_path_factory.mktemp("spread") / "project")
    table = project.result(f"generations/{WEAK_EVALUATION}.parquet")
    table.unlink()
    for shard in project.path("results/store/requests").rglob("shard-*.parquet"):
        shard.unlink()
    run = project.start(
        *("--set-resources", "generate:nodes=2", "generate:gpu=2", "generate:shard_size=4"),
        *("--", f"results/test/generations/{WEAK_EVALUATION}.parquet"),
    )
    run.finish(300)
    return project, run


@pytest.fixture(scope="module")
def job(spread) -> dict:
    _, run = spread
    comments = pl.col("comment") == comment("generate", WEAK_EVALUATION)
    return run.allocations().row(by_predicate=comments, named=True)


def test_both_nodes_have_an_engine(spread, job):
    project, _ = spread
    assert (job["nodes"], job["gpus"], job["state"]) == ("gpu[01-02]", 2, "COMPLETED")
    steps = command("sacct", "-nP", "-j", job["job"], "-o", "NodeList,NTasks").splitlines()
    assert {"gpu01|1", "gpu02|1"} <= set(steps)
    assert project.cost(f"generate/{WEAK_EVALUATION}")["engine_loads"] == 2


def test_the_texts_are_those_of_one_node(spread, study):
    project, _ = spread
    table = f"results/test/generations/{WEAK_EVALUATION}.parquet"
    assert project.hashes()[table] == study.project.hashes()[table]
