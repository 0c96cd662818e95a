"""Which trackers a run reports to, what they get of a job, and that none of them can end a job."""

import logging
import os
import sys
from pathlib import Path

import pytest
from planted import MARK, SECRETS, files_with
from tracked import scalars

from weak_to_strong.jobs.trackers import (
    REPORT_TO,
    TRACKERS,
    TrackedRun,
    choose_trackers,
    report_figures,
    stay_offline,
    tracked_run,
    tracker_variables,
)

#: What a user may have set.
TOUCHED = (
    *("WANDB_MODE", "WANDB_DIR", "WANDB_PROJECT", "WANDB_CONSOLE", "WANDB_SILENT"),
    *("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "TRACKIO_DIR", REPORT_TO),
)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in TOUCHED:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def run_of(folder: Path, *trackers: str) -> TrackedRun:
    return TrackedRun(trackers, "task/weak/strong/seed-0/dpo-0", "study", str(folder / "trackers"))


class TestChoice:
    @pytest.mark.parametrize("text", ["", "none", " none , "])
    def test_nothing_is_chosen(self, text):
        environment = {REPORT_TO: text}
        choose_trackers(environment, "tensorboard")
        assert environment == {}

    def test_jobs_read_what_the_run_has_settled(self):
        environment = {REPORT_TO: " tensorboard,tensorboard "}
        choose_trackers(environment, None)
        assert environment == {REPORT_TO: "tensorboard"}

    def test_a_profile_chooses_where_the_variable_is_not_set(self):
        environment = {}
        choose_trackers(environment, "tensorboard")
        assert environment == {REPORT_TO: "tensorboard"}
        choose_trackers(environment := {}, None)
        assert environment == {}

    def test_an_unknown_tracker_is_one_line(self):
        with pytest.raises(ValueError, match=r"^W2S_REPORT_TO: 'tensorbord' is no tracker; use "):
            choose_trackers({REPORT_TO: "tensorbord"}, None)
        with pytest.raises(ValueError, match=r"^default resource `report_to`: 'x' is no tracker"):
            choose_trackers({}, "x")

    def test_a_tracker_that_is_not_installed_is_one_line(self, monkeypatch):
        monkeypatch.setattr(sys, "path", [])
        monkeypatch.delitem(sys.modules, "trackio", raising=False)
        monkeypatch.setattr(sys, "path_importer_cache", {})
        line = r"^W2S_REPORT_TO: the package `trackio` is not installed; install it beside "
        with pytest.raises(ValueError, match=line):
            choose_trackers({REPORT_TO: "trackio"}, None)

    def test_a_job_knows_its_run(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        assert tracked_run("evaluation/gsm/weak", "results/demo/trackers") is None
        monkeypatch.setenv(REPORT_TO, "tensorboard,wandb")
        folder = str(tmp_path / "results/demo/trackers")
        assert tracked_run("evaluation/gsm/weak", "results/demo/trackers") == TrackedRun(
            ("tensorboard", "wandb"), "evaluation/gsm/weak", "demo", folder
        )


class TestOffline:
    def test_trackers_use_no_network_and_write_below_the_experiment(self, tmp_path):
        stay_offline(run_of(tmp_path, "wandb"))
        assert os.environ["WANDB_MODE"] == "offline"
        assert os.environ["WANDB_PROJECT"] == os.environ["MLFLOW_EXPERIMENT_NAME"] == "study"
        for name in ("WANDB_DIR", "MLFLOW_TRACKING_URI", "TRACKIO_DIR"):
            assert str(tmp_path / "trackers") in os.environ[name]
        assert (tmp_path / "trackers").is_dir()

    def test_what_the_user_set_stays(self, tmp_path, monkeypatch):
        monkeypatch.setenv("WANDB_MODE", "online")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        stay_offline(run_of(tmp_path, "wandb", "mlflow"))
        assert os.environ["WANDB_MODE"] == "online"
        assert os.environ["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:9"

    def test_launched_processes_get_the_variables_of_their_trackers_only(self, tmp_path):
        given = {"WANDB_API_KEY": "k", "MLFLOW_TRACKING_TOKEN": "t", "HF_TOKEN": "h", "HOME": "/"}
        assert tracker_variables(None, given) == {}
        assert tracker_variables(run_of(tmp_path, "tensorboard"), given) == {}
        assert tracker_variables(run_of(tmp_path, "wandb"), given) == {"WANDB_API_KEY": "k"}


class TestFigures:
    def test_tensorboard_shows_the_figures_under_the_name_of_the_run(self, tmp_path, monkeypatch):
        for name, value in SECRETS.items():
            monkeypatch.setenv(name, value)
        figures = {"a/x": 1.5, "a/y": 2, "unknown": None, "undefined": float("nan")}
        report_figures(run_of(tmp_path, "tensorboard"), figures)
        folder = tmp_path / "trackers/tensorboard/task/weak/strong/seed-0/dpo-0"
        assert scalars(folder) == {"a/x": [(0, 1.5)], "a/y": [(0, 2.0)]}
        assert files_with(MARK, tmp_path) == []

    def test_nothing_is_written_without_a_tracker_or_a_figure(self, tmp_path):
        report_figures(None, {"x": 1.0})
        report_figures(run_of(tmp_path, "tensorboard"), {"x": None})
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("tracker", TRACKERS)
    def test_a_failure_is_one_warning(self, tmp_path, monkeypatch, caplog, tracker):
        """No folder can be made below a file. What is not installed fails in its own way."""
        (tmp_path / "trackers").write_text("")
        with caplog.at_level(logging.WARNING, "weak_to_strong"):
            report_figures(run_of(tmp_path, tracker), {"x": 1.0})
        [record] = caplog.records
        assert record.getMessage().startswith(f"{tracker} failed, and gets no more figures of this")
