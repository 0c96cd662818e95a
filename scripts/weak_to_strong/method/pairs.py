"""Contrastive pairs for preference optimisation (paper section 3.2, Stage II)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import polars as pl

from weak_to_strong.method.agreement import unmatched_ids
from weak_to_strong.method.answers import Judge, judge_table, string_judge
from weak_to_strong.method.prompts import prompt_column
from weak_to_strong.tables.frames import ROWS_OF_A_GROUP
from weak_to_strong.tables.schemas import PAIRS

#: What to do where the paper's way gives no pair.
ADVICE = (
    "lower `pairs.min_confidence` or `pairs.weak_rejected_confidence`, or raise "
    "`sampling.temperature`"
)


@dataclass(frozen=True)
class PairSettings:
    """Which questions give pairs, and how many: `pairs` of the configuration.

    Attributes:
        min_confidence: least confidence of the majority answer, in [0, 1].
        weak_rejected_confidence: least confidence to reject a weak answer, in [0, 1].
        pairs_per_question: most pairs of a question (paper: 1 for GSM8K, 3 for the other tasks).
        weak_side: whether one side of each pair is the weak model's answer. False takes both sides
            from samples of M_plus (an ablation of the paper).
        rng_seed: seed of the draws (released code: 42).
    """

    min_confidence: float = 0.6
    weak_rejected_confidence: float = 0.8
    pairs_per_question: int = 1
    weak_side: bool = True
    rng_seed: int = 42


def build_pairs(
    weak: pl.DataFrame,
    samples: pl.DataFrame | pl.LazyFrame,
    votes: pl.DataFrame,
    questions: pl.DataFrame,
    settings: PairSettings = PairSettings(),
    *,
    prompt: str = "question_answer",
    judge: Judge = string_judge,
    advice: str = ADVICE,
) -> pl.DataFrame:
    """Pair the weak model's answer with samples of M_plus (paper section 3.2).

    The majority answer of the samples stands in for the right answer. A question gives pairs if its
    majority answer is not empty and has a confidence of at least `min_confidence`:

    - The weak answer is the majority answer: it is chosen, and samples with another answer are
      rejected. If all samples agree there is nothing to reject, and the question gives no pair.
    - The weak answer is another one, and the confidence is at least `weak_rejected_confidence`: it
      is rejected, and samples with the majority answer are chosen.

    An answer that the judge cannot compare with the majority answer is on neither side of a pair.
    One random generator serves all questions in row order, as in the released code, so the pairs of
    a question depend on the rows before it.

    Args:
        weak: LABELS of the weak model on train_2.
        samples: SAMPLES of M_plus. Of a lazy table only the drawn texts are kept in memory.
        votes: VOTES over these samples.
        questions: QUESTIONS of train_2; their row order is that of the draws and of the result.
        settings: which questions give pairs, and how many.
        prompt: style of the prompts, see `prompts.problem_prompt`.
        judge: compares answers with the majority answer.
        advice: what to do where no question gives a pair, for the message.

    Returns:
        PAIRS; chosen and rejected text start with one space. The column `weak_side` is "none" where
        both sides are samples.

    Raises:
        ValueError: the tables are of different questions, or no question gives a pair.
    """
    samples = samples.lazy()
    numbered = questions.select("id").with_row_index("number")
    for name, table in (("weak labels", weak), ("samples", samples), ("votes", votes)):
        _check_questions(name, table, numbered["id"])
    confident = (
        numbered.join(votes, on="id", maintain_order="left")
        .filter(pl.col("majority") != "", pl.col("confidence") >= settings.min_confidence)
        .join(weak.select("id", weak_answer="prediction"), on="id", maintain_order="left")
        .select("number", "id", "majority", "confidence", "weak_answer")
    )
    pairs = _pair_rows(confident, samples, settings, judge)
    if pairs.is_empty():
        reached = (votes["confidence"] >= settings.min_confidence).sum()
        raise ValueError(
            f"no question gives a contrastive pair: {reached} of {len(questions)} reach "
            f"min_confidence {settings.min_confidence}; {advice}"
        )
    paired = questions.filter(pl.col("id").is_in(numbered["id"].gather(pairs["number"]).implode()))
    prompts = paired.select("id").with_columns(prompt_column(paired, prompt))
    pairs = pairs.join(confident, on="number")
    return _fill_texts(pairs, weak, samples, prompts, settings.weak_side)


def shuffle_sides(pairs: pl.DataFrame, seed: int) -> pl.DataFrame:
    """PAIRS in which a fair coin exchanges the chosen and the rejected text, pair by pair.

    A control: nothing is left to prefer, while texts, prompts and number of steps are the same.

    Args:
        pairs: PAIRS.
        seed: of the coins.
    """
    rng = Random(seed)
    coins = [rng.random() < 0.5 for _ in range(len(pairs))]
    return swap_sides(pairs, pl.Series(coins, dtype=pl.Boolean))


def swap_sides(pairs: pl.DataFrame, where: pl.Series | bool = True) -> pl.DataFrame:
    """PAIRS with chosen and rejected text exchanged, in all rows or in some.

    Args:
        pairs: PAIRS.
        where: Boolean for each row, or for all.
    """
    sides = {"chosen": "rejected", "rejected": "chosen"}
    swapped = {
        **{side: pl.col(other) for side, other in sides.items()},
        "weak_side": pl.col("weak_side").replace(sides),
    }
    return pairs.with_columns(
        pl.when(pl.lit(where)).then(value).otherwise(pl.col(name)).alias(name)
        for name, value in swapped.items()
    )


def _check_questions(name: str, table: pl.DataFrame | pl.LazyFrame, ids: pl.Series) -> None:
    """Raise ValueError where a table is not of the questions `ids`."""
    ids_of_table = table.lazy().select(pl.col("id").unique()).collect(engine="streaming")["id"]
    if len(unmatched := unmatched_ids(ids_of_table, ids)):
        raise ValueError(f"{name} are not of the questions of train_2: id {unmatched.min()!r}")


def _pair_rows(
    confident: pl.DataFrame, samples: pl.LazyFrame, settings: PairSettings, judge: Judge
) -> pl.DataFrame:
    """The rows of `samples` that stand on each side of each pair.

    Args:
        confident: columns number, id, majority, confidence, weak_answer; one row for each question
            with a majority answer of enough confidence.
        samples: SAMPLES.
        settings: see `PairSettings`.
        judge: compares answers with the majority answer.

    Returns:
        Columns number, slot, chosen, rejected, see `_draw` for the first two. The last two are rows
        of `samples`; null stands for the weak model's response.
    """
    answers = (
        samples.with_row_index("row")
        .select("row", "id", "sample", "prediction")
        .join(confident.lazy(), on="id")
        .select("number", "id", "row", "sample", "prediction", "majority")
        .collect(engine="streaming")
    )
    weak_verdicts, verdicts = _judge_answers(confident, answers, judge)
    ranked = _rank_samples(answers, verdicts)
    sides = _locate_samples(confident.with_columns(weak_verdict=weak_verdicts), ranked)
    positives, negatives = (
        places.with_columns(row=ranked["row"].gather(places["place"])).drop("place")
        for places in _draw(sides, settings, Random(settings.rng_seed))
    )
    if settings.pairs_per_question > 1:
        right = ranked.filter(~pl.col("wrong")).select("number", "row")
        positives = _add_positives(positives, right, samples, settings.pairs_per_question)
    chosen, rejected = positives.rename({"row": "chosen"}), negatives.rename({"row": "rejected"})
    if settings.weak_side:  # the side without a sample is the weak model's
        return pl.concat([chosen, rejected], how="diagonal")
    return chosen.join(rejected, on=["number", "slot"])


def _rank_samples(answers: pl.DataFrame, verdicts: pl.Series) -> pl.DataFrame:
    """Columns number, wrong, row: right samples of each question, then wrong ones, by sample."""
    return (
        answers.select("number", "row", "sample", wrong=verdicts == "wrong")
        .filter(verdicts.is_in(["right", "wrong"]))
        .sort("number", "wrong", "sample", "row")
        .drop("sample")
    )


def _locate_samples(confident: pl.DataFrame, ranked: pl.DataFrame) -> pl.DataFrame:
    """Columns of `confident`, and where a question's samples are in `ranked`.

    From row `start` on there are `right` right samples, then `wrong` wrong ones.
    """
    return (
        ranked.group_by("number")
        .agg(right=(~pl.col("wrong")).sum(), wrong=pl.col("wrong").sum())
        .join(confident, on="number", how="right")
        .sort("number")
        .with_columns(pl.col("right", "wrong").fill_null(0).cast(pl.Int64))
        .with_columns(start=(pl.col("right") + pl.col("wrong")).cum_sum().shift(1, fill_value=0))
    )


def _fill_texts(
    pairs: pl.DataFrame,
    weak: pl.DataFrame,
    samples: pl.LazyFrame,
    prompts: pl.DataFrame,
    weak_side: bool,
) -> pl.DataFrame:
    """PAIRS from the sample rows of each pair.

    Args:
        pairs: columns number, slot, id, confidence, chosen, rejected. The last two are rows of
            `samples`; null stands for the weak model's response.
        weak: LABELS of the weak model.
        samples: SAMPLES.
        prompts: columns id, prompt.
        weak_side: whether one side of each pair is the weak model's.
    """
    rows = pl.concat([pairs["chosen"], pairs["rejected"]]).drop_nulls().unique()
    texts = _read_texts(samples, rows.alias("row").to_frame())
    side = (
        pl.when(pl.col("rejected").is_null()).then(pl.lit("rejected")).otherwise(pl.lit("chosen"))
    )
    return (
        pairs.sort("number", "slot")
        .join(prompts, on="id", how="left", maintain_order="left")
        .join(weak.select("id", weak="response"), on="id", how="left", maintain_order="left")
        .join(texts, left_on="chosen", right_on="row", how="left", maintain_order="left")
        .join(texts, left_on="rejected", right_on="row", how="left", maintain_order="left")
        .select(
            "id",
            "prompt",
            chosen=pl.coalesce("text", pl.lit(" ") + pl.col("weak")),
            rejected=pl.coalesce("text_right", pl.lit(" ") + pl.col("weak")),
            weak_side=side if weak_side else pl.lit("none"),
            confidence="confidence",
        )
        .cast(dict(PAIRS))
    )


def _judge_answers(
    confident: pl.DataFrame, answers: pl.DataFrame, judge: Judge
) -> tuple[pl.Series, pl.Series]:
    """Verdicts on the weak answers and on the samples' answers, against the majority answers."""
    if judge is string_judge:
        weak = judge_table(confident.select("id", "weak_answer", "majority"), judge)
        return weak, judge_table(answers.select("id", "prediction", "majority"), judge)
    columns = ("number", "id", "answer", "majority")
    all_answers = pl.concat(
        [
            confident.rename({"weak_answer": "answer"}).select(columns),
            answers.rename({"prediction": "answer"}).select(columns),
        ]
    )
    # Other judges are slow, so each answer to a question is judged once, the weak one first.
    distinct = all_answers.sort("number", maintain_order=True).unique(maintain_order=True)
    distinct = distinct.with_columns(
        judge_table(distinct.select("id", "answer", "majority"), judge)
    )
    verdicts = all_answers.join(
        distinct.select("number", "answer", "verdict"),
        on=["number", "answer"],
        how="left",
        maintain_order="left",
    )["verdict"]
    return verdicts.head(len(confident)), verdicts.tail(len(answers))


