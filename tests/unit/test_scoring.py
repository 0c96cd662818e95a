"""Both scorers, and the bounds on hostile answers."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import polars as pl
import pytest

from weak_to_strong import scoring
from weak_to_strong.math_verify_worker import compare, is_balanced, to_latex
from weak_to_strong.scoring import (
    VERDICTS,
    math_verify_many,
    parse_decimal,
    score_generations,
    scorer_agreement,
)
from weak_to_strong.tables import GENERATIONS, PROBLEMS, SCORES

PUBLISHED = os.environ.get("W2S_PUBLISHED_DIR")


def generations(rows: list[tuple]) -> pl.DataFrame:
    full = [(*row, "stop", 1, 1) for row in rows]
    return pl.DataFrame(full, schema=GENERATIONS, orient="row")


def problems(answers: list[str]) -> pl.DataFrame:
    rows = [(str(i), "q", "s", answer, "1", None, "t") for i, answer in enumerate(answers)]
    return pl.DataFrame(rows, schema=PROBLEMS, orient="row")


class TestFastPaths:
    @pytest.fixture(autouse=True)
    def _no_worker(self, monkeypatch):
        def refuse(*_):
            raise AssertionError("a worker was started")

        monkeypatch.setattr(scoring._Worker, "_start", refuse)

    @pytest.mark.parametrize(
        ("prediction", "gold", "verdict"),
        [
            ("", "3", "wrong"),
            ("  ", "3", "wrong"),
            (r"\frac{1", r"\frac{1", "right"),
            ("0.50", "0.5", "right"),
            ("1,250", "1250.00", "right"),
            ("+7", "7.", "right"),
            ("12345678.000001", "12345678", "wrong"),
            ("9" * 5000 + ".0", "9" * 5000, "right"),
            ("9" * 5000, "9" * 4999 + "8", "wrong"),
            ("x" * 10**6, "x", "undecided"),
        ],
    )
    def test_settled_without_a_process(self, prediction, gold, verdict):
        assert math_verify_many([(prediction, gold)]) == [verdict]

    @pytest.mark.parametrize("text", ["", ".", "-", "1,2", "1e3", "1/2", "٣", "1 2", "--1"])
    def test_other_text_is_no_plain_decimal(self, text):
        assert parse_decimal(text) is None

    def test_no_pairs(self):
        assert math_verify_many([]) == []

    @pytest.mark.parametrize("bad", [{"timeout_seconds": 0}, {"workers": 0}])
    def test_settings_must_be_positive(self, bad):
        with pytest.raises(ValueError, match="must be positive"):
            math_verify_many([("1", "2")], **bad)


class TestCompare:
    @pytest.mark.parametrize(
        ("gold", "prediction"),
        [
            (r"\frac12", "0.5"),
            (r"23\sqrt{3}", "23√3"),
            (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\pi/2)"),
            ("1,-2", "-2,1"),
            ("8", r"\boxed{8}"),
            ("5", "x=5"),
            ("1,2", "$1$ and $2$"),
            (r"\text{Evelyn}", "Evelyn"),
            (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\[2pt]2\end{pmatrix}"),
        ],
    )
    def test_equal_under_another_writing(self, gold, prediction):
        assert compare(gold, prediction) == "right"

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("23", "23√3"),
            ("1", "1-√3"),
            ("0", "0,≠0"),
            ("5", "5...7"),
            ("3", "3+"),
            ("8", r"7 \boxed{8}"),
            ("52_8", "52_9"),
            ("√3", "√3.5"),
            ("1,-3", "1,-1,-3"),
            (r"\infty", r"-\infty"),
            (r"2\frac14", r"\frac12"),
        ],
    )
    def test_a_part_is_not_the_whole(self, one, other):
        assert compare(one, other) == "wrong"
        assert compare(other, one) == "wrong"

    @pytest.mark.parametrize(("gold", "prediction"), [("5", r"\frac{1}{2"), ("@@", "##")])
    def test_unreadable_is_undecided(self, gold, prediction):
        assert compare(gold, prediction) == "undecided"

    def test_to_latex_keeps_escaped_dollars_and_row_breaks(self):
        assert to_latex(r"$\$5$.") == r"\$5"
        assert to_latex(r"1 \\ 2") == r"1 \\ 2"
        assert not is_balanced("}{")


class TestWorkers:
    def test_hostile_answers_are_bounded_and_the_rest_still_scored(self):
        pairs = [
            ("9^{9^{9}}", "5"),
            (r"\frac12", "0.5"),
            ("10000000!", "5"),
            (r"\frac{" * 30 + "1" + "}{2}" * 30, "5"),
            (r"\frac{1}{2", r"\frac12"),
            ("1-√3", "1"),
            ("9^{9^{9}}", "5"),
        ]
        verdicts = math_verify_many(pairs, timeout_seconds=1, workers=2)
        assert verdicts == ["timeout", "right", *["timeout"] * 2, "undecided", "wrong", "timeout"]

    def test_memory_is_bounded(self, monkeypatch):
        monkeypatch.setattr(scoring, "MEMORY_MEGABYTES", 1)
        assert math_verify_many([(r"\frac12", "0.5")]) == ["undecided"]

    def test_a_killed_worker_is_no_wrong_answer(self):
        worker = scoring._Worker(5)
        try:
            assert worker.ask("x+1", "1+x") == "right"
            os.killpg(worker.process.pid, signal.SIGKILL)
            assert worker.ask("x+1", "1+x") == "undecided"
            assert worker.ask("x+1", "1+x") == "right"
        finally:
            worker.stop()

    def test_a_worker_that_cannot_start_is_an_error(self, monkeypatch):
        monkeypatch.setattr(scoring.sys, "executable", "/bin/false")
        with pytest.raises(RuntimeError, match="does not start"):
            math_verify_many([("x", "y")])


class TestScoreGenerations:
    def test_scores_and_their_order(self):
        table = generations(
            [
                ("b", "1", 0, " so\n#### 0.50"),
                ("a", "0", 0, " it is\n#### 1,200."),
                ("b", "0", 0, " no idea"),
                ("a", "1", 0, " so\n#### 3\nQuestion: more #### 0.5"),
            ]
        )
        scores = score_generations(table, problems(["1200", "0.5"]), "####", ["Question"])
        assert scores.schema == SCORES
        assert scores.select("request", "id", "paper", "math").rows() == [
            ("b", "1", "wrong", "right"),
            ("a", "0", "right", "right"),
            ("b", "0", "wrong", "wrong"),
            ("a", "1", "wrong", "wrong"),
        ]
        agreement = scorer_agreement(scores)
        assert agreement["counts"]["wrong"] == {
            **dict.fromkeys(VERDICTS, 0),
            "right": 1,
            "wrong": 2,
        }
        assert [example["id"] for example in agreement["examples"]] == ["1"]
        json.dumps(agreement)

    def test_math_mode_sees_the_text_before_normalisation(self):
        table = generations([("a", "0", 0, r"The answer is: -\infty")])
        scores = score_generations(table, problems([r"-\infty"]), "The answer is:", [])
        assert scores["math"].to_list() == ["right"]

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([("a", "0", 0, "x"), ("a", "0", 0, "y")], "id 0, sample 0 stands more than once"),
            ([("a", "0", 0, "x"), ("a", "9", 0, "x")], "unknown questions, first id 9"),
            ([("a", "0", 0, "x")], "first sample 0 of id 1"),
            (
                [("a", "0", 0, "x"), ("a", "1", 0, "x"), ("a", "1", 1, "x")],
                "first sample 1 of id 0",
            ),
        ],
    )
    def test_answers_and_questions_must_match(self, rows, message):
        with pytest.raises(ValueError, match=message):
            score_generations(generations(rows), problems(["1", "2"]), "####", [])


@pytest.mark.skipif(not PUBLISHED, reason="W2S_PUBLISHED_DIR does not name the released data")
def test_scorers_on_the_released_outputs():
    """The released weak outputs on GSM8K: 2896 right by string; math mode differs in few rows."""
    folder = "outputs/gsm8k_train_2/zero_shot/llama2_7b_gsm8k_1/zero-shot/direct"
    lines = (Path(PUBLISHED) / folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    asked = pl.DataFrame(
        [(str(row["id"]), "", "", row["gold"], None, None, "") for row in rows],
        schema=PROBLEMS,
        orient="row",
    )
    answers = generations([("weak", str(row["id"]), 0, row["response"]) for row in rows])
    scores = score_generations(answers, asked, "####", ["Question", "Answer"], workers=2)
    assert (scores["paper"] == "right").to_list() == [row["result"] for row in rows]
    counts = scorer_agreement(scores)["counts"]
    assert sum(counts["right"].values()) == 2896
    assert counts["right"]["right"] >= 2890
    assert counts["wrong"]["right"] <= 20
