"""Plain statements on one chain, computed from its metrics: good and bad results alike.

No finding is written by hand. All comparisons use the paper's scorer.
"""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from weak_to_strong.evaluation.stats import holm
from weak_to_strong.report.display_text import p_text, percent, share_cell
from weak_to_strong.report.names import (
    MetricValue,
    NodeName,
    find_exact_p,
    find_row,
    find_value,
    list_controls,
    list_nodes,
    list_seeds,
    metric_value,
    node_label,
)
from weak_to_strong.tables.schemas import ALL_SEEDS, CEILING_MARK

#: A difference with a p-value below it is called reliable.
ALPHA = 0.05


class Comparison(NamedTuple):
    """How a model differs from another one on the same questions.

    Attributes:
        other: the model that it is compared with.
        difference: difference of their accuracies, in [-1, 1].
        single_p: the exact p (`names.find_exact_p`).
        p: the same, corrected for the number of the chain's comparisons with the same reference
            (`stats.holm`). Controls and models with a broken stage are corrected apart.
        detectable: least difference that would be found with a power of 80%, in (0, 1].
        over_seeds: whether it is a mean over several seeds. The test knows nothing of their number.
    """

    other: NodeName
    difference: MetricValue
    single_p: float | None
    p: float | None
    detectable: float | None
    over_seeds: bool

    @property
    def is_reliable(self) -> bool:
        """Whether p is below ALPHA and, over seeds or without p, the interval excludes 0."""
        if self.p is not None and (self.p >= ALPHA or not self.over_seeds):
            return self.p < ALPHA
        low, high = self.difference.low, self.difference.high
        return low is not None and high is not None and (low > 0 or high < 0)

    def __str__(self) -> str:
        """Difference in percentage points, with interval and p."""
        cell = share_cell(self.difference, signed=True)
        details = [f"95% interval {cell['range']}" if cell["range"] else "no interval"]
        if self.p is not None:
            details.append(f"p {p_text(self.p)}")
        return f"{cell['text']} points ({', '.join(details)})"

    @property
    def doubt(self) -> str:
        """What is said of a difference that is not reliable; "" of one that is."""
        if self.is_reliable:
            return ""
        power = f" (detectable: {percent(self.detectable)} points)" if self.detectable else ""
        return f": no reliable difference{power}"


def comparisons(rows: pl.DataFrame, split: str, reference: str) -> dict[NodeName, Comparison]:
    """Each model of a chain compared with `reference`, where that was measured.

    Args:
        rows: METRICS rows of the chain.
        split: the evaluated split.
        reference: "full_weak", "predecessor", "counterpart" or "hybrid_ft", as in the metrics
            `difference_vs_<reference>`.
    """
    checks, where = list_controls(rows), {"scorer": "paper", "split": split}
    differences, p_values = {}, {}
    for node in list_nodes(rows):
        if row := find_row(rows, node, f"difference_vs_{reference}", **where):
            differences[node] = row
        if p := find_exact_p(rows, node, reference, **where):
            p_values[node] = p.value
    adjusted = {}
    for is_check in (False, True):
        family = [
            node for node in p_values if is_check == (node.method in checks or node.is_broken)
        ]
        adjusted |= zip(family, holm([p_values[node] for node in family]), strict=True)
    return {
        node: Comparison(
            NodeName.read(row["reference"]),
            metric_value(row),
            p_values.get(node),
            adjusted.get(node),
            row["detectable"],
            row["seed"] == ALL_SEEDS,
        )
        for node, row in differences.items()
    }


def comparisons_of_methods(rows: pl.DataFrame, split: str) -> dict[NodeName, Comparison]:
    """Comparisons with full weak fine-tuning, without controls and broken stages."""
    controls = list_controls(rows)
    return {
        node: comparison
        for node, comparison in comparisons(rows, split, "full_weak").items()
        if node.method not in controls and not node.is_broken
    }


def best_node(rows: pl.DataFrame, split: str, scorer: str) -> tuple[NodeName, MetricValue] | None:
    """The most accurate model that saw no gold answer of train_2, except the weak model.

    It is no control and has no broken stage. Of equally accurate models it is the first in the
    order of presentation.

    Args:
        rows: METRICS of one chain.
        split: the evaluated split, as METRICS has it.
        scorer: one of SCORERS.

    Returns:
        The model and its accuracy in [0, 1]; None where no such model was evaluated.
    """
    excluded = {"weak", "ceiling", *list_controls(rows)}
    candidates = [
        (node, value)
        for node in list_nodes(rows)
        if node.method not in excluded
        and not node.method.startswith(CEILING_MARK)
        and not node.is_broken
        and (value := find_value(rows, node, "accuracy", scorer=scorer, split=split, k=1))
    ]
    return max(candidates, key=lambda candidate: candidate[1].value, default=None)


def findings(rows: pl.DataFrame, split: str) -> list[str]:
    """Statements on one chain, one sentence or two each.

    Args:
        rows: METRICS rows of the chain.
        split: the evaluated split.
    """
    best = best_node(rows, split, "paper")
    if best is None:
        none = "No model was evaluated, or several seeds have no summary row."
        return [none, *_warn_of_broken(rows)]
    node, value = best
    seeds = list_seeds(rows)
    count = f"{len(seeds)} seeds" if len(seeds) != 1 else "one seed"
    statements = (
        *_warn_of_broken(rows),
        _describe_gap(rows, split),
        _describe_best(rows, split, node, value),
        _describe_recovery(rows, split, node),
        _describe_reliability(rows, split),
        *_describe_progress(rows, split),
        *_describe_checks(rows, split),
        _describe_other_scorer(rows, split, node),
        f"The best model was picked on the questions it is reported on, with {count}: "
        "its figure is somewhat optimistic.",
    )
    return [statement for statement in statements if statement]


