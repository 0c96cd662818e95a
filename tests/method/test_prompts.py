from __future__ import annotations

import pytest

from weak_to_strong.method.answers import extract_answer
from weak_to_strong.method.prompts import (
    clean_response,
    few_shot_prompt,
    problem_prompt,
    sft_target,
    zero_shot_prompt,
)


def test_few_shot_prompt_ends_in_the_zero_shot_prompt():
    shots = [
        {"prompt": zero_shot_prompt("A?"), "response": "1\n#### 1"},
        {"prompt": zero_shot_prompt("B?"), "response": "2"},
    ]
    assert few_shot_prompt(zero_shot_prompt("C?"), shots) == (
        "Question: A?\nAnswer: 1\n#### 1\n\nQuestion: B?\nAnswer: 2\n\nQuestion: C?\nAnswer:"
    )
    assert few_shot_prompt("C", []) == "C"


def test_gsm8k_target_loses_calculator_marks_only():
    solution = "3 < 4, so 2*3 = <<2*3=6>>6 and << stays.\n#### 6"
    assert sft_target(solution, "6", "####") == "3 < 4, so 2*3 = 6 and << stays.\n#### 6"


def test_math_target_appends_the_answer():
    assert sft_target("So $x=1$.", "1", "The answer is:") == "So $x=1$. The answer is: 1"


def test_boxed_target_appends_a_sentence():
    target = sft_target("So.", r"$\frac{1}{2}$", r"\boxed")
    assert target == r"So. The final answer is $\boxed{\frac{1}{2}}$."
    assert extract_answer(target, r"\boxed") == r"\frac{1}{2}"


def test_unknown_prompt_is_refused():
    with pytest.raises(ValueError, match="prompt 'letter' is not one of question_answer"):
        problem_prompt({"question": "Q"}, "letter")


def test_the_users_turn_of_a_chat_is_the_question_alone():
    assert problem_prompt({"question": "Q"}, "chat") == "Q"


def test_gsm8k_solution_without_answer_line_is_refused():
    with pytest.raises(ValueError, match="no last line `#### answer`"):
        sft_target("2*3 = 6", "6", "####")


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        (" 6 eggs.\n#### 6\n\nQuestion: next?\nAnswer: 7", "6 eggs.\n#### 6"),
        ("\n#### 6...\n", "#### 6"),
        ("6 Answer: 7 Question: 8", "6"),
        ("", ""),
    ],
)
def test_clean_response(text, cleaned):
    assert clean_response(text, ["Question", "Answer"]) == cleaned


@pytest.mark.parametrize(
    ("key", "target"),
    [
        ("The answer is:", "The answer is: 5"),
        ("####", "#### 5"),
        (r"\boxed", r"The final answer is $\boxed{5}$."),
    ],
)
def test_without_a_solution_key_and_answer_are_taught(key, target):
    assert sft_target("", "5", key) == target
