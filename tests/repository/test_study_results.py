"""The recorded study shows each stage of the method at work. A broken stage would not."""

from pathlib import Path

import polars as pl
import pytest

from weak_to_strong.tables.frames import read_csv
from weak_to_strong.tables.schemas import ALL_SEEDS, METRICS

DOCS = Path(__file__).parents[2] / "docs"

#: (method, iteration, the model it is compared with), each to be better.
GOALS = [
    ("full_weak", 0, "weak"),
    ("weak_icl", 0, "full_weak"),
    ("hybrid_ft", 1, "weak_icl"),
    ("hybrid_ft", 2, "hybrid_ft 1"),
    ("orpo", 0, "hybrid_ft 2"),
]
#: (broken model, iteration, intact model, whether its figures tell), in the order of docs/study.md.
BROKEN = [
    ("hybrid_ft@broken_filter", 1, "hybrid_ft 1", "yes"),
    ("icl_ft@broken_filter", 1, "icl_ft 1", "yes"),
    ("hybrid_ft@broken_filter_off", 1, "hybrid_ft 1", "yes"),
    ("icl_ft@broken_filter_off", 1, "icl_ft 1", "no"),
    ("orpo@broken_pairs", 0, "orpo", "yes"),
    ("dpo@broken_pairs", 0, "dpo", "yes"),
    ("orpo@no_weak_side", 0, "orpo", "no"),
    ("dpo@no_weak_side", 0, "dpo", "it gains"),
    ("weak_icl@broken_demonstrations", 0, "weak_icl", "no"),
    ("hybrid_ft@broken_demonstrations", 1, "hybrid_ft 1", "no"),
]


def over_all_seeds(experiment):
    rows = read_csv(DOCS / f"results/{experiment}.csv", METRICS)
    return rows.filter(pl.col("seed") == ALL_SEEDS, pl.col("scorer") == "paper", split="test")


@pytest.fixture(scope="module")
def over_seeds():
    return over_all_seeds("study")


@pytest.fixture(scope="module")
def broken():
    return over_all_seeds("broken-stages")


def difference(rows, method, iteration, other):
    """The row of a method's difference to another model."""
    return rows.filter(
        pl.col("metric").str.starts_with("difference_vs_"),
        pl.col("iteration").fill_null(0) == iteration,
        method=method,
        reference=other,
    ).row(0, named=True)


def told(row):
    """What an interval says of a broken model."""
    return "yes" if row["ci_high"] < 0 else "it gains" if row["ci_low"] > 0 else "no"


@pytest.mark.parametrize(("method", "iteration", "intact", "expected"), BROKEN)
def test_what_the_figures_tell_of_a_broken_stage(broken, method, iteration, intact, expected):
    assert told(difference(broken, method, iteration, intact)) == expected


def test_the_page_has_the_recorded_figures_of_broken_stages(broken):
    page = (DOCS / "study.md").read_text(encoding="utf-8")
    section = page.partition("## Stages broken on purpose")[2].partition("\n## ")[0]
    table = [line.split(" | ")[2:] for line in section.splitlines() if line.startswith("| ")]
    accuracy = {
        " ".join([row["method"], *([str(row["iteration"])] if row["iteration"] else [])]): row[
            "value"
        ]
        for row in broken.filter(metric="accuracy").iter_rows(named=True)
    }
    rows = []
    for method, iteration, intact, expected in BROKEN:
        name = f"{method} {iteration}" if iteration else method
        row = difference(broken, method, iteration, intact)
        value, low, high = (f"{100 * row[key]:+.1f}" for key in ("value", "ci_low", "ci_high"))
        figures = [f"{100 * accuracy[model]:.1f}" for model in (intact, name)]
        rows.append([*figures, f"{value} [{low}, {high}]", f"{expected} |"])
    assert table[1:] == rows


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
    assert set(read_csv(DOCS / "results/study.csv", METRICS)["seed"]) == {ALL_SEEDS, 0, 1, 2, 3, 4}
