"""What a training or a generation round asks a cluster for: GPUs, nodes, memory, CPUs and time.

Needs follow from the model's size, the method and the site's GPUs (`site_file.Site`), so that no
rule and no profile names a number of GPUs. `training_cost` and `generation_cost` have the formulas,
of which the plan's estimates are made too.

Needs are meant to be safe, not close: a job that lacks memory fails after hours in the queue, and a
job that asks for too much waits a little longer. `--set-resources` overrides each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from weak_to_strong.cluster.assumptions import DEVICE_OVERHEAD, Device
from weak_to_strong.cluster.generation_cost import decode_seconds, prefill_seconds
from weak_to_strong.cluster.model_shape import BYTES, FLOAT32, HALF, Shape
from weak_to_strong.cluster.site_file import Site
from weak_to_strong.cluster.training_cost import TrainingCost

# All of these are assumptions of ours: no GPU has been measured.
#: Share of a device's memory that a job can count on; the rest is lost between allocations.
USABLE_SHARE = 0.9
#: Bytes of host memory of a process with torch and CUDA, or with vLLM and its KV cache on a CPU.
PROCESS_MEMORY = 5e9
#: Bytes of host memory of the Snakemake processes around a job's script.
SNAKEMAKE_MEMORY = 0.6e9
#: Walltime over the estimate, which is for a GPU that is well used.
SAFETY = 3.0
#: Shortest walltime in minutes: imports and compilation do not shrink with the model.
SHORTEST_RUNTIME = 30
#: Rows of a training set, or questions of a split, whose table is not there yet.
UNKNOWN_ROWS = 10_000
#: Length of a mean row as a share of `max_length`, for the time. The memory is for the longest row,
#: which may fill `max_length`: rows are never cut.
MEAN_ROW = 0.25
#: Length of a mean answer as a share of `max_tokens`. The paper's answers take a tenth of it.
ANSWER_SHARE = 0.25
#: Sequences of `max_model_len` tokens that the KV cache of an engine has room for.
CACHED_SEQUENCES = 8
#: Seconds that a generation round may take before it gets another engine.
ROUND_SECONDS = 2 * 3600.0
#: Largest share of a training's time that goes into writing checkpoints.
CHECKPOINT_SHARE = 0.05
#: Shortest time between checkpoints, in minutes.
CHECKPOINT_MINUTES = 10


@dataclass(frozen=True)
class Needs:
    """What a job asks for."""

    gpus: int  # on all nodes together
    nodes: int  # number of nodes, which have the same number of GPUs each
    mem_mb: int  # host memory on each node, in 10**6 bytes
    cpus: int  # on each node
    runtime: int  # walltime in minutes
    tensor_parallel_size: int = 1  # GPUs of a node that share an engine's layers; 1 for a training
    pipeline_parallel_size: int = 1  # nodes that share an engine's layers; 1 for a training
    checkpoint_minutes: int = 0  # time between checkpoints of a training; 0 for a generation round


def gpu_counts(site: Site) -> list[int]:
    """Numbers of GPUs that a job may have: powers of two up to a node, a node, and whole nodes."""
    counts, count = [], 1
    while count < site.gpus_per_node:
        counts.append(count)
        count *= 2
    return [*counts, *(site.gpus_per_node * nodes for nodes in range(1, site.max_nodes + 1))]


def nodes_of(gpus: int, site: Site) -> int:
    """Number of nodes that hold a number of GPUs."""
    return ceil(gpus / site.gpus_per_node)


def usable_bytes(site: Site) -> float:
    """Bytes of a GPU that weights and activations may fill."""
    return USABLE_SHARE * site.gpu_memory - DEVICE_OVERHEAD


def _memory(need: float, site: Site, attempt: int) -> int:
    """Host memory of a node in 10**6 bytes: more with each attempt, at most all of the node's."""
    return ceil(min(attempt * (need + SNAKEMAKE_MEMORY), site.node_memory) / 1e6)


