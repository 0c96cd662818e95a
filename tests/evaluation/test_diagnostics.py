"""Diagnostics against withheld gold, on tables small enough to count by hand."""

from __future__ import annotations

import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_builders import labels, questions, samples, table, votes

from weak_to_strong.evaluation.diagnostics import (
    DIAGNOSTICS,
    blind_spot_quality,
    calibration_quality,
    confidence_calibration,
    diagnostics_table,
    filter_quality,
    gold_answers,
    label_quality,
    pair_quality,
    sample_quality,
    selection_quality,
    selection_votes,
    vote_selection,
)
from weak_to_strong.evaluation.stats import wilson_interval
from weak_to_strong.method.majority_vote import SAMPLES
from weak_to_strong.tables.frames import write_table
from weak_to_strong.tables.schemas import (
    GOLD,
    KEPT,
    LABELS,
    PAIRS,
    QUESTIONS,
    SELECTED,
    VOTES,
)

GOLD_TABLE = table(GOLD, [(i, "s", i) for i in "12345"])
ANSWERS = gold_answers(GOLD_TABLE)


WEAK = labels({"1": "1", "2": "9", "3": "3", "4": "8", "5": ""})
ICL = labels({"1": "1", "2": "9", "3": "7", "4": "4", "5": ""})
KEPT_TABLE = table(KEPT, [("1", "a", "b", "1"), ("2", "a", "b", "9")])
PAIR_ROWS = [
    ("1", "p", " so #### 1", " so #### 2", "chosen", 0.9),
    ("1", "p", " no\n#### 1", " none", "chosen", 0.9),
    ("2", "p", " so\n#### 9", " so\n#### 2", "rejected", 0.8),
]
PAIR_TABLE = table(PAIRS, PAIR_ROWS)
VOTE_ROWS = [("1", "1", 0.3), ("2", "9", 0.3), ("3", "3", 1.0), ("4", "4", 0.95), ("5", "", 1.0)]
VOTE_TABLE = votes(VOTE_ROWS)
SAMPLE_ROWS = [("1", 0, "ab", "1"), ("1", 1, "ab", "1"), ("2", 0, "abc", "9"), ("2", 1, "abd", "")]
SAMPLE_TABLE = table(SAMPLES, SAMPLE_ROWS)
SELECTED_ROWS = [("1", "a", "1", 0.9), ("1", "b", "1", 0.9), ("2", "c", "9", 0.6)]
SELECTED_TABLE = table(SELECTED, SELECTED_ROWS)


def named(values: list[dict]) -> dict[str, tuple[float, int]]:
    return {value["name"]: (value["value"], value["n"]) for value in values}


def test_labels():
    assert named(label_quality(WEAK, ANSWERS)) == {"accuracy": (0.4, 5), "empty": (0.2, 5)}


def test_filter():
    assert named(filter_quality(KEPT_TABLE, WEAK, ICL, ANSWERS)) == {
        "precision": (0.5, 2),
        "recall": (1 / 3, 3),
        "kept": (0.4, 5),
        "weak_accuracy": (0.4, 5),
        "icl_accuracy": (0.4, 5),
    }


def test_a_filter_that_kept_nothing_has_no_precision():
    quality = named(filter_quality(KEPT_TABLE.clear(), WEAK, ICL, ANSWERS))
    assert math.isnan(quality["precision"][0])
    assert quality["kept"] == (0.0, 5)


def test_pairs():
    quality = named(pair_quality(PAIR_TABLE, ANSWERS, "####"))
    assert quality["chosen_accuracy"] == (pytest.approx(2 / 3), 3)
    assert quality["rejected_accuracy"] == (pytest.approx(1 / 3), 3)
    assert quality["weak_chosen"] == (pytest.approx(2 / 3), 3)
    assert quality["questions"] == (2.0, 3)


