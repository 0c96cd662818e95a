"""The formulas behind docs/plan.md against real trainings and engines of small models.

    python benchmarks/plan_check.py trainings
    python benchmarks/plan_check.py engines

`trainings`: functions of the workflow train Llama-shaped models with random weights, on a CPU with
one thread, each in a process of its own. For each training, the table compares

- FLOPs that torch counts (`FlopCounterMode`) with `TrainingCost.flops`;
- bytes of the published model with `TrainingCost.saved_bytes`;
- bytes of memory that the process took beyond its imports with `TrainingCost.memory`, without the
  allowance for CUDA, for rows of LONGEST tokens, about the length of the longest row;
- CPU seconds of the training loop with those that the FLOPs predict, for a device with the FLOP/s
  that the smallest model of the same kind reached.

Ratios are measured over estimated. Counted FLOPs are above the estimate for what it leaves out
(attention, logits of the reference), and below it where weights are only looked up. Writes
benchmarks/plan_check.csv.

`engines`: one start of a vLLM engine for each model and format. The table compares the bytes of the
weights that it has loaded, before the CPU's kernels pack them, and of the KV cache of one token
with `model_shape.Shape`, of which `generation_memory` is made. The load of the machine does not
change these figures. Writes benchmarks/plan_check_engines.csv.
"""

import argparse
import json
import tempfile
from pathlib import Path

import polars as pl
from measuring import ROOT
from training import MODEL, TIMER, job_of, make_rows, run

from weak_to_strong.cluster.assumptions import DEVICE_OVERHEAD
from weak_to_strong.cluster.model_shape import Shape, model_shape
from weak_to_strong.cluster.training_cost import TrainingCost
from weak_to_strong.generation.engine_settings import EngineSettings, engine_arguments
from weak_to_strong.models.base_models import describe_base_model
from weak_to_strong.tables.files import read_json, write_json
from weak_to_strong.training.settings import PROJECTIONS

#: Hidden width, blocks, width of keys and values, width of the MLP.
SIZES = {"small": (256, 6, 128, 704), "large": (512, 12, 256, 1408)}
LONGEST = 128
LORA = {"r": 16, "alpha": 32, "dropout": 0.05, "target_modules": list(PROJECTIONS)}
KINDS = {
    "SFT, LoRA": ("sft", {"adapter": "lora", "lora": LORA}),
    "SFT, LoRA, checkpointing": (
        "sft",
        {"adapter": "lora", "lora": LORA, "gradient_checkpointing": True},
    ),
    "SFT, full": ("sft", {"adapter": "full"}),
    "DPO, full": ("dpo", {"adapter": "full", "beta": 0.1}),
}
#: Freed tensors go back to the system at once.
FREEING = {"MALLOC_MMAP_THRESHOLD_": "65536"}
TRAIN = """
import json, sys, threading, time
from pathlib import Path
from weak_to_strong.training.libraries import import_libraries, quieten_libraries
from weak_to_strong.training.train import train
from weak_to_strong.training.training_run import TrainingJob, resolve
quieten_libraries()
{timer}
job, count = TrainingJob(**json.loads(sys.argv[1])), sys.argv[2] == "count"
import_libraries(job.trainer)
import torch
torch.ones(64, 64) @ torch.ones(64, 64)

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

before, peak, done = resident(), 0, False

def watch():
    global peak
    while not done:
        peak = max(peak, resident())
        time.sleep(0.005)

watcher = threading.Thread(target=watch)
watcher.start()
timer, flops = Timer(), 0
if count:
    from torch.utils.flop_counter import FlopCounterMode
    with FlopCounterMode(display=False) as counter:
        train(resolve(job), [timer])
    flops = counter.get_total_flops()
else:
    train(resolve(job), [timer])
done = True
watcher.join()
print(json.dumps([flops, peak - before, timer.cpu_seconds]))
"""

#: Prints bytes of all parameters as loaded, bytes of the KV cache, and tokens that it holds.
ENGINE = """
import json, os, sys
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
from vllm.model_executor.model_loader import base_loader
from weak_to_strong.generation.engine_worker import VllmEngine

finish, weights = base_loader.process_weights_after_loading, []

def count(model, *arguments):
    weights.append(sum(tensor.numel() * tensor.element_size() for tensor in model.parameters()))
    finish(model, *arguments)

base_loader.process_weights_after_loading = count
engine = VllmEngine(json.loads(sys.argv[1]))._engine
runner = engine.engine_core.engine_core.model_executor.driver_worker.worker.model_runner
cache = engine.vllm_config.cache_config
kept = sum(tensor.numel() * tensor.element_size() for tensor in runner.kv_caches)
print(json.dumps([*weights, kept, cache.num_gpu_blocks * cache.block_size]), flush=True)
os._exit(0)
"""


