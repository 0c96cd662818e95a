"""How much work a job is, for the progress line of a run: samples to generate, rows to train on."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import polars as pl

from weak_to_strong.experiment.graph import Graph
from weak_to_strong.experiment.nodes import Node, Round
from weak_to_strong.jobs.progress import PlannedWork


class WorkSizes:
    """Kinds and sizes of the jobs of an experiment.

    Args:
        graph: of a completed configuration.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._rows: dict[str, int] = {}

    def of(self, rule: str, wildcards: Mapping[str, str]) -> PlannedWork | None:
        """The work of a job; None for a model or round that the experiment does not have."""
        try:
            if rule == "train":
                names = (wildcards[name] for name in ("chain", "method", "iteration"))
                return self._training(self._graph.node_of(*names))
            if rule == "generate":
                return self._round(self._graph.round(wildcards["round"]))
        except (KeyError, ValueError):
            return None
        return PlannedWork(rule)

    def _training(self, node: Node) -> PlannedWork:
        graph = self._graph
        kind = f"train {graph.method(node).trainer} {graph.base_of(node)}"
        settings, rows = graph.training_settings(node), graph.rows(node)

        def size() -> float | None:
            if settings.get("max_steps"):
                return settings["max_steps"] * settings["global_batch_size"]
            count = self._count(rows)
            return None if count is None else settings["epochs"] * count

        return PlannedWork(kind, size, makes_tokens=True)

    def _round(self, round_: Round) -> PlannedWork:
        graph = self._graph
        requests = graph.requests(round_)
        samples = [
            (request.questions.path(graph.paths), request.decoding.get("n", 1))
            for request in requests
        ]

        def size() -> float | None:
            counts = [(self._count(questions), n) for questions, n in samples]
            return None if None in (count for count, _ in counts) else sum(c * n for c, n in counts)

        return PlannedWork(f"generate {' '.join(graph.bases(round_))}", size, makes_tokens=True)

    def _count(self, table: str) -> int | None:
        """Rows of a table, from its footer; None while it is not there."""
        if table not in self._rows:
            with suppress(OSError, pl.exceptions.PolarsError):
                if Path(table).is_file():
                    rows = pl.scan_parquet(table).select(pl.len()).collect().item()
                    self._rows[table] = rows
        return self._rows.get(table)
