"""What a training reports: to trackers (`jobs.trackers`), and to the run's progress line.

Importing this module loads transformers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback
from transformers.integrations import get_reporting_integration_callbacks

from weak_to_strong.jobs.trackers import TrackedRun, attempt, stay_offline
from weak_to_strong.jobs.work_notes import WorkNote, note_work


class Reporter(TrainerCallback):
    """Hands the events of a training to a tracker's callback, until that callback fails.

    Args:
        tracker: name of the tracker.
        run: what to report.
    """

    def __init__(self, tracker: str, run: TrackedRun) -> None:
        self._tracker = tracker
        self._run = run
        self._callback: TrainerCallback | None = None
        self._has_failed = False

    def tell(self, event: str, args: Any, state: Any, control: Any, **named: Any) -> None:
        """Hand on an event, which is the name of a method of `TrainerCallback`."""

        def act() -> None:
            if self._callback is None:
                self._callback = _make_callback(self._tracker, self._run, state.global_step)
            # What a method may return is for the trainer. A tracker must not steer it.
            getattr(self._callback, event)(args, state, control, **named)
            if event == "on_train_end":
                _end_run(self._tracker)

        if not self._has_failed:
            with same_random_numbers():
                self._has_failed = not attempt(self._tracker, act)


def _handing_on(event: str) -> Any:
    def hand_on(self: Reporter, *arguments: Any, **named: Any) -> None:
        self.tell(event, *arguments, **named)

    return hand_on


for _event in vars(TrainerCallback):
    if _event.startswith("on_"):
        setattr(Reporter, _event, _handing_on(_event))


@contextmanager
def same_random_numbers() -> Iterator[None]:
    """Put the random generators back at the end: no weight may depend on a tracker."""
    python, array = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(array)


def _make_callback(tracker: str, run: TrackedRun, updates: int) -> TrainerCallback:
    """transformers' callback of a tracker, which writes below the run's folder.

    Args:
        tracker: name of the tracker.
        run: what to report.
        updates: number of updates before this training began or resumed.
    """
    stay_offline(run)
    [callback] = get_reporting_integration_callbacks([tracker])
    if tracker == "tensorboard":
        from torch.utils.tensorboard import SummaryWriter

        # TensorBoard leaves out what an earlier training of this name reported from there on.
        return callback(SummaryWriter(str(run.events), purge_step=updates + (updates > 0)))
    return callback()


def _end_run(tracker: str) -> None:
    """End the run where transformers leaves that to the end of the process.

    A launched process ends at once (`train.py`), and its last figures would be lost.
    """
    if tracker == "wandb":
        import_module(tracker).finish()
    elif tracker == "mlflow":
        mlflow = import_module(tracker)
        mlflow.flush_async_logging()
        mlflow.end_run()


class NoteUpdates(TrainerCallback):
    """Notes for the progress line of the run how far a training is.

    Args:
        tokens: tokens of all updates together.
    """

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._first = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._first = state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        done, total = state.global_step, state.max_steps
        tokens = round(self._tokens * (done - self._first) / total)
        note_work(WorkNote(self._first, done, total, tokens))


def make_reporters(run: TrackedRun | None, arguments: Any, tokens: int) -> list[TrainerCallback]:
    """The callbacks that report a training, for its first process.

    Args:
        run: what trackers get, or None.
        arguments: the training's TRL configuration, which gets the name of run and experiment.
        tokens: tokens of all updates together.
    """
    if run is None:
        return [NoteUpdates(tokens)]
    arguments.run_name, arguments.project = run.name, run.experiment
    return [NoteUpdates(tokens), *(Reporter(tracker, run) for tracker in run.trackers)]
