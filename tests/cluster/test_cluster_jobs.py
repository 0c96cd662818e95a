"""Resources of jobs on a cluster, by node and round of an experiment."""

import os
import re
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
import yaml
from snakemake.resources import Resources

from weak_to_strong.cluster.assumptions import read_assumptions
from weak_to_strong.cluster.cluster_jobs import (
    GENERATION_RESOURCES,
    TRAINING_RESOURCES,
    ClusterJobs,
    find_cluster,
)
from weak_to_strong.cluster.site_file import parse_site
from weak_to_strong.experiment.configuration import ConfigError, load_configuration
from weak_to_strong.experiment.graph import Graph

ROOT = Path(__file__).parents[2]
HUB = {"hub": "owner/name", "revision": "0" * 40}
SITE = {
    "gpu": {
        "partition": "gpu",
        "memory_gb": 80,
        "per_node": 2,
        "cpus_per_gpu": 4,
        "mem_gb_per_gpu": 100,
        "max_nodes": 2,
        "runtime": 600,
    },
    "cpu": {"partition": "short"},
}


def make_graph(**strong):
    return Graph(
        load_configuration(
            {
                "experiment": "test",
                "tasks": {
                    "words": {
                        "loader": "embedded",
                        "templates": [43],
                        "splits": {"train_1": 10, "train_2": 20, "test": 30},
                    }
                },
                "models": {"weak": {**HUB, "parameters": 10**6}, "strong": {**HUB, **strong}},
                "chains": [{"task": "words", "weak": "weak", "strong": "strong"}],
            }
        )
    )


def make_jobs(graph, overrides=None, **site):
    return ClusterJobs(
        graph, parse_site({**SITE, **site}, "site"), read_assumptions(), overrides or {}
    )


def of_strong(graph):
    node = next(node for node in graph.trained_nodes() if graph.base_of(node) == "strong")
    round_key = next(round_ for round_ in graph.rounds() if round_.key.endswith("icl-1"))
    return node, round_key


