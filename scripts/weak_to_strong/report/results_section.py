"""The section "Results": models of each chain with their metrics, also by seed and by level."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import polars as pl

from weak_to_strong.report.display_text import DASH, count_text, p_text, percent, share_cell
from weak_to_strong.report.findings import best_node, comparisons, findings
from weak_to_strong.report.names import (
    ASKED_NOTE,
    METHOD_NOTES,
    EvaluatedChain,
    MetricValue,
    NodeName,
    find_exact_p,
    find_row,
    find_value,
    list_controls,
    list_nodes,
    list_seeds,
    method_label,
    metric_value,
    natural_key,
    node_label,
    rows_of_chain,
)
from weak_to_strong.report.page_table import PageTable
from weak_to_strong.tables.schemas import SCORERS

#: Methods that bound the gap, and their tags.
_ANCHORS = {"weak": "floor", "ceiling": "ceiling"}
#: Width in pixels of the drawing of an accuracy and its interval.
_WIDTH = 200
#: Metrics of the tables by seed, and their titles.
_METRICS_BY_SEED = {
    "accuracy": "Accuracy (%)",
    "difference_vs_full_weak": "Difference to full weak fine-tuning (points)",
    "mcnemar_p_vs_full_weak": "McNemar p against full weak fine-tuning",
    "difference_vs_predecessor": "Difference to the model before it (points)",
    "mcnemar_p_vs_predecessor": "McNemar p against the model before it",
    "difference_vs_counterpart": "Difference to the counterpart (points)",
    "mcnemar_p_vs_counterpart": "McNemar p against the counterpart",
}
_COMPARISONS_CAPTION = (
    "Each model beside the one that it should improve on, each control beside the method that it "
    "controls, each variant beside the same method of its chain; paper scorer. Detectable: the "
    "least difference that so many questions and seeds would show with a power of 80%."
)


def chain_results(
    metrics: pl.DataFrame, evaluation: EvaluatedChain, asked: Collection[str] = ()
) -> dict[str, Any]:
    """What the template shows of one chain on one evaluated split.

    Args:
        metrics: METRICS.
        evaluation: the chain and the split.
        asked: names of the weak models that are behind an endpoint.

    Returns:
        `name`, `split`, `findings`, `rows` (one dictionary for each model), `scale` (right end of
        the drawings in per cent), `band` (left end and width in pixels of the gap between floor
        and ceiling, or None), `over_seeds` (a note, or ""), `comparisons` (tables, at most one),
        `details` (tables by seed and by level).
    """
    chain, split, title = evaluation
    rows = rows_of_chain(metrics, chain)
    models = list_nodes(rows.filter(pl.col("split") == split))
    accuracy = {
        node: {
            scorer: find_value(rows, node, "accuracy", scorer=scorer, split=split, k=1)
            for scorer in SCORERS
        }
        for node in models
    }
    scale = _choose_scale(value for values in accuracy.values() for value in values.values())
    best, controls = best_node(rows, split, "paper"), list_controls(rows)
    table = [
        {
            **_accuracy_cells(node, accuracy[node], scale),
            **_comparison_cells(rows, node, split),
            **({"note": ASKED_NOTE} if node.method == "weak" and chain.weak in asked else {}),
            "best": best is not None and node == best[0],
            "check": "control" if node.method in controls else "broken" if node.is_broken else None,
        }
        for node in models
    ]
    anchors = [accuracy.get(NodeName(method, 0), {}).get("paper") for method in _ANCHORS]
    band = None
    if all(anchors):
        low, high = sorted(_pixels(anchor.value, scale) for anchor in anchors)
        band = [low, round(high - low, 1)]
    seeds = list_seeds(rows)
    return {
        "name": title,
        "split": split,
        "findings": findings(rows, split),
        "rows": table,
        "scale": f"{100 * scale:.0f}",
        "band": band,
        "over_seeds": f", means over {len(seeds)} seeds" if len(seeds) > 1 else "",
        "comparisons": _comparison_tables(rows, split),
        "details": [*_tables_by_seed(rows, split), *_tables_by_level(rows, split)],
    }


def _accuracy_cells(
    node: NodeName, accuracy: Mapping[str, MetricValue | None], scale: float
) -> dict[str, Any]:
    """Name of a model, its accuracy by both scorers, and the drawing of the paper scorer's."""
    paper = accuracy["paper"]
    return {
        "label": method_label(node.method),
        "note": METHOD_NOTES.get(node.method),
        "anchor": _ANCHORS.get(node.method),
        "iteration": node.iteration,
        "paper": share_cell(paper),
        "math": share_cell(accuracy["math"]),
        "n": count_text(paper.n) if paper else DASH,
        "range": _interval_pixels(paper, scale) if paper else None,
    }


