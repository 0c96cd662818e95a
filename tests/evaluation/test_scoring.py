"""Both scorers, and the bounds on hostile answers."""

from __future__ import annotations

import csv
import itertools
import json
import os
import signal
import time
from pathlib import Path

import polars as pl
import psutil
import pytest
import table_builders
from table_builders import generations

from weak_to_strong.evaluation import scoring
from weak_to_strong.evaluation.math_verify_worker import compare, is_balanced, to_latex
from weak_to_strong.evaluation.scoring import (
    VERDICTS,
    answer_lengths,
    count_filters,
    math_verify_many,
    parse_decimal,
    score_generations,
    scorer_agreement,
)
from weak_to_strong.jobs.errors import ProcessDied, explain
from weak_to_strong.method.answers import PaperQuirks
from weak_to_strong.tables.schemas import SCORES

PUBLISHED = os.environ.get("W2S_PUBLISHED_DIR")


def problems(answers: list[str]) -> pl.DataFrame:
    return table_builders.problems(answer=answers, level="1")


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
            ("9" * 5000 + "x", "9" * 5000, "undecided"),
            ("9" * 1900, r"\frac{1}{3}", "wrong"),
            (r"$\boxed{\frac{3}{4}}$. The answer is: 3/4", r"\frac34", "right"),
            (r"\left( 3, \dfrac{1}{2} \right)", r"(3,\frac{1}{2})", "right"),
            ("\u200b3", "3", "right"),
            ("5^{\\text{th}}", "5", "right"),
            (r"2\sqrt{3}", r"3\sqrt{2}", "wrong"),
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
            *[(r"\frac{\pi}{2}", "pi/2"), ("x**2", "x^2"), (r"\varnothing", r"\emptyset")],
            ("1,-2", "-2,1"),
            ("8", r"\boxed{8}"),
            ("5", "x=5"),
            ("1,2", "$1$ and $2$"),
            (r"\text{Evelyn}", "Evelyn"),
            (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\[2pt]2\end{pmatrix}"),
            (r"\sqrt{8}", r"2\sqrt2"),
            ("(1,2)", "1,2"),
            (r"[1,2)", r"\left[1,2\right)"),
            (r"\{1,2\}", r"\{2,1\}"),
            (r"[1,2]\cup(3,4)", r"(3,4)\cup[1,2]"),
            ("50", r"50\%"),
            (r"15\%", "0.15"),
            (r"\text{Monday}", "Monday"),
            ("1000", r"1{,}000"),
            ("1000", r"1,\!000"),
            ("5", r"5\text{ cm}"),
            (r"5\text{ cm}", "5"),
            (r"5\text{ cm}", r"5\text{ centimetres}"),
            ("5", "5 cm"),
            ("10", "10kg"),
            ("3t", r"t \cdot 3"),
            ("52_8", "52"),
            ("90", r"90^\circ"),
            ("120", "5!"),
            (r"\frac13", r"0.\overline{3}"),
            (r"\frac94", "2 1/4"),
            ("x^{12}", "x¹²"),
            (r"1,2,\dots,10", r"1,2,\ldots,10"),
            ("5x+4y-6=0", "10x+8y-12=0"),
            ("5", "2+3=5"),
            (r"\pm 3", "3,-3"),
            ("1<x<2", "(1,2)"),
            ("(0,1]", "]0,1]"),
            (r"\frac13", "0.333..."),
            (r"\frac16", "0.1(6)"),
            (r"\frac17", "0.142857142857..."),
            (r"\ln 2", "ln(2)"),
            ("e^{2x}", "exp(2x)"),
            (r"\log_2 3", "log2(3)"),
            (r"\sin x", "sin(x)"),
            (r"\sqrt{2}", "sqrt{2}"),
            (r"\sqrt{2}", "2**0.5"),
            (r"\sqrt{x}", "x^{0.5}"),
            (r"\pi", "Pi"),
            (r"\{1,2\}", "{2,1}"),
            ("x_1", "x₁"),
            (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "[[1, 2], [3, 4]]"),
            ("x^2-1", "(x-1)(x+1)"),
            (r"\le(-\iny,-2\right)\cup(1,\iny)", r"(-\infty,-2)\cup(1,\infty)"),
            (r"\le[-\frac{\pi}{2},\frac{\pi}{2}\right]", r"[-\pi/2,\pi/2]"),
            (r"x\le\left(\frac{1}{2}\right)", "x<=1/2"),
            (r"\sin 2x", r"2\sin x\cos x"),
            (r"\frac{a}{b}+\frac{b}{a}", r"\frac{a^2+b^2}{ab}"),
            (r"\sqrt{x^2}", "|x|"),
        ],
    )
    def test_equal_under_another_writing(self, gold, prediction):
        assert compare(gold, prediction) == "right"

    def test_small_numbers_are_not_all_equal(self):
        for one, other in (
            (r"\frac{1}{2004!}", r"\frac{1}{2006!}"),
            (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}"),
            (r"\frac{\pi}{10^9}", r"\frac{2\pi}{10^9}"),
        ):
            assert compare(one, other) == "wrong"
            assert compare(one, one + "+0") == "right"
        assert compare(r"\sin^2(1)+\cos^2(1)-1", "0") == "right"

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
            ("3", "3t"),
            ("3", "3ab"),
            ("5x+3", "5x+3 d"),
            ("1,2,10", r"1,2,\ldots,10"),
            ("f(x)", "f'(x)"),
            ("0", "5x+4y-6=0"),
            (r"5\text{ cm}", r"5\text{ m}"),
            (r"\frac{1}{2}", "\\frac{1}{2}+3\\"),
            (r"\frac{1}{2}", r"\text{answer}+\frac{1}{2}"),
            ("0.3", r"0.\overline{3}"),
            ("3", r"\pm 3"),
            ("x", "|x|"),
            ("x^2+1", "x^2+1.01"),
            (r"\sin x", r"\sin y"),
            (r"\frac{a}{b}", r"\frac{b}{a}"),
            ("4e^{2i(a-b)}", "4"),
            (r"\le(1,2\right)", r"\le[1,2\right)"),
            (r"[1,2]\cup[3,4]", "[1,2]"),
            ("[1,2]", "[1,2)"),
            (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1&2\end{pmatrix}"),
            (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "[[1,3],[2,4]]"),
            (r"\sqrt{2}", "2**0.25"),
            (r"\sin x", "cos(x)"),
            ("3.5", "3.5..."),
            ("12", "12:30"),
            ("6", "6+9i"),
            ("x_1", "x_2"),
        ],
    )
    def test_a_part_is_not_the_whole(self, one, other):
        assert compare(one, other) == "wrong"
        assert compare(other, one) == "wrong"

    @pytest.mark.parametrize(
        ("gold", "prediction"),
        [
            ("5", r"\frac{1}{2"),
            ("@@", "##"),
            ("(4", "4"),
            ("4", "4)"),
            ("5", "5∛2"),
            ("21", "\u202e12"),
            ("3", "3\0"),
            ("3", "3\x1b[0m"),
            ("5", "5m"),  # five metres, or five times m
            ("5m", "5"),
            ("5", r"5\text{ apples and 3 pears}"),
            (r"10\text{ north}", r"10\text{ south}"),
        ],
    )
    def test_unreadable_or_ambiguous_is_undecided(self, gold, prediction):
        assert compare(gold, prediction) == "undecided"

    def test_a_base_that_gold_does_not_name(self):
        assert compare("18", "18_9") == "undecided"
        assert compare("18_9", "18") == "right"
        assert math_verify_many([("~~18~~", "18")]) == ["undecided"]

    def test_to_latex_keeps_escaped_dollars_and_row_breaks(self):
        assert to_latex(r"$\$5$.") == r"\$5"
        assert to_latex(r"1 \\ 2") == r"1 \\ 2"
        assert not is_balanced("}{")


