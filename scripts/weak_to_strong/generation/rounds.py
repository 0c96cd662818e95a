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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from weak_to_strong.generation.engine_pool import WORKER, EnginePool, EngineWork, Shard
from weak_to_strong.generation.engine_settings import (
    EngineSettings,
    engine_arguments,
    worker_environments,
)
from weak_to_strong.generation.request_store import SHARD, RequestStore
from weak_to_strong.generation.requests import (
    ModelFiles,
    Request,
    find_model,
    hash_prompts,
    prompt_batches,
    read_ids,
    request_facts,
)
from weak_to_strong.generation.token_file import TokenFile
from weak_to_strong.jobs.allocation import Allocation
from weak_to_strong.jobs.gpus import vllm_version
from weak_to_strong.models.base_models import context_length
from weak_to_strong.models.manifests import check_files
from weak_to_strong.models.view import VIEWS, model_view
from weak_to_strong.tables.files import hash_value

logger = logging.getLogger("weak_to_strong")


@dataclass(frozen=True)
class _RequestState:
    """A request, the ids of its problems, and the positions of those that the store lacks."""

    request: Request
    model: ModelFiles
    ids: pl.Series
    store: RequestStore
    missing: pl.Series


@dataclass(frozen=True)
class _Part:
    """Content of a shard: a request's missing prompts from number `first` to before `end`."""

    state: _RequestState
    tokens: TokenFile
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
    # Two requests may ask for the same texts under different names.
    missing = list({state.store.key: state for state in states if len(state.missing)}.values())
    logger.info(
        "%d requests: %d complete in the store, %d to generate",
        len(states),
        sum(state.missing.is_empty() for state in states),
        len(missing),
    )
    counts = ("prompt_tokens", "cached_prompt_tokens", "response_tokens", "samples", "engine_loads")
    cost = {
        "requests": len(states),
        "requests_generated": len(missing),
        **dict.fromkeys(counts, 0),
        "engine_start_seconds": 0.0,
    }
    if missing:
        cost |= _generate(missing, settings, Path(store), threads, allocation, command)
    indexes = [_complete_index(state) for state in states]
    stats = {
        state.request.name: _statistics(state, index)
        for state, index in zip(states, indexes, strict=True)
    }
    cost["engine_seconds"] = round(time.monotonic() - began, 3)
    return _all_rows(states, indexes), stats, cost


def _read_requests(
    requests: Sequence[Mapping[str, Any]], settings: EngineSettings, root: Path
) -> list[_RequestState]:
    """Check the requests and compare them with the store in `root`."""
    parsed = [Request.parse(entry) for entry in requests]
    names = [request.name for request in parsed]
    if len(set(names)) < len(names):
        raise ValueError(f"two requests have the name {max(names, key=names.count)!r}")
    library = vllm_version()
    states = []
    for request in parsed:
        model = find_model(request)
        ids = read_ids(request.problems)
        prompts = hash_prompts(ids, chain.from_iterable(prompt_batches(request)))
        store = RequestStore(root, request_facts(request, model, settings, prompts, library))
        finished = store.index(request.n)["id"]
        missing = ids.is_in(finished.implode()).not_().arg_true()
        states.append(_RequestState(request, model, ids, store, missing))
    return states


def _generate(
    states: Sequence[_RequestState],
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
    pool = EnginePool(
        settings.processes,
        worker_environments(settings, threads, max(1, len(allocation.nodes if allocation else ()))),
        # Rounds that run side by side share the store, each with its own folder of logs.
        root / "logs" / hash_value(sorted(state.store.key for state in states))[:16],
        fresh=settings.device != "cpu",
        max_num_seqs=settings.max_num_seqs,
        command=command,
        allocation=allocation,
    )
    with pool:
        views = {}
        for manifest in dict.fromkeys(path for state in states for path in state.model.manifests):
            check_files(manifest)
            # Beside the store, which all nodes share.
            views[manifest] = str(model_view(manifest, root.parent / VIEWS.name))
        tokens = {
            state.store.key: _encode(
                state, settings, partial(pool.tokenise, views[state.model.weights]), root
            )
            for state in states
        }
        work, parts = _engine_work(states, tokens, settings, views)

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
    state: _RequestState,
    settings: EngineSettings,
    tokenise: Callable[[Sequence[str]], list[list[int]]],
    root: Path,
) -> TokenFile:
    """The missing prompts of a request as tokens, in their order.

    Args:
        state: the request.
        settings: settings of the round.
        tokenise: the tokenizer of its weights.
        root: the store.

    Raises:
        ValueError: the engine is longer than its model, or a prompt leaves no room for a response.
    """
    limit = context_length(Path(state.model.folder))
    if limit and settings.max_model_len > limit:
        raise ValueError(
            f"`engine.max_model_len` {settings.max_model_len} exceeds the {limit} tokens that "
            f"{state.model.folder} is made for; lower it"
        )
    tokens = TokenFile(root)
    missing = set(state.missing)
    first = 0
    for prompts in prompt_batches(state.request):
        wanted = [text for place, text in enumerate(prompts, first) if place in missing]
        first += len(prompts)
        if wanted:
            encoded = tokenise(wanted)
            _check_lengths(state, settings, encoded, len(tokens))
            tokens.append(encoded)
    return tokens


