"""Memory of the process that drives a generation round, as the number of questions grows.

    python benchmarks/driver_memory.py [--questions 1000 10000 100000] [--samples 10]

The worker is not an engine: it answers each sample at once with a text of 600 characters, so that
what is measured is the driver, from the table of questions to the table of generations. Prompts
show four demonstrations. Each size is a process of its own; its peak is the kernel's, and stands
beside the bytes of the texts that went through it. Writes benchmarks/driver_memory.csv.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
from measuring import ROOT

from weak_to_strong.generation.rounds import generate_round
from weak_to_strong.tables.files import write_json
from weak_to_strong.tables.frames import write_batches, write_table
from weak_to_strong.tables.schemas import DEMONSTRATIONS, GENERATIONS, QUESTIONS

CHARACTERS_A_TOKEN = 4
ANSWER = "So that makes it 12 in all, and then " * 16
WORKER = f"""
from weak_to_strong.generation.engine_worker import run_worker

class Answers:
    cached = 0
    def __init__(self, arguments):
        self.waiting = []
    def add(self, name, prompt, seed, sampling, adapter):
        self.waiting.append((name, {ANSWER!r} + str(seed), "stop", 150))
    def step(self):
        waiting, self.waiting = self.waiting, []
        return waiting
    def close(self):
        pass

def tokenise(weights, prompts):
    return [list(prompt.encode()[::{CHARACTERS_A_TOKEN}]) for prompt in prompts]

run_worker(Answers, tokenise)
"""


def make_request(folder: Path, questions: int, samples: int) -> dict:
    """A request of so many questions in `folder`, with its tables and a manifest."""
    (folder / "weights").mkdir()
    write_json({"name": "base", "path": str(folder / "weights"), "files": {}}, folder / "base.json")
    text = (
        "A shop sells {} pens a day. How many does it sell in a week, and how many in a year? " * 3
    )
    rows = {
        "id": [f"shop-{number}" for number in range(questions)],
        "question": [text.replace("{}", str(number)) for number in range(questions)],
    }
    empty = [pl.lit("").alias(name) for name in QUESTIONS.names() if name not in rows]
    write_table(pl.DataFrame(rows).with_columns(empty), QUESTIONS, folder / "questions.parquet")
    shots = [{"id": str(shot), "prompt": text, "response": ANSWER} for shot in range(4)]
    write_table(pl.DataFrame(shots), DEMONSTRATIONS, folder / "shots.parquet")
    return {
        "name": "shops",
        "model": None,
        "base": str(folder / "base.json"),
        "problems": str(folder / "questions.parquet"),
        "demonstrations": str(folder / "shots.parquet"),
        "n": samples,
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens": 256,
        "seed": 0,
        "stop": ["\n\n"],
        "prompt": "question_answer",
    }


def drive(folder: Path) -> None:
    """Serve the request of `folder`; print peak memory in bytes, seconds of CPU and tokens."""
    (folder / "worker.py").write_text(WORKER)
    rows, stats, _ = generate_round(
        [json.loads((folder / "request.json").read_text())],
        {"max_model_len": 8192, "device": "cpu"},
        folder / "store",
        command=[sys.executable, str(folder / "worker.py")],
    )
    write_batches(rows, GENERATIONS, folder / "generations.parquet")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps([peak, time.process_time(), stats["shops"]]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--questions", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive:
        drive(options.drive)
        return
    rows = []
    for questions in options.questions:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_json(make_request(folder, questions, options.samples), folder / "request.json")
            command = [sys.executable, __file__, "--drive", name]
            completed = subprocess.run(command, check=True, stdout=subprocess.PIPE)
            peak, seconds, stats = json.loads(completed.stdout)
            texts = CHARACTERS_A_TOKEN * stats["prompt_tokens"] + stats["samples"] * len(ANSWER)
            rows.append((questions, stats["samples"], texts, peak, seconds))
            print(rows[-1], flush=True)
    names = ["questions", "samples", "bytes_of_text", "peak_bytes", "driver_cpu_seconds"]
    further = pl.col("questions", "peak_bytes").diff().name.prefix("further_")
    frame = (
        pl.DataFrame(rows, schema=names, orient="row")
        .with_columns(further)
        .with_columns(
            ratio=pl.col("peak_bytes") / pl.col("bytes_of_text"),
            bytes_for_each_further_question=pl.col("further_peak_bytes")
            / pl.col("further_questions"),
        )
        .drop("further_questions", "further_peak_bytes")
    )
    frame.write_csv(ROOT / "benchmarks/driver_memory.csv", float_precision=2)
    print(frame)


if __name__ == "__main__":
    main()