class TestWorkers:
    @pytest.mark.slow
    def test_hostile_answers_are_bounded_and_the_rest_still_scored(self):
        pairs = [
            ("9^{9^{9}}", "5"),
            (r"\frac12", "0.5"),
            ("10000000!", "5"),
            (r"\frac{1}{2", r"\frac12"),
            ("1-√3", "1"),
            ("9^{9^{9}}", "5"),
        ]
        verdicts = math_verify_many(pairs, timeout_seconds=1, workers=2)
        assert verdicts == ["timeout", "right", "timeout", "undecided", "wrong", "timeout"]

    @pytest.mark.slow
    @pytest.mark.timeout(300)
    def test_hostile_answers_are_right_or_undecided(self):
        """And never "wrong" where they equal 5, nor "right" where they do not."""
        hostile = [
            *(r"\sqrt{" * 300 + "25" + "}" * 300, r"\sqrt{" * 500 + "25" + "}" * 500),
            *(r"\frac{" * 500 + "5" + "}{1}" * 500, "(" * 900 + "5" + ")" * 900, "{" * 1900),
            *("5" + "+x-x" * 450, "9^{9^{9^{9}}}", r"\left(5", "5}{", "\\" * 999, "5\0", "\ud800"),
            *("5" * 5000 + "x", "$" * 10**6, "\u202e5\u202c", r"\sum_{n=1}^{99999999} \frac{1}{n}"),
        ]
        verdicts = math_verify_many([(text, "5") for text in hostile], 0.3, workers=2)
        differ = {"9^{9^{9^{9}}}", "\\" * 999, r"\sum_{n=1}^{99999999} \frac{1}{n}"}
        for text, verdict in zip(hostile, verdicts, strict=True):
            assert verdict in ("timeout", "undecided", "wrong" if text in differ else "right"), text

    def test_memory_is_bounded(self, monkeypatch):
        monkeypatch.setattr(scoring, "MEMORY_MEGABYTES", 1)
        assert math_verify_many([("x+1", "1+x")]) == ["undecided"]

    @pytest.mark.parametrize(
        ("interpreter", "message"),
        [("/bin/false", "ended with status 1"), ("/bin/echo", "does not start")],
    )
    def test_a_worker_that_cannot_start_is_an_error(self, monkeypatch, interpreter, message):
        monkeypatch.setattr(scoring.sys, "executable", interpreter)
        with pytest.raises(RuntimeError, match=message):
            math_verify_many([("x+1", "1+x")])


