"""Odds-ratio preference optimisation (Hong et al., arXiv 2403.07691). Importing it loads TRL.

TRL has ORPO among its experimental trainers only. All that depends on that stands in this file.

ORPO adds a likelihood term to its odds ratio. With "completion", as in LLaMA-Factory, the term is
the mean over pairs of the chosen answer's mean log-probability. With "sequence", as in TRL, it is
the mean over all tokens of a micro-batch's prompts and chosen answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from datasets import Dataset
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from weak_to_strong.training.rows import Encoded, orpo_columns
from weak_to_strong.training.settings import TrainingSettings


class TokenisedORPOTrainer(ORPOTrainer):
    """TRL's trainer, for rows that are token ids already."""

    def tokenize_row(self, feature: dict, model: Any = None) -> dict:
        return feature


class CompletionORPOTrainer(TokenisedORPOTrainer):
    """The likelihood term over completions in place of TRL's over sequences."""

    def concatenated_forward(self, model: Any, batch: dict) -> tuple:
        outputs = super().concatenated_forward(model, batch)
        chosen_log_probabilities = outputs[0]  # of each pair, a mean over its tokens
        return (*outputs[:4], -chosen_log_probabilities.mean(), *outputs[5:])


def make_arguments(common: Mapping[str, Any], settings: TrainingSettings) -> ORPOConfig:
    """TRL's configuration with `beta`."""
    return ORPOConfig(**common, beta=settings.beta, remove_unused_columns=False)


def make_trainer(
    common: Mapping[str, Any],
    rows: Sequence[Encoded],
    sort_rows: Callable[[type], type],
    likelihood: str | None,
    reference: Any,
) -> ORPOTrainer:
    """The trainer. Rows are sorted only for the likelihood that is a mean over pairs.

    Args: see `trainers.trainer_module`.
    """
    trainer = TokenisedORPOTrainer
    if likelihood == "completion":
        trainer = sort_rows(CompletionORPOTrainer)
    return trainer(**common, train_dataset=Dataset.from_dict(orpo_columns(rows)))
