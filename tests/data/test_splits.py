"""Splits of a task: named, drawn, taken from one another, and the withheld gold of train_2."""

from __future__ import annotations

import json

import polars as pl
import pytest
import table_builders
from hypothesis import given
from hypothesis import strategies as st

from weak_to_strong.data.split_names import SPLITS
from weak_to_strong.data.splits import (
    draw_splits,
    make_splits,
    narrow_settings,
    withhold_gold,
)
from weak_to_strong.tables.schemas import GOLD, QUESTIONS


def problems(questions) -> pl.DataFrame:
    return table_builders.problems(question=list(questions), answer="1")


@pytest.fixture
def table(tmp_path):
    """Write questions to a file and return its path."""

    def write(name, questions, answer="1"):
        path = tmp_path / f"{name}.jsonl"
        rows = [{"id": f"{name}{q}", "question": q, "answer": answer} for q in questions]
        path.write_text("\n".join(map(json.dumps, rows)))
        return path

    return write


def test_named_files_and_a_validation_split_taken_from_one(table):
    settings = {
        "loader": "table",
        "splits": {
            "test": {"path": "e"},
            "train_1": {"path": "a"},
            "train_2": [{"path": "b"}, {"path": "c"}],
            "validation": {"from": "train_1", "count": 2},
        },
    }
    # In the order of source_entries: train_1, train_2 (two files), test.
    paths = [
        table(name, questions)
        for name, questions in zip("abce", ("pqr", "st", "u", "vw"), strict=True)
    ]
    splits = make_splits(settings, paths)
    assert list(splits) == list(SPLITS)
    assert {name: "".join(frame["question"]) for name, frame in splits.items()} == {
        "train_1": "r",
        "train_2": "stu",
        "validation": "pq",
        "test": "vw",
    }
    assert splits["train_1"]["id"].to_list() == ["2"]
    settings["splits"]["validation"]["count"] = 3
    with pytest.raises(ValueError, match=r"tasks\.t\.splits\.validation\.count: 3 leaves nothing"):
        make_splits(settings, paths, "t")


def test_pool_draws_no_question_twice_nor_one_of_a_named_split(table):
    pool = [f"question {i}" for i in range(20)]
    settings = {
        "loader": "table",
        "pool": {"path": "pool"},
        "splits": {"train_1": 8, "train_2": 8, "validation": 2, "test": {"path": "test"}},
    }
    paths = [table("test", ["Question  3", "question 4"]), table("pool", [*pool, *pool])]
    splits = make_splits(settings, paths)
    drawn = pl.concat(splits[name] for name in ("train_1", "train_2", "validation"))["question"]
    assert set(drawn) == set(pool) - {"question 3", "question 4"}
    assert drawn.n_unique() == len(drawn)
    assert splits["train_2"]["id"].to_list() == [str(row) for row in range(8)]
    settings["splits"]["train_2"] = 9
    with pytest.raises(
        ValueError, match=r"tasks\.t\.pool: the splits ask for 19 problems, it has 18"
    ):
        make_splits(settings, paths, "t")


@given(
    sizes=st.fixed_dictionaries({name: st.integers(1, 10) for name in SPLITS}),
    seed=st.integers(0, 2**32),
)
def test_draws_depend_on_the_seed_alone(sizes, seed):
    pool = problems(f"q{i}" for i in range(41))
    splits = draw_splits(pool, sizes, seed)
    assert {name: frame.height for name, frame in splits.items()} == sizes
    assert pl.concat(splits.values())["id"].is_unique().all()
    more = draw_splits(pool, {**sizes, "train_2": sizes["train_2"] + 1}, seed)
    for name in ("test", "validation", "train_1"):
        assert more[name].equals(splits[name])
    assert more["train_2"].head(sizes["train_2"]).equals(splits["train_2"])


def test_seeds_draw_different_splits():
    pool = problems(f"q{i}" for i in range(40))
    assert not draw_splits(pool, {"test": 20}, 0)["test"].equals(
        draw_splits(pool, {"test": 20}, 1)["test"]
    )


