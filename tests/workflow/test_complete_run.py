"""One complete run with real vLLM, TRL and Snakemake, and what it leaves behind."""

import json

import polars as pl
import yaml

from weak_to_strong.tables import METRICS, hash_file, read_json

CHAIN = "words/tiny_weak/tiny_strong/seed-0"


def test_metrics_cover_every_method_iteration_and_scorer(project):
    metrics = pl.read_csv(project.result("report/metrics.csv"))
    assert metrics.columns == METRICS.names()
    accuracy = metrics.filter(pl.col("metric") == "accuracy", pl.col("split") == "test")
    seed_0 = accuracy.filter(pl.col("seed") == 0, pl.col("scorer") == "paper")
    measured = set(seed_0.select("method", "iteration").iter_rows())
    assert measured == {
        *((method, 0) for method in ("weak", "full_weak", "strong_zero_shot", "weak_icl")),
        *((method, 0) for method in ("ceiling", "dpo", "orpo")),
        *((f"{side}_ft", i) for side in ("weak", "icl", "hybrid") for i in (1, 2)),
    }
    assert set(accuracy["scorer"]) == {"paper", "math"}
    assert seed_0["n"].unique().to_list() == [24]
    assert seed_0.filter(~pl.col("value").is_between("ci_low", "ci_high")).is_empty()
    assert {"pass_at_k", "maj_at_k", "pgr"} <= set(metrics["metric"])


def test_the_report_stands_alone(project):
    page = project.result("report/index.html").read_text()
    assert "hybrid" in page
    assert 'src="http' not in page
    assert "Content-Security-Policy" in page
    figures = sorted(file.name for file in project.result("report/plots").iterdir())
    assert len(figures) == 10


def test_every_training_starts_where_the_paper_says(project):
    for folder in project.result(f"models/{CHAIN}").iterdir():
        manifest = read_json(folder / "manifest.json")
        assert manifest["base"] == "tiny_strong"
        assert manifest["kind"] == "lora"
        for name, digest in manifest["files"].items():
            assert hash_file(folder / "model" / name) == digest


def test_dpo_starts_from_m_plus(project):
    history = read_json(project.result(f"models/{CHAIN}/dpo-0/history.json"))
    assert abs(history[0]["loss"] - 0.6931) < 1e-3


def test_engine_loads_do_not_grow_with_the_number_of_models(project):
    """A round loads each base once in each of its two engine processes, or not at all."""
    costs = sorted(project.result("benchmarks/generate").rglob("*.cost.json"))
    assert len(costs) == 6
    for file in costs:
        cost = json.loads(file.read_text())
        assert 1 <= cost["engine_loads"] <= 2
    evaluation = project.result("benchmarks/generate/evaluation/words/tiny_strong.cost.json")
    assert json.loads(evaluation.read_text())["requests"] == 24


def test_artefacts_hold_no_path_of_this_machine(project):
    for file in project.result("models").rglob("*.json"):
        assert str(project.folder) not in file.read_text(), file
    page = project.result("report/index.html").read_text()
    assert str(project.folder) not in page
    config = yaml.safe_load(project.path("config/test.yaml").read_text())
    assert config["experiment"] in page


def test_snakemake_builds_its_own_report_too(project):
    project.run("--report", "snakemake-report.html")
    assert project.path("snakemake-report.html").stat().st_size > 100_000
