"""Resources of an experiment's jobs on a cluster, for the rules and for the plan that a run prints.

Rules take resources as functions of their wildcards and of the attempt. No resource is a parameter
of a rule, so another site or another number of GPUs reruns nothing.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from weak_to_strong.cluster.assumptions import Assumptions, read_assumptions
from weak_to_strong.cluster.gpu_needs import Needs, generation_needs, training_needs
from weak_to_strong.cluster.model_shape import Shape, model_shape
from weak_to_strong.cluster.site_file import VARIABLE, Site, cache_variables, read_site
from weak_to_strong.cluster.training_cost import TrainingCost
from weak_to_strong.experiment.graph import Graph
from weak_to_strong.experiment.nodes import Node, Round, RoundRequest, Split
from weak_to_strong.jobs.snakemake_adapter import default_resource, set_resources
from weak_to_strong.tables.aligned_text import align_columns

#: What the executor asks SLURM for, and what the scripts read.
GPU_RESOURCES = (
    *("gpu", "gpu_model", "nodes", "mem_mb", "cpus_per_task", "runtime"),
    *("slurm_partition", "slurm_account", "slurm_extra", "tasks_per_gpu", "tasks", "mpi"),
)
TRAINING_RESOURCES = (*GPU_RESOURCES, "checkpoint_minutes")
ENGINE_SIZES = ("tensor_parallel_size", "pipeline_parallel_size")
GENERATION_RESOURCES = (*GPU_RESOURCES, *ENGINE_SIZES)
CPU_RESOURCES = ("slurm_partition", "slurm_account", "mem_mb", "runtime")

#: Headings of the plan: columns of text, and columns of numbers.
_TEXTS = ("rule", "model", "method")
_NUMBERS = ("jobs", "GPUs", "nodes", "CPUs/node", "GB/node", "minutes")


def cost_of_training(graph: Graph, node: Node, shape: Shape) -> TrainingCost:
    """The cost of a node's training on a base model of this shape.

    A training that continues an adapter has the `lora` settings of the training that began it.
    """
    settings = graph.training_settings(node)
    if (init := graph.init_of(node)) and "lora" not in settings:
        settings["lora"] = graph.training_settings(init).get("lora")
    return TrainingCost.of(shape, graph.method(node).trainer, settings)


def full_models(graph: Graph) -> frozenset[str]:
    """Manifests of the trained models that are full weights, and no adapters."""
    return frozenset(
        graph.manifest(node)
        for node in graph.trained_nodes()
        if graph.training_settings(node)["adapter"] == "full"
    )


def requests_by_weights(
    graph: Graph, round_: Round, full: Collection[str]
) -> dict[str, list[RoundRequest]]:
    """Requests of a generation round by the manifest of the weights that an engine loads for them.

    Adapters share the engine of their base model. Models with full weights of their own do not.

    Args:
        graph: of a completed configuration.
        round_: the round.
        full: `full_models` of the graph.
    """
    requests: dict[str, list[RoundRequest]] = {}
    for request in graph.requests(round_):
        weights = graph.manifest(request.node) if request.node else None
        if weights not in full:
            weights = graph.base_manifest(request.base)
        requests.setdefault(weights, []).append(request)
    return requests


class ClusterJobs:
    """Jobs of one experiment on one site.

    Args:
        graph: of a completed configuration.
        site: the cluster.
        assumptions: the accelerator, whose memory the site's replaces, and known models.
        overrides: by rule, resources that the user has set (`--set-resources`). Resources that
            follow from `gpu`, `nodes` and an engine's sizes follow from the user's values.
    """

    def __init__(
        self,
        graph: Graph,
        site: Site,
        assumptions: Assumptions,
        overrides: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self._graph = graph
        self._site = site
        self._device = replace(assumptions.device, memory=site.gpu_memory)
        self._known_models = assumptions.models
        self._overrides = overrides
        self._full = full_models(graph)
        self._shapes: dict[str, Shape] = {}
        self._rows: dict[str, int] = {}

    def plan(self) -> str:
        """A table of all GPU jobs, grouped by what they ask for at their first attempt.

        Raises:
            ValueError: a model does not fit on the site's GPUs.
        """
        graph, jobs = self._graph, Counter()
        for node in graph.trained_nodes():
            method = f"{graph.method(node).trainer}, {graph.training_settings(node)['adapter']}"
            needs = self._sizes(self.training, node)
            jobs["train", graph.base_of(node), method, needs] += 1
        for round_ in graph.engine_rounds():
            models = "+".join(graph.bases(round_))
            jobs["generate", models, "", self._sizes(self.generation, round_)] += 1
        rows = [(*texts, str(count), *sizes) for (*texts, sizes), count in jobs.items()]
        rows.sort(key=lambda row: (row[0] != "train", row[1:3]))
        return "\n".join(align_columns([(*_TEXTS, *_NUMBERS), *rows], left_columns=len(_TEXTS)))

    @staticmethod
    def _sizes(needs_of: Callable[[Any], Needs], key: Any) -> tuple[str, ...]:
        """Cells of a job under the headings after "jobs"; "?" for a model of unknown size."""
        try:
            needs = needs_of(key)
        except FileNotFoundError:
            return ("?",) * (len(_NUMBERS) - 1)
        sizes = (needs.gpus, needs.nodes, needs.cpus, round(needs.mem_mb / 1000), needs.runtime)
        return tuple(map(str, sizes))

    def shape(self, model: str) -> Shape:
        """Sizes of a base model.

        Raises:
            FileNotFoundError: the model has no `parameters` and is not fetched yet. The error names
                its manifest: Snakemake then shows <TBD>, and asks again once the manifest is there.
        """
        if model not in self._shapes:
            manifest = self._graph.base_manifest(model)
            entry = self._graph.config["models"][model]
            folder = entry.get("path") or manifest.removesuffix(".json")
            try:
                self._shapes[model] = model_shape(entry, folder, self._known_models)
            except FileNotFoundError as error:
                raise FileNotFoundError(2, "not fetched yet", manifest) from error
        return self._shapes[model]

    def rows(self, table: str) -> int | None:
        """Rows of a Parquet table; None while the table is not there."""
        if table not in self._rows:
            if not Path(table).is_file():
                return None
            self._rows[table] = pl.scan_parquet(table).select(pl.len()).collect().item()
        return self._rows[table]

    def _questions(self, split: Split) -> int | None:
        """Rows of a split: of its table, else as the configuration gives them."""
        if (rows := self.rows(split.path(self._graph.paths))) is not None:
            return rows
        size = self._graph.task(split.task).data["splits"].get(split.name)
        return size if isinstance(size, int) else None

    def _override(self, rule: str, *names: str) -> dict[str, int]:
        """Those of the named resources of a rule that the user has set to a number."""
        values = self._overrides.get(rule, {})
        return {name: values[name] for name in names if isinstance(values.get(name), int)}

    def training(self, node: Node, attempt: int = 1) -> Needs:
        """Needs of the training of a node.

        Raises:
            ValueError: see `gpu_needs.training_gpus`.
            FileNotFoundError: see `shape`.
        """
        return training_needs(
            cost_of_training(self._graph, node, self.shape(self._graph.base_of(node))),
            self._site,
            self._device,
            rows=self.rows(self._graph.rows(node)),
            attempt=attempt,
            overrides=self._override("train", "gpu", "nodes"),
        )

    def generation(self, round_: Round, attempt: int = 1) -> Needs:
        """Needs of a generation round, for the largest of its base models.

        Raises:
            ValueError: see `gpu_needs.engine_sizes`.
            FileNotFoundError: see `shape`.
        """
        shapes = map(self.shape, self._graph.bases(round_))
        by_weights = requests_by_weights(self._graph, round_, self._full)
        return generation_needs(
            max(shapes, key=lambda shape: shape.parameters),
            self._graph.engine(round_.task),
            [
                (
                    self._questions(request.questions),
                    request.decoding.get("n", 1),
                    self._graph.task(round_.task).max_tokens,
                )
                for requests in by_weights.values()
                for request in requests
            ],
            self._site,
            self._device,
            loads=len(by_weights),
            attempt=attempt,
            overrides=self._override("generate", "gpu", "nodes", *ENGINE_SIZES),
        )

    def gpu_resource(self, name: str, needs: Needs) -> int | str | None:
        """A resource of TRAINING_RESOURCES or GENERATION_RESOURCES for a job with these needs.

        SLURM gets one task for each node, with all the CPUs there. The script decides what runs on
        the node; the executor's own default, a task for each GPU, would multiply the CPUs. A job on
        several nodes is an `mpi` job for the executor. Other jobs run inside a step on one node,
        from which no step on another node could be started.
        """
        site, several = self._site, needs.nodes > 1
        if name == "slurm_extra":
            # In equal parts: SLURM might give three GPUs of one node and one of another.
            model = f"{site.gpu_model}:" if site.gpu_model else ""
            return f"--gpus-per-node={model}{needs.gpus // needs.nodes}" if several else None
        values = {
            "gpu": needs.gpus,
            "gpu_model": site.gpu_model,
            "cpus_per_task": needs.cpus,
            "slurm_partition": site.gpu_partition,
            "slurm_account": site.account,
            "tasks_per_gpu": 0,
            "tasks": needs.nodes if several else None,
            "mpi": "srun" if several else None,
        }
        return values[name] if name in values else getattr(needs, name)

    def cpu_resource(self, name: str, attempt: int = 1) -> int | str | None:
        """A resource of CPU_RESOURCES for a job without a GPU."""
        site = self._site
        return {
            "slurm_partition": site.cpu_partition,
            "slurm_account": site.account,
            "mem_mb": round(attempt * site.cpu_memory / 1e6),
            "runtime": attempt * site.cpu_runtime,
        }[name]


def find_cluster(graph: Graph, resource_settings: Any) -> ClusterJobs | None:
    """The cluster that this run's jobs go to.

    The environment variable W2S_SITE names its site file, else the default resource `site` of the
    profile. It is a resource because Snakemake passes resources on to the jobs that it submits.
    Where the site has a scratch folder, this sets the cache variables of libraries for this process
    and the jobs it starts. Variables that are set already stay.

    Args:
        graph: of the experiment.
        resource_settings: Snakemake's resource settings of the workflow.

    Returns:
        None without a site file: jobs then run on this machine.

    Raises:
        ConfigError: the site file is wrong.
    """
    file = os.environ.get(VARIABLE) or default_resource(resource_settings, "site")
    if not file:
        return None
    site = read_site(file)
    if site.scratch:
        for name, folder in cache_variables(site.scratch).items():
            os.environ.setdefault(name, folder)
    return ClusterJobs(graph, site, read_assumptions(), set_resources(resource_settings))
