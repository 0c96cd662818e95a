"""Supervised fine-tuning with TRL's SFTTrainer. Importing this module loads TRL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

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
    """The trainer. Its loss is a mean over the tokens of an update, so rows may be sorted."""
    return sort_rows(SFTTrainer)(**common, train_dataset=Dataset.from_dict(sft_columns(rows)))
