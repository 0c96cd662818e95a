"""Quality of weak labels, of the agreement filter, of pairs and of votes, against withheld gold.

The only module that holds train_2's gold against what the strong model is trained on: nothing
here may feed back into training. Rightness is what the task's judge says: as a rule string equality
after the paper's normalisation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from weak_to_strong.evaluation.judges import choose_judge
from weak_to_strong.evaluation.stats import clustered_wilson_interval, wilson_interval
from weak_to_strong.method.answers import (
    PAPER,
    Judge,
    PaperQuirks,
    normalise_column,
    predict_column,
    string_judge,
)
from weak_to_strong.tables.frames import read_table
from weak_to_strong.tables.schemas import GOLD, KEPT, LABELS, PAIRS, QUESTIONS, VOTES

#: One measured value; `n` is its denominator, `ci_low` and `ci_high` a 95 % Wilson interval.
DIAGNOSTICS = pl.Schema(
    {
        "task": pl.String,
        "weak": pl.String,
        "strong": pl.String,
        "seed": pl.Int32,
        "diagnostic": pl.String,
        "method": pl.String,
        "iteration": pl.Int32,
        "name": pl.String,
        "value": pl.Float64,
        "n": pl.Int32,
        "ci_low": pl.Float64,
        "ci_high": pl.Float64,
    }
)


def _share(name: str, part: int, whole: int) -> dict:
    """A share with its interval; null where there is nothing to divide by."""
    low, high = wilson_interval(part, whole)
    value = part / whole if whole else math.nan
    return {"name": name, "value": value, "n": whole, "ci_low": low, "ci_high": high}


def _pair_share(name: str, right: pl.Series, pairs: pl.DataFrame) -> dict:
    """A share of pairs; those of one question are a cluster, they have texts in common."""
    low, high = clustered_wilson_interval(right, pairs["id"])
    value = right.sum() / pairs.height if pairs.height else math.nan
    return {"name": name, "value": value, "n": pairs.height, "ci_low": low, "ci_high": high}


def _number(name: str, value: float, n: int) -> dict:
    return {"name": name, "value": float(value), "n": n, "ci_low": math.nan, "ci_high": math.nan}


def gold_answers(
    gold: pl.DataFrame, quirks: PaperQuirks = PAPER, *, raw: bool = False
) -> pl.DataFrame:
    """[id, gold]: the answer of each question of GOLD or PROBLEMS, normalised unless `raw`."""
    answers = gold["answer"] if raw else normalise_column(gold["answer"], quirks)
    return gold.select("id").with_columns(gold=answers)


def right_rows(
    predictions: pl.DataFrame,
    gold: pl.DataFrame,
    column: str = "prediction",
    judge: Judge = string_judge,
) -> pl.DataFrame:
    """The rows whose prediction is the gold answer; an empty prediction never is.

    Raises:
        ValueError: an id has no gold answer.
    """
    joined = predictions.join(gold, on="id", how="left", maintain_order="left")
    if joined["gold"].null_count():
        id_ = joined.filter(pl.col("gold").is_null())["id"][0]
        raise ValueError(f"diagnostics: id {id_!r} has no gold answer; split the task again")
    answered = joined.filter(pl.col(column) != "")
    verdicts = judge(answered.select("id", column, "gold").rows())
    return answered.filter(pl.Series(verdicts, dtype=pl.String) == "right")


def right_ids(
    predictions: pl.DataFrame,
    gold: pl.DataFrame,
    column: str = "prediction",
    judge: Judge = string_judge,
) -> set[str]:
    """ids of `right_rows`."""
    return set(right_rows(predictions, gold, column, judge)["id"])


def label_quality(
    labels: pl.DataFrame, gold: pl.DataFrame, judge: Judge = string_judge
) -> list[dict]:
    """Accuracy of one side's labels over all its questions, and its share of empty answers."""
    empty = (labels["prediction"] == "").sum()
    return [
        _share("accuracy", len(right_ids(labels, gold, judge=judge)), labels.height),
        _share("empty", empty, labels.height),
    ]