@pytest.fixture
def graph(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_graph(parameters=10**8)


def test_a_job_asks_for_one_task_a_node_with_all_its_cpus(graph):
    jobs = make_jobs(graph, account="project")
    node, round_key = of_strong(graph)
    for names, needs in (
        (TRAINING_RESOURCES, jobs.training(node)),
        (GENERATION_RESOURCES, jobs.generation(round_key)),
    ):
        resources = {name: jobs.gpu_resource(name, needs) for name in names}
        assert (resources["gpu"], resources["nodes"], resources["cpus_per_task"]) == (1, 1, 4)
        assert (resources["slurm_partition"], resources["slurm_account"]) == ("gpu", "project")
        # The executor's default would be a task for each GPU.
        assert resources["tasks_per_gpu"] == 0
        for name in ("mpi", "tasks", "slurm_extra", "gpu_model"):
            assert resources[name] is None


def test_a_job_on_two_nodes_asks_for_equal_parts(graph):
    node, round_key = of_strong(graph)
    overrides = {rule: {"nodes": 2, "gpu": 4} for rule in ("train", "generate")}
    jobs = make_jobs(graph, overrides, gpu={**SITE["gpu"], "model": "a100"})
    for needs in (jobs.training(node), jobs.generation(round_key)):
        resources = {name: jobs.gpu_resource(name, needs) for name in TRAINING_RESOURCES[:-1]}
        assert (resources["gpu"], resources["nodes"]) == (4, 2)
        assert (resources["tasks"], resources["mpi"]) == (2, "srun")
        assert resources["slurm_extra"] == "--gpus-per-node=a100:2"


def test_an_engine_that_no_node_holds_asks_for_whole_nodes(tmp_path, monkeypatch):
    """70 billion weights of 16 bits take four of these GPUs, and a node has two."""
    monkeypatch.chdir(tmp_path)
    graph = make_graph(parameters=70 * 10**9)
    _, round_key = of_strong(graph)
    engine = {"dtype": "bfloat16", "max_model_len": 2048}
    monkeypatch.setattr(graph, "engine", lambda task: engine)
    with pytest.raises(ValueError, match=r"let engines have 2 nodes \(gpu\.engine_nodes"):
        make_jobs(graph).generation(round_key)
    jobs = make_jobs(graph, gpu={**SITE["gpu"], "engine_nodes": 2})
    needs = jobs.generation(round_key)
    resources = {name: jobs.gpu_resource(name, needs) for name in GENERATION_RESOURCES}
    assert (resources["gpu"], resources["nodes"], resources["cpus_per_task"]) == (4, 2, 8)
    assert (resources["tasks"], resources["mpi"]) == (2, "srun")
    assert resources["slurm_extra"] == "--gpus-per-node=2"
    assert (resources["tensor_parallel_size"], resources["pipeline_parallel_size"]) == (2, 2)


def test_a_number_of_nodes_alone_gives_one_gpu_on_each(graph):
    node, round_key = of_strong(graph)
    jobs = make_jobs(graph, {rule: {"nodes": 2} for rule in ("train", "generate")})
    assert (jobs.training(node).gpus, jobs.training(node).nodes) == (2, 2)
    assert (jobs.generation(round_key).gpus, jobs.generation(round_key).nodes) == (2, 2)


def test_a_model_behind_an_endpoint_is_in_no_plan_of_gpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with_files = make_graph(parameters=10**8)
    config = deepcopy(with_files.config)
    config["models"]["weak"] = {"endpoint": {"url": "https://host/v1", "model": "m"}}
    graph = Graph(load_configuration(config))
    lines = make_jobs(graph).plan().splitlines()
    assert {line.split()[1] for line in lines[1:]} == {"strong"}
    assert len(lines) < len(make_jobs(with_files).plan().splitlines())


def test_a_hub_model_of_unknown_size_waits_for_its_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    graph = make_graph()
    jobs = make_jobs(graph)
    node, round_key = of_strong(graph)
    plan = [line.split() for line in jobs.plan().splitlines()]
    assert ["train", "strong", "dpo,", "lora", "1", *"?????"] in plan
    for needs, key in ((jobs.training, node), (jobs.generation, round_key)):
        with pytest.raises(FileNotFoundError) as error:
            needs(key)
        # Snakemake asks again once this file, an input of the job, is there.
        assert error.value.filename == graph.base_manifest("strong")
    assert graph.base_manifest("strong") in graph.round_inputs(round_key)


def test_the_time_follows_from_the_rows_once_their_table_exists(graph, tmp_path):
    node, _ = of_strong(graph)
    unknown = make_jobs(graph).training(node)
    table = tmp_path / graph.rows(node)
    table.parent.mkdir(parents=True)
    pl.DataFrame({"id": pl.zeros(3_000_000, pl.Int8, eager=True)}).write_parquet(table)
    assert make_jobs(graph).rows(graph.rows(node)) == 3_000_000
    assert make_jobs(graph).training(node).runtime > unknown.runtime


def test_a_model_that_fits_nowhere_is_told_before_any_job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^config key `training\.sft\.deepspeed`: "):
        make_jobs(make_graph(parameters=70 * 10**9)).plan()


def test_the_plan_counts_every_gpu_job(graph):
    head, *lines = make_jobs(graph).plan().splitlines()
    assert head.split()[:5] == ["rule", "model", "method", "jobs", "GPUs"]
    rows = [line.split() for line in lines]
    trained = sum(int(row[-6]) for row in rows if row[0] == "train")
    served = sum(int(row[-6]) for row in rows if row[0] == "generate")
    assert (trained, served) == (len(graph.trained_nodes()), len(graph.rounds()))
    assert {row[1] for row in rows} == {"weak", "strong"}
    assert len(set(map(len, [head, *lines]))) == 1


def test_every_rule_runs_beside_snakemake_or_says_what_its_jobs_ask_for():
    rules = {}
    for file in (*(ROOT / "rules").glob("*.smk"), ROOT / "Snakefile"):
        _, *blocks = re.split(r"^rule ", file.read_text(encoding="utf-8"), flags=re.M)
        rules |= {block.partition(":")[0]: block for block in blocks}
    jobs = {name for name, text in rules.items() if "localrule: True" not in text}
    assert jobs == {"train", "generate", "ask_endpoint", "score", "metrics", "pretrain"}
    assert all(re.search(r"\*\*\w+_job\(", rules[name]) for name in jobs)


def test_cpu_jobs_grow_with_the_attempt(graph):
    jobs = make_jobs(graph)
    names = ("slurm_partition", "mem_mb", "runtime")
    assert [jobs.cpu_resource(name, 2) for name in names] == ["short", 16_000, 120]


class TestFindCluster:
    @staticmethod
    def settings(**defaults):
        return SimpleNamespace(
            default_resources=Resources.from_mapping(defaults) if defaults else None,
            overwrite_resources={"train": Resources.from_mapping({"gpu": 2, "nodes": 1})},
        )

    @pytest.fixture(autouse=True)
    def no_site(self, monkeypatch):
        monkeypatch.delenv("W2S_SITE", raising=False)

    @pytest.fixture
    def file(self, tmp_path):
        path = tmp_path / "site.yaml"
        path.write_text(yaml.safe_dump(SITE))
        return path

    def test_a_run_whose_profile_names_no_site_has_no_cluster(self, graph):
        assert find_cluster(graph, self.settings()) is None
        assert find_cluster(graph, self.settings(mem_mb=100)) is None

    def test_the_profile_names_the_site_and_the_user_overrides_its_gpus(self, graph, file):
        jobs = find_cluster(graph, self.settings(site=str(file)))
        assert jobs.training(of_strong(graph)[0]).gpus == 2

    def test_w2s_site_goes_before_the_profile(self, graph, file, monkeypatch):
        monkeypatch.setenv("W2S_SITE", str(file))
        assert find_cluster(graph, self.settings(site="none.yaml")) is not None
        monkeypatch.setenv("W2S_SITE", "none.yaml")
        with pytest.raises(ConfigError, match=r"none\.yaml \(in .*\): cannot be read"):
            find_cluster(graph, self.settings(site=str(file)))

    def test_caches_go_to_scratch_unless_the_user_has_set_their_place(
        self, graph, file, monkeypatch
    ):
        monkeypatch.setattr(os, "environ", {"W2S_SITE": str(file), "HF_HOME": "/mine"})
        file.write_text(file.read_text() + "scratch: /scratch\n")
        find_cluster(graph, self.settings())
        assert os.environ["HF_HOME"] == "/mine"
        assert os.environ["VLLM_CACHE_ROOT"] == "/scratch/vllm"
