"""The recorded study shows each stage of the method at work. A broken stage would not."""

from pathlib import Path

import polars as pl
import pytest

from weak_to_strong.tables.frames import read_csv
from weak_to_strong.tables.schemas import ALL_SEEDS, METRICS

RESULTS = Path(__file__).parents[2] / "docs/results/study.csv"

#: (method, iteration, the model it is compared with), each to be better.
GOALS = [
    ("full_weak", 0, "weak"),
    ("weak_icl", 0, "full_weak"),
    ("hybrid_ft", 1, "weak_icl"),
    ("hybrid_ft", 2, "hybrid_ft 1"),
    ("orpo", 0, "hybrid_ft 2"),
]


@pytest.fixture(scope="module")
def over_seeds():
    rows = read_csv(RESULTS, METRICS)
    return rows.filter(pl.col("seed") == ALL_SEEDS, pl.col("scorer") == "paper", split="test")


def difference(rows, method, iteration, other):
    """The row of a method's difference to another model."""
    return rows.filter(
        pl.col("metric").str.starts_with("difference_vs_"),
        pl.col("iteration").fill_null(0) == iteration,
        method=method,
        reference=other,
    ).row(0, named=True)


@pytest.mark.parametrize(("method", "iteration", "other"), GOALS)
def test_each_stage_is_above_the_one_before_it(over_seeds, method, iteration, other):
    assert difference(over_seeds, method, iteration, other)["ci_low"] > 0


def test_random_questions_do_not_stand_in_for_agreeing_ones(over_seeds):
    assert difference(over_seeds, "random_hybrid", 0, "hybrid_ft 1")["ci_high"] < 0
    assert difference(over_seeds, "random_icl", 0, "icl_ft 1")["ci_high"] < 0


def test_shuffled_pairs_gain_nothing(over_seeds):
    assert difference(over_seeds, "dpo_shuffled", 0, "hybrid_ft 2")["ci_low"] < 0


def test_the_ceiling_leaves_room(over_seeds):
    accuracy = over_seeds.filter(metric="accuracy")
    ceiling = accuracy.filter(method="ceiling").row(0, named=True)
    weak_icl = accuracy.filter(method="weak_icl").row(0, named=True)
    assert ceiling["ci_low"] - weak_icl["ci_high"] > 0.15


def test_five_seeds_were_run():
    assert set(read_csv(RESULTS, METRICS)["seed"]) == {ALL_SEEDS, 0, 1, 2, 3, 4}
