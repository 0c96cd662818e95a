"""Throughput of the pool's engines against vLLM's own offline benchmark.

    python benchmarks/throughput.py [--samples 1280] [--tokens 48] [--turns 4]

All generate with the embedded strong model from the same tokens, sampled at temperature 1, on one
thread, as each engine on a CPU has. Lengths are drawn, log-normal with a mean of `--tokens` and a
few that are ten times as long, as answers' are: an engine has to be kept full while one sample
takes its time. The peer is what `vllm bench throughput` times: adding all requests and stepping
until they have ended. Ours is measured with one sample a question, without seeds as the peer, and
with ten samples a question and a seed for each, as in Stage II; its messages come from the pool,
through the pipes of a worker process. Peer and pool run by turns on one engine in one process, as
engines of two processes differ by some per cent in speed, whatever they run. A ratio is that of the
pool's speed and the mean of the peer's just before and after. Writes benchmarks/throughput.csv.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import threading
import time
from collections import deque
from itertools import islice
from pathlib import Path
from random import Random

import polars as pl
from measuring import ROOT

from weak_to_strong.data.embedded_task import generate_problems
from weak_to_strong.generation.engine_pool import EnginePool, EngineWork, Shard
from weak_to_strong.generation.engine_settings import (
    EngineSettings,
    engine_arguments,
    worker_environments,
)
from weak_to_strong.generation.engine_worker import tokenise
from weak_to_strong.generation.requests import sample_seed

MODEL = ROOT / "resources/embedded/study_strong"
#: Samples of a question, and whether each has a seed.
WAYS = {"one sample a question": (1, False), "ten samples, a seed each": (10, True)}
#: Spread of the logarithm of lengths; the longest, in means.
SIGMA, LONGEST = 0.8, 10
WORKER = """
import json, sys
from pathlib import Path
from weak_to_strong.generation import engine_worker

class SharedEngine(engine_worker.VllmEngine):
    # One vLLM engine for all that the pool starts. Before and after each the peer runs on it.
    llm = None

    def __init__(self, arguments):
        from vllm import LLM, EngineArgs
        from vllm.benchmarks.datasets import SampleRequest

        way = arguments.pop("way")
        self.samples = json.loads(Path(sys.argv[1], way).read_text())
        self.requests = [
            SampleRequest({"prompt_token_ids": prompt}, len(prompt), length)
            for prompt, length in self.samples.values()
        ]
        if self.llm is None:
            type(self).llm = LLM.from_engine_args(EngineArgs(**arguments))
            self.run_peer()  # the first run of an engine is slower
        self.tell()
        self.cached, self._engine = 0, self.llm.llm_engine

    def run_peer(self):
        from vllm.benchmarks.throughput import _run_vllm_requests

        self.llm.reset_prefix_cache()
        seconds, outputs = _run_vllm_requests(
            self.llm, self.requests, 1, False, False, False, False
        )
        self.llm.reset_prefix_cache()
        return seconds, sum(len(output.outputs[0].token_ids) for output in outputs)

    def tell(self):
        with Path(sys.argv[2]).open("a") as file:
            file.write(json.dumps(self.run_peer()) + "\\n")

    def add(self, name, prompt, seed, sampling, adapter):
        length = {"max_tokens": self.samples[name][1]}
        super().add(name, prompt, seed, sampling | length, adapter)

    def close(self):
        self.tell()

