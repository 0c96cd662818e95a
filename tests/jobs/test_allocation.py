"""What a script makes of the job in which it runs: processes, engines, nodes."""

import sys

import pytest

from weak_to_strong.generation.engine_pool import EnginePool
from weak_to_strong.generation.engine_settings import EngineSettings, worker_environments
from weak_to_strong.generation.engine_worker import DEVICES, choose_devices
from weak_to_strong.jobs import allocation as module
from weak_to_strong.jobs.allocation import (
    Allocation,
    find_allocation,
    leave_job,
    node_names,
    own_address,
    step_command,
    step_environment,
)
from weak_to_strong.training.launching import launch_command
from weak_to_strong.training.settings import most_processes

JOB = {"SLURM_JOB_ID": "7"}
TWO_NODES = Allocation(gpus=4, cpus=32, nodes=("a", "b"))


@pytest.fixture
def slurm(monkeypatch):
    """SLURM's answers about job 7."""
    answers = {
        ("squeue", "--noheader", "--jobs=7", "--format=%N"): "a[1-2]",
        ("scontrol", "show", "hostnames", "a[1-2]"): "a1\na2",
        ("scontrol", "show", "hostnames", "b[1-2]"): "b1\nb2",
    }
    monkeypatch.setattr(module, "_output", lambda *command: answers[command])


class TestFinding:
    def test_a_run_without_slurm_has_one_node(self):
        assert find_allocation({"gpu": 4, "nodes": 2}, 8, {}) == Allocation(gpus=4, cpus=8)

    @pytest.mark.parametrize("environment", [JOB, {}], ids=["slurm", "this machine"])
    def test_a_job_without_gpus_has_none(self, environment):
        assert find_allocation({"mem_mb": 1}, 8, environment) is None

    def test_gpus_are_those_in_sight(self):
        seen = {**JOB, "CUDA_VISIBLE_DEVICES": "4,5"}
        allocation = find_allocation({"gpu": 3, "nodes": 1, "cpus_per_task": 12}, 1, seen)
        assert allocation == Allocation(gpus=2, cpus=12)

    def test_else_those_that_were_asked_for(self):
        assert find_allocation({"gpu": 3}, 5, JOB) == Allocation(gpus=3, cpus=5)

    def test_nodes_have_names_where_there_are_several(self, slurm):
        allocation = find_allocation({"gpu": 8, "nodes": 2, "cpus_per_task": 32}, 1, JOB)
        assert allocation == Allocation(gpus=4, cpus=32, nodes=("a1", "a2"))
        assert allocation.all_gpus == 8

    def test_another_number_of_nodes_ends_the_job(self, slurm):
        with pytest.raises(RuntimeError, match="3 nodes were asked for, SLURM gave a1, a2"):
            find_allocation({"gpu": 3, "nodes": 3}, 1, JOB)

    def test_the_list_in_the_environment_spares_a_question(self, slurm):
        assert node_names({**JOB, "SLURM_JOB_NODELIST": "b[1-2]"}) == ("b1", "b2")


class TestProcesses:
    @pytest.mark.parametrize(
        ("batch", "rows", "gpus", "processes"), [(16, 4, 8, 4), (24, 4, 4, 3), (16, 16, 8, 1)]
    )
    def test_a_training_takes_as_many_as_its_batch_allows(self, batch, rows, gpus, processes):
        settings = {"global_batch_size": batch, "per_device_batch_size": rows}
        assert most_processes(settings, gpus) == processes


class TestSteps:
    def test_a_step_has_one_task_on_each_node(self):
        command = step_command(TWO_NODES, ["a", "b"])
        assert {"--overlap", "--nodelist=a,b", "--nodes=2", "--ntasks=2"} <= set(command)
        assert {"--cpus-per-task=32", "--gres=gpu:4"} <= set(command)

    def test_a_step_is_not_shaped_like_the_one_around_it(self):
        kept = {"SLURM_JOB_ID": "7", "SLURM_JWT": "a token", "PATH": "p"}
        given = {**kept, "SLURM_NTASKS": "1", "SRUN_CPUS_PER_TASK": "1"}
        assert step_environment(given) == kept


class TestTraining:
    def test_one_machine_needs_no_step(self):
        for allocation in (None, Allocation(gpus=2, cpus=4)):
            assert launch_command(2, allocation, "job.json") == [
                *(sys.executable, "-m", "weak_to_strong.training.processes", "job.json"),
                "--processes=2",
            ]

    def test_several_nodes_have_a_task_each_that_knows_all_of_them(self):
        command = launch_command(8, TWO_NODES, "job.json")
        step = step_command(TWO_NODES, ("a", "b"))
        assert command[: len(step)] == step
        assert command[-3:] == ["job.json", "--processes=8", "--nodes=a,b"]

    @pytest.mark.parametrize("processes", [1, 3])
    def test_processes_are_spread_evenly(self, processes):
        with pytest.raises(ValueError, match="over 2 nodes"):
            launch_command(processes, TWO_NODES, "job.json")


