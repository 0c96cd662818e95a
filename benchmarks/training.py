"""Fine-tuning through the workflow against a plain TRL script with the same settings.

    python benchmarks/training.py [--rows 320] [--turns 4]

Both train the embedded strong model on the same texts with the same updates of sixteen rows, one
thread, one process each: all its weights in one micro-batch an update, which the workflow leaves in
order, and in micro-batches of four, which it sorts by length; SFT and DPO, and SFT of a LoRA
adapter. `loop` is the time between the trainer's first and last step, also as CPU time, on which
other work of the machine has less influence; `process` is that of the whole process, with imports,
tokenising and the saved model. They take turns, and in turns begin; ratios of tokens per second
(ours over TRL's) are taken turn by turn. The table also has the largest difference of their losses.
Writes benchmarks/training.csv.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
from measuring import ROOT

from weak_to_strong.data.embedded_task import generate_problems
from weak_to_strong.models.base_models import describe_base_model
from weak_to_strong.tables.files import read_json, write_json
from weak_to_strong.tables.frames import write_table
from weak_to_strong.tables.schemas import PAIRS, SFT_ROWS

MODEL = ROOT / "resources/embedded/study_strong"
SETTINGS = {
    "learning_rate": 1.0e-4,
    "epochs": 1,
    "global_batch_size": 16,
    "per_device_batch_size": 16,
    "scheduler": "cosine",
    "max_length": 512,
    "adapter": "full",
    "dtype": "float32",
    "seed": 0,
}
LORA = {
    "r": 8,
    "alpha": 16,
    "dropout": 0.0,
    "target_modules": [f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")],
}
#: (trainer, adapter, rows of a micro-batch)
WORK = (
    ("sft", "full", 16),
    ("dpo", "full", 16),
    ("sft", "full", 4),
    ("dpo", "full", 4),
    ("sft", "lora", 4),
)
TIMER = """
import time
from transformers import TrainerCallback

class Timer(TrainerCallback):
    def on_train_begin(self, *_, **__):
        self.began, self.cpu_began = time.perf_counter(), time.process_time()
    def on_train_end(self, *_, **__):
        self.seconds = time.perf_counter() - self.began
        self.cpu_seconds = time.process_time() - self.cpu_began
"""
OURS = """
import json, sys
from weak_to_strong.training.libraries import quieten_libraries
from weak_to_strong.training.train import train
from weak_to_strong.training.training_run import TrainingJob, resolve
quieten_libraries()
{timer}
timer = Timer()
job = TrainingJob(**json.loads(sys.argv[1]))
train(resolve(job), [timer])
losses = [entry["loss"] for entry in json.load(open(job.history))]
print(json.dumps([timer.seconds, timer.cpu_seconds, losses]))
"""
PLAIN = """
import json, sys
import polars as pl
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
{timer}
job = json.loads(sys.argv[1])
settings = job["settings"]
torch.set_num_threads(1)
model = AutoModelForCausalLM.from_pretrained({model!r}, dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained({model!r})
arguments = dict(
    output_dir=job["work"],
    learning_rate=settings["learning_rate"],
    num_train_epochs=settings["epochs"],
    per_device_train_batch_size=settings["per_device_batch_size"],
    gradient_accumulation_steps=(
        settings["global_batch_size"] // settings["per_device_batch_size"]
    ),
    lr_scheduler_type=settings["scheduler"],
    max_length=settings["max_length"],
    seed=settings["seed"],
    data_seed=settings["seed"],
    weight_decay=0.0,
    use_cpu=True,
    bf16=False,
    gradient_checkpointing=False,
    save_strategy="no",
    logging_steps=1,
    report_to="none",
    disable_tqdm=True,
)
rows = pl.read_parquet(job["rows"])
if job["trainer"] == "sft":
    from trl import SFTConfig, SFTTrainer
    rows, config, kind = rows.select("prompt", "completion"), SFTConfig(**arguments), SFTTrainer
else:
    from trl import DPOConfig, DPOTrainer
    rows, kind = rows.select("prompt", "chosen", "rejected"), DPOTrainer
    config = DPOConfig(**arguments, beta=settings["beta"])
more = {{}}
if settings["adapter"] == "lora":
    from peft import LoraConfig
    lora = settings["lora"]
    more["peft_config"] = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora["r"],
        lora_alpha=lora["alpha"],
        lora_dropout=lora["dropout"],
        target_modules=lora["target_modules"],
    )