def test_pairs_of_one_question_are_no_further_evidence():
    rows = [(i, "p", f" #### {i if i in '123' else 0}", " #### 0", "chosen", 0.9) for i in "12345"]
    once = table(PAIRS, rows)
    alone, thrice = (
        {value["name"]: value for value in pair_quality(pairs, ANSWERS, "####")}
        for pairs in (once, pl.concat([once] * 3))
    )
    for name in ("chosen_accuracy", "rejected_accuracy", "weak_chosen"):
        assert thrice[name]["n"] == 15
        for end in ("value", "ci_low", "ci_high"):
            assert thrice[name][end] == pytest.approx(alone[name][end])
    assert (alone["chosen_accuracy"]["ci_low"], alone["chosen_accuracy"]["ci_high"]) == (
        pytest.approx(wilson_interval(3, 5))
    )


def test_calibration():
    bins, error = confidence_calibration(VOTE_TABLE, ANSWERS)
    assert bins["bin_low"].to_list() == [0.2, 0.9]
    assert bins["n"].to_list() == [2, 2]
    assert bins["accuracy"].to_list() == [0.5, 1.0]
    assert error == pytest.approx(0.5 * 0.2 + 0.5 * 0.025)
    quality = named(calibration_quality(VOTE_TABLE, ANSWERS))
    assert quality["bin 0.2-0.3 confidence"] == (pytest.approx(0.3), 2)
    assert quality["bin 0.9-1.0 accuracy"] == (1.0, 2)
    assert quality["empty"] == (0.2, 5)


@pytest.mark.parametrize("share", [i / 10 for i in range(11)])
def test_a_share_falls_into_the_bin_that_ends_with_it(share):
    bins, _ = confidence_calibration(votes([("1", "1", share)]), ANSWERS)
    assert bins["bin_high"].item() == pytest.approx(max(share, 0.1))


@pytest.mark.parametrize("bins", [2, 3, 5, 8, 10, 11, 30, 100, 101, 1000])
def test_names_tell_bins_apart_and_sort_like_them(bins):
    shares = [(number + 0.5) / bins for number in range(bins)]
    values = calibration_quality(votes(("1", "1", share) for share in shares), ANSWERS, bins)
    names = [value["name"] for value in values if value["name"].endswith(" confidence")]
    assert names == sorted(set(names))
    assert len(names) == bins


def test_names_have_no_more_decimals_than_it_takes():
    for bins, name in ((5, "bin 0.2-0.4 accuracy"), (4, "bin 0.25-0.50 accuracy")):
        assert name in named(calibration_quality(VOTE_TABLE, ANSWERS, bins))


def test_a_least_share_of_the_votes_trades_coverage_for_precision():
    """Of five questions two have no majority answer; the least sure one is wrong."""
    voted = votes([("1", "1", 0.9), ("2", "2", 7 / 10), ("3", "0", 0.3), ("4", "", 0.8)])
    assert named(vote_selection(voted, ANSWERS)) == {
        "share 0.30 coverage": (0.6, 5),
        "share 0.30 precision": (pytest.approx(2 / 3), 3),
        "share 0.70 coverage": (0.4, 5),
        "share 0.70 precision": (1.0, 2),
        "share 0.90 coverage": (0.2, 5),
        "share 0.90 precision": (1.0, 1),
    }


@given(st.lists(st.tuples(st.sampled_from("123450"), st.integers(0, 10)), min_size=1, max_size=5))
def test_the_vote_selection_is_that_of_plain_loops(answers):
    rows = [(str(i), answer, share / 10) for i, (answer, share) in enumerate(answers, start=1)]
    values = named(vote_selection(votes(rows), ANSWERS))
    assert len(values) == 2 * len({share for _, share in answers})
    for _, _, least in rows:
        kept = [row for row in rows if row[2] >= least]
        right = sum(name == answer for name, answer, _ in kept)
        assert values[f"share {least:.2f} coverage"] == (len(kept) / 5, 5)
        assert values[f"share {least:.2f} precision"] == (right / len(kept), len(kept))


def test_samples():
    quality = named(sample_quality(SAMPLE_TABLE, ANSWERS))
    assert quality == {
        "coverage": (0.5, 2),
        "accuracy": (0.5, 4),
        "answers": (1.5, 2),
        "texts": (1.5, 2),
        "characters": (2.5, 4),
    }


