"""Kahneman-Tversky optimisation with TRL's KTOTrainer (Ethayarajh et al., arXiv 2402.01306).

Importing this module loads TRL. KTO learns from single answers that are desirable or not. Here they
are the chosen and the rejected answers of pairs, so there are as many of each kind, and both kinds
have the weight 1. With r the log-ratio of trained model and reference, s the logistic function and
z an estimate of the distance between the two models, the losses of the answers (equation 7) are:

- chosen: 1 - s(beta (r - z));
- rejected: 1 - s(beta (z - r)).

z is the mean of r over answers to other questions of the micro-batch, and at least 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from datasets import Dataset
from trl import KTOConfig, KTOTrainer

from weak_to_strong.training.reference import build_with_reference
from weak_to_strong.training.rows import Encoded, dpo_columns, unpair
from weak_to_strong.training.settings import TrainingSettings


def make_arguments(common: Mapping[str, Any], settings: TrainingSettings) -> KTOConfig:
    """TRL's configuration with `beta`."""
    return KTOConfig(**common, beta=settings.beta, remove_unused_columns=False)


class PairedKTOTrainer(KTOTrainer):
    """TRL's trainer, for rows that are pairs of token ids. A micro-batch has both sides of each."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        collate = self.data_collator
        self.data_collator = lambda pairs: collate(unpair(pairs))
        # TRL pairs each answer with one of its neighbours in the table, and so keeps the table's
        # order in each pass. `unpair` takes the answers of the micro-batch, in whatever order.
        self.args.train_sampling_strategy = "random"

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset


def make_trainer(
    common: Mapping[str, Any],
    rows: Sequence[Encoded],
    sort_rows: Callable[[type], type],
    likelihood: str | None,
    reference: Any,
) -> KTOTrainer:
    """The trainer. Its loss depends on the pairs of a micro-batch, so rows are not sorted.

    Args: see `trainers.trainer_module`.
    """
    dataset = Dataset.from_dict(dpo_columns(rows))
    return build_with_reference(PairedKTOTrainer, common, dataset, reference)