def test_gold_of_train_2_is_apart_and_may_be_unknown(table):
    questions, gold = withhold_gold(problems("ab"))
    assert questions.schema == QUESTIONS
    assert gold.schema == GOLD
    assert questions["id"].equals(gold["id"])

    named = {name: {"path": name} for name in ("train_1", "train_2", "test")}
    settings = {"loader": "table", "splits": named}
    known, unknown = table("known", "ab"), table("unknown", "cd", answer=None)
    splits = make_splits(settings, [known, unknown, known])
    assert splits["train_2"]["answer"].to_list() == [None, None]
    with pytest.raises(ValueError, match=r"unknown\.jsonl: 2 of 2 problems have no answer"):
        make_splits(settings, [unknown, known, known])


def test_embedded():
    sizes = {"train_1": 4, "train_2": 3, "test": 2, "validation": {"from": "train_1", "count": 1}}
    settings = {"loader": "embedded", "templates": [43, 58], "data_seed": 1, "splits": sizes}
    splits = make_splits(settings, [])
    assert [splits[name].height for name in SPLITS] == [3, 3, 1, 2]
    assert make_splits(settings, [])["train_2"].equals(splits["train_2"])


def test_the_weak_model_may_be_taught_some_templates_only():
    sizes = {"train_1": 30, "train_2": 30, "test": 30}
    settings = {"loader": "embedded", "templates": [43, 58], "data_seed": 1, "splits": sizes}
    all_taught, one_taught = (
        make_splits({**settings, "train_1_templates": taught}, []) for taught in (None, [58])
    )
    assert set(one_taught["train_1"]["subject"]) == {"template 58"}
    assert set(one_taught["train_2"]["subject"]) == {"template 43", "template 58"}
    assert one_taught["train_1"].height == 30
    assert one_taught["test"].equals(all_taught["test"])  # it comes before train_1 in the stream
    questions = [row for split in one_taught.values() for row in split["question"]]
    assert len(set(questions)) == 90


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loader": "table", "splits": {"test": 5}}, "needs `tasks.t.pool`"),
        ({"loader": "embedded", "splits": {"test": 5}}, "tasks.t.templates"),
        ({"loader": "table", "splits": {"dev": 5}}, r"unknown splits \['dev'\]"),
        ({"loader": "table", "splits": {"test": {"path": "a"}}}, "1 sources but 0 files"),
        (
            {"loader": "table", "splits": {"test": {"from": "train_1", "count": 1}}},
            r"splits\.test\.from: train_1",
        ),
    ],
)
def test_settings_that_cannot_work(settings, message):
    with pytest.raises(ValueError, match=message):
        make_splits(settings, [], "t")


def test_several_test_sets_are_read_drawn_and_narrowed_apart(table):
    settings = {
        "loader": "table",
        "pool": {"path": "pool"},
        "splits": {
            "train_1": 4,
            "train_2": 5,
            "test-near": 3,
            "test-far": {"path": "far"},
        },
    }
    paths = [
        table("far", ["question 1", "other"]),
        table("pool", [f"question {i}" for i in range(13)]),
    ]
    splits = make_splits(settings, paths)
    sizes = {name: frame.height for name, frame in splits.items()}
    assert sizes == {"train_1": 4, "train_2": 5, "validation": 0, "test-near": 3, "test-far": 2}
    drawn = [question for frame in splits.values() for question in frame["question"]]
    assert len(set(drawn)) == len(drawn)
    # A file of one test set decides no other one, unless rows are drawn around its questions.
    assert narrow_settings(settings, "test-far")["splits"].keys() == {"test-far"}
    assert "test-far" in narrow_settings(settings, "test-near")["splits"]
    # A test set stays the same when a training split grows.
    settings["splits"]["train_1"] = 5
    settings["splits"]["train_2"] = 4
    assert make_splits(settings, paths)["test-near"].equals(splits["test-near"])


def test_a_pool_may_have_several_files(table):
    settings = {
        "loader": "table",
        "pool": [{"path": "a"}, {"path": "b"}],
        "splits": {"train_2": 4, "test": 2},
    }
    splits = make_splits(settings, [table("a", "pqr"), table("b", "stu")])
    assert sorted([*splits["train_2"]["question"], *splits["test"]["question"]]) == list("pqrstu")