def filter_quality(
    kept: pl.DataFrame,
    weak: pl.DataFrame,
    icl: pl.DataFrame,
    gold: pl.DataFrame,
    judge: Judge = string_judge,
) -> list[dict]:
    """Quality of the agreement filter of Stage I (paper section 3.1).

    Padding with disagreeing questions, an ablation, does not count as kept.

    precision: right among kept questions.
    recall: kept and right, among questions on which the weak or the ICL answer is right: what a
        perfect choice between the two sides would reach.
    kept: kept among all questions.
    weak_accuracy, icl_accuracy: right among all answers of a side, for comparison with precision.

    Args:
        kept: KEPT. weak, icl: LABELS of both sides. gold: as `gold_answers` gives it.
    """
    kept = kept.filter(pl.col("prediction").is_not_null())
    right = right_ids(kept, gold, judge=judge)
    labels = {"weak": weak, "icl": icl}
    sides = {side: (right_ids(of, gold, judge=judge), of) for side, of in labels.items()}
    attainable = sides["weak"][0] | sides["icl"][0]
    return [
        _share("precision", len(right), kept.height),
        _share("recall", len(right), len(attainable)),
        _share("kept", kept.height, weak.height),
        *(_share(f"{side}_accuracy", len(ids), of.height) for side, (ids, of) in sides.items()),
    ]


def pair_quality(
    pairs: pl.DataFrame,
    gold: pl.DataFrame,
    answer_key: str,
    quirks: PaperQuirks = PAPER,
    judge: Judge = string_judge,
    extraction: str = "paper",
) -> list[dict]:
    """Whether Stage II prefers what is right (paper section 3.2).

    chosen_accuracy, rejected_accuracy: right among the chosen and among the rejected responses.
    weak_chosen: pairs in which the weak model's response is the chosen one.
    questions: distinct questions (`n` is pairs).
    """
    found = []
    raw = judge is not string_judge
    for side in ("chosen", "rejected"):
        texts = pairs[side].str.strip_chars()
        found_answers = predict_column(texts, answer_key, quirks, raw=raw, extraction=extraction)
        answers = pairs.select("id", found_answers)
        right = right_rows(answers.with_row_index("pair"), gold, judge=judge)["pair"]
        numbers = pl.int_range(pairs.height, dtype=pl.UInt32, eager=True)
        found.append(_pair_share(f"{side}_accuracy", numbers.is_in(right.implode()), pairs))
    found.append(_pair_share("weak_chosen", pairs["weak_side"] == "chosen", pairs))
    found.append(_number("questions", pairs["id"].n_unique(), pairs.height))
    return found


def confidence_calibration(
    votes: pl.DataFrame, gold: pl.DataFrame, bins: int = 10, judge: Judge = string_judge
) -> tuple[pl.DataFrame, float]:
    """How the confidence of majority answers compares with their accuracy.

    Bins have equal width and hold (low, high], the first also 0. Questions whose majority is
    empty are left out: they claim no answer.

    Returns:
        [bin_low, bin_high, n, right, mean_confidence, accuracy] of the bins that hold a question,
        and the expected calibration error: the sum over bins of n/N · |accuracy - mean_confidence|
        (Guo et al. 2017, equation 3); nan without questions.
    """
    answered = votes.filter(pl.col("majority") != "")
    right = right_ids(answered, gold, "majority", judge)
    # A share such as 3/10 must not fall into the next bin by its last binary digit.
    number = ((pl.col("confidence") * bins - 1e-9).ceil() - 1).clip(0, bins - 1)
    table = (
        answered.with_columns(
            number=number.cast(pl.Int32),
            right=answered["id"].is_in(list(right)),
        )
        .group_by("number")
        .agg(
            n=pl.len().cast(pl.Int32),
            right=pl.col("right").sum().cast(pl.Int32),
            mean_confidence=pl.col("confidence").mean(),
            accuracy=pl.col("right").mean(),
        )
        .sort("number")
        .select(
            ((pl.col("number")) / bins).alias("bin_low"),
            ((pl.col("number") + 1) / bins).alias("bin_high"),
            *("n", "right", "mean_confidence", "accuracy"),
        )
    )
    if not answered.height:
        return table, math.nan
    gaps = (table["accuracy"] - table["mean_confidence"]).abs()
    return table, float((gaps * table["n"]).sum() / answered.height)


