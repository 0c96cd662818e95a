"""One generation round against one process for each (model, split, seed), on the same requests.

    python benchmarks/rounds.py [--questions 60] [--pairs 2]

The requests are those of a small evaluation: the embedded weak model and two random adapters on it,
each on two sets of questions, greedily and with two samples for each of two seeds, the base model
with few-shot prompts too. Apart, each has a process and an engine of its own, as with the reference
scripts; the round is served by one engine, and then by two that share its shards, on as many
threads. All use the same code and settings and give the same texts; the ways alternate, and ratios
of wall times are taken pair by pair. `cached` is the share of the prompts' tokens that the round's
engine had in its prefix cache. Writes benchmarks/rounds.csv.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import polars as pl
from measuring import ROOT

from weak_to_strong.data.embedded_task import generate_problems
from weak_to_strong.models.base_models import describe_base_model
from weak_to_strong.models.manifests import hash_files
from weak_to_strong.tables.files import write_json
from weak_to_strong.tables.frames import write_table
from weak_to_strong.tables.schemas import DEMONSTRATIONS, QUESTIONS

SERVE = """
import json, sys
sys.path.insert(0, {scripts!r})
from weak_to_strong.generation.rounds import generate_round
requests, store, processes = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
engine = {{"max_model_len": 1024, "processes": processes, "shard_size": 16}}
rows, _, cost = generate_round(requests, engine, store, threads=processes)
print(json.dumps([cost, [text for table in rows for text in table["response"]]]))
"""
MODEL = ROOT / "resources/embedded/study_weak"
ADAPTERS, SPLITS, SEEDS, SHOTS = 2, 2, (0, 1), 4


def make_tables(folder: Path, questions: int) -> tuple[list[Path], Path]:
    """Tables of questions, one a split, and one of demonstrations."""
    stream = generate_problems([10, 16, 31, 43, 62], seed=1)
    splits = []
    for number in range(SPLITS):
        rows = [
            {"id": str(row), "question": problem["question"], "source": "benchmark"}
            for row, problem in enumerate(islice(stream, questions))
        ]
        splits.append(folder / f"{number}.parquet")
        write_table(pl.DataFrame(rows, schema=QUESTIONS), QUESTIONS, splits[-1])
    demonstrations = [
        {
            "id": str(number),
            "prompt": f"Question: {problem['question']}\nAnswer:",
            "response": problem["solution"],
        }
        for number, problem in enumerate(islice(stream, SHOTS))
    ]
    write_table(
        pl.DataFrame(demonstrations, schema=DEMONSTRATIONS),
        DEMONSTRATIONS,
        folder / "shown.parquet",
    )
    return splits, folder / "shown.parquet"


def make_adapter(folder: Path, seed: int) -> Path:
    """The manifest of a LoRA adapter with random weights."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(MODEL)
    targets = ["q_proj", "v_proj", "down_proj"]
    config = LoraConfig(
        r=8, lora_alpha=16, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM"
    )
    place = folder / f"adapter-{seed}"
    get_peft_model(model, config).save_pretrained(str(place))
    manifest = folder / f"adapter-{seed}.json"
    facts = {"name": place.name, "kind": "lora", "base": "weak", "path": str(place)}
    write_json({**facts, "files": hash_files(place)}, manifest)
    return manifest


def make_requests(folder: Path, questions: int) -> list[dict]:
    """The requests of a small evaluation, with their files, in `folder`."""
    base = folder / "base.json"
    write_json(describe_base_model("weak", {"path": str(MODEL)}), base)
    splits, demonstrations = make_tables(folder, questions)
    decodings = [{"n": 1, "temperature": 0.0, "seed": 0}]
    decodings += [{"n": 2, "temperature": 1.0, "seed": seed} for seed in SEEDS]
    models = [None, *(str(make_adapter(folder, seed)) for seed in range(ADAPTERS))]
    requests = [
        (model, split, decoding, None)
        for model in models
        for split in splits
        for decoding in decodings
    ]
    requests += [(None, split, decodings[0], str(demonstrations)) for split in splits]
    return [
        {
            "name": str(number),
            "model": model,
            "base": str(base),
            "problems": str(split),
            "demonstrations": shots,
            **decoding,
            "top_p": 1.0,
            "max_tokens": 64,
            "stop": ["\n\n"],
            "prompt": "question_answer",
        }
        for number, (model, split, decoding, shots) in enumerate(requests)
    ]


def serve(groups: list[list[dict]], processes: int = 1) -> tuple[float, list[dict], list[str]]:
    """Seconds, costs and texts of serving each group of requests by a process of its own."""
    code = SERVE.format(scripts=str(ROOT / "scripts"))
    costs, texts, began = [], [], time.monotonic()
    for group in groups:
        with tempfile.TemporaryDirectory() as store:
            command = [sys.executable, "-c", code, json.dumps(group), store, str(processes)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        cost, new_texts = json.loads(output)
        costs.append(cost)
        texts += new_texts
    return time.monotonic() - began, costs, texts


def total(costs: list[dict], name: str) -> int:
    return sum(cost[name] for cost in costs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--pairs", type=int, default=2)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        requests = make_requests(Path(name), options.questions)
        for pair in range(options.pairs):
            together, costs, texts = serve([requests])
            apart, costs_apart, texts_apart = serve([[request] for request in requests])
            shared, costs_shared, texts_shared = serve([requests], processes=2)
            assert texts == texts_apart == texts_shared, "the ways gave different texts"
            rows.append(
                {
                    "pair": pair,
                    "requests": len(requests),
                    "response_tokens": total(costs, "response_tokens"),
                    "cached": total(costs, "cached_prompt_tokens") / total(costs, "prompt_tokens"),
                    "round_loads": total(costs, "engine_loads"),
                    "apart_loads": total(costs_apart, "engine_loads"),
                    "two_engines_loads": total(costs_shared, "engine_loads"),
                    "round_seconds": together,
                    "apart_seconds": apart,
                    "two_engines_seconds": shared,
                    "ratio": apart / together,
                    "two_engines_ratio": together / shared,
                }
            )
            print(rows[-1], flush=True)
    frame = pl.DataFrame(rows)
    frame.write_csv(ROOT / "benchmarks/rounds.csv", float_precision=2)
    for name in ("ratio", "two_engines_ratio"):
        print(f"median {name} {statistics.median(frame[name]):.2f}")


if __name__ == "__main__":
    main()
