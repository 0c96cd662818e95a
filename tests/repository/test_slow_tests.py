"""Tests that load a model's libraries or start Snakemake are marked as slow, or fail."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parents[1] / "support"
SUITE = """
import subprocess, sys
import pytest

def test_import():
    import torch

def test_process():
    subprocess.run([sys.executable, "-c", "", "snakemake"], check=True)

def test_neither():
    pass

@pytest.mark.slow
def test_marked():
    import vllm
    test_process()
"""


def run(folder: Path, suite: str) -> subprocess.CompletedProcess:
    """Run a suite with the plugin, and empty modules in the place of the libraries."""
    for name in ("torch", "vllm"):
        (folder / f"{name}.py").touch()
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    (folder / "test_suite.py").write_text(suite)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "slow_tests", "-rA"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{SUPPORT}:{folder}", "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> str:
    return run(tmp_path_factory.mktemp("suite"), SUITE).stdout


@pytest.mark.parametrize(
    ("test", "work"), [("import", "imports torch"), ("process", "starts snakemake")]
)
def test_an_unmarked_test_with_such_work_fails(outcomes, test, work):
    assert f"FAILED test_suite.py::test_{test} - Failed: this test {work}: mark it" in outcomes


@pytest.mark.parametrize("test", ["neither", "marked"])
def test_another_test_and_a_marked_one_pass(outcomes, test):
    assert f"PASSED test_suite.py::test_{test}\n" in outcomes


def test_a_library_at_the_top_of_a_test_module_is_refused(tmp_path):
    done = run(tmp_path, "import torch\n\ndef test_nothing(): pass\n")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "imports torch at its top" in done.stderr
