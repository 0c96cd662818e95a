"""What child processes start with, and what they never import."""

import json
import os
import socket
import sys
from pathlib import Path

from weak_to_strong.jobs.child_processes import child_environment, start_child
from weak_to_strong.jobs.locks import PARENT

SCRIPTS = Path(__file__).parents[2] / "scripts"


def test_a_child_finds_the_package_and_its_parent_and_has_no_secret(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789abcdef")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("PYTHONPATH", f"{os.pathsep}/elsewhere")
    environment = child_environment({"OMP_NUM_THREADS": "3"})
    assert environment["PYTHONPATH"] == f"{SCRIPTS}{os.pathsep}/elsewhere"
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment[PARENT] == f"{socket.gethostname()}:{os.getpid()}"
    assert environment["SLURM_JOB_ID"] == "7"
    assert {"HF_TOKEN", "SLURM_NTASKS"}.isdisjoint(environment)


def test_children_and_theirs_do_not_import_from_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "json.py").write_text("raise SystemExit('imported from the folder')")
    show = "import sys, json; print(json.dumps(sys.path))"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {show!r}])"
    with start_child([sys.executable, "-c", child]) as process:
        path = json.loads(process.stdout.read())
    assert {"", ".", str(tmp_path)}.isdisjoint(path)
