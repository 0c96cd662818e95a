from __future__ import annotations

import pytest
from released_data import GSM8K, released_labels, released_questions
from table_builders import labels, questions

from weak_to_strong.method.demonstrations import draw_demonstrations
from weak_to_strong.tables.schemas import DEMONSTRATIONS


def test_drawn_rows_have_answers_and_belong_together():
    weak, asked = labels(["", "1"] * 10), questions(range(20))
    drawn = draw_demonstrations(weak, asked, 4, seed=0)
    assert drawn.schema == DEMONSTRATIONS
    for name, prompt, response in drawn.rows():
        assert int(name) % 2 == 1
        expected = (f"Question: {name}?\nAnswer:", f"{name}: 1")
        assert (prompt, response) == expected
    assert drawn["id"].n_unique() == 4
    assert drawn.equals(draw_demonstrations(weak, asked, 4, seed=0))
    others = {tuple(draw_demonstrations(weak, asked, 4, seed)["id"]) for seed in range(5)}
    assert len(others) > 1


def test_ids_win_in_their_order():
    drawn = draw_demonstrations(labels(["1", "", "3"]), questions(range(3)), 4, 0, ids=["2", "1"])
    assert drawn["id"].to_list() == ["2", "1"]


@pytest.mark.parametrize("ids", [None, ["2", "0", "3"]])
def test_a_repeated_question_keeps_the_answers_of_the_drawn_rows(ids):
    weak, asked = labels(["1", "2", "3", "4"]), questions(range(4))
    plain = draw_demonstrations(weak, asked, 3, 0, ids)
    repeated = draw_demonstrations(weak, asked, 3, 0, ids, repeat_question=True)
    assert repeated.drop("prompt").equals(plain.drop("prompt"))
    assert repeated["prompt"].to_list() == [plain["prompt"][0]] * 3


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["9"], "demonstrations.ids: '9' is not an id of train_2"),
        (["1", "1"], "demonstrations.ids: an id stands twice"),
        (None, "demonstrations.count is 4, but only 2 weak answers"),
    ],
)
def test_what_cannot_be_drawn_is_refused(ids, message):
    with pytest.raises(ValueError, match=message):
        draw_demonstrations(labels(["1", "", "3"]), questions(range(3)), 4, 0, ids)


def test_seed_42_draws_the_papers_demonstrations():
    math = draw_demonstrations(labels(["1"] * 6000), questions(range(6000)), 4, seed=42)
    assert math["id"].to_list() == ["4162", "5457", "5178", "5737"]


def test_seed_42_draws_the_released_gsm8k_demonstrations():
    weak = released_labels(f"{GSM8K}/train_gsm8k_gemma_2b_full_weak.json")
    drawn = draw_demonstrations(weak, released_questions(), 4, seed=42)
    assert drawn["id"].to_list() == ["3401", "173", "354", "6272"]
