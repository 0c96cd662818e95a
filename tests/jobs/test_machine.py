"""What a run needs of its machine: mended, or named in one line."""

import getpass
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from weak_to_strong.jobs import machine
from weak_to_strong.jobs.errors import explain
from weak_to_strong.jobs.machine import (
    allow_open_files,
    call_python_by_name,
    check_checkout_path,
    check_temporary_folders,
    name_user,
)


@pytest.mark.parametrize("sign", ["{x}", "}", ":"])
def test_a_path_that_snakemake_misreads_is_named(sign):
    with pytest.raises(
        ValueError, match=r"^/a/b.*c: the path of this workflow holds `.`; .*; move"
    ):
        check_checkout_path(f"/a/b{sign}c")


def test_a_path_that_is_not_utf8_is_named():
    with pytest.raises(ValueError, match="is not UTF-8; move or rename the folder") as caught:
        check_checkout_path(os.fsdecode(b"/a/\xff"))
    str(caught.value).encode()


def test_other_unusual_paths_pass():
    check_checkout_path('/a b/it\'s/"q"/$HOME/st*r/[x]/back\\slash/%20/#/é/~')


@pytest.mark.parametrize("limits", [(40, 4096), (40, 40), (255, 255), (256, 256), (9999, 9999)])
def test_the_limit_of_open_files_is_raised_or_named(monkeypatch, limits):
    given = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: given.append(new))
    if limits[1] < 256:
        fix = rf"only {limits[1]} files open \(ulimit -n\).*at least 256"
        with pytest.raises(ValueError, match=fix):
            allow_open_files()
    else:
        allow_open_files()
    assert given == ([(256, 4096)] if limits == (40, 4096) else [])


def test_too_many_open_files_are_told_in_one_line():
    with pytest.raises(OSError, match="Too many") as caught:
        raise OSError(24, "Too many open files", "a.txt")
    assert explain(caught.value).startswith(
        "a.txt: too many open files: raise the limit (ulimit -n)"
    )


def test_a_temporary_folder_that_cannot_be_used_is_named(tmp_path, monkeypatch):
    check_temporary_folders()
    (tmp_path / "file").touch()
    monkeypatch.setenv("TMPDIR", "/proc")  # where nobody can make a file
    with pytest.raises(ValueError, match=r"^/proc: cannot be written to"):
        check_temporary_folders()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    check_temporary_folders()
    monkeypatch.setattr("tempfile._get_default_tempdir", lambda: (tmp_path / "x/y").stat())
    monkeypatch.setattr("tempfile.tempdir", None)
    with pytest.raises(ValueError, match="no folder for temporary files can be written to"):
        check_temporary_folders()
    monkeypatch.undo()
    monkeypatch.setattr(machine, "SHARED_MEMORY", tmp_path / "file")
    with pytest.raises(ValueError, match=f"{tmp_path}/file: cannot be written to"):
        check_temporary_folders()


def test_a_user_without_a_name_gets_one(monkeypatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    environment = {}
    name_user(environment)  # this user has a name, or gets one below
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    name_user(environment)
    assert environment == dict.fromkeys(("USER", "LOGNAME"), f"user-{os.getuid()}")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert getpass.getuser() == f"user-{os.getuid()}"


@pytest.mark.parametrize("name", ["a b", "a'b", "a$HOME", "a;b"])
def test_python_is_found_in_a_path_with_a_space(tmp_path, monkeypatch, name):
    python = tmp_path / name / "python-of-the-test"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(python))
    environment = {"PATH": os.environ["PATH"]}
    call_python_by_name(environment)
    assert sys.executable == "python-of-the-test"
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -c 'import sys; print(sys.executable)'"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert Path(done.stdout.strip()).name == "python-of-the-test"


def test_python_in_a_plain_path_is_called_by_its_path(monkeypatch):
    before = sys.executable
    environment = {}
    call_python_by_name(environment)
    assert (environment, sys.executable) == ({}, before)