def helper(worker: scoring._Worker) -> psutil.Process:
    return psutil.Process(worker.process.pid)


def inner(worker: scoring._Worker) -> psutil.Process:
    """The fork that compares; it is there a moment after its helper is ready."""
    while not (children := helper(worker).children()):
        time.sleep(0.01)
    return children[0]


@pytest.mark.slow
class TestDeaths:
    """What ends a worker from outside changes no verdict; what a comparison does to itself is one.

    `9^{9^{9}}` takes all the time that it is given, so that a signal surely comes in between.
    """

    PAIRS = (("x+1", "1+x"), ("9^{9^{9}}", "5"), (r"\frac{1}{2", r"\frac12"), ("1-√3", "1"))
    VERDICTS = ("right", "timeout", "undecided", "wrong")

    @pytest.fixture
    def strike(self, monkeypatch):
        """Send a signal to a process of the worker just before its n-th replies are read.

        The 0th reply says that the helper is ready.
        """

        def prepare(find, number: int, at) -> list[int]:
            read, done = scoring._Worker._read, []
            replies = itertools.count()

            def disturbed(worker, seconds):
                if next(replies) in at:
                    find(worker).send_signal(number)
                    done.append(number)
                return read(worker, seconds)

            monkeypatch.setattr(scoring._Worker, "_read", disturbed)
            return done

        return prepare

    @pytest.mark.parametrize(
        ("find", "number", "at"),
        [
            (helper, signal.SIGKILL, 0),
            (helper, signal.SIGKILL, 1),
            (helper, signal.SIGKILL, 2),
            (inner, signal.SIGKILL, 1),
            (inner, signal.SIGKILL, 2),
            (inner, signal.SIGTERM, 2),
            (inner, signal.SIGINT, 2),
        ],
    )
    def test_one_signal_changes_no_verdict(self, strike, find, number, at):
        done = strike(find, number, {at})
        assert tuple(math_verify_many(self.PAIRS, timeout_seconds=1)) == self.VERDICTS
        assert done == [number]

    def test_both_processes_killed_between_questions(self):
        worker = scoring._Worker(5)
        try:
            assert worker.ask("x+1", "1+x") == "right"
            os.killpg(worker.process.pid, signal.SIGKILL)
            assert worker.ask("x+1", "1+x") == "right"
        finally:
            worker.stop()

    @pytest.mark.parametrize(
        ("find", "at"),
        [
            (helper, {0, 1}),  # starts
            (inner, {1, 3}),  # 2: the second worker is ready
        ],
    )
    def test_a_second_kill_ends_the_job_with_one_line(self, strike, find, at):
        done = strike(find, signal.SIGKILL, at)
        with pytest.raises(ProcessDied) as error:
            math_verify_many([("9^{9^{9}}", "5")], timeout_seconds=1)
        assert len(done) == 2
        assert explain(error.value) == (
            "math-verify's worker ended with status -9; if no error stands above, mostly for want "
            "of memory: use fewer cores (--cores) or give the job more memory, and run again"
        )

    def test_a_worker_that_does_not_run_is_no_timeout(self, monkeypatch, strike):
        monkeypatch.setattr(scoring, "SILENT_SECONDS", 2 - 20)
        strike(inner, signal.SIGSTOP, {1, 3})
        with pytest.raises(ProcessDied, match=r"silent for 2 s.* use fewer cores"):
            math_verify_many([("9^{9^{9}}", "5")], timeout_seconds=1)

    @pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
    def test_a_crash_of_the_comparison_itself_is_undecided(self, strike, number):
        strike(inner, number, {1})
        assert math_verify_many([("9^{9^{9}}", "5")], timeout_seconds=1) == ["undecided"]

    def test_the_first_failure_ends_all_workers(self, monkeypatch):
        asked = []

        def ask(_, prediction, gold):
            if prediction == "0":
                raise ProcessDied("killed")
            asked.append(prediction)
            time.sleep(0.01)
            return "right"

        monkeypatch.setattr(scoring._Worker, "ask", ask)
        with pytest.raises(ProcessDied):
            scoring.ask_workers([(str(i), "x") for i in range(1000)], 5.0, workers=2)
        assert len(asked) < 500


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

    def test_a_quirk_turned_off_changes_paper_mode_only(self):
        table = generations([("a", "0", 0, r"#### \dfrac{1}{2}")])
        kept = score_generations(table, problems([r"\frac{1}{2}"]), "####", [])
        quirks = PaperQuirks(dfrac_distinct=False)
        mended = score_generations(table, problems([r"\frac{1}{2}"]), "####", [], quirks=quirks)
        assert [frame.select("paper", "math").row(0) for frame in (kept, mended)] == [
            ("wrong", "right"),
            ("right", "right"),
        ]

    def test_math_mode_sees_the_text_before_normalisation(self):
        table = generations([("a", "0", 0, r"The answer is: -\infty")])
        scores = score_generations(table, problems([r"-\infty"]), "The answer is:", [])
        assert scores["math"].to_list() == ["right"]

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([("a", "0", 0, "x"), ("a", "0", 0, "y")], "id '0', sample 0 stands more than once"),
            ([("a", "0", 0, "x"), ("a", "9", 0, "x")], "unknown questions, first id '9'"),
            ([("a", "0", 0, "x")], "first sample 0 of id '1'"),
            (
                [("a", "0", 0, "x"), ("a", "1", 0, "x"), ("a", "1", 1, "x")],
                "first sample 1 of id '0'",
            ),
        ],
    )
    def test_answers_and_questions_must_match(self, rows, message):
        with pytest.raises(ValueError, match=message):
            score_generations(generations(rows), problems(["1", "2"]), "####", [])

    def test_an_id_forges_no_line_of_a_log(self):
        rows = [("a", "0\n[score] all is well\x1b[2K", 0, "x")]
        with pytest.raises(ValueError, match="unknown questions") as error:
            score_generations(generations(rows), problems(["1"]), "####", [])
        assert str(error.value).isprintable()


