"""Aligned text: columns of one width, no spaces at the end of a line."""

import pytest

from weak_to_strong.tables.aligned_text import align_columns


def test_columns_are_as_wide_as_their_widest_cell():
    rows = [("name", "n"), ("a", "1234"), ("longer", "5")]
    assert align_columns(rows) == ["name    n", "a       1234", "longer  5"]
    assert align_columns(rows, left_columns=1) == [
        "name       n",
        "a       1234",
        "longer     5",
    ]


def test_no_line_ends_in_a_space():
    assert align_columns([("a", "long"), ("b", "")]) == ["a  long", "b"]


def test_rows_have_the_same_number_of_cells():
    with pytest.raises(ValueError, match="zip"):
        align_columns([("a", "b"), ("c",)])
