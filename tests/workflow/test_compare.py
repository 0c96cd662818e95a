"""The target `compare`: one page of finished experiments, and no job of any of them."""

import shutil
from pathlib import Path

import polars as pl
import pytest
from finished_experiments import write_experiment
from random_study import CHAIN, WEAK_SIDE

from weak_to_strong.evaluation.evaluated_models import EVALUATED_MODELS
from weak_to_strong.experiment.paths import ComparisonPaths
from weak_to_strong.report.compared_models import COMPARED_MODELS
from weak_to_strong.tables.files import read_json
from weak_to_strong.tables.frames import read_csv

pytestmark = pytest.mark.slow

JOB = {"Comparison of experiments"}


def target(*names):
    return ("compare", "--config", f"experiments=[{','.join(names)}]")


@pytest.fixture
def two(fresh_project, monkeypatch):
    """A project with finished experiments `a` and `b`, which its configuration does not have."""
    monkeypatch.chdir(fresh_project.folder)
    for draw, name in enumerate("ab"):
        write_experiment(Path("results") / name, draw=draw)
    return fresh_project


def test_only_an_experiment_that_changed_remakes_the_page(two):
    two.run(*target("a", "b"))
    paths = ComparisonPaths(["a", "b"])
    page = two.path(paths.page).read_text()
    assert "Comparison of a, b" in page
    assert read_csv(two.path(paths.models_table), COMPARED_MODELS).height == 14
    assert not two.path("results/test").exists()
    assert two.planned(*target("a", "b")) == set()
    assert two.planned(*target("a")) == two.planned(*target("b", "a")) == JOB

    shutil.rmtree(two.path(".snakemake"))
    assert two.planned(*target("a", "b")) == set()
    shutil.rmtree(two.path("results/b"))
    write_experiment(Path("results/b"), draw=1)
    assert two.planned(*target("a", "b")) == set()  # its contents are the same
    shutil.rmtree(two.path("results/b"))
    write_experiment(Path("results/b"), draw=2)
    assert two.planned(*target("a", "b")) == JOB
    two.run(*target("a", "b"))
    assert two.path(paths.page).read_text() != page
    assert two.planned(*target("a", "b")) == set()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "names no experiment; name finished ones"),
        (("a", "nowhere"), "there is no results/nowhere (in "),
        (("a", "a"), "['a', 'a'] has an entry twice; Names of finished experiments"),
        (("b",), "b is not finished (results/b/report/index.html is missing); run it with its own"),
        (("a/../b",), "'a/../b' does not match"),
    ],
)
def test_what_cannot_be_compared_ends_in_one_line(two, names, message):
    two.path("results/b/report/index.html").unlink()
    done = two.snakemake(*target(*names))
    assert done.returncode != 0
    (line,) = (line for line in done.stderr.splitlines() if "config key" in line)
    assert "`experiments" in line
    assert message in line
    assert "Traceback" not in done.stderr
    assert not two.path("results/compare").exists()


def test_long_names_have_a_short_folder():
    names = [f"experiment-{number}-{'x' * 40}" for number in range(20)]
    folder = ComparisonPaths(names).root.rpartition("/")[2]
    assert len(folder) < 100
    assert folder != ComparisonPaths(names[::-1]).root.rpartition("/")[2]


def test_the_experiment_of_the_configuration_is_compared_as_it_is(project, configure):
    """No job of it is planned, although the configuration has changed since."""
    configure("evaluation.bootstrap_draws", 300)
    assert project.planned(*target("test")) == JOB
    project.run(*target("test"))
    table = read_csv(project.path(ComparisonPaths(["test"]).models_table), COMPARED_MODELS)
    metrics = pl.read_csv(project.result("report/metrics.csv"))
    for scorer, column in (("paper", "accuracy"), ("math", "math_accuracy")):
        rows = metrics.filter(metric="accuracy", split="test", scorer=scorer)
        measured = dict(rows.select(pl.concat_str("method", "iteration"), "value").rows())
        shown = table.select(pl.concat_str("method", "iteration"), column).rows()
        assert dict(shown) == measured


def test_each_model_has_what_it_took_and_learned_from(project):
    models = read_csv(project.result("report/models.csv"), EVALUATED_MODELS)
    rows = {f"{row['method']}-{row['iteration']}": row for row in models.iter_rows(named=True)}
    assert len(rows) == 13

    def tokens(kind, *jobs):
        return sum(project.cost(job)[kind] for job in jobs)

    trained = {name: f"train/{CHAIN}/{name}" for name in rows}
    weak = f"train/{WEAK_SIDE}/weak-0"
    labels = [f"generate/{WEAK_SIDE}/weak-1", f"generate/{CHAIN}/icl-1"]
    first = [weak, *(trained[f"{side}_ft-1"] for side in ("weak", "icl"))]
    later = [f"generate/{CHAIN}/iteration-2", f"generate/{CHAIN}/samples"]
    for name, jobs, rounds in (
        ("strong_zero_shot-0", [], []),
        ("weak_icl-0", [weak], labels[:1]),
        ("full_weak-0", [weak, trained["full_weak-0"]], labels[:1]),
        ("hybrid_ft-1", [weak, trained["hybrid_ft-1"]], labels),
        ("hybrid_ft-2", [*first, trained["hybrid_ft-2"]], [*labels, later[0]]),
        ("dpo-0", [*first, trained["hybrid_ft-2"], trained["dpo-0"]], [*labels, *later]),
    ):
        row = rows[name]
        assert row["trained_tokens"] == tokens("trained_tokens", *jobs), name
        assert row["generated_tokens"] == tokens("response_tokens", *rounds), name
        assert row["cpu_seconds"] >= tokens("cpu_seconds", *jobs, *rounds), name
    kept = read_json(project.result(f"filter/{CHAIN}/kept-1.json"))
    assert rows["hybrid_ft-1"]["label_coverage"] == pytest.approx(kept["kept"] / 96)
    assert 0 < rows["dpo-0"]["label_precision"] <= 1
    assert rows["ceiling-0"]["label_precision"] is None
