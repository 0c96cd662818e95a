"""Quality of labels, agreement filter, votes and pairs, measured with the withheld gold answers.

Only this module compares train_2's gold answers with what the strong model is trained on. Nothing
here may feed back into training. The task's judge decides what is right, see `judges.choose_judge`.
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
from weak_to_strong.method.chat import final_part
from weak_to_strong.method.majority_vote import SAMPLES, majority_vote
from weak_to_strong.tables.frames import read_table
from weak_to_strong.tables.schemas import (
    GOLD,
    KEPT,
    LABELS,
    PAIRS,
    QUESTIONS,
    SELECTED,
    VOTES,
    WEIGHTED_PAIRS,
)

#: One measured value in each row. `n` is what it is a share of; `ci_low` and `ci_high` are a 95 %
#: Wilson interval. `method` names a side (weak, icl) for labels.
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


#: Least share of its samples with which a model is sure of an answer. It is the threshold of the
#: high-confidence experiments in the repository of Yang et al. (arXiv 2406.11431).
SURE = 0.75


def _share(name: str, part: int, whole: int) -> dict:
    """A share with its interval; nan where `whole` is 0."""
    low, high = wilson_interval(part, whole)
    value = part / whole if whole else math.nan
    return {"name": name, "value": value, "n": whole, "ci_low": low, "ci_high": high}


def _pair_share(name: str, right: pl.Series, pairs: pl.DataFrame) -> dict:
    """A share of pairs. Pairs of one question share texts, so they count as a cluster."""
    low, high = clustered_wilson_interval(right, pairs["id"])
    value = right.sum() / pairs.height if pairs.height else math.nan
    return {"name": name, "value": value, "n": pairs.height, "ci_low": low, "ci_high": high}


def _number(name: str, value: float, n: int) -> dict:
    return {"name": name, "value": float(value), "n": n, "ci_low": math.nan, "ci_high": math.nan}


def gold_answers(
    gold: pl.DataFrame, quirks: PaperQuirks = PAPER, *, raw: bool = False
) -> pl.DataFrame:
    """Columns id, gold: the gold answer of each row of GOLD or PROBLEMS.

    It is normalised as in the paper, unless `raw`.
    """
    answers = gold["answer"] if raw else normalise_column(gold["answer"], quirks)
    return gold.select("id").with_columns(gold=answers)


def right_rows(
    predictions: pl.DataFrame,
    gold: pl.DataFrame,
    column: str = "prediction",
    judge: Judge = string_judge,
) -> pl.DataFrame:
    """Rows whose prediction is right. An empty prediction is never right.

    Args:
        predictions: a table with `id` and a column of answers.
        gold: from `gold_answers`.
        column: the column of answers.
        judge: compares answers with gold answers.

    Raises:
        ValueError: an id has no gold answer.
    """
    joined = predictions.join(gold, on="id", how="left", maintain_order="left")
    if joined["gold"].null_count():
        missing = joined.filter(pl.col("gold").is_null())["id"][0]
        raise ValueError(f"diagnostics: id {missing!r} has no gold answer; split the task again")
    answered = joined.filter(pl.col(column) != "")
    verdicts = judge(answered.select("id", column, "gold").rows())
    return answered.filter(pl.Series(verdicts, dtype=pl.String) == "right")


def right_ids(
    predictions: pl.DataFrame,
    gold: pl.DataFrame,
    column: str = "prediction",
    judge: Judge = string_judge,
) -> set[str]:
    """Ids of `right_rows`."""
    return set(right_rows(predictions, gold, column, judge)["id"])


def label_quality(
    labels: pl.DataFrame, gold: pl.DataFrame, judge: Judge = string_judge
) -> list[dict]:
    """Accuracy of one side's LABELS over all questions, and the share without a final answer.

    Args:
        labels: LABELS.
        gold: columns id, gold.
        judge: compares answers with gold answers.

    Raises:
        ValueError: an id has no gold answer.
    """
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
    """Quality of the agreement filter of Stage I (paper section 3.1), as named shares.

    precision: right questions among the kept ones.
    recall: kept and right questions among those that the weak or the ICL side answers right, which
        a perfect choice between the two sides would keep.
    kept: kept questions among all.
    weak_accuracy, icl_accuracy: right answers of a side among all, to compare with precision.

    Padding with disagreeing questions (an ablation) does not count as kept.

    Args:
        kept: KEPT.
        weak, icl: LABELS of both sides.
        gold: from `gold_answers`.
        judge: compares answers with gold answers.
    """
    kept = kept.filter(pl.col("prediction").is_not_null())
    right = right_ids(kept, gold, judge=judge)
    labels = {"weak": weak, "icl": icl}
    right_of = {side: right_ids(table, gold, judge=judge) for side, table in labels.items()}
    attainable = right_of["weak"] | right_of["icl"]
    return [
        _share("precision", len(right), kept.height),
        _share("recall", len(right), len(attainable)),
        _share("kept", kept.height, weak.height),
        *(
            _share(f"{side}_accuracy", len(ids), labels[side].height)
            for side, ids in right_of.items()
        ),
    ]


def pair_quality(
    pairs: pl.DataFrame,
    gold: pl.DataFrame,
    answer_key: str,
    quirks: PaperQuirks = PAPER,
    judge: Judge = string_judge,
    extraction: str = "paper",
    answer_after: str | None = None,
) -> list[dict]:
    """Whether the pairs of Stage II prefer right answers (paper section 3.2), as named values.

    chosen_accuracy, rejected_accuracy: shares of right answers among chosen and rejected responses.
    weak_chosen: share of pairs in which the weak model's response is chosen.
    questions: number of distinct questions; `n` is the number of pairs.

    Args:
        pairs: PAIRS.
        gold: from `gold_answers`.
        answer_key: text that introduces the final answer.
        quirks: flaws of the paper's normalisation to keep.
        judge: compares answers with gold answers.
        extraction: how an answer is found, one of `answers.EXTRACTIONS`.
        answer_after: mark after which the answer of a reasoning model stands, or None.
    """
    values = []
    raw = judge is not string_judge
    for side in ("chosen", "rejected"):
        texts = pairs[side].str.strip_chars()
        if answer_after:
            texts = texts.to_frame().select(final_part(pl.col(side), answer_after)).to_series()
        predictions = predict_column(texts, answer_key, quirks, raw=raw, extraction=extraction)
        answers = pairs.select("id", predictions)
        right = right_rows(answers.with_row_index("pair"), gold, judge=judge)["pair"]
        numbers = pl.int_range(pairs.height, dtype=pl.UInt32, eager=True)
        values.append(_pair_share(f"{side}_accuracy", numbers.is_in(right.implode()), pairs))
    values.append(_pair_share("weak_chosen", pairs["weak_side"] == "chosen", pairs))
    values.append(_number("questions", pairs["id"].n_unique(), pairs.height))
    return values


def confidence_calibration(
    votes: pl.DataFrame, gold: pl.DataFrame, bins: int = 10, judge: Judge = string_judge
) -> tuple[pl.DataFrame, float]:
    """How the confidence of majority answers compares with their accuracy.

    Bins have equal width and cover (low, high]; the first also covers 0. Questions without a
    majority answer are left out.

    Args:
        votes: VOTES.
        gold: from `gold_answers`.
        bins: number of bins.
        judge: compares answers with gold answers.

    Returns:
        Columns bin_low, bin_high, n, right, mean_confidence, accuracy, one row for each bin that
        has questions; and the expected calibration error, the sum over bins of
        n/N · |accuracy - mean_confidence| (Guo et al. 2017, equation 3), nan without questions.
    """
    answered = votes.filter(pl.col("majority") != "")
    right = right_ids(answered, gold, "majority", judge)
    # A share such as 3/10 has a rounding error, which must not move it into the next bin.
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
            (pl.col("number") / bins).alias("bin_low"),
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
    """`confidence_calibration` as named values.

    accuracy: share of right answers among the majority answers.
    empty: share of questions without a majority answer.
    ece: expected calibration error.
    bin 0.6-0.7 accuracy, bin 0.6-0.7 confidence: of each bin, its accuracy and mean confidence.

    Bounds in names have as many decimals as are needed to tell the bins apart, and one more where
    they would be rounded. All names have the same width, so they sort in the order of the bins.
    """
    table, error = confidence_calibration(votes, gold, bins, judge)
    answered = int(table["n"].sum())
    values = [
        _share("accuracy", int(table["right"].sum()), answered),
        _share("empty", votes.height - answered, votes.height),
        _number("ece", error, answered),
    ]
    decimals = len(str(bins - 1))
    decimals += 10**decimals % bins > 0
    for row in table.iter_rows(named=True):
        name = f"bin {row['bin_low']:.{decimals}f}-{row['bin_high']:.{decimals}f}"
        values.append(_share(f"{name} accuracy", row["right"], row["n"]))
        values.append(_number(f"{name} confidence", row["mean_confidence"], row["n"]))
    return values


def selection_quality(
    selected: pl.DataFrame, gold: pl.DataFrame, judge: Judge = string_judge
) -> list[dict]:
    """How many questions a selection keeps, and how right their answers are.

    kept: kept questions among all.
    precision: right ones among the kept. Several texts of a question have one answer, or, where a
        user's function or a draw chose them, count as one right answer if any is right.

    Padding with disagreeing questions (`pad_to`) does not count as kept.

    Args:
        selected: SELECTED.
        gold: from `gold_answers`.
        judge: compares answers with gold answers.
    """
    selected = selected.filter(pl.col("prediction").is_not_null())
    kept = selected["id"].n_unique()
    right = right_ids(selected, gold, judge=judge)
    return [_share("kept", kept, gold.height), _share("precision", len(right), kept)]


def selection_votes(selected: pl.DataFrame) -> pl.DataFrame:
    """The answers of a selection as votes: the columns id, majority, confidence of VOTES.

    Padding with disagreeing questions (`pad_to`) is left out. Of several texts of a question that
    differ in their answers, as a user's function or a draw may choose them, the first one counts.

    Args:
        selected: SELECTED.
    """
    chosen = selected.filter(pl.col("prediction").is_not_null())
    one = chosen.unique("id", keep="first", maintain_order=True)
    return one.select("id", majority="prediction", confidence="share")


def vote_selection(
    votes: pl.DataFrame, gold: pl.DataFrame, judge: Judge = string_judge
) -> list[dict]:
    """What a least share of the votes would keep of train_2, and how right that would be.

    share 0.60 coverage: questions whose majority answer has at least this share of the votes, among
        all questions.
    share 0.60 precision: right majority answers among these.

    There are two values for each share that a majority answer has, rounded down to hundredths.

    Args:
        votes: VOTES, or of a selection `selection_votes`.
        gold: from `gold_answers`.
        judge: compares answers with gold answers.
    """
    answered = votes.filter(pl.col("majority") != "")
    right = right_ids(answered, gold, "majority", judge)
    # A share such as 3/10 has a rounding error, which must not move it below 0.30.
    shares = (answered["confidence"] * 100 + 1e-9).floor().cast(pl.Int32)
    is_right = answered["id"].is_in(list(right))
    values = []
    for least in shares.unique().sort():
        kept = shares >= least
        name = f"share {least / 100:.2f}"
        values.append(_share(f"{name} coverage", int(kept.sum()), gold.height))
        values.append(_share(f"{name} precision", int((kept & is_right).sum()), int(kept.sum())))
    return values


def sample_quality(
    samples: pl.DataFrame, gold: pl.DataFrame, judge: Judge = string_judge
) -> list[dict]:
    """How right, how long and how diverse the samples of train_2 are.

    coverage: questions with at least one right sample, among all.
    accuracy: right samples among all; a question's samples are a cluster.
    answers: mean number of different final answers to a question, "none" counted as one.
    texts: mean number of different texts for a question.
    characters: mean length of a text.

    Args:
        samples: majority_vote.SAMPLES.
        gold: from `gold_answers`.
        judge: compares answers with gold answers.
    """
    right = right_rows(samples.with_row_index("row"), gold, judge=judge)["row"]
    rows = samples.with_row_index("row").with_columns(right=pl.col("row").is_in(right.implode()))
    questions = rows.group_by("id", maintain_order=True).agg(
        right=pl.col("right").any(),
        answers=pl.col("prediction").n_unique(),
        texts=pl.col("response").n_unique(),
    )
    low, high = clustered_wilson_interval(rows["right"], rows["id"])
    accuracy = {"value": rows["right"].mean(), "n": rows.height, "ci_low": low, "ci_high": high}
    return [
        _share("coverage", int(questions["right"].sum()), questions.height),
        {"name": "accuracy", **accuracy},
        _number("answers", questions["answers"].mean(), questions.height),
        _number("texts", questions["texts"].mean(), questions.height),
        _number("characters", rows["response"].str.len_chars().mean(), rows.height),
    ]


def blind_spot_quality(
    answers: pl.DataFrame, others: pl.DataFrame, gold: pl.DataFrame, judge: Judge = string_judge
) -> list[dict]:
    """How often answers are confidently wrong where others are uncertain, as named shares.

    A model is sure of the majority answer of its samples if this has at least SURE of them; it is
    uncertain of all other questions, those without a majority answer included.

    uncertain: questions of which `others` are uncertain, among all.
    sure_and_wrong: of these, those to which `answers` are sure and wrong.
    wrong_of_sure: the same among those of which `answers` are sure.
    sure_and_wrong_elsewhere: as `sure_and_wrong`, of the questions of which `others` are sure.

    Yang et al. (arXiv 2406.11431, after the abstract) speak of deception where a strong model errs
    in what it knows and the weak model does not. Here, as in Osooli et al. (arXiv 2604.25077, after
    the abstract), the model's own confidence stands for what it knows. No motive is measured.

    Args:
        answers, others: SAMPLES of the same questions; of the strong and of the weak model.
        gold: from `gold_answers`.
        judge: compares answers.
    """
    votes = majority_vote(answers, judge=judge)
    wrong = set(votes["id"]) - right_ids(votes, gold, "majority", judge)
    is_sure = (pl.col("majority") != "") & (pl.col("confidence") >= SURE)
    sure = set(votes.filter(is_sure)["id"])
    known = set(majority_vote(others, judge=judge).filter(is_sure)["id"])
    uncertain = set(votes["id"]) - known
    errors = sure & wrong
    return [
        _share("uncertain", len(uncertain), votes.height),
        _share("sure_and_wrong", len(errors & uncertain), len(uncertain)),
        _share("wrong_of_sure", len(errors & uncertain), len(sure & uncertain)),
        _share("sure_and_wrong_elsewhere", len(errors - uncertain), votes.height - len(uncertain)),
    ]


def chain_diagnostics(chain: Mapping[str, Any], bins: int = 10, workers: int = 1) -> Iterator[dict]:
    """DIAGNOSTICS rows of one chain; none if its task has no gold answers of train_2.

    Args:
        chain: {task, weak, strong, seed, answer_key}, and
            variant: name of an ablation, if it is one; `method` is then `<method>@<variant>`.
            extraction: one of `answers.EXTRACTIONS`; the paper's if absent.
            quirks: name -> whether the flaw is kept; as in the released code if absent.
            judge: settings for `judges.choose_judge`; string equality if absent.
            gold, questions: paths of GOLD, and of QUESTIONS for another judge.
            kept, weak_labels, icl_labels: lists of paths, one for each iteration.
            votes, samples: paths of VOTES and of the SAMPLES voted over, or None.
            selections: name -> path of SELECTED.
            answers: name -> path of SAMPLES; none if absent.
            blind_spots: name of answers -> paths of their SAMPLES and of those of the answers whose
                blind spots they are measured in; none if absent.
            pairs: method -> path of PAIRS or WEIGHTED_PAIRS.
        bins: number of bins of the calibration.
        workers: most comparison processes of the judge at once.

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
        yield from rows("selection", "majority", 0, vote_selection(votes, gold, judge))
        samples = read_table(chain["samples"], SAMPLES)
        yield from rows("samples", "m_plus", 0, sample_quality(samples, gold, judge))
    for name, path in chain["selections"].items():
        selected = read_table(path, SELECTED)
        yield from rows("kept", name, 0, selection_quality(selected, gold, judge))
        votes = selection_votes(selected)
        yield from rows("calibration", name, 0, calibration_quality(votes, gold, bins, judge))
        yield from rows("selection", name, 0, vote_selection(votes, gold, judge))
    for name, path in chain.get("answers", {}).items():
        quality = sample_quality(read_table(path, SAMPLES), gold, judge)
        yield from rows("samples", name, 0, quality)
    for name, paths in chain.get("blind_spots", {}).items():
        answers, others = (read_table(path, SAMPLES) for path in paths)
        yield from rows("blind_spots", name, 0, blind_spot_quality(answers, others, gold, judge))
    for method, path in chain["pairs"].items():
        pairs = read_table(path, PAIRS, WEIGHTED_PAIRS)
        extraction = chain.get("extraction", "paper")
        quality = pair_quality(
            *(pairs, gold, chain["answer_key"], quirks, judge, extraction),
            chain.get("answer_after"),
        )
        yield from rows("pairs", method, 0, quality)


def diagnostics_table(
    chains: Sequence[Mapping[str, Any]], bins: int = 10, workers: int = 1
) -> pl.DataFrame:
    """DIAGNOSTICS of all chains, in their order. Arguments as for `chain_diagnostics`."""
    rows = [row for chain in chains for row in chain_diagnostics(chain, bins, workers)]
    table = pl.DataFrame(rows, schema=DIAGNOSTICS)
    numbers = pl.col("value", "ci_low", "ci_high")
    return table.with_columns(numbers.fill_nan(None).round_sig_figs(10))
