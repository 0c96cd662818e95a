from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_builders import samples

from weak_to_strong.method.majority_vote import majority_vote
from weak_to_strong.tables.schemas import VOTES


def test_the_first_of_equally_frequent_answers_wins():
    votes = majority_vote(samples({"b": ["2", "1", "1", "2"], "a": ["1"]}))
    assert votes.schema == VOTES
    assert votes.rows() == [("b", "2", 0.5, 4), ("a", "1", 1.0, 1)]


def test_empty_answers_are_votes():
    table = samples({"a": ["", "", "1"], "b": ["", ""]})
    assert majority_vote(table).rows() == [("a", "", 2 / 3, 3), ("b", "", 1.0, 2)]


@given(st.lists(st.sampled_from(["", "1", "2", "3"]), min_size=1, max_size=12), st.randoms())
def test_row_order_does_not_matter_within_a_question(answers, rng):
    table = samples({"a": answers})
    order = list(range(len(answers)))
    rng.shuffle(order)
    votes = majority_vote(table[order])
    assert votes.equals(majority_vote(table))
    majority, confidence = votes.row(0)[1:3]
    assert confidence == answers.count(majority) / len(answers)
    assert answers.count(majority) == max(map(answers.count, answers))


def test_bad_samples_are_refused():
    with pytest.raises(ValueError, match="no samples"):
        majority_vote(samples({}))
    twice = samples({"a": ["1"]})
    with pytest.raises(ValueError, match="stands twice"):
        majority_vote(pl.concat([twice, twice]))
