"""What the progress line of a run says, and where it is shown."""

import io
import json
import time
from pathlib import Path

import pytest

from weak_to_strong.jobs import progress as module
from weak_to_strong.jobs.logs import CLEAR
from weak_to_strong.jobs.progress import (
    Measured,
    PlannedWork,
    ProgressLine,
    RunProgress,
    RunState,
    line_seconds,
    measure_records,
)
from weak_to_strong.jobs.work_notes import WorkNote, note_path

TRAINING = PlannedWork("train sft", lambda: 100.0, makes_tokens=True)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def finish(log: str, seconds: float, **cost) -> None:
    record = {"cost": {"wall_seconds": seconds, **cost}}
    Path(log).with_suffix(".json").write_text(json.dumps(record))


def note(log: str, **work) -> None:
    note_path(log).write_text(json.dumps(vars(WorkNote(**work))))


def state(done: int, total: int, *finished: str, **running: int) -> RunState:
    gpus = {f"{name}.log": count for name, count in running.items()}
    return RunState(done, total, gpus, frozenset(finished))


def test_nothing_is_guessed_before_the_first_measurement():
    progress = RunProgress({"a.log": TRAINING, "b.log": TRAINING}, {})
    note("a.log")
    progress.look(state(0, 3, a=0), 10.0)
    assert progress.line() == "Progress: 0 of 3 jobs (0%)"
    progress.look(state(0, 3, a=0), 20.0)
    assert progress.line() == "Progress: 0 of 3 jobs (0%)"


def test_time_and_tokens_left_follow_from_the_measured_jobs():
    progress = RunProgress({f"{name}.log": TRAINING for name in "abc"}, {})
    note("a.log")
    progress.look(state(0, 4, a=0), 0.5)
    progress.look(state(0, 4, a=0), 60.5)
    finish("a.log", 60.0, trained_tokens=1_000)
    progress.look(state(1, 4, "a.log"), 61.0)
    assert progress.line() == "Progress: 1 of 4 jobs (25%), 1k of about 3k tokens, about 2 min left"


def test_jobs_side_by_side_take_less_time():
    works = {f"{name}.log": TRAINING for name in "abcdefgh"}
    progress = RunProgress(works, {})
    for name in "ab":
        note(f"{name}.log")
        finish(f"{name}.log", 600.0, trained_tokens=10)
    progress.look(state(0, 9, a=0, b=0), 1.0)
    progress.look(state(0, 9, a=0, b=0), 601.0)
    progress.look(state(2, 9, "a.log", "b.log"), 601.0)
    # Six jobs of ten minutes, two at a time.
    assert progress.line().endswith("about 30 min left")


def test_a_running_job_is_judged_by_its_own_speed():
    """It has trained half of what an earlier run had left, in a minute; the other half is due."""
    progress = RunProgress({"a.log": TRAINING}, {})
    note("a.log", first=20, done=20, total=100)
    progress.look(state(0, 1, a=0), 1.0)
    note("a.log", first=20, done=60, total=100, tokens=400)
    progress.look(state(0, 1, a=0), 61.0)
    assert progress.line() == "Progress: 0 of 1 jobs (0%), 400 of about 800 tokens, about 60 s left"


def test_a_kind_that_was_not_measured_is_said_to_be_missing():
    other = PlannedWork("train dpo", lambda: 50.0, makes_tokens=True)
    progress = RunProgress({"a.log": TRAINING, "b.log": TRAINING, "c.log": other}, {})
    finish("a.log", 120.0, trained_tokens=2_000_000)
    progress.look(state(1, 4, "a.log"), 1.0)
    assert progress.line().endswith("2M of more than 4M tokens, more than 2 min left")


def test_jobs_of_an_earlier_run_count_until_this_run_has_its_own():
    earlier = {"train sft": Measured(1, 100.0, 7200.0, 500.0)}
    progress = RunProgress({"a.log": TRAINING, "b.log": TRAINING}, earlier)
    progress.look(state(0, 2), 1.0)
    assert progress.line() == "Progress: 0 of 2 jobs (0%), 0 of about 1k tokens, about 4.0 h left"
    finish("a.log", 60.0, trained_tokens=100)
    progress.look(state(1, 2, "a.log"), 2.0)
    assert progress.line().endswith("100 of about 200 tokens, about 60 s left")


def test_a_size_that_is_not_known_yet_is_that_of_a_mean_job():
    unknown = PlannedWork("train sft", lambda: None, makes_tokens=True)
    progress = RunProgress({"a.log": TRAINING, "b.log": unknown}, {})
    finish("a.log", 30.0, trained_tokens=10)
    progress.look(state(1, 2, "a.log"), 1.0)
    assert progress.line().endswith("10 of about 20 tokens, about 30 s left")


def test_a_round_whose_texts_were_in_the_store_is_no_measurement():
    work = PlannedWork("generate b", lambda: 10.0, makes_tokens=True)
    progress = RunProgress({"a.log": work, "b.log": work}, {})
    finish("a.log", 3.0, samples=0, response_tokens=0)
    progress.look(state(1, 2, "a.log"), 1.0)
    assert progress.line() == "Progress: 1 of 2 jobs (50%)"


