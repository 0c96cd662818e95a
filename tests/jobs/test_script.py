"""How a rule's script ends: one line on bad input, and in order when it is ended from outside."""

import errno
import os
import re
import resource
import signal
import subprocess
import sys
import time
import types
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from rule_scripts import SCRIPTS, rule_job

from weak_to_strong.jobs import script as script_module
from weak_to_strong.jobs.code_digest import code_digest
from weak_to_strong.jobs.errors import explain_storage
from weak_to_strong.jobs.script import check_code

SUPPORT = Path(__file__).parents[1] / "support"
SCRIPT = """
import os, subprocess, sys, time
from pathlib import Path
from rule_scripts import rule_job
from training_runs import bare_run
from weak_to_strong.training import launching
from weak_to_strong.jobs.script import run_script

def sleep():
    Path("ready").write_text(str(os.getpid()))
    time.sleep(60)

def bad():
    raise ValueError("models.x: is wrong; correct it")

def broken():
    raise OSError("no more space")

def clean():
    try:
        sleep()
    finally:
        Path("cleaned").touch()

def launched():
    # In place of the training processes.
    launching.launch_command = lambda *_: ["bash", "-c", "echo is $$; exec sleep 60"]
    launching.launch(bare_run("work/key"), None)

act = globals()[sys.argv[1]]
run_script(lambda _: act(), rule_job("test", log="log.txt"))
"""


def start(folder: Path, act: str) -> subprocess.Popen:
    (folder / "script.py").write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, "script.py", act],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{SCRIPTS}{os.pathsep}{SUPPORT}"},
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(file: Path) -> str:
    end = time.monotonic() + 30
    while not (file.is_file() and (text := file.read_text())):
        assert time.monotonic() < end, f"no {file.name}"
        time.sleep(0.05)
    return text


def test_bad_input_is_one_line(tmp_path):
    script = start(tmp_path, "bad")
    assert script.communicate()[1] == "[test] models.x: is wrong; correct it\n"
    assert script.returncode == 1


def test_anything_else_keeps_its_traceback_in_the_log(tmp_path):
    script = start(tmp_path, "broken")
    assert "Traceback" in script.communicate()[1]
    assert script.returncode == 1
    assert "no more space" in (tmp_path / "log.txt").read_text()


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """A rule's script in a package of its own, and its job as it was planned."""
    monkeypatch.setattr(script_module, "PACKAGE", tmp_path / "weak_to_strong")
    script = tmp_path / "votes.py"
    script.write_text("LIMIT = 1\n")
    # Under another rule's name, as in a module, and in the copy that Snakemake runs.
    job = rule_job("w2s_votes", params={"code": code_digest(script)})
    copy = types.FunctionType(compile("0", "tmp1a2b.votes.py", "exec"), {})
    return script, lambda: check_code(job, copy)


@pytest.mark.parametrize("edited", ["LIMIT = 2\n", "LIMIT = \n", None])
def test_code_that_is_not_the_planned_code_is_refused(planned, edited):
    script, check = planned
    check()
    script.write_text("LIMIT = 1  # a remark\n")
    check()
    script.write_text(edited) if edited else script.unlink()
    line = "^the code of rule w2s_votes has changed since this run was planned; run again$"
    with pytest.raises(ValueError, match=line):
        check()
    script.write_text("LIMIT = 1\n")
    check()


def test_a_rule_without_a_digest_is_not_checked():
    check_code(rule_job("verify"), len)


def test_sigterm_ends_it_like_an_exception(tmp_path):
    script = start(tmp_path, "clean")
    wait_for(tmp_path / "ready")
    script.send_signal(signal.SIGTERM)
    script.communicate(timeout=20)
    assert script.returncode == 128 + signal.SIGTERM
    assert (tmp_path / "cleaned").is_file()
    assert "ended from outside" in (tmp_path / "log.txt").read_text()


def test_sigterm_ends_the_processes_of_a_training(tmp_path):
    script = start(tmp_path, "launched")
    # Its first line in the log says that the script has left `Popen`. One that is ended within it
    # leaves its child, which then follows its parent (tests/jobs/test_locks.py): not `sleep`.
    pattern = re.compile(r"is (\d+)\n")
    while not (first := pattern.search(wait_for(tmp_path / "log.txt"))):
        time.sleep(0.05)
    child = psutil.Process(int(first[1]))
    script.send_signal(signal.SIGTERM)
    script.communicate(timeout=20)
    assert script.returncode == 128 + signal.SIGTERM
    assert not child.is_running()


@contextmanager
def small_files():
    """As on a full disk, no file can grow beyond a page; nor can a file that pytest writes to."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
def test_a_checkpoint_that_the_disk_does_not_take(tmp_path):
    import torch

    with small_files(), pytest.raises(RuntimeError) as caught:
        torch.save({"weights": torch.zeros(10_000)}, tmp_path / "optimizer.pt")
    assert "the disk is full: make room" in explain_storage(caught.value)


def test_weights_that_the_disk_does_not_take(tmp_path):
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with small_files(), pytest.raises(SafetensorError) as caught:
        save_file({"weights": np.zeros(10_000)}, tmp_path / "model.safetensors")
    assert os.strerror(errno.EFBIG) in str(caught.value)
    assert "ulimit" in explain_storage(caught.value)


def test_other_errors_are_not_explained():
    assert explain_storage(FileNotFoundError(errno.ENOENT, "no such file")) is None
    assert explain_storage(RuntimeError("shapes differ")) is None