def _runtime(seconds: float, site: Site, attempt: int) -> int:
    """Walltime in minutes: more with each attempt, at most the site's limit."""
    minutes = max(SHORTEST_RUNTIME, ceil(SAFETY * seconds / 60))
    return min(attempt * minutes, site.max_runtime)


# --- trainings ---------------------------------------------------------------------------------


def training_gpus(cost: TrainingCost, site: Site) -> int:
    """The least number of GPUs on which a training fits, with its global batch unchanged.

    Without DeepSpeed each process has the whole model, so one GPU has to do. DeepSpeed spreads the
    model over `gpu_counts`, as far as the number divides the micro-batches of an update. What it
    offloads has to fit into the memory of the hosts.

    Raises:
        ValueError: it does not fit; says what would help.
    """
    settings, room = cost.settings, usable_bytes(site)
    micro_batches = settings["global_batch_size"] // settings["per_device_batch_size"]
    for gpus in gpu_counts(site) if settings.get("deepspeed") else [1]:
        fits = cost.gpu_bytes(gpus) + cost.work_bytes(gpus) <= room
        hosted = cost.host_bytes <= nodes_of(gpus, site) * site.node_memory
        if fits and hosted and micro_batches % gpus == 0:
            return gpus
    spread = settings.get("deepspeed")
    raise ValueError(_too_large_for_all(cost, site) if spread else _too_large_for_one(cost, site))


def _subject(cost: TrainingCost) -> str:
    return (
        f"{cost.settings['adapter']} training of {cost.shape.parameters / 1e9:.3g} billion weights"
    )


def _too_large_for_one(cost: TrainingCost, site: Site) -> str:
    """Message for a training without DeepSpeed."""
    settings = cost.settings
    smaller = {**settings, "per_device_batch_size": 1, "gradient_checkpointing": True}
    least = replace(cost, settings=smaller).work_bytes(1)
    sampling = cost.sampling_bytes(1)
    if sampling > cost.activation_bytes and cost.state_bytes + sampling > usable_bytes(site):
        key, fix = "global_batch_size", "lower it, since all its answers are sampled at once"
    elif cost.state_bytes + least <= usable_bytes(site):
        key, fix = "per_device_batch_size", "lower it, or set gradient_checkpointing"
    else:
        key, fix = "deepspeed", "set it to config/deepspeed/zero3.json"
        if not cost.full and not settings.get("quantization"):
            fix += ", or set quantization to nf4"
    return (
        f"config key `training.{cost.trainer}.{key}`: {_subject(cost)} takes about "
        f"{cost.state_bytes / 1e9:.0f} GB of weights and optimiser and "
        f"{cost.work_bytes(1) / 1e9:.0f} GB of activations, too much for a GPU of "
        f"{site.gpu_memory / 1e9:.3g} GB; {fix}"
    )


def _too_large_for_all(cost: TrainingCost, site: Site) -> str:
    """Message for a training with DeepSpeed."""
    offloaded = cost.host_bytes
    aside = f" with {offloaded / 1e9:.0f} GB offloaded to their hosts" if offloaded else ""
    fix = "" if cost.zero.stage == 3 else "take stage 3 of ZeRO, "
    return (
        f"config key `training.{cost.trainer}`: {_subject(cost)} with global_batch_size "
        f"{cost.settings['global_batch_size']} and per_device_batch_size "
        f"{cost.settings['per_device_batch_size']} does not fit on {gpu_counts(site)[-1]} GPUs of "
        f"{site.gpu_memory / 1e9:.3g} GB{aside}; {fix}set gradient_checkpointing, lower "
        "per_device_batch_size, or raise gpu.max_nodes in the site file"
    )