def test_what_the_filters_find():
    table = generations([("a", "0", 0, "#### 1"), ("a", "1", 0, "####2"), ("a", "2", 0, "it is 3")])
    table = pl.concat([table, generations([("b", "0", 0, "no Question"), ("b", "1", 0, "#### 4")])])
    table = table.with_columns(
        finish_reason=pl.when(pl.col("id") == "2").then(pl.lit("length")).otherwise("finish_reason")
    )
    names = ("answers", "used", "strict", "flexible", "last_number", "cut", "ended", "too_long")
    for extraction, used, cut in (("flexible", (2, 1), (0, 0)), ("paper", (1, 1), (0, 1))):
        counts = count_filters(table, "####", [], extraction)
        assert counts["request"].to_list() == ["a", "b"]
        ended = 0 if extraction == "flexible" else 1
        assert counts.select(names).rows() == [
            (3, used[0], 1, 2, 3, cut[0], ended, 1),
            (2, used[1], 1, 1, 1, cut[1], 1, 0),
        ]


def test_flexible_extraction_scores_what_the_papers_does_not_find():
    table = generations([("a", "0", 0, "####**18 eggs**\nDone.")])
    for extraction, verdict in (("paper", "wrong"), ("flexible", "right")):
        scores = score_generations(table, problems(["18"]), "####", [], extraction=extraction)
        assert scores["math"].to_list() == [verdict]


