"""Throughput of the pool's engines against vLLM's own offline benchmark.

    python benchmarks/throughput.py [--prompts 600] [--tokens 64] [--turns 6]

All generate with the embedded strong model from the same tokens, sampled at temperature 1 to a
fixed length, on one thread, as each engine on a CPU has. The peer is what `vllm bench throughput`
times: adding all requests and stepping until they have ended. Ours is measured without seeds, as
the peer samples, and with a seed for each sample, as the workflow does; its messages come from the
pool, through the pipes of a worker process. Peer and pool run by turns on one engine in one
process, as engines of two processes differ by some per cent in speed, whatever they run. A ratio is
that of the pool's speed and the mean of the peer's before and after. Writes
benchmarks/throughput.csv.
"""

import argparse
import json
import statistics
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
WORKER = """
import json, sys
from pathlib import Path
from weak_to_strong import engine_worker

class SharedEngine(engine_worker.VllmEngine):
    # One vLLM engine for all that the pool starts. Before each the peer runs on it.
    llm = None

    def __init__(self, arguments):
        from vllm import LLM, EngineArgs
        from vllm.benchmarks.datasets import SampleRequest
        from vllm.benchmarks.throughput import _run_vllm_requests

        work = json.loads(Path(sys.argv[1]).read_text())
        requests = [
            SampleRequest({"prompt_token_ids": prompt}, len(prompt), work["tokens"])
            for prompt in work["prompts"]
        ]

        def run_peer():
            self.llm.reset_prefix_cache()
            seconds, outputs = _run_vllm_requests(self.llm, requests, 1, False, False, False, False)
            return seconds, sum(len(output.outputs[0].token_ids) for output in outputs)

        if self.llm is None:
            type(self).llm = LLM.from_engine_args(EngineArgs(**arguments))
            run_peer()  # the first run of an engine is slower
        with Path(sys.argv[2]).open("a") as file:
            file.write(json.dumps(run_peer()) + "\\n")
        self.llm.reset_prefix_cache()
        self.cached, self._engine = 0, self.llm.llm_engine

    def close(self):
        pass

engine_worker.run(SharedEngine, engine_worker.tokenise, engine_worker.import_vllm)
"""


def make_shards(prompts: list[list[int]], tokens: int, size: int, seeded: bool) -> deque[Shard]:
    """The shards of one round."""
    sampling = {"temperature": 1.0, "top_p": 1.0, "ignore_eos": True, "max_tokens": tokens}
    shards = deque()
    for first in range(0, len(prompts), size):
        part = prompts[first : first + size]
        seeds = [[sample_seed(0, str(first + n), 0) if seeded else None] for n in range(len(part))]
        message = {"adapter": None, "sampling": sampling, "prompts": part, "seeds": seeds}
        shards.append(Shard(len(shards), message.copy, len(part)))
    return shards


def run_pool(pool: EnginePool, arguments: dict, shards: deque[Shard]) -> tuple[float, int]:
    """Seconds and response tokens from the engine's being ready to the last shard."""
    counts, loads = [], pool.engine_loads

    def finish(_number: int, rows: list[list]) -> None:
        counts.extend(length for _, _, length in rows)

    running = threading.Thread(target=pool.run, args=([EngineWork(arguments, shards)], finish))
    running.start()
    while pool.engine_loads == loads and running.is_alive():
        time.sleep(0.002)
    began = time.perf_counter()
    running.join()
    return time.perf_counter() - began, sum(counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--prompts", type=int, default=600)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--turns", type=int, default=6)
    options = parser.parse_args()
    settings = EngineSettings.parse({"max_model_len": 1024})
    questions = islice(generate_problems([10, 16, 31, 43, 62], seed=1), options.prompts)
    texts = [f"Question: {problem['question']}\nAnswer:" for problem in questions]
    prompts = tokenise(str(MODEL), texts)
    arguments = engine_arguments(settings, str(MODEL), [])
    ways = {"pool": False, "pool, a seed a sample": True}
    order = [*ways, *reversed(ways)] * ((options.turns + 1) // 2)
    seconds = []
    with tempfile.TemporaryDirectory() as name:
        work, peers = Path(name, "work.json"), Path(name, "peers.jsonl")
        work.write_text(json.dumps({"prompts": prompts, "tokens": options.tokens}))
        pool = EnginePool(
            1,
            worker_environments(settings, threads=1),
            Path(name),
            fresh=False,
            max_num_seqs=settings.max_num_seqs,
            command=(sys.executable, "-c", WORKER, str(work), str(peers)),
        )
        with pool:
            for way in order[: 2 * options.turns]:
                shards = make_shards(prompts, options.tokens, settings.shard_size, ways[way])
                seconds.append(run_pool(pool, arguments, shards))
                print(way, seconds[-1], flush=True)
            run_pool(pool, arguments, deque(make_shards(prompts[:1], 1, 1, seeded=False)))
        peer = [json.loads(line) for line in peers.read_text().splitlines()]
    expected = options.prompts * options.tokens
    assert {tokens for _, tokens in [*seconds, *peer]} == {expected}, "tokens are missing"
    rows = []
    for place, (took, tokens) in enumerate(seconds):
        beside = (peer[place][0] + peer[place + 1][0]) / 2
        way = order[place]
        rows.append((place // 2, way, options.prompts, tokens, took, beside, beside / took))
    names = ["turn", "way", "prompts", "response_tokens", "seconds", "peer_seconds", "ratio"]
    frame = pl.DataFrame(rows, schema=names, orient="row")
    frame.write_csv(ROOT / "benchmarks/throughput.csv", float_precision=3)
    for way in ways:
        ratios = frame.filter(pl.col("way") == way)["ratio"]
        print(f"{way}: median ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
