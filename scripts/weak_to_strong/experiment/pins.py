"""Revisions of models and digests of data: a plan can be made without them, a run cannot."""

from __future__ import annotations

from weak_to_strong.experiment.schema import ConfigError


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
        for split, entry in {**task["splits"], "pool": task.get("pool")}.items():
            path = f"tasks.{name}.{'' if split == 'pool' else 'splits.'}{split}"
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
