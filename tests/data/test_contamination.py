"""Questions that stand twice: report and removal."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest
import table_builders

from weak_to_strong.data.contamination import contamination_report, find_matches, remove_overlap
from weak_to_strong.data.readers import load_task

PUBLISHED = os.environ.get("W2S_PUBLISHED_DIR")
LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def problems(*questions: str) -> pl.DataFrame:
    ids = [f"i{i}" for i in range(len(questions))]
    return table_builders.problems(id=ids, question=list(questions), answer="1")


def counts(report: pl.DataFrame) -> dict:
    """(kind, split, other_split) -> (count, ids) where the count is not 0."""
    rows = report.filter(pl.col("count") > 0)
    return {row[:3]: (row[3], row[5]) for row in rows.iter_rows()}


def test_report():
    splits = {
        "train_1": problems("A b", "c", "a  B\n", "a b"),
        "train_2": problems("d", "C"),
        "validation": problems(),
        "test": problems("a b", "e"),
    }
    report = contamination_report(splits)
    assert counts(report) == {
        ("duplicate", "train_1", "train_1"): (2, "i2 i3"),
        ("exact", "test", "train_1"): (1, "i0"),
        ("exact", "train_1", "test"): (3, "i0 i2 i3"),
        ("exact", "train_1", "train_2"): (1, "i1"),
        ("exact", "train_2", "train_1"): (1, "i1"),
        ("ngram", "test", "train_1"): (1, "i0"),
        ("ngram", "train_1", "test"): (3, "i0 i2 i3"),
        ("ngram", "train_1", "train_2"): (1, "i1"),
        ("ngram", "train_2", "train_1"): (1, "i1"),
    }
    assert report.filter(kind="exact", split="train_2", other_split="test")["count"].item() == 0
    assert "validation" not in report["split"]


def test_signs_tell_formulas_apart():
    splits = {"train_1": problems("Compute $3+4$."), "test": problems("Compute $3-4$.")}
    assert counts(contamination_report(splits)) == {}


@pytest.mark.parametrize(
    ("question", "ngram"),
    [
        (LONG + " fifteen", True),  # 7 of 8 grams
        (LONG.replace("seven", "7"), False),  # all but the last grams hold the changed word
        (LONG.upper().replace("TEN", "Ten"), True),
        ("one two three four five six seven", False),  # too short for a gram
        ("one two three four five six seven eight", True),
    ],
)
def test_ngram_share(question, ngram):
    splits = {"train_1": problems("unrelated " * 9, question), "test": problems(LONG)}
    matched_rows = find_matches(splits, "ngram").filter(pl.col("split") == 2)["row"].to_list()
    assert matched_rows == ([1] if ngram else [])


def test_grams_do_not_run_over_from_one_question_into_the_next():
    words = LONG.split()
    splits = {
        "train_1": problems(" ".join(words[:7]), " ".join(words[7:])),
        "test": problems(LONG),
    }
    assert find_matches(splits, "ngram").is_empty()


@pytest.mark.parametrize(
    ("kind", "left"),
    [
        ("none", {"train_1": 4, "train_2": 4, "validation": 2, "test": 2}),
        ("exact", {"train_1": 3, "train_2": 2, "validation": 1, "test": 2}),
        ("ngram", {"train_1": 2, "train_2": 2, "validation": 1, "test": 2}),
    ],
)
def test_removal_keeps_a_question_in_the_first_split_of_precedence(kind, left):
    splits = {
        "train_1": problems("t", "u", LONG + " fifteen", "y"),
        "train_2": problems("u", "v", "w", "x"),
        "validation": problems("v", "t"),
        "test": problems("t", LONG),
    }
    kept = remove_overlap(splits, kind)
    assert {name: frame.height for name, frame in kept.items()} == left
    assert kept["test"].equals(splits["test"])
    if kind == "exact":
        assert kept["train_2"]["id"].to_list() == ["i2", "i3"]
        assert find_matches(kept, "exact").is_empty()


def test_removal_of_everything_and_unknown_kind_are_refused():
    splits = {"train_1": problems("a"), "test": problems("a")}
    with pytest.raises(ValueError, match="exact leaves nothing of train_1"):
        remove_overlap(splits, "exact")
    with pytest.raises(ValueError, match="'fuzzy' is neither"):
        remove_overlap(splits, "fuzzy")


@pytest.mark.slow
def test_hundred_thousand_rows():
    filler = " ".join(f"word{i}" for i in range(20))
    shared = [f"problem {i} asks {filler} {i}" for i in range(1000)]
    splits = {
        "train_1": problems(*shared, *(f"first {i} {i * 7} {filler}" for i in range(49_000))),
        "train_2": problems(*(f"second {i} {i * 7} {filler}" for i in range(49_000)), *shared),
    }
    report = contamination_report(splits)
    assert report.filter(kind="exact")["count"].to_list() == [1000, 1000]
    assert remove_overlap(splits, "exact")["train_2"].height == 49_000


@pytest.mark.skipif(not PUBLISHED, reason="W2S_PUBLISHED_DIR names no folder of released data")
def test_released_gsm8k_splits_share_279_questions():
    folder = Path(PUBLISHED) / "data/raw/gsm8k"
    splits = {
        name: load_task({"loader": "gsm8k"}, [folder / f"{name}.jsonl"])
        for name in ("train_1", "train_2", "test")
    }
    match_counts = {key: count for key, (count, _) in counts(contamination_report(splits)).items()}
    assert match_counts == {
        ("duplicate", "train_1", "train_1"): 127,
        ("duplicate", "train_2", "train_2"): 150,
        ("exact", "train_1", "train_2"): 279,
        ("exact", "train_2", "train_1"): 279,
        ("ngram", "train_1", "train_2"): 279,
        ("ngram", "train_2", "train_1"): 279,
    }
    kept = remove_overlap(splits, "exact")
    assert [kept[name].height for name in ("train_1", "train_2", "test")] == [7000, 6721, 1319]


@pytest.mark.parametrize("kind", ["exact", "ngram"])
def test_each_test_set_is_compared_and_none_loses_a_row(kind):
    """Test sets may share questions, as GSM8K and GSM8K-Platinum do."""
    splits = {
        "train_1": problems("a", "b", LONG),
        "train_2": problems("c", "d"),
        "test-old": problems("a", "e"),
        "test-new": problems("e", "c", LONG),
    }
    report = contamination_report(splits)
    found = {key[1:]: count for key, (count, _) in counts(report).items() if key[0] == "exact"}
    assert found == {
        ("test-old", "test-new"): 1,
        ("test-new", "test-old"): 1,
        ("test-old", "train_1"): 1,
        ("train_1", "test-old"): 1,
        ("test-new", "train_1"): 1,
        ("train_1", "test-new"): 1,
        ("test-new", "train_2"): 1,
        ("train_2", "test-new"): 1,
    }
    kept = remove_overlap(splits, kind)
    assert {name: frame["question"].to_list() for name, frame in kept.items()} == {
        "train_1": ["b"],
        "train_2": ["d"],
        "test-old": ["a", "e"],
        "test-new": ["e", "c", LONG],
    }
