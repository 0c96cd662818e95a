"""Contrastive pairs for preference optimisation (paper, Stage II)."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import polars as pl

from weak_to_strong.method.agreement import odd_ids
from weak_to_strong.method.answers import Judge, judge_table, string_judge
from weak_to_strong.method.prompts import prompt_column
from weak_to_strong.tables.frames import ROWS_OF_A_GROUP
from weak_to_strong.tables.schemas import PAIRS


def build_pairs(
    weak: pl.DataFrame,
    samples: pl.DataFrame | pl.LazyFrame,
    votes: pl.DataFrame,
    questions: pl.DataFrame,
    *,
    min_confidence: float = 0.6,
    weak_rejected_confidence: float = 0.8,
    pairs_per_question: int = 1,
    weak_side: bool = True,
    rng_seed: int = 42,
    prompt: str = "question_answer",
    judge: Judge = string_judge,
) -> pl.DataFrame:
    """Pair the weak model's answer with samples of M_plus, the majority answer telling right.

    A question gives pairs if its majority answer is not empty and has at least `min_confidence`:
    the weak answer is chosen over samples with another answer if it is the majority answer, and
    rejected for samples with the majority answer if it is not and the majority has at least
    `weak_rejected_confidence`. Where all samples agree there is nothing to reject, so a weak answer
    that agrees too gives no pair.

    An answer that the judge cannot compare with the majority is on neither side of a pair.

    One random generator serves all questions in row order, so the pairs of a question depend on
    the rows before it.

    Args:
        weak: LABELS of the weak model on train_2.
        samples: SAMPLES of M_plus; of a lazy table only the texts that are drawn are kept.
        votes: VOTES over these samples.
        questions: QUESTIONS of train_2; their row order is that of the draws and of the result.
        min_confidence: least majority share, in [0, 1].
        weak_rejected_confidence: least majority share to reject a weak answer, in [0, 1].
        pairs_per_question: most pairs of a question (paper: 1 for GSM8K, 3 for the other tasks).
        weak_side: false makes both sides from samples of M_plus (an ablation of the paper);
            the column `weak_side` is then "none".
        rng_seed: seed of the generator.
        prompt: style of the prompts, see `prompts.problem_prompt`.
        judge: says which answers are the majority answer.

    Returns:
        PAIRS; chosen and rejected text start with one space.

    Raises:
        ValueError: tables of different questions, or settings that leave no pair.
    """
    samples = samples.lazy()
    asked = questions.select("id").with_row_index("number")
    for what, table in (("weak labels", weak), ("samples", samples), ("votes", votes)):
        ids = table.lazy().select(pl.col("id").unique()).collect(engine="streaming")
        if len(odd := odd_ids(ids["id"], asked["id"])):
            raise ValueError(f"{what} are not of the questions of train_2: id {odd.min()!r}")
    confident = (
        asked.join(votes, on="id", maintain_order="left")
        .filter(pl.col("majority") != "", pl.col("confidence") >= min_confidence)
        .join(weak.select("id", weak_answer="prediction"), on="id", maintain_order="left")
        .select("number", "id", "majority", "confidence", "weak_answer")
    )
    said = (
        samples.with_row_index("row")
        .select("row", "id", "sample", "prediction")
        .join(confident.lazy(), on="id")
        .select("number", "id", "row", "sample", "prediction", "majority")
        .collect(engine="streaming")
    )
    weak_verdicts, verdicts = _judge_answers(confident, said, judge)
    said = (
        said.select("number", "row", "sample", wrong=verdicts == "wrong")
        .filter(verdicts.is_in(["right", "wrong"]))
        .sort("number", "wrong", "sample", "row")
        .drop("sample")
    )
    sides = (
        said.group_by("number")
        .agg(right=(~pl.col("wrong")).sum(), wrong=pl.col("wrong").sum())
        .join(confident.with_columns(weak_verdict=weak_verdicts), on="number", how="right")
        .sort("number")
        .with_columns(pl.col("right", "wrong").fill_null(0).cast(pl.Int64))
        .with_columns(start=(pl.col("right") + pl.col("wrong")).cum_sum().shift(1, fill_value=0))
    )
    positives, negatives = (
        drawn.with_columns(row=said["row"].gather(drawn["place"])).drop("place")
        for drawn in _draw(
            sides, weak_rejected_confidence, pairs_per_question, weak_side, Random(rng_seed)
        )
    )
    if pairs_per_question > 1:
        right = said.filter(~pl.col("wrong")).select("number", "row")
        positives = _add_positives(positives, right, samples, pairs_per_question)
    chosen, rejected = positives.rename({"row": "chosen"}), negatives.rename({"row": "rejected"})
    if weak_side:
        pairs = pl.concat([chosen, rejected], how="diagonal")
    else:
        pairs = chosen.join(rejected, on=["number", "slot"])
    if pairs.is_empty():
        sure = (votes["confidence"] >= min_confidence).sum()
        raise ValueError(
            f"no question gives a contrastive pair: {sure} of {len(questions)} reach "
            f"min_confidence {min_confidence}; lower `pairs.min_confidence` or "
            "`pairs.weak_rejected_confidence`, or raise `sampling.temperature`"
        )
    used = pl.concat([pairs["chosen"], pairs["rejected"]]).drop_nulls().unique()
    texts = _read_texts(samples, used.alias("row").to_frame())
    shown = asked.join(pairs, on="number", how="semi").join(
        questions, on="id", how="left", maintain_order="left"
    )
    shown = shown.with_columns(prompt_column(shown, prompt)).select("number", "prompt")
    none, given = pl.lit("none"), pl.col("rejected").is_null()
    side = pl.when(given).then(pl.lit("rejected")).otherwise(pl.lit("chosen"))
    return (
        pairs.sort("number", "slot")
        .join(confident, on="number", how="left", maintain_order="left")
        .join(shown, on="number", how="left", maintain_order="left")
        .join(weak.select("id", weak="response"), on="id", how="left", maintain_order="left")
        .join(texts, left_on="chosen", right_on="row", how="left", maintain_order="left")
        .join(texts, left_on="rejected", right_on="row", how="left", maintain_order="left")
        .select(
            "id",
            "prompt",
            chosen=pl.coalesce("text", pl.lit(" ") + pl.col("weak")),
            rejected=pl.coalesce("text_right", pl.lit(" ") + pl.col("weak")),
            weak_side=side if weak_side else none,
            confidence="confidence",
        )
        .cast(dict(PAIRS))
    )


def _judge_answers(
    confident: pl.DataFrame, said: pl.DataFrame, judge: Judge
) -> tuple[pl.Series, pl.Series]:
    """Verdicts on the weak answers and on those of samples, against the majority answers."""
    if judge is string_judge:
        weak = judge_table(confident.select("id", "weak_answer", "majority"), judge)
        return weak, judge_table(said.select("id", "prediction", "majority"), judge)
    columns = ("number", "id", "answer", "majority")
    given = pl.concat(
        [
            confident.rename({"weak_answer": "answer"}).select(columns),
            said.rename({"prediction": "answer"}).select(columns),
        ]
    )
    # Each answer to a question once, the weak one first.
    once = given.sort("number", maintain_order=True).unique(maintain_order=True)
    once = once.with_columns(judge_table(once.select("id", "answer", "majority"), judge))
    verdicts = given.join(
        once.select("number", "answer", "verdict"),
        on=["number", "answer"],
        how="left",
        maintain_order="left",
    )["verdict"]
    return verdicts.head(len(confident)), verdicts.tail(len(said))


def _draw(
    sides: pl.DataFrame,
    weak_rejected_confidence: float,
    pairs_per_question: int,
    weak_side: bool,
    rng: Random,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The first positive and the negatives of each question that gives pairs.

    Args:
        sides: number (of the question), weak_verdict, confidence, and where its samples are: from
            place `start` on `right` positives, then `wrong` negatives.

    Returns:
        Two tables of number, slot (which pair of the question) and place.
    """
    positives: list[tuple[int, int, int]] = []
    negatives: list[tuple[int, int, int]] = []
    columns = ("number", "weak_verdict", "confidence", "start", "right", "wrong")
    for number, verdict, confidence, start, right, wrong in sides.select(columns).iter_rows():
        take_negatives = bool(wrong) and (not weak_side or verdict == "right")
        if take_negatives:
            drawn = _draw_negatives(rng, wrong, pairs_per_question)
            first = start + right
            negatives += [(number, slot, first + each) for slot, each in enumerate(drawn)]
        if weak_side:
            take_positive = verdict == "wrong" and confidence >= weak_rejected_confidence
        else:
            take_positive = take_negatives
        if take_positive:
            positives.append((number, 0, start + rng.choice(range(right))))
    schema = {"number": pl.UInt32, "slot": pl.Int64, "place": pl.Int64}
    return tuple(pl.DataFrame(rows, schema=schema, orient="row") for rows in (positives, negatives))


