"""Settings of a training run: checks, batch arithmetic and the key of its work folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from weak_to_strong.tables.files import hash_file, hash_value

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
    "likelihood": "completion",
    "lora": None,
    "max_grad_norm": 1.0,
    "precompute_ref": None,
    "processes": 1,
    "quantization": None,
    "reference": None,
    "save_minutes": None,
    "save_steps": None,
    "warmup_ratio": 0.0,
    "weight_decay": 0.0,
}
#: When checkpoints are written; without effect on the weights, and in no manifest.
SAVE_KEYS = ("save_minutes", "save_steps")
#: Models that can be the reference of DPO.
REFERENCES = ("m_plus", "base")
#: Package that quantises a base model.
QUANTISER = "bitsandbytes"


@dataclass(frozen=True)
class Zero:
    """What a DeepSpeed file spreads over the devices, and what it keeps in their hosts' memory.

    Attributes:
        stage: of ZeRO; 0 spreads nothing.
        offload_optimizer: gradients, moments and float32 weights are on the host, which updates.
        offload_weights: the weights are on the host, from where each block is gathered.
    """

    stage: int = 0
    offload_optimizer: bool = False
    offload_weights: bool = False


def zero_of(settings: Mapping[str, Any]) -> Zero:
    """What the DeepSpeed file of a training says of ZeRO; nothing without such a file."""
    if not settings.get("deepspeed"):
        return Zero()
    content = json.loads(Path(settings["deepspeed"]).read_text(encoding="utf-8"))
    part = content.get("zero_optimization", {})
    optimizer, weights = (
        part.get(key, {}).get("device", "none") != "none"
        for key in ("offload_optimizer", "offload_param")
    )
    return Zero(part.get("stage", 0), optimizer, weights)


def check_quantization(settings: Mapping[str, Any]) -> None:
    """Check that a base in 4 bits goes with the other settings.

    Raises:
        ValueError: full weights, which would have to be trained in 4 bits; or stage 3 of ZeRO, for
            which transformers loads a quantised model whole (`PreTrainedModel.get_init_context`).
    """
    if not settings.get("quantization"):
        return
    if settings["adapter"] != "lora":
        raise ValueError(
            "quantization: weights in 4 bits cannot be trained; set adapter to lora, or "
            "quantization to null"
        )
    if zero_of(settings).stage == 3:
        raise ValueError(
            "quantization: does not go with stage 3 of ZeRO, under which each device would still "
            "load the whole base; set deepspeed to config/deepspeed/zero2.json or leave it out"
        )


def check_quantiser(settings: Mapping[str, Any]) -> None:
    """Check that the package is there that quantises.

    Raises:
        ValueError: it is not.
    """
    if settings.get("quantization") and find_spec(QUANTISER) is None:
        raise ValueError(
            f"quantization: takes the package `{QUANTISER}`, which is not installed; `make setup` "
            "installs it"
        )


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
            before training; null: where there are several epochs), `reference` (dpo: "m_plus", the
            initial model, or "base", the base model that it was made from), `likelihood` (orpo:
            "sequence" or "completion", see `training.build_trainer`), `quantization` ("nf4": lora's
            frozen base has 4 bits a weight), `processes`, `deepspeed` (configuration file),
            `save_steps` and `save_minutes` (updates and time between checkpoints, whichever is
            less; null: none).

    Raises:
        ValueError: an unknown trainer or key, a missing key, a value out of range, or a
            quantisation that does not go with the others.
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
    bits = full["quantization"]
    _require("quantization", bits, bits in (None, "nf4"), "null or 'nf4'")
    check_quantization(full)
    if trainer == "sft":
        full["beta"] = None
    else:
        beta = full["beta"]
        _require("beta", beta, beta is not None and beta > 0, f"greater than 0 for {trainer}")
    reference = full["reference"] = (
        (full["reference"] or REFERENCES[0]) if trainer == "dpo" else None
    )
    _require("reference", reference, reference in (None, *REFERENCES), " or ".join(REFERENCES))
    if trainer != "dpo":
        full["precompute_ref"] = False
    elif full["precompute_ref"] is None:
        full["precompute_ref"] = full["epochs"] > 1
    kinds = ("sequence", "completion")
    _require("likelihood", full["likelihood"], full["likelihood"] in kinds, " or ".join(kinds))
    if trainer != "orpo":
        full["likelihood"] = None
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


def most_processes(settings: Mapping[str, Any], gpus: int) -> int:
    """The largest number of processes, up to one for each GPU, that the global batch allows."""
    batch, rows = settings["global_batch_size"], settings["per_device_batch_size"]
    return max((n for n in range(1, gpus + 1) if batch % (n * rows) == 0), default=1)


def run_key(
    trainer: str,
    settings: Mapping[str, Any],
    rows: str | Path,
    base: Mapping[str, Any],
    init: Mapping[str, Any] | None,
    versions: Mapping[str, str],
) -> str:
    """Name of the work folder of a run: a hash over all that bears on its weights.

    SAVE_KEYS do not, so a run may be resumed with others; a DeepSpeed file counts by content. What
    else bears on them - packages, the code - is in `versions`.
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
