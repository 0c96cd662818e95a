"""Ranks of the answers to a question, by evaluators that may contradict each other.

Each table of answers is an evaluator. It prefers an answer to another one if more of its samples
have it. The preferences of all evaluators make a graph with the final answers as nodes. Such a
graph may have cycles: three evaluators can prefer 1 to 2, 2 to 3, and 3 to 1. GED (Hu et al., arXiv
2410.12869, after its abstract) sums the graphs and drops arcs until no cycle is left; the order
that remains ranks the answers. Here the dropped arcs are a minimum feedback arc set.

Each evaluator has one voice on each pair of answers. With the difference of its samples as weight,
the sum would be the difference of all votes: no cycle, and the majority vote again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import polars as pl

from weak_to_strong.method.answers import Judge, judge_table, string_judge
from weak_to_strong.method.majority_vote import count_votes
from weak_to_strong.tables.schemas import VOTES

#: Most answers to a question for which the order is the best one. The work doubles with each.
EXACT_ANSWERS = 10


def rank_answers(votes: pl.DataFrame, *, judge: Judge = string_judge) -> pl.DataFrame:
    """The answer to each question that ranks first among all evaluators.

    No answer counts as an answer, as in the majority vote. Answers that the judge calls the same
    are one. Where several orders are equally good, answers with more votes come earlier, and of
    those with as many the first in sample order.

    Args:
        votes: columns id, source (number of the evaluator), sample (numbers all answers to a
            question), prediction; others are not read.
        judge: compares the answers to a question.

    Returns:
        VOTES, ids in the order of their first row. `majority` is the answer that ranks first, and
        `confidence` its share of all votes, in [0, 1].

    Raises:
        ValueError: there are no votes, or an (id, sample) occurs twice.
    """
    questions, counts = count_votes(votes, judge)
    answers = counts.join(questions, on="question").sort(
        "question", "votes", "first", descending=[False, True, False]
    )
    evaluators = _votes_of_evaluators(votes, answers, judge)
    rows = []
    for (name,), own in answers.group_by("id", maintain_order=True):
        preferences = _sum_preferences(own["prediction"].to_list(), evaluators[name])
        first = order_by_preferences(preferences)[0]
        total = own["votes"].sum()
        rows.append((name, own["prediction"][first], own["votes"][first] / total, total))
    return pl.DataFrame(rows, schema=VOTES, orient="row")


def order_by_preferences(preferences: Sequence[Sequence[int]]) -> list[int]:
    """An order of nodes that contradicts little of what is preferred: a small feedback arc set.

    What an order contradicts is the sum of `preferences[later][earlier]` over all its pairs. For up
    to EXACT_ANSWERS nodes it is as little as possible, and of several such orders this is the first
    one, compared node by node. For more nodes the next node is always the one that is preferred to
    the remaining ones by most, less what is preferred to it: a greedy in the manner of Eades, Lin
    and Smyth (1993), which need not find the best order.

    Args:
        preferences: square; `preferences[a][b]` is how many prefer node a to node b.

    Returns:
        The numbers of the nodes, the most preferred one first.
    """
    nodes = list(range(len(preferences)))
    if all(preferences[b][a] <= preferences[a][b] for a, b in combinations(nodes, 2)):
        return nodes
    if len(nodes) > EXACT_ANSWERS:
        return _order_greedily(preferences)
    least, first = [0] * 2 ** len(nodes), [0] * 2 ** len(nodes)
    # Sets of nodes as bits: a set comes after all of its subsets.
    for members in range(1, 2 ** len(nodes)):
        inside = [node for node in nodes if members >> node & 1]
        least[members], first[members] = min(
            (least[members - 2**node] + sum(preferences[other][node] for other in inside), node)
            for node in inside
        )
    order, members = [], 2 ** len(nodes) - 1
    while members:
        order.append(first[members])
        members -= 2 ** first[members]
    return order


def _order_greedily(preferences: Sequence[Sequence[int]]) -> list[int]:
    remaining, order = list(range(len(preferences))), []
    while remaining:

        def lead(node: int, others: Sequence[int] = tuple(remaining)) -> int:
            return sum(preferences[node][other] - preferences[other][node] for other in others)

        order.append(max(remaining, key=lead))  # of equal ones the first
        remaining.remove(order[-1])
    return order


def _votes_of_evaluators(
    votes: pl.DataFrame, answers: pl.DataFrame, judge: Judge
) -> dict[str, dict[int, dict[str, int]]]:
    """How often each evaluator gave each answer: id -> source -> answer -> votes.

    Args:
        votes: see `rank_answers`.
        answers: columns id, prediction, first: answers that are counted, see `count_votes`.
        judge: compares the answers to a question.
    """
    answers = answers.select("id", "first", answer="prediction")
    given = votes.select("id", "prediction").unique(maintain_order=True)
    counted = given.join(
        answers, left_on=["id", "prediction"], right_on=["id", "answer"], how="semi"
    ).with_columns(answer="prediction")
    merged = given.join(counted, on=["id", "prediction"], how="anti", maintain_order="left")
    if merged.height:  # each was counted under the first answer that the judge calls the same
        pairs = merged.join(answers.filter(pl.col("answer") != ""), on="id").sort("id", "first")
        pairs = pairs.select("id", "prediction", "answer")
        same = pairs.filter(judge_table(pairs, judge) == "right")
        same = same.unique(["id", "prediction"], keep="first", maintain_order=True)
        counted = pl.concat([counted, same.select(counted.columns)])
    numbers = (
        votes.join(counted, on=["id", "prediction"])
        .group_by("id", "source", "answer")
        .agg(pl.len())
    )
    by_question: dict[str, dict[int, dict[str, int]]] = {}
    for name, source, answer, number in numbers.rows():
        by_question.setdefault(name, {}).setdefault(source, {})[answer] = number
    return by_question


def _sum_preferences(
    answers: Sequence[str], evaluators: dict[int, dict[str, int]]
) -> list[list[int]]:
    """How many evaluators prefer each answer to each other one."""
    counts = [[own.get(answer, 0) for answer in answers] for own in evaluators.values()]
    nodes = range(len(answers))
    return [[sum(own[a] > own[b] for own in counts) for b in nodes] for a in nodes]
