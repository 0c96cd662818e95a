"""Settings of a training: the typed settings, their checks, and the arithmetic of batches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

#: Trainers that learn from pairs. They continue a trained model.
PREFERENCE_TRAINERS = ("dpo", "orpo", "kto")
#: Trainers that sample answers to questions and learn from their rewards.
REWARD_TRAINERS = ("grpo",)
TRAINERS = ("sft", *PREFERENCE_TRAINERS, *REWARD_TRAINERS)
#: Trainers that keep the trained model close to a reference model.
REFERENCE_TRAINERS = ("dpo", "kto")
#: The attention and MLP projections of a Llama-shaped block (paper, section on training details).
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
#: When checkpoints are written. They do not change the weights, and no manifest has them.
SAVE_KEYS = ("save_minutes", "save_steps")
#: Models that can be that reference; the first is the default.
REFERENCES = ("m_plus", "base")
#: Settings that only some trainers use -> these. The others are used by all.
USED_BY = {
    "beta": (*PREFERENCE_TRAINERS, *REWARD_TRAINERS),
    "reference": REFERENCE_TRAINERS,
    "likelihood": ("orpo",),
    **dict.fromkeys(("loss", "label_smoothing", "precompute_ref"), ("dpo",)),
    **dict.fromkeys(("samples", "temperature", "min_entropy"), REWARD_TRAINERS),
}
#: Losses of dpo, by TRL's names; the first is the default.
LOSSES = ("sigmoid", "ipo", "robust", "sigmoid_norm")
#: The package that quantises a base model.
QUANTISER = "bitsandbytes"


@dataclass(frozen=True)
class LoraShape:
    """Shape of a LoRA adapter.

    Attributes:
        r: rank.
        alpha: scale of the adapter, before the division by the rank.
        dropout: share of the adapter's inputs that training drops, in [0, 1).
        target_modules: names of the adapted projections, sorted.
    """

    r: int
    alpha: float
    dropout: float
    target_modules: tuple[str, ...]


@dataclass(frozen=True)
class RewardSettings:
    """How a training by reward samples answers, reads them and rewards them.

    Attributes:
        reward: one of `rewards.TABLES_OF_REWARD`, or a user's function as `file.py:name`.
        samples: sampled answers to a question in an update, at least 2: a group.
        temperature: of the samples.
        max_tokens: most tokens of an answer.
        answer_key: text that introduces the final answer.
        extraction: how the final answer is found, one of `answers.EXTRACTIONS`.
        judge: settings of `judges.choose_judge`.
        quirks: fields of `answers.PaperQuirks`.
        stop: strings that end an answer and are not part of it.
        min_entropy: training ends where the policy's entropy (nats a token) stays below it, see
            `history.has_collapsed`; 0 never ends it.
        answer_after: mark that ends the reasoning in a chat, see `chat.complete_reasoning`.
        function_code: digest of the user's function, so that an edit trains anew; None for others.
    """

    reward: str
    samples: int
    temperature: float
    max_tokens: int
    answer_key: str
    extraction: str
    judge: Mapping[str, Any]
    quirks: Mapping[str, bool]
    stop: tuple[str, ...] = ()
    min_entropy: float = 0.0
    answer_after: str | None = None
    function_code: str | None = None


@dataclass(frozen=True)
class TrainingSettings:
    """Checked and complete settings of a training, as `complete_settings` makes them.

    Attributes:
        adapter: "lora" trains an adapter over a frozen base, "full" trains all weights.
        dtype: "float32" or "bfloat16".
        epochs: whole passes over the rows.
        global_batch_size: rows of an update, on all devices together; for grpo sampled answers.
        learning_rate: highest learning rate of the schedule.
        max_length: most tokens of prompt and completion.
        per_device_batch_size: rows that are in a device's memory at once.
        scheduler: name of a transformers schedule of the learning rate.
        seed: seed of the order of rows, of dropout and of new adapters.
        beta: weight of the preference term, or for grpo of the distance from the initial model,
            which may be 0; None for sft.
        deepspeed: path of a DeepSpeed configuration, or None.
        gradient_checkpointing: compute activations again in the backward pass to save memory.
        likelihood: likelihood term of orpo, "completion" or "sequence" (see `orpo.py`); None for
            other trainers.
        loss: loss of dpo, one of `LOSSES` (see `dpo.py`); None for other trainers.
        label_smoothing: share of the pairs that the loss "robust" of dpo takes to be exchanged, in
            (0, 0.5); None for other losses.
        lora: shape of the adapter. None for full weights, and for a training that continues an
            adapter in the shape that it has.
        max_grad_norm: gradients are scaled down to this norm.
        max_steps: number of updates, in place of `epochs`; None for whole passes.
        precompute_ref: dpo computes the reference's log-probabilities once, before training.
        processes: training processes, one for each device.
        reference: model to which dpo and kto keep the trained model close. "m_plus" is the initial
            model, "base" the base model that it was made from; None for other trainers.
        quantization: "nf4" loads the frozen base with 4 bits a weight; None does not quantise.
        rewards: what only grpo needs; None for other trainers.
        save_minutes: most minutes between two checkpoints, or None.
        save_steps: most updates between two checkpoints, or None.
        warmup_ratio: share of the updates in which the learning rate rises, in [0, 1).
        weight_decay: weight decay of AdamW.
    """

    adapter: str
    dtype: str
    epochs: int
    global_batch_size: int
    learning_rate: float
    max_length: int
    per_device_batch_size: int
    scheduler: str
    seed: int
    beta: float | None = None
    deepspeed: str | None = None
    gradient_checkpointing: bool = False
    label_smoothing: float | None = None
    likelihood: str | None = "completion"
    lora: LoraShape | None = None
    loss: str | None = None
    max_grad_norm: float = 1.0
    max_steps: int | None = None
    precompute_ref: bool | None = None
    processes: int = 1
    quantization: str | None = None
    reference: str | None = None
    rewards: RewardSettings | None = None
    save_minutes: int | None = None
    save_steps: int | None = None
    warmup_ratio: float = 0.0
    weight_decay: float = 0.0

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TrainingSettings:
        """The settings that `dataclasses.asdict` and JSON made `value` of."""
        lora = value["lora"] and _lora_shape(value["lora"])
        rewards = value["rewards"] and _reward_settings(value["rewards"])
        return cls(**{**value, "lora": lora, "rewards": rewards})

    @property
    def accumulation_steps(self) -> int:
        """Backward passes of an update; the global batch is the same on any number of devices."""
        return self.global_batch_size // (self.per_device_batch_size * self.processes)

    def for_weights(self) -> dict[str, Any]:
        """The settings that the weights depend on, as JSON-like values."""
        values = {name: value for name, value in asdict(self).items() if name not in SAVE_KEYS}
        if self.rewards is None:
            del values["rewards"]  # of no meaning to other trainers
        return values


@dataclass(frozen=True)
class Zero:
    """What a DeepSpeed file spreads over the devices, and what it keeps in the hosts' memory.

    Attributes:
        stage: stage of ZeRO; 0 spreads nothing.
        offload_optimizer: hosts hold gradients, moments and float32 weights, and update them.
        offload_weights: hosts hold the weights, and devices gather each block from there.
    """

    stage: int = 0
    offload_optimizer: bool = False
    offload_weights: bool = False


def zero_of(settings: Mapping[str, Any]) -> Zero:
    """What the DeepSpeed file of a training says about ZeRO; `Zero()` without such a file."""
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
    """Check that a base in 4 bits fits the other settings.

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
            "quantization: does not work with stage 3 of ZeRO, which would load the whole base on "
            "each device; set deepspeed to config/deepspeed/zero2.json or leave it out"
        )


