"""Selections: which questions of train_2 are kept, and with which answer.

The paper's filter keeps a question if the weak and the ICL answer agree. A selection says so of any
answers: of one model or of several, greedy or sampled. All answers to a question, of all tables,
are votes. The majority answer is the question's answer, and its share of the votes its confidence.
In place of the majority, a ranking by several evaluators may choose it (`method.answer_ranking`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import Any

import polars as pl

from weak_to_strong.method.answer_ranking import rank_answers
from weak_to_strong.method.answers import Judge, judge_table, string_judge
from weak_to_strong.method.draws import draw_padding, draw_places
from weak_to_strong.method.majority_vote import count_votes, majority_vote
from weak_to_strong.method.user_functions import load_function
from weak_to_strong.tables.schemas import POOLED, SELECTED

#: Ways to choose the questions.
KEEPS = ("agreement", "all", "share", "entropy", "random")
#: Ways to choose the text: among those with the majority answer, or one with another answer.
TAKES = ("first", "each", "shortest", "all", "other")


def pool_answers(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The answers of several tables as votes of one.

    Args:
        tables: each with the columns id, response, prediction, and sample if there are several
            answers to a question.

    Returns:
        POOLED, in the order of questions in the first table, then of tables, then of samples.

    Raises:
        ValueError: the tables answer different questions, or an answer stands twice.
    """
    order = tables[0].select(pl.col("id").unique(maintain_order=True)).with_row_index("place")
    parts = []
    for source, table in enumerate(tables):
        if "sample" not in table.columns:
            table = table.with_columns(sample=pl.lit(0, pl.Int32))
        if table.select("id", "sample").is_duplicated().any():
            raise ValueError(f"answers {source + 1}: a sample of a question stands twice")
        if set(table["id"]) != set(order["id"]):
            raise ValueError(
                f"answers {source + 1}: are to other questions than the first ones; make both from "
                "the same train_2"
            )
        parts.append(
            table.select(
                "id", pl.lit(source, pl.Int32).alias("source"), "sample", "response", "prediction"
            )
        )
    pooled = pl.concat(parts).join(order, on="id").sort("place", "source", "sample")
    return pooled.select(POOLED.names()).cast(dict(POOLED))


