"""Rounds whose model is behind an endpoint: answers go to the store one by one, as they come.

A round that was killed asks only for what the store lacks. The key of a request in the store has
the endpoint's address and model, and the code that asks (`endpoint_client`). An edit of other code
so asks, and pays, for nothing again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from weak_to_strong.generation import endpoint_client
from weak_to_strong.generation.endpoint_client import Access, EndpointClient, ServerAnswers
from weak_to_strong.generation.request_state import (
    RequestState,
    collect_texts,
    digest_prompts,
    find_incomplete,
    parse_requests,
)
from weak_to_strong.generation.request_store import SHARD
from weak_to_strong.generation.requests import Prompt, Request, prompt_batches
from weak_to_strong.jobs.code_digest import code_digest
from weak_to_strong.models.endpoints import Endpoint, read_endpoint
from weak_to_strong.tables.files import read_json, write_json

logger = logging.getLogger("weak_to_strong")

#: Answered questions in one file of the store, once there are so many.
SHARD_SIZE = 64
#: Seconds between two lines of progress.
PROGRESS_SECONDS = 10.0
#: File beside a request's texts: what the server called the models that answered.
SERVED = "served.json"


def ask_round(
    requests: Sequence[Mapping[str, Any]], store: str | Path, access: Access, name: str
) -> tuple[Iterator[pl.DataFrame], dict[str, Any], dict[str, Any]]:
    """Answer the requests of a round, asking for what the store lacks.

    Args:
        requests: mappings with the keys of `Request`; `base` is the manifest of an endpoint.
        store: folder for finished answers; keep it between runs.
        access: how the endpoint is asked.
        name: configuration key of the endpoint, for messages.

    Returns:
        The GENERATIONS rows by request, problem and sample, some at a time; statistics of them,
        with `served`, the names that the server gave its models; and what this run did itself:
        requests, requests_generated, samples, prompt_tokens, cached_prompt_tokens and
        response_tokens, as the server counted them, failed_tries and engine_seconds, the time of
        the whole round.

    Raises:
        ValueError: a bad request, manifest or table; or the endpoint does not answer. Finished
            answers stay in the store.
    """
    began = time.monotonic()
    states = [_read_state(request, Path(store)) for request in parse_requests(requests)]
    incomplete = find_incomplete(states)
    counts = {"prompt_tokens": 0, "cached_prompt_tokens": 0, "response_tokens": 0, "samples": 0}
    failed = 0
    for state in incomplete:
        failed += asyncio.run(_ask_request(state, access, name, counts))
    rows, stats = collect_texts(states)
    for state in states:
        stats[state.request.name]["served"] = sorted(_read_served(state))
    cost = {
        "requests": len(states),
        "requests_generated": len(incomplete),
        **counts,
        "failed_tries": failed,
        "engine_seconds": round(time.monotonic() - began, 3),
    }
    return rows, stats, cost


def _read_state(request: Request, root: Path) -> RequestState:
    endpoint, prompts = read_endpoint(request.base), digest_prompts(request)
    return RequestState.read(request, endpoint, root, asked_facts(request, endpoint, prompts))


def asked_facts(request: Request, endpoint: Endpoint, prompts: str) -> dict[str, Any]:
    """Everything known on which the texts of a request depend. Its hash is the key in the store.

    Args:
        request: the request.
        endpoint: the endpoint. Nothing says which weights are behind it.
        prompts: `digest_prompts` of the request.
    """
    return {
        "code": code_digest(endpoint_client.__file__),
        "endpoint": {
            "url": endpoint.url,
            "model": endpoint.model,
            "api": endpoint.api,
            "body": dict(endpoint.body),
        },
        "prompts": prompts,
        "decoding": {
            **request.sampling(),
            "n": request.n,
            "seed": None if request.greedy else request.seed,
        },
    }


def _missing_prompts(state: RequestState) -> Iterator[tuple[int, str, Prompt]]:
    """Position, id and prompt of each question that the store lacks."""
    missing, position = set(state.missing), 0
    for prompts in prompt_batches(state.request):
        for prompt in prompts:
            if position in missing:
                yield position, state.ids[position], prompt
            position += 1


async def _ask_request(
    state: RequestState, access: Access, name: str, counts: dict[str, int]
) -> int:
    """Ask for what a request lacks; add to `counts`; return the number of tries that failed."""
    prompts, answers = _missing_prompts(state), _AnswerStore(state, counts)

    async def ask_on(client: EndpointClient) -> None:
        # All of these tasks take from one iterator.
        for position, identifier, prompt in prompts:
            parts: list[ServerAnswers] = []
            seeds = state.request.seeds(identifier)
            # Some servers give one answer at a time, whatever number is asked for.
            while (done := sum(len(part.texts) for part in parts)) < state.request.n:
                missing = state.request.n - done
                sampling = state.request.sampling()
                parts.append(await client.ask(prompt, sampling, missing, seeds[done]))
            answers.add(position, identifier, parts)

    async with EndpointClient(name, state.model, access) as client:
        try:
            async with asyncio.TaskGroup() as group:
                workers = [
                    group.create_task(ask_on(client)) for _ in range(access.requests_at_once)
                ]
                group.create_task(_log_progress(workers, answers, client))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            answers.merge()
        return client.failures


async def _log_progress(
    workers: Sequence[asyncio.Task], answers: _AnswerStore, client: EndpointClient
) -> None:
    """Log how far a request is, until all workers have ended."""
    waiting = set(workers)
    while waiting:
        _, waiting = await asyncio.wait(waiting, timeout=PROGRESS_SECONDS)
        if waiting:
            logger.info(
                "%d of %d questions answered, %d failed tries",
                answers.done,
                len(answers.state.missing),
                client.failures,
            )


class _AnswerStore:
    """Puts answers into the store of a request, each at once, and then many into one file.

    Args:
        state: the request.
        counts: sums of tokens and samples, which it adds to.
    """

    def __init__(self, state: RequestState, counts: dict[str, int]) -> None:
        self.state, self._counts = state, counts
        self.done = 0
        self._small: dict[int, pl.DataFrame] = {}
        self._served = _read_served(state)

    def add(self, position: int, identifier: str, parts: Sequence[ServerAnswers]) -> None:
        """Store all samples of one question."""
        rows = _rows(identifier, parts)
        self.state.store.append(position, rows)
        self._small[position] = rows
        self.done += 1
        self._counts["samples"] += len(rows)
        self._counts["prompt_tokens"] += sum(part.prompt_tokens for part in parts)
        self._counts["cached_prompt_tokens"] += sum(part.cached_tokens for part in parts)
        self._counts["response_tokens"] += sum(part.response_tokens for part in parts)
        if new := {part.served for part in parts} - self._served:
            self._served |= new
            write_json(sorted(self._served), self.state.store.folder / SERVED)
        if len(self._small) >= SHARD_SIZE:
            self.merge()

    def merge(self) -> None:
        """Put the single answers into one file."""
        if len(self._small) > 1:
            self.state.store.merge(self._small)
        self._small = {}


def _read_served(state: RequestState) -> set[str]:
    file = state.store.folder / SERVED
    return set(read_json(file)) if file.is_file() else set()


def _rows(identifier: str, parts: Sequence[ServerAnswers]) -> pl.DataFrame:
    """SHARD rows of one question.

    A server counts the tokens of all answers to a request together. Each gets an equal share.
    """
    rows: list[tuple] = []
    for part in parts:
        share, rest = divmod(part.response_tokens, len(part.texts))
        for place, (text, reason) in enumerate(part.texts):
            tokens = share + (place < rest)
            rows.append((identifier, len(rows), text, reason, part.prompt_tokens, tokens))
    return pl.DataFrame(rows, schema=SHARD, orient="row")
