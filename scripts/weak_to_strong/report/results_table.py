"""The headline results as a text table for a terminal (table.txt)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from weak_to_strong.evaluation.metrics import headline_results, node_of, node_text
from weak_to_strong.report.findings import comparisons
from weak_to_strong.report.names import (
    ChainName,
    NodeName,
    evaluated_splits,
    find_value,
    list_controls,
    rows_of_chain,
)
from weak_to_strong.tables.aligned_text import align_columns
from weak_to_strong.tables.schemas import ALL_SEEDS, BROKEN, NONE

_HEADINGS = ("method", "seed", "n", "paper %", "math %", "vs full_weak", "p", "detectable", "PGR")
_COMPARISON_HEADINGS = ("model", "%", "compared with", "its %", "difference", "p", "detectable")


def results_table(metrics: pl.DataFrame) -> str:
    """Accuracies in %, differences in points, 95 % intervals in brackets.

    Each pair of weak and strong model of a task has a block, with the floor and the ceiling that it
    shares with other pairs; with several test sets it has a block for each. A node with several
    seeds has one row over all of them. A control stands below the method that it controls. A second
    table has the comparisons with predecessors and counterparts (`findings.comparisons`).
    `detectable` is the minimum detectable difference.

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
        of_chain = rows_of_chain(metrics, ChainName(task, weak, strong))
        heading = f"{task}: weak {weak}, strong {strong}"
        splits = evaluated_splits(of_chain)
        for split in splits:
            records = [
                record
                for record in chosen
                if record["task"] == task
                and record["weak"] in (weak, NONE)
                and record["strong"] in (strong, NONE)
                and record["split"] == split
            ]
            title = f"{heading}, {split}" if len(splits) > 1 else heading
            blocks += _blocks(title, records, of_chain, split)
    return "\n".join(blocks) or "\n"


def _blocks(heading: str, records: list[dict], of_chain: pl.DataFrame, split: str) -> list[str]:
    """The table of a chain's models on a split, and that of their comparisons if there are any."""
    if any(f"@{BROKEN}" in record["method"] for record in records):
        heading += f"\n  WARNING: @{BROKEN}... has a stage that is broken on purpose"
    rows = [_cells(record) for record in _order(records, of_chain)]
    blocks = [f"{heading}\n" + _indented([_HEADINGS, *rows])]
    if compared := _comparison_rows(of_chain, split):
        blocks.append(_indented([_COMPARISON_HEADINGS, *compared]))
    return blocks


def _indented(rows: list[tuple[str, ...]]) -> str:
    """The lines of a table, indented."""
    return "".join(f"  {line}\n" for line in align_columns(rows))


def _order(records: list[dict], rows: pl.DataFrame) -> list[dict]:
    """The records with each control behind the method that it controls, where that has a row."""
    differences = rows.filter(
        pl.col("method").is_in(list_controls(rows)), metric="difference_vs_counterpart"
    )
    controlled = {
        (row["method"], row["iteration"]): row["reference"]
        for row in differences.iter_rows(named=True)
    }
    ordered, behind = [], {}
    for record in records:
        reference = controlled.get((record["method"], record["iteration"]))
        (behind.setdefault(reference, []) if reference else ordered).append(record)
    return [record for first in ordered for record in (first, *behind.get(node_text(first), ()))]


def _comparison_rows(rows: pl.DataFrame, split: str) -> list[tuple[str, ...]]:
    """Cells under _COMPARISON_HEADINGS, of one chain."""
    controls = list_controls(rows)

    def name(node: NodeName) -> str:
        return node_text(node._asdict()) + (" (control)" if node.method in controls else "")

    def accuracy(node: NodeName) -> str:
        value = find_value(rows, node, "accuracy", scorer="paper", split=split, k=1)
        return f"{100 * value.value:.1f}" if value else "-"

    return [
        (
            name(node),
            accuracy(node),
            name(compared.other),
            accuracy(compared.other),
            f"{100 * compared.difference.value:+.1f} "
            f"[{100 * compared.difference.low:+.1f}, {100 * compared.difference.high:+.1f}]",
            "-" if compared.single_p is None else f"{compared.single_p:.2g}",
            _points(compared.detectable),
        )
        for reference in ("predecessor", "counterpart")
        for node, compared in comparisons(rows, split, reference).items()
    ]


def _points(share: float | None) -> str:
    return f"{100 * share:.1f}" if share else "-"


def _cells(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Cells of one model under _HEADINGS; "-" for a metric that does not apply."""
    paper = record["paper"]
    tests = ("sign_flip_p_vs_full_weak", "mcnemar_p_vs_full_weak")
    p = next((paper[test]["value"] for test in tests if paper[test]), None)
    difference = paper["difference_vs_full_weak"] or {}
    return (
        node_text(record),
        "all" if record["seed"] == ALL_SEEDS else str(record["seed"]),
        str(paper["accuracy"]["n"]),
        _value_text(paper["accuracy"], 100, 1),
        _value_text(record["math"]["accuracy"], 100, 1),
        _value_text(difference, 100, 1, "+"),
        "-" if p is None else f"{p:.2g}",
        _points(difference.get("detectable")),
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