def _check_lengths(
    state: _RequestState, settings: EngineSettings, encoded: Sequence[list[int]], first: int
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
    states: Sequence[_RequestState],
    tokens: Mapping[str, TokenFile],
    settings: EngineSettings,
    views: Mapping[str, str],
) -> tuple[list[EngineWork], list[_Part]]:
    """Group the missing work by base weights; also return the part of each shard number.

    Args:
        states: what to generate.
        tokens: missing prompts of each request, by the key of its store.
        settings: settings of the round.
        views: view of each model by its manifest.
    """
    groups: dict[str, list[_RequestState]] = {}
    for state in states:
        groups.setdefault(state.model.weights_hash, []).append(state)
    work, parts = [], []
    for group in groups.values():
        models = {each.model.adapter_hash: each.model for each in group if each.model.adapter_hash}
        numbers = {key: number for number, key in enumerate(sorted(models), 1)}
        shards: deque[Shard] = deque()
        # Requests with the same adapter follow one another, so that a batch has few adapters.
        for state in sorted(group, key=lambda state: state.model.adapter_hash or ""):
            key = state.model.adapter_hash
            adapter = [key, numbers[key], views[state.model.adapter]] if key else None
            count = len(state.missing)
            for first in range(0, count, settings.shard_size):
                end = min(first + settings.shard_size, count)
                part = _Part(state, tokens[state.store.key], first, end)
                samples = (end - first) * state.request.n
                shards.append(Shard(len(parts), partial(_message, part, adapter), samples))
                parts.append(part)
        ranks = [model.rank for model in models.values()]
        arguments = engine_arguments(settings, views[group[0].model.weights], ranks)
        work.append(EngineWork(arguments, shards))
    return work, parts


def _message(part: _Part, adapter: list | None) -> dict[str, Any]:
    """The message that asks a worker for a shard, see `engine_worker`."""
    request = part.state.request
    return {
        "adapter": adapter,
        "sampling": request.sampling(),
        "prompts": part.tokens.read(part.first, part.end),
        "seeds": [request.seeds(identifier) for identifier in part.ids],
    }


def _rows(part: _Part, answers: list[list[Any]]) -> pl.DataFrame:
    """A worker's answers, sample after sample of prompt after prompt, as SHARD rows."""
    samples = [
        (identifier, sample, part.tokens.length(number))
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


def _complete_index(state: _RequestState) -> pl.DataFrame:
    """INDEX rows of a request that is complete in the store."""
    index = state.store.index(state.request.n)
    if len(index) != len(state.ids):
        raise RuntimeError(f"{state.store.folder}: shards vanished during the run; run again")
    return index


def _all_rows(
    states: Sequence[_RequestState], indexes: Sequence[pl.DataFrame]
) -> Iterator[pl.DataFrame]:
    """GENERATIONS rows of complete requests."""
    for state, index in zip(states, indexes, strict=True):
        name = pl.lit(state.request.name).alias("request")
        for rows in state.store.rows(index, state.ids):
            yield rows.select(name, *SHARD.names())


def _statistics(state: _RequestState, index: pl.DataFrame) -> dict[str, Any]:
    """Deterministic counts of a request. `truncated` counts responses that `max_tokens` cut off."""
    return {
        "key": state.store.key,
        "prompts": len(state.ids),
        "samples": len(state.ids) * state.request.n,
        "prompt_tokens": index["prompt_tokens"].sum(),
        "response_tokens": index["response_tokens"].sum(),
        "truncated": index["truncated"].sum(),
    }
