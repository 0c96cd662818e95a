"""Temporary folders of killed processes are removed, those of living ones and of others stay."""

import os
import subprocess
import sys
from pathlib import Path

from weak_to_strong.jobs import temporary_folders
from weak_to_strong.jobs.temporary_folders import held_folder

SCRIPTS = Path(temporary_folders.__file__).parents[2]
#: Holds a folder in a process whose child outlives it.
HOLD = """
import os, sys, time
from weak_to_strong.jobs.temporary_folders import held_folder
with held_folder("test") as folder:
    (folder / "socket").touch()
    if not os.fork():
        print(folder, os.getpid(), flush=True)
        time.sleep(60)
    time.sleep(60)
"""


def age(path: Path) -> None:
    os.utime(path, (0, 0))


def test_a_folder_is_removed_once_its_process_and_all_its_children_are_dead(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(SCRIPTS)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        name, child = process.stdout.readline().split()
        age(left := Path(name))
        process.kill()
        process.wait()
        with held_folder("next"):
            assert left.is_dir()
        os.kill(int(child), 9)
        assert not process.stdout.read()  # the child is dead
    with held_folder("next"):
        assert not left.exists()
    assert not list(tmp_path.iterdir())


def test_what_is_new_of_others_or_no_such_folder_stays(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names = ["w2s-0123", "w2s-a.b", "w2s-linked", "other"]
    for name in (names[0], names[1], names[3]):
        (tmp_path / name).mkdir()
    for name in (names[1], names[3]):
        age(tmp_path / name)
    (tmp_path / "w2s-linked").symlink_to(tmp_path / "other")
    (tmp_path / "w2s-file").touch()
    with held_folder("test"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {*names, "w2s-file"}
    age(tmp_path / "w2s-0123")
    monkeypatch.setattr("os.getuid", lambda: -1)
    with held_folder("test"):
        assert (tmp_path / "w2s-0123").is_dir()
    monkeypatch.undo()
