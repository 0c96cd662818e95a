"""TRL's configuration and trainer for a training, over the modules of the trainers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from weak_to_strong.training.length_sorting import sort_updates_of
from weak_to_strong.training.rows import Encoded, Question
from weak_to_strong.training.settings import REWARD_TRAINERS, TrainingSettings


def trainer_module(trainer: str) -> ModuleType:
    """The module of a trainer. It loads TRL, so it is imported only when it is used.

    Each module has `make_arguments(common, settings)` and
    `make_trainer(common, rows, sort_rows, likelihood, reference)`, which returns TRL's trainer:

    - `common`: keyword arguments that TRL's trainers share: `model`, `args` (see `make_arguments`),
      and the tokenizer as `processing_class`;
    - `rows`: token ids of the training rows, or of the questions of grpo;
    - `sort_rows`: makes a trainer class sort the rows of an update by length (`length_sorting`);
    - `likelihood`: likelihood term of orpo, None for the others;
    - `reference`: reference of dpo and kto (`loading.load_reference`); None for the initial model,
      and for the others.
    """
    if trainer in REWARD_TRAINERS:
        # Imported by its name, so that the digest of `train.py` does not follow it: an edit of a
        # vote or a judge leaves the models of all other trainers as they are.
        return import_module(f"{__package__}.{trainer}")
    # Plain imports, so that the digest of the code follows them.
    if trainer == "sft":
        from weak_to_strong.training import sft as module
    elif trainer == "dpo":
        from weak_to_strong.training import dpo as module
    elif trainer == "kto":
        from weak_to_strong.training import kto as module
    else:
        from weak_to_strong.training import orpo as module
    return module


def training_arguments(trainer: str, settings: TrainingSettings, work: Path) -> Any:
    """The TRL configuration of a training.

    It must exist before the model is loaded: ZeRO-3 shards the weights while they load only if
    DeepSpeed is set up by then.

    Args:
        trainer: one of `settings.TRAINERS`.
        settings: complete settings.
        work: folder of checkpoints.
    """
    import torch

    cuda = torch.cuda.is_available()
    common = {
        "output_dir": str(work),
        "learning_rate": settings.learning_rate,
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps or -1,
        "per_device_train_batch_size": settings.per_device_batch_size,
        "gradient_accumulation_steps": settings.accumulation_steps,
        "lr_scheduler_type": settings.scheduler,
        "warmup_steps": float(settings.warmup_ratio),  # below 1: a share of all steps
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "max_length": settings.max_length,
        "seed": settings.seed,
        "data_seed": settings.seed,
        "use_cpu": not cuda,
        "bf16": settings.dtype == "bfloat16",  # on by default in TRL
        "gradient_checkpointing": settings.gradient_checkpointing,
        "deepspeed": settings.deepspeed,
        "dataloader_pin_memory": cuda,
        "save_strategy": "steps" if settings.save_steps else "no",
        "save_steps": settings.save_steps or 500,
        # The second last stays until the last is known to be complete.
        "save_total_limit": 2,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
    }
    return trainer_module(trainer).make_arguments(common, settings)


def build_trainer(
    trainer: str,
    arguments: Any,
    model: Any,
    tokenizer: Any,
    rows: Sequence[Encoded] | Sequence[Question],
    likelihood: str | None = None,
    reference: Any = None,
) -> Any:
    """A TRL trainer that reads the token ids of `rows` as they are, without tokenising again.

    Where the loss allows it, the rows of an update of several micro-batches are sorted
    (`length_sorting`).

    Args:
        trainer: one of `settings.TRAINERS`.
        arguments: see `training_arguments`.
        model: see `loading.load_model`.
        tokenizer: tokenizer of the model. Without a padding token its end token becomes one.
        rows: token ids of the training rows, or of the questions for grpo.
        likelihood: likelihood term of orpo.
        reference: reference of dpo and kto (`loading.load_reference`); None is the initial model.
    """
    from datasets import disable_progress_bars

    disable_progress_bars()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    common = {"model": model, "args": arguments, "processing_class": tokenizer}
    sort_rows = _row_sorting(arguments, rows)
    return trainer_module(trainer).make_trainer(common, rows, sort_rows, likelihood, reference)


def _row_sorting(
    arguments: Any, rows: Sequence[Encoded] | Sequence[Question]
) -> Callable[[type], type]:
    """What makes a trainer class sort the rows of an update; it stays as it is where none gains."""
    micro_batches = arguments.gradient_accumulation_steps * arguments.world_size
    update = micro_batches * arguments.per_device_train_batch_size
    lengths = [row.longest for row in rows]
    if micro_batches == 1:
        return lambda trainer: trainer
    return lambda trainer: sort_updates_of(trainer, lengths, update)