def test_gpu_hours_count_from_when_a_job_runs_and_not_from_when_it_waits():
    progress = RunProgress({"a.log": TRAINING}, {})
    progress.look(state(0, 1, a=4), 1.0)
    progress.look(state(0, 1, a=4), 1801.0)
    assert "GPU" not in progress.line()
    note("a.log")
    progress.look(state(0, 1, a=4), 1801.0)
    progress.look(state(0, 1, a=4), 3601.0)
    assert progress.line().endswith("2.00 GPU-hours")


def test_the_note_of_a_killed_attempt_does_not_count_for_the_next_one():
    progress = RunProgress({"a.log": TRAINING}, {})
    note("a.log")
    progress.look(state(0, 1, a=1), 1.0)
    progress.look(state(0, 1), 2.0)
    assert not note_path("a.log").exists()
    progress.look(state(0, 1, a=1), 1000.0)
    progress.look(state(0, 1, a=1), 2000.0)
    assert progress.line().endswith("0.00 GPU-hours")


def test_a_record_that_comes_late_is_counted_later():
    progress = RunProgress({"a.log": TRAINING, "b.log": TRAINING}, {})
    progress.look(state(1, 2, "a.log"), 1.0)
    assert "tokens" not in progress.line()
    finish("a.log", 60.0, trained_tokens=5)
    progress.look(state(1, 2, "a.log"), 2.0)
    assert "5 of about 10 tokens" in progress.line()


def test_records_of_jobs_that_are_no_more_are_left_out():
    records = [
        {"rule": rule, "wildcards": {}, "cost": {"wall_seconds": 5.0, "trained_tokens": 7}}
        for rule in ("train", "gone")
    ]
    works = {"train": TRAINING}
    measured = measure_records(records, lambda rule, wildcards: works.get(rule))
    assert measured == {"train sft": Measured(1, 100.0, 5.0, 7)}


class TestSetting:
    def test_default_and_values(self):
        assert line_seconds({}) == line_seconds({"W2S_PROGRESS": ""}) == 60
        assert line_seconds({"W2S_PROGRESS": "5"}) == 5
        assert line_seconds({"W2S_PROGRESS": "Off"}) is None

    @pytest.mark.parametrize("value", ["no", "0", "-3", "nan", "inf"])
    def test_another_value_is_one_line(self, value):
        with pytest.raises(ValueError, match=r"^W2S_PROGRESS: '.*' is neither `off` nor a number"):
            line_seconds({"W2S_PROGRESS": value})


class TestPlace:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    @pytest.fixture(autouse=True)
    def often(self, monkeypatch):
        monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)

    def show(self, stream, **settings) -> ProgressLine:
        line = ProgressLine({}, dict, lambda: state(1, 2), stream=stream, **settings)
        line.start()
        return line

    def wait_for(self, stream, count: int) -> None:
        """Wait until the line was shown some times."""
        end = time.monotonic() + 60
        while stream.getvalue().count("Progress") < count and time.monotonic() < end:
            time.sleep(0.02)

    def test_on_a_terminal_the_line_stays_in_place(self):
        terminal = self.Terminal()
        line = self.show(terminal)
        self.wait_for(terminal, 2)
        text = f"{CLEAR}Progress: 1 of 2 jobs (50%)\r"
        assert terminal.getvalue().startswith(text * 2)
        line.stop()
        assert terminal.getvalue() == text * ((len(terminal.getvalue()) - 3) // len(text)) + CLEAR
        line.clear()
        assert terminal.getvalue().count(CLEAR) == terminal.getvalue().count("Progress") + 1

    def test_other_output_has_room_until_it_is_written(self):
        terminal = self.Terminal()
        line = self.show(terminal)
        self.wait_for(terminal, 1)
        with line.room():
            before = terminal.getvalue()
            assert before.endswith(CLEAR)
            time.sleep(0.5)
            assert terminal.getvalue() == before
        self.wait_for(terminal, before.count("Progress") + 1)
        line.stop()

    def test_a_file_gets_a_line_at_intervals_only(self):
        file = io.StringIO()
        line = self.show(file)  # once a minute
        time.sleep(0.5)
        line.stop()
        assert file.getvalue() == ""
        line = self.show(file, seconds=0.2)
        self.wait_for(file, 2)
        line.stop()
        lines = file.getvalue().splitlines(keepends=True)
        assert set(lines) == {"Progress: 1 of 2 jobs (50%)\n"}

    def test_a_fault_of_the_line_disturbs_nothing_and_is_told_once(self, capsys):
        def fail():
            raise KeyError("internal")

        file = io.StringIO()
        line = ProgressLine({}, dict, fail, stream=file)
        line.start()
        self.wait_for(file, 1)
        line.stop()
        assert file.getvalue() == "Progress: not shown any more (KeyError: 'internal')\n"
        assert capsys.readouterr().err == ""
