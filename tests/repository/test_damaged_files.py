"""Damage in files is found on reading, and the machine's troubles become one line."""

import errno
import os
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
from table_builders import labels

from weak_to_strong.jobs.errors import ProcessDied, explain
from weak_to_strong.models.manifests import check_files, read_manifest
from weak_to_strong.tables.files import hash_file, publish, publish_folder, read_json, write_json
from weak_to_strong.tables.frames import ROWS_OF_A_GROUP, read_table
from weak_to_strong.tables.frames import write_table as write
from weak_to_strong.tables.schemas import LABELS
from weak_to_strong.training.checkpoints import (
    SEAL,
    find_checkpoint,
    list_unhashed,
    remove_torn,
    seal_checkpoint,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=[False, True], ids=["eager", "lazy"])
def table(tmp_path, request) -> Path:
    frame = labels({"a": "1", "b": "2"})
    path = tmp_path / "labels.parquet"
    write(frame.lazy() if request.param else frame, LABELS, path)
    return path


def test_a_flip_of_any_byte_is_found_or_harmless(table):
    intact, frame = table.read_bytes(), read_table(table, LABELS)
    harmless = 0
    for place in range(len(intact)):
        flipped = bytearray(intact)
        flipped[place] ^= 1 << place % 8
        table.write_bytes(flipped)
        with suppress(ValueError):
            assert read_table(table, LABELS).equals(frame)
            harmless += 1  # in the name or the digits of the signature itself
    assert harmless < 100
    assert len(intact) > 500


def test_a_table_cut_anywhere_is_found(table):
    intact = table.read_bytes()
    for size in range(0, len(intact), 7):
        table.write_bytes(intact[:size])
        with pytest.raises(ValueError, match=r"labels\.parquet: .*delete the file and run again"):
            read_table(table, LABELS)


def test_a_table_of_another_programme_has_no_signature_and_passes(table):
    frame = read_table(table, LABELS)
    frame.write_parquet(table)
    assert read_table(table, LABELS).equals(frame)


def test_equal_tables_are_equal_files(table):
    copies = [table.with_name(name) for name in ("one.parquet", "two.parquet")]
    for copy in copies:
        write(read_table(table, LABELS), LABELS, copy)
    assert copies[0].read_bytes() == copies[1].read_bytes()


