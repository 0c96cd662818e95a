"""A SLURM cluster for the session, and on it the study of random models, run as a user would.

Two nodes with two GPUs each and one without. One run of the study serves most tests; the others
start from copies of it.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow"))

from cluster import Cluster
from cluster_project import CEILING, Study, create


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """The running cluster; where it cannot start, every test fails with the reason."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    cluster.start()
    os.environ["W2S_SITE"] = str(cluster.site_file)
    try:
        yield cluster
    finally:
        del os.environ["W2S_SITE"]
        cluster.stop()


@pytest.fixture(scope="session")
def study(cluster, tmp_path_factory) -> Study:
    """Train the ceiling over two nodes, then run the rest; meanwhile run the study locally.

    Locally the ceiling is trained by two processes, the same number as of GPUs on the cluster.
    """
    folder = tmp_path_factory.mktemp("study")
    project = create(folder / "cluster")
    local = project.copy(folder / "local")
    ceiling = ("--", project.manifest(CEILING))

    def run_here() -> None:
        without = {name: value for name, value in os.environ.items() if name != "W2S_SITE"}
        few = ("--set-resources", "generate:engine_processes=1", "--set-threads", "generate=1")
        for arguments in (["--set-resources", "train:processes=2", *ceiling], few):
            done = subprocess.run(
                [
                    *(sys.executable, "-m", "snakemake", "--cores", "2"),
                    *("--configfile", "config/test.yaml", *arguments),
                ],
                cwd=local.folder,
                env={**without, "HF_HUB_OFFLINE": "1"},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr[-6000:]

    with ThreadPoolExecutor(1) as here:
        finished = here.submit(run_here)
        two = project.start("--set-resources", "train:nodes=2", "train:gpu=2", *ceiling)
        two.finish(400)
        run = project.start()
        run.finish(900)
        finished.result(900)
    return Study(project, local, two, run)
