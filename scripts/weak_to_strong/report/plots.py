"""Figures of the report: `(metrics, diagnostics) -> Figure`, one function a figure.

Both frames come from files of the workflow (`tables.METRICS`, `diagnostics.DIAGNOSTICS`).
A figure has one panel a chain; a panel for which nothing was measured says "not run".
Colours are those of Okabe and Ito, which colour-blind readers tell apart; each method also has a
marker.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from weak_to_strong.report.names import (
    ChainName,
    NodeName,
    Value,
    chains,
    main_split,
    method_label,
    node_key,
    node_label,
    nodes,
    of_chain,
    pick,
    real_seeds,
)
from weak_to_strong.tables.files import publish

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: (colour, marker) of each method.
STYLES = {
    "weak": ("#6b6b6b", "v"),
    "full_weak": ("#E69F00", "s"),
    "strong_zero_shot": ("#a98600", "<"),
    "weak_icl": ("#56B4E9", "P"),
    "weak_ft": ("#D55E00", "^"),
    "icl_ft": ("#0072B2", "o"),
    "hybrid_ft": ("#009E73", "D"),
    "dpo": ("#CC79A7", "X"),
    "orpo": ("#8c3f6b", "*"),
    "ceiling": ("#000000", "v"),
}
_STYLE_OF_OTHERS = ("#8c3f6b", "p")
_RC = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.fonttype": "path",
    # Matplotlib names the elements of an SVG by a hash; the salt keeps the names the same.
    "svg.hashsalt": "weak-to-strong",
}
_BIN = re.compile(r"bin (?P<bin>\S+) (?P<name>accuracy|confidence)")


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw and save in the style of the report."""
    import matplotlib

    with matplotlib.rc_context(_RC):
        yield


def _grid(metrics: pl.DataFrame, *, rows: int = 1, width: float, height: float) -> tuple[Any, Any]:
    """A figure and its axes as an array (rows, chains)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = chains(metrics) or [ChainName("experiment", "weak", "strong")]
    figure = Figure(figsize=(width * len(panels), height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, len(panels), squeeze=False)
    for column, chain in enumerate(panels):
        axes[0][column].set_title(str(chain))
    return figure, list(zip(panels, axes.T, strict=True))


def mark_not_run(axes: Axes) -> None:
    """Say "not run" in place of a panel."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, "not run", ha="center", va="center", color="#666666", size=12)


def _interval(value: Value) -> tuple[float, float]:
    """Lengths below and above the estimate, 0 where there is no interval."""
    low = value.value if value.low is None else min(value.low, value.value)
    high = value.value if value.high is None else max(value.high, value.value)
    return value.value - low, high - value.value


def _errorbar(axes: Axes, x: list[float], values: list[Value], style: dict[str, Any]) -> None:
    spread = [_interval(value) for value in values]
    axes.errorbar(
        x,
        [100 * value.value for value in values],
        yerr=[[100 * low for low, _ in spread], [100 * high for _, high in spread]],
        capsize=2.5,
        elinewidth=1,
        **style,
    )


def _references(axes: Axes, rows: pl.DataFrame, split: str, axis: str) -> None:
    """Mark floor, full weak fine-tuning and ceiling; shade what lies between floor and ceiling."""
    line, span = (axes.axvline, axes.axvspan) if axis == "x" else (axes.axhline, axes.axhspan)
    found = {
        method: pick(rows, NodeName(method, 0), "accuracy", scorer="paper", split=split, k=1)
        for method in ("weak", "full_weak", "ceiling")
    }
    for method, dashes in (("weak", ":"), ("full_weak", "-."), ("ceiling", "--")):
        if (value := found[method]) and not (axis == "x" and method == "full_weak"):
            label = f"{method_label(method)}" if axis == "y" else None
            colour = STYLES[method][0]
            line(100 * value.value, color=colour, linestyle=dashes, lw=1.1, label=label, zorder=1)
    if found["weak"] and found["ceiling"]:
        edges = sorted(100 * found[method].value for method in ("weak", "ceiling"))
        span(*edges, color="#0072B2", alpha=0.06, lw=0, zorder=0)


