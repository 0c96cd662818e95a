"""What an experiment would cost before it is run: rounds, loads, tokens, GPU-hours and disk.

Counts come from the graph. Tokens, and with them hours, rest on resources/plan_assumptions.yaml,
since how many questions are kept and how long answers are is known only after a run. Estimates are
for LoRA or full training and for generation in 16 bits; attention's own operations, which grow with
the square of the length, are left out: some per cent at the paper's lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from math import ceil
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from weak_to_strong.experiment.configuration import ConfigError
from weak_to_strong.experiment.graph import Graph
from weak_to_strong.experiment.nodes import Node, Round
from weak_to_strong.training.settings import zero_of

ASSUMPTIONS_FILE = Path(__file__).parents[3] / "resources" / "plan_assumptions.yaml"

#: Bytes of a weight, or of a number in the KV cache, in 16 bits.
HALF = 2
_FLOAT32 = 4
#: Bytes of a weight in NF4 with double quantisation: 4 bits, and 0.127 for the constants of its
#: block of 64 (Dettmers et al., arXiv 2305.14314, section 3, "Double Quantization").
NF4 = (4 + 8 / 64 + 32 / (64 * 256)) / 8
#: Bytes that an AdamW update moves for a weight: four float32 numbers read, three written.
_UPDATE_BYTES = 7 * _FLOAT32


# --- assumptions -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama-shaped model.

    Attributes:
        parameters: number of weights.
        layers: number of blocks.
        hidden: width of a block, and of all its queries together.
        key_value: width of its keys, and of its values.
        intermediate: width inside its MLP.
        vocabulary: number of tokens that it knows; the default is Llama 3's, rounded.
    """

    parameters: int
    layers: int
    hidden: int
    key_value: int
    intermediate: int
    vocabulary: int = 128_000

    @property
    def size(self) -> int:
        """Bytes of the weights in 16 bits."""
        return HALF * self.parameters

    @property
    def cache_per_token(self) -> int:
        """Bytes of one token's keys and values."""
        return HALF * 2 * self.layers * self.key_value


@dataclass(frozen=True)
class Device:
    """One accelerator and how well it is used.

    Attributes:
        flops: peak FLOP/s in bfloat16.
        memory_bandwidth: bytes/s.
        link_bandwidth: bytes/s from the other devices.
        host_link_bandwidth: bytes/s from the host's memory.
        host_memory_bandwidth: bytes/s of a host's processors from and to its memory.
        memory: bytes.
        weights_share: most of the memory that weights take.
        prefill_utilisation: share of `flops` when reading prompts.
        decode_utilisation: share of `memory_bandwidth` when writing answers.
        batch: sequences that are written at once.
        training_utilisation: share of `flops` in training.
        link_utilisation: share of either link's bandwidth when training gathers weights.
        load_bandwidth: bytes/s from disk, to all devices of a model together.
        start_seconds: start of an engine or a trainer, without its weights.
    """

    flops: float
    memory_bandwidth: float
    link_bandwidth: float
    host_link_bandwidth: float
    host_memory_bandwidth: float
    memory: float
    weights_share: float
    prefill_utilisation: float
    decode_utilisation: float
    batch: int
    training_utilisation: float
    link_utilisation: float
    load_bandwidth: float
    start_seconds: float


@dataclass(frozen=True)
class Assumptions:
    """What estimates take for granted; the file says where each value is from.

    Attributes:
        tasks: by the key `paper` of a task: rows of splits, tokens of texts, questions kept and
            paired.
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
            ValueError: there is none; names the entry.
        """
        found, path = self.tasks, ("tasks", task, key, *filter(None, [weak]))
        for name in path[1:]:
            if name not in found:
                place = ".".join(path)
                raise ValueError(f"{ASSUMPTIONS_FILE.name}: `{place}` is missing; add it")
            found = found[name]
        return found


