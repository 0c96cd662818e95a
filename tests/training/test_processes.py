"""Training processes start, end together, and meet where no stranger reaches them."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from weak_to_strong.training.processes import process_environments, run_processes


class TestEnvironments:
    def test_one_machine_meets_in_a_file_and_speaks_over_loopback(self):
        first, second = process_environments(2, 0, [], "/folder", "/shared/address")
        assert first["W2S_STORE_FILE"] == second["W2S_STORE_FILE"] == "/folder/store"
        assert first["GLOO_SOCKET_IFNAME"] == first["NCCL_SOCKET_IFNAME"] == "lo"
        assert [first["RANK"], second["RANK"]] == ["0", "1"]
        assert [first["LOCAL_RANK"], second["LOCAL_RANK"]] == ["0", "1"]
        assert {first["WORLD_SIZE"], first["LOCAL_WORLD_SIZE"]} == {"2"}

    def test_the_users_interface_is_kept(self, monkeypatch):
        monkeypatch.setenv("NCCL_SOCKET_IFNAME", "ib0")
        (only,) = process_environments(1, 0, [], "/folder", "/shared/address")
        assert only["NCCL_SOCKET_IFNAME"] == "ib0"

    def test_several_nodes_meet_at_an_address_in_a_shared_file(self):
        third, fourth = process_environments(4, 1, ["a", "b"], "/folder", "/shared/address")
        assert [third["RANK"], fourth["RANK"]] == ["2", "3"]
        assert [third["LOCAL_RANK"], fourth["LOCAL_RANK"]] == ["0", "1"]
        assert third["W2S_ADDRESS_FILE"] == "/shared/address"
        assert third["W2S_OTHER_NODE"] == "b"
        assert "W2S_STORE_FILE" not in third


class TestRunning:
    def test_all_succeed(self):
        command = [sys.executable, "-c", "import os; assert os.environ['RANK'] in '01'"]
        assert run_processes(command, [{"RANK": "0"}, {"RANK": "1"}]) == 0

    def test_one_that_fails_ends_the_others(self, tmp_path):
        code = (
            "import os, sys, time, pathlib\n"
            "pathlib.Path(os.environ['FOLDER'], os.environ['RANK']).write_text(str(os.getpid()))\n"
            "time.sleep(0.5 if os.environ['RANK'] == '1' else 600)\n"
            "sys.exit(3)"
        )
        environments = [{"RANK": str(rank), "FOLDER": str(tmp_path)} for rank in range(2)]
        started = time.monotonic()
        assert run_processes([sys.executable, "-c", code], environments) == 3
        assert time.monotonic() - started < 60
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "0").read_text()), 0)


#: Two processes meet; each then prints the addresses on which it listens.
MEET = """
import os, sys
from weak_to_strong.training.meeting import join_processes
join_processes("gloo")
import psutil, torch
value = torch.ones(1)
torch.distributed.all_reduce(value)
assert value.item() == 2, value
here = psutil.Process().net_connections()
print(*{place.laddr.ip for place in here if place.status == "LISTEN"}, flush=True)
torch.distributed.barrier()
os._exit(0)
"""


@pytest.mark.parametrize(
    "nodes", [[], ["localhost", "localhost"]], ids=["one machine", "two nodes"]
)
def test_processes_listen_on_one_interface_only(tmp_path, nodes):
    """Two nodes are played by this machine, whose interface to `localhost` is the loopback one."""
    environments = [
        variables
        for node in range(max(1, len(nodes)))
        for variables in process_environments(2, node, nodes, str(tmp_path), f"{tmp_path}/address")
    ]
    loopback = {"GLOO_SOCKET_IFNAME": "lo"}
    running = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", MEET],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **loopback, **variables},
            stdout=subprocess.PIPE,
            text=True,
        )
        for variables in environments
    ]
    printed = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert {address for line in printed for address in line.split()} == {"127.0.0.1"}