def accuracy_figure(metrics: pl.DataFrame, diagnostics: pl.DataFrame) -> Figure:
    """Greedy accuracy of each model with its 95% interval, by both scorers."""
    with figure_style():
        split = main_split(metrics)
        data = metrics.filter(pl.col("metric") == "accuracy", pl.col("split") == split)
        most = max((len(nodes(of_chain(data, chain))) for chain in chains(metrics)), default=1)
        figure, panels = _grid(metrics, width=6.2, height=1.5 + 0.36 * most)
        for chain, (axes,) in panels:
            rows = of_chain(data, chain)
            found = nodes(rows)[::-1]
            if not found:
                mark_not_run(axes)
                continue
            _references(axes, rows, split, "x")
            for scorer, shift, filled in (("paper", 0.14, True), ("math", -0.14, False)):
                for place, node in enumerate(found):
                    value = pick(rows, node, "accuracy", scorer=scorer, split=split, k=1)
                    if not value:
                        continue
                    colour, marker = STYLES.get(node.method, _STYLE_OF_OTHERS)
                    low, high = _interval(value)
                    axes.errorbar(
                        100 * value.value,
                        place + shift,
                        xerr=[[100 * low], [100 * high]],
                        fmt=marker,
                        color=colour,
                        markerfacecolor=colour if filled else "white",
                        markersize=5.5,
                        capsize=2,
                        elinewidth=1,
                    )
            axes.set_yticks(range(len(found)), [node_label(node) for node in found])
            axes.set_ylim(-0.6, len(found) - 0.4)
            axes.set_xlabel(f"accuracy on {split} (%)")
            axes.grid(axis="x")
        add_legend(
            figure,
            [
                legend_handle("#444444", "o", "paper scorer"),
                legend_handle("#444444", "o", "math scorer", filled=False),
                legend_handle(STYLES["weak"][0], "", "floor", line=":"),
                legend_handle(STYLES["ceiling"][0], "", "ceiling", line="--"),
            ],
        )
        return figure


def iterations_figure(metrics: pl.DataFrame, diagnostics: pl.DataFrame) -> Figure:
    """Stage I: accuracy of the three fine-tuned models over the iterations (paper scorer)."""
    methods = ("weak_ft", "icl_ft", "hybrid_ft")
    with figure_style():
        split = main_split(metrics)
        data = metrics.filter(pl.col("metric") == "accuracy", pl.col("split") == split)
        figure, panels = _grid(metrics, width=5.2, height=3.9)
        used = []
        for chain, (axes,) in panels:
            rows = of_chain(data, chain)
            steps = sorted(
                rows.filter(pl.col("method").is_in(methods))["iteration"].drop_nulls().unique()
            )
            if not steps:
                mark_not_run(axes)
                continue
            _references(axes, rows, split, "y")
            for place, method in enumerate(methods):
                series = {
                    step: pick(
                        rows, NodeName(method, step), "accuracy", scorer="paper", split=split
                    )
                    for step in steps
                }
                series = {step: value for step, value in series.items() if value}
                if not series:
                    continue
                colour, marker = STYLES[method]
                # A small shift keeps the intervals of the three methods apart.
                x = [step + 0.05 * (place - 1) for step in series]
                style = {"color": colour, "marker": marker, "ms": 5.5, "lw": 1.6}
                _errorbar(axes, x, list(series.values()), style)
                used.append(method)
            axes.set_xticks(steps)
            axes.set_xlim(min(steps) - 0.35, max(steps) + 0.35)
            axes.set_xlabel("Stage I iteration")
            axes.set_ylabel(f"accuracy on {split} (%)")
            axes.grid(axis="y")
        if used:
            add_legend(
                figure,
                [
                    *(
                        legend_handle(*STYLES[m], method_label(m), line="-")
                        for m in methods
                        if m in used
                    ),
                    legend_handle(STYLES["weak"][0], "", "floor", line=":"),
                    legend_handle(STYLES["full_weak"][0], "", "full weak", line="-."),
                    legend_handle(STYLES["ceiling"][0], "", "ceiling", line="--"),
                ],
            )
        return figure


