"""Generation rounds: few engine loads serve many requests for text.

Requests that share their base weights share an engine, which serves LoRA adapters side by side.
Finished samples go to a store as they come, under a key of everything that their text depends on. A
killed round resumes, and a round with one changed request generates only that request.

The seed of a sample is derived from the request's seed, the question's id and the sample's number.
So it does not depend on batches, shards or processes. On a CPU in float32 the texts are
bit-identical under all of these. On a GPU kernels may depend on the batch unless `batch_invariant`
is set.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from weak_to_strong.generation.engine_pool import WORKER, EnginePool, EngineWork, Shard
from weak_to_strong.generation.engine_settings import (
    EngineSettings,
    engine_arguments,
    worker_environments,
)
from weak_to_strong.generation.engine_worker import CODE, SERVING_SCRIPT
from weak_to_strong.generation.request_state import (
    RequestState,
    collect_texts,
    digest_prompts,
    find_incomplete,
    parse_requests,
)
from weak_to_strong.generation.request_store import SHARD
from weak_to_strong.generation.requests import find_model, prompt_batches, request_facts
from weak_to_strong.generation.token_file import TokenFile
from weak_to_strong.jobs.allocation import Allocation
from weak_to_strong.jobs.code_digest import code_digest
from weak_to_strong.jobs.gpus import vllm_version
from weak_to_strong.models.base_models import check_image_package, context_length
from weak_to_strong.models.manifests import check_files
from weak_to_strong.models.view import VIEWS, model_view
from weak_to_strong.tables.files import hash_value

logger = logging.getLogger("weak_to_strong")


@dataclass
class _Prompts:
    """A request's missing prompts.

    Attributes:
        tokens: the prompts as token ids.
        stop_token: id of the token that ends an answer in a chat; None where the model's own do.
    """

    tokens: TokenFile
    stop_token: int | None = None


@dataclass(frozen=True)
class _Part:
    """Content of a shard: a request's missing prompts from number `first` to before `end`."""

    state: RequestState
    prompts: _Prompts
    first: int
    end: int

    @property
    def positions(self) -> pl.Series:
        return self.state.missing[self.first : self.end]

    @property
    def ids(self) -> list[str]:
        return self.state.ids.gather(self.positions).to_list()


def generate_round(
    requests: Sequence[Mapping[str, Any]],
    engine: Mapping[str, Any],
    store: str | Path,
    threads: int = 1,
    allocation: Allocation | None = None,
    *,
    command: Sequence[str] = WORKER,
) -> tuple[Iterator[pl.DataFrame], dict[str, Any], dict[str, Any]]:
    """Serve the requests of a round, generating what the store lacks.

    vLLM is neither imported nor started when the store lacks nothing. Prompts and texts in memory
    are those of the shards that are being generated. Of each problem it keeps the id and some
    numbers.

    Args:
        requests: mappings with the keys of `Request`.
        engine: mapping with keys of `EngineSettings`.
        store: folder for finished samples and the workers' logs; keep it between runs.
        threads: CPU threads for all worker processes of a node together.
        allocation: GPUs of the SLURM job. On several nodes the processes are spread evenly.
        command: how to start a worker process.

    Returns:
        The GENERATIONS rows by request, problem and sample, some at a time; deterministic
        statistics of them; and what this run did itself: requests, requests_generated,
        engine_loads, samples, prompt_tokens, cached_prompt_tokens (those in the prefix cache),
        response_tokens, engine_start_seconds (summed over engines) and engine_seconds, the time of
        the whole round with its starts.

    Raises:
        ValueError: a bad request, setting, manifest or table, or a prompt too long for the engine.
        RuntimeError: a worker failed. Finished samples stay in the store.
    """
    began = time.monotonic()
    settings = EngineSettings.parse(engine)
    states = _read_requests(requests, settings, Path(store))
    missing = find_incomplete(states)
    counts = ("prompt_tokens", "cached_prompt_tokens", "response_tokens", "samples", "engine_loads")
    cost = {
        "requests": len(states),
        "requests_generated": len(missing),
        **dict.fromkeys(counts, 0),
        "engine_start_seconds": 0.0,
    }
    if missing:
        cost |= _generate(missing, settings, Path(store), threads, allocation, command)
    rows, stats = collect_texts(states)
    cost["engine_seconds"] = round(time.monotonic() - began, 3)
    return rows, stats, cost


