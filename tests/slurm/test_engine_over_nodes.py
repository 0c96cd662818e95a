"""A model that no node holds: one engine over two nodes, with a stand-in for vLLM's engine."""

import json
from pathlib import Path

import polars as pl
import psutil
import pytest
import yaml
from cluster import command
from cluster_project import CONFIG, ClusterProject, comment, create

pytestmark = pytest.mark.slow

ROUND = "dice/random_strong/none/seed-0/weak-1"
#: Of 32 bits they take four GPUs of 80 GB, and a node has two.
PARAMETERS = 30 * 10**9
#: Its processes meet as vLLM's do: those of further nodes come to the address of the first.
STAND_IN = """
class StandIn:
    cached = 0

    def __init__(self, arguments):
        self.waiting = []
        rank, place = arguments["node_rank"], (arguments["master_addr"], arguments["master_port"])
        names = ("SLURMD_NODENAME", "SLURM_STEP_ID", "CUDA_VISIBLE_DEVICES")
        facts = {name: os.environ[name] for name in names}
        facts |= {"arguments": arguments, "process": os.getpid()}
        Path(FOLDER, f"rank-{rank}.json").write_text(json.dumps(facts))
        if rank == 0:
            with socket.create_server(place) as server:
                server.settimeout(100)
                self.met = [server.accept() for _ in range(1, arguments["nnodes"])]
            return
        for _ in range(1000):
            try:
                self.leader = socket.create_connection(place)
                break
            except OSError:
                time.sleep(0.1)
        time.sleep(600)  # as part of the engine, until that ends

    def add(self, name, *_):
        self.waiting.append((name, " a\\n#### 1", "stop", 3))

    def step(self):
        ended, self.waiting = self.waiting, []
        return ended

    def close(self):
        pass


if __name__ == "__main__":
    run_worker(StandIn, tokenise)
"""


def put_stand_in(project: ClusterProject, folder: Path) -> None:
    """Give the project's copy of the code the stand-in, as on machines with GPUs."""
    code = project.path("scripts/weak_to_strong/generation")
    worker, settings = code / "engine_worker.py", code / "engine_settings.py"
    text, _, _ = worker.read_text().partition('\nif __name__ == "__main__":')
    worker.write_text(text + STAND_IN.replace("FOLDER", repr(str(folder))))
    text, device = settings.read_text(), '"cpu" if is_cpu_build(vllm_version()) else "cuda"'
    assert device in text
    settings.write_text(text.replace(device, '"cuda"'))


def with_large_model() -> dict:
    """The study with its models exchanged, whose weak one is said to be large and not trained."""
    large = {**CONFIG["models"]["random_strong"], "parameters": PARAMETERS}
    return {
        **CONFIG,
        "models": {**CONFIG["models"], "random_strong": large},
        "chains": [{"task": "dice", "weak": "random_strong", "strong": "random_weak"}],
        "methods": {"weak": {"trainer": "none", "data": "none"}},
        "engine": {**CONFIG["engine"], "dtype": "float32"},
    }


@pytest.fixture(scope="module")
def run(cluster, tmp_path_factory):
    """A folder, the project in it, and its run of one round."""
    folder = tmp_path_factory.mktemp("over nodes")
    project = create(folder / "project")
    put_stand_in(project, folder)
    project.write_config(with_large_model())
    site = cluster.site()
    site["gpu"]["engine_nodes"] = 2
    (folder / "site.yaml").write_text(yaml.safe_dump(site))
    run = project.start(
        "--", f"results/test/generations/{ROUND}.parquet", W2S_SITE=str(folder / "site.yaml")
    )
    run.finish(400)
    return folder, project, run


def test_the_job_has_all_gpus_of_two_nodes(run):
    _, project, finished = run
    (job,) = finished.allocations().filter(comment=comment("generate", ROUND)).rows(named=True)
    assert (job["nodes"], job["gpus"], job["state"]) == ("gpu[01-02]", 4, "COMPLETED")
    steps = command("sacct", "-nP", "-j", job["job"], "-o", "NodeList,NTasks").splitlines()
    assert {"gpu01|1", "gpu02|1"} <= set(steps)
    assert project.cost(f"generate/{ROUND}")["engine_loads"] == 1


def test_each_node_has_a_process_of_the_engine_and_these_meet(run):
    folder, _, _ = run
    first, second = (json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2))
    assert (first["SLURMD_NODENAME"], second["SLURMD_NODENAME"]) == ("gpu01", "gpu02")
    assert first["SLURM_STEP_ID"] != second["SLURM_STEP_ID"]
    for process in (first, second):
        assert process["CUDA_VISIBLE_DEVICES"] == "0,1"
        arguments = process["arguments"]
        assert (arguments["tensor_parallel_size"], arguments["pipeline_parallel_size"]) == (2, 2)
        assert arguments["nnodes"] == 2
        assert not psutil.pid_exists(process["process"])
    assert first["arguments"]["master_port"] == second["arguments"]["master_port"]


def test_the_texts_are_those_of_the_first_process(run):
    _, project, _ = run
    texts = pl.read_parquet(project.result(f"generations/{ROUND}.parquet"))
    assert len(texts) == 96
    assert set(texts["response"]) == {" a\n#### 1"}
