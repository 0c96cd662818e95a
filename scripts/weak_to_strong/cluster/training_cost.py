"""What one training computes, moves and keeps: FLOPs, seconds and bytes.

Formulas are for Llama-shaped models. They leave out attention's own operations, which grow with the
square of the length: some per cent at the paper's lengths. Eight small trainings on a CPU took 1.26
to 1.44 times the FLOPs that the formulas say, 0.94 to 1.69 times the memory, and 1.00 to 1.01 times
the disk (benchmarks/plan_check.csv). No GPU has been measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from weak_to_strong.cluster.assumptions import DEVICE_OVERHEAD, Device
from weak_to_strong.cluster.generation_cost import decode_seconds, prefill_seconds
from weak_to_strong.cluster.model_shape import BYTES, FLOAT32, HALF, Shape
from weak_to_strong.training.settings import (
    PREFERENCE_TRAINERS,
    PROJECTIONS,
    REFERENCE_TRAINERS,
    REWARD_TRAINERS,
    Zero,
    zero_of,
)

#: Bytes of a weight in NF4 with double quantisation: 4 bits, and 0.127 for the constants of its
#: block of 64 (Dettmers et al., arXiv 2305.14314, section 3, "Double Quantization").
NF4 = (4 + 8 / 64 + 32 / (64 * 256)) / 8
#: Bytes that an AdamW update moves for a weight: four float32 numbers read, three written.
UPDATE_BYTES = 7 * FLOAT32
#: Float32 copies of a micro-batch's logits that live at once: logits, softmax, and its gradient.
LOGIT_COPIES = 3
#: Bytes that a Llama block keeps of a token for its backward pass: factors of `hidden`, `key_value`
#: and `intermediate`, by dtype and kind of training. tests/training/test_train_memory_real.py
#: measures them. In float32 without LoRA they are the inputs of norms and projections, queries,
#: keys, values and the parts of the MLP (Korthikanti et al., arXiv 2205.05198, section 4.1, count
#: so for GPT), and no attention scores. LoRA adds the dropped-out input of each adapter. Norms and
#: autocasting in 16 bits add copies, but DeepSpeed trains weights of 16 bits without autocasting.
_BLOCK_BYTES = {
    ("float32", "full"): (32, 8, 16),
    ("float32", "lora"): (64, 8, 20),
    ("bfloat16", "lora"): (48, 4, 12),
    ("bfloat16", "full"): (30, 4, 8),
    ("bfloat16", "deepspeed"): (20, 4, 8),
}


#: Passes of KTO without gradients: the rows and their mismatched twins with the reference, and the
#: twins with the trained model.
KTO_PASSES = 3


@dataclass(frozen=True)
class TrainingCost:
    """One training, as far as its cost depends on it.

    Attributes:
        shape: sizes of the base model.
        trainer: one of `settings.TRAINERS`. A row of a preference trainer has two sequences; one of
            GRPO, a question, has as many as `samples`, which it writes itself, one token after
            another, before it trains on them. DPO
            (Rafailov et al., arXiv 2305.18290) and KTO have a reference model; ORPO has none (Hong
            et al., arXiv 2403.07691). KTO also passes each sequence's mismatched twin through both
            models (Ethayarajh et al., arXiv 2402.01306, section 4.1).
        settings: as of `Graph.training_settings`.
        zero: what the DeepSpeed file spreads over the devices and offloads to their hosts.
    """

    shape: Shape
    trainer: str
    settings: Mapping[str, Any]
    zero: Zero

    @classmethod
    def of(cls, shape: Shape, trainer: str, settings: Mapping[str, Any]) -> TrainingCost:
        """The cost of a training whose DeepSpeed file, if it has one, can be read."""
        return cls(shape, trainer, settings, zero_of(settings))

    def for_rows(self, rows: float) -> TrainingCost:
        """The same training, with the number of passes that `max_steps` makes as `epochs`."""
        steps = self.settings.get("max_steps")
        if not steps:
            return self
        if self.by_reward:
            rows *= self.sequences  # a step counts answers
        passes = steps * self.settings["global_batch_size"] / rows
        return replace(self, settings={**self.settings, "epochs": passes})

    # --- weights ---------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether all weights are trained, and not a LoRA adapter."""
        return self.settings["adapter"] == "full"

    @property
    def has_reference(self) -> bool:
        """Whether a frozen model stands beside the trained one."""
        if self.by_reward:
            return self.settings["beta"] > 0
        return self.trainer in REFERENCE_TRAINERS

    @property
    def by_reward(self) -> bool:
        """Whether the training samples the answers that it learns from."""
        return self.trainer in REWARD_TRAINERS

    @property
    def sequences(self) -> int:
        """Number of sequences of a row."""
        if self.by_reward:
            return self.settings["samples"]
        return 2 if self.trainer in PREFERENCE_TRAINERS else 1

    @property
    def trained_weights(self) -> int:
        """Number of weights that training changes."""
        if self.full:
            return self.shape.parameters
        # Without `lora` the rank is the configuration's default.
        lora = self.settings.get("lora") or {"r": 8}
        return self.shape.adapter_weights(lora["r"], lora.get("target_modules", PROJECTIONS))

    @property
    def loaded_width(self) -> int:
        """Bytes of a base weight as training loads it (`training.load_model`)."""
        half = self.settings["dtype"] == "bfloat16"
        return HALF if half and (not self.full or bool(self.settings.get("deepspeed"))) else FLOAT32

    @property
    def weight_bytes(self) -> float:
        """Bytes of the base model's weights as training holds them.

        With `quantization`, embeddings and output layer keep their format. So does one projection
        at a time, while it is used: the largest counts.
        """
        shape, width = self.shape, self.loaded_width
        if not self.settings.get("quantization"):
            return float(width * shape.parameters)
        kept = min(shape.parameters, 2 * shape.vocabulary * shape.hidden)
        whole = kept + shape.hidden * shape.intermediate
        return NF4 * (shape.parameters - kept) + width * whole

    @property
    def saved_bytes(self) -> int:
        """Bytes of the model that training publishes: an adapter, or all weights."""
        half = self.settings["dtype"] == "bfloat16"
        # DeepSpeed keeps an adapter in the format of its base.
        half = half and (self.full or bool(self.settings.get("deepspeed")))
        return self.trained_weights * (HALF if half else FLOAT32)

    # --- time ------------------------------------------------------------------------------

    @property
    def _reference_passes(self) -> int:
        """Passes over the rows without gradients: those of the reference model, and KTO's."""
        if self.trainer == "kto":
            return KTO_PASSES * self.settings["epochs"]
        if self.by_reward:
            return self.settings["epochs"] * self.has_reference
        if self.trainer != "dpo":
            return 0
        return self.settings["epochs"] if self.settings.get("precompute_ref") is False else 1

    @property
    def flops_per_token(self) -> float:
        """FLOPs of one pass of the trained model: 2 for each weight and step of the pass (Kaplan et
        al., arXiv 2001.08361, section 2.1).

        The steps are forward, backward through the activations, backward to the weights (not with
        LoRA, whose own weights are too few to count), and forward once more with checkpointing.
        """
        steps = 2 + self.full + bool(self.settings.get("gradient_checkpointing"))
        return 2.0 * self.shape.parameters * steps

    def flops(self, tokens: float) -> float:
        """FLOPs of the training; a reference adds forward passes. Sampling is not counted.

        Args:
            tokens: of one epoch; of all sequences, each with its prompt.
        """
        reference = 2.0 * self.shape.parameters * self._reference_passes
        return tokens * (self.settings["epochs"] * self.flops_per_token + reference)

    def sampling_seconds(
        self, prompts: float, answers: float, context: float, device: Device
    ) -> float:
        """Device-seconds of sampling in a training by reward, in all epochs; else 0.

        The answers of an update are written at once. transformers reads a prompt again for each of
        its samples.

        Args:
            prompts: tokens of the prompts of one epoch, each counted for each of its samples.
            answers: tokens of the answers of one epoch.
            context: mean number of tokens that a step looks back on.
            device: the accelerator.
        """
        if not self.by_reward:
            return 0.0
        at_once = replace(device, batch=min(device.batch, self.settings["global_batch_size"]))
        epoch = prefill_seconds(self.shape, prompts, device)
        epoch += decode_seconds(self.shape, answers, context, at_once)
        return self.settings["epochs"] * epoch

    def gathered_bytes(self, rows: float) -> float:
        """Bytes of weights that all devices together receive under ZeRO-3, for rows of one epoch.

        Each micro-batch gathers the weights for its forward pass, for its backward pass (with the
        recomputation) and for the reference (Rajbhandari et al., arXiv 1910.02054, section 7).
        """
        micro_batches = ceil(rows / self.settings["per_device_batch_size"])
        gathers = 2 * self.settings["epochs"] + self._reference_passes
        return float(micro_batches * gathers * self.shape.size)

    def seconds(self, rows: float, tokens: float, device: Device) -> float:
        """Device-seconds without the start: of arithmetic or of gathering weights, the slower one.

        ZeRO-3 gathers weights from the other devices where one is not enough, or from the host
        where they are offloaded to it. Bringing weights from 4 bits to 16 is not counted.

        Args:
            rows: of one epoch.
            tokens: as of `flops`.
            device: the accelerator.
        """
        seconds = self.flops(tokens) / (device.flops * device.training_utilisation)
        spread = device.count_for(self.shape.size) > 1 or self.zero.offload_weights
        if self.zero.stage == 3 and spread:
            host = self.zero.offload_weights
            link = device.host_link_bandwidth if host else device.link_bandwidth
            seconds = max(seconds, self.gathered_bytes(rows) / (link * device.link_utilisation))
        return seconds

    def host_update_seconds(self, rows: float, device: Device) -> float:
        """Seconds in which a host updates offloaded full weights, while all devices wait.

        The memory of the host bounds AdamW. An adapter's weights are too few to count.

        Args:
            rows: of one epoch.
            device: the accelerator.
        """
        if self.by_reward:
            rows *= self.sequences  # an update counts answers
        if not (self.full and self.zero.offload_optimizer):
            return 0.0
        updates = self.settings["epochs"] * ceil(rows / self.settings["global_batch_size"])
        return updates * UPDATE_BYTES * self.shape.parameters / device.host_memory_bandwidth

    # --- memory ----------------------------------------------------------------------------

    @property
    def state_bytes(self) -> float:
        """Bytes of weights, gradients, AdamW's two moments and the reference, on all devices.

        Full training takes 16 bytes a weight (Rajbhandari et al., arXiv 1910.02054, section 3.1):
        DeepSpeed has weights and gradients of 16 bits beside a float32 copy, others have both in
        32 bits. Autocasting without DeepSpeed keeps a copy of 16 bits too. LoRA takes 16 bytes for
        each weight of the adapter beside the frozen ones. A reference is a frozen adapter, or a
        second copy of full weights.
        """
        weights, trained = self.weight_bytes, self.trained_weights
        if not self.full:
            reference = FLOAT32 * trained if self.has_reference else 0
            return weights + 16.0 * trained + reference
        autocast = self.settings["dtype"] == "bfloat16" and not self.settings.get("deepspeed")
        reference = weights if self.has_reference else 0
        return (16.0 + (HALF if autocast else 0)) * trained + reference

    @property
    def block_bytes(self) -> int:
        """Bytes that one block keeps of one token for its backward pass."""
        dtype, kind = self.settings["dtype"], self.settings["adapter"]
        if (dtype, kind) == ("bfloat16", "full") and self.settings.get("deepspeed"):
            kind = "deepspeed"
        hidden, key_value, intermediate = _BLOCK_BYTES[dtype, kind]
        shape = self.shape
        return (
            hidden * shape.hidden + key_value * shape.key_value + intermediate * shape.intermediate
        )

    @property
    def activation_bytes(self) -> float:
        """Bytes of one micro-batch on one device, activations and logits, for rows of `max_length`.

        All blocks keep `block_bytes`. With gradient checkpointing they keep their inputs, and one
        block at a time keeps the rest.
        """
        sequences = self.settings["per_device_batch_size"]
        if not self.by_reward:
            sequences *= self.sequences
        kept = self.shape.layers * self.block_bytes
        if self.settings.get("gradient_checkpointing"):
            inputs = self.shape.layers * self.shape.hidden * BYTES[self.settings["dtype"]]
            kept = inputs + self.block_bytes
        logits = LOGIT_COPIES * FLOAT32 * self.shape.vocabulary
        return float(sequences * self.settings["max_length"] * (kept + logits))

    def sampling_bytes(self, gpus: int) -> float:
        """Bytes in which each of some GPUs samples the answers of an update; 0 without sampling.

        Keys and values of all its sequences at `max_length`, and the logits of their next tokens.
        """
        if not self.by_reward:
            return 0.0
        width = BYTES[self.settings["dtype"]] / HALF
        token = width * self.shape.cache_per_token
        logits = LOGIT_COPIES * FLOAT32 * self.shape.vocabulary
        sequences = ceil(self.settings["global_batch_size"] / gpus)
        return sequences * (self.settings["max_length"] * token + logits)

    def work_bytes(self, gpus: int) -> float:
        """Bytes beside the model on each of some GPUs: of a micro-batch or of sampling."""
        return max(self.activation_bytes, self.sampling_bytes(gpus))

    @property
    def _frozen_bytes(self) -> float:
        """Bytes of the base weights, and of the second copy that a full reference is."""
        return self.weight_bytes * (1 + (self.full and self.has_reference))

    def gpu_bytes(self, gpus: int) -> float:
        """Bytes of weights, gradients, moments and reference on each of some GPUs.

        Stage 3 of ZeRO spreads all of them, and gathers the weights of two blocks: the present one,
        and the next one or the output layer, whichever is larger. Stages 1 and 2 leave the weights
        whole (stage 1 the gradients too, which are few with LoRA). Stage 0 leaves everything whole
        (Rajbhandari et al., arXiv 1910.02054, figure 1). What is offloaded is in `host_bytes`.
        """
        weights, whole = self.weight_bytes, self._frozen_bytes
        if self.zero.stage == 0:
            return self.state_bytes
        if self.zero.stage == 3:
            output = weights / self.shape.parameters * self.shape.vocabulary * self.shape.hidden
            block = weights / self.shape.layers
            on_gpu = 0 if self.zero.offload_weights else whole / gpus
            on_gpu += block + max(block, output)
        else:
            whole += weights * (self.full and self.zero.stage == 1)
            on_gpu = whole
        return on_gpu + (0 if self.zero.offload_optimizer else (self.state_bytes - whole) / gpus)

    @property
    def host_bytes(self) -> float:
        """Bytes that all processes together keep in host memory of what they offload.

        For each trained weight DeepSpeed keeps float32 weights, gradients and moments there, and
        the gradients once more in the weights' format (`deepspeed/runtime/zero/stage3.py`:
        `fp32_partitioned_groups_flat` and `grad_partitions_flat_buffer`).
        """
        size = 0.0
        if self.zero.offload_optimizer:
            size += (16.0 + self.weight_bytes / self.shape.parameters) * self.trained_weights
        if self.zero.offload_weights:
            size += self._frozen_bytes
        return size

    def memory(self, gpus: int) -> float:
        """Bytes that the training takes of each of some GPUs: state, work, libraries."""
        return self.gpu_bytes(gpus) + self.work_bytes(gpus) + DEVICE_OVERHEAD
