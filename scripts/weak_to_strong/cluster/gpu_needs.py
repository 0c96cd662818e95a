"""What a training or a generation round needs of a cluster: GPUs, nodes, memory, CPUs and time.

Needs follow from the model's size, the method and the site's GPUs (`site_file.Site`), so that no
rule and no profile has a number of GPUs typed into it. Formulas are those of `estimates`, of which
an estimate of the plan is made, and here also the memory of training:

    weights and their optimiser   bytes a weight, see `state_bytes`
    activations                   bytes a token and block, see `activation_bytes`
    logits                        of a whole micro-batch, in float32

They are meant to be safe, not close: what is short of memory fails after hours of queueing, what
has too much waits a little longer. `--set-resources` overrides each of them.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod
from pathlib import Path
from typing import Any

from weak_to_strong.cluster.estimates import (
    Device,
    Shape,
    adapter_weights,
    decode_seconds,
    devices_of,
    host_update_seconds,
    prefill_seconds,
    training_seconds,
    weight_bytes,
)
from weak_to_strong.cluster.site_file import Site
from weak_to_strong.training.settings import PROJECTIONS, Zero, zero_of

_FLOAT32 = 4
_WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2}

#: Bytes of device memory that CUDA, NCCL and a library's own buffers take.
DEVICE_OVERHEAD = 2e9
#: Share of a device's memory that can be counted on; the rest is lost between allocations.
USABLE_SHARE = 0.9
#: Float32 copies of a micro-batch's logits that live at once: they, their softmax, its gradient.
LOGIT_COPIES = 3
#: Bytes of host memory of a process with torch and CUDA, or with vLLM and its KV cache on a CPU.
PROCESS_MEMORY = 5e9
#: Bytes of host memory of the Snakemake processes around a job's script.
SNAKEMAKE_MEMORY = 0.6e9
#: Walltime over the estimate, which is of a GPU that is well used.
SAFETY = 3.0
#: Shortest walltime, in minutes: imports and compilation do not shrink with the model.
SHORTEST_RUNTIME = 30
#: Rows of a training set, or questions of a split, where the table is not there yet.
UNKNOWN_ROWS = 10_000
#: Mean row of a training set as a share of `max_length`, for the time. For the memory the longest
#: row counts, which may fill `max_length`: rows are never cut.
MEAN_ROW = 0.25
#: Mean share of `max_tokens` that an answer has: the paper's are a tenth of it.
ANSWER_SHARE = 0.25
#: Seconds that a generation round may take before it gets another engine.
ROUND_SECONDS = 2 * 3600.0
#: Largest share of a training that goes into writing checkpoints.
CHECKPOINT_SHARE = 0.05
#: Least minutes between checkpoints by time.
CHECKPOINT_MINUTES = 10


@dataclass(frozen=True)
class Needs:
    """What a job asks for.

    Attributes:
        gpus: on all nodes together.
        nodes: on each of which it has the same number of GPUs.
        mem_mb: host memory on each node, in 10**6 bytes.
        cpus: on each node.
        runtime: walltime in minutes.
        tensor_parallel_size: GPUs that share an engine's weights; 1 for a training.
        checkpoint_minutes: time between checkpoints of a training; 0 for a generation round.
    """

    gpus: int
    nodes: int
    mem_mb: int
    cpus: int
    runtime: int
    tensor_parallel_size: int = 1
    checkpoint_minutes: int = 0


# --- sizes of a model --------------------------------------------------------------------------


def count_parameters(folder: Path) -> int:
    """Number of weights in the safetensors files of a folder, by their headers alone.

    Raises:
        FileNotFoundError: no such folder, or no such file in it.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(2, "no safetensors files", str(folder))
    total = 0
    for file in files:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length))
        total += sum(
            prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__"
        )
    return total


