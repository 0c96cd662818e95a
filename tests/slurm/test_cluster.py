"""The test cluster itself: it refuses what is not its own, and leaves nothing behind."""

import subprocess
import sys
from pathlib import Path

import cluster as module
import psutil
import pytest
from cluster import CONFIGURATION, FILES, MARK, Cluster, ClusterError

pytestmark = pytest.mark.slow


@pytest.fixture
def configuration(tmp_path, monkeypatch) -> Path:
    """A folder in place of /etc/slurm."""
    folder = tmp_path / "etc"
    folder.mkdir()
    monkeypatch.setattr(module, "CONFIGURATION", folder)
    return folder


@pytest.mark.parametrize("name", FILES)
def test_another_clusters_configuration_is_left_alone(configuration, tmp_path, name):
    (configuration / name).write_text("ClusterName=ours\n")
    with pytest.raises(ClusterError, match="another cluster's configuration") as error:
        Cluster(tmp_path / "state").start()
    assert "\n" not in str(error.value)
    assert (configuration / name).read_text() == "ClusterName=ours\n"
    assert [file.name for file in configuration.iterdir()] == [name]


def test_the_owner_is_read_from_the_configuration(configuration, tmp_path):
    assert module.owner_of_configuration() is None
    (configuration / "gres.conf").write_text(f"{MARK}{tmp_path}\nNodeName=gpu01\n")
    assert module.owner_of_configuration() == tmp_path


def test_a_folder_with_something_else_is_not_cleared(configuration, tmp_path):
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(ClusterError, match="name an empty folder"):
        Cluster(tmp_path).start()
    assert (tmp_path / "thesis.txt").read_text() == "years"


@pytest.mark.parametrize(
    ("missing", "message"),
    [("apt-get", "no apt-get here"), ("slurmctld", "`apt-get update` failed")],
)
def test_where_slurm_cannot_be_installed_one_line_says_so(monkeypatch, tmp_path, missing, message):
    """No SLURM in sight, and an apt-get that is not there or fails."""
    if missing != "apt-get":
        (tmp_path / "apt-get").write_text("#!/bin/sh\necho 'E: no network' >&2\nexit 100\n")
        (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setattr(module, "missing_programs", lambda: ["slurmctld"])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match=message) as error:
        module.install()
    assert str(error.value).startswith("SLURM cannot be installed")
    assert "\n" not in str(error.value)


class Broken(Cluster):
    """A cluster whose last node does not start."""

    def start_node(self, name: str) -> None:
        if name == self.nodes[-1].name:
            raise ClusterError("the last node is broken")
        super().start_node(name)


def test_a_failed_start_leaves_nothing_behind(tmp_path):
    broken = Broken(tmp_path / "state")
    before = {process.pid for process in psutil.process_iter()}
    with pytest.raises(ClusterError, match="the last node is broken"):
        broken.start()
    logs = {file.stem for file in (tmp_path / "state/logs").iterdir()}
    assert logs >= {"mariadbd", "slurmdbd", "slurmctld", "gpu01", "gpu02"}
    names = {"munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "slurmstepd"}
    after = [
        process
        for process in psutil.process_iter(["name"])
        if process.pid not in before and process.info["name"] in names
    ]
    assert after == []
    assert not any((CONFIGURATION / name).exists() for name in FILES)


def test_the_command_says_that_no_cluster_runs(tmp_path):
    completed = subprocess.run(
        [sys.executable, module.__file__, "status", str(tmp_path)], capture_output=True, text=True
    )
    assert completed.returncode == 1
    assert completed.stderr == f"no test cluster runs in {tmp_path}\n"
