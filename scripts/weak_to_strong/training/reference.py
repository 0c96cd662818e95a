"""The reference model of a trainer that keeps the trained model close to one, such as DPO.

The reference is by default the initial model. For an adapter TRL keeps a frozen copy of it as a
second adapter; full weights are loaded a second time. `reference: base` names the base model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datasets import Dataset

from weak_to_strong.training.loading import ADAPTER_OFF


def build_with_reference(
    trainer_class: type, common: Mapping[str, Any], dataset: Dataset, reference: Any
) -> Any:
    """A trainer of TRL with a reference, which no update changes.

    Args:
        trainer_class: subclass of a trainer of TRL that takes `ref_model`.
        common: arguments that every trainer takes.
        dataset: rows to train on.
        reference: see `loading.load_reference`.
    """
    adapter_off = reference == ADAPTER_OFF
    trainer = trainer_class(
        **common, ref_model=None if adapter_off else reference, train_dataset=dataset
    )
    if adapter_off:
        drop_reference(trainer.model)
    freeze_reference(trainer.model)
    return trainer


def drop_reference(model: Any) -> None:
    """Remove the frozen copy of a continued adapter, which TRL makes while it is set up.

    Without this copy TRL computes the reference with the trained adapter disabled.
    """
    if "ref" in model.peft_config:
        model.delete_adapter("ref")


def freeze_reference(model: Any) -> None:
    """Let no update change the frozen copy of a continued adapter, if there is one."""
    for name, parameter in model.named_parameters():
        if ".ref." in name:
            parameter.requires_grad_(False)
