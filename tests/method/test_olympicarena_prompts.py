from __future__ import annotations

import pytest
from olympicarena_examples import FOLDER, parts, read_back
from released_data import released

from weak_to_strong.method.olympicarena_prompts import (
    WORDINGS,
    olympicarena_prompt,
    option_letters,
    split_prompt,
)


def problem(**changes) -> dict:
    row = {"id": "p", "question": "How many?", "subject": "Physics", "answer_type": "NV"}
    return {**row, "unit": None, "parts": None, "context": None} | changes


@pytest.mark.parametrize("side", ["weak", "icl"])
def test_released_prompts_regenerate(side):
    rows = released(f"{FOLDER}/train_olympic_llama3-8b-instruct_iter1_{side}.json")
    assert len(rows) == 746
    for row in rows:
        assert olympicarena_prompt(read_back(row["content"])) == row["content"]


@pytest.mark.parametrize("kind", WORDINGS)
@pytest.mark.parametrize("context", [None, "A long story.\n\nIt has two parts."])
def test_every_type_has_a_prompt_from_which_the_question_can_be_read(kind, context):
    question = "Which?\n\nA: this\nB: that"
    asked = problem(
        question=question, answer_type=kind, context=context, unit="cm", parts=parts("NV", "EX")
    )
    prompt = olympicarena_prompt(asked)
    assert prompt.endswith("\n\nAnswer:")
    assert split_prompt(prompt) == {"question": question, "context": context}
    assert ("represented with LaTeX" in prompt) == (kind not in ("SC", "MC", "TF"))
    assert ("[A, B]" in prompt) == (kind in ("SC", "MC"))


def test_units_are_named_and_left_out_of_the_answer():
    assert "unit" not in olympicarena_prompt(problem())
    prompt = olympicarena_prompt(problem(unit="$\\mathrm{m}$"))
    assert "in the unit of $\\mathrm{m}$, but" in prompt
    assert "numerical value without any units." in prompt


def test_several_answers_have_their_types_units_and_names():
    several = parts("NV", unit="cm", name="the height")
    prompt = olympicarena_prompt(problem(answer_type="MPV", parts=several))
    assert "[the height]" in prompt
    assert "[cm]" in prompt
    assert "[numerical value]" in prompt
    assert "\\boxed{ANSWER}" in prompt


def test_only_the_options_at_the_end_count():
    text = "A: is no option\nBut these are:\nA: one\nover two lines\nB: two\nD: no option"
    assert option_letters(text) == ["A", "B"]
    assert option_letters("None.") == []


@pytest.mark.parametrize("kind", [None, "CODE", "OT"])
def test_a_type_without_a_wording_is_refused(kind):
    with pytest.raises(ValueError, match=r"'p': no OlympicArena prompt .*`prompt: quest"):
        olympicarena_prompt(problem(answer_type=kind))


def test_other_text_is_no_published_prompt():
    assert split_prompt("Question: Q\nAnswer:") is None