def _read_requests(
    requests: Sequence[Mapping[str, Any]], settings: EngineSettings, root: Path
) -> list[RequestState]:
    """Check the requests and compare them with the store in `root`."""
    library, code = vllm_version(), code_digest(SERVING_SCRIPT)
    states = []
    for request in parse_requests(requests):
        model, prompts = find_model(request), digest_prompts(request)
        facts = request_facts(request, model, settings, prompts, library, code)
        states.append(RequestState.read(request, model, root, facts))
    return states


def _generate(
    states: Sequence[RequestState],
    settings: EngineSettings,
    root: Path,
    threads: int,
    allocation: Allocation | None,
    command: Sequence[str],
) -> dict[str, Any]:
    """Generate what the stores of `states` lack; return what it cost."""
    if settings.device == "cuda" and settings.dtype == "float32":
        logger.warning("`engine.dtype` is float32: on GPUs bfloat16 is faster and takes half of it")
    counts = dict.fromkeys(("samples", "prompt_tokens", "response_tokens"), 0)
    nodes = max(1, len(allocation.nodes if allocation else ()))
    # All requests of a round have one code.
    code = {CODE: states[0].store.facts["code"]}
    pool = EnginePool(
        settings.processes,
        [given | code for given in worker_environments(settings, threads, nodes)],
        # Rounds that run side by side share the store, each with its own folder of logs.
        root / "logs" / hash_value(sorted(state.store.key for state in states))[:16],
        fresh=settings.device != "cpu",
        max_num_seqs=settings.max_num_seqs,
        command=command,
        allocation=allocation,
        engine_nodes=settings.pipeline_parallel_size,
    )
    with pool:
        views = {}
        for manifest in dict.fromkeys(path for state in states for path in state.model.manifests):
            check_files(manifest)
            # Beside the store, which all nodes share.
            views[manifest] = str(model_view(manifest, root.parent / VIEWS.name))
        prompts = {
            state.store.key: _encode(state, settings, pool, views[state.model.weights], root)
            for state in states
        }
        work, parts = _engine_work(states, prompts, settings, views)

        def finish(number: int, answers: list[list[Any]]) -> None:
            rows = _rows(parts[number], answers)
            parts[number].state.store.append(parts[number].positions[0], rows)
            counts["samples"] += len(rows)
            counts["prompt_tokens"] += rows["prompt_tokens"].sum()
            counts["response_tokens"] += rows["response_tokens"].sum()

        pool.run(work, finish)
    return {
        **counts,
        "cached_prompt_tokens": pool.cached_tokens,
        "engine_loads": pool.engine_loads,
        "engine_start_seconds": round(pool.start_seconds, 3),
    }


def _encode(
    state: RequestState,
    settings: EngineSettings,
    pool: EnginePool,
    weights: str,
    root: Path,
) -> _Prompts:
    """The missing prompts of a request as tokens, in their order.

    Args:
        state: the request.
        settings: settings of the round.
        pool: tokenises.
        weights: view of its weights, which has their tokenizer.
        root: the store.

    Raises:
        ValueError: the engine is longer than its model; a prompt leaves no room for a response; or
            see `engine_worker.tokenise` and `engine_worker.tokenise_chats`.
    """
    check_image_package(Path(state.model.folder), f"request {state.request.name!r}")
    limit = context_length(Path(state.model.folder))
    if limit and settings.max_model_len > limit:
        raise ValueError(
            f"`engine.max_model_len` {settings.max_model_len} exceeds the {limit} tokens that "
            f"{state.model.folder} is made for; lower it"
        )
    prompts = _Prompts(TokenFile(root))
    chat = state.model.chat and asdict(state.model.chat)
    missing = set(state.missing)
    first = 0
    for batch in prompt_batches(state.request):
        wanted = [prompt for place, prompt in enumerate(batch, first) if place in missing]
        first += len(batch)
        if not wanted:
            continue
        if chat is None:
            encoded = pool.tokenise(weights, wanted)
        else:
            encoded, prompts.stop_token = pool.tokenise_chats(weights, wanted, chat)
        _check_lengths(state, settings, encoded, len(prompts.tokens))
        prompts.tokens.append(encoded)
    return prompts


