"""Names of splits: one test set, or several by name."""

from __future__ import annotations

import pytest

from weak_to_strong.data.sources import source_entries
from weak_to_strong.data.split_names import (
    ENTRY_KEYS,
    flatten_splits,
    held_out_first,
    list_splits,
    split_key,
)
from weak_to_strong.experiment.schema import load_schema


@pytest.mark.parametrize(
    "test", [5, {"path": "a"}, [{"path": "a"}, {"path": "b"}], {"from": "train_1", "count": 2}]
)
def test_one_test_set_keeps_its_name(test):
    splits = {"train_2": 3, "test": test}
    assert flatten_splits(splits) == splits


def test_each_of_several_test_sets_is_a_split():
    near, far = {"path": "a"}, [{"path": "b"}, {"path": "c"}]
    flat = flatten_splits({"train_2": 3, "test": {"near": near, "far": far, "new": 7}})
    assert flat == {"train_2": 3, "test-near": near, "test-far": far, "test-new": 7}
    assert list(map(split_key, flat)) == ["train_2", "test.near", "test.far", "test.new"]
    assert list_splits(flat)[3:] == ["test-near", "test-far", "test-new"]
    assert held_out_first(flat)[:4] == ["test-near", "test-far", "test-new", "validation"]
    entries = source_entries({"splits": flat, "pool": {"path": "p"}})
    assert entries == [
        ("test-near", near),
        ("test-far", far[0]),
        ("test-far", far[1]),
        ("pool", {"path": "p"}),
    ]


def test_no_key_of_an_entry_is_the_name_of_a_test_set():
    definitions = load_schema()["$defs"]
    keys = {*definitions["source"]["properties"]}
    keys |= {*definitions["split"]["oneOf"][-1]["properties"]}
    assert keys == ENTRY_KEYS
    assert set(definitions["test_split"]["if"]["propertyNames"]["not"]["enum"]) == ENTRY_KEYS
