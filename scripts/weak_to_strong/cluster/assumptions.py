"""What estimates take for granted: resources/plan_assumptions.yaml and its types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

ASSUMPTIONS_FILE = Path(__file__).parents[3] / "resources" / "plan_assumptions.yaml"

#: Bytes of device memory that CUDA, NCCL and a library's own buffers take. An assumption of ours.
DEVICE_OVERHEAD = 2e9


@dataclass(frozen=True)
class Device:
    """One accelerator, and how well jobs use it."""

    flops: float  # peak FLOP/s in bfloat16
    memory_bandwidth: float  # bytes/s
    link_bandwidth: float  # bytes/s from the other devices
    host_link_bandwidth: float  # bytes/s from the host's memory
    host_memory_bandwidth: float  # bytes/s of a host's processors from and to its memory
    memory: float  # bytes
    weights_share: float  # largest share of the memory that weights take
    prefill_utilisation: float  # share of `flops` when reading prompts
    decode_utilisation: float  # share of `memory_bandwidth` when writing answers
    batch: int  # sequences that an engine writes at once
    training_utilisation: float  # share of `flops` in training
    link_utilisation: float  # share of either link's bandwidth when training gathers weights
    load_bandwidth: float  # bytes/s from disk, to all devices of a model together
    start_seconds: float  # start of an engine or a trainer, without its weights

    def count_for(self, size: float) -> int:
        """Devices that leave memory beside `size` bytes of weights: the least power of two."""
        count = 1
        while size > count * self.memory * self.weights_share:
            count *= 2
        return count

    def load_seconds(self, size: float) -> float:
        """Seconds of the start of a process that reads `size` bytes of weights from disk."""
        return self.start_seconds + size / self.load_bandwidth


@dataclass(frozen=True)
class Assumptions:
    """The values of the file, without their sources.

    Attributes:
        tasks: by the key `paper` of a task: rows of splits, tokens of texts, numbers of questions
            kept and paired.
        generation: `further_pairs`, `untuned_share` and `bytes_per_token`.
        models: by the key `paper` of a model: the attributes of `Shape` but `parameters`.
        device: the accelerator.
    """

    tasks: Mapping[str, Mapping[str, Any]]
    generation: Mapping[str, float]
    models: Mapping[str, Mapping[str, int]]
    device: Device

    def of_task(self, task: str, key: str, weak: str | None = None) -> Any:
        """A value of a task, for one weak model where it depends on it.

        Raises:
            ValueError: the file has no such entry; names it.
        """
        try:
            value = self.tasks[task][key]
            return value[weak] if weak else value
        except KeyError as error:
            place = ".".join(filter(None, ["tasks", task, key, weak]))
            message = f"{ASSUMPTIONS_FILE.name}: `{place}` is missing; add it"
            raise ValueError(message) from error


def _values(entry: Any, path: str) -> Any:
    """`entry` with each `{value, source}` in it replaced by its value."""
    if not isinstance(entry, dict) or ("value" in entry and not entry.get("source")):
        raise ValueError(f"{path}: is not `{{value, source}}`; say where the value is from")
    if "value" in entry:
        return entry["value"]
    return {key: _values(part, f"{path}.{key}") for key, part in entry.items()}


def read_assumptions(path: str | Path = ASSUMPTIONS_FILE) -> Assumptions:
    """Read the file of assumptions.

    Raises:
        ValueError: an entry has no source, or a key of the device is missing or unknown.
    """
    entries = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    entries["device"].pop("name")
    tasks, generation, device = (
        _values(entries[key], f"{path}: {key}") for key in ("tasks", "generation", "device")
    )
    models = {}
    for name, model in entries["models"].items():
        if not model.pop("source", None):
            raise ValueError(f"{path}: models.{name} has no `source`; say where it is from")
        models[name] = model
    if wrong := {item.name for item in fields(Device)} ^ set(device):
        raise ValueError(f"{path}: device.{min(wrong)} is missing or unknown; correct it")
    return Assumptions(tasks, generation, models, Device(**device))