def rough_shape(parameters: int) -> Shape:
    """Shape of a model of which only the number of weights is known.

    Taken to have blocks of 12 h**2 weights that are 128 times as wide as they are many, and keys
    and values as wide as queries: right for Llama 2 7B (32 blocks of 4096), and no smaller in
    memory than newer models, which share keys and values.
    """
    layers = max(1, round((parameters / (12 * 128**2)) ** (1 / 3)))
    hidden = 128 * layers
    return Shape(parameters, layers, hidden, hidden, round(hidden * 8 / 3))


def config_shape(config: Mapping[str, Any], parameters: int) -> Shape:
    """Shape by a model's config.json; what that does not say is as in `rough_shape`.

    Args:
        config: content of config.json.
        parameters: number of weights.
    """
    rough = rough_shape(parameters)
    hidden = config.get("hidden_size", rough.hidden)
    heads = config.get("num_attention_heads") or 1
    head = config.get("head_dim") or hidden // heads
    return Shape(
        parameters=parameters,
        layers=config.get("num_hidden_layers", rough.layers),
        hidden=hidden,
        key_value=head * (config.get("num_key_value_heads") or heads),
        intermediate=config.get("intermediate_size", rough.intermediate),
        vocabulary=config.get("vocab_size", rough.vocabulary),
    )


def model_shape(
    entry: Mapping[str, Any],
    folder: str | Path | None,
    known: Mapping[str, Mapping[str, int]] | None = None,
) -> Shape:
    """Sizes of a base model: by its config.json, else as a known one, else roughly.

    Args:
        entry: of the configuration's `models`; `parameters` is believed where it is given.
        folder: of the model, as far as it is there (`path`, or where a download goes).
        known: widths of models by the key `paper` of their entry, as in `estimates.Assumptions`.

    Raises:
        FileNotFoundError: neither `parameters` nor the model's files are there.
    """
    folder = Path(folder) if folder else None
    there = folder is not None and (folder / "config.json").is_file()
    if "parameters" in entry:
        parameters = entry["parameters"]
    elif folder is None:
        raise FileNotFoundError(2, "the model's size is not known yet")
    else:
        parameters = count_parameters(folder)
    if not there:
        widths = (known or {}).get(entry.get("paper"))
        return Shape(parameters, **widths) if widths else rough_shape(parameters)
    return config_shape(json.loads((folder / "config.json").read_text("utf-8")), parameters)


# --- memory of a training ----------------------------------------------------------------------


def _adapter_size(shape: Shape, settings: Mapping[str, Any]) -> int:
    # A run without `lora` continues an adapter; of the default rank, unless that was changed.
    lora = settings.get("lora") or {"r": 8}
    modules = lora.get("target_modules", PROJECTIONS)
    return adapter_weights(shape, lora["r"], modules)


def state_bytes(shape: Shape, trainer: str, settings: Mapping[str, Any]) -> float:
    """Bytes of weights, gradients, AdamW's two moments and DPO's reference, on all devices.

    Full training takes 16 bytes a weight (Rajbhandari et al., arXiv 1910.02054, section 3.1),
    whether weights and gradients have 16 bits beside a float32 copy (DeepSpeed) or 32 bits; without
    DeepSpeed autocasting keeps a 16-bit copy as well. LoRA takes 16 bytes for each of the adapter's
    weights beside the frozen ones, which `quantization` makes smaller (`estimates.weight_bytes`).

    Args:
        shape: of the base model.
        trainer: "sft", "dpo" or "orpo"; only dpo has a reference: a frozen adapter, or a second
            copy of full weights.
        settings: as of `training_settings`.
    """
    weights = weight_bytes(shape, settings)
    if settings["adapter"] == "lora":
        adapter = _adapter_size(shape, settings)
        reference = _FLOAT32 * adapter if trainer == "dpo" else 0
        return weights + 16.0 * adapter + reference
    cast = 2 if settings["dtype"] == "bfloat16" and not settings.get("deepspeed") else 0
    reference = weights if trainer == "dpo" else 0
    return (16.0 + cast) * shape.parameters + reference


