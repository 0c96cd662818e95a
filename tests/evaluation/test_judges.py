"""The judge of OlympicArena, type by type: by its rules alone, and with math-verify's workers."""

from __future__ import annotations

import json
from collections import Counter

import polars as pl
import pytest
import table_builders
from hypothesis import given
from hypothesis import strategies as st
from olympicarena_examples import FOLDER, parts, read_back
from released_data import released
from table_builders import generations, labels, samples

from weak_to_strong.evaluation import scoring
from weak_to_strong.evaluation.judges import (
    Case,
    choose_judge,
    judge_many,
    question_judge,
    verdicts_by_type,
)
from weak_to_strong.evaluation.scoring import score_generations
from weak_to_strong.method.agreement import agreement_filter
from weak_to_strong.method.answers import extract_answer, string_judge
from weak_to_strong.method.majority_vote import majority_vote
from weak_to_strong.method.pairs import build_pairs

TYPES = ["SC", "MC", "TF", "NV", "SET", "IN", "EX", "EQ", "TUP", "MPV", "MA"]

SETTLED_BY_RULES = [
    ("SC", "A", "A", "right"),
    ("SC", r"\text{A}", "A", "right"),
    ("SC", r"\mathrm{(B)}", "B", "right"),
    ("SC", "[C]", "C", "right"),
    ("SC", "D: the last one", "D", "right"),
    ("SC", "(A) 5 cm", "A", "right"),
    ("SC", "B", "A", "wrong"),
    ("SC", "AB", "A", "wrong"),
    ("SC", "E = mc^2", "E", "wrong"),
    ("SC", "Aquarius", "A", "wrong"),
    ("SC", "the first", "the second", "undecided"),
    ("MC", "A, C", "C, A", "right"),
    ("MC", "AC", "A, C", "right"),
    ("MC", r"\text{A, C}", "A, C", "right"),
    ("MC", "[A, C]", "A, C", "right"),
    ("MC", "A and C", "A, C", "right"),
    ("MC", "A: one, C: three", "A, C", "right"),
    ("MC", "A", "A, C", "wrong"),
    ("MC", "A, B, C", "A, C", "wrong"),
    ("MC", "the first", "A, C", "wrong"),
    ("TF", "True", "True", "right"),
    ("TF", r"\text{true}", "True", "right"),
    ("TF", r"\mathrm{False}.", "False", "right"),
    ("TF", "False", "True", "wrong"),
    ("TF", "Perhaps", "True", "wrong"),
    ("NV", "5", "5.0", "right"),
    ("NV", "$5$", "5", "right"),
    ("NV", "v = 5", "5", "right"),
    ("NV", r"x \approx 2.5", "2.5", "right"),
    ("NV", "1,250", "1250", "right"),
    ("NV", r"1{,}250", "1250", "right"),
    ("NV", r"12\,500", "12500", "right"),
    ("NV", r"\frac{1}{4}", "0.25", "right"),
    ("NV", "1/4", r"\dfrac{1}{4}", "right"),
    ("NV", "50%", r"50\%", "right"),
    ("NV", r"30^{\circ}", "30", "right"),
    ("NV", "3.14159", "3.141592", "right"),  # 2e-6 apart
    ("NV", "3.1415", "3.1416", "wrong"),
    ("NV", "0.000001", "0.000002", "wrong"),  # not all small numbers are equal
    ("NV", "5", "-5", "wrong"),
    ("NV", r"1.25 \times 10^{5}", r"1.3 \times 10^5", "right"),
    ("NV", r"1.25 \cdot 10^{5}", "125000", "right"),
    ("NV", "1.25e5", "126000", "right"),
    ("NV", r"9.99 \times 10^{4}", r"1.0 \times 10^{5}", "right"),
    ("NV", r"1.25 \times 10^{5}", r"1.25 \times 10^{6}", "wrong"),
    ("NV", r"1.2 \times 10^{5}", r"1.4 \times 10^{5}", "wrong"),
    ("NV", "125000", "126000", "wrong"),
    ("SET", r"\{3, 4\}", "4, 3", "right"),
    ("SET", r"S = \{1, 1, 2\}", r"\{1, 2\}", "right"),
    ("SET", r"\left\{0.5, 2\right\}", r"\{\frac{1}{2}, 2\}", "right"),
    ("SET", r"\{3\}", r"\{3, 4\}", "wrong"),
    ("IN", "(1, 2]", "(1,2]", "right"),
    ("IN", r"x \in [0, \infty)", r"\left[0, +\infty\right)", "right"),
    ("IN", r"(7, 8) \cup [1, 2]", r"[1,2]\cup(7,8)", "right"),
    ("IN", "]1, 2[", "(1, 2)", "right"),
    ("IN", "[0, 1)", "[0, 1]", "wrong"),
    ("IN", r"(-\infty, 1)", r"(\infty, 1)", "wrong"),
    ("IN", "(1, 2)", "(1, 3)", "wrong"),
    ("EX", r"\frac{1}{2} g t^2", r"$\frac{1}{2} g t^2$", "right"),
    ("EX", "s = 12", "12", "right"),
    ("EQ", "y = 2x", "$y = 2x$", "right"),
    ("TUP", "(3, 5)", r"\left(3, 5\right)", "right"),
    ("TUP", "(x, y) = (3, 5)", "(3, 5)", "right"),
    ("TUP", "(5, 3)", "(3, 5)", "wrong"),
    ("TUP", "(3, 5, 1)", "(3, 5)", "wrong"),
    ("MA", "2, 1", "1, 2", "right"),
    ("MA", "1 and 2", "1, 2", "right"),
    ("MA", "1", "1, 2", "wrong"),
    ("MA", "1, 2, 3", "1, 2", "wrong"),
    ("MPV", "1, 2", "1, 2.0", "right"),
    ("MPV", "(1, 2)", "1, 2", "right"),
    ("MPV", "x=1, y=2", "1, 2", "right"),
    ("MPV", "1,000, 2", "1000, 2", "right"),
    ("MPV", "2, 1", "1, 2", "wrong"),
    ("MPV", "1", "1, 2", "wrong"),
    ("MPV", "1, 2", "1", "undecided"),  # gold has one part where two are asked for
    ("OT", "a long answer", "another one", "undecided"),
    ("CODE", "print(1)", "print(2)", "undecided"),
    (None, "0.50", "0.5", "right"),
]

