"""Rewards of sampled answers, each against a plain reference."""

from __future__ import annotations

from collections import Counter

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weak_to_strong.method.rewards import GROUPED_ANSWERS, reward_rows, score_answers
from weak_to_strong.tables.schemas import GOLD, KEPT, LABELS, QUESTIONS

ANSWERS = st.sampled_from(["", "1", "2", "3"])
#: Groups of samples: the answer to compare with, and the answers of the samples.
GROUPS = st.lists(
    st.tuples(ANSWERS, st.lists(ANSWERS, min_size=2, max_size=9)), min_size=1, max_size=4
)


def answers_of(groups) -> pl.DataFrame:
    """GROUPED_ANSWERS. All groups are of the same question, as where two passes meet."""
    rows = [
        (group, sample, "q", "ask", f"is {prediction}", prediction, answer)
        for group, (answer, predictions) in enumerate(groups)
        for sample, prediction in enumerate(predictions)
    ]
    return pl.DataFrame(rows, schema=GROUPED_ANSWERS, orient="row")


def plain_majority(predictions: list[str]) -> list[float]:
    votes = Counter(predictions)
    most = max(votes.values())
    winner = next(answer for answer in predictions if votes[answer] == most)
    return [1.0 if answer == winner and answer else 0.0 for answer in predictions]


@given(GROUPS)
def test_majority(groups):
    expected = [reward for _, predictions in groups for reward in plain_majority(predictions)]
    assert score_answers("majority", answers_of(groups)) == expected


@given(GROUPS, st.sampled_from(["weak_label", "agreement", "gold"]))
def test_an_answer_to_compare_with(groups, reward):
    expected = [
        1.0 if prediction == answer and answer else 0.0
        for answer, predictions in groups
        for prediction in predictions
    ]
    assert score_answers(reward, answers_of(groups)) == expected


def test_the_coin_is_fair_and_of_the_seed():
    table = answers_of([("", ["1"] * 8)] * 250)
    coins = score_answers("random", table, seed=1)
    assert set(coins) == {0.0, 1.0}
    assert sum(coins) / len(coins) == pytest.approx(0.5, abs=0.04)
    assert score_answers("random", table, seed=1) == coins
    assert score_answers("random", table, seed=2) != coins
    # It depends on the place of an answer alone: a resumed training throws the same.
    late = table.filter(pl.col("group") >= 200)
    assert score_answers("random", late, seed=1) == coins[-400:]


def test_the_judge_of_the_task_compares():
    """`2` and `2.0` are the same to it; it is asked with the id of the question."""
    asked = []

    def judge(rows):
        asked.extend(rows)
        return ["right" if float(one) == float(other) else "wrong" for _, one, other in rows]

    table = answers_of([("2.0", ["3", "2", "2.0", ""]), ("3", ["3", "3", "2", "3.0"])])
    assert score_answers("majority", table, judge=judge) == [0, 1, 1, 0, 1, 1, 0, 1]
    assert score_answers("weak_label", table, judge=judge) == [0, 1, 1, 0, 1, 1, 0, 1]
    assert {name for name, *_ in asked} == {"q"}
    assert "" not in {answer for _, *answers in asked for answer in answers}


@pytest.fixture
def write(tmp_path):
    def write_file(body: str) -> str:
        file = tmp_path / "mine.py"
        file.write_text(f"import numpy\n\n\ndef score(answers, seed):\n    {body}\n")
        return f"{file}:score"

    return write_file


