"""The target `upload`, which shows by default what it would send, and runs no other rule."""

import pytest
from random_study import CHAIN, WEAK_SIDE

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ((), "results/test/report/metrics.csv: is missing; run the experiment first"),
        (("--config", "upload={model: x}"), "config key `upload.model`: the experiment trains no"),
        (("--config", "upload={repo: name}"), "config key `upload.repo`: 'name' does not match"),
    ],
)
def test_what_cannot_be_uploaded_is_one_line(fresh_project, given, line):
    done = fresh_project.snakemake("upload", *given)
    assert done.returncode != 0
    assert line in done.stderr
    assert "Traceback" not in done.stderr
    assert not fresh_project.result("models").exists()


def test_a_model_and_the_tables_are_shown_and_nothing_else_runs(project):
    model = f"{CHAIN}/hybrid_ft-1"
    shown = project.run("upload", "--config", f"upload={{model: {model}, repo: me/x}}")
    for text in ("me/x: model repository, private", ".safetensors", "nothing was sent"):
        assert text in shown
    assert "| test | accuracy | math |" in shown
    shown = project.run("upload", "--config", f"upload={{model: {WEAK_SIDE}/weak-0}}")
    assert "no repository named: model repository, private" in shown
    tables = project.run("upload")
    assert "no repository named: dataset repository, private" in tables
    assert "metrics.csv" in tables
    assert project.planned() == set()


def test_outdated_results_are_not_uploaded(project, configure):
    configure("evaluation.bootstrap_draws", 100)
    done = project.snakemake("upload")
    assert done.returncode != 0
    assert "metrics.csv: is outdated: metrics: was made with other parameters" in done.stderr