#: Type, two answers, and the verdict of the authors' judge; ours is "wrong" of all of them.
RELEASED_JUDGE = [
    ("SC", "E", "E = mc^2", "right"),
    ("SC", r"\mathrm{E}", r"m g h = E", "right"),
    ("SC", "A", "Aquarius", "right"),
    ("SC", "Aquarius", "A", "right"),
    ("SC", "B", "Aquarius", "wrong"),
    ("SC", "A", "B: Alpha", "wrong"),  # both name an option
    ("MC", "A", "AC", "right"),
    ("MC", "C", "AC", "right"),
    ("MC", "A, C", "AB, CD", "right"),  # the first letter between two commas
    ("MC", "AC", "AB", "wrong"),
    ("MC", "D", "A, C", "wrong"),
    ("NV", "0.000001", "0.000002", "right"),
    ("NV", r"2 \times 10^{-8}", "0", "right"),
    ("NV", r"2 \times 10^{-3}", "0", "wrong"),
    ("NV", "3.1415", "3.1416", "wrong"),
    ("TUP", "(1, 0.000001)", "(1, 0.000003)", "right"),
    ("MPV", "0.000001, 2", "0.000003, 2", "right"),
    ("TF", "True", "False", "wrong"),
]

SETTLED_BY_MATH_VERIFY = [
    ("NV", r"\sqrt{2}", "1.414214", "right"),
    ("NV", r"2\sqrt{3}", r"\sqrt{12}", "right"),
    ("NV", r"\sqrt{2}", "1.42", "wrong"),
    ("NV", r"\frac{\pi}{2}", r"\frac{\pi}{3}", "wrong"),
    ("NV", "x + 1", "5", "wrong"),
    ("SET", r"\{\sqrt{2}, 1\}", r"\{1, \sqrt{2}\}", "right"),
    ("SET", r"\{\sqrt{2}, 1\}", r"\{1, \sqrt{3}\}", "wrong"),
    ("IN", r"(0, \sqrt{2})", r"(0, 2^{1/2})", "right"),
    ("IN", r"(0, \sqrt{2})", r"(0, \sqrt{3})", "wrong"),
    ("EX", r"\frac{g t^2}{2}", r"\frac{1}{2} g t^2", "right"),
    ("EX", "v = 2 a b", "b a + a b", "right"),
    ("EX", r"\sqrt{8}", r"2\sqrt{2}", "right"),
    ("EX", "x + 1", "x + 2", "wrong"),
    ("EX", "3x", "3", "wrong"),
    ("EQ", "2y = 4x", "y = 2x", "right"),
    ("EQ", "x^2 + 2y^2 = 4", r"\frac{x^2}{4} + \frac{y^2}{2} = 1", "right"),
    ("EQ", "2x - y = 0", "y = 2x", "right"),
    ("EQ", "y = 3x", "y = 2x", "wrong"),
    ("EQ", "x + y + 1 = 0", "x + y = 0", "wrong"),
    ("TUP", r"(\frac{\sqrt{4}}{4}, 5)", "(0.5, 5)", "right"),
    ("TUP", r"(\sqrt{2}, 5)", r"(\sqrt{3}, 5)", "wrong"),
    ("MPV", r"\sqrt{4}, 3", "2, 3", "right"),
    ("MPV", r"3, \sqrt{4}", "2, 3", "wrong"),
    ("MA", r"3, \sqrt{4}", "2, 3", "right"),
    (None, r"\frac{2}{4}", r"\frac12", "right"),
    ("EX", "m g h", "h g m", "right"),
    ("EX", "2 m g", "3 m g", "wrong"),
    ("EX", "9^{9^{9}}", "9^{9^{8}}", "wrong"),
    ("EX", r"\frac{x}{2", "x", "undecided"),
]