class TestGeneration:
    @pytest.mark.parametrize(("size", "engines"), [(1, 8), (2, 4), (3, 2), (4, 2), (8, 2)])
    def test_no_engine_lies_over_two_nodes(self, size, engines):
        assert TWO_NODES.engines(size) == engines

    def test_an_engine_on_two_nodes_has_them_alone(self):
        assert TWO_NODES.engines(4, 2) == 1
        assert Allocation(4, 8, tuple("abcdef")).engines(4, 2) == 3
        entry = {
            "max_model_len": 64,
            "device": "cuda",
            "processes": 2,
            "tensor_parallel_size": 4,
            "pipeline_parallel_size": 2,
        }
        settings = EngineSettings.parse(entry)
        environments = worker_environments(settings, 8, nodes=4)
        assert [environment[DEVICES] for environment in environments] == ["0:4", "0:4"]
        assert all("GLOO_SOCKET_IFNAME" not in environment for environment in environments)
        for nodes in (1, 2, 8):
            with pytest.raises(ValueError, match=f"take 4 nodes, and the job has {nodes};"):
                worker_environments(settings, 8, nodes=nodes)

    def test_workers_of_a_node_share_its_gpus_and_threads(self):
        entry = {"max_model_len": 64, "device": "cuda", "processes": 4, "tensor_parallel_size": 2}
        environments = worker_environments(EngineSettings.parse(entry), 8, nodes=2)
        devices = [environment[DEVICES] for environment in environments]
        assert devices == ["0:2", "2:4", "0:2", "2:4"]
        assert {environment["OMP_NUM_THREADS"] for environment in environments} == {"4"}

    def test_processes_are_a_multiple_of_the_nodes(self):
        settings = EngineSettings.parse({"max_model_len": 64, "device": "cuda", "processes": 3})
        with pytest.raises(ValueError, match="a multiple of the 2 nodes"):
            worker_environments(settings, 8, nodes=2)

    @pytest.mark.parametrize(
        ("visible", "part", "chosen"), [("4,5,6,7", "2:4", "6,7"), (None, "1:2", "1")]
    )
    def test_a_worker_takes_its_part_of_the_gpus_in_sight(self, visible, part, chosen):
        environment = {DEVICES: part} | ({"CUDA_VISIBLE_DEVICES": visible} if visible else {})
        choose_devices(environment)
        assert environment["CUDA_VISIBLE_DEVICES"] == chosen

    def test_a_worker_without_its_gpus_says_so(self):
        with pytest.raises(ValueError, match="1 GPU"):
            choose_devices({DEVICES: "1:2", "CUDA_VISIBLE_DEVICES": "4"})

    def test_workers_start_on_their_nodes(self, tmp_path, monkeypatch):
        """With a stand-in for srun that says where it was to start the worker."""
        srun = tmp_path / "srun"
        srun.write_text(
            '#!/bin/sh\nfor part; do case $part in --nodelist=*) echo "$part" >&2;; esac; done\n'
        )
        srun.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        pool = EnginePool(
            4, [{}] * 4, tmp_path / "logs", fresh=True, max_num_seqs=1, allocation=TWO_NODES
        )
        with pool:
            for worker in pool._workers:
                worker._process.wait(10)
        logs = [(tmp_path / f"logs/engine-{index}.log").read_text() for index in range(4)]
        assert logs == ["--nodelist=a\n"] * 2 + ["--nodelist=b\n"] * 2


def test_a_node_that_only_slurm_knows_is_looked_up_there(monkeypatch):
    shown = "NodeName=gpu02 Arch=x86_64 NodeAddr=127.0.0.1 NodeHostName=vm Port=6820"
    monkeypatch.setattr(module, "_output", lambda *command: shown)
    assert own_address("no-such-node.invalid") == "127.0.0.1"


class TestThreads:
    @pytest.mark.parametrize(
        ("allocation", "processes", "threads"),
        [
            (Allocation(gpus=4, cpus=32), 4, 8),
            (Allocation(gpus=1, cpus=8), 1, 8),
            (TWO_NODES, 8, 8),
            (Allocation(gpus=1, cpus=1), 2, 1),
        ],
    )
    def test_processes_share_the_cpus_of_their_node(self, allocation, processes, threads):
        assert allocation.threads(processes) == threads


#: What a step of a job has, beside what its user has set.
INSIDE = {
    "SLURM_JOB_ID": "7",
    "SLURM_MEM_PER_CPU": "1500",
    "SLURM_CPU_BIND": "quiet,mask_cpu:0x1",
    "SLURM_TRES_PER_TASK": "cpu=1",
    "SLURMD_NODENAME": "a1",
    "SRUN_CPUS_PER_TASK": "1",
    "PMI_RANK": "0",
    "CUDA_VISIBLE_DEVICES": "0",
}
OWN = {
    "PATH": "/usr/bin",
    "SBATCH_ACCOUNT": "ours",
    "SLURM_CONF": "/site/slurm.conf",
    "SLURM_JWT": "who",
    "SLURM_CLUSTERS": "big",
    "W2S_SITE": "site.yaml",
}


class TestLeavingAJob:
    def test_the_jobs_shape_goes_and_the_cluster_stays(self):
        environment = INSIDE | OWN
        leave_job(environment)
        assert environment == OWN

    @pytest.mark.parametrize("name", ["SLURM_JOB_ID", "SLURM_JOBID"])
    def test_also_where_the_user_has_unset_the_jobs_number(self, name):
        environment = {"SLURM_JOB_NODELIST": "a1"} | INSIDE | OWN
        environment.pop(name, None)
        leave_job(environment)
        assert environment == OWN

    def test_a_login_nodes_variables_stay(self):
        environment = OWN | {"SLURM_TIME_FORMAT": "relative", "CUDA_VISIBLE_DEVICES": "1"}
        before = dict(environment)
        leave_job(environment)
        assert environment == before
