"""Direct preference optimisation with TRL's DPOTrainer. Importing this module loads TRL.

The reference is by default the initial model. For an adapter TRL keeps a frozen copy of it as a
second adapter; full weights are loaded a second time. `reference: base` names the base model.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from weak_to_strong.training.loading import ADAPTER_OFF
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
    reference: Any,
) -> DPOTrainer:
    """The trainer. Its loss is a mean over the pairs of an update, so rows may be sorted."""

    adapter_off = reference == ADAPTER_OFF

    class TokenisedDPOTrainer(sort_rows(DPOTrainer)):
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def _precompute_ref_logps(self, *arguments: Any) -> Any:
            if adapter_off:
                drop_reference(self.model)
            return super()._precompute_ref_logps(*arguments)

    arguments = common["args"]
    dataset = Dataset.from_dict(dpo_columns(rows))
    if arguments.precompute_ref_log_probs and arguments.world_size > 1:
        dataset = share_dataset(dataset, arguments)
    other = None if adapter_off else reference
    trainer = TokenisedDPOTrainer(**common, ref_model=other, train_dataset=dataset)
    if adapter_off:
        drop_reference(trainer.model)
    for name, parameter in trainer.model.named_parameters():
        if ".ref." in name:
            parameter.requires_grad_(False)
    return trainer


def drop_reference(model: Any) -> None:
    """Remove the frozen copy of a continued adapter, which TRL makes while it is set up.

    Without this copy TRL computes the reference with the trained adapter disabled.
    """
    if "ref" in model.peft_config:
        model.delete_adapter("ref")


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
