"""Names, order and choice of metric rows: what the tables and figures of the report share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl

from weak_to_strong.data.split_names import TEST, list_test_sets
from weak_to_strong.experiment.nodes import EvaluatedSet
from weak_to_strong.tables.schemas import ALL_SEEDS, BROKEN, CONTROL, NONE

#: Name of each method of the paper, of the demo's controls and of common comparisons, in the order
#: of presentation.
METHOD_LABELS = {
    "weak": "Weak model",
    "full_weak": "Full weak fine-tuning",
    "strong_zero_shot": "Strong zero-shot",
    "weak_icl": "Weak in-context",
    "weak_ft": "Weak-FT",
    "icl_ft": "ICL-FT",
    "random_icl": "Random ICL answers",
    "full_icl": "All ICL answers",
    "hybrid_ft": "Hybrid-FT",
    "random_hybrid": "Random hybrid answers",
    "dpo": "DPO",
    "sft_chosen": "SFT on chosen answers",
    "dpo_shuffled": "DPO, shuffled sides",
    "orpo": "ORPO",
    "kto": "KTO",
    "ttrl": "TTRL (GRPO, majority)",
    "grpo_weak_label": "GRPO, weak labels",
    "grpo_agreement": "GRPO, agreement",
    "grpo_random": "GRPO, random reward",
    "ceiling_grpo": "GRPO, gold reward",
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
    "random_icl": "as many random in-context answers",
    "full_icl": "all in-context answers",
    "hybrid_ft": "kept answers of both sides",
    "random_hybrid": "as many random answers of both sides",
    "dpo": "preference pairs from M_plus",
    "sft_chosen": "chosen answers of the pairs, no rejected ones",
    "dpo_shuffled": "a coin decides which answer is chosen",
    "orpo": "preference pairs from M_plus",
    "kto": "the answers of the pairs, one by one",
    "ttrl": "own answers, rewarded by their majority",
    "grpo_weak_label": "own answers, rewarded by weak labels",
    "grpo_agreement": "own answers, rewarded by kept weak labels",
    "grpo_random": "own answers, rewarded by a coin",
    "ceiling_grpo": "own answers, rewarded by gold train_2",
    "ceiling": "strong model, gold train_2",
}
#: What the weak model is where it is behind an endpoint.
ASKED_NOTE = "floor: answers at an endpoint as it is, not trained"


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

    @classmethod
    def read(cls, text: str) -> NodeName:
        """The model that a column `reference` names (`metrics.node_text`): `hybrid_ft 2`."""
        method, _, iteration = text.partition(" ")
        return cls(method, int(iteration or 0))

    @property
    def is_broken(self) -> bool:
        """Whether it is of a variant in which a stage is broken on purpose."""
        return self.method.partition("@")[2].startswith(BROKEN)


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


class EvaluatedChain(NamedTuple):
    """The results of a chain on one evaluated split."""

    chain: ChainName
    split: str
    title: str


def list_evaluations(metrics: pl.DataFrame) -> list[EvaluatedChain]:
    """The evaluated splits of each chain of a METRICS table: one, or several test sets."""
    evaluations = []
    for chain in list_chains(metrics):
        splits = evaluated_splits(rows_of_chain(metrics, chain))
        for split in splits:
            title = f"{chain}, {split}" if len(splits) > 1 else str(chain)
            evaluations.append(EvaluatedChain(chain, split, title))
    return evaluations


def evaluated_splits(metrics: pl.DataFrame) -> list[str]:
    """The splits that METRICS rows are about: all test sets, else the first split by name.

    Without any rows: "test".
    """
    names = metrics["split"].drop_nulls().unique(maintain_order=True).to_list()
    splits = [name for name in names if "/" not in name]
    return list_test_sets(splits) or sorted(splits)[:1] or [TEST]


def evaluated_set(facts: Mapping[str, Any]) -> str:
    """Name of the questions that a request answers, by the facts of its node.

    It is that of the task, with the name of one of several test sets behind it.
    """
    return EvaluatedSet(facts["task"], facts.get("test_set", "")).key


def list_seeds(frame: pl.DataFrame) -> list[int]:
    """Sorted seeds of a table, without the rows over all seeds."""
    return sorted(set(frame["seed"].drop_nulls().to_list()) - {ALL_SEEDS})


def list_nodes(frame: pl.DataFrame) -> list[NodeName]:
    """Nodes of a table in the order of presentation."""
    rows = frame.select("method", pl.col("iteration").fill_null(0)).unique().rows()
    return sorted((NodeName(*row) for row in rows), key=node_key)


def list_controls(frame: pl.DataFrame) -> set[str]:
    """Methods of a METRICS table that are controls."""
    return set(frame.filter(pl.col("stage") == CONTROL)["method"])


def finite_or_none(value: Any) -> float | None:
    """`value` as a float, or None where it is null, NaN or infinite."""
    if value is None or value != value or value in (float("inf"), float("-inf")):
        return None
    return float(value)


def find_row(
    rows: pl.DataFrame, node: NodeName, metric: str, **where: str | int
) -> dict[str, Any] | None:
    """The one METRICS row of a node's metric.

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
    return None if finite_or_none(row["value"]) is None else row


def find_value(
    rows: pl.DataFrame, node: NodeName, metric: str, **where: str | int
) -> MetricValue | None:
    """The value of a row that `find_row` finds."""
    row = find_row(rows, node, metric, **where)
    return row and metric_value(row)


def find_exact_p(
    rows: pl.DataFrame, node: NodeName, reference: str, **where: str | int
) -> MetricValue | None:
    """The exact p, not corrected, of a node's difference to `reference`.

    With one seed it is McNemar's, over several that of `stats.sign_flip_exact`.
    """
    found = (
        find_value(rows, node, f"{test}_p_vs_{reference}", **where)
        for test in ("sign_flip", "mcnemar")
    )
    return next(filter(None, found), None)


def metric_value(row: Mapping[str, Any]) -> MetricValue:
    """The value of a METRICS row that has one."""
    ends = finite_or_none(row["ci_low"]), finite_or_none(row["ci_high"])
    return MetricValue(float(row["value"]), *ends, row["n"] or 0)
