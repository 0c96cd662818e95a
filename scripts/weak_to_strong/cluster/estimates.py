"""What an experiment would cost before it is run: rounds, loads, tokens, GPU-hours and disk.

The graph gives the counts. How many questions are kept and how long answers are is known only after
a run, so tokens and hours rest on resources/plan_assumptions.yaml. Estimates are for LoRA or full
training, and for generation in 16 bits. docs/plan.py writes them down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weak_to_strong.cluster.assumptions import ASSUMPTIONS_FILE, Assumptions
from weak_to_strong.cluster.cluster_jobs import (
    cost_of_training,
    full_models,
    requests_by_weights,
)
from weak_to_strong.cluster.generation_cost import decode_seconds, prefill_seconds
from weak_to_strong.cluster.model_shape import Shape
from weak_to_strong.experiment.configuration import ConfigError
from weak_to_strong.experiment.entries import KINDS_FROM_PAIRS, QUESTIONS_KIND
from weak_to_strong.experiment.graph import Graph
from weak_to_strong.experiment.nodes import Node, Round, RoundRequest


@dataclass(frozen=True)
class JobEstimate:
    """What a training or a generation round would take."""

    rule: str  # "train" or "generate"
    key: str  # key of the node or the round
    models: tuple[str, ...]  # the base model, or those of a round with several
    requests: int  # number of a round's requests; 0 for a training
    weights: int  # number of distinct weights: base models, or full weights of trained models
    loads: int  # largest number of times that an engine, or the trainer, loads one of them
    tokens: float  # of all answers, or of all passes over the rows (prompts and answers)
    context: float  # mean number of tokens that a step of an engine looks back on; 0 for a training
    gpu_hours: float  # loads included
    loading_gpu_hours: float  # the part of `gpu_hours` that goes into starts and loads
    disk_gb: float  # what the job leaves - an adapter, weights, or texts - in 10**9 bytes
    sampled_tokens: float = 0.0  # of the answers that a training by reward samples itself


class Estimator:
    """Estimates of one experiment.

    Args:
        graph: of a completed configuration.
        assumptions: of `read_assumptions`.
        engines: gives the number of engines of a round.
    """

    def __init__(
        self, graph: Graph, assumptions: Assumptions, engines: Callable[[Round], int] = lambda _: 1
    ) -> None:
        self._graph = graph
        self._engines = engines
        self._assumptions = assumptions
        self._device = assumptions.device
        self._full = full_models(graph)

    def shape(self, model: str) -> Shape:
        """Sizes of a base model of the configuration.

        Raises:
            ConfigError: its entry lacks `parameters`, or a `paper` that the assumptions know.
        """
        entry, known = self._graph.config["models"][model], self._assumptions.models
        if "parameters" not in entry:
            raise ConfigError(
                f"config key `models.{model}.parameters`: is missing; add the number of weights, "
                "which estimates need"
            )
        return Shape(entry["parameters"], **known[self._paper("models", model, known)])

    def _paper(self, section: str, name: str, known: Mapping[str, Any]) -> str:
        """The key `paper` of a task or model: its name in the assumptions."""
        paper = self._graph.config[section][name].get("paper")
        if paper not in known:
            raise ConfigError(
                f"config key `{section}.{name}.paper`: {paper!r} is not in "
                f"{ASSUMPTIONS_FILE.name}; set one of {', '.join(known)}, or add it there"
            )
        return paper

    def _of_task(self, task: str, key: str, weak: str | None = None) -> Any:
        paper = self._paper("tasks", task, self._assumptions.tasks)
        weak = weak and self._paper("models", weak, self._assumptions.models)
        return self._assumptions.of_task(paper, key, weak)

    # --- training --------------------------------------------------------------------------

    def training_rows(self, node: Node) -> tuple[float, float]:
        """Rows of a node's training, and the tokens of them all, in one epoch.

        A row of pairs has the prompt twice: with the chosen answer and with the rejected one. A
        question has it with each of its samples.
        """
        task, data = node.chain.task, self._graph.method(node).data
        reward = self._graph.method(node).reward
        prompt = self._of_task(task, "prompt_tokens")
        if data.startswith("gold_"):
            rows = self._of_task(task, data.removeprefix("gold_"))
            return rows, rows * (prompt + self._of_task(task, "gold_tokens"))
        # A selection keeps at most all questions, and pairs are built of at most all.
        if data in ("weak_labels", "icl_labels", *self._graph.experiment.selections):
            rows = self._of_task(task, "train_2")
            return rows, rows * (prompt + self._of_task(task, "response_tokens"))
        if data in self._graph.experiment.preferences:
            settings = self._graph.experiment.preferences[data].settings
            rows = self._of_task(task, "train_2") * settings.get("pairs_per_question", 1)
            texts = 1 if self._graph.method(node).trainer == "sft" else 2
            return rows, texts * rows * (prompt + self._of_task(task, "response_tokens"))
        if data == QUESTIONS_KIND and reward != "agreement":
            rows, samples = self._of_task(task, "train_2"), self._samples(node)
            return rows, rows * samples * (prompt + self._of_task(task, "response_tokens"))
        if data in KINDS_FROM_PAIRS:
            further = self._graph.pair_settings(node)["pairs_per_question"] - 1
            share = self._assumptions.generation["further_pairs"]
            rows = self._of_task(task, "paired", node.chain.weak) * (1 + further * share)
            texts = 1 if data == "chosen" else 2
            return rows, rows * texts * (prompt + self._of_task(task, "pair_tokens"))
        by_iteration = self._of_task(task, "kept", node.chain.weak)
        kept = by_iteration[min(max(1, node.iteration), len(by_iteration)) - 1]
        if reward:
            length = self._of_task(task, "response_tokens")
            return kept, kept * self._samples(node) * (prompt + length)
        padding = max(0, (self._graph.settings(node.chain).filter["pad_to"] or 0) - kept)
        sides = 2 if data.endswith("_hybrid") else 1
        length = "response_tokens" if data.startswith("random_") else "kept_tokens"
        tokens = kept * (prompt + self._of_task(task, length))
        tokens += padding * (prompt + self._of_task(task, "response_tokens"))
        return sides * (kept + padding), sides * tokens

    def _samples(self, node: Node) -> int:
        return self._graph.training_settings(node)["samples"]

    # --- generation ------------------------------------------------------------------------

    def request_tokens(self, request: RoundRequest) -> tuple[float, float, float]:
        """Tokens of prompts to compute, of answers, and the mean number that a step looks back on.

        With prefix caching, an engine computes demonstrations once for a request, and a prompt once
        for all samples of a question.
        """
        task, limit = request.questions.task, self._graph.task(request.questions.task).max_tokens
        questions = self._of_task(task, request.questions.name)
        prompt, response = (
            self._of_task(task, f"{text}_tokens") for text in ("prompt", "response")
        )
        demonstrations = 0
        if request.demonstrations:
            settings = self._graph.settings(request.demonstrations.chain).demonstrations
            demonstrations = len(settings["ids"] or ()) or settings["count"]
        elif request.node is None and self._is_strong(request.base):
            response = self._assumptions.generation["untuned_share"] * limit
        response = min(response, limit)
        prefix, samples = demonstrations * (prompt + response), request.decoding.get("n", 1)
        context = prefix + prompt + response / 2
        return prefix + questions * prompt, questions * samples * response, context

    def _is_strong(self, model: str) -> bool:
        return any(chain.strong == model for chain in self._graph.chains)

    def _serve_seconds(self, requests: Sequence[RoundRequest]) -> float:
        """Device-seconds of requests on the same weights, without the engines' starts."""
        shape, seconds = self.shape(requests[0].base), 0.0
        for request in requests:
            prompts, answers, context = self.request_tokens(request)
            seconds += prefill_seconds(shape, prompts, self._device)
            seconds += decode_seconds(shape, answers, context, self._device)
        return seconds

    # --- all -------------------------------------------------------------------------------

    def training_job(self, node: Node) -> JobEstimate:
        """The training of a node."""
        device, shape = self._device, self.shape(self._graph.base_of(node))
        rows, tokens = self.training_rows(node)
        cost = cost_of_training(self._graph, node, shape).for_rows(rows)
        prompts = answers = context = 0.0
        if cost.by_reward:
            prompt, response = (
                self._of_task(node.chain.task, f"{text}_tokens") for text in ("prompt", "response")
            )
            prompts, answers = (rows * cost.sequences * length for length in (prompt, response))
            context = prompt + response / 2
        quantised = cost.weight_bytes if cost.settings.get("quantization") else None
        start = device.count_for(quantised or shape.size) * device.load_seconds(shape.size)
        work = cost.seconds(rows, tokens, device)
        work += cost.sampling_seconds(prompts, answers, context, device)
        work += device.count_for(shape.size) * cost.host_update_seconds(rows, device)
        return JobEstimate(
            rule="train",
            key=node.key,
            models=(self._graph.base_of(node),),
            requests=0,
            weights=1,
            loads=1,
            tokens=cost.settings["epochs"] * tokens,
            context=0.0,
            gpu_hours=(start + work) / 3600,
            loading_gpu_hours=start / 3600,
            disk_gb=cost.saved_bytes / 1e9,
            sampled_tokens=cost.settings["epochs"] * answers,
        )

    def generation_job(self, round_: Round) -> JobEstimate:
        """A generation round, each of whose engines is taken to load each of its weights.

        That is the largest number of loads. An engine joins in the work of another where more than
        one shard of it is left (`engine_pool`), and ends when none is left.
        """
        groups = list(requests_by_weights(self._graph, round_, self._full).values())
        engines, device = self._engines(round_), self._device
        names = [requests[0].base for requests in groups]
        sizes = [self.shape(name).size for name in names]
        loading = engines * sum(
            device.count_for(size) * device.load_seconds(size) for size in sizes
        )
        work = sum(map(self._serve_seconds, groups))
        texts = [self.request_tokens(request) for requests in groups for request in requests]
        tokens = sum(answers for _, answers, _ in texts)
        written = tokens * self._assumptions.generation["bytes_per_token"]
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
            disk_gb=written / 1e9,
        )

    def estimate(self) -> dict[str, float]:
        """The estimated columns of docs/plan.csv: sums over rounds and trainings.

        Models behind an endpoint are left out. `round_weights` are the loads if each round had one
        engine. GB are 10**9 bytes, of `base_gb` in 16 bits.

        Raises:
            ConfigError: a task or model lacks a key that estimates need.
            ValueError: an assumption is missing.
        """
        graph = self._graph
        rounds = [self.generation_job(round_) for round_ in graph.engine_rounds()]
        trainings = [self.training_job(node) for node in graph.trained_nodes()]
        used = {name for chain in graph.chains for name in (chain.weak, chain.strong)}
        used = {name for name in used if not graph.is_endpoint(name)}

        def total(jobs: Sequence[JobEstimate], name: str) -> float:
            return sum(getattr(job, name) for job in jobs)

        return {
            "generation_rounds": len(rounds),
            "requests": total(rounds, "requests"),
            "round_weights": total(rounds, "weights"),
            "engine_loads": total(rounds, "loads"),
            "trainings": len(trainings),
            "generated_tokens": round(total(rounds, "tokens") + total(trainings, "sampled_tokens")),
            "trained_tokens": round(total(trainings, "tokens")),
            "generation_gpu_hours": total(rounds, "gpu_hours"),
            "training_gpu_hours": total(trainings, "gpu_hours"),
            "gpu_hours": total([*rounds, *trainings], "gpu_hours"),
            "loading_gpu_hours": total([*rounds, *trainings], "loading_gpu_hours"),
            "trained_gb": total(trainings, "disk_gb"),
            "base_gb": sum(self.shape(name).size for name in used) / 1e9,
        }