def training_needs(
    cost: TrainingCost,
    site: Site,
    device: Device,
    *,
    rows: int | None = None,
    attempt: int = 1,
    overrides: Mapping[str, int] | None = None,
) -> Needs:
    """Needs of one training.

    Args:
        cost: of the training.
        site: the cluster.
        device: the accelerator, with the memory of the site's GPUs.
        rows: of the training set; None while the table is not there.
        attempt: 1, and one more with each retry: memory and time grow with it.
        overrides: `gpu` and `nodes` as the user has set them. `nodes` alone stands for both.

    Raises:
        ValueError: see `training_gpus`; not with an override.
    """
    overrides = overrides or {}
    gpus = overrides.get("gpu") or overrides.get("nodes") or training_gpus(cost, site)
    nodes = overrides.get("nodes") or nodes_of(gpus, site)
    here = ceil(gpus / nodes)
    rows = UNKNOWN_ROWS if rows is None else rows
    cost = cost.for_rows(rows)
    sequences, longest = rows * cost.sequences, cost.settings["max_length"]
    seconds = cost.seconds(rows, MEAN_ROW * longest * sequences, device) / gpus
    if cost.by_reward:
        answer = cost.settings["max_tokens"]
        prompts, answers = sequences * (longest - answer), sequences * ANSWER_SHARE * answer
        seconds += cost.sampling_seconds(prompts, answers, longest / 2, device) / gpus
    seconds += cost.host_update_seconds(rows, device) / nodes
    seconds += device.load_seconds(float(cost.loaded_width * cost.shape.parameters))
    checkpoint = 3 * FLOAT32 * cost.trained_weights  # float32 weights and two moments
    writing = checkpoint / device.load_bandwidth
    return Needs(
        gpus=gpus,
        nodes=nodes,
        mem_mb=_memory(_training_memory(cost, gpus, here), site, attempt),
        cpus=here * site.cpus_per_gpu,
        runtime=_runtime(seconds, site, attempt),
        checkpoint_minutes=max(CHECKPOINT_MINUTES, ceil(writing / CHECKPOINT_SHARE / 60)),
    )


def _training_memory(cost: TrainingCost, gpus: int, here: int) -> float:
    """Bytes of host memory of a node with `here` of the GPUs.

    A process has the weights before it moves them to its GPU; weights that it quantises go there
    one by one. Under DeepSpeed the processes of a node map the same files, and the first process
    gathers the whole model to save it. What is offloaded comes on top.
    """
    weights = cost.weight_bytes
    loaded = 2 * weights if cost.settings.get("deepspeed") else here * weights
    return here * PROCESS_MEMORY + (loaded + cost.host_bytes * here / gpus)


# --- generation rounds -------------------------------------------------------------------------


def _widened(shape: Shape, dtype: str) -> Shape:
    """`shape` with its weights counted in 16 bits: twice as many where `dtype` is float32.

    An engine of float32 reads twice the bytes, and computes at half the speed.
    """
    return replace(shape, parameters=round(BYTES[dtype] / HALF * shape.parameters))


def engine_sizes(
    shape: Shape, engine: Mapping[str, Any], site: Site, device: Device
) -> tuple[int, int]:
    """GPUs of a node that share an engine's layers, and nodes among which the layers are divided.

    Together they are the least power of two of GPUs that leaves room for the cache:
    `Device.count_for` leaves memory for work, and the KV cache has to hold CACHED_SEQUENCES
    sequences of `max_model_len` tokens. GPUs of a node exchange much after each layer (tensor
    parallel, Shoeybi et al., arXiv 1909.08053). Nodes pass on what the next layer needs (pipeline
    parallel). So nodes are added only where one is too small, up to the site's `engine_nodes`.

    Raises:
        ValueError: more than these nodes have, or more nodes than the model has layers.
    """
    weights = _widened(shape, engine["dtype"]).size
    token = BYTES[engine["dtype"]] / HALF * shape.cache_per_token
    cache = CACHED_SEQUENCES * engine["max_model_len"] * token
    size = device.count_for(weights)
    while weights + cache > size * usable_bytes(site):
        size *= 2
    if size <= site.gpus_per_node:
        return size, 1
    here = 1 << (site.gpus_per_node.bit_length() - 1)  # the largest power of two in a node
    nodes = size // here
    if nodes > min(site.engine_nodes, site.max_nodes, shape.layers):
        raise ValueError(
            f"config key `engine.dtype`: {shape.parameters / 1e9:.3g} billion weights in "
            f"{engine['dtype']} take {size} GPUs of {site.gpu_memory / 1e9:.3g} GB, a node has "
            f"{site.gpus_per_node}; set bfloat16, use larger nodes, or let engines have {nodes} "
            "nodes (gpu.engine_nodes and gpu.max_nodes in the site file)"
        )
    return here, nodes


