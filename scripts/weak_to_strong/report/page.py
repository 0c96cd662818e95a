"""The report: one HTML page without any outside request, built from the tables of a run.

Everything that comes from models, data or the configuration is escaped by the template, and control
and direction-changing characters are shown as text. No finding is written by hand: `findings`
computes each statement from metrics.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from weak_to_strong.evaluation.judges import verdicts_by_type
from weak_to_strong.evaluation.stats import holm
from weak_to_strong.jobs.costs import total_costs
from weak_to_strong.report.names import (
    METHOD_NOTES,
    SCORER_LABELS,
    ChainName,
    NodeName,
    Value,
    chains,
    main_split,
    method_label,
    natural_key,
    node_key,
    node_label,
    nodes,
    of_chain,
    pick,
    real_seeds,
)
from weak_to_strong.report.plots import calibration_bins
from weak_to_strong.tables.schemas import GENERATIONS, SCORES

MINUS, DASH = "\u2212", "\u2013"
#: p-values below it are called reliable.
ALPHA = 0.05
#: Bounds of the page: questions shown, and characters of a question or response.
MAX_QUESTIONS = 60
MAX_CHARACTERS = 3000
#: Verdicts in the order of the agreement matrix.
VERDICTS = ("right", "wrong", "undecided", "timeout")
_CAPTIONS = {
    "accuracy": "Greedy accuracy of each model with 95% intervals, by both scorers. "
    "Shaded: between floor and ceiling.",
    "iterations": "Stage I over its iterations, paper scorer. Shaded: between floor and ceiling.",
    "filter": "What the agreement filter keeps of train_2: share of correct answers, number kept.",
    "pass_at_k": "Share of questions that at least one of k samples (pass@k) or their majority "
    "(maj@k) gets right, paper scorer, with 95% intervals; the last iteration of each method.",
    "calibration": "How often the majority answer of M_plus on train_2 is right, by its share of "
    "the samples. Larger points stand for more questions.",
}
_NAMES = {
    "filter": "Agreement filter",
    "labels": "Label accuracy",
    "pairs": "Preference pairs",
    "calibration": "Calibration summary",
}
#: In the diagnostics `method` may name a side instead of a method.
_SIDES = {"weak": "weak side", "icl": "in-context side"}
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)


@dataclass
class ReportInputs:
    """What the page is made of.

    Attributes:
        metrics: METRICS.
        diagnostics: diagnostics.DIAGNOSTICS.
        plots: name of a figure -> its SVG text.
        scores: SCORES of all tasks.
        generations: GENERATIONS of the same requests; those with `sample` 0 suffice.
        problems: PROBLEMS of the evaluated split, by task; never those of train_2.
        nodes: request -> task, weak, strong, method, stage, iteration, seed, decoding.
        contamination: contamination table by task.
        costs: costs.COSTS.
        filters: scoring.FILTER_COUNTS by task, as rows.
    """

    experiment: str
    metrics: pl.DataFrame
    diagnostics: pl.DataFrame
    costs: pl.DataFrame
    plots: Mapping[str, str] = field(default_factory=dict)
    scores: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SCORES))
    generations: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=GENERATIONS))
    problems: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    nodes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    contamination: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    filters: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


# --- numbers as text -------------------------------------------------------------------------


def show_controls(text: str) -> str:
    """`text` with control, invisible and direction-changing characters as `\\u202e`; tab and
    newline stay."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def shorten(text: str, limit: int = MAX_CHARACTERS) -> str:
    """The first `limit` characters; says how many follow."""
    left = len(text) - limit
    return text if left <= 0 else f"{text[:limit]}\n[... {left:,} more characters]"


def percent(value: float, *, signed: bool = False) -> str:
    """A share as per cent with one decimal and a real minus; never "-0.0"."""
    rounded = round(100 * value, 1) + 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.1f}".replace("-", MINUS)


def estimate(value: Value | None, *, signed: bool = False) -> dict[str, str | None] | None:
    """Text of a share and of its interval for the template; None stays None."""
    if value is None:
        return None
    span = None
    if value.low is not None and value.high is not None:
        span = f"{percent(value.low, signed=signed)} to {percent(value.high, signed=signed)}"
    return {"text": percent(value.value, signed=signed), "range": span}


