"""The losses of a training: its history, its facts, and what ends it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from weak_to_strong.training.rows import Encoded

#: Entries of the trainer's log that depend on the machine or, for TRL's token count, on resumption.
UNSTEADY = ("runtime", "per_second", "total_flos", "num_tokens")


def clean_history(log: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The log's entries for updates, without what depends on the machine or on resumption."""
    return [
        {key: value for key, value in entry.items() if not any(word in key for word in UNSTEADY)}
        for entry in log
        if "loss" in entry
    ]


def check_loss(loss: float, step: int) -> None:
    """Check that a loss is finite.

    Raises:
        ValueError: it is not; names the step.
    """
    if not math.isfinite(loss):
        raise ValueError(f"learning_rate: the loss is {loss} at step {step}; lower it")


def training_facts(
    rows: Sequence[Encoded], epochs: int, steps: int, history: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Counts and losses of a whole training, for its manifest.

    Returns:
        `steps` (updates), `examples` (rows of the table), `tokens` (of prompts and completions, in
        all epochs), `supervised_tokens` (of completions, in all epochs), `longest_row` (tokens),
        `first_loss`, `last_loss`, and `loss`, the mean over the updates.
    """
    losses = [entry["loss"] for entry in history]
    return {
        "steps": steps,
        "examples": len(rows),
        "tokens": epochs * sum(row.tokens for row in rows),
        "supervised_tokens": epochs * sum(row.supervised for row in rows),
        "longest_row": max(row.longest for row in rows),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "loss": math.fsum(losses) / len(losses),
    }
