"""Where people look while a run is at work: trackers and the progress line, with real jobs."""

import os
import pty
import re
import shutil
import subprocess
import sys
import threading

import pytest
from planted import MARK, SECRETS, files_with
from project import MACHINE, jobs
from random_study import CHAIN, WEAK_SIDE
from tracked import scalars

from weak_to_strong.tables.files import read_json

pytestmark = pytest.mark.slow

REPORT_TO = "W2S_REPORT_TO"
WEAK = f"models/{WEAK_SIDE}/weak-0"


def test_trackers_show_models_and_rounds_and_rerun_nothing(project_copy, monkeypatch):
    """A model, the texts of a round and the metrics are made again, and nothing beside them."""
    project = project_copy
    before = read_json(project.result(f"{WEAK}/manifest.json"))["files"]
    history = read_json(project.result(f"{WEAK}/history.json"))
    monkeypatch.setenv(REPORT_TO, "tensorboard")
    assert project.planned() == set()
    shutil.rmtree(project.result(WEAK))
    project.result(f"{WEAK}/manifest.json").parent.mkdir()
    round_ = f"generations/{WEAK_SIDE}/weak-1"
    project.result(f"{round_}.parquet").unlink()
    shutil.rmtree(project.path("results/store/requests"))
    for name in ("metrics.csv", "index.html"):
        project.result(f"report/{name}").unlink()
    monkeypatch.setenv("W2S_PROGRESS", "3")
    # Nothing that is left needs these two, so they are asked for. In a run with them, all that
    # stands on them would be made again; a later run sees that their contents are the same.
    made = (f"{WEAK}/manifest.json", f"{round_}.parquet")
    output = project.run(*(f"results/test/{name}" for name in made))
    output += project.run()
    assert {name for name in jobs(output) if name.startswith(("Train", "Generation"))} == {
        f"Train weak (iteration 0) of {WEAK_SIDE}",
        f"Generation round {WEAK_SIDE}/weak-1",
    }
    assert read_json(project.result(f"{WEAK}/manifest.json"))["files"] == before
    runs = project.result("trackers/tensorboard")
    losses = scalars(runs / f"{WEAK_SIDE}/weak-0")["train/loss"]
    assert [step for step, _ in losses] == [entry["step"] for entry in history]
    shown = scalars(runs / f"{WEAK_SIDE}/weak-1")
    cost = project.cost(f"generate/{WEAK_SIDE}/weak-1")
    assert shown["generation/response_tokens"] == [(0, cost["response_tokens"])]
    assert shown["generation/tokens_per_second"][0][1] > 0
    for node in (f"{WEAK_SIDE}/weak-0", f"{CHAIN}/hybrid_ft-1", f"{CHAIN}/dpo-0"):
        accuracy = scalars(runs / node)
        [(_, low)], [(_, value)], [(_, high)] = (
            accuracy[f"evaluation/accuracy_math{end}"] for end in ("_low", "", "_high")
        )
        assert low <= value <= high
    assert files_with(MARK, project.folder) == []
    # stderr is no terminal here: a line at intervals.
    lines = re.findall(r"^Progress: .*$", output, flags=re.M)
    assert lines
    assert re.fullmatch(r"Progress: \d+ of \d+ jobs \(\d+%\).*", lines[-1])
    assert list(project.result("logs").rglob("*.progress")) == []
    # Trackers are no results, and choosing others or none makes nothing again.
    project.verify()
    monkeypatch.delenv(REPORT_TO)
    assert project.planned() == set()


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        (REPORT_TO, "aim", "W2S_REPORT_TO: 'aim' is no tracker; use tensorboard, wandb, mlflow"),
        ("W2S_PROGRESS", "later", "W2S_PROGRESS: 'later' is neither `off` nor a number of seconds"),
    ],
)
def test_a_wrong_setting_is_one_line_before_any_job(untouched, monkeypatch, variable, value, line):
    monkeypatch.setenv(variable, value)
    done = untouched.snakemake("--dry-run")
    assert done.returncode != 0
    assert line in done.stderr
    assert "Traceback" not in done.stderr


def on_terminal(project, *arguments: str) -> str:
    """What a run shows on a terminal."""
    own, others = pty.openpty()
    text = bytearray()

    def read() -> None:
        try:
            while part := os.read(own, 65536):
                text.extend(part)
        except OSError:  # the other side is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    try:
        done = subprocess.run(
            [*command, "--configfile", "config/test.yaml", *MACHINE],
            cwd=project.folder,
            env={**os.environ, **SECRETS, "COLUMNS": "200", "LINES": "50"},
            stdout=subprocess.DEVNULL,
            stderr=others,
            timeout=600,
        )
    finally:
        os.close(others)
        reader.join(10)
        os.close(own)
    assert done.returncode == 0, text.decode()[-4000:]
    return text.decode()


def test_on_a_terminal_the_line_stays_in_place_and_leaves_nothing_behind(
    fresh_project, monkeypatch
):
    target = "results/test/data/dice/contamination.csv"
    text = on_terminal(fresh_project, target)
    lines = re.findall("\x1b\\[K(Progress: [^\r\n\x1b]*)\r", text)
    assert lines
    assert re.match(r"Progress: \d of \d jobs", lines[-1])
    # What follows the line on the terminal clears it: its next version, or a message.
    assert not re.search("Progress: [^\r\n\x1b]*\r(?!\n?\x1b)", text)
    fresh_project.path(target).unlink()
    monkeypatch.setenv("W2S_PROGRESS", "off")
    assert "Progress:" not in on_terminal(fresh_project, target)