def make_model(size: str, folder: Path) -> Shape:
    """A model with random weights and the tokenizer of the embedded ones."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    hidden, layers, key_value, intermediate = SIZES[size]
    config = AutoConfig.from_pretrained(MODEL)
    head = 32
    config.hidden_size, config.num_hidden_layers = hidden, layers
    config.num_attention_heads, config.num_key_value_heads = hidden // head, key_value // head
    config.head_dim, config.intermediate_size = head, intermediate
    if hasattr(config, "layer_types"):
        config.layer_types = None
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(MODEL).save_pretrained(folder)
    parameters = sum(weight.numel() for weight in model.parameters())
    return Shape(parameters, layers, hidden, key_value, intermediate, config.vocab_size)


def check_engines() -> None:
    """Write plan_check_engines.csv."""
    results = []
    with tempfile.TemporaryDirectory() as name:
        large = Path(name) / "large"
        make_model("large", large)
        for model, folder, dtype in (("embedded", MODEL, "float32"), ("large", large, "bfloat16")):
            shape = model_shape({}, folder)
            settings = EngineSettings.parse(
                {"max_model_len": 256, "device": "cpu", "dtype": dtype, "kv_cache_gib": 0.25}
            )
            arguments = engine_arguments(settings, str(folder), [])
            weights, cache, tokens = run(ENGINE, json.dumps(arguments))
            wider = {"float32": 2, "bfloat16": 1}[dtype]
            results.append(
                {
                    "model": model,
                    "parameters": shape.parameters,
                    "dtype": dtype,
                    "weight_bytes_estimated": wider * shape.size,
                    "weight_bytes": weights,
                    "cache_bytes_per_token_estimated": wider * shape.cache_per_token,
                    "cache_bytes_per_token": cache // tokens,
                }
            )
            print(results[-1], flush=True)
    pl.DataFrame(results).write_csv(ROOT / "benchmarks/plan_check_engines.csv")


def check_trainings(count: int) -> None:
    """Write plan_check.csv, of trainings on `count` rows."""
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = make_rows(folder, count)
        speeds: dict[str, float] = {}
        for size in SIZES:
            shape = make_model(size, folder / size)
            base, init = folder / f"{size}.json", folder / f"{size}-init.json"
            write_json(describe_base_model(size, {"path": str(folder / size)}), base)
            write_json({**read_json(base), "kind": "full", "base": size}, init)
            for kind, (trainer, changes) in KINDS.items():
                settings = {
                    "learning_rate": 1.0e-4,
                    "epochs": 1,
                    "global_batch_size": 8,
                    "per_device_batch_size": 8,
                    "scheduler": "cosine",
                    "max_length": 256,
                    "dtype": "float32",
                    "seed": 0,
                    **changes,
                }
                measured = {}
                for mode in ("count", "time"):
                    place = f"{size}-{kind}-{mode}".replace(" ", "").replace(",", "-")
                    job = job_of(folder, place, trainer, settings, files[trainer], base, init)
                    # FLOPs (0 unless counted), bytes of memory, CPU seconds of the training loop.
                    measured[mode] = run(
                        TRAIN.format(timer=TIMER), json.dumps(job), mode, **FREEING
                    )
                tokens = read_json(job["manifest"])["facts"]["tokens"]
                cost = TrainingCost.of(shape, trainer, {**settings, "max_length": LONGEST})
                flops = cost.flops(tokens)
                seconds = measured["time"][2]
                speeds.setdefault(kind, flops / seconds)
                saved = sum(
                    file.stat().st_size for file in Path(job["model"]).glob("*.safetensors")
                )
                memory = cost.memory(1) - DEVICE_OVERHEAD
                results.append(
                    {
                        "model": size,
                        "parameters": shape.parameters,
                        "training": kind,
                        "tokens": tokens,
                        "flops_estimated": flops,
                        "flops_counted": measured["count"][0],
                        "flops_ratio": measured["count"][0] / flops,
                        "saved_bytes_estimated": cost.saved_bytes,
                        "saved_bytes": saved,
                        "saved_ratio": saved / cost.saved_bytes,
                        "memory_estimated": memory,
                        "memory_measured": measured["time"][1],
                        "memory_ratio": measured["time"][1] / memory,
                        "cpu_seconds_predicted": flops / speeds[kind],
                        "cpu_seconds": seconds,
                        "cpu_seconds_ratio": seconds * speeds[kind] / flops,
                    }
                )
                print(results[-1], flush=True)
    pl.DataFrame(results).write_csv(ROOT / "benchmarks/plan_check.csv", float_precision=4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", choices=("trainings", "engines"))
    parser.add_argument("--rows", type=int, default=64)
    options = parser.parse_args()
    if options.part == "engines":
        check_engines()
    else:
        check_trainings(options.rows)


if __name__ == "__main__":
    main()