#: Bytes that a Llama block keeps of a token for its backward pass: factors of `hidden`, `key_value`
#: and `intermediate`, as tests/training/test_memory_real.py measures them. In float32 without LoRA
#: they are the inputs of norms and projections, queries, keys, values and the parts of the MLP
#: (Korthikanti et al., arXiv 2205.05198, section 4.1, count so for GPT), and no attention scores.
#: LoRA adds the dropped-out input of each adapter; 16 bits, copies in norms and in autocasting.
_BLOCK_BYTES = {
    ("float32", "full"): (32, 8, 16),
    ("float32", "lora"): (64, 8, 20),
    ("bfloat16", "lora"): (48, 4, 12),
    ("bfloat16", "full"): (30, 4, 8),
    ("bfloat16", "deepspeed"): (20, 4, 8),
}


def block_bytes(shape: Shape, settings: Mapping[str, Any]) -> int:
    """Bytes that one block keeps of one token for its backward pass."""
    dtype, kind = settings["dtype"], settings["adapter"]
    if (dtype, kind) == ("bfloat16", "full") and settings.get("deepspeed"):
        kind = "deepspeed"  # weights of 16 bits, and no autocasting
    hidden, key_value, intermediate = _BLOCK_BYTES[dtype, kind]
    return hidden * shape.hidden + key_value * shape.key_value + intermediate * shape.intermediate


def activation_bytes(shape: Shape, trainer: str, settings: Mapping[str, Any]) -> float:
    """Bytes of one micro-batch on one device: activations and logits.

    All blocks keep what `block_bytes` says; with gradient checkpointing they keep their input, and
    one at a time all of it.

    Args:
        shape: of the base model.
        trainer: "sft", "dpo" or "orpo"; a row of pairs is two sequences.
        settings: as of `training_settings`. All sequences are taken to fill `max_length`.
    """
    sequences = settings["per_device_batch_size"] * (1 if trainer == "sft" else 2)
    tokens = sequences * settings["max_length"]
    block = block_bytes(shape, settings)
    kept = shape.layers * block
    if settings.get("gradient_checkpointing"):
        kept = shape.layers * shape.hidden * _WIDTHS[settings["dtype"]] + block
    logits = LOGIT_COPIES * _FLOAT32 * shape.vocabulary
    return float(tokens * (kept + logits))


def usable_bytes(site: Site) -> float:
    """Bytes of a GPU that weights and activations may fill."""
    return USABLE_SHARE * site.gpu_memory - DEVICE_OVERHEAD


def bytes_of_each(
    shape: Shape, trainer: str, settings: Mapping[str, Any], gpus: int, zero: Zero
) -> float:
    """Bytes of weights, gradients, moments and reference on each of some GPUs.

    Stage 3 of ZeRO spreads all of them, and has the weights of two blocks gathered: the present and
    the next one, or the output layer where that is larger. Stages 1 and 2 leave the weights whole
    (stage 1 also the gradients, which are as good as left out with LoRA), stage 0 everything (arXiv
    1910.02054, figure 1). What is offloaded takes nothing on a GPU (see `host_bytes`).
    """
    state, weights = state_bytes(shape, trainer, settings), weight_bytes(shape, settings)
    full = settings["adapter"] == "full"
    if zero.stage == 0:
        return state
    frozen = weights * (1 + (full and trainer == "dpo"))
    if zero.stage == 3:
        held = 0 if zero.offload_weights else frozen / gpus
        output = weights / shape.parameters * shape.vocabulary * shape.hidden
        held += weights / shape.layers + max(weights / shape.layers, output)
    else:
        frozen += weights * (full and zero.stage == 1)
        held = frozen
    return held + (0 if zero.offload_optimizer else (state - frozen) / gpus)


