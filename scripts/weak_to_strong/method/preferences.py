"""Preference pairs of any answers: of the texts that a selection keeps, or of a user's function.

The paper's own pairs have the weak model's answer on one side (`method.pairs`). Pairs of the same
form may be asked for here too, of any answers. Else the chosen text is one that a selection keeps,
and the rejected text is any answer with another final answer.
With the samples of a trained model on both sides, these are the pairs of iterated preference
learning (Pang et al., arXiv 2404.19733), with the majority answer in place of gold (Jiao et al.,
arXiv 2411.16345).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import polars as pl

from weak_to_strong.method.answers import Judge, judge_table, string_judge
from weak_to_strong.method.majority_vote import SAMPLES
from weak_to_strong.method.pairs import PairSettings, build_pairs
from weak_to_strong.method.prompts import prompt_column
from weak_to_strong.method.selections import (
    add_answers,
    number_votes,
    pool_answers,
    rows_of_function,
)
from weak_to_strong.tables.schemas import PAIRS, WEIGHTED_PAIRS

#: What to do where a selection gives no pair.
_ADVICE = (
    "lower `min_confidence` of the entry of `preferences`, or name `answers` that differ more from "
    "the selection's"
)
_ADVICE_OF_ONE_SIDE = (
    "lower `min_confidence` or `min_confidence_rejected` of the entry of `preferences`, or sample "
    "its `answers` at a higher `temperature`"
)


def pairs_of_selection(
    selected: pl.DataFrame,
    answers: Sequence[pl.DataFrame],
    questions: pl.DataFrame,
    settings: Mapping[str, Any],
    *,
    one_side: pl.DataFrame | None = None,
    prompt: str = "question_answer",
    judge: Judge = string_judge,
) -> pl.DataFrame:
    """Pair the texts of a selection with answers that end in another result.

    The selected answer stands in for the majority answer of `build_pairs`, and its share for the
    confidence. That function draws: a selected text is chosen, and answers that the judge calls
    wrong against it are rejected. If a selection has one text for each question, this text is
    chosen in all pairs of the question. If it has several, each pair has another one.

    With `one_side`, its answers take the place of the weak labels there, and `answers` that of the
    samples: each pair has one text of each. Of the selection only answers and shares count.

    Args:
        selected: SELECTED. Rows without an answer give no pair. Of several answers to a question
            only texts with the first are taken.
        answers: see `pool_answers`.
        questions: QUESTIONS of train_2; their row order is that of the draws and of the result.
        settings: `min_confidence`, `pairs_per_question`, `rng_seed` and, with `one_side`,
            `weak_rejected_confidence`, see `PairSettings`.
        one_side: columns id, response, prediction; one answer to each question.
        prompt: style of the prompts, see `prompts.problem_prompt`.
        judge: compares answers with the selected answer.

    Returns:
        PAIRS. The weak side is that of `one_side`, "none" without it.

    Raises:
        ValueError: the tables do not fit each other, or no question gives a pair.
    """
    first = pl.col("prediction").first().over("id")
    chosen = selected.filter(pl.col("prediction") == first, pl.col("prediction") != "")
    questions = questions.filter(pl.col("id").is_in(chosen["id"].implode()))
    votes = chosen.unique("id", keep="first", maintain_order=True).select(
        "id", majority="prediction", confidence="share", samples=pl.lit(1, pl.Int32)
    )
    pooled = pool_answers(answers)
    samples = number_votes(pooled).join(questions.select("id"), on="id", how="semi")
    samples = samples.select(SAMPLES.names())
    build = partial(build_pairs, prompt=prompt, judge=judge)
    if one_side is not None:
        sided = one_side.filter(pl.col("id").is_in(questions["id"].implode()))
        pair_settings = PairSettings(**settings)
        return build(sided, samples, votes, questions, pair_settings, advice=_ADVICE_OF_ONE_SIDE)
    several = bool(chosen["id"].is_duplicated().any())
    if several:
        against = samples.join(votes.select("id", "majority"), on="id", maintain_order="left")
        verdicts = judge_table(against.select("id", "prediction", "majority"), judge)
        # Only selected texts may be chosen, so other right answers are left out.
        samples = pl.concat(
            [number_votes(chosen).select(SAMPLES.names()), samples.filter(verdicts == "wrong")]
        )
    pairs = build(
        chosen.unique("id", keep="first", maintain_order=True),
        samples,
        votes,
        questions,
        PairSettings(**settings, weak_side=not several),
        advice=_ADVICE,
    )
    return pairs.with_columns(weak_side=pl.lit("none"))


def pairs_by_function(
    reference: str,
    answers: Sequence[pl.DataFrame],
    questions: pl.DataFrame,
    seed: int,
    *,
    prompt: str = "question_answer",
    judge: Judge = string_judge,
) -> pl.DataFrame:
    """The pairs that a user's function builds.

    Args:
        reference: the function as `file.py:name`. It gets what `rows_of_function` says. It returns
            a table with the columns id, chosen, rejected, with any number of rows for a question.
        answers: see `pool_answers`.
        questions: QUESTIONS of train_2.
        seed: of draws.
        prompt: style of the prompts, see `prompts.problem_prompt`.
        judge: compares the answers to a question.

    Returns:
        PAIRS in the function's order of rows, with the weak side "none". The confidence is 0 where
        the chosen text is none of the answers.

    Raises:
        ValueError: the tables do not fit each other, or the function failed or returned something
            else; names the first bad row.
    """
    pooled = pool_answers(answers)
    rows = rows_of_function(reference, pooled, questions, seed, ("chosen", "rejected"))
    shares = add_answers(rows.select("id", response="chosen"), pooled, judge)["share"]
    asked = questions.filter(pl.col("id").is_in(rows["id"].implode()))
    prompts = asked.select("id").with_columns(prompt_column(asked, prompt))
    return (
        rows.with_columns(
            chosen=pl.lit(" ") + pl.col("chosen"),
            rejected=pl.lit(" ") + pl.col("rejected"),
            weak_side=pl.lit("none"),
            confidence=shares,
        )
        .join(prompts, on="id", how="left", maintain_order="left")
        .select(PAIRS.names())
    )


def weigh_pairs(pairs: pl.DataFrame) -> pl.DataFrame:
    """WEIGHTED_PAIRS: each pair weighs in proportion to its confidence.

    This is the weight of confidence-weighted preference optimisation (Afzali et al., arXiv
    2603.04968, after its abstract). Here its mean is 1, so that updates are as large as without it.

    Args:
        pairs: PAIRS.

    Raises:
        ValueError: all confidences are 0.
    """
    if not pairs["confidence"].sum():
        raise ValueError(
            "weights: no chosen text has an answer of the votes, so all shares are 0; set "
            "`weights: equal` in the preferences"
        )
    weight = pl.col("confidence") / pl.col("confidence").mean()
    return pairs.with_columns(weight=weight).select(WEIGHTED_PAIRS.names())
