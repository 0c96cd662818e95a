"""The entry scripts of labels, Stage I sets and pairs, from generations to exports."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from snakemake.iocontainers import InputFiles, OutputFiles, Params

from weak_to_strong.tables.frames import read_table, write_table
from weak_to_strong.tables.schemas import (
    DEMONSTRATIONS,
    GENERATIONS,
    KEPT,
    PAIRS,
    QUESTIONS,
    SFT_ROWS,
    VOTES,
)

SCRIPTS = Path(__file__).parents[2] / "scripts"
JUDGE = {"name": "string"}
KEYS = {
    "answer_key": "####",
    "stop": ["Question"],
    "extraction": "paper",
    "quirks": {},
    "judge": JUDGE,
}
PROMPT = "question_answer"


def run(rule: str, inputs: dict, output: dict, **params) -> None:
    snakemake = SimpleNamespace(
        # Snakemake's own containers: they are lists, so a parameter `count`, say, is hidden.
        input=InputFiles(fromdict=inputs),
        output=OutputFiles(fromdict=output),
        params=Params(fromdict=params),
        threads=1,
    )
    runpy.run_path(str(SCRIPTS / f"{rule}.py"))["main"](snakemake)


def generations(path: Path, request: str, responses: dict[str, list[str]]) -> Path:
    rows = [
        (request, name, i, text, "stop", 1, 1)
        for name, texts in responses.items()
        for i, text in enumerate(texts)
    ]
    write_table(pl.DataFrame(rows, schema=GENERATIONS, orient="row"), GENERATIONS, path)
    return path


@pytest.fixture
def made(tmp_path) -> Path:
    """A folder with questions and the labels of both sides."""
    questions = [{"id": name, "question": f"{name}?"} for name in ("0", "1")]
    write_table(pl.DataFrame(questions, schema=QUESTIONS), QUESTIONS, tmp_path / "questions")
    answers = {"weak": ["#### 1", "#### 2"], "icl": ["so\n#### 1", "#### 3"]}
    for side, texts in answers.items():
        source = generations(
            tmp_path / f"{side}.gen", f"{side}-1", {"0": texts[:1], "1": texts[1:]}
        )
        run(
            "extract_labels",
            {"generations": source},
            {"labels": tmp_path / side},
            request=f"{side}-1",
            **KEYS,
        )
    return tmp_path


def test_stage_1(made):
    run(
        "demonstrations",
        {"weak_labels": made / "weak", "questions": made / "questions"},
        {"demonstrations": made / "shots"},
        shots=2,
        seed=0,
        ids=None,
        prompt=PROMPT,
    )
    assert sorted(read_table(made / "shots", DEMONSTRATIONS)["id"]) == ["0", "1"]
    run(
        "agreement_filter",
        {"weak": made / "weak", "icl": made / "icl", "questions": made / "questions"},
        {"kept": made / "kept", "summary": made / "kept.json"},
        settings={"keep_empty": False, "pad_to": None, "pad_seed": 42},
        judge=JUDGE,
    )
    assert json.loads((made / "kept.json").read_text()) == {
        "questions": 2,
        "kept": 1,
        "padded": 0,
        "undecided": 0,
        "empty_weak": 0,
        "empty_icl": 0,
    }
    run(
        "sft_set",
        {"questions": made / "questions", "kept": made / "kept"},
        {"rows": made / "rows", "export": made / "rows.json"},
        kind="kept_hybrid",
        answer_key="####",
        prompt=PROMPT,
    )
    rows = read_table(made / "rows", SFT_ROWS)
    assert rows["completion"].to_list() == [" #### 1", " so\n#### 1"]
    exported = json.loads((made / "rows.json").read_text())
    assert [row["output"] for row in exported] == ["#### 1", "so\n#### 1"]


def test_olympicarena_compares_raw_answers_by_type(tmp_path):
    """Both stages with the other prompt, answer key and judge."""
    judge = {"name": "olympicarena", "timeout_seconds": 1.0}
    keys = KEYS | {"answer_key": r"\boxed", "judge": judge}
    kinds = {"0": "MC", "1": "NV"}
    rows = [
        {"id": name, "question": f"{name}?", "answer_type": kind, "subject": "Biology"}
        for name, kind in kinds.items()
    ]
    questions = tmp_path / "questions"
    write_table(pl.DataFrame(rows, schema=QUESTIONS), QUESTIONS, questions)
    texts = {"weak": [r"\boxed{A, C}", r"\boxed{1,2}"], "icl": [r"\boxed{CA}", r"\boxed{12}"]}
    for side, (first, second) in texts.items():
        source = generations(tmp_path / f"{side}.gen", side, {"0": [first], "1": [second]})
        files = {"generations": source}, {"labels": tmp_path / side}
        run("extract_labels", *files, request=side, **keys)
    weak, icl = tmp_path / "weak", tmp_path / "icl"
    run(
        "agreement_filter",
        {"weak": weak, "icl": icl, "questions": questions},
        {"kept": tmp_path / "kept", "summary": tmp_path / "kept.json"},
        settings={"keep_empty": False, "pad_to": None, "pad_seed": 42},
        judge=judge,
    )
    # Strings without their commas, `12` and `12`, would agree.
    assert read_table(tmp_path / "kept", KEPT)["prediction"].to_list() == ["A, C"]
    drawn = {"0": [r"\boxed{A, C}", r"\boxed{C, A}", r"\boxed{B}"], "1": [r"\boxed{12}"] * 3}
    votes, samples = tmp_path / "votes", tmp_path / "samples"
    run(
        "majority_vote",
        {"generations": generations(tmp_path / "s", "s", drawn), "questions": questions},
        {"votes": votes, "samples": samples},
        request="s",
        **keys,
    )
    assert read_table(votes, VOTES)["confidence"].round(2).to_list() == [0.67, 1.0]
    run(
        "pairs",
        {"weak_labels": weak, "samples": samples, "votes": votes, "questions": questions},
        {"rows": tmp_path / "rows", "export": tmp_path / "rows.json"},
        settings={},
        prompt="olympicarena",
        judge=judge,
    )
    pairs = read_table(tmp_path / "rows", PAIRS)
    assert pairs["weak_side"].to_list() == ["chosen", "rejected"]
    assert pairs["prompt"].str.contains("international Biology competition").all()


def test_stage_2(made):
    source = generations(
        made / "samples.gen",
        "samples",
        {"0": ["#### 1"] * 4 + ["#### 9 Question"], "1": ["#### 7"] * 5},
    )
    run(
        "majority_vote",
        {"generations": source, "questions": made / "questions"},
        {"votes": made / "votes", "samples": made / "samples"},
        request="samples",
        **KEYS,
    )
    run(
        "pairs",
        {
            "weak_labels": made / "weak",
            "samples": made / "samples",
            "votes": made / "votes",
            "questions": made / "questions",
        },
        {"rows": made / "rows", "export": made / "rows.json"},
        settings={"min_confidence": 0.6, "rng_seed": 1},
        prompt=PROMPT,
        judge=JUDGE,
    )
    pairs = read_table(made / "rows", PAIRS)
    assert pairs.drop("prompt").rows() == [
        ("0", " #### 1", " #### 9", "chosen", 0.8),
        ("1", " #### 7", " #### 2", "rejected", 1.0),
    ]
    exported = json.loads((made / "rows.json").read_text())
    assert exported[1]["output"] == ["#### 7", "#### 2"]
