"""The table of several experiments: their own figures, and one correction for all tests."""

from __future__ import annotations

import polars as pl
import pytest
import report_examples as examples
from finished_experiments import PROBLEMS_FILE, write_experiment

from weak_to_strong.evaluation.evaluated_models import EVALUATED_MODELS
from weak_to_strong.evaluation.stats import holm
from weak_to_strong.report.compared_models import (
    COMPARED_MODELS,
    ComparedExperiment,
    compared_models,
    is_check,
    name_questions,
)
from weak_to_strong.tables.frames import read_csv
from weak_to_strong.tables.schemas import METRICS, PROBLEMS


@pytest.fixture
def read(tmp_path):
    """Write an experiment and read its tables."""

    def write_and_read(name: str, **options) -> ComparedExperiment:
        root = tmp_path / name
        write_experiment(root, **options)
        return ComparedExperiment(
            name=name,
            metrics=read_csv(root / "report/metrics.csv", METRICS),
            models=read_csv(root / "report/models.csv", EVALUATED_MODELS),
            problems={PROBLEMS_FILE: pl.read_parquet(root / PROBLEMS_FILE)},
            answers=pl.DataFrame(),
        )

    return write_and_read


def test_figures_are_those_of_the_experiments(read):
    one, other = read("one"), read("other", draw=1)
    table = compared_models([one, other])
    assert table.schema == COMPARED_MODELS
    assert table["experiment"].to_list() == ["one"] * 7 + ["other"] * 7
    assert table["method"].to_list()[:7] == [
        *("weak", "full_weak", "strong_zero_shot", "hybrid_ft", "hybrid_ft", "random_hybrid"),
        "ceiling",
    ]
    row = table.row(4, named=True)
    metrics = one.metrics.filter(method="hybrid_ft", iteration=2, scorer="paper", split="test")
    value = {
        name: (v, low, high)
        for name, v, low, high in metrics.select("metric", "value", "ci_low", "ci_high").rows()
    }
    assert (row["accuracy"], row["accuracy_low"], row["accuracy_high"]) == value["accuracy"]
    assert row["full_weak_difference"] == value["difference_vs_full_weak"][0]
    assert row["before_p"] == value["mcnemar_p_vs_predecessor"][0]
    # It is the last Hybrid-FT itself, with which a control is compared.
    assert row["hybrid_ft_difference"] is row["hybrid_ft_p"] is None
    control = one.metrics.filter(method="random_hybrid", scorer="paper")
    (difference,) = control.filter(metric="difference_vs_hybrid_ft")["value"]
    assert table.row(5, named=True)["hybrid_ft_difference"] == difference
    assert (row["pgr"], row["pgr_low"], row["pgr_high"]) == value["pgr"]
    assert (row["before"], row["seeds"], row["variant"]) == ("hybrid_ft 1", "0", None)
    assert (row["generated_tokens"], row["trained_tokens"]) == (4000, 50_000)
    assert (row["cpu_hours"], row["gpu_hours"], row["label_precision"]) == (0.1, None, 0.75)


def test_holm_counts_the_tests_of_all_experiments_and_checks_apart(read):
    table = compared_models([read("one"), read("other", draw=1)])
    for kind in (False, True):
        rows = [row for row in table.iter_rows(named=True) if is_check(row) == kind]
        others = ("full_weak", "hybrid_ft", "before")
        single = [row[f"{name}_p"] for row in rows for name in others]
        corrected = [row[f"{name}_p_holm"] for row in rows for name in others]
        tested = [p is not None for p in single]
        assert sum(tested) == (4 if kind else 8)
        assert [p is not None for p in corrected] == tested
        kept = [p for p in single if p is not None]
        assert [p for p in corrected if p is not None] == holm(kept)


def test_several_seeds_have_one_row_with_the_test_over_all_of_them(read):
    seeds = read("seeds", seeds=(0, 1, 2))
    table = compared_models([seeds])
    assert table.height == 7
    row = table.row(3, named=True)
    assert row["seeds"] == "0 1 2"
    metrics = seeds.metrics.filter(method="hybrid_ft", iteration=1, scorer="paper")
    (p,) = metrics.filter(metric="sign_flip_p_vs_full_weak")["value"]
    assert row["full_weak_p"] == p
    assert row["full_weak_p_holm"] >= p
    assert row["full_weak_difference_low"] < row["full_weak_difference"]


def test_models_that_chains_share_have_one_row(read):
    one = read("one")
    metrics = examples.metrics()
    other = examples.metrics().with_columns(weak=pl.col("weak").replace("tiny", "more"))
    shared = ComparedExperiment(
        "one",
        pl.concat([metrics, other]).unique(maintain_order=True),
        one.models,
        one.problems,
        one.answers,
    )
    table = compared_models([shared])
    names = table.select("weak", "strong", "method", "iteration").rows()
    assert len(set(names)) == len(names)
    assert table.filter(method="ceiling").height == 1
    assert table.filter(method="weak").height == 2


def test_broken_variants_are_checks(read):
    rows = compared_models(
        [
            read(
                "one",
                models=[
                    ("full_weak", "baseline", 0, 0.4, None),
                    ("weak_ft@broken_x", "stage1", 1, 0.4, None),
                ],
            )
        ]
    )
    row = rows.row(1, named=True)
    assert (row["method"], row["variant"], is_check(row)) == ("weak_ft", "broken_x", True)


def test_questions_are_named_by_id_and_content_in_any_order():
    test = examples.problems(5)
    name = name_questions(test)
    assert name == name_questions(test.reverse())
    assert name == name_questions(test.with_columns(level=pl.lit("other")))
    for column in ("id", "question", "answer", "context"):
        edited = test.with_columns(pl.col(column).replace(test[column][2], "edited"))
        assert name_questions(edited.cast(PROBLEMS)) != name
