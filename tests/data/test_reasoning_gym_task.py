"""Families of reasoning-gym: which fit, and that each problem's answer can be read and compared."""

from __future__ import annotations

from itertools import islice

import pytest
import reasoning_gym
from quirks import NO_QUIRKS

from weak_to_strong.data.readers import generate_splits
from weak_to_strong.data.reasoning_gym_task import FAMILIES, check_family, generate_family
from weak_to_strong.data.splits import make_splits
from weak_to_strong.evaluation.gold_check import find_unread_gold
from weak_to_strong.evaluation.scoring import math_verify_many
from weak_to_strong.method.answers import DEFAULT_STOPS

#: Problems of each family that are tried.
COUNT = 12


@pytest.mark.parametrize("family", FAMILIES)
def test_each_answer_is_read_back_and_is_the_only_one(family):
    problems = list(islice(generate_family(family, 7, {}), COUNT))
    table = generate_splits(iter(problems), {"test": COUNT}, family)["test"]
    judge = {"name": FAMILIES[family], "timeout_seconds": 60.0, "released_judge": False}
    reading = {
        "answer_key": "The answer is:",
        "stop": DEFAULT_STOPS["flexible"],
        "extraction": "flexible",
        "quirks": vars(NO_QUIRKS),
        "judge": judge,
    }
    assert find_unread_gold(table, reading).rows() == []
    # The family's own verifier agrees, and problems do not depend on their number.
    own = reasoning_gym.create_dataset(family, seed=7, size=COUNT)
    assert own[0]["question"].strip() == problems[0]["question"]
    assert own.score_answer(problems[0]["answer"], own[0]) == 1.0


def test_the_math_scorer_tells_the_words_of_a_family_apart():
    families = [family for family, judge in FAMILIES.items() if judge == "string"]
    for family in families:
        problems = islice(generate_family(family, 7, {}), COUNT)
        answers = sorted({problem["answer"] for problem in problems})
        pairs = [(one, other) for one in answers for other in answers if one < other]
        assert "right" not in math_verify_many(pairs, timeout_seconds=60.0), family


def test_splits_are_cut_from_one_stream_by_family_and_seed():
    def splits(seed):
        settings = {
            "loader": "reasoning_gym",
            "reasoning_gym": {"family": "gcd", "seed": seed, "settings": {"max_value": 500}},
            "splits": {"train_1": 5, "train_2": 6, "test-near": 3, "test-far": 2},
        }
        return make_splits(settings, [])

    frames = splits(1)
    assert {name: frame.height for name, frame in frames.items() if frame.height} == {
        "train_1": 5,
        "train_2": 6,
        "test-near": 3,
        "test-far": 2,
    }
    questions = [question for frame in frames.values() for question in frame["question"]]
    assert len(set(questions)) == 16
    assert frames["test-near"].equals(splits(1)["test-near"])
    assert not frames["test-near"].equals(splits(2)["test-near"])
    assert frames["test-near"]["solution"].to_list() == [""] * 3


def test_steps_are_the_solution_where_the_library_has_them():
    problem = next(generate_family("gsm_symbolic", 3, {}))
    assert problem["solution"]
    assert "####" not in problem["solution"]


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        ("gdc", {}, "family: `gdc` is unknown; did you mean gcd"),
        ("xxxxxxxx", {}, "family: `xxxxxxxx` is unknown; config/README.md lists what fits"),
        ("sudoku", {}, "family: `sudoku` has answers that cannot be compared; "),
        ("gcd", {"seed": 3}, "settings.seed: is no setting here; use the key `reasoning_gym.seed`"),
        ("gcd", {"size": 3}, "settings.size: is no setting here; sizes are in `splits`"),
        (
            "gcd",
            {"max_valeu": 3},
            "settings.max_valeu: `gcd` has no such setting; did you mean max",
        ),
        ("gcd", {"max_value": -3}, "settings: `gcd` refuses them ("),
        ("gcd", {"max_value": "many"}, "settings: `gcd` refuses them ("),
    ],
)
def test_a_wrong_family_or_setting_is_one_line(family, settings, message):
    with pytest.raises(ValueError, match=r"\w") as error:
        check_family(family, settings)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_family_with_too_few_questions_says_so():
    stream = generate_family("gcd", 0, {"min_value": 1, "max_value": 2})
    with pytest.raises(ValueError, match="distinct questions and no new one in 1000 more"):
        list(islice(stream, 1000))
