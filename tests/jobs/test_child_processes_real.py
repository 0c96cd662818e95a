"""An engine worker and a training process import nothing from their working folder."""

import subprocess
from pathlib import Path

import pytest
from training_runs import bare_run

from weak_to_strong.generation.engine_pool import WORKER, Worker
from weak_to_strong.jobs.child_processes import start_child
from weak_to_strong.training.launching import launch_command

#: Modules that children or their libraries import, as a user may have named a file.
NAMES = ("zmq", "tokenize", "torch", "vllm", "json", "weak_to_strong")


@pytest.fixture
def hostile_folder(tmp_path, monkeypatch):
    """The working folder, with files that end whoever imports them."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('imported {name} of the folder')")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_engine_worker_does_not_import_from_the_working_folder(hostile_folder):
    """It loads vLLM, which imports zmq, and answers."""
    worker = Worker(WORKER, {}, hostile_folder / "logs/engine.log")
    try:
        worker.send({"tokenise": {"weights": str(hostile_folder / "none"), "prompts": []}})
        with pytest.raises(RuntimeError, match="none"):
            worker.receive()
    finally:
        worker.kill()
    assert "of the folder" not in (hostile_folder / "logs/engine.log").read_text()


def test_a_training_process_does_not_import_from_the_working_folder(hostile_folder):
    """A process of its own starts it; it ends at a run whose base is not there."""
    training = bare_run("work/key")
    training.write(Path("work/key.json"))
    command = launch_command(1, None, "work/key.json")
    with start_child(command, stderr=subprocess.STDOUT) as process:
        output = process.stdout.read()
    assert "of the folder" not in output
    assert "base.json: not a readable JSON file" in output
