"""What a round has of each of its requests in the store, and what is missing."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from weak_to_strong.generation.request_store import SHARD, RequestStore
from weak_to_strong.generation.requests import (
    ModelFiles,
    Request,
    hash_prompts,
    prompt_batches,
    read_ids,
)
from weak_to_strong.models.endpoints import Endpoint

logger = logging.getLogger("weak_to_strong")


@dataclass(frozen=True)
class RequestState:
    """A request, the ids of its problems, and the positions of those that the store lacks.

    Attributes:
        model: the files that an engine loads, or the endpoint that is asked.
    """

    request: Request
    model: ModelFiles | Endpoint
    ids: pl.Series
    store: RequestStore
    missing: pl.Series

    @classmethod
    def read(
        cls,
        request: Request,
        model: ModelFiles | Endpoint,
        root: Path,
        facts: Mapping[str, Any],
    ) -> RequestState:
        """Compare a request with its store.

        Args:
            request: the request.
            model: what answers it.
            root: folder of all stores.
            facts: everything that its texts depend on.
        """
        ids, store = read_ids(request.problems), RequestStore(root, dict(facts))
        finished = store.index(request.n)["id"]
        return cls(request, model, ids, store, ids.is_in(finished.implode()).not_().arg_true())


def parse_requests(requests: Sequence[Mapping[str, Any]]) -> list[Request]:
    """The requests of a round.

    Raises:
        ValueError: a bad request, or two of one name.
    """
    parsed = [Request.parse(entry) for entry in requests]
    names = [request.name for request in parsed]
    if len(set(names)) < len(names):
        raise ValueError(f"two requests have the name {max(names, key=names.count)!r}")
    return parsed


def digest_prompts(request: Request) -> str:
    """Hash of a request's ids and prompts, with few of them in memory."""
    batches = prompt_batches(request)
    return hash_prompts(read_ids(request.problems), chain.from_iterable(batches))


def find_incomplete(states: Sequence[RequestState]) -> list[RequestState]:
    """States that lack texts. Of two that want the same texts under different names, one."""
    incomplete = {state.store.key: state for state in states if len(state.missing)}
    logger.info(
        "%d requests: %d complete in the store, %d to generate",
        len(states),
        sum(state.missing.is_empty() for state in states),
        len(incomplete),
    )
    return list(incomplete.values())


def collect_texts(
    states: Sequence[RequestState],
) -> tuple[Iterator[pl.DataFrame], dict[str, dict[str, Any]]]:
    """The texts of complete requests.

    Returns:
        The GENERATIONS rows by request, problem and sample, some at a time; and by request its key
        in the store and deterministic counts. `truncated` counts the responses that `max_tokens`
        cut off.

    Raises:
        RuntimeError: a request is not complete.
    """
    indexes = [_complete_index(state) for state in states]
    stats = {
        state.request.name: {
            "key": state.store.key,
            "prompts": len(state.ids),
            "samples": len(state.ids) * state.request.n,
            "prompt_tokens": index["prompt_tokens"].sum(),
            "response_tokens": index["response_tokens"].sum(),
            "truncated": index["truncated"].sum(),
        }
        for state, index in zip(states, indexes, strict=True)
    }
    return _all_rows(states, indexes), stats


def _complete_index(state: RequestState) -> pl.DataFrame:
    """INDEX rows of a request that is complete in the store."""
    index = state.store.index(state.request.n)
    if len(index) != len(state.ids):
        raise RuntimeError(f"{state.store.folder}: shards vanished during the run; run again")
    return index


def _all_rows(
    states: Sequence[RequestState], indexes: Sequence[pl.DataFrame]
) -> Iterator[pl.DataFrame]:
    """GENERATIONS rows of complete requests."""
    for state, index in zip(states, indexes, strict=True):
        name = pl.lit(state.request.name).alias("request")
        for rows in state.store.rows(index, state.ids):
            yield rows.select(name, *SHARD.names())
