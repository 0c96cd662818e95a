"""Settings, order and facts of a training by reward, without its libraries."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

import polars as pl
import pytest

from weak_to_strong.tables.files import write_json
from weak_to_strong.tables.schemas import REWARD_ROWS
from weak_to_strong.training.history import count_tokens, has_collapsed, reward_facts
from weak_to_strong.training.rows import Question, encode_questions, question_order
from weak_to_strong.training.settings import TrainingSettings, complete_settings
from weak_to_strong.training.training_run import has_training_code, training_code

SETTINGS = {
    **{"adapter": "full", "dtype": "float32", "epochs": 1, "global_batch_size": 16},
    **{"learning_rate": 1e-5, "max_length": 64, "per_device_batch_size": 4, "seed": 0},
    **{"scheduler": "constant", "beta": 0.0, "samples": 8, "temperature": 1.0},
    **{"reward": "majority", "max_tokens": 32, "answer_key": "####", "extraction": "paper"},
    **{"judge": {"name": "string"}, "quirks": {}, "stop": ["Question"]},
}


class TestSettings:
    def test_complete_and_through_json(self):
        settings = complete_settings("grpo", SETTINGS)
        assert (settings.rewards.samples, settings.rewards.stop) == (8, ("Question",))
        assert (settings.reference, settings.loss, settings.beta) == (None, None, 0.0)
        assert TrainingSettings.from_json(asdict(settings)) == settings

    def test_other_trainers_do_not_know_them(self):
        settings = complete_settings("sft", SETTINGS)
        assert settings.rewards is None
        assert "rewards" not in settings.for_weights()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"samples": 1}, "samples: 1 must be at least 2"),
            ({"temperature": 0}, "temperature: 0 must be above 0"),
            (
                {"samples": 6},
                "global_batch_size: global_batch_size 16 is not a multiple of samples 6",
            ),
            ({"beta": -1}, "beta: -1 must be 0 or greater for grpo"),
            ({"reward": None}, "'reward' is missing; set it for grpo"),
        ],
    )
    def test_one_line(self, change, message):
        with pytest.raises(ValueError, match=message):
            complete_settings("grpo", {**SETTINGS, **change})

    def test_no_sampling_from_weights_that_are_spread(self, tmp_path):
        write_json({"zero_optimization": {"stage": 3}}, tmp_path / "zero3.json")
        with pytest.raises(ValueError, match="deepspeed: grpo does not sample under stage 3"):
            complete_settings("grpo", {**SETTINGS, "deepspeed": str(tmp_path / "zero3.json")})


class TestOrder:
    def test_each_pass_has_all_questions_in_another_order(self):
        order = question_order(6, 3, 2, None, seed=1)
        passes = [order[start : start + 6] for start in (0, 6, 12)]
        assert [sorted(one) for one in passes] == [[*range(6)]] * 3
        assert len(set(map(tuple, passes))) == 3
        assert question_order(6, 3, 2, None, seed=1) == order != question_order(6, 3, 2, None, 2)

    def test_whole_updates_only_also_over_the_end_of_a_pass(self):
        order = question_order(5, 2, 3, None, seed=0)
        assert len(order) == 9
        assert max(Counter(order).values()) == 2

    def test_updates_in_place_of_passes(self):
        assert len(question_order(6, 3, 2, 4, seed=1)) == 8
        assert len(question_order(6, 3, 2, 99, seed=1)) == 198  # more than three passes

    def test_too_few_questions(self):
        with pytest.raises(ValueError, match="an update takes 8 questions, and there are 3"):
            question_order(3, 2, 8, None, seed=0)


class TestCollapse:
    def log(self, *entropies):
        return [{"loss": 0.0, "entropy": entropy} for entropy in entropies]

    def test_five_updates_in_a_row(self):
        assert has_collapsed(self.log(1, 0.1, 0.1, 0.1, 0.1, 0.1), 0.2)
        assert not has_collapsed(self.log(0.1, 0.1, 0.1, 0.1), 0.2)
        assert not has_collapsed(self.log(0.1, 0.1, 0.1, 0.2, 0.1, 0.1), 0.2)
        assert not has_collapsed(self.log(*[0.0] * 9), 0)
        assert not has_collapsed([], 0.2)
        assert has_collapsed([*self.log(*[0.1] * 5), {"train_runtime": 1.0}], 0.2)


def test_facts():
    history = [
        {"loss": 0.5, "reward": 0.25, "generated_tokens": 10.0, "prompt_tokens": 6.0},
        {"loss": 0.1, "reward": 0.75, "generated_tokens": 20.0, "prompt_tokens": 6.0},
    ]
    question = Question("q", "ask", [1], None, None, None, None)
    facts = reward_facts([question] * 3, 5, history)
    assert facts == {
        **{"steps": 2, "examples": 3, "tokens": 42, "supervised_tokens": 30},
        **{"generated_tokens": 30, "first_reward": 0.25, "last_reward": 0.75},
        **{"first_loss": 0.5, "last_loss": 0.1, "loss": 0.3},
        "ended": {"step": 2, "planned": 5, "reason": "entropy collapsed"},
    }
    assert reward_facts([question], 2, history)["ended"] is None
    assert count_tokens(history[1:]) == (20, 6)


class FakeTokenizer:
    """A token for each character."""

    eos_token_id = 1

    def __call__(self, texts, split_special_tokens):
        assert split_special_tokens
        return {"input_ids": [[*map(ord, text)] for text in texts]}


class TestQuestions:
    def table(self, *prompts) -> pl.DataFrame:
        rows = [(str(place), text, "2", None, "m", None) for place, text in enumerate(prompts)]
        return pl.DataFrame(rows, schema=REWARD_ROWS, orient="row")

    def test_ids_and_what_a_judge_reads(self):
        (first, _) = encode_questions(self.table("ab", "c"), FakeTokenizer(), 8, 4)
        assert first == Question("0", "ab", [97, 98], "2", None, "m", None)

    def test_room_for_an_answer(self):
        with pytest.raises(ValueError, match=r"1 of 2 prompts .* '1' with 5; raise .* least 9"):
            encode_questions(self.table("abcd", "abcde"), FakeTokenizer(), 8, 4)

    def test_none(self):
        with pytest.raises(ValueError, match="training rows: none"):
            encode_questions(self.table(), FakeTokenizer(), 8, 4)


def test_the_code_of_votes_and_judges_counts_for_this_trainer_only():
    train, module = training_code("grpo").split("-")
    assert training_code("sft") == training_code("dpo") == train
    assert module != train
    assert has_training_code("grpo", f"{train}-{module}")
    assert not has_training_code("grpo", f"{train}-{train}")
