"""The entry scripts of labels, Stage I sets and pairs, from generations to exports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from table_builders import generations, problems, questions

from weak_to_strong.tables.frames import read_table, write_table
from weak_to_strong.tables.schemas import (
    DEMONSTRATIONS,
    GENERATIONS,
    KEPT,
    PAIRS,
    PROBLEMS,
    QUESTIONS,
    SFT_ROWS,
    VOTES,
)

JUDGE = {"name": "string"}
KEYS = {
    "answer_key": "####",
    "stop": ["Question"],
    "extraction": "paper",
    "quirks": {},
    "answer_after": None,
    "judge": JUDGE,
}
PROMPT = "question_answer"
PAIR_INPUTS = {"weak_labels": "weak"} | {name: name for name in ("samples", "votes", "questions")}


def write_generations(path: Path, request: str, responses: dict[str, list[str]]) -> Path:
    rows = [
        (request, name, sample, text)
        for name, texts in responses.items()
        for sample, text in enumerate(texts)
    ]
    write_table(generations(rows), GENERATIONS, path)
    return path


@pytest.fixture
def labelled(tmp_path, run_rule) -> Path:
    """A folder with questions and the labels of both sides."""
    write_table(questions("01"), QUESTIONS, tmp_path / "questions")
    answers = {"weak": ["#### 1", "#### 2"], "icl": ["so\n#### 1", "#### 3"]}
    for side, (first, second) in answers.items():
        request = f"{side}-1"
        source = write_generations(tmp_path / f"{side}.gen", request, {"0": [first], "1": [second]})
        run_rule(
            "extract_labels", {"generations": source}, {"labels": side}, request=request, **KEYS
        )
    return tmp_path


def test_stage_1_draws_filters_and_makes_a_training_set(labelled, run_rule):
    run_rule(
        "demonstrations",
        {"weak_labels": "weak", "questions": "questions"},
        {"demonstrations": "shots"},
        shots=2,
        repeat_question=False,
        seed=0,
        ids=None,
        prompt=PROMPT,
        answer_after=None,
    )
    assert sorted(read_table(labelled / "shots", DEMONSTRATIONS)["id"]) == ["0", "1"]
    gold = problems(id=["x"], question="x?", solution="So.\n#### 5", answer="5")
    write_table(gold, PROBLEMS, labelled / "train_1")
    run_rule(
        "demonstrations",
        {"problems": "train_1"},
        {"demonstrations": "gold_shots"},
        shots=4,
        repeat_question=False,
        seed=0,
        ids=["0"],
        prompt=PROMPT,
        answer_after=None,
        answer_key="####",
    )
    assert read_table(labelled / "gold_shots", DEMONSTRATIONS).rows() == [
        ("x", "Question: x?\nAnswer:", "So.\n#### 5")
    ]
    run_rule(
        "agreement_filter",
        {"weak": "weak", "icl": "icl", "questions": "questions"},
        {"kept": "kept", "summary": "kept.json"},
        settings={"keep_empty": False, "pad_to": None, "pad_seed": 42},
        judge=JUDGE,
    )
    assert json.loads((labelled / "kept.json").read_text()) == {
        "questions": 2,
        "kept": 1,
        "padded": 0,
        "undecided": 0,
        "empty_weak": 0,
        "empty_icl": 0,
    }
    run_rule(
        "sft_set",
        {"questions": "questions", "kept": "kept"},
        {"rows": "rows", "export": "rows.json"},
        kind="kept_hybrid",
        reasoning=None,
        answer_key="####",
        prompt=PROMPT,
        seed=0,
    )
    rows = read_table(labelled / "rows", SFT_ROWS)
    assert rows["completion"].to_list() == [" #### 1", " so\n#### 1"]
    exported = json.loads((labelled / "rows.json").read_text())
    assert [row["output"] for row in exported] == ["#### 1", "so\n#### 1"]


@pytest.mark.slow
def test_olympicarena_compares_raw_answers_by_type(tmp_path, run_rule):
    """Both stages with the other prompt, answer key and judge."""
    judge = {"name": "olympicarena", "timeout_seconds": 1.0}
    keys = KEYS | {"answer_key": r"\boxed", "judge": judge}
    asked = questions("01", answer_type=["MC", "NV"], subject="Biology")
    write_table(asked, QUESTIONS, tmp_path / "questions")
    texts = {"weak": [r"\boxed{A, C}", r"\boxed{1,2}"], "icl": [r"\boxed{CA}", r"\boxed{12}"]}
    for side, (first, second) in texts.items():
        source = write_generations(tmp_path / f"{side}.gen", side, {"0": [first], "1": [second]})
        run_rule("extract_labels", {"generations": source}, {"labels": side}, request=side, **keys)
    run_rule(
        "agreement_filter",
        {"weak": "weak", "icl": "icl", "questions": "questions"},
        {"kept": "kept", "summary": "kept.json"},
        settings={"keep_empty": False, "pad_to": None, "pad_seed": 42},
        judge=judge,
    )
    # Strings without their commas, `12` and `12`, would agree.
    assert read_table(tmp_path / "kept", KEPT)["prediction"].to_list() == ["A, C"]
    drawn = {"0": [r"\boxed{A, C}", r"\boxed{C, A}", r"\boxed{B}"], "1": [r"\boxed{12}"] * 3}
    source = write_generations(tmp_path / "samples.gen", "samples", drawn)
    run_rule(
        "majority_vote",
        {"generations": source, "questions": "questions"},
        {"votes": "votes", "samples": "samples"},
        request="samples",
        **keys,
    )
    assert read_table(tmp_path / "votes", VOTES)["confidence"].round(2).to_list() == [0.67, 1.0]
    run_rule(
        "pairs",
        PAIR_INPUTS,
        {"rows": "rows", "export": "rows.json"},
        kind="pairs",
        reasoning=None,
        settings={},
        seed=0,
        prompt="olympicarena",
        judge=judge,
    )
    pairs = read_table(tmp_path / "rows", PAIRS)
    assert pairs["weak_side"].to_list() == ["chosen", "rejected"]
    assert pairs["prompt"].str.contains("international Biology competition").all()


def test_stage_2_votes_and_makes_pairs(labelled, run_rule):
    source = write_generations(
        labelled / "samples.gen",
        "samples",
        {"0": ["#### 1"] * 4 + ["#### 9 Question"], "1": ["#### 7"] * 5},
    )
    run_rule(
        "majority_vote",
        {"generations": source, "questions": "questions"},
        {"votes": "votes", "samples": "samples"},
        request="samples",
        **KEYS,
    )

    def make_rows(kind, schema, **settings):
        run_rule(
            "pairs",
            PAIR_INPUTS,
            {"rows": "rows", "export": "rows.json"},
            kind=kind,
            reasoning=None,
            settings={"min_confidence": 0.6, "rng_seed": 1, **settings},
            seed=1,
            prompt=PROMPT,
            judge=JUDGE,
        )
        return read_table(labelled / "rows", schema)

    chosen = make_rows("chosen", SFT_ROWS)
    assert chosen["completion"].to_list() == [" #### 1", " #### 7"]
    exported = json.loads((labelled / "rows.json").read_text())
    assert [row["output"] for row in exported] == ["#### 1", "#### 7"]
    swapped = make_rows("pairs", PAIRS, swapped=True)
    assert swapped["rejected"].to_list() == [" #### 1", " #### 7"]
    shuffled = make_rows("shuffled_pairs", PAIRS)
    assert shuffled["weak_side"].to_list() == ["rejected", "rejected"]  # the coin turned the first
    pairs = make_rows("pairs", PAIRS)
    assert pairs.drop("prompt").rows() == [
        ("0", " #### 1", " #### 9", "chosen", 0.8),
        ("1", " #### 7", " #### 2", "rejected", 1.0),
    ]
    exported = json.loads((labelled / "rows.json").read_text())
    assert exported[1]["output"] == ["#### 7", "#### 2"]
