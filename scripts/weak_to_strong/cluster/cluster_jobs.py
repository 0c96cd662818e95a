"""Resources of an experiment's jobs on a cluster: the needs of its nodes and rounds, by rule.

The rules take them as functions of their wildcards and of the attempt. Nothing here is a parameter
of a rule, so that another site, or another number of GPUs, reruns nothing.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from weak_to_strong.cluster.estimates import Assumptions, Shape, read_assumptions
from weak_to_strong.cluster.gpu_needs import Needs, generation_needs, model_shape, training_needs
from weak_to_strong.cluster.site_file import VARIABLE, Site, cache_variables, read_site
from weak_to_strong.experiment.graph import Graph
from weak_to_strong.experiment.nodes import Node, Round
from weak_to_strong.jobs.snakemake_adapter import default_resource, set_resources

#: What the executor asks SLURM for, and what the scripts read.
GPU_RESOURCES = (
    *("gpu", "gpu_model", "nodes", "mem_mb", "cpus_per_task", "runtime"),
    *("slurm_partition", "slurm_account", "slurm_extra", "tasks_per_gpu", "tasks", "mpi"),
)
TRAINING_RESOURCES = (*GPU_RESOURCES, "checkpoint_minutes")
GENERATION_RESOURCES = (*GPU_RESOURCES, "tensor_parallel_size")
CPU_RESOURCES = ("slurm_partition", "slurm_account", "mem_mb", "runtime")

#: Heads of a plan's columns of numbers.
_COLUMNS = ("GPUs", "nodes", "CPUs/node", "GB/node", "minutes")


def _cells(needs: Needs | None) -> list[str]:
    """A plan's cells; "?" for a model that is not there yet and has no `parameters`."""
    if needs is None:
        return ["?"] * len(_COLUMNS)
    sizes = (needs.gpus, needs.nodes, needs.cpus, round(needs.mem_mb / 1000), needs.runtime)
    return list(map(str, sizes))


