"""Answers, selections and methods that refer to each other, in a real run and after changes."""

import json

import polars as pl
import pytest
from project import changed, jobs
from random_study import CHAIN, WEAK_SIDE

pytestmark = pytest.mark.slow

MINE = """import polars as pl


def longest(answers, seed):
    rows = answers.filter(pl.col("prediction") != "")
    order = pl.col("response").str.len_chars()
    return rows.sort(order, maintain_order=True).unique("id", keep="last", maintain_order=True)
"""
BUILDER = """import polars as pl


def pairs(answers, seed):
    rows = answers.filter(pl.col("prediction") != "")
    best = rows.unique("id", keep="first", maintain_order=True).rename({"response": "chosen"})
    both = best.select("id", "chosen").join(rows, on="id", maintain_order="left")
    both = both.filter(pl.col("chosen") != pl.col("response"))
    return both.select("id", "chosen", rejected="response")
"""
SFT = {"stage": "stage1", "start": "strong", "trainer": "sft"}
DPO = {"stage": "stage2", "trainer": "dpo"}
PARTS = {
    "answers": {
        "weak_samples": {"model": "weak", "n": 4},
        "teacher": {"model": "weak", "weak": "random_strong"},
        "student": {"model": "confident"},
        "measured": {"model": "confident", "n": 4, "blind_spots_of": "weak_samples"},
    },
    "selections": {
        "sure": {"answers": ["weak_samples"], "keep": "entropy"},
        "voted": {
            **{"answers": ["weak_labels", "icl_labels", "teacher"], "keep": "share"},
            "vote": "ranking",
        },
        "mine": {"answers": ["weak_samples"], "keep": "mine.py:longest"},
        "relabelled": {"answers": ["student"], "keep": "all"},
        "drawn": {"answers": ["weak_labels"], "keep": "random", "as_many_as": "sure"},
    },
    "preferences": {
        "other_samples": {
            **{"chosen": "voted", "answers": ["weak_samples"], "pairs_per_question": 2},
            "weights": "share",
        },
        "built": {"chosen": "builder.py:pairs", "answers": ["weak_samples"]},
    },
    "methods": {
        "confident": {**SFT, "data": "sure"},
        "ensemble": {**SFT, "data": "voted"},
        "control": {**SFT, "data": "drawn"},
        "own": {**SFT, "data": "mine"},
        "again": {**SFT, "start": "confident", "data": "relabelled"},
        "preferring": {**DPO, "start": "confident", "data": "other_samples"},
        "preferring_mine": {**DPO, "start": "preferring", "data": "built"},
    },
}
SCORES = {
    *("Score task dice", "Metrics of experiment test", "Figures"),
    *("Report of experiment test", "Diagnostics of filter, votes and pairs"),
}


@pytest.fixture(scope="module")
def selected(project, tmp_path_factory):
    """The project after a run with the parts above."""
    copy = project.copy(tmp_path_factory.mktemp("selected") / "project")
    copy.path("mine.py").write_text(MINE)
    copy.path("builder.py").write_text(BUILDER)
    copy.config = {**copy.config, **PARTS}
    copy.write_config(copy.config)
    copy.first_run = copy.run()
    return copy


def table(project, name: str) -> pl.DataFrame:
    return pl.read_parquet(project.result(name))


def test_nothing_of_the_paper_is_made_again(selected):
    made = jobs(selected.first_run)
    assert not any(method in job for job in made for method in ("weak_ft", "icl_ft", "hybrid_ft"))
    assert {f"Selection sure: {CHAIN}", f"Answers weak_samples: {WEAK_SIDE}"} <= made


def test_rows_are_the_selected_answers(selected):
    rows = table(selected, f"models/{CHAIN}/ensemble-0/rows.parquet")
    chosen = table(selected, f"selections/{CHAIN}/voted.parquet")
    assert rows["id"].to_list() == chosen["id"].to_list()
    assert rows["completion"].to_list() == [f" {text}" for text in chosen["response"]]
    assert chosen["share"].is_between(0.6, 1).all()
    assert set(chosen["prediction"]) <= {"0", "1", "2"}


def test_a_draw_is_as_large_as_the_selection_that_it_names(selected):
    drawn, sure = (
        table(selected, f"selections/{CHAIN}/{name}.parquet") for name in ("drawn", "sure")
    )
    assert drawn.height == sure["id"].n_unique()
    assert set(drawn["id"]) != set(sure["id"])


def test_a_function_of_the_users_selects(selected):
    samples = table(selected, f"answers/{WEAK_SIDE}/weak_samples.parquet")
    chosen = table(selected, f"selections/{CHAIN}/mine.parquet")
    lengths = (
        samples.filter(pl.col("prediction") != "")
        .group_by("id")
        .agg(pl.col("response").str.len_chars().max().alias("most"))
    )
    joined = chosen.join(lengths, on="id")
    assert chosen.height == lengths.height
    assert (joined["response"].str.len_chars() == joined["most"]).all()


