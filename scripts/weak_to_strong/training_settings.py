"""Settings of a training run: checks, batch arithmetic and the key of its work folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weak_to_strong.tables import hash_file, hash_value

TRAINERS = ("sft", "dpo", "orpo")
#: The attention and MLP projections of a Llama-shaped block (paper, section on training details).
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LORA_KEYS = ("r", "alpha", "dropout", "target_modules")

REQUIRED = (
    "adapter",
    "dtype",
    "epochs",
    "global_batch_size",
    "learning_rate",
    "max_length",
    "per_device_batch_size",
    "scheduler",
    "seed",
)
OPTIONAL = {
    "beta": None,
    "deepspeed": None,
    "gradient_checkpointing": False,
    "lora": None,
    "max_grad_norm": 1.0,
    "precompute_ref": False,
    "processes": 1,
    "save_minutes": None,
    "save_steps": None,
    "warmup_ratio": 0.0,
    "weight_decay": 0.0,
}
#: When checkpoints are written; without effect on the weights, and in no manifest.
SAVE_KEYS = ("save_minutes", "save_steps")


def complete_settings(trainer: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Check the settings of one run and fill in the optional keys.

    Args:
        trainer: "sft", "dpo" or "orpo".
        settings: `learning_rate`, `epochs` (whole passes), `global_batch_size` (rows an update),
            `per_device_batch_size` (rows in memory at once), `scheduler` (a transformers name),
            `max_length` (tokens of prompt and completion), `adapter` ("lora" or "full"),
            `dtype` ("float32" or "bfloat16"), `seed`; optionally `lora` (`r`, `alpha`, `dropout`,
            `target_modules`; left out, a LoRA run continues its initial adapter as that is),
            `beta` (dpo, orpo), `warmup_ratio`, `weight_decay`, `max_grad_norm`,
            `gradient_checkpointing`, `precompute_ref` (dpo: reference log-probabilities once,
            before training), `processes`, `deepspeed` (configuration file), `save_steps` and
            `save_minutes` (updates and time between checkpoints, whichever is less; null: none).

    Raises:
        ValueError: an unknown trainer or key, a missing key, or a value out of range.
    """
    if trainer not in TRAINERS:
        raise ValueError(f"trainer: {trainer!r} is unknown; use one of {', '.join(TRAINERS)}")
    if unknown := sorted(set(settings) - {*REQUIRED, *OPTIONAL}):
        raise ValueError(f"training settings: unknown key {unknown[0]!r}; remove it")
    if missing := [key for key in REQUIRED if settings.get(key) is None]:
        raise ValueError(f"training settings: {missing[0]!r} is missing; set it for {trainer}")
    full = {**OPTIONAL, **settings}
    for key in ("epochs", "global_batch_size", "max_length", "per_device_batch_size", "processes"):
        _require(
            key, full[key], isinstance(full[key], int) and full[key] >= 1, "a whole number >= 1"
        )
    for key in SAVE_KEYS:
        if (value := full[key]) is not None:
            _require(key, value, isinstance(value, int) and value >= 1, "null or >= 1")
    _require("learning_rate", full["learning_rate"], full["learning_rate"] > 0, "greater than 0")
    _require("warmup_ratio", full["warmup_ratio"], 0 <= full["warmup_ratio"] < 1, "in [0, 1)")
    _require("adapter", full["adapter"], full["adapter"] in ("lora", "full"), "'lora' or 'full'")
    _require(
        "dtype", full["dtype"], full["dtype"] in ("float32", "bfloat16"), "'float32' or 'bfloat16'"
    )
    if trainer == "sft":
        full["beta"] = None
        full["precompute_ref"] = False
    else:
        beta = full["beta"]
        _require("beta", beta, beta is not None and beta > 0, f"greater than 0 for {trainer}")
    if full["adapter"] == "full":
        full["lora"] = None
    elif full["lora"] is not None:
        lora = {"dropout": 0.0, "target_modules": PROJECTIONS, **full["lora"]}
        if set(lora) != set(LORA_KEYS):
            raise ValueError(f"lora: has keys {sorted(lora)}; give {', '.join(LORA_KEYS)}")
        full["lora"] = {**lora, "target_modules": sorted(lora["target_modules"])}
    accumulation_steps(full)
    return full


def _require(key: str, value: Any, valid: bool, meaning: str) -> None:
    if not valid:
        raise ValueError(f"{key}: {value!r} must be {meaning}")


def accumulation_steps(settings: Mapping[str, Any]) -> int:
    """Backward passes an update, such that the global batch is the same on any number of devices.

    Raises:
        ValueError: `global_batch_size` is no multiple of `per_device_batch_size` * `processes`.
    """
    at_once = settings["per_device_batch_size"] * settings["processes"]
    steps, rest = divmod(settings["global_batch_size"], at_once)
    if rest or not steps:
        raise ValueError(
            f"global_batch_size: {settings['global_batch_size']} is no multiple of "
            f"per_device_batch_size x processes = {at_once}; change one of them"
        )
    return steps


def run_key(
    trainer: str,
    settings: Mapping[str, Any],
    rows: str | Path,
    base: Mapping[str, Any],
    init: Mapping[str, Any] | None,
    versions: Mapping[str, str],
) -> str:
    """Name of the work folder of a run: a hash over all that bears on its weights.

    SAVE_KEYS do not, so a run may be resumed with others; a DeepSpeed file counts by content.
    """
    relevant = {key: value for key, value in settings.items() if key not in SAVE_KEYS}
    if relevant["deepspeed"]:
        relevant["deepspeed"] = hash_file(relevant["deepspeed"])
    value = {
        "trainer": trainer,
        "settings": relevant,
        "rows": hash_file(rows),
        "base": base["files"],
        "init": init["files"] if init else None,
        "versions": dict(versions),
    }
    return hash_value(value)[:16]