class ClusterJobs:
    """Jobs of one experiment on one site.

    Args:
        graph: of a completed configuration.
        site: the cluster.
        assumptions: of which the accelerator counts, but with the site's memory, and known models.
        overrides: by rule, resources that the user has set (`--set-resources`). Those that decide
            others - `gpu`, `nodes`, `tensor_parallel_size` - decide them here too.
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
        self._device = assumptions.device
        self._known_models = assumptions.models
        self._overrides = overrides
        self._nodes = {graph.manifest(node): node for node in graph.trained_nodes()}
        self._shapes: dict[str, Shape] = {}
        self._rows: dict[str, int] = {}

    def plan(self) -> str:
        """All GPU jobs of the experiment by what they ask for at their first attempt, as a table.

        Raises:
            ValueError: a model does not fit on the site's GPUs.
        """
        graph, found = self._graph, Counter()
        for node in graph.trained_nodes():
            name = f"{graph.method(node).trainer}, {graph.training_settings(node)['adapter']}"
            found["train", graph.base_of(node), name, self._known(self.training, node)] += 1
        for round_ in graph.rounds():
            bases = "+".join(graph.bases(round_))
            found["generate", bases, "", self._known(self.generation, round_)] += 1
        head = ("rule", "model", "method", "jobs", *_COLUMNS)
        rows = [
            (rule, model, method, str(count), *_cells(needs))
            for (rule, model, method, needs), count in found.items()
        ]
        rows.sort(key=lambda row: (row[0] != "train", row[1:3]))
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = (
            "  ".join(
                cell.ljust(width) if place < 3 else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in (head, *rows)
        )
        return "\n".join(lines)

    @staticmethod
    def _known(needs: Callable[[Any], Needs], key: Any) -> Needs | None:
        try:
            return needs(key)
        except FileNotFoundError:  # a model whose size is in no file yet
            return None

    def shape(self, model: str) -> Shape:
        """Sizes of a base model.

        Raises:
            FileNotFoundError: a model without `parameters` that is still to be fetched; of its
                manifest, so that Snakemake shows the resource as <TBD> and asks again then.
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
        """Rows of a Parquet table; None while it is not there."""
        if table not in self._rows:
            if not Path(table).is_file():
                return None
            self._rows[table] = pl.scan_parquet(table).select(pl.len()).collect().item()
        return self._rows[table]

    def _questions(self, table: str) -> int | None:
        """Rows of a split: of its table, else as the configuration gives them."""
        if (rows := self.rows(table)) is not None:
            return rows
        path = Path(table)
        size = self._graph.config["tasks"][path.parent.name]["splits"].get(path.stem)
        return size if isinstance(size, int) else None

    def _override(self, rule: str, *names: str) -> dict[str, Any]:
        own = self._overrides.get(rule, {})
        return {key: own[key] for key in names if isinstance(own.get(key), int)}

    def training(self, node: Node, attempt: int = 1) -> Needs:
        """Needs of the training of a node.

        Raises:
            ValueError: see `gpu_needs.training_gpus`.
            FileNotFoundError: see `shape`.
        """
        graph = self._graph
        settings = graph.training_settings(node)
        init = graph.init_of(node)
        if init and "lora" not in settings:
            settings["lora"] = graph.training_settings(init).get("lora")
        set_by_user = self._override("train", "gpu", "nodes")
        return training_needs(
            self.shape(graph.base_of(node)),
            graph.method(node).trainer,
            settings,
            self._site,
            self._device,
            rows=self.rows(graph.rows(node)),
            attempt=attempt,
            gpus=set_by_user.get("gpu") or set_by_user.get("nodes"),
            nodes=set_by_user.get("nodes"),
        )

    def generation(self, round_: Round, attempt: int = 1) -> Needs:
        """Needs of a generation round, of whose bases the largest counts.

        Raises:
            ValueError: see `gpu_needs.tensor_parallel_size`.
            FileNotFoundError: see `shape`.
        """
        graph = self._graph
        requests = graph.round_requests(round_)
        set_by_user = self._override("generate", "gpu", "nodes", "tensor_parallel_size")
        size = set_by_user.get("tensor_parallel_size")
        gpus = set_by_user.get("gpu")
        if nodes := set_by_user.get("nodes"):
            gpus = gpus or nodes * (size or 1)
        return generation_needs(
            max(map(self.shape, graph.bases(round_)), key=lambda shape: shape.parameters),
            graph.engine(round_.task),
            [
                (self._questions(each["problems"]), each["n"], each["max_tokens"])
                for each in requests
            ],
            self._site,
            self._device,
            loads=len({self._weights(each) for each in requests}),
            attempt=attempt,
            gpus=gpus,
            nodes=nodes,
            tensor_parallel=size,
        )

    def _weights(self, request: Mapping[str, Any]) -> str:
        """What an engine loads for a request: full weights of a trained model, or its base's."""
        node = self._nodes.get(request["model"])
        full = node and self._graph.training_settings(node)["adapter"] == "full"
        return request["model" if full else "base"]

    def gpu_resource(self, name: str, needs: Needs) -> int | str | None:
        """One of GPU_RESOURCES (and of those that the scripts read) for a job with these needs.

        SLURM gets one task a node, with all of its CPUs: what runs on the node is the script's
        matter, and the executor's own default, a task for each GPU, would multiply the CPUs. A job
        on several nodes is an `mpi` one to the executor: it is then not wrapped in a step of one
        node, out of which no step on the others could be started.
        """
        site, several = self._site, needs.nodes > 1
        if name == "slurm_extra":
            # In equal parts: SLURM might give three GPUs of one node and one of the other.
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
        """`slurm_partition`, `slurm_account`, `mem_mb` or `runtime` of a job without a GPU."""
        site = self._site
        return {
            "slurm_partition": site.cpu_partition,
            "slurm_account": site.account,
            "mem_mb": round(attempt * site.cpu_memory / 1e6),
            "runtime": attempt * site.cpu_runtime,
        }[name]


def find_cluster(graph: Graph, resource_settings: Any) -> ClusterJobs | None:
    """The cluster that this run's jobs go to: where a profile names a site file, or W2S_SITE does.

    The profile does so by a default resource, `site`, since that is what Snakemake hands on to the
    jobs that it sends. Where the site has a scratch folder, the caches of libraries are put there
    for this process and the jobs it starts; variables that are set already stay.

    Args:
        graph: of the experiment.
        resource_settings: Snakemake's, of the workflow.

    Returns:
        None without a site file: jobs then run on this machine.

    Raises:
        ValueError: the site file is wrong.
    """
    file = os.environ.get(VARIABLE) or default_resource(resource_settings, "site")
    if not file:
        return None
    site = read_site(file)
    if site.scratch:
        for name, folder in cache_variables(site.scratch).items():
            os.environ.setdefault(name, folder)
    return ClusterJobs(graph, site, read_assumptions(), set_resources(resource_settings))
