"""The note of a running job: beside its log, rarely written, gone at its end."""

import os
import sys

import pytest

from weak_to_strong.jobs import work_notes
from weak_to_strong.jobs.child_processes import start_child
from weak_to_strong.jobs.work_notes import (
    NOTE_VARIABLE,
    WorkNote,
    begin_note,
    end_note,
    note_path,
    note_work,
    read_note,
)


@pytest.fixture(autouse=True)
def outside_a_job(monkeypatch):
    monkeypatch.setenv(NOTE_VARIABLE, "")
    monkeypatch.delenv(NOTE_VARIABLE)
    monkeypatch.setattr(work_notes, "NOTE_SECONDS", 0.0)
    yield
    end_note()


def test_a_note_lasts_as_long_as_its_job(tmp_path):
    log = tmp_path / "train/a.log"
    log.parent.mkdir()
    assert read_note(log) is None
    begin_note(log)
    assert read_note(log) == WorkNote()
    note_work(WorkNote(2, 5, 10, 300))
    assert read_note(log) == WorkNote(2, 5, 10, 300)
    end_note()
    assert list(log.parent.iterdir()) == []
    note_work(WorkNote(done=6))
    assert read_note(log) is None


def test_a_process_of_the_job_writes_the_same_note(tmp_path):
    begin_note(tmp_path / "a.log")
    module = "weak_to_strong.jobs.work_notes"
    code = f"from {module} import WorkNote, note_work; note_work(WorkNote(done=3, total=4))"
    with start_child([sys.executable, "-c", code]) as child:
        assert child.wait() == 0
    assert read_note(tmp_path / "a.log") == WorkNote(done=3, total=4)


def test_a_note_is_not_written_at_every_step(tmp_path, monkeypatch):
    monkeypatch.setattr(work_notes, "NOTE_SECONDS", 1000.0)
    begin_note(tmp_path / "a.log")
    note_work(WorkNote(done=1))
    assert read_note(tmp_path / "a.log") == WorkNote()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"done": "x"}', '{"other": 1}'])
def test_what_is_no_note_is_none(tmp_path, text):
    note_path(tmp_path / "a.log").write_text(text)
    assert read_note(tmp_path / "a.log") is None


def test_a_note_that_cannot_be_written_ends_no_job(tmp_path):
    begin_note(tmp_path / "missing/a.log")
    note_work(WorkNote(done=1))
    end_note()
    assert NOTE_VARIABLE not in os.environ