def case(kind: str | None, prediction: str, gold: str, unit: str | None = None) -> Case:
    several = parts("NV", "NV") if kind in ("MPV", "MA") else None
    return Case(prediction, gold, kind, unit, several)


@pytest.fixture
def no_worker(monkeypatch):
    def refuse(*_):
        raise AssertionError("a worker was started")

    monkeypatch.setattr(scoring._Worker, "_start", refuse)


@pytest.mark.usefixtures("no_worker")
class TestRules:
    @pytest.mark.parametrize(("kind", "prediction", "gold", "verdict"), SETTLED_BY_RULES)
    def test_types(self, kind, prediction, gold, verdict):
        assert judge_many([case(kind, prediction, gold)]) == [verdict]

    @pytest.mark.parametrize(("kind", "prediction", "gold", "verdict"), RELEASED_JUDGE)
    def test_the_released_judge_is_more_lenient(self, kind, prediction, gold, verdict):
        asked = [case(kind, prediction, gold)]
        assert judge_many(asked) == ["wrong"]
        assert judge_many(asked, released_judge=True) == [verdict]

    @pytest.mark.parametrize(("kind", "prediction", "gold", "verdict"), SETTLED_BY_RULES)
    def test_the_released_judge_accepts_all_that_ours_does(self, kind, prediction, gold, verdict):
        verdicts = judge_many([case(kind, prediction, gold)], released_judge=True)
        assert verdicts[0] == verdict or (verdict, *verdicts) == ("wrong", "right")

    @pytest.mark.parametrize(
        ("prediction", "gold", "unit", "verdict"),
        [
            (r"5 \mathrm{~cm}", "5", "cm", "right"),
            (r"5 \text{ cm}", r"5\mathrm{cm}", r"\mathrm{~cm}", "right"),
            ("5cm", "5", "cm", "right"),
            (r"25^{\circ} \mathrm{C}", "25", r"^{\circ} \mathrm{C}", "right"),
            (r"2 \times 10^{3} \mathrm{kg}", "2000", "kg", "right"),
            (r"6 \mathrm{~cm}", "5", "cm", "wrong"),
            (r"5 \mathrm{~m}", "5", "cm", "undecided"),
            (r"0.05 \mathrm{~m}", "5", "cm", "undecided"),
            (r"5 \mathrm{~cm}", "5", None, "undecided"),
            (r"5 \mathrm{~cm}", r"5 \text{cm}", None, "right"),
        ],
    )
    def test_units(self, prediction, gold, unit, verdict):
        assert judge_many([case("NV", prediction, gold, unit)]) == [verdict]

    def test_each_part_has_its_own_type_and_unit(self):
        several = json.dumps(
            [
                {"type": "NV", "unit": "cm", "name": "height"},
                {"type": "TF", "unit": None, "name": "convex"},
                {"type": "OT", "unit": None, "name": "reason"},
            ]
        )
        rows = [r"3 \mathrm{cm}, \text{true}, gravity", "3, False, gravity", "3, True, weight"]
        gold = "3, True, gravity"
        cases = [Case(row, gold, "MPV", None, several) for row in rows]
        assert judge_many(cases) == ["undecided", "wrong", "undecided"]

    @given(
        st.sampled_from([*TYPES, "OT", "new", None]),
        st.text(max_size=12),
        st.text(max_size=12),
        st.booleans(),
    )
    def test_every_text_has_a_verdict(self, kind, prediction, gold, released):
        # Without the worker's replies nothing that it is asked for may be settled either.
        def answer(questions, *_):
            return dict.fromkeys(questions, "undecided")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("weak_to_strong.evaluation.judges.ask_workers", answer)
            cases = case(kind, prediction, gold), case(kind, prediction, prediction)
            verdict, again = judge_many(cases, released_judge=released)
        assert verdict in ("right", "wrong", "undecided")
        assert again == "right"

    @pytest.mark.parametrize("kind", [*TYPES, None])
    def test_empty_answers_are_wrong_and_endless_ones_undecided(self, kind):
        cases = [case(kind, "", "5"), case(kind, "1, " * 5_000, "5")]
        assert judge_many(cases) == ["wrong", "undecided"]

    def test_long_lists_are_not_compared(self):
        numbers = ", ".join(map(str, range(30)))
        cases = [case(kind, numbers, numbers + ", 30") for kind in ("SET", "MA")]
        assert judge_many(cases) == ["undecided", "undecided"]