def _draw(
    sides: pl.DataFrame, settings: PairSettings, rng: Random
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Draw the first positive and the negatives of each question that gives pairs.

    Positives are samples with the majority answer, negatives are samples with another one.

    Args:
        sides: from `_locate_samples`, with `weak_verdict`.
        settings: see `PairSettings`.
        rng: generator that serves all questions.

    Returns:
        Positives and negatives, each with the columns number (of the question), slot (0 for the
        first pair of a question, 1 for the second, ...) and place (row of the ranked samples).
    """
    positives: list[tuple[int, int, int]] = []
    negatives: list[tuple[int, int, int]] = []
    columns = ("number", "weak_verdict", "confidence", "start", "right", "wrong")
    for number, verdict, confidence, start, right, wrong in sides.select(columns).iter_rows():
        take_negatives = bool(wrong) and (not settings.weak_side or verdict == "right")
        if take_negatives:
            drawn = _draw_negatives(rng, wrong, settings.pairs_per_question)
            first = start + right
            negatives += [(number, slot, first + offset) for slot, offset in enumerate(drawn)]
        if settings.weak_side:
            confident = confidence >= settings.weak_rejected_confidence
            take_positive = verdict == "wrong" and confident
        else:
            take_positive = take_negatives
        if take_positive:
            positives.append((number, 0, start + rng.choice(range(right))))
    schema = {"number": pl.UInt32, "slot": pl.Int64, "place": pl.Int64}
    return tuple(pl.DataFrame(rows, schema=schema, orient="row") for rows in (positives, negatives))


def _draw_negatives(rng: Random, size: int, count: int) -> Sequence[int]:
    """Numbers below `size`: one at random for a count of 1, else `count` at random.

    If there are no more than `count`, all of them in order.
    """
    if count == 1:
        return [rng.choice(range(size))]
    return rng.sample(range(size), count) if size > count else range(size)


def _add_positives(
    first: pl.DataFrame, right: pl.DataFrame, samples: pl.LazyFrame, count: int
) -> pl.DataFrame:
    """Add further positives whose text differs from the first, up to `count` for each question.

    Args:
        first: columns number, slot, row; one row for each question.
        right: columns number, row; all positives in order.
        samples: SAMPLES.
        count: most positives of a question.
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
    """Columns row, text: the responses of some rows, each after one space.

    The table is read piece by piece. The texts are new strings, because strings of a filtered
    column would keep the whole piece in memory.

    Args:
        samples: SAMPLES.
        rows: column row, the wanted row numbers.
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