def calibration_quality(
    votes: pl.DataFrame, gold: pl.DataFrame, bins: int = 10, judge: Judge = string_judge
) -> list[dict]:
    """`confidence_calibration` as named values: "bin 0.6-0.7 accuracy" and the like, and "ece".

    The bounds in names have as many decimals as it takes to tell `bins` bins apart, and one more
    where they would be rounded. All have the same width, so names sort in the order of the bins.
    `accuracy` is that of all non-empty majority answers, `empty` the share without one.
    """
    table, error = confidence_calibration(votes, gold, bins, judge)
    answered = int(table["n"].sum())
    found = [
        _share("accuracy", int(table["right"].sum()), answered),
        _share("empty", votes.height - answered, votes.height),
        _number("ece", error, answered),
    ]
    decimals = len(str(bins - 1))
    decimals += 10**decimals % bins > 0
    for row in table.iter_rows(named=True):
        name = f"bin {row['bin_low']:.{decimals}f}-{row['bin_high']:.{decimals}f}"
        found.append(_share(f"{name} accuracy", row["right"], row["n"]))
        found.append(_number(f"{name} confidence", row["mean_confidence"], row["n"]))
    return found


def chain_diagnostics(chain: Mapping[str, Any], bins: int = 10, workers: int = 1) -> Iterator[dict]:
    """Rows of one chain; none where its task has no gold answers of train_2.

    Args:
        chain: {task, weak, strong, seed, answer_key}, `variant` (an ablation's name, which the
            column `method` then carries as `<method>@<variant>`), `quirks` (name -> on or off, as
            in the released code where absent), `extraction` (the paper's where absent), `judge` (of
            `judges.choose_judge`; of strings where absent), and paths: gold (GOLD), questions
            (QUESTIONS, for another judge), kept, weak_labels, icl_labels (lists, one path an
            iteration), votes (or None), pairs (method -> path).

    Raises:
        ValueError: a table cannot be read, or the lists differ in length.
    """
    facts = {key: chain[key] for key in ("task", "weak", "strong", "seed")}
    sides = {"weak": chain["weak_labels"], "icl": chain["icl_labels"]}
    lengths = {len(paths) for paths in (chain["kept"], *sides.values())}
    if len(lengths) > 1:
        raise ValueError(
            f"diagnostics: chain {facts} names other numbers of kept and labelled tables"
        )
    quirks = PaperQuirks(**chain.get("quirks", {}))
    withheld = read_table(chain["gold"], GOLD)
    if withheld["answer"].null_count() == withheld.height:
        return
    judge = string_judge
    if chain.get("judge", {"name": "string"})["name"] != "string":
        judge = choose_judge(chain["judge"], read_table(chain["questions"], QUESTIONS), workers)
    gold = gold_answers(withheld, quirks, raw=judge is not string_judge)
    variant = chain.get("variant", "")

    def rows(diagnostic: str, method: str, iteration: int, values: list[dict]) -> Iterator[dict]:
        method = "@".join(filter(None, [method, variant]))
        for value in values:
            head = {"diagnostic": diagnostic, "method": method, "iteration": iteration}
            yield {**facts, **head, **value}

    for iteration, (kept_path, *label_paths) in enumerate(
        zip(chain["kept"], *sides.values(), strict=True), start=1
    ):
        labels = [read_table(path, LABELS) for path in label_paths]
        for side, table in zip(sides, labels, strict=True):
            yield from rows("labels", side, iteration, label_quality(table, gold, judge))
        quality = filter_quality(read_table(kept_path, KEPT), *labels, gold, judge)
        yield from rows("filter", "agreement", iteration, quality)
    if chain["votes"]:
        votes = read_table(chain["votes"], VOTES)
        quality = calibration_quality(votes, gold, bins, judge)
        yield from rows("calibration", "majority", 0, quality)
    for method, path in chain["pairs"].items():
        pairs = read_table(path, PAIRS)
        extraction = chain.get("extraction", "paper")
        quality = pair_quality(pairs, gold, chain["answer_key"], quirks, judge, extraction)
        yield from rows("pairs", method, 0, quality)


def diagnostics_table(
    chains: Sequence[Mapping[str, Any]], bins: int = 10, workers: int = 1
) -> pl.DataFrame:
    """DIAGNOSTICS of all chains, in their order; `workers` as for the judge."""
    rows = [row for chain in chains for row in chain_diagnostics(chain, bins, workers)]
    table = pl.DataFrame(rows, schema=DIAGNOSTICS)
    numbers = pl.col("value", "ci_low", "ci_high")
    return table.with_columns(numbers.fill_nan(None).round_sig_figs(10))