@pytest.fixture(scope="module")
def verdicts() -> list[str]:
    """Of all cases for math-verify in one batch, as a rule has them."""
    return judge_many([case(*row[:3]) for row in SETTLED_BY_MATH_VERIFY], 2.0)


class TestMathVerify:
    @pytest.mark.parametrize("number", range(len(SETTLED_BY_MATH_VERIFY)), ids=str)
    def test_types(self, verdicts, number):
        kind, prediction, gold, verdict = SETTLED_BY_MATH_VERIFY[number]
        assert verdicts[number] == verdict, (kind, prediction, gold)


# --- where the judge is used ---------------------------------------------------------------------


def questions(**types: str) -> pl.DataFrame:
    """QUESTIONS with these answer types by id."""
    return table_builders.questions(types, answer_type=list(types.values()))


@pytest.mark.usefixtures("no_worker")
class TestUse:
    def test_agreement(self):
        judge = question_judge(questions(a="MC", b="NV", c="OT", d="SC"))
        weak = labels({"a": "A, C", "b": "0.5", "c": "this", "d": ""})
        icl = labels({"a": "CA", "b": r"\frac{1}{2}", "c": "that", "d": ""})
        assert agreement_filter(weak, icl, judge=judge)["prediction"].to_list() == ["A, C", "0.5"]
        assert agreement_filter(weak, icl, judge=judge, keep_empty=True)["id"][-1] == "d"

    def test_votes_for_the_same_answer_add_up(self):
        rows = samples({"a": ["2", "0.5", "1/2", "", "2.0", "0.50"], "b": ["A", "B"]})
        votes = majority_vote(rows, judge=question_judge(questions(a="NV", b="SC")))
        assert votes.rows() == [("a", "0.5", 0.5, 6), ("b", "A", 0.5, 2)]
        assert majority_vote(rows)["majority"].to_list() == ["2", "A"]

    def test_pairs_hold_only_answers_that_can_be_compared(self):
        asked = questions(a="NV", b="NV")
        judge = question_judge(asked)
        rows = samples({"a": ["5"] * 7 + ["5 m", "5.0", "6"], "b": ["5"] * 9 + ["6"]})
        weak = labels({"a": "5.00", "b": "5 m"})
        votes = majority_vote(rows, judge=judge)
        pairs = build_pairs(weak, rows, votes, asked, judge=judge)
        # Another unit is neither right nor wrong: no negative sample, no weak side.
        assert pairs.select("id", "chosen", "rejected").rows() == [("a", " a: 5.00", " 9: 6")]

    def test_scores_and_their_summary_by_type(self):
        problems = table_builders.problems(
            id=["a", "b", "c"], answer=["A, C", "5", "so"], answer_type=["MC", "NV", "OT"]
        )
        texts = {"a": r"\boxed{CA}", "b": r"\boxed{\text{about } 4}", "c": r"\boxed{thus}"}
        answers = generations([("r", name, 0, text) for name, text in texts.items()])
        judge = question_judge(problems)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "weak_to_strong.evaluation.judges.ask_workers",
                lambda asked, *_: dict.fromkeys(asked, "wrong"),
            )
            scores = score_generations(answers, problems, r"\boxed", [], judge=judge)
        assert scores["paper"].to_list() == ["wrong"] * 3
        assert scores["math"].to_list() == ["right", "wrong", "undecided"]
        counts = verdicts_by_type(scores, problems)
        assert list(counts) == ["MC", "NV", "OT"]
        assert counts["OT"] == {"right": 0, "wrong": 0, "timeout": 0, "undecided": 1}
        assert verdicts_by_type(scores, problems.with_columns(answer_type=None)) == {}

    def test_settings_choose_the_judge(self):
        asked = questions(a="MC")
        assert choose_judge({"name": "string"}, asked) is string_judge
        settings = {"name": "olympicarena", "timeout_seconds": 1.0, "released_judge": False}
        judge = choose_judge(settings, asked)
        assert judge([("a", "AB", "B, A"), ("a", "A", "AB")]) == ["right", "wrong"]
        judge = choose_judge({**settings, "released_judge": True}, asked)
        assert judge([("a", "AB", "B, A"), ("a", "A", "AB")]) == ["right", "right"]
        with pytest.raises(ValueError, match="judge 'oracle' is not one of string, math, olym"):
            choose_judge({"name": "oracle"}, asked)


