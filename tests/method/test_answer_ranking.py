"""Ranks of answers by several evaluators, against all orders."""

from itertools import combinations, permutations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weak_to_strong.method.answer_ranking import (
    EXACT_ANSWERS,
    order_by_preferences,
    rank_answers,
)
from weak_to_strong.method.majority_vote import majority_vote
from weak_to_strong.method.selections import number_votes, pool_answers
from weak_to_strong.tables.schemas import VOTES


def graphs(nodes: int) -> st.SearchStrategy:
    row = st.lists(st.integers(0, 3), min_size=nodes, max_size=nodes)
    return st.lists(row, min_size=nodes, max_size=nodes)


def contradicted(order, preferences) -> int:
    return sum(preferences[later][earlier] for earlier, later in combinations(order, 2))


@given(st.integers(1, 5).flatmap(graphs))
def test_the_order_is_the_first_of_the_best_of_all_orders(preferences):
    orders = permutations(range(len(preferences)))  # in the order of their nodes
    best = min(orders, key=lambda order: contradicted(order, preferences))
    assert order_by_preferences(preferences) == list(best)


@given(st.permutations(range(EXACT_ANSWERS + 3)))
def test_many_answers_without_a_contradiction_have_their_order(order):
    nodes = range(len(order))
    preferences = [[int(order.index(a) < order.index(b)) for b in nodes] for a in nodes]
    assert order_by_preferences(preferences) == list(order)


def tables(*evaluators: list[list[str]]) -> list[pl.DataFrame]:
    """A table of answers for each evaluator: of each question the answers of its samples."""
    schema = {"id": pl.String, "sample": pl.Int32, "response": pl.String, "prediction": pl.String}
    return [
        pl.DataFrame(
            [
                (str(place), number, f"so {answer}", answer)
                for place, samples in enumerate(questions)
                for number, answer in enumerate(samples)
            ],
            schema=schema,
            orient="row",
        )
        for questions in evaluators
    ]


def plain_first(evaluators: list[list[str]]) -> str:
    """The first answer of the first best order, by plain loops over one question's votes."""
    votes = [answer for samples in evaluators for answer in samples]
    answers = sorted(dict.fromkeys(votes), key=lambda answer: -votes.count(answer))
    prefers = [
        [sum(own.count(a) > own.count(b) for own in evaluators) for b in answers] for a in answers
    ]
    orders = permutations(range(len(answers)))
    return answers[min(orders, key=lambda order: contradicted(order, prefers))[0]]


SAMPLES = st.lists(st.sampled_from(["1", "2", "3", "4", ""]), min_size=1, max_size=5)


@given(st.lists(st.lists(SAMPLES, min_size=2, max_size=2), min_size=1, max_size=4))
def test_the_first_answer_is_that_of_plain_loops(evaluators):
    votes = number_votes(pool_answers(tables(*evaluators)))
    ranked, majority = rank_answers(votes), majority_vote(votes)
    assert ranked.schema == VOTES
    expected = [plain_first([questions[place] for questions in evaluators]) for place in range(2)]
    assert ranked["majority"].to_list() == expected
    assert ranked.select("id", "samples").equals(majority.select("id", "samples"))
    if len(evaluators) == 1:  # one evaluator never contradicts itself
        assert ranked.equals(majority)


def test_an_evaluator_has_one_voice_however_many_samples_it_has():
    pooled = pool_answers(tables([["1"] * 9], [["2", "2", "1"]], [["2", "2", "1"]]))
    assert majority_vote(number_votes(pooled))["majority"].item() == "1"
    (row,) = rank_answers(number_votes(pooled)).rows()
    assert row == ("0", "2", pytest.approx(4 / 15), 15)


def test_of_the_orders_of_a_cycle_that_cost_as_little_the_one_by_votes_wins():
    # Of five, 3 prefer 1 to 2, 4 prefer 2 to 3, and 3 prefer 3 to 1. To drop 3 > 1 or 1 > 2 costs
    # as much; 2 has more votes than 1.
    first, second, third = ["1", "1", "2"], ["2", "2", "3"], ["3", "3", "1"]
    evaluators = tables(*([own] for own in (first, first, second, second, third)))
    assert rank_answers(number_votes(pool_answers(evaluators)))["majority"].item() == "2"


def test_answers_that_a_judge_calls_the_same_are_one():
    def judge(comparisons):
        return ["right" if float(a) == float(b) else "wrong" for _, a, b in comparisons]

    pooled = pool_answers(tables([["1", "2", "2"]], [["1.0", "1", "2"]], [["3", "1.00", "1", ""]]))
    (row,) = rank_answers(number_votes(pooled), judge=judge).rows()
    assert row == ("0", "1", pytest.approx(0.5), 10)