def filter_figure(metrics: pl.DataFrame, diagnostics: pl.DataFrame) -> Figure:
    """Stage I filter: share of correct answers among the kept ones, and their number.

    Each seed is a line; the accuracy of all the weak labels is drawn for comparison.
    """
    with figure_style():
        data = diagnostics.filter(pl.col("diagnostic") == "filter")
        figure, panels = _grid(metrics, rows=2, width=5.2, height=5.0)
        drawn = False
        for chain, (upper, lower) in panels:
            rows = of_chain(data, chain)
            precision = rows.filter(pl.col("name") == "precision").sort("seed", "iteration")
            steps = sorted(precision["iteration"].drop_nulls().unique())
            if not steps:
                mark_not_run(upper)
                mark_not_run(lower)
                continue
            drawn = True
            seeds = precision["seed"].unique().sort().to_list()
            for place, seed in enumerate(seeds):
                shift = 0.06 * (place - (len(seeds) - 1) / 2)
                for name, axes_style in (
                    ("precision", {"color": "#009E73", "marker": "D", "ms": 5, "lw": 1.5}),
                    ("weak_accuracy", {"color": "#D55E00", "marker": "^", "ms": 5, "lw": 1.0}),
                    ("icl_accuracy", {"color": "#0072B2", "marker": "o", "ms": 5, "lw": 1.0}),
                ):
                    points = rows.filter(
                        pl.col("name") == name,
                        pl.col("seed") == seed,
                        pl.col("value").is_not_null(),
                    ).sort("iteration")
                    values = [
                        Value(row["value"], row["ci_low"], row["ci_high"], row["n"] or 0)
                        for row in points.iter_rows(named=True)
                    ]
                    if values:
                        x = [step + shift for step in points["iteration"]]
                        _errorbar(upper, x, values, axes_style)
                kept = precision.filter(pl.col("seed") == seed, pl.col("n").is_not_null())
                width = 0.5 / len(seeds)
                bars = lower.bar(
                    [step + width * (place - (len(seeds) - 1) / 2) for step in kept["iteration"]],
                    kept["n"].to_list(),
                    width=0.92 * width,
                    color="#9dd3c3",
                )
                lower.bar_label(bars, fontsize=8, padding=1)
            for axes in (upper, lower):
                axes.set_xticks(steps)
                axes.set_xlim(min(steps) - 0.5, max(steps) + 0.5)
                axes.grid(axis="y")
            upper.set_ylabel("correct (%)")
            lower.set_ylabel("questions kept")
            lower.margins(y=0.15)
            lower.set_xlabel("Stage I iteration")
        if drawn:
            add_legend(
                figure,
                [
                    legend_handle("#009E73", "D", "kept by the filter", line="-"),
                    legend_handle("#D55E00", "^", "all weak labels", line="-"),
                    legend_handle("#0072B2", "o", "all in-context labels", line="-"),
                ],
            )
        return figure


def _last_iterations(found: list[NodeName]) -> list[NodeName]:
    """Of each method the last iteration only."""
    last = {node.method: node for node in sorted(found, key=lambda node: node.iteration)}
    return [node for node in found if last[node.method] == node]


def pass_at_k_figure(metrics: pl.DataFrame, diagnostics: pl.DataFrame) -> Figure:
    """pass@k (above) and maj@k (below) of the sampled models, the last iteration of each method
    (paper scorer)."""
    with figure_style():
        split = main_split(metrics)
        data = metrics.filter(pl.col("split") == split, pl.col("scorer") == "paper")
        figure, panels = _grid(metrics, rows=2, width=6.2, height=6.4)
        used: set[NodeName] = set()
        for chain, column in panels:
            for metric, axes in zip(("pass_at_k", "maj_at_k"), column, strict=True):
                rows = of_chain(data, chain).filter(pl.col("metric") == metric)
                ks = sorted(rows["k"].drop_nulls().unique())
                if not ks:
                    mark_not_run(axes)
                    continue
                shown = _last_iterations(nodes(rows))
                for place, node in enumerate(shown):
                    curve = {at: pick(rows, node, metric, k=k) for at, k in enumerate(ks)}
                    curve = {at: value for at, value in curve.items() if value}
                    if not curve:
                        continue
                    used.add(node)
                    colour, marker = STYLES.get(node.method, _STYLE_OF_OTHERS)
                    shift = 0.035 * (place - (len(shown) - 1) / 2)
                    style = {"color": colour, "marker": marker, "ms": 5, "lw": 1.4}
                    _errorbar(axes, [at + shift for at in curve], list(curve.values()), style)
                axes.set_xticks(range(len(ks)), [str(k) for k in ks])
                axes.set_xlim(-0.4, len(ks) - 0.6)
                axes.set_ylabel(f"{metric.replace('_at_', '@')} on {split} (%)")
                axes.grid(axis="y")
            column[-1].set_xlabel("k (samples a question)")
        handles = [
            legend_handle(*STYLES.get(node.method, _STYLE_OF_OTHERS), node_label(node), line="-")
            for node in sorted(used, key=node_key)
        ]
        if handles:
            figure.legend(handles=handles, loc="outside right center")
        return figure