def test_a_selection_counts_questions_and_not_texts():
    expected = {"kept": (0.4, 5), "precision": (0.5, 2)}
    assert named(selection_quality(SELECTED_TABLE, ANSWERS)) == expected
    padding = table(SELECTED, [("3", "y 3", None, 0.5)])
    padded = pl.concat([SELECTED_TABLE, padding])
    assert named(selection_quality(padded, ANSWERS)) == expected


def test_a_selections_answers_are_votes_without_its_padding():
    rows = [("1", "a 1", "1", 0.9), ("1", "b 1", "1", 0.9), ("2", "c 0", "0", 0.5)]
    voted = selection_votes(table(SELECTED, [*rows, ("3", "d 3", None, 0.4)]))
    assert voted.rows() == [("1", "1", 0.9), ("2", "0", 0.5)]
    assert named(vote_selection(voted, ANSWERS)) == {
        "share 0.50 coverage": (0.4, 5),
        "share 0.50 precision": (0.5, 2),
        "share 0.90 coverage": (0.2, 5),
        "share 0.90 precision": (1.0, 1),
    }
    assert named(calibration_quality(voted, ANSWERS))["ece"] == (pytest.approx(0.3), 2)


def test_votes_without_any_answer():
    unanswered = VOTE_TABLE.filter(pl.col("majority") == "")
    quality = named(calibration_quality(unanswered, ANSWERS))
    assert math.isnan(quality["ece"][0])
    assert quality["empty"] == (1.0, 1)


def test_an_id_without_gold_is_refused():
    with pytest.raises(ValueError, match="id '5' has no gold answer"):
        label_quality(WEAK, ANSWERS.head(4))
    with pytest.raises(ValueError, match="no gold answer"):
        pair_quality(PAIR_TABLE, ANSWERS.head(1), "####")


class TestBlindSpots:
    WEAK = samples(
        {"1": "1112", "2": "2213", "3": ["", "", "", ""], "4": "4444", "5": "1234"}, "{answer}"
    )
    STRONG = samples({"1": "9999", "2": "9992", "3": "3333", "4": "9944", "5": "5532"}, "{answer}")

    def test_of_what_is_uncertain_the_sure_errors_are_counted(self):
        """The weak model is sure of 1 and 4; the strong one of 1, 2 and 3, and wrong in 1, 2, 4."""
        made = {row["name"]: row for row in blind_spot_quality(self.STRONG, self.WEAK, ANSWERS)}
        shares = {name: (row["value"], row["n"]) for name, row in made.items()}
        assert shares == {
            "uncertain": (pytest.approx(3 / 5), 5),
            "sure_and_wrong": (pytest.approx(1 / 3), 3),
            "wrong_of_sure": (pytest.approx(1 / 2), 2),
            "sure_and_wrong_elsewhere": (pytest.approx(1 / 2), 2),
        }
        low, high = wilson_interval(1, 3)
        assert (made["sure_and_wrong"]["ci_low"], made["sure_and_wrong"]["ci_high"]) == (low, high)

    def test_no_model_deceives_itself(self):
        made = {row["name"]: row for row in blind_spot_quality(self.WEAK, self.WEAK, ANSWERS)}
        assert made["sure_and_wrong"]["value"] == 0
        assert math.isnan(made["wrong_of_sure"]["value"])


