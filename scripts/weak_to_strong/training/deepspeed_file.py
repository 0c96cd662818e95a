"""Which DeepSpeed configuration files a training accepts.

DeepSpeed writes files where its configuration says: profiles, monitors' logs, tensors that are
offloaded to a disk. A stranger's file could so overwrite any file of the user's. A training needs
none of that. It needs sections on memory and precision, whose values are numbers and a few words.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

#: Sections on memory, precision and communication. Optimiser and schedule are settings of the
#: experiment (`training.*` in the configuration).
SECTIONS = frozenset(
    {
        "activation_checkpointing",
        "amp",
        "bf16",
        "communication_data_type",
        "data_types",
        "disable_allgather",
        "fp16",
        "gradient_accumulation_steps",
        "gradient_clipping",
        "gradient_predivide_factor",
        "prescale_gradients",
        "sparse_gradients",
        "steps_per_print",
        "torch_autocast",
        "train_batch_size",
        "train_micro_batch_size_per_gpu",
        "wall_clock_breakdown",
        "zero_allow_untested_optimizer",
        "zero_force_ds_cpu_optimizer",
        "zero_optimization",
    }
)
#: Every text that a value may be. None of them is the name of a file.
WORDS = frozenset({"auto", "cpu", "none", "bf16", "fp16", "fp32", "bfloat16", "float16", "float32"})


def check_deepspeed(content: Mapping[str, Any]) -> None:
    """Check the sections and values of a DeepSpeed configuration.

    Args:
        content: of the file.

    Raises:
        ValueError: a section that training does not need, a value that could name a file, or one
            of another kind than DeepSpeed reads; the message names it and the fix.
    """
    for section in sorted(content.keys() - SECTIONS):
        raise ValueError(
            f"section `{section}` is none that training needs; remove it (allowed: "
            f"{', '.join(sorted(SECTIONS))})"
        )
    for section, value in sorted(content.items()):
        _check_value(section, value)
    zero = content.get("zero_optimization", {})
    parts = {
        "zero_optimization": zero,
        **{name: content[name] for name in ("amp", "bf16", "fp16") if name in content},
        **{
            f"zero_optimization.{name}": zero[name]
            for name in ("offload_optimizer", "offload_param")
            if isinstance(zero, Mapping) and zero.get(name) is not None
        },
    }
    for place, part in parts.items():
        if not isinstance(part, Mapping):
            raise ValueError(f"`{place}` is {part!r}; write an object, {{...}}")
    stage = zero.get("stage", 0)
    if type(stage) is not int or not 0 <= stage <= 3:
        raise ValueError(f"`zero_optimization.stage` is {stage!r}; use 0, 1, 2 or 3")


def _check_value(place: str, value: Any) -> None:
    """Refuse a text that is not in WORDS, however deep it lies below a section."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _check_value(f"{place}.{key}", inner)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _check_value(f"{place}.{number}", inner)
    elif isinstance(value, float) and not isfinite(value):
        raise ValueError(f"`{place}` is {value}; use a finite number")
    elif isinstance(value, str) and value not in WORDS:
        raise ValueError(
            f"`{place}` is {value!r}; use a number, true, false or one of "
            f"{', '.join(sorted(WORDS))}"
        )
