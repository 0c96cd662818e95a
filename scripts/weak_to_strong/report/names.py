"""Names, order and choice of metric rows: what the tables and figures of the report share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl

from weak_to_strong.tables.schemas import ALL_SEEDS, NONE

#: Name of each method of the paper, in the order of presentation.
METHOD_LABELS = {
    "weak": "Weak model",
    "full_weak": "Full weak fine-tuning",
    "strong_zero_shot": "Strong zero-shot",
    "weak_icl": "Weak in-context",
    "weak_ft": "Weak-FT",
    "icl_ft": "ICL-FT",
    "hybrid_ft": "Hybrid-FT",
    "dpo": "DPO",
    "orpo": "ORPO",
    "ceiling": "Strong ceiling",
}
#: What each method is, in a few words.
METHOD_NOTES = {
    "weak": "floor: trained on gold train_1",
    "full_weak": "strong model, all weak labels",
    "strong_zero_shot": "strong base, no training",
    "weak_icl": "strong base, weak demonstrations",
    "weak_ft": "kept weak answers",
    "icl_ft": "kept in-context answers",
    "hybrid_ft": "kept answers of both sides",
    "dpo": "preference pairs from M_plus",
    "orpo": "preference pairs from M_plus",
    "ceiling": "strong model, gold train_2",
}


@dataclass(frozen=True, order=True)
class ChainName:
    """One weak-to-strong chain: which weak model supervises which strong model on which task."""

    task: str
    weak: str
    strong: str

    def __str__(self) -> str:
        return f"{self.task}: {self.weak} → {self.strong}"


class NodeName(NamedTuple):
    """A model of one chain, over all seeds. `iteration` is 0 for a method without iterations."""

    method: str
    iteration: int


class MetricValue(NamedTuple):
    """Value, 95% interval and `n` of one metric row. An undefined interval is None, None."""

    value: float
    low: float | None
    high: float | None
    n: int


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key under which "10" follows "9"."""
    parts = re.findall(r"\d+|\D+", text)
    return [_number_key(part) if part.isdecimal() else (1, 0, part) for part in parts]


def _number_key(digits: str) -> tuple[int, int, str]:
    # `int` refuses numbers of more than 4300 digits, so numbers are compared as texts.
    digits = "".join(str(int(digit)) for digit in digits).lstrip("0")
    return (0, len(digits), digits)


def method_label(method: str) -> str:
    """Readable name of a method. A variant (`<method>@<variant>`) has its name in brackets.

    A method that the paper does not have keeps its configured name.
    """
    name, _, variant = method.partition("@")
    label = METHOD_LABELS.get(name, name)
    return f"{label} [{variant}]" if variant else label


def node_label(node: NodeName) -> str:
    """Readable name of a node, with its iteration where it has one."""
    label = method_label(node.method)
    return f"{label}, iteration {node.iteration}" if node.iteration > 0 else label


def node_key(node: NodeName) -> tuple[int, str, int]:
    """Sort key: the order of METHOD_LABELS; added methods stand just before the ceiling.

    Variants follow their method.
    """
    order = list(METHOD_LABELS)
    name = node.method.partition("@")[0]
    if name == "ceiling":
        place = len(order) + 1
    elif name in METHOD_LABELS:
        place = order.index(name)
    else:
        place = len(order)
    return place, node.method, node.iteration


def list_chains(frame: pl.DataFrame) -> list[ChainName]:
    """Sorted chains of a METRICS or DIAGNOSTICS table. Rows that lack a model name no chain."""
    rows = frame.select("task", "weak", "strong").unique().rows()
    return sorted(ChainName(*row) for row in rows if NONE not in row[1:])


def rows_of_chain(frame: pl.DataFrame, chain: ChainName) -> pl.DataFrame:
    """Rows of a chain, with those of models that it shares with other chains of its task."""
    return frame.filter(
        pl.col("task") == chain.task,
        pl.col("weak").is_in([chain.weak, NONE]),
        pl.col("strong").is_in([chain.strong, NONE]),
    )


def evaluated_split(metrics: pl.DataFrame) -> str:
    """The split that METRICS rows are about: "test" if present, else the first by name.

    Without any rows: "test".
    """
    names = metrics["split"].drop_nulls().unique().to_list() if metrics.height else []
    splits = sorted(name for name in names if "/" not in name)
    return "test" if "test" in splits or not splits else splits[0]


def list_seeds(frame: pl.DataFrame) -> list[int]:
    """Sorted seeds of a table, without the rows over all seeds."""
    return sorted(set(frame["seed"].drop_nulls().to_list()) - {ALL_SEEDS})


def list_nodes(frame: pl.DataFrame) -> list[NodeName]:
    """Nodes of a table in the order of presentation."""
    rows = frame.select("method", pl.col("iteration").fill_null(0)).unique().rows()
    return sorted((NodeName(*row) for row in rows), key=node_key)


def finite_or_none(value: Any) -> float | None:
    """`value` as a float, or None where it is null, NaN or infinite."""
    if value is None or value != value or value in (float("inf"), float("-inf")):
        return None
    return float(value)


def find_value(
    rows: pl.DataFrame, node: NodeName, metric: str, **where: str | int
) -> MetricValue | None:
    """The one value of a node's metric.

    Args:
        rows: METRICS rows of one chain.
        node: the model.
        metric: its name in METRICS.
        where: required values of other columns (`scorer`, `split`, `k`, `seed`). Without `seed`
            the row over all seeds is taken, or the only seed.

    Returns:
        None where the metric is absent or undefined, or where several rows remain.
    """
    conditions = [
        pl.col("method") == node.method,
        pl.col("iteration").fill_null(0) == node.iteration,
        pl.col("metric") == metric,
        *(pl.col(column) == value for column, value in where.items()),
    ]
    matching = rows.filter(conditions)
    if "seed" not in where and matching["seed"].n_unique() > 1:
        matching = matching.filter(pl.col("seed") == ALL_SEEDS)
    if matching.height != 1:
        return None
    row = matching.row(0, named=True)
    value = finite_or_none(row["value"])
    if value is None:
        return None
    ends = finite_or_none(row["ci_low"]), finite_or_none(row["ci_high"])
    return MetricValue(value, *ends, row["n"] or 0)
