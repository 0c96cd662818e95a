"""The ready entries of config/data: a plan of all, and their tables from copies of the data.

The copies have the layout, the columns and the numbers of rows of the real data sets, in a cache of
huggingface_hub without a network.
"""

from __future__ import annotations

import os
import subprocess
import sys

import polars as pl
import pytest
import yaml
from hub_sets import MATH_SUBJECTS, cache_data_set, gsm8k_rows
from project import ROOT

pytestmark = pytest.mark.slow

ENTRIES = sorted((ROOT / "config/data").glob("*.yaml"))
TASKS = [
    name for path in ENTRIES for name in yaml.safe_load(path.read_text(encoding="utf-8"))["tasks"]
]


def revisions() -> dict[str, str]:
    """The one commit of each data set that the entries name."""
    commits: dict[str, set[str]] = {}

    def collect(value):
        if isinstance(value, dict) and "hub" in value:
            commits.setdefault(value["hub"], set()).add(value["revision"])
        for part in value.values() if isinstance(value, dict) else value:
            if isinstance(part, dict | list):
                collect(part)

    for path in ENTRIES:
        collect(yaml.safe_load(path.read_text(encoding="utf-8")))
    return {name: commit for name, (commit,) in commits.items()}


def math_row(number: int, subject: str) -> dict:
    return {
        "problem": f"What is ${number}+1$ in {subject}?",
        "level": f"Level {number % 5 + 1}",
        "type": subject,
        "solution": f"It is $\\boxed{{{number + 1}}}$.",
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A cache with a copy of each data set."""
    home = tmp_path_factory.mktemp("home")
    cache, commits = home / "hub", revisions()
    platinum = [row | {"cleaning_status": "consensus"} for row in gsm8k_rows(1209, first=8000)]
    files = {
        "main/train-00000-of-00001.parquet": gsm8k_rows(7473),
        "main/test-00000-of-00001.parquet": gsm8k_rows(1319, first=8000),
    }
    configs = {"main": {"train": "main/train-*", "test": "main/test-*"}}
    cache_data_set(
        cache, "openai/gsm8k", files, configs=configs, commit=commits.pop("openai/gsm8k")
    )
    cache_data_set(
        cache,
        "madrylab/gsm8k-platinum",
        {"main/test-00000-of-00001.parquet": platinum},
        configs={"main": {"test": "main/test-*"}},
        commit=commits.pop("madrylab/gsm8k-platinum"),
    )
    size = 7500 // len(MATH_SUBJECTS) + 1
    cache_data_set(
        cache,
        "EleutherAI/hendrycks_math",
        {
            f"{subject}/train-00000-of-00001.parquet": [
                math_row(number, subject) for number in range(size)
            ]
            for subject in MATH_SUBJECTS
        },
        configs={name: {"train": f"{name}/train-*"} for name in MATH_SUBJECTS},
        commit=commits.pop("EleutherAI/hendrycks_math"),
    )
    math500 = [
        {
            "problem": f"What is ${number}+2$?",
            "solution": f"It is $\\boxed{{{number + 2}}}$.",
            "answer": str(number + 2),
            "subject": "Algebra",
            "level": 3,
            "unique_id": f"test/algebra/{number}.json",
        }
        for number in range(500)
    ]
    cache_data_set(
        cache,
        "HuggingFaceH4/MATH-500",
        {"test.jsonl": math500},
        commit=commits.pop("HuggingFaceH4/MATH-500"),
    )
    choices = [
        {
            "question_id": number,
            "question": f"Which number follows {number}?",
            "options": [str(number + step) for step in range(10)],
            "answer": "B",
            "answer_index": 1,
            "cot_content": "",
            "category": "math",
            "src": "made up",
        }
        for number in range(12_032)
    ]
    cache_data_set(
        cache,
        "TIGER-Lab/MMLU-Pro",
        {"data/test-00000-of-00001.parquet": choices},
        configs={"default": {"test": "data/test-*"}},
        commit=commits.pop("TIGER-Lab/MMLU-Pro"),
    )
    assert not commits, "copies of these data sets are missing above"
    return home


@pytest.fixture(scope="module")
def snakemake(tmp_path_factory, home):
    """Run Snakemake with all entries, and a configuration that has models and chains only."""
    folder = tmp_path_factory.mktemp("entries")
    models = {
        name: {"path": str(ROOT / f"resources/embedded/study_{name}")}
        for name in ("weak", "strong")
    }
    config = {
        "experiment": "entries",
        "models": models,
        "chains": [{"task": task, **{name: name for name in models}} for task in TASKS],
        "tasks": {name: {"max_tokens": 64, "engine": {"max_model_len": 512}} for name in TASKS},
        "training": {name: {"max_length": 500} for name in ("sft", "dpo", "orpo")},
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(config))
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)

    def run(*arguments: str) -> str:
        completed = subprocess.run(
            [
                *(sys.executable, "-m", "snakemake", "--cores", "2", *arguments),
                *("--snakefile", ROOT / "Snakefile", "--configfile", *ENTRIES, "mine.yaml"),
            ],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=1800,
        )
        assert completed.returncode == 0, completed.stderr[-4000:]
        return completed.stdout + completed.stderr

    run.folder = folder
    return run


def test_a_plan_of_every_entry(snakemake):
    plan = snakemake("--dry-run")
    for task in TASKS:
        assert f"Contamination report of task {task}" in plan
    for evaluated in ("gsm8k/gsm8k", "gsm8k/platinum", "math/math500", "mmlu_pro"):
        assert f"Score task {evaluated}\n" in plan


def test_the_tables_of_every_entry_from_copies_of_the_data(snakemake):
    data = snakemake.folder / "results/entries/data"
    splits = ("train_1", "validation")
    files = [f"results/entries/data/{task}/contamination.csv" for task in TASKS]
    files += [f"results/entries/data/{task}/{split}.parquet" for task in TASKS for split in splits]
    files += [f"results/entries/data/gsm8k/test-{name}.parquet" for name in ("gsm8k", "platinum")]
    files += ["results/entries/data/math/test-math500.parquet"]
    snakemake(*files)
    heights = {
        f"{path.parent.name}/{path.stem}": pl.read_parquet(path).height
        for path in data.glob("*/*.parquet")
    }
    assert heights["gsm8k/train_1"] == 3500
    assert heights["gsm8k/test-gsm8k"] == 1319
    assert heights["gsm8k/test-platinum"] == 1209
    assert heights["math/test-math500"] == 500
    assert heights["mmlu_pro/train_1"] == 3500
    subjects = pl.read_parquet(data / "math/train_1.parquet")["subject"]
    assert set(subjects) == set(MATH_SUBJECTS)
    overlap = pl.read_csv(data / "gsm8k/contamination.csv").filter(
        kind="exact", split="test-platinum", other_split="test-gsm8k"
    )
    assert overlap["count"].item() == 1209