class TestTable:
    @pytest.fixture
    def chain(self, tmp_path):
        tables = {
            "gold": (GOLD_TABLE, GOLD),
            "weak": (WEAK, LABELS),
            "icl": (ICL, LABELS),
            "kept": (KEPT_TABLE, KEPT),
            "votes": (VOTE_TABLE, VOTES),
            "samples": (SAMPLE_TABLE, SAMPLES),
            "selected": (SELECTED_TABLE, SELECTED),
            "pairs": (PAIR_TABLE, PAIRS),
        }
        path = {name: str(tmp_path / f"{name}.parquet") for name in tables}
        for name, (frame, schema) in tables.items():
            write_table(frame, schema, path[name])
        facts = {"task": "t", "weak": "w", "strong": "s", "seed": 3, "answer_key": "####"}
        return {
            **facts,
            "gold": path["gold"],
            "kept": [path["kept"]] * 2,
            "weak_labels": [path["weak"]] * 2,
            "icl_labels": [path["icl"]] * 2,
            "votes": path["votes"],
            "samples": path["samples"],
            "selections": {"sure": path["selected"]},
            "pairs": {"dpo": path["pairs"]},
        }

    def test_one_tidy_table(self, chain):
        diagnostics = diagnostics_table([chain])
        assert diagnostics.schema == DIAGNOSTICS
        kinds = diagnostics.select("diagnostic", "method", "iteration").unique(maintain_order=True)
        one_iteration = [("labels", "weak"), ("labels", "icl"), ("filter", "agreement")]
        assert kinds.rows() == [
            *((*kind, iteration) for iteration in (1, 2) for kind in one_iteration),
            ("calibration", "majority", 0),
            ("selection", "majority", 0),
            ("samples", "m_plus", 0),
            ("kept", "sure", 0),
            ("calibration", "sure", 0),
            ("selection", "sure", 0),
            ("pairs", "dpo", 0),
        ]
        assert not diagnostics["value"].is_nan().any()

    def test_a_judge_compares_answers_as_they_are_written(self, chain, tmp_path):
        path = {name: str(tmp_path / f"other_{name}") for name in ("gold", "questions")}
        fractions = GOLD_TABLE.with_columns(answer="\\frac{" + pl.col("answer") + "}{1}")
        write_table(fractions, GOLD, path["gold"])
        asked = questions(GOLD_TABLE["id"], answer_type="NV")
        write_table(asked, QUESTIONS, path["questions"])
        judge = {"name": "olympicarena", "timeout_seconds": 1.0}
        table = diagnostics_table([{**chain, **path, "judge": judge}])
        assert table.equals(diagnostics_table([chain]))
        assert not table.equals(diagnostics_table([{**chain, **path}]))

    def test_named_answers_are_measured_as_the_samples_of_m_plus(self, chain):
        table = diagnostics_table([{**chain, "answers": {"weak_samples": chain["samples"]}}])
        samples = table.filter(diagnostic="samples")
        ours, named_ones = (samples.filter(method=name) for name in ("m_plus", "weak_samples"))
        assert named_ones.drop("method").equals(ours.drop("method"))
        assert ours.height == 5

    def test_blind_spots_are_measured_where_a_chain_names_them(self, chain):
        paths = {"blind_spots": {"student": [chain["samples"], chain["samples"]]}, "variant": "v"}
        rows = diagnostics_table([{**chain, **paths}]).filter(pl.col("diagnostic") == "blind_spots")
        assert set(rows["method"]) == {"student@v"}
        assert rows["name"][0] == "uncertain"

    def test_stage_two_may_be_absent(self, chain):
        without = {"votes": None, "selections": {}, "pairs": {}}
        diagnostics = diagnostics_table([{**chain, **without}])
        assert set(diagnostics["diagnostic"]) == {"labels", "filter"}

    def test_quirks_of_a_chain_count(self, chain, tmp_path):
        gold = GOLD_TABLE.with_columns(answer=pl.lit("1, 2"))
        weak = WEAK.with_columns(prediction=pl.lit("1,2"))
        write_table(gold, GOLD, chain["gold"])
        write_table(weak, LABELS, chain["weak_labels"][0])
        row = pl.col("diagnostic") == "labels", pl.col("method") == "weak"
        accuracy = [
            diagnostics_table([{**chain, **quirks}]).filter(*row)["value"][0]
            for quirks in ({}, {"quirks": {"joined_lists": False}})
        ]
        assert accuracy == [0, 1]

    def test_lists_must_match(self, chain):
        with pytest.raises(ValueError, match="other numbers of kept and labelled"):
            diagnostics_table([{**chain, "kept": chain["kept"][:1]}])

    def test_no_chains(self):
        assert diagnostics_table([]).schema == DIAGNOSTICS