def _warn_of_broken(rows: pl.DataFrame) -> list[str]:
    """A warning where the chain has variants in which a stage is broken on purpose."""
    variants = {node.method.partition("@")[2] for node in list_nodes(rows) if node.is_broken}
    if not variants:
        return []
    return [
        f"Warning: a stage is broken on purpose in {', '.join(sorted(variants))}. These models "
        "test whether the study can tell. They are no results of the method."
    ]


def _describe_gap(rows: pl.DataFrame, split: str) -> str | None:
    """Floor, ceiling and the gap between them."""
    floor, ceiling = (
        find_value(rows, NodeName(method, 0), "accuracy", scorer="paper", split=split, k=1)
        for method in ("weak", "ceiling")
    )
    if not floor or not ceiling:
        return None
    ends = f"floor {percent(floor.value)}%, ceiling {percent(ceiling.value)}%"
    if ceiling.value <= floor.value:
        return (
            f"The setting leaves nothing to recover ({ends}): the strong model trained on gold "
            "is no better than the weak one, so the share of the gap is not defined."
        )
    gap = percent(ceiling.value - floor.value)
    if None not in (floor.high, ceiling.low) and ceiling.low <= floor.high:
        return f"The gap is small against its uncertainty: {ends}; the two intervals overlap."
    return f"The gap to recover is {gap} points ({ends})."


def _describe_best(rows: pl.DataFrame, split: str, best: NodeName, value: MetricValue) -> str:
    """The best model, compared with full weak fine-tuning."""
    name, share = node_label(best), percent(value.value)
    intro = f"Most accurate without gold answers of train_2: {name}, {share}%"
    if best.method == "full_weak":
        return f"{intro}. No other method was more accurate than full weak fine-tuning."
    comparison = comparisons_of_methods(rows, split).get(best)
    if comparison is None:
        return f"{intro}; its difference to full weak fine-tuning was not measured."
    return f"{intro}, {comparison} against full weak fine-tuning{comparison.doubt}."


def _describe_recovery(rows: pl.DataFrame, split: str, best: NodeName) -> str | None:
    """The share of the gap that the best model recovers (PGR)."""
    gap = find_value(rows, best, "pgr", scorer="paper", split=split)
    if gap is None:
        return None
    interval = share_cell(gap)["range"]
    return f"{node_label(best)} recovers {percent(gap.value)}% of the gap" + (
        f" (95% interval {interval})." if interval else "."
    )


def _describe_reliability(rows: pl.DataFrame, split: str) -> str | None:
    """Which models are reliably better or worse than full weak fine-tuning."""
    better, worse, undecided = [], [], []
    compared = comparisons_of_methods(rows, split)
    for node, comparison in compared.items():
        if not comparison.is_reliable:
            undecided.append(node_label(node))
        else:
            (better if comparison.difference.value > 0 else worse).append(node_label(node))
    groups = (
        ("reliably better", better),
        ("Reliably worse" if better else "reliably worse", worse),
        ("No reliable difference" if better or worse else "no reliable difference", undecided),
    )
    parts = [f"{outcome}: {'; '.join(names)}." for outcome, names in groups if names]
    if not parts:
        return None
    if any(comparison.p is not None for comparison in compared.values()):
        how = f"exact test, p below {ALPHA} after Holm's correction for {len(compared)}"
        if any(comparison.over_seeds for comparison in compared.values()):
            how += ", and interval over seeds and questions"
    else:
        how = "by intervals, not corrected for their number"
    return f"Against full weak fine-tuning ({how}): {' '.join(parts)}"


def _describe_progress(rows: pl.DataFrame, split: str) -> list[str]:
    """Each later iteration of Stage I, and each model of Stage II, against its predecessor."""
    statements = []
    for node, comparison in comparisons(rows, split, "predecessor").items():
        value = find_value(rows, node, "accuracy", scorer="paper", split=split, k=1)
        if value is None:
            continue
        change = comparison.difference.value
        verb = "improves on" if change > 0 else "falls below" if change < 0 else "equals"
        statements.append(
            f"{node_label(node)} ({percent(value.value)}%) {verb} {node_label(comparison.other)}, "
            f"{comparison}{comparison.doubt}."
        )
    return statements


def _describe_checks(rows: pl.DataFrame, split: str) -> list[str]:
    """Each control, and each model with a broken stage, against its counterpart."""
    controls, statements = list_controls(rows), []
    for node, comparison in comparisons(rows, split, "counterpart").items():
        if node.method not in controls and not node.is_broken:
            continue
        kind = "Control" if node.method in controls else "Broken on purpose"
        statements.append(
            f"{kind}: {node_label(node)} against {node_label(comparison.other)}, "
            f"{comparison}{comparison.doubt}."
        )
    return statements


def _describe_other_scorer(rows: pl.DataFrame, split: str, best: NodeName) -> str | None:
    """The math scorer's best model, if it is another one."""
    best_by_math = best_node(rows, split, "math")
    if best_by_math is None or best_by_math[0] == best:
        return None
    node, value = best_by_math
    return (
        f"The math scorer ranks another model first: {node_label(node)}, {percent(value.value)}%."
    )
