from __future__ import annotations

import pytest

from weak_to_strong.prompts import clean_response, few_shot_prompt, sft_target, zero_shot_prompt


def test_few_shot_prompt_ends_in_the_zero_shot_prompt():
    shots = [{"question": "A?", "response": "1\n#### 1"}, {"question": "B?", "response": "2"}]
    assert few_shot_prompt("C?", shots) == (
        "Question: A?\nAnswer: 1\n#### 1\n\nQuestion: B?\nAnswer: 2\n\nQuestion: C?\nAnswer:"
    )
    assert few_shot_prompt("C?", []) == zero_shot_prompt("C?")


def test_gsm8k_target_loses_calculator_marks_only():
    solution = "3 < 4, so 2*3 = <<2*3=6>>6 and << stays.\n#### 6"
    assert sft_target(solution, "6", "####") == "3 < 4, so 2*3 = 6 and << stays.\n#### 6"


def test_math_target_appends_the_answer():
    assert sft_target("So $x=1$.", "1", "The answer is:") == "So $x=1$. The answer is: 1"


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