def select_answers(
    tables: Sequence[pl.DataFrame],
    settings: Mapping[str, Any],
    *,
    judge: Judge = string_judge,
    seed: int = 0,
    without: Collection[str] = (),
    as_many: int | None = None,
) -> pl.DataFrame:
    """The kept questions, each with its answer.

    A question without a final answer in its majority is kept with `keep_empty` alone. With c the
    share of the majority answer among the votes of a question, and p the shares of all its answers:

    - `agreement`: the majority answer of each table is that of all tables;
    - `all`: every question with a majority answer;
    - `share`: c is at least `min_share`;
    - `entropy`: the `fraction` of these questions with the least entropy -sum(p log p); of equal
      ones the first (Guo and Yang, arXiv 2406.19032, keep half);
    - `random`: a random `fraction` of them, drawn with the seed.

    With the vote `ranking` the answer that ranks first takes the place of the majority answer.

    `as_many` random questions stand in for those of another selection, as in
    `training_sets.random_questions`: drawn from all, and of each any text, whether the answers
    agree or not. `pad_to` adds random questions that are not kept, as
    `training_sets.pad_disagreeing` does, and of these any text too. Padding stands at the end: all
    texts of the first table, then those of the next one.

    Args:
        tables: see `pool_answers`.
        settings: `keep`, one of KEEPS; `min_share` and `fraction` in (0, 1]; `take`, one of TAKES:
            of the texts with the majority answer the first one, of each table its first one (a text
            of several tables is as many rows), the shortest one (the first of equally long ones),
            or all different ones. `other` leaves out questions of which all votes for an answer
            agree, and takes the first text with the most frequent other answer of each kept
            question. `vote`: "majority" if absent, or "ranking" (`answer_ranking.rank_answers`).
            `keep_empty`: with `agreement` and `all`, whether to keep questions whose majority is no
            answer, with a text without one. `pad_to` and `pad_seed`, of the draw, if there is to be
            padding. `take: other` goes with none of these three, nor with `as_many`.
        judge: compares the answers to a question.
        seed: of the draws of `random` and `as_many`.
        without: ids of questions that are left out beforehand.
        as_many: number of questions to draw with `random`, in place of a `fraction`.

    Returns:
        SELECTED, in the order of questions in the first table. Answer and share are those of the
        texts.

    Raises:
        ValueError: the tables do not fit each other, no question is kept, or there are too few
            questions to draw from.
    """
    pooled = pool_answers(tables)
    left_out = set(without)
    ids = [name for name in pooled["id"].unique(maintain_order=True) if name not in left_out]
    if as_many is not None:
        if as_many > len(ids):
            raise ValueError(
                f"as_many_as: cannot draw {as_many} questions: there are {len(ids)}; name a "
                "selection that keeps fewer, or leave fewer out"
            )
        drawn = [ids[place] for place in draw_places(len(ids), as_many, seed)]
        return add_answers(_any_texts(pooled, drawn, settings["take"]), pooled, judge)
    choose = rank_answers if settings.get("vote") == "ranking" else majority_vote
    votes = choose(number_votes(pooled), judge=judge)
    has_answer = (pl.col("majority") != "") | settings.get("keep_empty", False)
    answered = votes.filter(has_answer, pl.col("id").is_in(ids))
    taken, asked = answered, "a majority answer"
    if settings["take"] == "other":
        taken, asked = _other_answers(pooled, answered, judge), "a majority answer and another one"
        answered = answered.join(taken, on="id", how="semi", maintain_order="left")
    kept = _keep(pooled, answered, settings, judge, seed)
    if not kept:
        raise ValueError(
            f"keep {settings['keep']!r} keeps none of {votes.height} questions, of which "
            f"{answered.height} have {asked}; change the selection"
        )
    texts = pooled.join(
        taken.filter(pl.col("id").is_in(list(kept))), on="id", maintain_order="left"
    )
    verdicts = judge_table(texts.select("id", "prediction", "majority"), judge)
    texts = texts.filter((verdicts == "right") & _as_empty("prediction"))
    selected = _take(texts, settings["take"]).select(
        "id", "response", prediction="majority", share="confidence"
    )
    if "pad_to" not in settings:
        return selected
    drawn = draw_padding(ids, kept, settings["pad_to"], settings["pad_seed"])
    padding = _any_texts(pooled, drawn, settings["take"]).sort("source", maintain_order=True)
    unsure = add_answers(padding, pooled, judge).with_columns(prediction=pl.lit(None, pl.String))
    return pl.concat([selected, unsure])


def select_by_function(
    reference: str,
    pooled: pl.DataFrame,
    questions: pl.DataFrame,
    seed: int,
    judge: Judge = string_judge,
) -> pl.DataFrame:
    """The rows that a user's function returns.

    Args:
        reference: the function as `file.py:name`. It gets POOLED with the column `question`, and
            the seed. It returns a table with the columns id and response, with any number of rows
            for a question. No gold answer reaches it.
        pooled: POOLED.
        questions: QUESTIONS of train_2.
        seed: of draws.
        judge: compares the answers to a question.

    Returns:
        SELECTED. A response that is one of the pooled ones has its answer, and the share of this
        answer among the votes. Any other response has the answer "" and the share 0.

    Raises:
        ValueError: the function failed, or returned something else; names the first bad row.
    """
    rows = rows_of_function(reference, pooled, questions, seed, ("response",))
    return add_answers(rows, pooled, judge)