#: Pairs of gold and predicted answers of several kinds of tasks, with the verdict of a reader.
LABELLED = Path(__file__).with_name("labelled_pairs.tsv")


def test_agreement_with_labelled_pairs():
    """At least 95 in 100 as a reader judges them, and none right that is wrong."""
    with LABELLED.open(encoding="utf-8", newline="") as file:
        lines = (line for line in file if not line.startswith("#"))
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        pairs = pl.DataFrame(list(rows))
    assert pairs.height >= 300
    assert pairs["task"].n_unique() >= 5
    verdicts = pl.Series(math_verify_many(pairs.select("prediction", "gold").iter_rows()))
    assert pairs.filter((verdicts == "right") & (pairs["label"] == "wrong")).rows() == []
    assert (verdicts == pairs["label"]).mean() >= 0.95


@pytest.mark.skipif(not PUBLISHED, reason="W2S_PUBLISHED_DIR does not name the released data")
def test_scorers_on_the_released_outputs():
    """The released weak outputs on GSM8K: 2896 right by string; math mode differs in few rows."""
    folder = "outputs/gsm8k_train_2/zero_shot/llama2_7b_gsm8k_1/zero-shot/direct"
    lines = (Path(PUBLISHED) / folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    asked = table_builders.problems(
        id=[str(row["id"]) for row in rows], answer=[row["gold"] for row in rows]
    )
    answers = generations([("weak", str(row["id"]), 0, row["response"]) for row in rows])
    scores = score_generations(answers, asked, "####", ["Question", "Answer"], workers=2)
    assert (scores["paper"] == "right").to_list() == [row["result"] for row in rows]
    counts = scorer_agreement(scores)["counts"]
    assert sum(counts["right"].values()) == 2896
    assert counts["right"]["right"] >= 2890
    assert counts["wrong"]["right"] <= 20


def test_answers_of_a_reasoning_model_are_read_after_the_mark():
    texts = ["Question: #### 3?\n</think>\n#### 1", "#### 1 or #### 2", "<think>#### 1"]
    table = generations([("r", str(number), 0, text) for number, text in enumerate(texts)])
    reasons = pl.Series("finish_reason", ["stop", "length", "stop"])
    table = table.with_columns(reasons, response_tokens=pl.Series([4, 16, 10], dtype=pl.Int32))
    asked = problems(["1", "2", "1"])
    for extraction in ("paper", "flexible"):
        settings = {"extraction": extraction, "answer_after": "</think>"}
        scores = score_generations(table, asked, "####", [], **settings)
        assert scores["prediction"].to_list() == ["1", "", ""]
        (counts,) = count_filters(table, "####", [], **settings).to_dicts()
        assert (counts["used"], counts["too_long"], counts["ended"]) == (1, 1, 1)
    (lengths,) = answer_lengths(table, scores).to_dicts()
    assert lengths["answers"] == 3
    assert lengths["tokens"] == 10
    assert lengths["cut"] == lengths["paper"] == lengths["math"] == 1 / 3