def test_pairs_prefer_the_selected_text_to_one_with_another_answer(selected):
    pairs = table(selected, f"preferences/{CHAIN}/other_samples.parquet")
    chosen = table(selected, f"selections/{CHAIN}/voted.parquet")
    texts = dict(chosen.select("id", pl.lit(" ") + pl.col("response")).rows())
    assert all(texts[name] == text for name, text in pairs.select("id", "chosen").rows())
    last = [pairs[side].str.slice(-1) for side in ("chosen", "rejected")]
    assert (last[0] != last[1]).all()
    assert pairs["weight"].mean() == pytest.approx(1)
    counts = set(pairs["id"].value_counts()["count"])
    assert counts == {1, 2}
    trained = json.loads(selected.result(f"models/{CHAIN}/preferring-0/manifest.json").read_text())
    assert trained["facts"]["examples"] == pairs.height


def test_a_function_of_the_users_builds_pairs(selected):
    pairs = table(selected, f"preferences/{CHAIN}/built.parquet")
    samples = table(selected, f"answers/{WEAK_SIDE}/weak_samples.parquet")
    known = {(name, f" {text}") for name, text in samples.select("id", "response").rows()}
    assert {*pairs.select("id", "chosen").rows()} <= known
    assert {*pairs.select("id", "rejected").rows()} <= known
    exported = json.loads(selected.result(f"preferences/{CHAIN}/built.json").read_text())
    assert len(exported) == pairs.height


def test_models_are_evaluated_and_selections_are_measured(selected):
    metrics = pl.read_csv(selected.result("report/metrics.csv"))
    assert set(PARTS["methods"]) <= set(metrics["method"])
    start = metrics.filter(method="again", metric="difference_vs_predecessor")
    assert set(start["reference"]) == {"confident"}
    measured = pl.read_csv(selected.result("report/diagnostics.csv")).filter(diagnostic="kept")
    assert set(measured["method"]) == set(PARTS["selections"])
    pairs = pl.read_csv(selected.result("report/diagnostics.csv")).filter(diagnostic="pairs")
    assert set(PARTS["preferences"]) <= set(pairs["method"])
    spots = pl.read_csv(selected.result("report/diagnostics.csv")).filter(diagnostic="blind_spots")
    assert set(spots["method"]) == {"measured"}
    assert "Confidently wrong where" in selected.result("report/index.html").read_text()


def test_a_second_run_does_nothing(selected):
    assert "Nothing to be done" in selected.run()


def trained(*methods: str) -> set[str]:
    return {f"Train {method} (iteration 0) of {CHAIN}" for method in methods}


def models_of(*methods: str) -> set[str]:
    return trained(*methods) | {f"SFT set of {method} (iteration 0): {CHAIN}" for method in methods}


EVALUATION = {"Generation round evaluation/dice/random_strong", *SCORES}
#: Key or edit -> what runs again.
CHANGES = {
    "selections.sure.fraction": (
        0.4,
        {
            f"Selection sure: {CHAIN}",
            f"Generation round {CHAIN}/answers-student",
            f"Answers student: {CHAIN}",
            f"Generation round {CHAIN}/answers-measured",
            f"Answers measured: {CHAIN}",
            f"Selection relabelled: {CHAIN}",
            f"Selection drawn: {CHAIN}",
            *models_of("confident", "again", "control"),
            *trained("preferring", "preferring_mine"),
            *EVALUATION,
        },
    ),
    "selections.drawn.as_many_as": (
        "voted",
        {f"Selection drawn: {CHAIN}", *models_of("control"), *EVALUATION},
    ),
    "preferences.other_samples.rng_seed": (
        7,
        {
            f"Preferences other_samples: {CHAIN}",
            *trained("preferring", "preferring_mine"),
            *EVALUATION,
        },
    ),
    "preferences.built.shuffled": (
        True,
        {f"Preferences built: {CHAIN}", *trained("preferring_mine"), *EVALUATION},
    ),
    "selections.voted.min_share": (
        0.9,
        {
            f"Selection voted: {CHAIN}",
            f"Preferences other_samples: {CHAIN}",
            *models_of("ensemble"),
            *trained("preferring", "preferring_mine"),
            *EVALUATION,
        },
    ),
}


@pytest.mark.parametrize("key", CHANGES)
def test_a_changed_selection_reruns_what_stands_on_it(selected, key):
    value, expected = CHANGES[key]
    selected.write_config(changed(selected.config, key, value))
    try:
        planned = selected.planned()
    finally:
        selected.write_config(selected.config)
    assert planned == expected


FILES = {"mine.py": MINE, "builder.py": BUILDER}


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("mine.py", '"last"', '"first"', {f"Selection mine: {CHAIN}", *models_of("own")}),
        ("mine.py", "as pl\n", "as pl  # a note\n", set()),
        (
            *("builder.py", '"first"', '"last"'),
            {f"Preferences built: {CHAIN}", *trained("preferring_mine")},
        ),
        ("builder.py", "as pl\n", "as pl  # a note\n", set()),
    ],
)
def test_an_edited_function_reruns_its_descendants(selected, file, old, new, expected):
    selected.path(file).write_text(FILES[file].replace(old, new))
    try:
        planned = selected.planned()
    finally:
        selected.path(file).write_text(FILES[file])
    assert planned == (expected and {*expected, *EVALUATION})


def test_a_function_that_fails_ends_the_run_in_one_line(selected):
    selected.path("mine.py").write_text(MINE.replace("rows.sort(order", "rows.sorted(order"))
    try:
        completed = selected.snakemake()
    finally:
        selected.path("mine.py").write_text(MINE)
    assert completed.returncode != 0
    assert "mine.py:longest: failed at line 7 with AttributeError" in completed.stderr