def rows_of_function(
    reference: str,
    pooled: pl.DataFrame,
    questions: pl.DataFrame,
    seed: int,
    columns: Sequence[str],
) -> pl.DataFrame:
    """What a user's function makes of answers.

    Args:
        reference: the function as `file.py:name`. It gets POOLED with the column `question`, and
            the seed. No gold answer reaches it.
        pooled: POOLED.
        questions: QUESTIONS of train_2.
        seed: of draws.
        columns: names of the texts that it has to return beside the id.

    Returns:
        The columns id and `columns`, all of them texts, in the function's order of rows.

    Raises:
        ValueError: the function failed, or returned something else; names the first bad row.
    """
    text = questions.select("id", "question")
    given = pooled.join(text, on="id", how="left", maintain_order="left")
    rows = load_function(reference)(given, seed)
    _check_rows(reference, rows, columns, set(pooled["id"]))
    return rows.select(pl.col("id").cast(pl.String), *columns)


def add_answers(
    rows: pl.DataFrame, pooled: pl.DataFrame, judge: Judge = string_judge
) -> pl.DataFrame:
    """SELECTED of texts, each with its answer and the share of this answer among the votes.

    Args:
        rows: columns id, response.
        pooled: POOLED. A response that is none of these has the answer "" and the share 0.
        judge: compares the answers to a question.
    """
    answers = pooled.unique(["id", "response"], keep="first", maintain_order=True)
    counted, counts = count_votes(number_votes(pooled), judge)
    share = pl.col("votes") / pl.col("votes").sum().over("question")
    counts = counts.with_columns(share=share).join(counted, on="question")
    # A judge may have added the votes for an answer to those for an equal one.
    shares = (
        answers.select("id", "prediction")
        .unique(maintain_order=True)
        .join(counts.select("id", "share", answer="prediction"), on="id", maintain_order="left")
    )
    verdicts = judge_table(shares.select("id", "prediction", "answer"), judge)
    same = (pl.col("prediction") == pl.col("answer")) | (verdicts == "right")
    shares = shares.filter(same).unique(["id", "prediction"], keep="any")
    return (
        rows.select("id", "response")
        .join(
            answers.select("id", "response", "prediction"),
            on=["id", "response"],
            how="left",
            maintain_order="left",
        )
        .join(
            shares.select("id", "prediction", "share"),
            on=["id", "prediction"],
            how="left",
            maintain_order="left",
        )
        .with_columns(pl.col("prediction").fill_null(""), pl.col("share").fill_null(0.0))
        .select(SELECTED.names())
    )


def _check_rows(reference: str, rows: Any, columns: Sequence[str], known: set[str]) -> None:
    """Check what a user's function returned."""
    wanted = f"return a polars table with the columns id, {', '.join(columns)}, all texts"
    if not isinstance(rows, pl.DataFrame):
        raise ValueError(f"{reference}: returned {type(rows).__name__}; {wanted}")
    if "id" not in rows.columns or any(rows.schema.get(name) != pl.String for name in columns):
        returned = ", ".join(f"{name} ({dtype})" for name, dtype in rows.schema.items())
        raise ValueError(f"{reference}: returned the columns {returned}; {wanted}")
    if rows.is_empty():
        raise ValueError(f"{reference}: returned no rows; keep some question")
    for number, (name, *texts) in enumerate(rows.select("id", *columns).iter_rows()):
        if str(name) not in known:
            raise ValueError(f"{reference}: row {number} has id {name!r}, no question of train_2")
        for column, text in zip(columns, texts, strict=True):
            if not (text or "").strip():
                raise ValueError(f"{reference}: row {number} with id {name!r} has no {column}")
        if len(set(texts)) < len(texts):
            both = " and ".join(columns)
            raise ValueError(f"{reference}: row {number} with id {name!r} has one text as {both}")


def number_votes(pooled: pl.DataFrame) -> pl.DataFrame:
    """POOLED in which `sample` numbers all answers to a question."""
    return pooled.with_columns(sample=pl.int_range(pl.len()).over("id").cast(pl.Int32))


