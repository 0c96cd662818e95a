"""Small data sets in the layout of the Hugging Face Hub, and a cache of huggingface_hub with them.

Names, configurations, splits and columns are those of the real data sets. The rows are made up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl
import yaml

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MATH_SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)

Files = Mapping[str, Sequence[dict]]


def write_data_set(
    folder: Path, files: Files, configs: Mapping[str, Mapping[str, str]] | None = None, **card
) -> Path:
    """Write a data set: Parquet or JSON Lines by the names of its files, and its card.

    Args:
        folder: where it lies.
        files: rows by name of the file.
        configs: pattern of the files by configuration and split. Without it the card is left out.
        card: more keys of the card.
    """
    for name, rows in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".parquet"):
            pl.DataFrame(rows).write_parquet(path)
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if configs is not None:
        entries = [
            {
                "config_name": name,
                "data_files": [{"split": key, "path": path} for key, path in splits.items()],
            }
            for name, splits in configs.items()
        ]
        text = yaml.safe_dump({"configs": entries, **card})
        (folder / "README.md").write_text(f"---\n{text}---\n# A data set\n", encoding="utf-8")
    return folder


def cache_data_set(cache: Path, name: str, files: Files, *, commit: str = COMMIT, **more) -> Path:
    """Put a data set into a cache of huggingface_hub, as at a commit; returns its folder there."""
    folder = cache / f"datasets--{name.replace('/', '--')}/snapshots/{commit}"
    return write_data_set(folder, files, **more)


def gsm8k_rows(count: int, first: int = 0) -> list[dict]:
    """Rows of GSM8K, of which no two are alike."""
    return [
        {
            "question": f"Ann has {n} red pens and one blue pen. How many pens does she have?",
            "answer": f"She has {n}+1=<<{n}+1={n + 1}>>{n + 1} pens.\n#### {n + 1}",
        }
        for n in range(first, first + count)
    ]
