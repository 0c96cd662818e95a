"""Direct preference optimisation with TRL's DPOTrainer. Importing this module loads TRL.

The reference is the initial model. For an adapter TRL keeps a frozen copy of it as a second
adapter; full weights are loaded a second time.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from weak_to_strong.training.rows import Encoded, dpo_columns
from weak_to_strong.training.settings import TrainingSettings


def make_arguments(common: Mapping[str, Any], settings: TrainingSettings) -> DPOConfig:
    """TRL's configuration with `beta`, and when the reference's log-probabilities are computed."""
    precompute = settings.precompute_ref
    return DPOConfig(**common, beta=settings.beta, precompute_ref_log_probs=precompute)


def make_trainer(
    common: Mapping[str, Any],
    rows: Sequence[Encoded],
    sort_rows: Callable[[type], type],
    likelihood: str | None,
) -> DPOTrainer:
    """The trainer. Its loss is a mean over the pairs of an update, so rows may be sorted."""

    class TokenisedDPOTrainer(sort_rows(DPOTrainer)):
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    arguments = common["args"]
    dataset = Dataset.from_dict(dpo_columns(rows))
    if arguments.precompute_ref_log_probs and arguments.world_size > 1:
        dataset = share_dataset(dataset, arguments)
    trainer = TokenisedDPOTrainer(**common, train_dataset=dataset)
    for name, parameter in trainer.model.named_parameters():
        if ".ref." in name:
            parameter.requires_grad_(False)
    return trainer


def share_dataset(dataset: Dataset, arguments: DPOConfig) -> Dataset:
    """The same rows in a file in the training's work folder, for all of its processes.

    TRL's processes share the reference's log-probabilities through a file beside that of the rows.
    With rows in memory each process would look for it in its own temporary folder.
    """
    folder = Path(arguments.output_dir) / "rows"
    with arguments.main_process_first(local=False):
        if arguments.process_index == 0:
            shutil.rmtree(folder, ignore_errors=True)  # one of a killed training may be incomplete
            dataset.save_to_disk(folder)
    return Dataset.load_from_disk(folder)
