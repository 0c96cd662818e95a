"""The checks of a device, run on the CPU, and their report."""

import json
import os
import re
import socket
import subprocess
import sys
from getpass import getuser
from pathlib import Path

import pytest

from weak_to_strong.cluster import gpu_test
from weak_to_strong.cluster.gpu_checks import GPU_CHECKS, Bench, GpuOutcome, equal_share
from weak_to_strong.cluster.gpu_test import line_of, private_words, without_private
from weak_to_strong.tables.files import read_json, write_json

ROOT = Path(__file__).parents[2]
TOKEN = "hf_aSecretOfThisTest"
#: All checks take some minutes of CPU time, in the fixture of the first test that asks for them.
pytestmark = pytest.mark.timeout(3600)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Call the command on the CPU, in a folder and with a secret."""
    return subprocess.run(
        [
            *(sys.executable, "-P", "-m", "weak_to_strong.cluster.gpu_test", "--device", "cpu"),
            *arguments,
        ],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "scripts"),
            "HF_TOKEN": TOKEN,
            "OMP_NUM_THREADS": "1",  # more would wait for each other on busy cores
        },
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> dict:
    """The report of all checks."""
    folder = tmp_path_factory.mktemp("gpu test")
    done = run(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("Report: results/gpu-test/report.json\n")
    return read_json(folder / "results/gpu-test/report.json")


@pytest.fixture(scope="module")
def checks(report) -> dict[str, dict]:
    return {check["name"]: check for check in report["checks"]}


@pytest.mark.slow
@pytest.mark.parametrize("name", GPU_CHECKS)
def test_each_check_passes_on_the_cpu(checks, name):
    assert checks[name]["state"] == ("skipped" if name == "plan" else "passed"), checks[name]


@pytest.mark.slow
def test_figures_are_measured(checks):
    assert checks["texts"]["figures"] == {"texts": 8, "equal_share": 1.0}
    adapter = checks["adapter"]["figures"]
    assert adapter["changed_share"] >= 0.8
    assert adapter["last_loss"] < adapter["first_loss"]
    for name in ("bfloat16", "zero2", "zero3", "qlora", "plan"):
        figures = checks[name]["figures"]
        assert figures["measured_gb"] > 0.2
        # Of DEVICE_OVERHEAD, most of it, since the models are small.
        assert 2 < figures["planned_gb"] < 3
    assert checks["plan"]["reason"] == "the plan is about memory of a GPU"


@pytest.mark.slow
def test_the_report_has_versions_and_nothing_private(report):
    assert report["device"] == "cpu"
    assert report["torch"]["version"] == report["packages"]["torch"]
    text = json.dumps(report)
    assert TOKEN not in text
    for word in (getuser(), socket.gethostname(), str(Path.home()), str(ROOT)):
        assert not re.search(rf"\b{re.escape(word)}\b", text), word


def test_private_words_are_replaced_wherever_they_stand(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    words = {"/home/alice/study": "[project]", "/home/alice": "[home]", "alice": "[user]"}
    value = {"reason": f"/home/alice/study/x: no room for alice, {TOKEN}", "list": ["/home/alice"]}
    assert without_private(value, words) == {
        "reason": "[project]/x: no room for [user], [hidden]",
        "list": ["[home]"],
    }
    assert without_private("alices palice alice", words) == "alices palice [user]"
    assert without_private({"share": 0.5, "none": None}, words) == {"share": 0.5, "none": None}


def test_longer_words_go_before_their_parts(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = list(private_words())
    assert words == sorted(words, key=len, reverse=True)
    assert {str(tmp_path), str(Path.home()), getuser(), socket.gethostname()} <= set(words)


def test_share_of_equal_texts():
    assert equal_share(["a ", "b", "c", "d"], ["a", "b", "c", "x"]) == 0.75


class TestProcesses:
    """What becomes of a check whose process passes, fails or dies."""

    @pytest.fixture
    def bench(self, tmp_path) -> Bench:
        return Bench("cpu", tmp_path, 8)

    def run_with(self, monkeypatch, bench, answer: GpuOutcome | None, error: str | None) -> dict:
        def ask(command, seconds):
            if answer is not None:
                value = {
                    "passed": answer.passed, "figures": answer.figures, "reason": answer.reason
                }  # fmt: skip
                write_json(value, bench.folder / "texts.json")
            if error:
                raise ValueError(error)
            return ""

        monkeypatch.setattr(gpu_test, "ask_command", ask)
        return gpu_test.run_apart("texts", bench, 1)

    def test_it_passes(self, monkeypatch, bench):
        check = self.run_with(monkeypatch, bench, GpuOutcome(True, {"texts": 8}), None)
        assert (check["state"], check["figures"]) == ("passed", {"texts": 8})

    def test_it_is_skipped_with_a_reason(self, monkeypatch, bench):
        check = self.run_with(monkeypatch, bench, GpuOutcome(None, {}, "no GPU"), None)
        assert (check["state"], check["reason"]) == ("skipped", "no GPU")

    def test_its_own_reason_goes_before_its_status(self, monkeypatch, bench):
        outcome = GpuOutcome(False, {}, "texts depend on the batch")
        check = self.run_with(monkeypatch, bench, outcome, f"{sys.executable} failed (status 1)")
        assert (check["state"], check["reason"]) == ("failed", "texts depend on the batch")

    def test_it_dies(self, monkeypatch, bench):
        error = f"{sys.executable} gave no answer in 1 s"
        check = self.run_with(monkeypatch, bench, None, error)
        assert (check["state"], check["reason"]) == ("failed", "the check gave no answer in 1 s")

    def test_an_answer_of_an_earlier_run_does_not_count(self, monkeypatch, bench):
        write_json({"passed": True, "figures": {}, "reason": ""}, bench.folder / "texts.json")
        assert self.run_with(monkeypatch, bench, None, "x failed")["state"] == "failed"


def test_a_line_has_state_time_and_figures():
    check = {"name": "texts", "state": "failed", "seconds": 12.3, "reason": "why"}
    line = line_of({**check, "figures": {"share": 0.123456, "texts": 8}})
    assert line == "failed  texts        12 s  why; share 0.1235, texts 8"