def host_bytes(shape: Shape, trainer: str, settings: Mapping[str, Any], zero: Zero) -> float:
    """Bytes that all processes together keep in host memory of what they offload.

    For each trained weight DeepSpeed has there float32 weights, gradients and moments, and the
    gradients once more in the weights' format (`deepspeed/runtime/zero/stage3.py`:
    `fp32_partitioned_groups_flat` and `grad_partitions_flat_buffer`).
    """
    weights, full = weight_bytes(shape, settings), settings["adapter"] == "full"
    trained = shape.parameters if full else _adapter_size(shape, settings)
    held = 0.0
    if zero.offload_optimizer:
        held += (16.0 + weights / shape.parameters) * trained
    if zero.offload_weights:
        held += weights * (1 + (full and trainer == "dpo"))
    return held


def training_memory(shape: Shape, trainer: str, settings: Mapping[str, Any], gpus: int) -> float:
    """Bytes that a training takes of each of some GPUs: state, a micro-batch, and libraries."""
    held = bytes_of_each(shape, trainer, settings, gpus, zero_of(settings))
    return held + activation_bytes(shape, trainer, settings) + DEVICE_OVERHEAD


def generation_memory(
    shape: Shape, engine: Mapping[str, Any], context: float, size: int, device: Device
) -> float:
    """Bytes that an engine's weights and keys and values take of each of its GPUs.

    vLLM then fills with its cache what is left.

    Args:
        shape: of the base model.
        engine: settings of the round; `dtype` counts.
        context: mean tokens of a sequence.
        size: GPUs of the engine.
        device: of which `batch` counts, the sequences that are written at once.
    """
    ratio = _WIDTHS[engine["dtype"]] / 2
    held = shape.size + device.batch * context * shape.cache_per_token
    return ratio * held / size + DEVICE_OVERHEAD


def training_gpus(shape: Shape, trainer: str, settings: Mapping[str, Any], site: Site) -> int:
    """GPUs on which a training fits: the least number, its global batch unchanged.

    Without DeepSpeed each process has the whole model: 1, or it does not fit. With DeepSpeed the
    state is spread over as many as it takes: a power of two on one node, then whole nodes. What is
    offloaded has to fit into the memory of their hosts.

    Raises:
        ValueError: it does not fit; says what would help.
    """
    zero = zero_of(settings)
    state = state_bytes(shape, trainer, settings)
    batch = activation_bytes(shape, trainer, settings)
    room = usable_bytes(site)
    what = f"{settings['adapter']} training of {shape.parameters / 1e9:.3g} billion weights"
    gb = f"{site.gpu_memory / 1e9:.3g} GB"
    if not settings.get("deepspeed"):
        if state + batch <= room:
            return 1
        least = {**settings, "per_device_batch_size": 1, "gradient_checkpointing": True}
        alone = state + activation_bytes(shape, trainer, least) <= room
        small = settings["adapter"] == "lora" and not settings.get("quantization")
        raise ValueError(
            f"config key `training.{trainer}.{'per_device_batch_size' if alone else 'deepspeed'}`: "
            f"{what} takes about {state / 1e9:.0f} GB of weights and optimiser and "
            f"{batch / 1e9:.0f} GB of activations, too much for a GPU of {gb}; "
            + (
                "lower it, or set gradient_checkpointing"
                if alone
                else "set it to config/deepspeed/zero3.json"
                + (", or set quantization to nf4" if small else "")
            )
        )
    rows = settings["global_batch_size"] // settings["per_device_batch_size"]
    offloaded = host_bytes(shape, trainer, settings, zero)
    for gpus in _steps(site):
        held = bytes_of_each(shape, trainer, settings, gpus, zero)
        hosts = nodes_of(gpus, site) * site.node_memory
        if held + batch <= room and offloaded <= hosts and rows % gpus == 0:
            return gpus
    further = "" if zero.stage == 3 else "take stage 3 of ZeRO, "
    aside = f" with {offloaded / 1e9:.0f} GB offloaded to their hosts" if offloaded else ""
    raise ValueError(
        f"config key `training.{trainer}`: {what} with global_batch_size "
        f"{settings['global_batch_size']} and per_device_batch_size "
        f"{settings['per_device_batch_size']} does not fit on {_steps(site)[-1]} GPUs of {gb}"
        f"{aside}; {further}set gradient_checkpointing, lower per_device_batch_size, or raise "
        "gpu.max_nodes in the site file"
    )


