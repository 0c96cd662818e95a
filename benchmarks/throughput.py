"""Throughput of the pool's engines against vLLM's own offline benchmark.

    python benchmarks/throughput.py [--prompts 1200] [--tokens 64] [--turns 6]

Both run the embedded strong model with the same engine arguments on the same tokens, sampled at
temperature 1 to a fixed length. The peer is `run_vllm`, which is behind `vllm bench throughput`;
like its time, ours starts when the engine stands. Ours is measured without seeds, as the peer
samples, and with a seed for each sample, as the workflow does; with one thread, as it gives each
engine on a CPU. The three take turns, each turn another first; ratios are taken turn by turn.
Other work on the same cores slows them unequally. Writes benchmarks/throughput.csv.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from itertools import islice
from pathlib import Path

import polars as pl

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from weak_to_strong.embedded_task import generate_problems  # noqa: E402
from weak_to_strong.engine_pool import EnginePool, EngineWork, Shard  # noqa: E402
from weak_to_strong.engine_worker import tokenise  # noqa: E402
from weak_to_strong.generation import (  # noqa: E402
    EngineSettings,
    engine_arguments,
    sample_seed,
    worker_environments,
)

MODEL = ROOT / "resources/embedded/strong"
PEER = """
import json, os, sys
work = json.load(sys.stdin)
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
from vllm import EngineArgs
from vllm.benchmarks.datasets import SampleRequest
from vllm.benchmarks.throughput import run_vllm
requests = [
    SampleRequest({"prompt_token_ids": prompt}, len(prompt), work["tokens"])
    for prompt in work["prompts"]
]
seconds, outputs = run_vllm(requests, 1, EngineArgs(**work["engine"]), False)
tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
print(json.dumps([seconds, tokens]), file=answers, flush=True)
os._exit(0)
"""


def peer(work: dict, environment: dict[str, str]) -> tuple[float, int]:
    """Seconds and response tokens of vLLM's benchmark, without its engine's start."""
    done = subprocess.run(
        [sys.executable, "-c", PEER],
        input=json.dumps(work),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | environment,
        text=True,
        check=True,
    )
    seconds, tokens = json.loads(done.stdout)
    return seconds, tokens


def ours(
    work: dict, environment: dict[str, str], settings: EngineSettings, seeded: bool
) -> tuple[float, int]:
    """Seconds and response tokens of one engine of the pool, without its start."""
    sampling = {
        "temperature": 1.0,
        "top_p": 1.0,
        "ignore_eos": True,
        "max_tokens": work["tokens"],
    }
    prompts, size = work["prompts"], settings.shard_size
    shards = deque()
    for first in range(0, len(prompts), size):
        part = prompts[first : first + size]
        seeds = [[sample_seed(0, str(first + n), 0) if seeded else None] for n in range(len(part))]
        message = {"adapter": None, "sampling": sampling, "prompts": part, "seeds": seeds}
        shards.append(Shard(len(shards), message.copy, len(part)))
    counts = []

    def finish(_number: int, rows: list[list]) -> None:
        counts.extend(length for _, _, length in rows)

    with tempfile.TemporaryDirectory() as logs:
        pool = EnginePool(
            1, [environment], Path(logs), fresh=False, max_num_seqs=settings.max_num_seqs
        )
        with pool:
            running = threading.Thread(
                target=pool.run, args=([EngineWork(work["engine"], shards)], finish)
            )
            running.start()
            while not pool.engine_loads and running.is_alive():
                time.sleep(0.002)
            began = time.perf_counter()
            running.join()
            seconds = time.perf_counter() - began
    return seconds, sum(counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--prompts", type=int, default=1200)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--turns", type=int, default=6)
    options = parser.parse_args()
    settings = EngineSettings.parse({"max_model_len": 1024})
    environment = worker_environments(settings, threads=1)[0]
    questions = islice(generate_problems([10, 16, 31, 43, 62], seed=1), options.prompts)
    texts = [f"Question: {problem['question']}\nAnswer:" for problem in questions]
    work = {
        "prompts": tokenise(str(MODEL), texts),
        "tokens": options.tokens,
        "engine": engine_arguments(settings, str(MODEL), []),
    }
    ways = {
        "vLLM's benchmark": lambda: peer(work, environment),
        "pool": lambda: ours(work, environment, settings, seeded=False),
        "pool, a seed a sample": lambda: ours(work, environment, settings, seeded=True),
    }
    rows = []
    for turn in range(options.turns):
        order = list(ways)[turn % len(ways) :] + list(ways)[: turn % len(ways)]
        found = {way: ways[way]() for way in order}
        for way, (seconds, tokens) in found.items():
            assert tokens == options.prompts * options.tokens, "not all tokens were generated"
            ratio = found["vLLM's benchmark"][0] / seconds
            rows.append((turn, way, options.prompts, tokens, seconds, tokens / seconds, ratio))
            print(rows[-1], flush=True)
    names = ["turn", "way", "prompts", "response_tokens", "seconds", "tokens_per_second", "ratio"]
    frame = pl.DataFrame(rows, schema=names, orient="row")
    frame.write_csv(ROOT / "benchmarks/throughput.csv", float_precision=3)
    for way in ways:
        ratios = frame.filter(pl.col("way") == way)["ratio"]
        print(f"{way}: median ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
