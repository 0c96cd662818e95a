"""Answers in the forms in which models write them, and what each filter finds of them."""

from __future__ import annotations

import polars as pl
import pytest

from weak_to_strong.method.answer_keys import ANSWER_KEYS
from weak_to_strong.method.answers import (
    DEFAULT_STOPS,
    extract_answer,
    extract_column,
    predict_column,
)
from weak_to_strong.method.flexible_answers import find_answers, find_letter, last_box
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
        ("The answer's 42", SPOKEN, "42"),
        ("The answer\u2019s 42.", SPOKEN, "42"),
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
        (r"\boxed{5} and \boxed{}", BOXED, "5"),
        ("boxed{5}", BOXED, "5"),
        ("\x08oxed{5}", BOXED, "5"),
        ("\\boxed\n{5}", BOXED, "5"),
        ("There are 12 of them", HASHES, ""),
        ("", HASHES, ""),
        # tags and JSON
        ("It is 3 or 4.\n<answer> 42 </answer>", HASHES, "42"),
        (r"<answer>\boxed{42}</answer>", SPOKEN, "42"),
        ("<answer>1 < 2</answer>", BOXED, "1 < 2"),
        ("<answer>41</answer> is wrong.\n#### 42", HASHES, "42"),
        ("The answer is <|begin_of_box|>42<|end_of_box|>.", HASHES, "42"),
        ('```json\n{"answer": 42, "unit": "m"}\n```', HASHES, "42"),
        ('{"reason": "so", "final_answer": "42 m"}', BOXED, "42 m"),
        ("<|channel|>analysis<|message|>3<|end|><|channel|>final<|message|>#### 4", HASHES, "4"),
        ("#### 42<EOS>", HASHES, "42"),
        # headings
        ("#### Step 2: sum\n3*14\n**Answer:** 42", HASHES, "42"),
        ("#### 1. Find the sum\nso \\boxed{42}", HASHES, "42"),
        ("#### Monday\nThis answer is reasonable.", HASHES, "Monday"),
        ("#### 42 ####", HASHES, "42"),
        ("####42####", HASHES, "42"),
        ("#### C#", HASHES, "C#"),
        (r"\#\#\#\# 42", HASHES, "42"),
        ("\uff03\uff03\uff03\uff03 42", HASHES, "42"),
        ("#### 6*7=<<6*7=42>>42", HASHES, "6*7=42"),
        # what is said about an answer
        ("The answer is 42. The answer is correct.", SPOKEN, "42"),
        ("The answer is 42.\nNote: the answer is in dollars.", SPOKEN, "42"),
        ("The answer is 42. So the answer is not 41.", SPOKEN, "42"),
        ("The answer is in the interval (0, 1).", SPOKEN, "in the interval (0, 1)"),
        ("Is it true? The answer is: wrong.", SPOKEN, "wrong"),
        ("Answer:x", SPOKEN, "x"),
        ("Answer(s): 42", SPOKEN, "42"),
        ("**Final Answer** \u2013 42", SPOKEN, "42"),
        ("Final answer 42", SPOKEN, "42"),
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
    "unit",
    [
        *("####", "answer is ", r"\boxed{", r"\boxed 1 ", "</s>", "**", "1,", "$. A", r"\boxed["),
        *("<answer>", "<answer>1</answer>", '"answer": "', " #", "boxed", "answer is in "),
    ],
)
def test_half_a_megabyte_of_repetition_ends(unit):
    """Quadratic patterns would need hours here."""
    for key in ANSWER_KEYS:
        find_answers(f"The answer is {unit * (500_000 // len(unit))}", key)


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("It is five.\nThe answer is: B", "B"),
        ("The answer is: (B)", "B"),
        ("The answer is (b).", "B"),
        ("The answer is **B) Paris**.", "B"),
        (r"The answer is $\text{B}$", "B"),
        (r"So \boxed{(B)}.", "B"),
        ("The answer is: option B", "B"),
        ("The answer is B: Paris", "B"),
        ("Final answer: B. Paris", "B"),
        ("Therefore, the correct answer is:\n\n**B**", "B"),
        ("The answer is B because it is warm", "B"),
        ("The answer is: B) A cell divides", "B"),
        ("#### B", "B"),
        ("B", "B"),
        ("(B)", "B"),
        ("B) Paris", "B"),
        ("Answer:B", "B"),
        ("\u7b54\u6848\uff1aB\u3002", "B"),
        ("Answer: \uff22", "B"),
        ('The answer is "B".', "B"),
        ("Answer: ( B )", "B"),
        ("Answer: B \u2013 Paris", "B"),
        ("The answer is B, Paris.", "B"),
        ("<answer>B</answer>", "B"),
        ("Of these, (B) is the correct answer.", "B"),
        ("So option B is correct.", "B"),
        ("Option B is not correct.", ""),
        ("The answer is: A, B, and C", ""),
        ("The answer is: A, C", ""),
        ("The answer is: (A) and (C)", ""),
        ("The answer is: A or B", ""),
        ("The answer is: AB", ""),
        ("The answer is: A dog", ""),
        ("The answer is: Paris", ""),
        ("A long text without any answer in it", ""),
        ("", ""),
    ],
)
def test_letters_of_options(response, letter):
    assert find_letter(response, "The answer is:") == letter
    column = extract_column(pl.Series("r", [response, None]), "The answer is:", "letter")
    assert column.to_list() == [letter, None]


def test_letters_take_linear_time():
    text = "The answer is: A) " + "B) and C, " * 30_000
    assert find_letter(text, "The answer is:") in ("", "A")
    assert find_letter("(" * 300_000, "The answer is:") == ""
