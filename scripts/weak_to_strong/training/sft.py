"""Supervised fine-tuning with TRL's SFTTrainer. Importing this module loads TRL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from weak_to_strong.training.rows import Encoded, sft_columns
from weak_to_strong.training.settings import TrainingSettings


def make_arguments(common: Mapping[str, Any], settings: TrainingSettings) -> SFTConfig:
    """TRL's configuration: what is common to all trainers."""
    return SFTConfig(**common)


def make_trainer(
    common: Mapping[str, Any],
    rows: Sequence[Encoded],
    sort_rows: Callable[[type], type],
    likelihood: str | None,
    reference: Any,
) -> SFTTrainer:
    """The trainer. Its loss is a mean over the tokens of an update, so rows may be sorted.

    Args: see `trainers.trainer_module`.
    """
    columns = sft_columns(rows)
    trainer = WeightedSFTTrainer if "weight" in columns else SFTTrainer
    return sort_rows(trainer)(**common, train_dataset=Dataset.from_dict(columns))


class WeightedSFTTrainer(SFTTrainer):
    """TRL's trainer with a weight for each row.

    With w the weight of a token's row and n the number of tokens of an update, the loss is
    -sum(w log p) / n.
    """

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)
        self._set_signature_columns_if_needed()
        self._signature_columns = [*self._signature_columns, "weight"]
        collate = self.data_collator

        def collate_weights(rows: list[dict[str, Any]]) -> dict[str, Any]:
            return {**collate(rows), "weight": torch.tensor([row["weight"] for row in rows])}

        self.data_collator = collate_weights

    def compute_loss(self, model: Any, inputs: dict[str, Any], *others: Any, **named: Any) -> Any:
        weights = inputs.pop("weight").unsqueeze(1)

        def weighted(**given: Any) -> Any:
            outputs = model(**given)
            # TRL makes its loss of these; they are 0 on the tokens of the prompt.
            outputs.log_probs = weights * outputs.log_probs
            return outputs

        return super().compute_loss(weighted, inputs, *others, **named)