def check_quantiser(settings: Mapping[str, Any]) -> None:
    """Check that the package is installed that quantises.

    Raises:
        ValueError: the settings ask for quantisation and the package is not installed.
    """
    if settings.get("quantization") and find_spec(QUANTISER) is None:
        raise ValueError(
            f"quantization: needs the package `{QUANTISER}`, which is not installed; `make setup` "
            "installs it"
        )


def complete_settings(trainer: str, settings: Mapping[str, Any]) -> TrainingSettings:
    """Check the settings of a training and fill in the optional ones.

    Three defaults depend on other settings. `precompute_ref` is on for dpo with several epochs.
    `lora.target_modules` are all projections of a block. A setting that the trainer does not use is
    None (`precompute_ref`: False), so that it does not change the work folder.

    Args:
        trainer: one of `TRAINERS`.
        settings: keys of `TrainingSettings`, with `lora` as a mapping; and those of
            `RewardSettings`, which only grpo uses.

    Raises:
        ValueError: an unknown trainer or key, a missing key, a value out of range, or a
            quantisation that does not fit the other settings.
    """
    of_rewards = {item.name for item in fields(RewardSettings)}
    common = {name: value for name, value in settings.items() if name not in of_rewards}
    full = _with_defaults(trainer, common)
    if trainer in REWARD_TRAINERS:
        full["rewards"] = _reward_settings(
            {name: value for name, value in settings.items() if name in of_rewards}
        )
        check_rewards(settings)
    _check_values(full)
    check_quantization(full)
    _settle_trainer_keys(trainer, full)
    if full["adapter"] == "full":
        full["lora"] = None
    elif full["lora"] is not None:
        full["lora"] = _lora_shape(full["lora"])
    _check_batch(full)
    if trainer == "kto":
        # It compares an answer with those to other questions of the micro-batch.
        rows = full["per_device_batch_size"]
        meaning = "at least 2 for kto, which compares an answer with the others of its batch"
        _require("per_device_batch_size", rows, rows > 1, meaning)
    return TrainingSettings(**full)