def _steps(site: Site) -> list[int]:
    """Numbers of GPUs that a job may have: powers of two on a node and all of it; whole nodes."""
    counts, count = [], 1
    while count < site.gpus_per_node:
        counts.append(count)
        count *= 2
    return [*counts, *(site.gpus_per_node * nodes for nodes in range(1, site.max_nodes + 1))]


def nodes_of(gpus: int, site: Site) -> int:
    """Nodes that a number of GPUs takes."""
    return ceil(gpus / site.gpus_per_node)


# --- needs -------------------------------------------------------------------------------------


def _memory(need: float, site: Site, attempt: int) -> int:
    """Host memory of a node in 10**6 bytes, more with each attempt, at most all of it."""
    return ceil(min(attempt * (need + SNAKEMAKE_MEMORY), site.node_memory) / 1e6)


def _runtime(seconds: float, site: Site, attempt: int) -> int:
    """Walltime in minutes, more with each attempt, at most the site's."""
    minutes = max(SHORTEST_RUNTIME, ceil(SAFETY * seconds / 60))
    return min(attempt * minutes, site.max_runtime)


def training_needs(
    shape: Shape,
    trainer: str,
    settings: Mapping[str, Any],
    site: Site,
    device: Device,
    *,
    rows: int | None = None,
    attempt: int = 1,
    gpus: int | None = None,
    nodes: int | None = None,
) -> Needs:
    """Needs of one training.

    Host memory: a process has the weights before it moves them to its GPU; those that it quantises
    go there one by one. Under DeepSpeed the processes of a node map the same files, and the first
    gathers the whole model to save it. What is offloaded comes on top.

    Args:
        shape: of the base model.
        trainer: "sft", "dpo" or "orpo".
        settings: of the node, as in the configuration.
        site: the cluster.
        device: the accelerator, for the time; its memory is the site's.
        rows: of the training set; None while that is not there.
        attempt: 1, and one more at each retry: memory and time grow with it.
        gpus: override of the number of GPUs.
        nodes: override of the number of nodes.

    Raises:
        ValueError: it does not fit on the site's GPUs; not with `gpus`.
    """
    gpus = gpus or training_gpus(shape, trainer, settings, site)
    nodes = nodes or nodes_of(gpus, site)
    here = ceil(gpus / nodes)
    weights = weight_bytes(shape, settings)
    loaded = 2 * weights if settings.get("deepspeed") else here * weights
    loaded += host_bytes(shape, trainer, settings, zero_of(settings)) * here / gpus
    rows = UNKNOWN_ROWS if rows is None else rows
    tokens = rows * MEAN_ROW * settings["max_length"] * (1 if trainer == "sft" else 2)
    device = replace(device, memory=site.gpu_memory)
    seconds = training_seconds(shape, rows, tokens, trainer, settings, device) / gpus
    seconds += host_update_seconds(shape, rows, settings, device) / nodes
    read = weight_bytes(shape, {**settings, "quantization": None})
    seconds += device.start_seconds + read / device.load_bandwidth
    full = settings["adapter"] == "full"
    trained = shape.parameters if full else _adapter_size(shape, settings)
    writing = 12 * trained / device.load_bandwidth  # float32 weights and two moments
    return Needs(
        gpus=gpus,
        nodes=nodes,
        mem_mb=_memory(here * PROCESS_MEMORY + loaded, site, attempt),
        cpus=here * site.cpus_per_gpu,
        runtime=_runtime(seconds, site, attempt),
        checkpoint_minutes=max(CHECKPOINT_MINUTES, ceil(writing / CHECKPOINT_SHARE / 60)),
    )


