"""Answers in the forms in which models write them, and what each filter finds of them."""

from __future__ import annotations

import polars as pl
import pytest

from weak_to_strong.method.answers import (
    ANSWER_KEYS,
    DEFAULT_STOPS,
    extract_answer,
    extract_column,
    find_answers,
    last_box,
    predict_column,
)
from weak_to_strong.method.prompts import clean_response

HASHES, SPOKEN, BOXED = ANSWER_KEYS


@pytest.mark.parametrize(
    ("response", "key", "answer"),
    [
        ("6*7\n#### 42", HASHES, "42"),
        ("6*7\n####42", HASHES, "42"),
        ("6*7\n####\u00a042", HASHES, "42"),
        ("6*7\n#### 42</s>", HASHES, "42"),
        ("6*7\n#### 42 <|endoftext|>", HASHES, "42"),
        ("6*7\n#### 42<|im_end|>\n#### 7", HASHES, "42"),
        ("6*7\n#### **73**", HASHES, "73"),
        ("6*7\n#### 42\nI hope this helps.", HASHES, "42"),
        ("6*7\n#### 42. So there are 42 of 50.", HASHES, "42"),
        ("#### 5\n#### 6", HASHES, "6"),
        ("#### Final answer: 42", HASHES, "42"),
        ("#### Answer\n42", HASHES, "42"),
        ("#### 3.5 cups. Done", HASHES, "3.5 cups"),
        ("#### $1,234.00", HASHES, "$1,234.00"),
        ("#### 10 000", HASHES, "10 000"),
        (r"so $\boxed{5}$.", HASHES, "5"),
        ("So the Answer is simple. Question 1 is done.\n#### 5", HASHES, "5"),
        ("**The answer is:** 73", SPOKEN, "73"),
        ("**Answer**: 73", SPOKEN, "73"),
        ("the answer is: 42", SPOKEN, "42"),
        ("THE ANSWER IS 42", SPOKEN, "42"),
        ("The answer is\uff1a42", SPOKEN, "42"),
        ("The answer is 3.5. That is all.", SPOKEN, "3.5"),
        ("The answer is:\n42", SPOKEN, "42"),
        ("The answer is 42! Great.", SPOKEN, "42"),
        ("The answer is 5!", SPOKEN, "5!"),
        ("The answer is 7 because 3+4=7", SPOKEN, "7"),
        ("The final answer is $\\boxed{42}$. I hope it is correct.", SPOKEN, "42"),
        ("Final Answer: (B) Monday.", SPOKEN, "(B) Monday"),
        ("### Answer\n42", SPOKEN, "42"),
        ("Ans: 42", SPOKEN, "42"),
        ("\u7b54\u6848\u662f42\u3002", SPOKEN, "42"),
        ("so\n####\n42", HASHES, "42"),
        ("so\n#### 42[EOS]", HASHES, "42"),
        (r"\\boxed{42}", BOXED, "42"),
        ("<think>the answer is 3</think>The answer is 4.", SPOKEN, "4"),
        ("The answer is:", SPOKEN, ""),
        (r"\boxed 2", BOXED, "2"),
        (r"\boxed {5}", BOXED, "5"),
        (r"\fbox{7} or \framebox[2cm]{8}", BOXED, "8"),
        (r"\boxed{1} or \boxed 2.", BOXED, "2"),
        (r"\boxed{\frac{1}{2}}", BOXED, r"\frac{1}{2}"),
        ("There are 12 of them", HASHES, ""),
        ("", HASHES, ""),
    ],
)
def test_flexible(response, key, answer):
    assert extract_answer(response, key, "flexible") == answer


def test_filters_side_by_side():
    assert find_answers("so\n#### 42</s>", HASHES) == ("42", "42", "42")
    assert find_answers("so\n####42", HASHES) == ("", "42", "42")
    assert find_answers("It is 1,234", HASHES) == ("", "", "1234")
    assert find_answers("I do not know", HASHES) == ("", "", "")


def test_columns_and_predictions():
    texts = pl.Series("text", ["####42", "####42", "#### 1, 2", "none"])
    assert extract_column(texts, HASHES, "flexible").to_list() == ["42", "42", "1, 2", ""]
    assert predict_column(texts, HASHES, extraction="flexible")[2] == "12"
    with pytest.raises(ValueError, match="answer_key 'Answer:' is not one of"):
        find_answers("42", "Answer:")


def test_stop_strings_alone_end_a_text():
    """The paper's extraction ends a text at `Question`, flexible extraction where `stop` says."""
    text = "A Question of sums.\n#### 4\n\nQuestion: 5?\n#### 6"
    cleaned = clean_response(text, ["\n\nQuestion"])
    assert extract_answer(cleaned, HASHES, "flexible") == "4"
    assert extract_answer(cleaned, HASHES, "paper") == ""
    assert clean_response(text, DEFAULT_STOPS["flexible"]).endswith("#### 4")


@pytest.mark.parametrize("text", [r"\boxed", r"\boxed{", "no box", r"\boxed {1"])
def test_no_box(text):
    assert last_box(text) == ""


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "unit", ["####", "answer is ", r"\boxed{", r"\boxed 1 ", "</s>", "**", "1,", "$. A", r"\boxed["]
)
def test_half_a_megabyte_of_repetition_ends(unit):
    """Quadratic patterns would need hours here."""
    for key in ANSWER_KEYS:
        find_answers(f"The answer is {unit * (500_000 // len(unit))}", key)