def p_text(p: float) -> str:
    """A p value with two significant digits, or "<0.001"."""
    if p < 0.001:
        return "<0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def duration(seconds: float | None) -> str | None:
    """Seconds as "4.2 s", "3 min 05 s" or "2 h 07 min"."""
    if seconds is None:
        return None
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def _count(value: float | None) -> str | None:
    return None if value is None else f"{value:,.0f}"


# --- findings --------------------------------------------------------------------------------


class Comparison(NamedTuple):
    """How a model differs from another one on the same questions.

    Attributes:
        difference: of their accuracies.
        p: McNemar's exact p, corrected for the number of the chain's comparisons with the same
            reference (`stats.holm`); None over several seeds.
    """

    difference: Value
    p: float | None

    @property
    def is_reliable(self) -> bool:
        """By the test; over several seeds, for which there is none, by the interval."""
        if self.p is not None:
            return self.p < ALPHA
        low, high = self.difference.low, self.difference.high
        return low is not None and high is not None and (low > 0 or high < 0)

    def __str__(self) -> str:
        """Difference in points, with interval and p."""
        shown = estimate(self.difference, signed=True)
        told = [f"95% interval {shown['range']}" if shown["range"] else "no interval"]
        if self.p is not None:
            told.append(f"p {p_text(self.p)}")
        return f"{shown['text']} points ({', '.join(told)})"


def comparisons(rows: pl.DataFrame, split: str, reference: str) -> dict[NodeName, Comparison]:
    """Each model of a chain against `reference` ("full_weak" or "predecessor"), paper scorer.

    Args:
        rows: METRICS rows of the chain.
        split: the evaluated split.
        reference: as in the names of METRICS.
    """
    found = {
        node: (
            pick(rows, node, f"difference_vs_{reference}", scorer="paper", split=split),
            pick(rows, node, f"mcnemar_p_vs_{reference}", scorer="paper", split=split),
        )
        for node in nodes(rows)
    }
    # With a summary over seeds, `pick` finds no p: it stands for several seeds.
    tested = {node: p.value for node, (_, p) in found.items() if p}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    return {
        node: Comparison(difference, adjusted.get(node))
        for node, (difference, _) in found.items()
        if difference
    }


def best_node(rows: pl.DataFrame, split: str, scorer: str) -> tuple[NodeName, Value] | None:
    """The most accurate model that saw no gold answer of train_2, other than the weak model.

    The first in the order of presentation wins a tie.
    """
    found = [
        (node, value)
        for node in nodes(rows)
        if node.method not in ("weak", "ceiling")
        and (value := pick(rows, node, "accuracy", scorer=scorer, split=split, k=1))
    ]
    return max(found, key=lambda entry: entry[1].value, default=None)


def _compare(rows: pl.DataFrame, split: str, best: NodeName, value: Value) -> str:
    name, share = node_label(best), percent(value.value)
    intro = f"Most accurate without gold answers of train_2: {name}, {share}%"
    if best.method == "full_weak":
        return f"{intro}. No other method was more accurate than full weak fine-tuning."
    against = comparisons(rows, split, "full_weak").get(best)
    if against is None:
        return f"{intro}; its difference to full weak fine-tuning was not measured."
    verdict = "" if against.is_reliable else ": no reliable difference was found"
    return f"{intro}, {against} against full weak fine-tuning{verdict}."


def _anchors(rows: pl.DataFrame, split: str) -> str | None:
    floor, ceiling = (
        pick(rows, NodeName(method, 0), "accuracy", scorer="paper", split=split, k=1)
        for method in ("weak", "ceiling")
    )
    if not floor or not ceiling:
        return None
    spans = f"floor {percent(floor.value)}%, ceiling {percent(ceiling.value)}%"
    if ceiling.value <= floor.value:
        return (
            f"The setting leaves nothing to recover ({spans}): the strong model trained on gold "
            "is no better than the weak one, so the share of the gap is not defined."
        )
    gap = percent(ceiling.value - floor.value)
    if None not in (floor.high, ceiling.low) and ceiling.low <= floor.high:
        return f"The gap is small against its uncertainty: {spans}; the two intervals overlap."
    return f"The gap to recover is {gap} points ({spans})."