def _check_lengths(
    state: RequestState, settings: EngineSettings, encoded: Sequence[list[int]], first: int
) -> None:
    """Check that prompts leave room for a response; `first` is the number of the first of them."""
    for number, prompt in enumerate(encoded, first):
        if len(prompt) + state.request.max_tokens > settings.max_model_len:
            few_shot = ", or show fewer demonstrations" if state.request.demonstrations else ""
            raise ValueError(
                f"request {state.request.name!r}, id {state.ids[state.missing[number]]!r}: "
                f"{len(prompt)} prompt tokens and max_tokens {state.request.max_tokens} exceed "
                f"`engine.max_model_len` {settings.max_model_len}; raise it{few_shot}"
            )


def _engine_work(
    states: Sequence[RequestState],
    prompts: Mapping[str, _Prompts],
    settings: EngineSettings,
    views: Mapping[str, str],
) -> tuple[list[EngineWork], list[_Part]]:
    """Group the missing work by base weights; also return the part of each shard number.

    Args:
        states: what to generate.
        prompts: missing prompts of each request, by the key of its store.
        settings: settings of the round.
        views: view of each model by its manifest.
    """
    groups: dict[str, list[RequestState]] = {}
    for state in states:
        groups.setdefault(state.model.weights_hash, []).append(state)
    work, parts = [], []
    for group in groups.values():
        models = {
            state.model.adapter_hash: state.model for state in group if state.model.adapter_hash
        }
        numbers = {key: number for number, key in enumerate(sorted(models), 1)}
        shards: deque[Shard] = deque()
        # Requests with the same adapter follow one another, so that a batch has few adapters.
        for state in sorted(group, key=lambda state: state.model.adapter_hash or ""):
            key = state.model.adapter_hash
            adapter = [key, numbers[key], views[state.model.adapter]] if key else None
            count = len(state.missing)
            for first in range(0, count, settings.shard_size):
                end = min(first + settings.shard_size, count)
                part = _Part(state, prompts[state.store.key], first, end)
                samples = (end - first) * state.request.n
                shards.append(Shard(len(parts), partial(_message, part, adapter), samples))
                parts.append(part)
        ranks = [model.rank for model in models.values()]
        arguments = engine_arguments(settings, views[group[0].model.weights], ranks)
        work.append(EngineWork(arguments, shards))
    return work, parts


def _message(part: _Part, adapter: list | None) -> dict[str, Any]:
    """The message that asks a worker for a shard, see `engine_worker`."""
    request, stop_token = part.state.request, part.prompts.stop_token
    stop = {} if stop_token is None else {"stop_token_ids": [stop_token]}
    return {
        "adapter": adapter,
        "sampling": request.sampling() | stop,
        "prompts": part.prompts.tokens.read(part.first, part.end),
        "seeds": [request.seeds(identifier) for identifier in part.ids],
    }


def _rows(part: _Part, answers: list[list[Any]]) -> pl.DataFrame:
    """A worker's answers, sample after sample of prompt after prompt, as SHARD rows."""
    samples = [
        (identifier, sample, part.prompts.tokens.length(number))
        for number, identifier in enumerate(part.ids, part.first)
        for sample in range(part.state.request.n)
    ]
    rows = [
        (identifier, sample, text, reason, prompt_tokens, response_tokens)
        for (identifier, sample, prompt_tokens), (text, reason, response_tokens) in zip(
            samples, answers, strict=True
        )
    ]
    return pl.DataFrame(rows, schema=SHARD, orient="row")


def generation_figures(cost: Mapping[str, Any]) -> dict[str, float]:
    """What trackers show of a round: counts of its texts, and its speed.

    Args:
        cost: what `generate_round` says that this run did itself.

    Returns:
        Numbers of samples and tokens by name, and response tokens a second with the engines'
        starts. Nothing where the store had all texts.
    """
    if not cost["samples"]:
        return {}
    names = ("samples", "prompt_tokens", "cached_prompt_tokens", "response_tokens")
    return {
        **{f"generation/{name}": cost[name] for name in names},
        "generation/tokens_per_second": cost["response_tokens"] / cost["engine_seconds"],
    }
