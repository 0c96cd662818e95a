"""The headline results as a text table for a terminal (table.txt)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from weak_to_strong.evaluation.metrics import headline_results, node_of
from weak_to_strong.tables.aligned_text import align_columns
from weak_to_strong.tables.schemas import ALL_SEEDS, NONE

_HEADINGS = ("method", "seed", "n", "paper %", "math %", "vs full_weak", "p", "PGR")


def results_table(metrics: pl.DataFrame) -> str:
    """Accuracies in %, differences in points, 95 % intervals in brackets.

    Each pair of weak and strong model of a task has a block, with the floor and the ceiling that it
    shares with other pairs. A node with several seeds has one row over all of them.

    Args:
        metrics: METRICS.
    """
    records = headline_results(metrics)
    over_seeds = {node_of(record) for record in records if record["seed"] == ALL_SEEDS}
    chosen = [
        record
        for record in records
        if record["seed"] == ALL_SEEDS or node_of(record) not in over_seeds
    ]
    pairs = list(
        dict.fromkeys((record["task"], record["weak"], record["strong"]) for record in chosen)
    )
    complete_pairs = [pair for pair in pairs if NONE not in pair]
    blocks = []
    for task, weak, strong in complete_pairs or pairs:
        rows = [
            _cells(record)
            for record in chosen
            if record["task"] == task
            and record["weak"] in (weak, NONE)
            and record["strong"] in (strong, NONE)
        ]
        lines = [f"  {line}" for line in align_columns([_HEADINGS, *rows])]
        blocks.append("\n".join([f"{task}: weak {weak}, strong {strong}", *lines]) + "\n")
    return "\n".join(blocks) or "\n"


def _cells(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Cells of one model under _HEADINGS; "-" for a metric that does not apply."""
    paper = record["paper"]
    p = (paper["mcnemar_p_vs_full_weak"] or {}).get("value")
    return (
        record["method"] + (f" {record['iteration']}" if record["iteration"] else ""),
        "all" if record["seed"] == ALL_SEEDS else str(record["seed"]),
        str(paper["accuracy"]["n"]),
        _value_text(paper["accuracy"], 100, 1),
        _value_text(record["math"]["accuracy"], 100, 1),
        _value_text(paper["difference_vs_full_weak"], 100, 1, "+"),
        "-" if p is None else f"{p:.2g}",
        _value_text(paper["pgr"], 1, 2),
    )


def _value_text(metric: Mapping[str, Any] | None, scale: float, digits: int, sign: str = "") -> str:
    """`12.3 [10.1, 14.5]`, or `12.3` without an interval, or `-` without a value."""
    if not metric or metric["value"] is None:
        return "-"
    numbers = [
        f"{metric[column] * scale:{sign}.{digits}f}"
        for column in ("value", "ci_low", "ci_high")
        if metric[column] is not None
    ]
    return numbers[0] if len(numbers) == 1 else f"{numbers[0]} [{', '.join(numbers[1:])}]"
