"""transformers callbacks of every training. Importing this module loads transformers."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from weak_to_strong.jobs.logs import logger
from weak_to_strong.training.checkpoints import seal_checkpoint
from weak_to_strong.training.history import COLLAPSED_UPDATES, check_loss, has_collapsed

#: Lines of progress in a training's log, about.
PROGRESS_LINES = 20


class SaveByTime(TrainerCallback):
    """Saves a checkpoint when the last one is `minutes` old.

    An update may take a second or a minute. Either way a time limit costs at most these minutes.
    """

    def __init__(self, minutes: int) -> None:
        self._seconds = 60 * minutes
        self._last_save = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._last_save = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        save = time.monotonic() - self._last_save >= self._seconds
        if torch.distributed.is_initialized():
            # All processes save after the same update: the first process decides.
            decision = torch.tensor([save], dtype=torch.int32, device=args.device)
            torch.distributed.broadcast(decision, src=0)
            save = bool(decision.item())
        if save:
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._last_save = time.monotonic()


class SealCheckpoints(TrainerCallback):
    """Marks each checkpoint as complete once all processes have written their files."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        if state.is_world_process_zero:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            # DPO's frozen adapter is made anew from the initial model. transformers would load a
            # saved one and forget the trained adapter.
            shutil.rmtree(checkpoint / "ref", ignore_errors=True)
            seal_checkpoint(checkpoint)


class LogProgress(TrainerCallback):
    """Logs the loss of about PROGRESS_LINES updates."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        interval = max(1, state.max_steps // PROGRESS_LINES)
        is_last = state.global_step == state.max_steps
        if not (is_last or state.global_step % interval == 0):
            return
        if "loss" in logs and state.is_world_process_zero:
            loss = logs["loss"]
            logger.info("step %d of %d: loss %.4f", state.global_step, state.max_steps, loss)


class RefuseLosses(TrainerCallback):
    """Ends a training whose loss is not finite, before it saves weights that are not either."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in logs:
            check_loss(logs["loss"], state.global_step)


class StopAtCollapse(TrainerCallback):
    """Ends a training by reward whose entropy has collapsed (`history.has_collapsed`).

    All processes decide the same: the entropy that TRL logs is that of all their samples.
    """

    def __init__(self, min_entropy: float) -> None:
        self._min_entropy = min_entropy

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" not in logs or state.global_step == state.max_steps:
            return
        if not has_collapsed(state.log_history, self._min_entropy):
            return
        control.should_training_stop = True
        # Who resumed from a checkpoint of this update would train on.
        control.should_save = False
        if state.is_world_process_zero:
            logger.warning(
                "min_entropy: the entropy stayed below %g nats a token for %d updates and is now "
                "%.4f; training ends at step %d of %d with the model so far; to go on, raise "
                "temperature or beta, or lower learning_rate or min_entropy",
                self._min_entropy,
                COLLAPSED_UPDATES,
                logs["entropy"],
                state.global_step,
                state.max_steps,
            )


def make_callbacks(
    save_minutes: int | None = None, min_entropy: float = 0.0
) -> list[TrainerCallback]:
    """The callbacks of a training.

    Args:
        save_minutes: most minutes between two checkpoints, or None.
        min_entropy: entropy of a training by reward below which it ends, or 0.
    """
    by_time = [SaveByTime(save_minutes)] if save_minutes is not None else []
    by_entropy = [StopAtCollapse(min_entropy)] if min_entropy else []
    return [*by_time, SealCheckpoints(), LogProgress(), RefuseLosses(), *by_entropy]
