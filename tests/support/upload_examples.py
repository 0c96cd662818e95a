"""A finished experiment as `snakemake upload` sees it: an adapter, tables, records, gold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
from safetensors.numpy import save_file

from weak_to_strong.models.manifests import hash_files
from weak_to_strong.report.hub_upload import RESULT_TABLES
from weak_to_strong.tables.files import hash_file, write_json
from weak_to_strong.tables.schemas import METRICS

ROOT = "results/study"
KEY = "sums/small/large/seed-0/dpo-0"
FOLDER = f"{ROOT}/models/{KEY}"
MANIFEST, MODEL, BASE = f"{FOLDER}/manifest.json", f"{FOLDER}/model", f"{ROOT}/bases/large.json"
GOLD = f"{ROOT}/data/sums/train_2_gold.parquet"
HUB = {"hub": "owner/large", "revision": "0123456789" * 4}
NODE = {
    **{"task": "sums", "weak": "small", "strong": "large", "method": "dpo", "stage": "stage2"},
    **{"iteration": 0, "seed": 0, "decoding": "greedy"},
}
#: The parameter `model` of the rule.
PARAMETER = {
    **{"key": KEY, "manifest": MANIFEST, "base": BASE, "data": "pairs"},
    **{"init": "sums/small/large/seed-0/hybrid_ft-2", "node": NODE},
}
TRAINING = {
    **{"trainer": "dpo", "adapter": "lora", "learning_rate": 5e-6, "epochs": 1, "seed": 0},
    **{"lora": {"r": 8, "alpha": 16, "target_modules": ["q_proj", "v_proj"]}, "processes": 1},
    **{"deepspeed": "/home/someone/zero3.json", "beta": 0.1, "quantization": None},
    **{"rows_sha256": "ab" * 32, "init_files": {"x": "y"}, "versions": {"trl": "1.16.0"}},
}
FACTS = {
    **{"steps": 12, "examples": 96, "tokens": 4800, "supervised_tokens": 960, "longest_row": 60},
    **{"first_loss": 0.6931, "last_loss": 0.4, "loss": 0.5},
}


def metric(metric: str, value: float, scorer: str = "math", **columns) -> dict:
    """A row of METRICS on the model."""
    row = {column: NODE.get(column) for column in METRICS}
    row |= {"experiment": "study", "split": "test", "scorer": scorer, "metric": metric, "k": 1}
    row |= {"n": 400, "value": value, "ci_low": value - 0.05, "ci_high": value + 0.05}
    return row | columns


def record(job: str, *paths: str) -> None:
    """The record of a job that made these files."""
    outputs = {path: hash_file(path) for path in paths}
    lists = {"params": [], "inputs": {}, "input_paths": [], "output_paths": list(paths)}
    times = {"started": 0.0, "ended": 1.0}
    rule = job.partition("/")[0]
    write_json(
        {"rule": rule, "wildcards": {}, "outputs": outputs, "cost": {}, **lists, **times},
        f"{ROOT}/logs/{job}.json",
    )


def record_model() -> None:
    """The record of the training that made the model as it is now."""
    files = [path.as_posix() for path in sorted(Path(MODEL).iterdir())]
    record(f"train/{KEY}", MANIFEST, *files)


def write_manifest(kind: str = "lora", files: dict[str, str] | None = None) -> None:
    """The manifest of the model as it is now, and the record of its job."""
    manifest = {"kind": kind, "base": "large", "base_path": "models/large", "path": MODEL}
    manifest["files"] = hash_files(Path(MODEL)) if files is None else files
    write_json({**manifest, "training": TRAINING, "facts": FACTS}, MANIFEST)
    record_model()


def write_base(source: dict) -> None:
    """The manifest of the base model."""
    base = {"name": "large", "path": "models/large", "files": {"config.json": "cd" * 32}}
    write_json({**base, "source": source}, BASE)


def write_experiment() -> None:
    """All files of the experiment, below the working folder."""
    for folder in (MODEL, f"{ROOT}/bases", f"{ROOT}/report", Path(GOLD).parent):
        Path(folder).mkdir(parents=True)
    adapter = {"base_model_name_or_path": "/home/someone/models/large", "r": 8}
    Path(MODEL, "adapter_config.json").write_text(json.dumps(adapter))
    save_file({"lora_A": np.ones((2, 3), np.float32)}, f"{MODEL}/adapter_model.safetensors")
    write_manifest()
    write_base(HUB)
    rows = [
        metric("accuracy", 0.75),
        metric("accuracy", 0.7, "paper"),
        metric("pass@k", 0.9, k=4),
        metric("accuracy", 0.5, split="test/level=3"),
        metric("accuracy", 0.1, method="ceiling"),
        metric("accuracy", 0.2, seed=1),
    ]
    pl.DataFrame(rows, schema=METRICS).write_csv(f"{ROOT}/report/metrics.csv")
    for name in RESULT_TABLES[1:]:
        Path(ROOT, "report", name).write_text(f"{name}\n")
    record("metrics", *(f"{ROOT}/report/{name}" for name in RESULT_TABLES))
    pl.DataFrame({"id": ["1"], "answer": ["7"]}).write_parquet(GOLD)
    record("withhold_gold/sums", GOLD)
