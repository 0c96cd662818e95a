"""The authors' released data, from the folder that W2S_PUBLISHED_DIR names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import polars as pl
import pytest

from weak_to_strong.method.answers import predict_column
from weak_to_strong.tables.schemas import LABELS, QUESTIONS

GSM8K = "data/llama_factory/gsm8k"
MATH = "data/llama_factory/math"
WEAK_OUTPUTS = "outputs/gsm8k_train_2/zero_shot/llama2_7b_gsm8k_1/zero-shot/direct/results.jsonl"


def released(path: str) -> list[dict]:
    """Rows of a released JSON or JSON Lines file; skips the test where the variable is not set."""
    folder = os.environ.get("W2S_PUBLISHED_DIR")
    if not folder:
        pytest.skip("W2S_PUBLISHED_DIR is not set: needs the authors' released data")
    text = (Path(folder) / path).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()] if path[-1] == "l" else json.loads(text)


def released_labels(path: str) -> pl.DataFrame:
    """LABELS from the `output` column of a released GSM8K training file."""
    rows = released(path)
    response = pl.Series("response", [row["output"] for row in rows])
    ids = pl.Series("id", [str(row["id"]) for row in rows])
    return pl.DataFrame([ids, response, predict_column(response, "####")], schema=LABELS)


def released_questions() -> pl.DataFrame:
    """QUESTIONS of GSM8K train_2, whose ids are row numbers."""
    rows = released("data/raw/gsm8k/train_2.jsonl")
    table = [{"id": str(i), "question": row["question"]} for i, row in enumerate(rows)]
    return pl.DataFrame(table, schema=QUESTIONS)
