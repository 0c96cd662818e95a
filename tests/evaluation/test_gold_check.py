"""Gold answers graded against themselves."""

from __future__ import annotations

import polars as pl
import pytest

from weak_to_strong.evaluation.gold_check import check_gold, count_stops, find_unread_gold
from weak_to_strong.tables.schemas import PROBLEMS

FLEXIBLE = {
    "answer_key": "####",
    "stop": ["\nQuestion:"],
    "extraction": "flexible",
    "quirks": {},
    "judge": {"name": "math", "timeout_seconds": 5.0},
}
PAPER = FLEXIBLE | {
    "stop": ["Question", "Answer"],
    "extraction": "paper",
    "judge": {"name": "string"},
}


def problems(*rows: tuple[str | None, str | None]) -> pl.DataFrame:
    table = [
        {"id": str(number), "question": "Q", "solution": solution, "answer": answer}
        for number, (solution, answer) in enumerate(rows)
    ]
    return pl.DataFrame(table, schema=PROBLEMS)


@pytest.mark.parametrize("reading", [FLEXIBLE, PAPER])
def test_gold_that_is_read_back(reading):
    good = problems(("1+1\n#### 2", "2"), (None, "1,234"), ("no key", "3"), ("x", None))
    assert find_unread_gold(good, reading).is_empty()
    boxed = reading | {"answer_key": r"\boxed"}
    assert find_unread_gold(problems(("x", r"\frac{1}{2}")), boxed).is_empty()


def test_a_stop_string_in_the_gold_text():
    table = problems(*[("so\nFinal Answer: 148\n#### 148", "148")] * 20)
    assert find_unread_gold(table, FLEXIBLE).is_empty()
    with pytest.raises(ValueError, match="20 of 20 gold answers") as error:
        check_gold({"test": table}, PAPER, 0.0, "sums")
    assert str(error.value) == (
        "tasks.sums.splits.test: 20 of 20 gold answers are not read back from their own text "
        "(first ids 0, 1, 2; '148' is read as ''): the stop string 'Answer' is in the text: set "
        "other `stop` strings, or allow a share of such rows with tasks.sums.gold_unread"
    )
    assert count_stops({"test": table}, PAPER["stop"]) == {"Answer": 20}


@pytest.mark.parametrize(
    ("answer", "fix"),
    [
        ("first 40, then 2\n#### 42", "the answer holds '####'"),
        ("reasoning #### 42", "use `loader: gsm8k`"),
        ("first 40\nthen 2", "name the column of the answer alone"),
        ("9" * 301, "name the column of the answer alone"),
    ],
)
@pytest.mark.parametrize("reading", [FLEXIBLE, PAPER])
def test_answers_that_no_answer_could_equal(answer, fix, reading):
    with pytest.raises(ValueError, match="1 of 1 gold answers") as error:
        check_gold({"test": problems((answer, answer))}, reading, 0.0, "sums")
    assert fix in str(error.value)
    assert "\n" not in str(error.value)


def test_the_fix_for_an_answer_in_a_box():
    boxed = FLEXIBLE | {"answer_key": r"\boxed"}
    with pytest.raises(ValueError, match=r"holds '.*boxed': use `loader: math`, or name its own"):
        check_gold({"test": problems((None, r"\boxed{42}"))}, boxed, 0.0, "sums")


def test_a_share_may_be_allowed():
    table = problems(("1\n#### 1", "2"), ("1\n#### 1", "1"))
    assert check_gold({"train_1": table, "test": table.tail(1)}, FLEXIBLE, 0.5, "sums") == {
        "train_1": 1
    }
    with pytest.raises(ValueError, match=r"train_1: 1 of 2 .*'2' is read as '1'"):
        check_gold({"train_1": table}, FLEXIBLE, 0.4, "sums")


def test_other_judges():
    """`$1,234.00` in the text and `1234` in the column are one answer for the math judge."""
    table = problems(("#### $1,234.00", "1234"))
    assert find_unread_gold(table, FLEXIBLE).is_empty()
    mixed = problems(("x", "A, C")).with_columns(answer_type=pl.lit("MC"))
    judge = {"name": "olympicarena", "timeout_seconds": 5.0}
    boxed = PAPER | {"answer_key": r"\boxed", "judge": judge}
    assert find_unread_gold(mixed, boxed).is_empty()