engine_worker.run_worker(SharedEngine, engine_worker.tokenise, engine_worker.import_vllm)
"""


def make_shards(prompts: list[list[int]], size: int, n: int, seeded: bool) -> list[Shard]:
    """The shards of one round; the worker knows how long each sample is to be."""
    sampling = {"temperature": 1.0, "top_p": 1.0, "ignore_eos": True}
    shards = []
    for first in range(0, len(prompts), size):
        part = prompts[first : first + size]
        seeds = [
            [sample_seed(0, str(first + number), k) if seeded else None for k in range(n)]
            for number in range(len(part))
        ]
        message = {"adapter": None, "sampling": sampling, "prompts": part, "seeds": seeds}
        shards.append(Shard(len(shards), message.copy, len(part) * n))
    return shards


def draw_lengths(count: int, mean: int) -> list[int]:
    """Lengths of samples (tokens), the same in each run."""
    rng = Random(0)
    drawn = (rng.lognormvariate(math.log(mean) - SIGMA**2 / 2, SIGMA) for _ in range(count))
    return [max(1, min(LONGEST * mean, round(length))) for length in drawn]


def run_pool(pool: EnginePool, work: EngineWork) -> tuple[float, int]:
    """Seconds and response tokens from the engine's being ready to the last shard."""
    counts, loads = [], pool.engine_loads

    def finish(_number: int, rows: list[list]) -> None:
        counts.extend(length for _, _, length in rows)

    running = threading.Thread(target=pool.run, args=([work], finish))
    running.start()
    while pool.engine_loads == loads and running.is_alive():
        time.sleep(0.002)
    began = time.perf_counter()
    running.join()
    return time.perf_counter() - began, sum(counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=1280)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--turns", type=int, default=4)
    options = parser.parse_args()
    settings = EngineSettings.parse({"max_model_len": 1024})
    questions = islice(generate_problems([10, 16, 31, 43, 62], seed=1), options.samples)
    texts = [f"Question: {problem['question']}\nAnswer:" for problem in questions]
    prompts = tokenise(str(MODEL), texts)
    arguments = engine_arguments(settings, str(MODEL), [])
    lengths = draw_lengths(options.samples, options.tokens)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        peers = Path(name, "peers.jsonl")
        rounds = {}
        for way, (n, seeded) in {**WAYS, "last": (1, False)}.items():
            round_prompts = prompts[: 1 if way == "last" else options.samples // n]
            rounds[way] = make_shards(round_prompts, settings.shard_size, n, seeded)
            names = [
                f"{shard.number}-{index}" for shard in rounds[way] for index in range(shard.samples)
            ]
            texts_of = (prompt for prompt in round_prompts for _ in range(n))
            samples = dict(zip(names, zip(texts_of, lengths, strict=False), strict=True))
            Path(name, way).write_text(json.dumps(samples))
        pool = EnginePool(
            1,
            worker_environments(settings, threads=1),
            Path(name),
            fresh=False,
            max_num_seqs=settings.max_num_seqs,
            command=(sys.executable, "-c", WORKER, name, str(peers)),
        )
        order = [*WAYS, *reversed(WAYS)] * ((options.turns + 1) // 2)
        taken = []
        with pool:
            for way in order[: len(WAYS) * options.turns]:
                work = EngineWork({**arguments, "way": way}, deque(rounds[way]))
                taken.append((way, *run_pool(pool, work)))
                print(*taken[-1], flush=True)
            # The last engine ends, and its peer runs, when another one is asked for.
            run_pool(pool, EngineWork({**arguments, "way": "last"}, deque([rounds["last"][0]])))
        peer = [json.loads(line) for line in peers.read_text().splitlines()]
    for place, (way, took, tokens) in enumerate(taken):
        before, after = peer[2 * place : 2 * place + 2]
        assert tokens == before[1] == after[1], "tokens are missing"
        beside = (before[0] + after[0]) / 2
        turn = place // len(WAYS)
        rows.append((turn, way, options.samples, tokens, took, beside, beside / took))
    names = ["turn", "way", "samples", "response_tokens", "seconds", "peer_seconds", "ratio"]
    frame = pl.DataFrame(rows, schema=names, orient="row")
    frame.write_csv(ROOT / "benchmarks/throughput.csv", float_precision=3)
    for way in WAYS:
        ratios = frame.filter(pl.col("way") == way)["ratio"]
        print(f"{way}: median ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