def calibration_bins(rows: pl.DataFrame) -> pl.DataFrame:
    """Bins of the diagnostic "calibration" (`name` is "bin 0.6-0.7 accuracy" or "... confidence").

    Returns:
        Columns seed, method, iteration, bin, confidence, accuracy, n, ci_low, ci_high (of the
        accuracy), one row a bin that holds questions, sorted.
    """
    parts = pl.col("name").str.extract_groups(_BIN.pattern.replace("?P<", "?<"))
    binned = (
        rows.filter(pl.col("diagnostic") == "calibration")
        .with_columns(parts.alias("parts"))
        .unnest("parts", separator=".")
        .filter(pl.col("parts.bin").is_not_null(), pl.col("value").is_not_null())
    )
    key = ["seed", "method", "iteration", pl.col("parts.bin").alias("bin")]
    accuracy = binned.filter(pl.col("parts.name") == "accuracy").select(
        *key, pl.col("value").alias("accuracy"), "n", "ci_low", "ci_high"
    )
    confidence = binned.filter(pl.col("parts.name") == "confidence").select(
        *key, pl.col("value").alias("confidence")
    )
    on = ["seed", "method", "iteration", "bin"]
    joined = confidence.join(accuracy, on=on, how="inner", nulls_equal=True)
    return joined.filter(pl.col("n") > 0).sort(*on)


def calibration_figure(metrics: pl.DataFrame, diagnostics: pl.DataFrame) -> Figure:
    """How often the majority answer is right, by its share of the samples (train_2)."""
    with figure_style():
        figure, panels = _grid(metrics, width=4.4, height=4.0)
        for chain, (axes,) in panels:
            bins = calibration_bins(of_chain(diagnostics, chain))
            if bins.is_empty():
                mark_not_run(axes)
                continue
            axes.plot([0, 100], [0, 100], color="#888888", ls="--", lw=1, label="calibrated")
            palette = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"]
            most = bins["n"].max()
            for place, ((seed,), rows) in enumerate(bins.group_by("seed", maintain_order=True)):
                rows = rows.sort("confidence")
                values = [
                    Value(row["accuracy"], row["ci_low"], row["ci_high"], row["n"])
                    for row in rows.iter_rows(named=True)
                ]
                x = [100 * value for value in rows["confidence"]]
                colour = palette[place % len(palette)]
                _errorbar(axes, x, values, {"color": colour, "lw": 1.2, "marker": ""})
                sizes = [18 + 120 * value.n / most for value in values]
                label = f"seed {seed}" if len(real_seeds(bins)) > 1 else "majority answer"
                y = [100 * value.value for value in values]
                axes.scatter(x, y, s=sizes, color=colour, label=label, zorder=3)
            axes.set_xlim(0, 104)
            axes.set_ylim(0, 104)
            axes.set_xlabel("share of the samples (%)")
            axes.set_ylabel("majority answer right (%)")
            axes.grid()
            axes.legend(loc="upper left")
        return figure


#: Figures by name, in the order of the report.
FIGURES: dict[str, Callable[[pl.DataFrame, pl.DataFrame], Any]] = {
    "accuracy": accuracy_figure,
    "iterations": iterations_figure,
    "filter": filter_figure,
    "pass_at_k": pass_at_k_figure,
    "calibration": calibration_figure,
}


def legend_handle(
    colour: str, marker: str, label: str, *, line: str = "none", filled: bool = True
) -> Any:
    """Entry of a legend that is drawn by hand."""
    from matplotlib.lines import Line2D

    face = colour if filled else "white"
    return Line2D([], [], color=colour, marker=marker, ls=line, markerfacecolor=face, label=label)


def add_legend(figure: Figure, handles: list[Any]) -> None:
    """A legend below all panels."""
    panels = figure.axes[0].get_gridspec().ncols
    columns = max(2, min(len(handles), 4 * panels))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def save_figure(figure: Figure, svg_path: str | Path, png_path: str | Path) -> None:
    """Write a figure as SVG and as PNG (160 dots an inch), the same bytes for the same figure."""
    with figure_style():
        with publish(svg_path) as part:
            metadata = {"Date": None, "Creator": None}
            figure.savefig(part, format="svg", metadata=metadata)
        with publish(png_path) as part:
            figure.savefig(part, format="png", dpi=160, metadata={"Software": None})