def tensor_parallel_size(
    shape: Shape, engine: Mapping[str, Any], site: Site, device: Device
) -> int:
    """GPUs that share an engine's weights: the least power of two that leaves room for the cache.

    `estimates.devices_of` decides, for the width of the engine's `dtype`; besides, the KV cache
    has to hold eight sequences of `max_model_len` tokens.

    Raises:
        ValueError: more than a node has; engines are not spread over nodes.
    """
    ratio = _WIDTHS[engine["dtype"]] / 2
    wide = replace(shape, parameters=round(ratio * shape.parameters))
    size = devices_of(wide, replace(device, memory=site.gpu_memory))
    cache = 8 * ratio * engine["max_model_len"] * shape.cache_per_token
    while wide.size + cache > size * usable_bytes(site):
        size *= 2
    if size > site.gpus_per_node:
        raise ValueError(
            f"config key `engine.dtype`: {shape.parameters / 1e9:.3g} billion weights in "
            f"{engine['dtype']} take {size} GPUs of {site.gpu_memory / 1e9:.3g} GB, a node has "
            f"{site.gpus_per_node}; set bfloat16, or use larger nodes"
        )
    return size


def generation_needs(
    shape: Shape,
    engine: Mapping[str, Any],
    requests: Sequence[tuple[int | None, int, int]],
    site: Site,
    device: Device,
    *,
    loads: int = 1,
    attempt: int = 1,
    gpus: int | None = None,
    nodes: int | None = None,
    tensor_parallel: int | None = None,
) -> Needs:
    """Needs of a generation round.

    A round gets a further engine for each `ROUND_SECONDS` that it is estimated to take, on one
    node first and then on whole nodes.

    Args:
        shape: of the base model.
        engine: settings of the round: `dtype` and `max_model_len`.
        requests: of each the number of questions (None while the table is not there), samples and
            `max_tokens`.
        site: the cluster.
        device: the accelerator, for the time; its memory is the site's.
        loads: weights that are served one after another; adapters of one base count once.
        attempt: 1, and one more at each retry: memory and time grow with it.
        gpus: override of the number of GPUs.
        nodes: override of the number of nodes.
        tensor_parallel: override of the GPUs of an engine.

    Raises:
        ValueError: an engine does not fit on a node; not with `tensor_parallel`.
    """
    size = tensor_parallel or tensor_parallel_size(shape, engine, site, device)
    tokens = prompts = 0.0
    for rows, samples, longest in requests:
        rows = UNKNOWN_ROWS if rows is None else rows
        tokens += rows * samples * ANSWER_SHARE * longest
        prompts += rows * (engine["max_model_len"] - longest)
    wide = replace(shape, parameters=round(_WIDTHS[engine["dtype"]] / 2 * shape.parameters))
    work = decode_seconds(wide, tokens, engine["max_model_len"] / 2, device)
    work = (work + prefill_seconds(wide, prompts, device)) / size  # of one engine
    if gpus is None:
        engines = max(1, ceil(work / ROUND_SECONDS))
        counts = [count for count in _steps(site) if count >= size]
        gpus = min((count for count in counts if count >= engines * size), default=counts[-1])
    nodes = nodes or nodes_of(gpus, site)
    here = ceil(gpus / nodes)
    engines = max(1, gpus // size)
    start = device.start_seconds + wide.size / device.load_bandwidth
    seconds = work / engines + ceil(loads / engines) * start
    processes = max(1, here // size) * (size + 1)  # an engine's own processes and its parent
    return Needs(
        gpus=gpus,
        nodes=nodes,
        # Weights are mapped, once for all processes of a node.
        mem_mb=_memory(processes * PROCESS_MEMORY / 2 + wide.size, site, attempt),
        cpus=here * site.cpus_per_gpu,
        runtime=_runtime(seconds, site, attempt),
        tensor_parallel_size=size,
    )
