"""What tables and figures of the report share: names, order and choice of metric rows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl

from weak_to_strong.tables.schemas import ALL_SEEDS, NONE

#: Methods of the paper in the order in which they build on each other.
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
#: Short reading aid of each method.
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
SCORER_LABELS = {"paper": "Paper (string equality)", "math": "Math (math-verify)"}
_AFTER_PREFERENCE = ("ceiling",)


@dataclass(frozen=True, order=True)
class ChainName:
    """One weak-to-strong chain: who supervises whom on which task."""

    task: str
    weak: str
    strong: str

    def __str__(self) -> str:
        return f"{self.task}: {self.weak} → {self.strong}"


class NodeName(NamedTuple):
    """A model of one chain, over seeds. `iteration` is 0 where a method has none."""

    method: str
    iteration: int


class Value(NamedTuple):
    """One metric row: estimate and 95% interval (None where not defined), and its `n`."""

    value: float
    low: float | None
    high: float | None
    n: int


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key under which "10" follows "9"."""
    parts = re.findall(r"\d+|\D+", text)
    return [_number_key(part) if part.isdecimal() else (1, 0, part) for part in parts]


def _number_key(digits: str) -> tuple[int, int, str]:
    # Python reads no number of over 4300 digits.
    digits = "".join(str(int(digit)) for digit in digits).lstrip("0")
    return (0, len(digits), digits)


def method_label(method: str) -> str:
    """Readable name of a method, or of its variant in an ablation (`<method>@<variant>`).

    An unknown one (an added entry) keeps its own name.
    """
    name, _, variant = method.partition("@")
    label = METHOD_LABELS.get(name, name)
    return f"{label} [{variant}]" if variant else label


def node_label(node: NodeName, *, iterations: bool = True) -> str:
    """Readable name of a node, with its iteration where it has one."""
    label = method_label(node.method)
    return f"{label}, iteration {node.iteration}" if iterations and node.iteration > 0 else label


def node_key(node: NodeName) -> tuple[int, str, int]:
    """Sort key: paper order, added methods just before the ceiling, variants after their method."""
    order = list(METHOD_LABELS)
    name = node.method.partition("@")[0]
    if name in _AFTER_PREFERENCE:
        place = len(order) + 1
    elif name in METHOD_LABELS:
        place = order.index(name)
    else:
        place = len(order)
    return place, node.method, node.iteration


def chains(frame: pl.DataFrame) -> list[ChainName]:
    """Chains named by a METRICS or diagnostics frame, sorted; a chain names both of its models."""
    rows = frame.select("task", "weak", "strong").unique().rows()
    return sorted(ChainName(*row) for row in rows if NONE not in row[1:])


def of_chain(frame: pl.DataFrame, chain: ChainName) -> pl.DataFrame:
    """Rows of a chain, among them those of nodes it shares with other chains of the task."""
    return frame.filter(
        pl.col("task") == chain.task,
        pl.col("weak").is_in([chain.weak, NONE]),
        pl.col("strong").is_in([chain.strong, NONE]),
    )


def main_split(metrics: pl.DataFrame) -> str:
    """The evaluated split: "test" where there is one, else the first by name ("test" if none)."""
    names = metrics["split"].drop_nulls().unique().to_list() if metrics.height else []
    splits = sorted(name for name in names if "/" not in name)
    return "test" if "test" in splits or not splits else splits[0]


def real_seeds(frame: pl.DataFrame) -> list[int]:
    """The seeds of a frame without the summary over seeds."""
    return sorted(set(frame["seed"].drop_nulls().to_list()) - {ALL_SEEDS})


def nodes(frame: pl.DataFrame) -> list[NodeName]:
    """Nodes of a frame in the order of presentation."""
    rows = frame.select("method", pl.col("iteration").fill_null(0)).unique().rows()
    return sorted((NodeName(*row) for row in rows), key=node_key)


def finite(value: Any) -> float | None:
    """`value` as a float, or None where it is null, NaN or infinite."""
    if value is None or value != value or value in (float("inf"), float("-inf")):
        return None
    return float(value)


def pick(
    frame: pl.DataFrame,
    node: NodeName,
    metric: str,
    *,
    scorer: str | None = None,
    split: str | None = None,
    k: int | None = None,
    seed: int | None = None,
) -> Value | None:
    """The one row of a metric of a node in the METRICS rows of one chain.

    Without `seed` it is the summary over seeds, or the only seed where there is no summary.
    None where the metric is absent, not defined, or stands for several seeds at once.
    """
    wanted = [
        pl.col("method") == node.method,
        pl.col("iteration").fill_null(0) == node.iteration,
        pl.col("metric") == metric,
    ]
    for column, value in (("scorer", scorer), ("split", split), ("k", k), ("seed", seed)):
        if value is not None:
            wanted.append(pl.col(column) == value)
    rows = frame.filter(wanted)
    if seed is None and rows["seed"].n_unique() > 1:
        rows = rows.filter(pl.col("seed") == ALL_SEEDS)
    if rows.height != 1:
        return None
    row = rows.row(0, named=True)
    value = finite(row["value"])
    if value is None:
        return None
    return Value(value, finite(row["ci_low"]), finite(row["ci_high"]), row["n"] or 0)