def _with_defaults(trainer: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All keys, each with the given value or its default."""
    if trainer not in TRAINERS:
        raise ValueError(f"trainer: {trainer!r} is unknown; use one of {', '.join(TRAINERS)}")
    defaults = {item.name: item.default for item in fields(TrainingSettings)}
    if unknown := sorted(set(settings) - set(defaults)):
        raise ValueError(f"training settings: unknown key {unknown[0]!r}; remove it")
    required = [name for name, default in defaults.items() if default is MISSING]
    if missing := [name for name in required if settings.get(name) is None]:
        raise ValueError(f"training settings: {missing[0]!r} is missing; set it for {trainer}")
    return {**defaults, **settings}


def _check_values(full: Mapping[str, Any]) -> None:
    """Check the values that have the same range for every trainer."""
    for key in ("epochs", "global_batch_size", "max_length", "per_device_batch_size", "processes"):
        whole = isinstance(full[key], int) and full[key] >= 1
        _require(key, full[key], whole, "a whole number >= 1")
    for key in (*SAVE_KEYS, "max_steps"):
        value = full[key]
        _require(
            key, value, value is None or (isinstance(value, int) and value >= 1), "null or >= 1"
        )
    _require("learning_rate", full["learning_rate"], full["learning_rate"] > 0, "greater than 0")
    _require("warmup_ratio", full["warmup_ratio"], 0 <= full["warmup_ratio"] < 1, "in [0, 1)")
    allowed = {
        "adapter": (("lora", "full"), "'lora' or 'full'"),
        "dtype": (("float32", "bfloat16"), "'float32' or 'bfloat16'"),
        "quantization": ((None, "nf4"), "null or 'nf4'"),
    }
    for key, (values, meaning) in allowed.items():
        _require(key, full[key], full[key] in values, meaning)


def _settle_trainer_keys(trainer: str, full: dict[str, Any]) -> None:
    """Check the keys that only some trainers use, and set those that this trainer does not use."""
    beta = full["beta"]
    if trainer == "sft":
        full["beta"] = None
    elif trainer in REWARD_TRAINERS:
        _require("beta", beta, beta is not None and beta >= 0, f"0 or greater for {trainer}")
    else:
        _require("beta", beta, beta is not None and beta > 0, f"greater than 0 for {trainer}")
    if trainer != "dpo":
        full["precompute_ref"] = False
    elif full["precompute_ref"] is None:
        # One epoch needs each reference log-probability once, whenever it is computed.
        full["precompute_ref"] = full["epochs"] > 1
    keeps_close = trainer in REFERENCE_TRAINERS
    full["reference"] = (full["reference"] or REFERENCES[0]) if keeps_close else None
    reference = full["reference"]
    _require("reference", reference, reference in (None, *REFERENCES), " or ".join(REFERENCES))
    _settle_loss(trainer, full)
    kinds = ("sequence", "completion")
    _require("likelihood", full["likelihood"], full["likelihood"] in kinds, " or ".join(kinds))
    if trainer != "orpo":
        full["likelihood"] = None


def _settle_loss(trainer: str, full: dict[str, Any]) -> None:
    """Check dpo's loss and its share of exchanged pairs."""
    full["loss"] = (full["loss"] or LOSSES[0]) if trainer == "dpo" else None
    _require("loss", full["loss"], full["loss"] in (None, *LOSSES), " or ".join(LOSSES))
    share = full["label_smoothing"]
    if full["loss"] == "robust":
        if share is None:
            raise ValueError(
                "label_smoothing: loss robust needs label_smoothing; set it to the share of pairs "
                "whose sides are exchanged, above 0 and below 0.5"
            )
        meaning = "above 0 and below 0.5 for loss robust"
        _require("label_smoothing", share, 0 < share < 0.5, meaning)
    elif trainer == "dpo":
        if share is not None:
            raise ValueError(
                f"label_smoothing: loss {full['loss']} has no use for label_smoothing {share}; "
                "remove it or set it to null, or set loss to robust"
            )
    else:
        full["label_smoothing"] = None


def _reward_settings(given: Mapping[str, Any]) -> RewardSettings:
    """The settings that a mapping of their keys gives.

    Raises:
        ValueError: a key is missing.
    """
    required = [item.name for item in fields(RewardSettings) if item.default is MISSING]
    if missing := [name for name in required if given.get(name) is None]:
        raise ValueError(f"training settings: {missing[0]!r} is missing; set it for grpo")
    return RewardSettings(**{**given, "stop": tuple(given.get("stop", ()))})


def check_rewards(settings: Mapping[str, Any]) -> None:
    """Check the settings of a training by reward that depend on each other.

    Raises:
        ValueError: a group of one; an update that is no whole number of groups; or stage 3 of ZeRO,
            where each sampled token would gather all weights.
    """
    samples, batch = settings["samples"], settings["global_batch_size"]
    _require("samples", samples, samples >= 2, "at least 2, since they are compared")
    _require("temperature", settings["temperature"], settings["temperature"] > 0, "above 0")
    if batch % samples:
        raise ValueError(
            f"global_batch_size: global_batch_size {batch} is not a multiple of samples {samples}, "
            "and a step takes whole groups of answers; change one of them"
        )
    if zero_of(settings).stage == 3:
        raise ValueError(
            "deepspeed: grpo does not sample under stage 3 of ZeRO, which spreads the weights; use "
            "config/deepspeed/zero2.json or leave it out"
        )


def _lora_shape(given: Mapping[str, Any]) -> LoraShape:
    """The shape that a mapping of its keys gives; `dropout` and `target_modules` are optional."""
    lora = {"dropout": 0.0, "target_modules": PROJECTIONS, **given}
    keys = [item.name for item in fields(LoraShape)]
    if set(lora) != set(keys):
        raise ValueError(f"lora: has keys {sorted(lora)}; give {', '.join(keys)}")
    return LoraShape(**{**lora, "target_modules": tuple(sorted(lora["target_modules"]))})


def _check_batch(full: Mapping[str, Any]) -> None:
    """Check that whole micro-batches on all processes make up the global batch."""
    at_once = full["per_device_batch_size"] * full["processes"]
    if full["global_batch_size"] % at_once:
        rows, processes = full["per_device_batch_size"], full["processes"]
        what = f"per_device_batch_size {rows}"
        what += f" x processes {processes} = {at_once}" if processes > 1 else ""
        raise ValueError(
            f"global_batch_size: global_batch_size {full['global_batch_size']} is not a multiple "
            f"of {what}; change one of them"
        )


def _require(key: str, value: Any, valid: bool, meaning: str) -> None:
    if not valid:
        raise ValueError(f"{key}: {value!r} must be {meaning}")


def most_processes(settings: Mapping[str, Any], gpus: int) -> int:
    """The most processes, at most one for each GPU, that divide the global batch evenly."""
    batch, rows = settings["global_batch_size"], settings["per_device_batch_size"]
    return max((n for n in range(1, gpus + 1) if batch % (n * rows) == 0), default=1)