class TestFunction:
    ANSWERS = answers_of([("1", ["1", "", "22"])])

    def test_it_sees_texts_and_gives_any_numbers(self, write):
        reference = write(
            'assert answers.columns == ["group", "sample", "id", "prompt", "response", '
            '"prediction"]; return answers["response"].str.len_chars() - seed'
        )
        assert score_answers(reference, self.ANSWERS, seed=1) == [3.0, 2.0, 4.0]

    @pytest.mark.parametrize("values", ["[1, 0.5, True]", "numpy.float32([1, 0.5, 1])"])
    def test_kinds_of_numbers(self, write, values):
        assert score_answers(write(f"return {values}"), self.ANSWERS) == [1.0, 0.5, 1.0]

    def test_its_file_runs_once(self, write):
        reference = write("CALLS.append(0); return [len(CALLS)] * 3\n\n\nCALLS = []")
        calls = [score_answers(reference, self.ANSWERS) for _ in range(2)]
        assert calls == [[1.0] * 3, [2.0] * 3]

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("return 1 / 0", "mine.py:score: failed at line 5 with ZeroDivisionError"),
            ("return 1", "mine.py:score: returned int; return 3 numbers, one for each row"),
            ("return answers", "returned DataFrame; return 3 numbers"),
            ("return [1, 2]", "returned 2 values; return 3 numbers"),
            ("return [1, None, 2]", "row 1 has the reward None; return 3 numbers"),
            ("return [1, 2, float('nan')]", "row 2 has the reward nan; return 3 numbers"),
            ("return ['1', 2, 3]", "row 0 has the reward '1'; return 3 numbers"),
        ],
    )
    def test_a_bad_one_ends_in_one_line(self, write, body, message):
        with pytest.raises(ValueError, match=message) as raised:
            score_answers(write(body), self.ANSWERS)
        assert "\n" not in str(raised.value)

    def test_its_questions_have_no_answer(self):
        rows = reward_rows("mine.py:score", QUESTION_TABLE)
        assert rows["answer"].null_count() == rows.height == 3


QUESTION_TABLE = pl.DataFrame(
    {"id": ["a", "b", "c"], "question": ["A", "B", "C"], "unit": ["m", None, None]}
).select(pl.col(name) if name in ("id", "question", "unit") else pl.lit(None, kind).alias(name)
         for name, kind in QUESTIONS.items())  # fmt: skip
LABEL_TABLE = pl.DataFrame(
    [("a", "x", "1"), ("b", "y", ""), ("c", "z", "3")], schema=LABELS, orient="row"
)
KEPT_TABLE = pl.DataFrame([("c", "z", "z", "3"), ("b", "y", "w", None)], schema=KEPT, orient="row")
GOLD_TABLE = pl.DataFrame(
    [("a", "s", "1,000"), ("b", "s", "2"), ("c", "s", None)], schema=GOLD, orient="row"
)


class TestRows:
    def test_questions_alone(self):
        for reward in ("majority", "random"):
            rows = reward_rows(reward, QUESTION_TABLE)
            assert rows["prompt"].to_list() == [f"Question: {x}\nAnswer:" for x in "ABC"]
            assert rows["answer"].null_count() == 3
            assert rows["unit"].to_list() == ["m", None, None]

    @pytest.mark.parametrize(
        ("reward", "table", "expected"),
        [
            ("weak_label", {"weak_labels": LABEL_TABLE}, [("a", "1"), ("c", "3")]),
            ("agreement", {"kept": KEPT_TABLE}, [("c", "3")]),
            ("gold", {"gold": GOLD_TABLE}, [("a", "1000"), ("b", "2")]),
        ],
    )
    def test_questions_with_an_answer_to_compare_with(self, reward, table, expected):
        rows = reward_rows(reward, QUESTION_TABLE, **table)
        assert rows.select("id", "answer").rows() == expected

    def test_raw_gold_for_a_judge_of_mathematics(self):
        rows = reward_rows("gold", QUESTION_TABLE, gold=GOLD_TABLE, raw=True)
        assert rows["answer"].to_list() == ["1,000", "2"]

    def test_no_answer_at_all(self):
        empty = LABEL_TABLE.with_columns(prediction=pl.lit(""))
        with pytest.raises(ValueError, match=r"no question has an answer .* 'weak_labels'"):
            reward_rows("weak_label", QUESTION_TABLE, weak_labels=empty)

    def test_a_missing_table_and_an_unknown_reward(self):
        with pytest.raises(ValueError, match="needs the table 'gold'"):
            reward_rows("gold", QUESTION_TABLE)
        with pytest.raises(ValueError, match=r"'luck' is not `file.py:name`, nor one of majority"):
            reward_rows("luck", QUESTION_TABLE)
