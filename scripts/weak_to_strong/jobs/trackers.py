"""Trackers, where people watch runs: TensorBoard, Weights & Biases, MLflow and trackio.

A tracker shows figures and decides none. So the machine's environment chooses it, and not the
configuration: another choice changes no parameter and no file, and runs nothing again. A tracker
that fails costs one line of the log, and never a job. Trackers keep their runs in a folder of the
experiment and use no network, unless the user's own environment says otherwise.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from weak_to_strong.jobs.logs import logger

#: Environment variable with the names of the trackers. Jobs inherit it.
REPORT_TO = "W2S_REPORT_TO"
#: The default resource of a profile that names the trackers where the variable is not set.
REPORT_TO_RESOURCE = "report_to"
#: The trackers. Each is also the name of the Python package that it needs.
TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")
#: How the names of the variables begin that a tracker reads. Some of them are secrets.
_PREFIXES = {"wandb": "WANDB_", "mlflow": "MLFLOW_", "trackio": "TRACKIO_"}


@dataclass(frozen=True)
class TrackedRun:
    """What a job reports, under one name.

    Attributes:
        trackers: names of the trackers.
        name: of the run: the key of a model, or of a generation round.
        experiment: name of the experiment, which trackers call a project.
        folder: folder of all runs of the experiment.
    """

    trackers: tuple[str, ...]
    name: str
    experiment: str
    folder: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TrackedRun:
        """The run that `dataclasses.asdict` and JSON made `value` of."""
        return cls(**{**value, "trackers": tuple(value["trackers"])})

    @property
    def events(self) -> Path:
        """Folder of the run's TensorBoard files. TensorBoard takes its path as the run's name."""
        return Path(self.folder, "tensorboard", self.name)


def read_names(text: str) -> tuple[str, ...]:
    """Names of trackers from a text that separates them by commas; none of "" and "none"."""
    names = (name.strip() for name in text.split(","))
    return tuple(dict.fromkeys(name for name in names if name not in ("", "none")))


def choose_trackers(environment: MutableMapping[str, str], resource: str | None) -> None:
    """Settle for this run and its jobs which trackers they report to, before any job.

    Args:
        environment: variables of this process, in which the choice is left for the jobs.
        resource: the default resource `report_to`; the variable has precedence.

    Raises:
        ValueError: an unknown tracker, or one that is not installed; names where it is chosen.
    """
    chosen = environment.get(REPORT_TO)
    place = REPORT_TO if chosen is not None else f"default resource `{REPORT_TO_RESOURCE}`"
    names = read_names(chosen if chosen is not None else resource or "")
    for name in names:
        if name not in TRACKERS:
            raise ValueError(
                f"{place}: {name!r} is no tracker; use {', '.join(TRACKERS)}, several with a comma "
                "between them, or none"
            )
        if find_spec(name) is None:
            raise ValueError(
                f"{place}: the package `{name}` is not installed; install it beside the workflow "
                f"(`.venv/bin/uv pip install {name}`), or leave the tracker out"
            )
    if names:
        environment[REPORT_TO] = ",".join(names)
    else:
        environment.pop(REPORT_TO, None)


def tracked_run(name: str, folder: str) -> TrackedRun | None:
    """The run of a job as this process's environment has it; None without a tracker.

    Args:
        name: see `TrackedRun`.
        folder: folder of the experiment's runs, `<results of the experiment>/trackers`.
    """
    trackers = read_names(os.environ.get(REPORT_TO, ""))
    if not trackers:
        return None
    path = Path(folder).absolute()
    return TrackedRun(trackers, name, path.parent.name, str(path))


def stay_offline(run: TrackedRun) -> None:
    """Let trackers write below the run's folder and use no network, where the user said nothing.

    Nodes of a cluster often have no network, and a tracker would then wait for it.
    """
    folder = Path(run.folder)
    folder.mkdir(parents=True, exist_ok=True)
    own = {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(folder),
        "WANDB_PROJECT": run.experiment,
        "WANDB_CONSOLE": "off",  # what a job prints is in its log, where secrets are hidden
        "WANDB_SILENT": "true",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_EXPERIMENT_NAME": run.experiment,
        "TRACKIO_DIR": str(folder / "trackio"),
    }
    for variable, value in own.items():
        os.environ.setdefault(variable, value)


def tracker_variables(run: TrackedRun | None, environment: Mapping[str, str]) -> dict[str, str]:
    """Variables of a run's trackers, for processes that else get no secrets."""
    prefixes = tuple(_PREFIXES[name] for name in (run.trackers if run else ()) if name in _PREFIXES)
    return {name: value for name, value in environment.items() if name.startswith(prefixes)}


def attempt(tracker: str, act: Callable[[], None]) -> bool:
    """Do something with a tracker; whether it succeeded. A failure is one warning in the log."""
    _hush_writers()
    try:
        act()
    except Exception as error:
        reason = " ".join(str(error).split()) or repr(error)
        logger.warning("%s failed, and gets no more figures of this job: %s", tracker, reason[:300])
        return False
    return True


def _hush_writers() -> None:
    """Print no traceback of TensorBoard's writing thread: its error reaches `attempt` as well."""
    show = threading.excepthook
    if getattr(show, "leaves_out_writers", False):
        return

    def show_others(arguments: Any) -> None:
        if not type(arguments.thread).__module__.startswith("tensorboard."):
            show(arguments)

    show_others.leaves_out_writers = True
    threading.excepthook = show_others


def report_figures(run: TrackedRun | None, figures: Mapping[str, float | None]) -> None:
    """Send figures of a finished job to the trackers.

    Args:
        run: the run, or None: then nothing is sent.
        figures: value by name. Those that are None or not finite are left out.
    """
    known = {
        name: value for name, value in figures.items() if value is not None and math.isfinite(value)
    }
    if run is None or not known:
        return
    for tracker in run.trackers:
        attempt(tracker, lambda send=_SENDERS[tracker]: send(run, known))


def _send_to_tensorboard(run: TrackedRun, figures: Mapping[str, float]) -> None:
    from tensorboard.summary import Writer

    writer = Writer(str(run.events))
    try:
        for name, value in figures.items():
            writer.add_scalar(name, value, step=0)
        writer.flush()
    finally:
        writer.close()


def _send_to_wandb(run: TrackedRun, figures: Mapping[str, float]) -> None:
    stay_offline(run)
    wandb = import_module("wandb")
    with wandb.init(project=os.environ["WANDB_PROJECT"], name=run.name) as sent:
        sent.log(dict(figures))


def _send_to_mlflow(run: TrackedRun, figures: Mapping[str, float]) -> None:
    stay_offline(run)
    mlflow = import_module("mlflow")
    mlflow.set_experiment(os.environ["MLFLOW_EXPERIMENT_NAME"])
    with mlflow.start_run(run_name=run.name):
        mlflow.log_metrics(dict(figures))


def _send_to_trackio(run: TrackedRun, figures: Mapping[str, float]) -> None:
    stay_offline(run)
    trackio = import_module("trackio")
    trackio.init(project=run.experiment, name=run.name, resume="allow")
    try:
        trackio.log(dict(figures))
    finally:
        trackio.finish()


_SENDERS: dict[str, Callable[[TrackedRun, Mapping[str, float]], None]] = {
    "tensorboard": _send_to_tensorboard,
    "wandb": _send_to_wandb,
    "mlflow": _send_to_mlflow,
    "trackio": _send_to_trackio,
}