def _comparison_cells(rows: pl.DataFrame, node: NodeName, split: str) -> dict[str, Any]:
    """Difference to full weak fine-tuning, its p, and PGR; None where one does not apply."""
    p = find_exact_p(rows, node, "full_weak", scorer="paper", split=split)
    gap = find_value(rows, node, "pgr", scorer="paper", split=split)
    row = find_row(rows, node, "difference_vs_full_weak", scorer="paper", split=split)
    if node.method == "full_weak":
        p = row = None
    return {
        "difference": share_cell(row and metric_value(row), signed=True),
        "p": p_text(p.value) if p else None,
        "detectable": percent(row["detectable"]) if row and row["detectable"] else None,
        "pgr": None if node.method in _ANCHORS else share_cell(gap),
    }


def _comparison_tables(rows: pl.DataFrame, split: str) -> list[PageTable]:
    """The table of comparisons with predecessors and counterparts, if there are any."""

    def accuracy(node: NodeName) -> Any:
        return share_cell(find_value(rows, node, "accuracy", scorer="paper", split=split, k=1))

    body = [
        [
            node_label(node),
            node_label(compared.other),
            accuracy(node),
            accuracy(compared.other),
            share_cell(compared.difference, signed=True),
            p_text(compared.single_p) if compared.single_p is not None else None,
            percent(compared.detectable) if compared.detectable else None,
        ]
        for reference in ("predecessor", "counterpart")
        for node, compared in comparisons(rows, split, reference).items()
    ]
    columns = ["Model", "Compared with", "Accuracy (%)", "of the other (%)"]
    columns += ["Difference (points)", "Exact p", "Detectable (points)"]
    return [PageTable("Comparisons", _COMPARISONS_CAPTION, columns, body, 2)] if body else []


def _choose_scale(accuracies: Iterable[MetricValue | None]) -> float:
    """Right end of the drawings: the highest accuracy, rounded up to a tenth."""
    highest = max((value.high or value.value for value in accuracies if value), default=1.0)
    return min(1.0, max(0.1, -(-highest * 100 // 10) / 10))


def _pixels(share: float, scale: float) -> float:
    return round(_WIDTH * min(max(share / scale, 0.0), 1.0), 1)


def _interval_pixels(value: MetricValue, scale: float) -> list[float]:
    """Low end, value and high end; without an interval all three are the value."""
    low = value.value if value.low is None else value.low
    high = value.value if value.high is None else value.high
    return [_pixels(share, scale) for share in (low, value.value, high)]


def _tables_by_seed(rows: pl.DataFrame, split: str) -> list[PageTable]:
    """Each metric of each seed, where several seeds were run."""
    seeds = list_seeds(rows)
    if len(seeds) < 2:
        return []
    on_split = rows.filter(pl.col("split") == split)

    def cell(node: NodeName, metric: str, seed: int) -> Any:
        value = find_value(on_split, node, metric, scorer="paper", seed=seed)
        if metric.startswith("mcnemar"):
            return p_text(value.value) if value else None
        return share_cell(value, signed=metric.startswith("difference"))

    tables = []
    for metric, title in _METRICS_BY_SEED.items():
        measured = list_nodes(on_split.filter(pl.col("metric") == metric))
        body = [
            [node_label(node), *(cell(node, metric, seed) for seed in seeds)] for node in measured
        ]
        if body:
            label = f"{title}, by seed"
            columns = ["Method", *(f"seed {seed}" for seed in seeds)]
            tables.append(PageTable(label, f"{label}; paper scorer.", columns, body))
    return tables


def _tables_by_level(rows: pl.DataFrame, split: str) -> list[PageTable]:
    """Accuracy of each level, where the task has levels."""
    prefix = f"{split}/level="
    leveled = rows.filter(pl.col("metric") == "accuracy", pl.col("split").str.starts_with(prefix))
    levels = sorted(leveled["split"].unique().to_list(), key=natural_key)
    if not levels:
        return []

    def cell(node: NodeName, level: str) -> Any:
        return share_cell(find_value(leveled, node, "accuracy", scorer="paper", split=level))

    body = [
        [node_label(node), *(cell(node, level) for level in levels)] for node in list_nodes(leveled)
    ]
    sizes = {level: leveled.filter(pl.col("split") == level)["n"].min() or 0 for level in levels}
    columns = ["Method", *(f"{level.removeprefix(prefix)} (n={sizes[level]})" for level in levels)]
    return [PageTable("Accuracy by level", "Accuracy by level (%), paper scorer.", columns, body)]
