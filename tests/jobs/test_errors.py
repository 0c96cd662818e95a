"""A full disk is named where the library's message does not say which."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from weak_to_strong.jobs.errors import explain_storage


@pytest.fixture
def full(monkeypatch, tmp_path):
    """Fill the file systems of the given folders."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", "/temporary")
    folders = set()

    def statvfs(folder):
        free = 0 if folder in folders else 2**30
        return SimpleNamespace(f_bavail=free, f_frsize=1, f_files=0, f_favail=0)

    monkeypatch.setattr(os, "statvfs", statvfs)
    return folders


ERRORS = [
    OSError(errno.ENOSPC, "No space left on device"),
    RuntimeError("unable to write to file </torch_1>: No space left on device (28)"),
    RuntimeError("PytorchStreamWriter failed writing file: inline_container.cc:664"),
]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(
    ("place", "fix"),
    [
        ("/dev/shm", "make room, or make it larger (with Docker: --shm-size)"),
        ("/temporary", "make room, or name another folder with TMPDIR"),
        (None, "make room"),
    ],
)
def test_the_full_one_of_three_places_is_named(full, error, place, fix):
    place = place or str(Path.cwd())
    full.add(place)
    assert explain_storage(error).startswith(f"{place}: the disk is full: {fix}, then run again")


@pytest.mark.parametrize("error", ERRORS)
def test_no_place_is_named_where_none_is_full(full, error):
    assert explain_storage(error).startswith("the disk is full: make room, then run again")


def test_a_file_that_the_error_names_is_kept(full):
    full.add("/dev/shm")
    error = OSError(errno.ENOSPC, "No space left on device", "a.txt")
    assert explain_storage(error).startswith("a.txt: the disk is full: make room, then run again")


def test_a_file_system_without_room_for_names_is_full(monkeypatch):
    status = SimpleNamespace(f_bavail=2**30, f_frsize=1, f_files=10, f_favail=0)
    monkeypatch.setattr(os, "statvfs", lambda _: status)
    assert "the disk is full" in explain_storage(OSError(errno.ENOSPC, "No space left on device"))
