"""A build of kernels that was killed holds up no later training."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from weak_to_strong.training import kernel_builds
from weak_to_strong.training.kernel_builds import BuildLock

SCRIPTS = Path(kernel_builds.__file__).parents[2]
HOLD = """
import sys, time
from weak_to_strong.training.kernel_builds import BuildLock
lock = BuildLock(sys.argv[1])
lock.try_acquire()
print("taken", flush=True)
time.sleep(60)
"""
BUILD = """
import sys
from weak_to_strong.training.kernel_builds import guard_builds
guard_builds()
from torch.utils.cpp_extension import load
load("stale", [sys.argv[1]], is_python_module=False)
"""


def start(code: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    environment = {**os.environ, **variables, "PYTHONPATH": str(SCRIPTS)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_a_lock_ends_with_the_process_that_holds_it(tmp_path):
    path = str(tmp_path / "lock")
    holder = start(HOLD, path)
    assert holder.stdout.readline() == "taken\n"
    waiting = start(HOLD, path)
    try:
        assert not select.select([waiting.stdout], [], [], 1.0)[0]
        holder.kill()
        assert waiting.stdout.readline() == "taken\n"
    finally:
        for process in (holder, waiting):
            process.kill()
            process.communicate()
    lock = BuildLock(path)
    assert lock.try_acquire()
    lock.release()


def test_a_link_in_the_place_of_the_lock_leads_nowhere(tmp_path):
    (tmp_path / "target").write_text("theirs")
    (tmp_path / "lock").symlink_to(tmp_path / "target")
    with pytest.raises(ValueError, match=r"lock: is no plain file; remove it and run again"):
        BuildLock(str(tmp_path / "lock")).try_acquire()


@pytest.mark.slow
def test_torch_builds_where_a_killed_build_left_its_lock(tmp_path):
    """With torch's own guard this would wait for ever."""
    source = tmp_path / "a.cpp"
    source.write_text("int one() { return 1; }\n")
    for _ in range(2):
        with start(BUILD, str(source), TORCH_EXTENSIONS_DIR=str(tmp_path / "builds")) as build:
            assert build.wait(300) == 0
        (machine,) = (tmp_path / "builds").iterdir()
        assert (machine / "stale/stale.so").is_file()
        assert (machine / "stale/lock").is_file()
