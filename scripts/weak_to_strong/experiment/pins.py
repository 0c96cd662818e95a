"""Revisions of models, digests of data, and keys: a plan needs none of them, a run does."""

from __future__ import annotations

from collections.abc import Iterable

from weak_to_strong.data.split_names import flatten_splits, split_key
from weak_to_strong.experiment.graph import Graph
from weak_to_strong.experiment.schema import ConfigError
from weak_to_strong.models.endpoints import read_key


def unpinned(config: dict) -> list[str]:
    """Keys of the revisions and digests that are null: a plan can be made, a run cannot.

    Args:
        config: a completed configuration.
    """
    used = {chain[key] for chain in config["chains"] for key in ("weak", "strong")}
    tasks = {chain["task"] for chain in config["chains"]}
    keys = [
        f"models.{name}.revision"
        for name in sorted(used)
        if "hub" in config["models"][name] and config["models"][name]["revision"] is None
    ]
    for name in sorted(tasks):
        task = config["tasks"][name]
        splits = {f"splits.{split_key(k)}": v for k, v in flatten_splits(task["splits"]).items()}
        for key, entry in {**splits, "pool": task.get("pool")}.items():
            path = f"tasks.{name}.{key}"
            several = isinstance(entry, list)
            for place, source in enumerate(entry if several else [entry]):
                if isinstance(source, dict):
                    where = f"{path}.{place}" if several else path
                    missing = [key for key, value in source.items() if value is None]
                    keys += [f"{where}.{key}" for key in missing]
    return keys


def require_pins(config: dict) -> None:
    """Refuse to run with models or data that are not pinned.

    Raises:
        ConfigError: naming the first key that is null.
    """
    if keys := unpinned(config):
        also = f" (and {len(keys) - 1} more like it)" if len(keys) > 1 else ""
        raise ConfigError(
            f"config key `{keys[0]}`: is null{also}, which is enough for a dry run only; look the "
            "commit or digest up where there is a network and put it there"
        )


def require_keys(graph: Graph, rounds: Iterable[str]) -> None:
    """Refuse to run without the keys of endpoints.

    Args:
        graph: of the experiment.
        rounds: keys of the rounds that will ask an endpoint.

    Raises:
        ValueError: naming the key of the configuration that names the variable.
    """
    asked = {model: key for key in rounds if (model := graph.asked_model(graph.round(key)))}
    for model, key in sorted(asked.items()):
        read_key(graph.endpoint_of(graph.round(key))["key_env"], f"models.{model}.endpoint")