def _values(entry: Any, path: str) -> Any:
    """`entry` with each `{value, source}` in it replaced by its value."""
    if not isinstance(entry, dict) or ("value" in entry and not entry.get("source")):
        raise ValueError(f"{path}: is no `{{value, source}}`; say where the value is from")
    if "value" in entry:
        return entry["value"]
    return {key: _values(part, f"{path}.{key}") for key, part in entry.items()}


def read_assumptions(path: str | Path = ASSUMPTIONS_FILE) -> Assumptions:
    """Read the table of assumptions.

    Raises:
        ValueError: an entry without a source, or a key of the device that is missing or unknown.
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
        raise ValueError(f"{path}: device.{min(wrong)} is missing or unknown")
    return Assumptions(tasks, generation, models, Device(**device))


# --- formulas ----------------------------------------------------------------------------------


def training_flops_per_token(
    parameters: int, *, adapter: str = "lora", gradient_checkpointing: bool = False
) -> float:
    """FLOPs of training on one token: 2 per weight and pass (Kaplan et al., arXiv 2001.08361, 2.1).

    Passes are forward, backward through the activations, backward to the weights (not with LoRA,
    whose own weights are too few to count) and, with checkpointing, forward once more.

    Args:
        parameters: number of weights.
        adapter: "lora" or "full".
        gradient_checkpointing: activations are computed twice.
    """
    passes = 2 + (adapter == "full") + gradient_checkpointing
    return 2.0 * parameters * passes


def _references(trainer: str, settings: Mapping[str, Any]) -> int:
    """Passes over the rows with the reference model: of DPO only (Rafailov et al., 2305.18290)."""
    if trainer != "dpo":
        return 0
    return settings["epochs"] if settings.get("precompute_ref") is False else 1


def training_flops(
    parameters: int, tokens: float, trainer: str, settings: Mapping[str, Any]
) -> float:
    """FLOPs of a training run.

    Args:
        parameters: number of weights.
        tokens: of one epoch; of preference rows both sides, each with its prompt.
        trainer: "sft", "dpo" or "orpo". DPO adds the reference's forward pass, 2 a weight; ORPO
            (Hong et al., arXiv 2403.07691) has no reference.
        settings: as of `training_settings`.
    """
    policy = settings["epochs"] * training_flops_per_token(
        parameters,
        adapter=settings["adapter"],
        gradient_checkpointing=settings.get("gradient_checkpointing", False),
    )
    return tokens * (policy + 2.0 * parameters * _references(trainer, settings))


def weight_bytes(shape: Shape, settings: Mapping[str, Any]) -> float:
    """Bytes of a base model's weights as training holds them (`training.load_model`).

    With `quantization` embeddings and output layer keep their format. So does, while it is used,
    one projection: the largest counts.

    Args:
        shape: of the base model.
        settings: as of `training_settings`.
    """
    half = settings["dtype"] == "bfloat16"
    half = half and (settings["adapter"] == "lora" or bool(settings.get("deepspeed")))
    width = HALF if half else _FLOAT32
    if not settings.get("quantization"):
        return float(width * shape.parameters)
    kept = min(shape.parameters, 2 * shape.vocabulary * shape.hidden)
    whole = kept + shape.hidden * shape.intermediate
    return NF4 * (shape.parameters - kept) + width * whole


def gathered_bytes(shape: Shape, rows: float, trainer: str, settings: Mapping[str, Any]) -> float:
    """Bytes of weights that all devices together receive under ZeRO-3.

    Each micro-batch gathers the weights for its forward pass, for its backward pass (with the
    recomputation) and for DPO's reference (Rajbhandari et al., arXiv 1910.02054, section 7).

    Args:
        shape: of the base model.
        rows: of one epoch.
        trainer: "sft", "dpo" or "orpo".
        settings: as of `training_settings`.
    """
    micro_batches = ceil(rows / settings["per_device_batch_size"])
    gathers = 2 * settings["epochs"] + _references(trainer, settings)
    return float(micro_batches * gathers * shape.size)


def host_update_seconds(
    shape: Shape, rows: float, settings: Mapping[str, Any], device: Device
) -> float:
    """Seconds in which a host updates offloaded full weights, while all devices wait.

    AdamW is bound by the host's memory; an adapter's weights are too few to count.

    Args:
        shape: of the base model.
        rows: of one epoch.
        settings: as of `training_settings`.
        device: the accelerator.
    """
    if settings["adapter"] != "full" or not zero_of(settings).offload_optimizer:
        return 0.0
    updates = settings["epochs"] * ceil(rows / settings["global_batch_size"])
    return updates * _UPDATE_BYTES * shape.parameters / device.host_memory_bandwidth


def devices_of(shape: Shape, device: Device, size: float | None = None) -> int:
    """Devices that a model is spread over: the least power of two that leaves memory for work.

    Args:
        shape: of the model.
        device: the accelerator.
        size: bytes of its weights, if they do not have 16 bits each.
    """
    count = 1
    while (size or shape.size) > count * device.memory * device.weights_share:
        count *= 2
    return count


def load_seconds(shape: Shape, device: Device, size: float | None = None) -> float:
    """Device-seconds of one start with its weights: all devices of the model wait for it.

    Args:
        shape: of the model; 16 bits a weight are read.
        device: the accelerator.
        size: as of `devices_of`.
    """
    seconds = device.start_seconds + shape.size / device.load_bandwidth
    return devices_of(shape, device, size) * seconds


def training_seconds(
    shape: Shape,
    rows: float,
    tokens: float,
    trainer: str,
    settings: Mapping[str, Any],
    device: Device,
) -> float:
    """Device-seconds of a training run without its start: arithmetic or gathering, the slower one.

    Bringing weights from 4 bits to 16 is not counted.

    Args:
        shape: of the base model.
        rows: of one epoch.
        tokens: of one epoch.
        trainer: "sft", "dpo" or "orpo".
        settings: as of `training_settings`. ZeRO-3 gathers weights: from the other devices where
            one is not enough, or from the host where they are offloaded to it.
        device: the accelerator.
    """
    flops = training_flops(shape.parameters, tokens, trainer, settings)
    seconds = flops / (device.flops * device.training_utilisation)
    zero = zero_of(settings)
    if zero.stage == 3 and (devices_of(shape, device) > 1 or zero.offload_weights):
        link = device.host_link_bandwidth if zero.offload_weights else device.link_bandwidth
        gathered = gathered_bytes(shape, rows, trainer, settings)
        seconds = max(seconds, gathered / (link * device.link_utilisation))
    return seconds


def prefill_seconds(shape: Shape, tokens: float, device: Device) -> float:
    """Device-seconds of reading `tokens` of prompts: 2 FLOPs a weight and token."""
    return 2.0 * shape.parameters * tokens / (device.flops * device.prefill_utilisation)


def decode_seconds(shape: Shape, tokens: float, context: float, device: Device) -> float:
    """Device-seconds of writing `tokens` of answers.

    Each step adds a token to every sequence of the batch. It reads all weights and the batch's
    keys and values once, and is bound by that or by its arithmetic (roofline; Pope et al., arXiv
    2211.05102). Devices that share a model each read their part, so that their number drops out.

    Args:
        shape: of the base model.
        tokens: of all answers.
        context: mean tokens that a step looks back on.
        device: the accelerator.
    """
    read = shape.size + device.batch * context * shape.cache_per_token
    reading = read / (device.memory_bandwidth * device.decode_utilisation)
    computing = prefill_seconds(shape, device.batch, device)
    return tokens / device.batch * max(reading, computing)


def adapter_weights(shape: Shape, rank: int, modules: Sequence[str]) -> int:
    """Weights of a LoRA adapter: rank times inputs and outputs of each projection that has one.

    A name that a Llama-shaped block does not have - fused projections, say - counts as one of
    `hidden` to `hidden`, which is rough.
    """
    attention = shape.hidden + shape.hidden
    grouped = shape.hidden + shape.key_value
    mlp = shape.hidden + shape.intermediate
    sizes = {"q_proj": attention, "k_proj": grouped, "v_proj": grouped, "o_proj": attention}
    sizes |= dict.fromkeys(("gate_proj", "up_proj", "down_proj"), mlp)
    return shape.layers * rank * sum(sizes.get(name, attention) for name in modules)


# --- an experiment -----------------------------------------------------------------------------


@dataclass(frozen=True)
class JobEstimate:
    """What a training or a generation round would take.

    Attributes:
        rule: "train" or "generate".
        key: of the node or the round.
        models: the base model, or those of a round with several.
        requests: of a round; 0 for a training.
        weights: distinct weights that are loaded: base models, or full weights of trained ones.
        loads: times that one of them is loaded, at most: by each engine, or by the trainer.
        tokens: of all answers, or trained on (prompts and answers, each pass counted).
        context: mean tokens that a step of an engine looks back on; 0 for a training.
        gpu_hours: with the loads.
        loading_gpu_hours: of these, starts and loads.
        disk_gb: what it leaves - an adapter, weights, or texts - in 10**9 bytes.
    """

    rule: str
    key: str
    models: tuple[str, ...]
    requests: int
    weights: int
    loads: int
    tokens: float
    context: float
    gpu_hours: float
    loading_gpu_hours: float
    disk_gb: float


@dataclass(frozen=True)
class Estimate:
    """What an experiment would take.

    Attributes:
        generation_rounds: processes that generate.
        requests: models, prompts and decodings that they serve.
        round_weights: distinct weights of a round (base weights, or full weights of a trained
            model), summed over the rounds: loads if each round had one engine.
        engine_loads: times that engines load them, at most.
        trainings: models trained.
        generated_tokens: of all answers.
        trained_tokens: prompts and answers, each pass counted.
        generation_gpu_hours: loads included.
        training_gpu_hours: starts included.
        loading_gpu_hours: part of both that goes into starts and loads.
        trained_gb: adapters, or weights, of the trained models, in 10**9 bytes.
        base_gb: weights of the base models in 16 bits, in 10**9 bytes.
    """

    generation_rounds: int
    requests: int
    round_weights: int
    engine_loads: int
    trainings: int
    generated_tokens: int
    trained_tokens: int
    generation_gpu_hours: float
    training_gpu_hours: float
    loading_gpu_hours: float
    trained_gb: float
    base_gb: float

    @property
    def gpu_hours(self) -> float:
        return self.generation_gpu_hours + self.training_gpu_hours


class Estimator:
    """Estimates of one experiment.

    Args:
        graph: of a completed configuration.
        assumptions: of `read_assumptions`.
        engines: number of engines that share a round.
    """

    def __init__(
        self, graph: Graph, assumptions: Assumptions, engines: Callable[[Round], int] = lambda _: 1
    ) -> None:
        self._graph = graph
        self._engines = engines
        self._assumptions = assumptions
        self._device = assumptions.device
        self._bases = {graph.base_manifest(name): name for name in graph.config["models"]}
        self._nodes = {graph.manifest(node): node for node in graph.trained_nodes()}

    def shape(self, model: str) -> Shape:
        """Sizes of a base model of the configuration.

        Raises:
            ConfigError: it does not say its number of weights, or which of the known models it is.
        """
        entry, known = self._graph.config["models"][model], self._assumptions.models
        if "parameters" not in entry:
            raise ConfigError(
                f"config key `models.{model}.parameters`: is missing, and estimates need it; "
                "give the number of weights"
            )
        return Shape(entry["parameters"], **known[self._paper("models", model, known)])

    def _paper(self, section: str, name: str, known: Mapping[str, Any]) -> str:
        """The key `paper` of a task or model, by which the assumptions know it."""
        paper = self._graph.config[section][name].get("paper")
        if paper not in known:
            raise ConfigError(
                f"config key `{section}.{name}.paper`: {paper!r} is not in "
                f"{ASSUMPTIONS_FILE.name}; name one of {', '.join(known)}, or add it there"
            )
        return paper

    def _of_task(self, task: str, key: str, weak: str | None = None) -> Any:
        paper = self._paper("tasks", task, self._assumptions.tasks)
        weak = weak and self._paper("models", weak, self._assumptions.models)
        return self._assumptions.of_task(paper, key, weak)

    # --- training --------------------------------------------------------------------------

    def training_rows(self, node: Node) -> tuple[float, float]:
        """Rows that a node is trained on, and the tokens of them all, in one epoch.

        A row of pairs has the prompt twice: with the chosen and with the rejected answer.
        """
        task, data = node.chain.task, self._graph.method(node).data
        prompt = self._of_task(task, "prompt_tokens")
        if data.startswith("gold_"):
            rows = self._of_task(task, data.removeprefix("gold_"))
            return rows, rows * (prompt + self._of_task(task, "gold_tokens"))
        if data == "weak_labels":
            rows = self._of_task(task, "train_2")
            return rows, rows * (prompt + self._of_task(task, "response_tokens"))
        if data == "pairs":
            further = self._graph.pair_settings(node)["pairs_per_question"] - 1
            share = self._assumptions.generation["further_pairs"]
            rows = self._of_task(task, "paired", node.chain.weak) * (1 + further * share)
            return rows, rows * 2 * (prompt + self._of_task(task, "pair_tokens"))
        by_iteration = self._of_task(task, "kept", node.chain.weak)
        kept = by_iteration[min(node.iteration, len(by_iteration)) - 1]
        padding = max(0, (self._graph.settings(node.chain).filter["pad_to"] or 0) - kept)
        sides = 2 if data == "kept_hybrid" else 1
        tokens = kept * (prompt + self._of_task(task, "kept_tokens"))
        tokens += padding * (prompt + self._of_task(task, "response_tokens"))
        return sides * (kept + padding), sides * tokens

    def _saved_bytes(self, node: Node, shape: Shape) -> int:
        settings = self._graph.training_settings(node)
        if settings["adapter"] == "full":
            return shape.parameters * (HALF if settings["dtype"] == "bfloat16" else _FLOAT32)
        init = self._graph.init_of(node)
        lora = settings.get("lora") or self._graph.training_settings(init)["lora"]
        # DeepSpeed keeps an adapter in the format of its base.
        half = settings["dtype"] == "bfloat16" and "deepspeed" in settings
        weights = adapter_weights(shape, lora["r"], lora["target_modules"])
        return weights * (HALF if half else _FLOAT32)

    # --- generation ------------------------------------------------------------------------

    def by_weights(self, round_: Round) -> dict[str, list[dict]]:
        """Requests of a round by the weights that an engine loads for them.

        Adapters share the engine of their base; models with weights of their own do not.
        """
        found: dict[str, list[dict]] = {}
        for request in self._graph.round_requests(round_):
            weights, node = request["base"], self._nodes.get(request["model"])
            if node and self._graph.training_settings(node)["adapter"] == "full":
                weights = request["model"]
            found.setdefault(weights, []).append(request)
        return found

    def request_tokens(self, request: Mapping[str, Any]) -> tuple[float, float, float]:
        """Tokens of prompts that are computed, of answers, and those that a step looks back on.

        With prefix caching, demonstrations are computed once a request, and the prompt once for
        all samples of a question.
        """
        problems = PurePosixPath(request["problems"])
        task = problems.parent.name
        questions = self._of_task(task, problems.stem)
        prompt, response = (
            self._of_task(task, f"{text}_tokens") for text in ("prompt", "response")
        )
        shown = 0
        if request["demonstrations"]:
            chains = {self._graph.demonstrations(chain): chain for chain in self._graph.chains}
            settings = self._graph.settings(chains[request["demonstrations"]]).demonstrations
            shown = len(settings["ids"] or ()) or settings["count"]
        elif request["model"] is None and self._is_strong(self._bases[request["base"]]):
            response = self._assumptions.generation["untuned_share"] * request["max_tokens"]
        response = min(response, request["max_tokens"])
        prefix = shown * (prompt + response)
        context = prefix + prompt + response / 2
        return prefix + questions * prompt, questions * request["n"] * response, context

    def _is_strong(self, model: str) -> bool:
        return any(chain.strong == model for chain in self._graph.chains)

    def _serve_seconds(self, requests: Sequence[Mapping[str, Any]]) -> float:
        """Device-seconds of the requests on the same weights, without the engines' starts."""
        shape, seconds = self.shape(self._bases[requests[0]["base"]]), 0.0
        for request in requests:
            prompts, answers, context = self.request_tokens(request)
            seconds += prefill_seconds(shape, prompts, self._device)
            seconds += decode_seconds(shape, answers, context, self._device)
        return seconds

    # --- all -------------------------------------------------------------------------------

    def training_job(self, node: Node) -> JobEstimate:
        """The training of a node."""
        shape = self.shape(self._graph.base_of(node))
        settings = self._graph.training_settings(node)
        trainer = self._graph.method(node).trainer
        rows, tokens = self.training_rows(node)
        quantised = weight_bytes(shape, settings) if settings.get("quantization") else None
        start = load_seconds(shape, self._device, quantised)
        work = training_seconds(shape, rows, tokens, trainer, settings, self._device)
        updating = host_update_seconds(shape, rows, settings, self._device)
        work += devices_of(shape, self._device) * updating
        return JobEstimate(
            rule="train",
            key=node.key,
            models=(self._graph.base_of(node),),
            requests=0,
            weights=1,
            loads=1,
            tokens=settings["epochs"] * tokens,
            context=0.0,
            gpu_hours=(start + work) / 3600,
            loading_gpu_hours=start / 3600,
            disk_gb=self._saved_bytes(node, shape) / 1e9,
        )

    def generation_job(self, round_: Round) -> JobEstimate:
        """A generation round; each of its engines is taken to load each of its weights.

        That is the most there can be: an engine joins in the work of another where more than one
        shard is left of it (`engine_pool`), and leaves only when there is none.
        """
        groups = list(self.by_weights(round_).values())
        engines = self._engines(round_)
        names = [self._bases[requests[0]["base"]] for requests in groups]
        loading = engines * sum(load_seconds(self.shape(name), self._device) for name in names)
        work = sum(map(self._serve_seconds, groups))
        texts = [self.request_tokens(each) for requests in groups for each in requests]
        tokens = sum(answers for _, answers, _ in texts)
        size = self._assumptions.generation["bytes_per_token"]
        return JobEstimate(
            rule="generate",
            key=round_.key,
            models=tuple(dict.fromkeys(names)),
            requests=len(texts),
            weights=len(groups),
            loads=engines * len(groups),
            tokens=tokens,
            context=sum(answers * context for _, answers, context in texts) / tokens,
            gpu_hours=(loading + work) / 3600,
            loading_gpu_hours=loading / 3600,
            disk_gb=size * tokens / 1e9,
        )

    def estimate(self) -> Estimate:
        """Sum over the rounds and trainings of the experiment.

        Raises:
            ConfigError: a task or model without a key that estimates need.
            ValueError: an assumption is missing.
        """
        graph = self._graph
        rounds = [self.generation_job(round_) for round_ in graph.rounds()]
        trainings = [self.training_job(node) for node in self._nodes.values()]
        used = {name for chain in graph.chains for name in (chain.weak, chain.strong)}
        return Estimate(
            generation_rounds=len(rounds),
            requests=sum(job.requests for job in rounds),
            round_weights=sum(job.weights for job in rounds),
            engine_loads=sum(job.loads for job in rounds),
            trainings=len(trainings),
            generated_tokens=round(sum(job.tokens for job in rounds)),
            trained_tokens=round(sum(job.tokens for job in trainings)),
            generation_gpu_hours=sum(job.gpu_hours for job in rounds),
            training_gpu_hours=sum(job.gpu_hours for job in trainings),
            loading_gpu_hours=sum(job.loading_gpu_hours for job in (*rounds, *trainings)),
            trained_gb=sum(job.disk_gb for job in trainings),
            base_gb=sum(self.shape(name).size for name in used) / 1e9,
        )