def _engine_seconds(
    shape: Shape,
    engine: Mapping[str, Any],
    requests: Sequence[tuple[int | None, int, int]],
    device: Device,
) -> float:
    """Device-seconds of the requests of a round, without the engines' starts."""
    tokens = prompts = 0.0
    for questions, samples, longest in requests:
        rows = UNKNOWN_ROWS if questions is None else questions
        tokens += rows * samples * ANSWER_SHARE * longest
        prompts += rows * (engine["max_model_len"] - longest)
    writing = decode_seconds(shape, tokens, engine["max_model_len"] / 2, device)
    return writing + prefill_seconds(shape, prompts, device)


def _round_gpus(work: float, size: int, pipeline: int, site: Site) -> int:
    """GPUs of a round of `work` seconds of one engine, on `size` GPUs of `pipeline` nodes each."""
    engines = max(1, ceil(work / ROUND_SECONDS))
    if pipeline > 1:
        return min(engines, max(1, site.max_nodes // pipeline)) * pipeline * size
    wanted = engines * size
    counts = [count for count in gpu_counts(site) if count >= size]
    return min((count for count in counts if count >= wanted), default=counts[-1])


def generation_needs(
    shape: Shape,
    engine: Mapping[str, Any],
    requests: Sequence[tuple[int | None, int, int]],
    site: Site,
    device: Device,
    *,
    loads: int = 1,
    attempt: int = 1,
    overrides: Mapping[str, int] | None = None,
) -> Needs:
    """Needs of a generation round.

    A round gets another engine for each ROUND_SECONDS of its estimated time: on one node first, and
    then on whole nodes. An engine that no node holds has several nodes of its own.

    Args:
        shape: sizes of the base model.
        engine: settings of the round: `dtype` and `max_model_len`.
        requests: of each the number of questions (None while the table is not there), of samples
            a question, and `max_tokens`.
        site: the cluster.
        device: the accelerator, with the memory of the site's GPUs.
        loads: weights that are served one after another; adapters of one base count once.
        attempt: 1, and one more with each retry: memory and time grow with it.
        overrides: `gpu`, `nodes`, `tensor_parallel_size` and `pipeline_parallel_size` as the user
            has set them. `nodes` alone stands for one engine on each. One of the two sizes alone
            leaves the other one 1.

    Raises:
        ValueError: see `engine_sizes`; not where the user has set a size.
    """
    overrides = overrides or {}
    set_size, set_pipeline = (
        overrides.get(f"{kind}_parallel_size") for kind in ("tensor", "pipeline")
    )
    if set_size or set_pipeline:
        size, pipeline = set_size or 1, set_pipeline or 1
    else:
        size, pipeline = engine_sizes(shape, engine, site, device)
    wide = _widened(shape, engine["dtype"])
    work = _engine_seconds(wide, engine, requests, device) / (size * pipeline)  # of one engine
    gpus, nodes = overrides.get("gpu"), overrides.get("nodes")
    if not gpus:
        gpus = nodes * (set_size or 1) if nodes else _round_gpus(work, size, pipeline, site)
    if not nodes:
        nodes = gpus // size if pipeline > 1 else nodes_of(gpus, site)
    here, engines = ceil(gpus / nodes), max(1, gpus // (size * pipeline))
    seconds = work / engines + ceil(loads / engines) * device.load_seconds(wide.size)
    processes = max(1, here // size) * (size + 1)  # an engine's own processes and their parent
    return Needs(
        gpus=gpus,
        nodes=nodes,
        # Weights are mapped, once for all processes of a node, which reads its own layers.
        mem_mb=_memory(processes * PROCESS_MEMORY / 2 + wide.size / pipeline, site, attempt),
        cpus=here * site.cpus_per_gpu,
        runtime=_runtime(seconds, site, attempt),
        tensor_parallel_size=size,
        pipeline_parallel_size=pipeline,
    )
