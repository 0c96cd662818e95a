"""The losses of a training: its history, its facts, and what ends it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from weak_to_strong.training.rows import Encoded, Question
from weak_to_strong.training.settings import TrainingSettings

#: Entries of the trainer's log that depend on the machine or, for TRL's token count, on resumption.
UNSTEADY = ("runtime", "per_second", "total_flos", "num_tokens", "step_time")
#: Updates in a row with too little entropy after which a training by reward has collapsed.
COLLAPSED_UPDATES = 5


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


def has_collapsed(log: Iterable[Mapping[str, Any]], min_entropy: float) -> bool:
    """Whether the entropy of each of the last COLLAPSED_UPDATES updates is below a threshold.

    A policy without entropy gives a group the same answer again and again. Their rewards are equal,
    so that nothing is learned from them.

    Args:
        log: the trainer's log; entries of updates have `entropy`, a mean over sampled tokens in
            nats.
        min_entropy: the threshold; 0 for none.
    """
    entropies = [entry["entropy"] for entry in log if entry.get("entropy") is not None]
    last = entropies[-COLLAPSED_UPDATES:]
    return len(last) == COLLAPSED_UPDATES and max(last) < min_entropy


def reward_facts(
    questions: Sequence[Question], planned: int, history: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Counts, losses and rewards of a whole training by reward, for its manifest.

    Args:
        questions: the questions to train on.
        planned: number of updates that the settings ask for.
        history: see `clean_history`.

    Returns:
        `steps`, `first_loss`, `last_loss` and `loss` as of `training_facts`; `examples`
        (questions), `tokens` (of prompts and samples, in all updates), `supervised_tokens` and
        `generated_tokens` (of the samples), `first_reward` and `last_reward` (means of an update),
        and `ended`: null, or {"step", "planned", "reason"} of a training that ended early.
    """
    generated, prompts = count_tokens(history)
    steps = len(history)
    ended = {"step": steps, "planned": planned, "reason": "entropy collapsed"}
    return {
        "steps": steps,
        "examples": len(questions),
        "tokens": generated + prompts,
        "supervised_tokens": generated,
        "generated_tokens": generated,
        "first_reward": history[0]["reward"],
        "last_reward": history[-1]["reward"],
        "ended": ended if steps < planned else None,
        **_loss_facts(history),
    }


def count_tokens(history: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Tokens that were sampled in the updates of a training by reward, and tokens of their prompts,
    each prompt once for each of its samples."""
    generated, prompts = (
        round(math.fsum(entry[name] for entry in history))
        for name in ("generated_tokens", "prompt_tokens")
    )
    return generated, prompts


def count_passes(settings: TrainingSettings, rows: int) -> float:
    """Passes over so many rows; with `max_steps` the last one is not whole."""
    if settings.max_steps:
        return settings.max_steps * settings.global_batch_size / rows
    return settings.epochs


def planned_tokens(rows: Sequence[Encoded] | Sequence[Question], settings: TrainingSettings) -> int:
    """Tokens of all updates of a training; 0 for one by reward, whose samples nobody knows yet."""
    if settings.rewards:
        return 0
    return round(count_passes(settings, len(rows)) * sum(row.tokens for row in rows))


def training_facts(
    rows: Sequence[Encoded],
    settings: TrainingSettings,
    steps: int,
    history: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Counts and losses of a whole training, for its manifest.

    With `max_steps` the last pass over the rows is not whole. Its tokens are then counted as if all
    rows had the mean length.

    Returns:
        `steps` (updates), `examples` (rows of the table), `tokens` (of prompts and completions, in
        all passes), `supervised_tokens` (of completions, in all passes), `longest_row` (tokens),
        `first_loss`, `last_loss`, and `loss`, the mean over the updates.
    """
    passes = count_passes(settings, len(rows))
    return {
        "steps": steps,
        "examples": len(rows),
        "tokens": planned_tokens(rows, settings),
        "supervised_tokens": round(passes * sum(row.supervised for row in rows)),
        "longest_row": max(row.longest for row in rows),
        **_loss_facts(history),
    }


def _loss_facts(history: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    losses = [entry["loss"] for entry in history]
    return {
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "loss": math.fsum(losses) / len(losses),
    }
