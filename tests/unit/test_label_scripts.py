"""The entry scripts of labels, Stage I sets and pairs, from generations to exports."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from snakemake.iocontainers import InputFiles, OutputFiles, Params

from weak_to_strong.tables import (
    DEMONSTRATIONS,
    GENERATIONS,
    PAIRS,
    QUESTIONS,
    SFT_ROWS,
    read_table,
    write_table,
)

SCRIPTS = Path(__file__).parents[2] / "scripts"
KEYS = {"answer_key": "####", "stop": ["Question"]}


def run(rule: str, inputs: dict, output: dict, **params) -> None:
    snakemake = SimpleNamespace(
        # Snakemake's own containers: they are lists, so a parameter `count`, say, is hidden.
        input=InputFiles(fromdict=inputs),
        output=OutputFiles(fromdict=output),
        params=Params(fromdict=params),
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
    questions = [(name, f"{name}?", None, None, "test") for name in ("0", "1")]
    write_table(
        pl.DataFrame(questions, schema=QUESTIONS, orient="row"), QUESTIONS, tmp_path / "questions"
    )
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
    )
    assert sorted(read_table(made / "shots", DEMONSTRATIONS)["id"]) == ["0", "1"]
    run(
        "agreement_filter",
        {"weak": made / "weak", "icl": made / "icl"},
        {"kept": made / "kept", "summary": made / "kept.json"},
        keep_empty=False,
    )
    assert json.loads((made / "kept.json").read_text()) == {
        "questions": 2,
        "kept": 1,
        "empty_weak": 0,
        "empty_icl": 0,
    }
    run(
        "sft_set",
        {"questions": made / "questions", "kept": made / "kept"},
        {"rows": made / "rows", "export": made / "rows.json"},
        kind="kept_hybrid",
        answer_key="####",
        drop_empty=False,
    )
    rows = read_table(made / "rows", SFT_ROWS)
    assert rows["completion"].to_list() == [" #### 1", " so\n#### 1"]
    exported = json.loads((made / "rows.json").read_text())
    assert [row["output"] for row in exported] == ["#### 1", "so\n#### 1"]


def test_stage_2(made):
    source = generations(
        made / "samples.gen",
        "samples",
        {"0": ["#### 1"] * 4 + ["#### 9 Question"], "1": ["#### 7"] * 5},
    )
    run(
        "majority_vote",
        {"generations": source},
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
    )
    pairs = read_table(made / "rows", PAIRS)
    assert pairs.drop("prompt").rows() == [
        ("0", " #### 1", " #### 9", "chosen", 0.8),
        ("1", " #### 7", " #### 2", "rejected", 1.0),
    ]
    exported = json.loads((made / "rows.json").read_text())
    assert exported[1]["output"] == ["#### 7", "#### 2"]