def _draw_negatives(rng: Random, size: int, count: int) -> Sequence[int]:
    """Of `size`: one at random for a count of 1; else `count` at random, or all if no more."""
    if count == 1:
        return [rng.choice(range(size))]
    return rng.sample(range(size), count) if size > count else range(size)


def _add_positives(
    first: pl.DataFrame, right: pl.DataFrame, samples: pl.LazyFrame, count: int
) -> pl.DataFrame:
    """To each first positive the others in order whose text differs from it, up to `count`.

    Args:
        first: number, slot, row; one for a question.
        right: number, row of all positives in order.
    """
    others = right.with_row_index("order").join(first.select("number"), on="number")
    text_of_first = first.select("number", "row").join(
        _read_texts(samples, first.select("row")), on="row"
    )
    differing = (
        samples.with_row_index("row")
        .select("row", text=pl.lit(" ") + pl.col("response"))
        .join(others.lazy(), on="row")
        .join(text_of_first.lazy().select("number", first="text"), on="number")
        .filter(pl.col("text") != pl.col("first"))
        .select("number", "row", "order")
        .collect(engine="streaming")
        .sort("order")
        .with_columns(slot=pl.int_range(1, pl.len() + 1).over("number"))
        .filter(pl.col("slot") < count)
    )
    return pl.concat([first, differing.select(first.columns).cast(dict(first.schema))])


def _read_texts(samples: pl.LazyFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """[row, text] of some rows, the responses after one space; others are read past.

    Piece by piece, and as new strings: those of a filtered column keep in memory all that was read.
    """
    size = samples.select(pl.len()).collect(engine="streaming").item()
    pieces = [
        samples.slice(start, ROWS_OF_A_GROUP)
        .select("response")
        .with_row_index("row", start)
        .join(rows.lazy(), on="row", how="semi")
        .select("row", text=pl.lit(" ") + pl.col("response"))
        .collect()
        for start in range(0, size, ROWS_OF_A_GROUP)
    ]
    return pl.concat(pieces)