timer = Timer()
trainer = kind(
    model=model,
    args=config,
    processing_class=tokenizer,
    train_dataset=Dataset.from_list(rows.to_dicts()),
    callbacks=[timer],
    **more,
)
trainer.train()
trainer.save_model(job["model"])
losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
print(json.dumps([timer.seconds, timer.cpu_seconds, losses]))
"""


def make_rows(folder: Path, count: int) -> dict[str, Path]:
    """SFT rows and pairs of `count` problems; a rejected answer is that of the next problem."""
    problems = list(islice(generate_problems([10, 16, 31, 43, 62], seed=1), count))
    ids = [str(number) for number in range(count)]
    prompts = [f"Question: {problem['question']}\nAnswer:" for problem in problems]
    answers = [f" {problem['solution']}" for problem in problems]
    rejected = answers[1:] + answers[:1]
    sft = pl.DataFrame({"id": ids, "prompt": prompts, "completion": answers}, schema=SFT_ROWS)
    pairs = pl.DataFrame(
        {"id": ids, "prompt": prompts, "chosen": answers, "rejected": rejected}
    ).with_columns(
        *(
            pl.lit(None, kind).alias(name)
            for name, kind in PAIRS.items()
            if name not in ("id", "prompt", "chosen", "rejected")
        )
    )
    files = {"sft": folder / "sft.parquet", "dpo": folder / "dpo.parquet"}
    write_table(sft, SFT_ROWS, files["sft"])
    write_table(pairs.select(PAIRS.names()), PAIRS, files["dpo"])
    return files


def job_of(
    folder: Path, place: str, trainer: str, settings: dict, rows: Path, base: Path, init: Path
) -> dict:
    """The fields of a `TrainingJob` whose files are in `folder` and begin with `place`."""
    return {
        "trainer": trainer,
        "settings": settings,
        "rows": str(rows),
        "base": str(base),
        "init": str(init) if trainer == "dpo" else None,
        "work": str(folder / f"{place}-work"),
        "model": str(folder / place),
        "manifest": str(folder / f"{place}.json"),
        "history": str(folder / f"{place}-history.json"),
    }


def run(program: str, *arguments: str, **environment: str) -> Any:
    """The JSON value that a Python program with one thread prints last."""
    common = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT / "scripts")}
    completed = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env=os.environ | common | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return json.loads(completed.stdout.splitlines()[-1])


def train(code: str, job: dict) -> tuple[float, float, float, list[float]]:
    """Seconds and CPU seconds of the loop, seconds of the whole process, and the losses."""
    began = time.perf_counter()
    loop, cpu, losses = run(code.format(timer=TIMER, model=str(MODEL)), json.dumps(job))
    return loop, cpu, time.perf_counter() - began, losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=320)
    parser.add_argument("--turns", type=int, default=4)
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = folder / "base.json"
        write_json(describe_base_model("strong", {"path": str(MODEL)}), base)
        init = folder / "init.json"
        write_json({**read_json(base), "kind": "full", "base": "strong"}, init)
        files = make_rows(folder, options.rows)
        for turn in range(options.turns):
            for trainer, adapter, rows in WORK:
                settings = SETTINGS | {"adapter": adapter, "per_device_batch_size": rows}
                settings |= {"beta": 0.1} if trainer == "dpo" else {}
                settings |= {"lora": LORA} if adapter == "lora" else {}
                measured = {}
                for code in (PLAIN, OURS) if turn % 2 else (OURS, PLAIN):
                    name = "ours" if code is OURS else "plain"
                    place = f"{turn}-{trainer}-{adapter}-{rows}-{name}"
                    job = job_of(folder, place, trainer, settings, files[trainer], base, init)
                    measured[name] = train(code, job)
                    if name == "ours":
                        tokens = read_json(job["manifest"])["facts"]["tokens"]
                plain, our = measured["plain"], measured["ours"]
                gap = max(abs(a - b) for a, b in zip(plain[3], our[3], strict=True))
                results.append(
                    {
                        "turn": turn,
                        "trainer": trainer,
                        "adapter": adapter,
                        "micro_batch": rows,
                        "rows": options.rows,
                        "tokens": tokens,
                        "plain_loop_seconds": plain[0],
                        "our_loop_seconds": our[0],
                        "loop_ratio": plain[0] / our[0],
                        "plain_loop_cpu_seconds": plain[1],
                        "our_loop_cpu_seconds": our[1],
                        "loop_cpu_ratio": plain[1] / our[1],
                        "plain_process_seconds": plain[2],
                        "our_process_seconds": our[2],
                        "process_ratio": plain[2] / our[2],
                        "largest_difference_of_losses": f"{gap:.1e}",
                    }
                )
                print(results[-1], flush=True)
    frame = pl.DataFrame(results)
    frame.write_csv(ROOT / "benchmarks/training.csv", float_precision=4)
    for work in WORK:
        part = frame.filter(trainer=work[0], adapter=work[1], micro_batch=work[2])
        for kind in ("loop", "loop_cpu", "process"):
            print(*work, f"{kind}: {statistics.median(part[f'{kind}_ratio']):.3f}")


if __name__ == "__main__":
    main()
