"""A tiny training with and without garbage collection while its libraries are imported.

    python benchmarks/training_start.py [--pairs 3]

Two updates of the embedded strong model: nearly all of it is imports. The two ways alternate, each
run is a process of its own, and their trained weights must be equal. Writes
benchmarks/training_start.csv: CPU seconds of whole processes, which depend less on what else the
machine does than wall time.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import polars as pl
from measuring import ROOT

from weak_to_strong.data.embedded_task import generate_problems
from weak_to_strong.models.base_models import describe_base_model
from weak_to_strong.tables.files import read_json, write_json
from weak_to_strong.tables.frames import write_table
from weak_to_strong.tables.schemas import SFT_ROWS
from weak_to_strong.training.training_run import TrainingJob

SETTINGS = {
    "learning_rate": 1e-4,
    "epochs": 1,
    "global_batch_size": 16,
    "per_device_batch_size": 16,
    "scheduler": "cosine",
    "warmup_ratio": 0.03,
    "max_length": 512,
    "adapter": "full",
    "lora": None,
    "dtype": "float32",
    "seed": 0,
}
TRAIN = """
import contextlib, json, sys
from weak_to_strong.training import launching, libraries
from weak_to_strong.training.training_run import TrainingJob
if sys.argv[2] == "collecting":
    libraries.collection_paused = contextlib.nullcontext
launching.run_training(TrainingJob(**json.loads(sys.argv[1])))
"""


def make_job(folder: Path) -> TrainingJob:
    """A supervised training of 32 rows in `folder`."""
    write_json(
        describe_base_model("strong", {"path": str(ROOT / "resources/embedded/study_strong")}),
        folder / "base.json",
    )
    rows = [
        {
            "id": str(row),
            "prompt": f"Question: {problem['question']}\nAnswer:",
            "completion": f" {problem['solution']}",
        }
        for row, problem in enumerate(islice(generate_problems([10, 16, 31], seed=1), 32))
    ]
    write_table(pl.DataFrame(rows), SFT_ROWS, folder / "rows.parquet")
    return TrainingJob(
        trainer="sft",
        settings=SETTINGS,
        rows=str(folder / "rows.parquet"),
        base=str(folder / "base.json"),
        init=None,
        **{name: str(folder / name) for name in ("work", "model", "manifest", "history")},
    )


def train(way: str) -> tuple[float, dict]:
    """CPU seconds of one training, and the hashes of its files."""
    with tempfile.TemporaryDirectory() as folder:
        job = make_job(Path(folder))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-c", TRAIN, json.dumps(asdict(job)), way],
            env={**os.environ, "PYTHONPATH": str(ROOT / "scripts"), "OMP_NUM_THREADS": "1"},
            check=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return seconds, read_json(job.manifest)["files"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=3)
    rows = []
    for pair in range(parser.parse_args().pairs):
        paused, files = train("paused")
        collecting, others = train("collecting")
        assert files == others, "the two ways gave different weights"
        rows.append((pair, paused, collecting, collecting / paused))
    names = ["pair", "paused_cpu_seconds", "collecting_cpu_seconds", "ratio"]
    frame = pl.DataFrame(rows, schema=names, orient="row")
    frame.write_csv(ROOT / "benchmarks/training_start.csv", float_precision=2)
    print(frame)
    print(f"median ratio {statistics.median(frame['ratio']):.2f}")


if __name__ == "__main__":
    main()