def _keep(
    pooled: pl.DataFrame,
    answered: pl.DataFrame,
    settings: Mapping[str, Any],
    judge: Judge,
    seed: int,
) -> set[str]:
    """Ids of the kept questions."""
    match settings["keep"]:
        case "all":
            return set(answered["id"])
        case "share":
            # A share such as 3/10 has a rounding error, which must not move it below 0.3.
            sure = pl.col("confidence") >= settings["min_share"] - 1e-9
            return set(answered.filter(sure)["id"])
        case "agreement":
            agreeing = set(answered["id"])
            for (_,), table in pooled.group_by("source"):
                own = majority_vote(table, judge=judge).select("id", own="majority")
                pairs = answered.join(own, on="id", maintain_order="left")
                verdicts = judge_table(pairs.select("id", "own", "majority"), judge)
                agreeing &= set(pairs.filter((verdicts == "right") & _as_empty("own"))["id"])
            return agreeing
        case "entropy":
            entropies = answer_entropy(pooled, judge).join(
                answered.select("id"), on="id", how="right", maintain_order="right"
            )
            count = round(settings["fraction"] * entropies.height)
            return set(entropies.sort("entropy", maintain_order=True).head(count)["id"])
        case "random":
            count = round(settings["fraction"] * answered.height)
            return set(Random(seed).sample(answered["id"].to_list(), count))
    raise ValueError(f"keep: {settings['keep']!r} is not one of {', '.join(KEEPS)}")


def _as_empty(answer: str) -> pl.Expr:
    """Whether the answer in a column and the majority answer are both none, or both some."""
    return (pl.col(answer) == "") == (pl.col("majority") == "")


def _other_answers(pooled: pl.DataFrame, answered: pl.DataFrame, judge: Judge) -> pl.DataFrame:
    """The most frequent answer of each question that is wrong if its answer is right.

    Args:
        pooled: POOLED.
        answered: columns id, majority.
        judge: compares the answers to a question.

    Returns:
        Columns id, majority (that other answer), confidence (its share of the votes), of the
        questions that have one. No answer is no other answer.
    """
    questions, counts = count_votes(number_votes(pooled), judge)
    share = pl.col("votes") / pl.col("votes").sum().over("question")
    others = (
        counts.with_columns(confidence=share)
        .filter(pl.col("prediction") != "")
        .join(questions, on="question")
        .join(answered.select("id", "majority"), on="id")
        .sort("question", "votes", "first", descending=[False, True, False])
    )
    verdicts = judge_table(others.select("id", "prediction", "majority"), judge)
    others = others.filter(verdicts == "wrong").unique("id", keep="first", maintain_order=True)
    return others.select("id", "confidence", majority="prediction")


def answer_entropy(pooled: pl.DataFrame, judge: Judge = string_judge) -> pl.DataFrame:
    """Entropy of the answers to each question, in nats; no answer counts as an answer.

    Args:
        pooled: POOLED.
        judge: compares the answers to a question.

    Returns:
        Columns id, entropy, in the order of questions.
    """
    questions, counts = count_votes(number_votes(pooled), judge)
    share = pl.col("votes") / pl.col("votes").sum().over("question")
    entropies = (
        counts.with_columns(share=share)
        .group_by("question")
        .agg(entropy=-(pl.col("share") * pl.col("share").log()).sum().round(12))
    )
    return questions.join(entropies, on="question", how="left", maintain_order="left").select(
        "id", "entropy"
    )


def _any_texts(pooled: pl.DataFrame, ids: Sequence[str], take: str) -> pl.DataFrame:
    """The texts of questions that become rows, whatever their answers, in the order of the ids."""
    order = pl.DataFrame({"id": ids}, schema={"id": pl.String})
    return _take(order.join(pooled, on="id", maintain_order="left_right"), take)


def _take(texts: pl.DataFrame, take: str) -> pl.DataFrame:
    """The texts of each question that become rows."""
    if take == "all":
        return texts.unique(["id", "response"], keep="first", maintain_order=True)
    if take == "each":
        return texts.unique(["id", "source"], keep="first", maintain_order=True)
    if take == "shortest":
        order = texts.select(pl.col("id").unique(maintain_order=True)).with_row_index("question")
        texts = texts.with_columns(length=pl.col("response").str.len_chars())
        texts = texts.join(order, on="id").sort("question", "length", maintain_order=True)
    elif take not in ("first", "other"):
        raise ValueError(f"take: {take!r} is not one of {', '.join(TAKES)}")
    return texts.unique("id", keep="first", maintain_order=True)