def test_a_large_table_is_signed_too(tmp_path):
    ids = pl.int_range(ROWS_OF_A_GROUP + 1, eager=True).cast(pl.String)
    frame = pl.DataFrame({"id": ids, "response": ids.reverse(), "prediction": ids})
    write(frame.lazy(), LABELS, tmp_path / "large.parquet")
    content = bytearray((tmp_path / "large.parquet").read_bytes())
    content[len(content) // 2] ^= 16
    (tmp_path / "large.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=r"large\.parquet: "):
        read_table(tmp_path / "large.parquet", LABELS)


@pytest.fixture
def manifest(tmp_path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_text(name)
    files = {name: hash_file(folder / name) for name in ("config.json", "model.safetensors")}
    write_json({"path": str(folder), "files": files, "training": {}}, tmp_path / "manifest.json")
    return tmp_path / "manifest.json"


def test_a_model_is_compared_with_its_manifest(manifest):
    check_files(manifest)
    (manifest.parent / "model/model.safetensors").write_text("model.safetensorr")
    check_files(manifest, ["config.json"])
    with pytest.raises(ValueError, match=r"model\.safetensors: is damaged .* to train it anew"):
        check_files(manifest)
    (manifest.parent / "model/model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"lacks model\.safetensors; delete the manifest"):
        check_files(manifest)


@pytest.mark.parametrize("suffix", ["safetensors", "bin", "pt", "pth", "gguf"])
def test_weights_that_the_manifest_does_not_name_are_refused(manifest, suffix):
    (manifest.parent / f"model/.hidden.{suffix}").touch()
    check_files(manifest)
    (manifest.parent / f"model/b.{suffix}").touch()
    check_files(manifest, ["config.json"])
    with pytest.raises(ValueError, match=rf"model/b\.{suffix}: weights that .*manifest\.json does"):
        check_files(manifest)


def test_a_base_model_may_have_further_weights(manifest):
    """No library sees them: tests/models/test_view.py."""
    described = {key: value for key, value in read_json(manifest).items() if key != "training"}
    write_json(described, manifest)
    for name in ("pytorch_model.bin", "consolidated.safetensors"):
        (manifest.parent / "model" / name).touch()
    check_files(manifest)


def test_a_lost_model_of_the_user_is_to_be_put_back(manifest):
    write_json({**read_json(manifest), "source": {"path": "model"}}, manifest)
    (manifest.parent / "model/model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"model lacks model\.safetensors; put the model back"):
        read_manifest(manifest)


def test_a_manifest_without_its_keys_is_named(manifest):
    with pytest.raises(ValueError, match=r"manifest\.json: not a model manifest .*run again"):
        read_manifest(manifest, "kind")


@pytest.mark.parametrize("how", ["flipped", "cut", "gone", "unsealed", "seal"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, how):
    for step in (2, 4):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}/optimizer.pt").write_bytes(bytes(100))
        seal_checkpoint(tmp_path / f"checkpoint-{step}")
    assert find_checkpoint(tmp_path).name == "checkpoint-4"
    file, seal = tmp_path / "checkpoint-4/optimizer.pt", tmp_path / "checkpoint-4" / SEAL
    actions = {
        "flipped": lambda: file.write_bytes(bytes(50) + b"\1" + bytes(49)),
        "cut": lambda: file.write_bytes(bytes(99)),
        "gone": file.unlink,
        "unsealed": seal.unlink,
        "seal": lambda: seal.write_text("[]"),
    }
    actions[how]()
    assert find_checkpoint(tmp_path).name == "checkpoint-2"


def test_a_checkpoint_that_the_system_does_not_give_is_no_torn_one(tmp_path, monkeypatch):
    (tmp_path / "checkpoint-2").mkdir()
    (tmp_path / "checkpoint-2/optimizer.pt").write_bytes(bytes(100))
    seal_checkpoint(tmp_path / "checkpoint-2")

    def refuse(path: Path) -> str:
        raise OSError(errno.EMFILE, "Too many open files", path)

    with monkeypatch.context() as patched:
        patched.setattr("weak_to_strong.training.checkpoints.hash_file", refuse)
        with pytest.raises(OSError, match="Too many open files"):
            remove_torn(tmp_path)
    assert find_checkpoint(tmp_path).name == "checkpoint-2"


def test_files_of_a_checkpoint_without_a_hash_are_known(tmp_path, monkeypatch):
    monkeypatch.setattr("weak_to_strong.training.checkpoints.HASHED_BYTES", 50)
    for name, size in {"optimizer.pt": 51, "scheduler.pt": 50}.items():
        (tmp_path / name).write_bytes(bytes(size))
    seal_checkpoint(tmp_path)
    assert list_unhashed(tmp_path) == ["optimizer.pt"]


#: Publishes the file or folder of its argument, and is killed when it has written a part.
KILLED = """
import os, signal, sys
from pathlib import Path
from weak_to_strong.tables.files import publish
from weak_to_strong.tables.files import publish_folder

path, kind, moment = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
replace = Path.replace
def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def set_aside(source, target):
    replace(source, target)
    kill()
if moment == "renaming":
    Path.replace = set_aside if kind == "folder" else kill
with (publish_folder if kind == "folder" else publish)(path) as part:
    (part / "weights" if kind == "folder" else part).write_text("torn")
    if moment == "writing":
        kill()
"""


def publish_and_be_killed(path: Path, kind: str, moment: str) -> list[str]:
    """Kill a process that publishes `path`; return the names of what it left beside `path`."""
    command = [sys.executable, "-c", KILLED, str(path), kind, moment]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")})
    assert done.returncode == -signal.SIGKILL
    return sorted(file.name for file in path.parent.iterdir() if file.name.startswith("."))


@pytest.mark.parametrize("moment", ["writing", "renaming"])
def test_what_a_killed_job_left_of_a_file_goes_with_the_next(tmp_path, moment):
    path = tmp_path / "table[1].csv"
    other_part = tmp_path / ".table[1].csv.other.abcdefgh.part"
    other_part.touch()  # of a target with a longer name
    assert len(publish_and_be_killed(path, "file", moment)) == 2
    with publish(path) as part:
        assert {*tmp_path.iterdir()} == {part, other_part}
        part.write_text("whole")
    assert {*tmp_path.iterdir()} == {path, other_part}
    assert path.read_text() == "whole"


@pytest.mark.parametrize("moment", ["writing", "renaming"])
def test_what_a_killed_job_left_of_a_model_goes_with_the_next(tmp_path, moment):
    path = tmp_path / "model"
    path.mkdir()
    left = publish_and_be_killed(path, "folder", moment)
    assert [name.rpartition(".")[2] for name in left] in (
        ["part"],
        ["old", "part"],
        ["part", "old"],
    )
    assert path.exists() == (moment == "writing")
    with publish_folder(path) as part:
        assert {*tmp_path.iterdir()} <= {part, path}
        (part / "weights").write_text("whole")
    assert [*tmp_path.iterdir()] == [path]
    assert (path / "weights").read_text() == "whole"


def test_two_writers_of_a_file_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "shard.parquet"
    with publish(path) as one:
        one.write_text("one")
        with publish(path) as two:
            two.write_text("two")
        assert path.read_text() == "two"
    assert path.read_text() == "one"
    assert [*tmp_path.iterdir()] == [path]


def test_without_locks_a_file_that_may_have_a_writer_stays(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("weak_to_strong.tables.files.fcntl.flock", refuse)
    with publish(tmp_path / "a") as one, publish(tmp_path / "a") as two:
        assert {*tmp_path.iterdir()} == {one, two}
    (tmp_path / ".m.abcdefgh.part").mkdir()
    with publish_folder(tmp_path / "m"):
        assert not (tmp_path / ".m.abcdefgh.part").exists()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_published_is_on_disk_with_its_name(tmp_path, monkeypatch, kind):
    synced = record_syncs(monkeypatch)
    with (publish_folder if kind == "folder" else publish)(tmp_path / "a") as part:
        (part / "b" if kind == "folder" else part).touch()
    before = [part, part / "b"] if kind == "folder" else [part]
    assert synced == [(path, False) for path in before] + [(tmp_path, True)]


def record_syncs(monkeypatch) -> list[tuple[Path, bool]]:
    """A list that is filled with each synced path, and whether `a` was in it at that time."""
    synced = []

    def sync(handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        synced.append((path, (path / "a").exists()))

    monkeypatch.setattr("weak_to_strong.tables.files.os.fsync", sync)
    return synced


def test_a_file_system_that_cannot_sync_folders_is_good_enough(tmp_path, monkeypatch):
    def refuse(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("weak_to_strong.tables.files.os.fsync", refuse)
    write_json({}, tmp_path / "a.json")
    assert read_json(tmp_path / "a.json") == {}


def wrapped(error: Exception) -> Exception:
    """An error with `error` as its cause, as libraries raise it."""
    outer = RuntimeError("writing failed")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left", "a.txt"), "a.txt: the disk is full: make room"),
        (wrapped(OSError(errno.EROFS, "Read-only")), "the file system is read-only"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "the disk is full"),
        (MemoryError(), "out of memory: run fewer jobs at once"),
        (ProcessDied("the engine's process ended"), "the engine's process ended"),
        (ValueError("key: is wrong"), "key: is wrong"),
    ],
)
def test_errors_of_the_user_or_the_machine_become_one_line(error, expected):
    assert explain(error).startswith(expected)
    assert "\n" not in explain(error)


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyError("x"), OSError(errno.ENOENT, "x")])
def test_other_errors_keep_their_traceback(error):
    assert explain(error) is None