def _verdicts(rows: pl.DataFrame, split: str) -> str | None:
    """How many models are reliably better or worse than full weak fine-tuning."""
    better, worse, open_ = [], [], []
    compared = comparisons(rows, split, "full_weak")
    for node, against in compared.items():
        if not against.is_reliable:
            open_.append(node_label(node))
        else:
            (better if against.difference.value > 0 else worse).append(node_label(node))
    groups = (
        ("reliably better", better),
        ("Reliably worse" if better else "reliably worse", worse),
        ("No reliable difference" if better or worse else "no reliable difference", open_),
    )
    parts = [f"{word}: {'; '.join(names)}." for word, names in groups if names]
    if not parts:
        return None
    if any(against.p is not None for against in compared.values()):
        how = f"McNemar's exact test, p below {ALPHA} after Holm's correction for {len(compared)}"
    else:
        how = "by intervals over seeds and questions, not corrected for their number"
    return f"Against full weak fine-tuning ({how}): {' '.join(parts)}"


def _progress(
    rows: pl.DataFrame, split: str, predecessors: Mapping[NodeName, NodeName]
) -> list[str]:
    """Each later iteration of Stage I, and Stage II, against the model before it."""
    found = []
    for node, against in comparisons(rows, split, "predecessor").items():
        before = predecessors.get(node)
        value = pick(rows, node, "accuracy", scorer="paper", split=split, k=1)
        if before is None or value is None:
            continue
        change = against.difference.value
        word = "improves on" if change > 0 else "falls below" if change < 0 else "equals"
        doubt = "" if against.is_reliable or not change else ": no reliable difference"
        found.append(
            f"{node_label(node)} ({percent(value.value)}%) {word} {node_label(before)}, "
            f"{against}{doubt}."
        )
    return found


def findings(
    rows: pl.DataFrame, split: str, predecessors: Mapping[NodeName, NodeName]
) -> list[str]:
    """Plain statements on one chain, computed from its METRICS rows; good and bad news alike.

    Args:
        rows: METRICS rows of the chain.
        split: the evaluated split.
        predecessors: of each model the one that it is to improve on, where there is one.
    """
    best = best_node(rows, split, "paper")
    if best is None:
        return ["No model was evaluated, or several seeds have no summary row."]
    node, value = best
    gap = pick(rows, node, "pgr", scorer="paper", split=split)
    recovered = None
    if gap is not None:
        span = estimate(gap)["range"]
        recovered = f"{node_label(node)} recovers {percent(gap.value)}% of the gap" + (
            f" (95% interval {span})." if span else "."
        )
    other = best_node(rows, split, "math")
    scorers = None
    if other is not None and other[0] != node:
        scorers = (
            f"The math scorer ranks another model first: {node_label(other[0])}, "
            f"{percent(other[1].value)}%."
        )
    seeds = real_seeds(rows)
    count = f"{len(seeds)} seeds" if len(seeds) != 1 else "one seed"
    return [
        statement
        for statement in (
            _anchors(rows, split),
            _compare(rows, split, node, value),
            recovered,
            _verdicts(rows, split),
            *_progress(rows, split, predecessors),
            scorers,
            f"The best model was picked on the questions it is reported on, with {count}: "
            "its figure is somewhat optimistic.",
        )
        if statement
    ]


# --- tables ----------------------------------------------------------------------------------


def _table(
    label: str,
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    text: int = 1,
    total: Sequence[Any] | None = None,
) -> dict[str, Any]:
    """A table for the template; the first `text` columns are aligned to the left."""
    return {
        "label": label,
        "caption": caption,
        "columns": columns,
        "rows": rows,
        "text": text,
        "total": total,
    }


def predecessors_of(
    facts: Mapping[str, Mapping[str, Any]], chain: ChainName
) -> dict[NodeName, NodeName]:
    """Of each model of a chain the one that it is to improve on, where both were evaluated.

    Args:
        facts: of each request, as in `metrics.metrics_table`.
        chain: the chain.
    """
    return {
        NodeName(own["method"], own["iteration"]): NodeName(before["method"], before["iteration"])
        for own in facts.values()
        if (own["task"], own["weak"], own["strong"]) == (chain.task, chain.weak, chain.strong)
        and (before := facts.get(own.get("predecessor")))
    }