def test_released_sides_agree():
    """Of the 746 released questions both sides give the same answer, but to 39: there the authors'
    judge took the first capital letter of a formula, word or list for the choice."""
    stem = f"{FOLDER}/train_olympic_llama3-8b-instruct_iter1"
    icl = {row["id"]: row["output"] for row in released(f"{stem}_icl.json")}
    cases = []
    for row in released(f"{stem}_weak.json"):
        asked = read_back(row["content"])
        answers = [extract_answer(text, r"\boxed") for text in (row["output"], icl[row["id"]])]
        assert all(answers)
        cases.append(Case(*answers, asked["answer_type"], asked["unit"], asked["parts"]))
    verdicts = judge_many(cases)
    assert verdicts.count("right") == 707
    apart = [case for case, verdict in zip(cases, verdicts, strict=True) if verdict == "wrong"]
    assert len(apart) == 39
    assert Counter(case.answer_type for case in apart) == {"SC": 35, "MC": 4}
    assert set(judge_many(cases, released_judge=True)) == {"right"}


def test_the_math_judge_sees_one_answer_in_two_writings():
    """In agreement, votes and pairs, where the string judge sees two."""
    judge = choose_judge({"name": "math", "timeout_seconds": 5.0}, pl.DataFrame())
    rows = [("0", "$1,234.00", "1234"), ("0", "18 eggs", "18"), ("0", "", ""), ("0", "1", "2")]
    assert judge(rows) == ["right", "right", "right", "wrong"]
    assert agreement_filter(labels(["$1,234.00"]), labels(["1234"]), judge=judge).height == 1
    drawn = samples({"0": ["$1,234.00", "7", "1234", "7", "1,234"]})
    assert majority_vote(drawn, judge=judge).row(0) == ("0", "$1,234.00", 0.6, 5)
    assert majority_vote(drawn).row(0) == ("0", "7", 0.4, 5)