def _chain_context(
    metrics: pl.DataFrame, chain: ChainName, split: str, facts: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    rows = of_chain(metrics, chain)
    predecessors = predecessors_of(facts, chain)
    on_split = rows.filter(pl.col("split") == split)
    best = best_node(rows, split, "paper")
    accuracy = {
        (node, scorer): pick(rows, node, "accuracy", scorer=scorer, split=split, k=1)
        for node in nodes(on_split)
        for scorer in SCORER_LABELS
    }
    highest = max((v.high or v.value for v in accuracy.values() if v), default=1.0)
    scale = min(1.0, max(0.1, -(-highest * 100 // 10) / 10))

    def place(share: float) -> float:
        return round(200 * min(max(share / scale, 0.0), 1.0), 1)

    table = []
    for node in nodes(on_split):
        paper = accuracy[node, "paper"]
        p = pick(rows, node, "mcnemar_p_vs_full_weak", scorer="paper", split=split)
        gap = pick(rows, node, "pgr", scorer="paper", split=split)
        against = pick(rows, node, "difference_vs_full_weak", scorer="paper", split=split)
        is_anchor = node.method in ("weak", "ceiling")
        table.append(
            {
                "label": method_label(node.method),
                "note": METHOD_NOTES.get(node.method),
                "anchor": {"weak": "floor", "ceiling": "ceiling"}.get(node.method),
                "best": best is not None and node == best[0],
                "iteration": node.iteration,
                "paper": estimate(paper),
                "math": estimate(accuracy[node, "math"]),
                "n": _count(paper.n) if paper else DASH,
                "difference": None
                if node.method == "full_weak"
                else estimate(against, signed=True),
                "p": p_text(p.value) if p and node.method != "full_weak" else None,
                "pgr": None if is_anchor else estimate(gap),
                "range": [
                    place(paper.value if paper.low is None else paper.low),
                    place(paper.value),
                    place(paper.value if paper.high is None else paper.high),
                ]
                if paper
                else None,
            }
        )
    anchors = [accuracy.get((NodeName(name, 0), "paper")) for name in ("weak", "ceiling")]
    band = None
    if all(anchors):
        low, high = sorted(place(anchor.value) for anchor in anchors)
        band = [low, round(high - low, 1)]
    seeds = real_seeds(rows)
    return {
        "name": str(chain),
        "findings": findings(rows, split, predecessors),
        "rows": table,
        "scale": f"{100 * scale:.0f}",
        "band": band,
        "over_seeds": f", means over {len(seeds)} seeds" if len(seeds) > 1 else "",
        "details": [*_by_seed(rows, split), *_by_level(rows, split)],
    }


def _by_seed(rows: pl.DataFrame, split: str) -> list[dict[str, Any]]:
    """Of runs with several seeds, what each of them gave."""
    seeds = real_seeds(rows)
    if len(seeds) < 2:
        return []
    on_split = rows.filter(pl.col("split") == split)

    def cell(node: NodeName, metric: str, seed: int) -> Any:
        value = pick(on_split, node, metric, scorer="paper", seed=seed)
        if metric.startswith("mcnemar"):
            return p_text(value.value) if value else None
        return estimate(value, signed=metric.startswith("difference"))

    tables = []
    for metric, name in (
        ("accuracy", "Accuracy (%)"),
        ("difference_vs_full_weak", "Difference to full weak fine-tuning (points)"),
        ("mcnemar_p_vs_full_weak", "McNemar p against full weak fine-tuning"),
        ("difference_vs_predecessor", "Difference to the model before it (points)"),
        ("mcnemar_p_vs_predecessor", "McNemar p against the model before it"),
    ):
        measured = nodes(on_split.filter(pl.col("metric") == metric))
        body = [
            [node_label(node), *(cell(node, metric, seed) for seed in seeds)] for node in measured
        ]
        if body:
            label = f"{name}, by seed"
            columns = ["Method", *(f"seed {seed}" for seed in seeds)]
            tables.append(_table(label, f"{label}; paper scorer.", columns, body))
    return tables


def _by_level(rows: pl.DataFrame, split: str) -> list[dict[str, Any]]:
    prefix = f"{split}/level="
    leveled = rows.filter(pl.col("metric") == "accuracy", pl.col("split").str.starts_with(prefix))
    levels = sorted(leveled["split"].unique().to_list(), key=natural_key)
    if not levels:
        return []
    body = [
        [
            node_label(node),
            *(
                estimate(pick(leveled, node, "accuracy", scorer="paper", split=level))
                for level in levels
            ),
        ]
        for node in nodes(leveled)
    ]
    sizes = {level: leveled.filter(pl.col("split") == level)["n"].min() or 0 for level in levels}
    columns = ["Method", *(f"{level.removeprefix(prefix)} (n={sizes[level]})" for level in levels)]
    return [_table("Accuracy by level", "Accuracy by level (%), paper scorer.", columns, body)]


def _diagnostic_cell(row: Mapping[str, Any]) -> Any:
    """A count as it is; all other diagnostics are shares in [0, 1]."""
    if row["value"] is None:
        return None
    if row["name"] == "questions":
        return _count(row["value"])
    cell = estimate(Value(row["value"], row["ci_low"], row["ci_high"], row["n"] or 0))
    if row["n"]:
        cell["range"] = f"{cell['range'] or ''} of {row['n']:,}".strip()
    return cell


def _place(diagnostic: str) -> tuple[int, str]:
    known = list(_NAMES)
    return (known.index(diagnostic) if diagnostic in known else len(known)), diagnostic


def diagnostics_tables(diagnostics: pl.DataFrame) -> list[dict[str, Any]]:
    """One table a diagnostic: a row for each chain, seed, method and iteration, a column a name.

    The bins of the calibration are left to `calibration_tables`.
    """
    tables = []
    plain = diagnostics.filter(~pl.col("name").str.starts_with("bin "))
    for diagnostic in sorted(plain["diagnostic"].unique(), key=_place):
        part = plain.filter(pl.col("diagnostic") == diagnostic)
        names = part["name"].unique(maintain_order=True).to_list()
        heads = ["task", "weak", "strong", "seed", "method", "iteration"]
        body = []
        for (*chain, seed, method, iteration), rows in part.group_by(heads, maintain_order=True):
            cells = {row["name"]: _diagnostic_cell(row) for row in rows.iter_rows(named=True)}
            which = _SIDES.get(method) if diagnostic == "labels" else None
            head = [str(ChainName(*chain)), str(seed)]
            if diagnostic in ("labels", "pairs"):
                head.append(which or method_label(method))
            if diagnostic in ("labels", "filter"):
                head.append(str(iteration))
            body.append([*head, *(cells.get(name) for name in names)])
        columns = ["Chain", "Seed"]
        columns += {"labels": ["Side", "Iteration"], "filter": ["Iteration"]}.get(diagnostic, [])
        columns += ["Method"] if diagnostic == "pairs" else []
        text = len(columns)
        columns += [name.replace("_", " ") for name in names]
        label = _NAMES.get(diagnostic, diagnostic)
        caption = f"{label}. Shares in %, with 95% interval and the number they are taken of."
        tables.append(_table(label, caption, columns, body, text=text))
    return tables


def calibration_tables(diagnostics: pl.DataFrame) -> list[dict[str, Any]]:
    """The bins of the calibration figure as a table a chain."""
    tables = []
    for chain in chains(diagnostics):
        bins = calibration_bins(of_chain(diagnostics, chain))
        body = [
            [
                f"{row['bin']}",
                str(row["seed"]),
                percent(row["confidence"]),
                estimate(Value(row["accuracy"], row["ci_low"], row["ci_high"], row["n"])),
                _count(row["n"]),
            ]
            for row in bins.iter_rows(named=True)
        ]
        if body:
            label = f"Calibration of the majority vote, {chain}"
            columns = ["Share of the samples", "Seed", "Mean share (%)", "Right (%)", "Questions"]
            tables.append(_table(label, f"{label}.", columns, body))
    return tables


def agreement_tables(
    scores: pl.DataFrame,
    nodes: Mapping[str, Mapping[str, Any]],
    problems: Mapping[str, pl.DataFrame],
    examples: int = 12,
) -> list[dict[str, Any]]:
    """Of each task, counts of paper verdicts (rows) against math verdicts (columns), the latter by
    answer type where there are such types, and the first distinct disagreements."""
    tables = []
    task_of = {request: facts["task"] for request, facts in nodes.items()}
    tasks = scores["request"].replace_strict(task_of, default=None, return_dtype=pl.String)
    for (task,), frame in scores.with_columns(task=tasks).group_by("task", maintain_order=True):
        counts = {row[:2]: row[2] for row in frame.group_by("paper", "math").len().rows()}
        total = frame.height
        same = sum(count for (paper, math), count in counts.items() if paper == math)
        seen = [name for name in VERDICTS if any(name in pair for pair in counts)]
        body = [
            [f"paper: {paper}", *(_count(counts.get((paper, math), 0)) for math in seen)]
            for paper in VERDICTS
            if any(pair[0] == paper for pair in counts)
        ]
        name = task or "unknown task"
        caption = (
            f"{name}: verdicts of the two scorers on {total:,} answers; "
            f"they agree on {percent(same / total)}%."
        )
        label = f"Scorer agreement, {name}"
        tables.append(_table(label, caption, ["", *(f"math: {name}" for name in seen)], body))
        if task in problems and (types := verdicts_by_type(frame, problems[task])):
            body = [
                [kind, *(_count(found[verdict]) for verdict in VERDICTS)]
                for kind, found in types.items()
            ]
            caption = (
                f"{name}: verdicts of the math scorer by answer type. Undecided are the types that "
                "only a model could judge, and answers that its rules cannot read."
            )
            label = f"Verdicts by answer type, {name}"
            tables.append(_table(label, caption, ["Answer type", *VERDICTS], body))
        columns = ["id", "prediction", "answer", "paper", "math"]
        apart = frame.filter(pl.col("paper") != pl.col("math")).select(columns)
        apart = apart.unique(maintain_order=True).head(examples)
        if apart.height:
            body = [[shorten(cell or "(none)", 120) for cell in row] for row in apart.rows()]
            label = f"First disagreements, {name}"
            columns = ["Question", "Prediction", "Gold answer", "Paper", "Math"]
            tables.append(_table(label, f"{label}.", columns, body, text=5))
    return tables


def filter_tables(
    filters: Mapping[str, Sequence[Mapping[str, Any]]], nodes: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Of each task, how many answers of each model the task's extraction and each filter found."""
    counted = {
        "answers": "Answers",
        "used": "Found",
        "strict": "Strict",
        "flexible": "Flexible",
        "last_number": "Last number",
        "cut": "Cut at a stop string",
        "ended": "Ended without answer",
        "too_long": "Too long",
    }
    tables = []
    for task, rows in filters.items():
        body = []
        for row in rows:
            facts = nodes.get(row["request"])
            if facts is None:
                continue
            node = NodeName(facts["method"], facts["iteration"] or 0)
            names = [f"{facts['weak']} \u2192 {facts['strong']}", str(facts["seed"])]
            label = f"{node_label(node)} ({facts['decoding']})"
            body.append([label, *names, *(_count(row[name]) for name in counted)])
        label = f"Answers found, {task}"
        caption = (
            f"{task}: answers in which each way to read the final answer finds one. Found is the "
            "task's own `extraction`. Many last numbers beside few found answers mean a form that "
            "is not understood, or a stop string that ends the reasoning."
        )
        if body:
            columns = ["Model", "Chain", "Seed", *counted.values()]
            tables.append(_table(label, caption, columns, body, text=3))
    return tables


def contamination_tables(frames: Mapping[str, pl.DataFrame]) -> list[dict[str, Any]]:
    """The contamination tables as they are, without the rows that found nothing."""
    tables = []
    for task, frame in frames.items():
        if "count" in frame.columns:
            frame = frame.filter(pl.col("count").cast(pl.Int64) > 0)
        body = [[DASH if cell is None else str(cell) for cell in row] for row in frame.rows()]
        columns = [name.replace("_", " ") for name in frame.columns]
        caption = (
            f"{task}: questions that stand twice in a split (duplicate) or in two splits: with the "
            "same text (exact), or with most word 8-grams in common (ngram), as problems made from "
            "one template often have."
        )
        text = sum(kind == pl.String for kind in frame.dtypes[:3])
        tables.append(_table(task, caption, columns, body, text=text))
    return tables


def costs_table(costs: pl.DataFrame) -> dict[str, Any]:
    """costs.COSTS with units, and the sum below. Columns of GPUs only where these were measured."""
    columns = {
        "rule": ("Rule", str),
        "jobs": ("Jobs", _count),
        "wall_seconds": ("Wall time", duration),
        "cpu_seconds": ("CPU time", duration),
        "gpu_seconds": ("GPU time", duration),
        "peak_memory_mb": ("Peak memory (MB)", _count),
        "peak_gpu_memory_mb": ("Peak GPU memory (MB)", _count),
        "engine_loads": ("Engine loads", _count),
        "prompt_tokens": ("Prompt tokens", _count),
        "cached_prompt_tokens": ("Of these cached", _count),
        "response_tokens": ("Response tokens", _count),
        "trained_tokens": ("Trained tokens", _count),
        "tokens_per_second": ("Tokens a second", _count),
    }
    if costs["gpu_seconds"].is_null().all():
        columns = {name: each for name, each in columns.items() if "gpu" not in name}

    def cells(row: Mapping[str, Any]) -> list[Any]:
        return [show(row[name]) for name, (_, show) in columns.items()]

    caption = (
        "Sums over the last run of each job; jobs may have run side by side, and results reused "
        "from earlier runs cost nothing here. This page itself is not counted. Memory is the "
        f"largest of all jobs. {DASH} means not measured, or no tokens. ledger.csv has each job."
    )
    body = [cells(row) for row in costs.iter_rows(named=True)]
    total = cells(total_costs(costs)) if body else None
    headings = [heading for heading, _ in columns.values()]
    return _table("Cost of the run", caption, headings, body, total=total)


# --- sample answers --------------------------------------------------------------------------


def pick_questions(problems: Mapping[str, pl.DataFrame], limit: int) -> list[tuple[str, str]]:
    """(task, id) of at most `limit` questions, spread evenly over tasks.

    Drawn by the hash of task and id, so that neither results nor row order can favour a question.
    """
    share = max(1, limit // max(1, len(problems)))
    chosen = []
    for task, frame in problems.items():

        def draw(name: str, task: str = task) -> bytes:
            return hashlib.sha256(f"{task}\0{name}".encode()).digest()

        ids = sorted(frame["id"].to_list(), key=draw)[:share]
        chosen += [(task, name) for name in sorted(ids, key=natural_key)]
    return chosen[:limit]


def sample_answers(inputs: ReportInputs, limit: int = MAX_QUESTIONS) -> dict[str, Any]:
    """Questions of the evaluated split with the greedy answer of every model of the first seed."""
    chosen = pick_questions(inputs.problems, limit)
    greedy = {name: f for name, f in inputs.nodes.items() if f["decoding"] == "greedy"}
    first_seed: dict[str, int] = {}
    for facts in greedy.values():
        seed = first_seed.setdefault(facts["task"], facts["seed"])
        first_seed[facts["task"]] = min(seed, facts["seed"])
    requests = {n: f for n, f in greedy.items() if f["seed"] == first_seed[f["task"]]}
    wanted = {name for _, name in chosen}
    keep = pl.col("request").is_in(list(requests)) & pl.col("id").is_in(list(wanted))
    keep &= pl.col("sample") == 0
    verdicts = {
        (row["request"], row["id"]): row for row in inputs.scores.filter(keep).iter_rows(named=True)
    }
    responses = {
        (row["request"], row["id"]): row["response"]
        for row in inputs.generations.filter(keep).iter_rows(named=True)
    }

    def order(name: str) -> tuple[Any, ...]:
        facts = requests[name]
        node = NodeName(facts["method"], facts["iteration"] or 0)
        return *node_key(node), str(facts["weak"]), str(facts["strong"])

    ordered = sorted(requests, key=order)
    several = {
        task
        for task in inputs.problems
        if len({c for c in chains(inputs.metrics) if c.task == task}) > 1
    }
    methods: dict[str, str] = {}
    questions = []
    for task, name in chosen:
        problem = inputs.problems[task].row(by_predicate=pl.col("id") == name, named=True)
        answers = []
        for request in ordered:
            facts, verdict = requests[request], verdicts.get((request, name))
            if facts["task"] != task or verdict is None:
                continue
            node = NodeName(facts["method"], facts["iteration"] or 0)
            key = f"{node.method}-{node.iteration}"
            methods[key] = label = node_label(node)
            if task in several:
                label = f"{label} ({facts['weak']} → {facts['strong']})"
            right = {"right": ("good", "✓"), "wrong": ("bad", "✗")}
            tone, mark = right.get(verdict["paper"], ("soft", "?"))
            answers.append(
                {
                    "key": key,
                    "label": label,
                    "paper": verdict["paper"],
                    "math": verdict["math"],
                    "tone": tone,
                    "mark": mark,
                    "prediction": shorten(verdict["prediction"] or "", 200),
                    "response": shorten(responses.get((request, name)) or "(empty)"),
                }
            )
        questions.append(
            {
                "task": task,
                "id": name,
                "level": problem["level"],
                "text": shorten(problem["question"]),
                "gold": problem["answer"],
                "answers": answers,
            }
        )
    seeds = sorted(set(first_seed.values()))
    note = (
        f"{len(questions)} questions, drawn by a hash of their ids and not by result, with the "
        "raw greedy answers"
        + (f" of seed {seeds[0]}" if len(seeds) == 1 else "")
        + ". The solutions and answers of train_2 are not part of this page."
    )
    return {
        "note": note,
        "tasks": list(dict.fromkeys(task for task, _ in chosen)),
        "methods": list(methods.items()),
        "questions": questions,
    }


# --- page ------------------------------------------------------------------------------------


def _facts(inputs: ReportInputs, split: str) -> list[tuple[str, str]]:
    names = chains(inputs.metrics)
    seeds = real_seeds(inputs.metrics)
    facts = [
        ("Tasks", ", ".join(dict.fromkeys(chain.task for chain in names))),
        ("Weak models", ", ".join(dict.fromkeys(chain.weak for chain in names))),
        ("Strong models", ", ".join(dict.fromkeys(chain.strong for chain in names))),
        ("Seeds", ", ".join(map(str, seeds))),
        ("Evaluated on", split),
    ]
    if "iterations" in inputs.config:
        facts.append(("Stage I iterations", str(inputs.config["iterations"])))
    return [(name, value) for name, value in facts if value]


def _config_text(config: Mapping[str, Any]) -> str:
    import yaml

    plain = json.loads(json.dumps(config))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=96)


def _data_uri(svg: str) -> str:
    """An image of its own: element names of several SVG cannot clash, and no script would run."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _content_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()


def render(context: Mapping[str, Any]) -> str:
    """The template filled with `context`; everything is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def finalize(value: Any) -> Any:
        plain = isinstance(value, str) and not isinstance(value, Markup)
        return show_controls(value) if plain else value

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
    )
    environment.filters["csp"] = _content_hash
    return environment.get_template("page.html.j2").render(context).lstrip()


def build_report(inputs: ReportInputs) -> str:
    """The page as HTML.

    Raises:
        ValueError: there are no metrics at all.
    """
    if inputs.metrics.is_empty():
        raise ValueError("metrics.csv has no rows; evaluate at least one model")
    split = main_split(inputs.metrics)
    names = chains(inputs.metrics)
    about = ", ".join(map(str, names))
    return render(
        {
            "experiment": inputs.experiment,
            "description": (
                "How far can a strong model learn to reason from the answers of a weaker one, "
                f"with no gold answers and no stronger teacher? Chains of this run: {about}."
            ),
            "facts": _facts(inputs, split),
            "split": split,
            "many_seeds": len(real_seeds(inputs.metrics)) > 1,
            "chains": [
                _chain_context(inputs.metrics, chain, split, inputs.nodes) for chain in names
            ],
            "figures": [
                {
                    "uri": _data_uri(svg),
                    "caption": _CAPTIONS.get(name, name),
                    "alt": f"Figure: {_CAPTIONS.get(name, name)} The tables hold the numbers.",
                }
                for name, svg in inputs.plots.items()
            ],
            "diagnostics": [
                *diagnostics_tables(inputs.diagnostics),
                *calibration_tables(inputs.diagnostics),
            ],
            "agreement": [
                *agreement_tables(inputs.scores, inputs.nodes, inputs.problems),
                *filter_tables(inputs.filters, inputs.nodes),
            ],
            "contamination": contamination_tables(inputs.contamination),
            "browser": sample_answers(inputs),
            "costs": costs_table(inputs.costs),
            "config": _config_text(inputs.config),
            "versions": _table(
                "Versions",
                "Versions in the environment that made this page; the configuration's other "
                "environments may hold others.",
                ["Library", "Version"],
                list(inputs.versions.items()),
            ),
        }
    )
