"""Figures of the report, one function for each: `<name>_figure(metrics, diagnostics)`.

`metrics` are METRICS and `diagnostics` DIAGNOSTICS of one experiment. A share is in [0, 1] there,
and in percent in the figures.

A figure has one panel for each chain; figures of accuracy have one for each of several test sets.
A panel without any data says "not run".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from weak_to_strong.data.split_names import TEST
from weak_to_strong.report.names import (
    ChainName,
    EvaluatedChain,
    MetricValue,
    NodeName,
    find_value,
    list_chains,
    list_controls,
    list_evaluations,
    list_nodes,
    list_seeds,
    method_label,
    node_key,
    node_label,
    rows_of_chain,
)
from weak_to_strong.report.plot_style import (
    STYLES,
    add_legend,
    draw_intervals,
    figure_style,
    interval_lengths,
    legend_handle,
    mark_not_run,
    style_of,
)
from weak_to_strong.tables.schemas import CONTROL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STAGE_1 = ("weak_ft", "icl_ft", "hybrid_ft")
#: Diagnostics that the upper panels of the filter figure show: name -> (style, label).
_FILTER_LINES = {
    "precision": ({"color": "#009E73", "marker": "D", "ms": 5, "lw": 1.5}, "kept by the filter"),
    "weak_accuracy": ({"color": "#D55E00", "marker": "^", "ms": 5, "lw": 1.0}, "all weak labels"),
    "icl_accuracy": (
        {"color": "#0072B2", "marker": "o", "ms": 5, "lw": 1.0},
        "all in-context labels",
    ),
}
_SEED_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
#: Forms of points, for the second and further rounds of the colours.
_POINT_MARKERS = ("D", "o", "s", "^")
#: How DIAGNOSTICS name the two values of a bin.
_BIN = r"bin (?<bin>\S+) (?<name>accuracy|confidence)"
#: How DIAGNOSTICS name the two values of a least share of the votes.
_SHARE = r"share (?<share>\S+) (?<name>coverage|precision)"


def _make_panels(
    evaluations: Sequence[EvaluatedChain], *, rows: int = 1, width: float, height: float
) -> tuple[Figure, list[tuple[EvaluatedChain, Any]]]:
    """A figure and, for each chain and split, its column of `rows` panels.

    Args:
        evaluations: chains, with the splits that a figure shows apart.
        width: of one panel, in inches.
        height: of the figure, in inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    evaluations = evaluations or [_as_panel(ChainName("experiment", "weak", "strong"))]
    figure = Figure(figsize=(width * len(evaluations), height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, len(evaluations), squeeze=False)
    for column, evaluation in enumerate(evaluations):
        axes[0][column].set_title(evaluation.title)
    return figure, list(zip(evaluations, axes.T, strict=True))


def _as_panel(chain: ChainName) -> EvaluatedChain:
    """A chain, in a figure that shows no evaluated split."""
    return EvaluatedChain(chain, TEST, str(chain))


def _accuracies(metrics: pl.DataFrame, evaluation: EvaluatedChain) -> pl.DataFrame:
    """Rows of the accuracy of a chain's models on a split."""
    rows = rows_of_chain(metrics, evaluation.chain)
    return rows.filter(pl.col("metric") == "accuracy", pl.col("split") == evaluation.split)


def _draw_references(axes: Axes, rows: pl.DataFrame, split: str, axis: str) -> None:
    """Lines for floor and ceiling, and a band between them.

    On the y axis full weak fine-tuning has a line too.
    """
    draw_line, draw_band = (
        (axes.axvline, axes.axvspan) if axis == "x" else (axes.axhline, axes.axhspan)
    )
    accuracy = {
        method: find_value(rows, NodeName(method, 0), "accuracy", scorer="paper", split=split, k=1)
        for method in ("weak", "full_weak", "ceiling")
    }
    for method, dashes in (("weak", ":"), ("full_weak", "-."), ("ceiling", "--")):
        if (value := accuracy[method]) and not (axis == "x" and method == "full_weak"):
            label = method_label(method) if axis == "y" else None
            style = {"color": STYLES[method][0], "linestyle": dashes, "lw": 1.1, "zorder": 1}
            draw_line(100 * value.value, label=label, **style)
    if accuracy["weak"] and accuracy["ceiling"]:
        ends = sorted(100 * accuracy[method].value for method in ("weak", "ceiling"))
        draw_band(*ends, color="#0072B2", alpha=0.06, lw=0, zorder=0)


def accuracy_figure(metrics: pl.DataFrame, diagnostics: pl.DataFrame) -> Figure:
    """Greedy accuracy of each model with its 95% interval, by both scorers."""
    return _bars(metrics, _accuracies)


def stage2_figure(metrics: pl.DataFrame, diagnostics: pl.DataFrame) -> Figure:
    """The same of Stage II alone: M_plus, the models that start from it, and their controls."""
    return _bars(metrics, _stage_2)


def _stage_2(metrics: pl.DataFrame, evaluation: EvaluatedChain) -> pl.DataFrame:
    """Of `_accuracies` the rows of Stage II; floor and ceiling too, for the lines."""
    rows = _accuracies(metrics, evaluation)
    later = rows_of_chain(metrics, evaluation.chain).filter(
        pl.col("metric") == "difference_vs_predecessor", pl.col("stage").is_in(["stage2", CONTROL])
    )
    if later.is_empty():
        return later
    starts = {NodeName.read(name) for name in later["reference"].unique()}
    wanted = starts | set(list_nodes(later)) | {NodeName("weak", 0), NodeName("ceiling", 0)}
    names = pl.DataFrame(sorted(wanted), rows.select("method", "iteration").schema, orient="row")
    rows = rows.with_columns(pl.col("iteration").fill_null(0))
    return rows.join(names, on=["method", "iteration"], how="semi", maintain_order="left")


def _bars(
    metrics: pl.DataFrame, choose: Callable[[pl.DataFrame, EvaluatedChain], pl.DataFrame]
) -> Figure:
    """A figure of accuracies: one line for each model that `choose` keeps."""
    with figure_style():
        evaluations = list_evaluations(metrics)
        most = max((len(list_nodes(choose(metrics, panel))) for panel in evaluations), default=1)
        figure, panels = _make_panels(evaluations, width=6.2, height=1.5 + 0.36 * most)
        for evaluation, (axes,) in panels:
            _draw_accuracy(axes, choose(metrics, evaluation), evaluation.split)
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


def _draw_accuracy(axes: Axes, rows: pl.DataFrame, split: str) -> None:
    models = list_nodes(rows)[::-1]
    if not models:
        mark_not_run(axes)
        return
    _draw_references(axes, rows, split, "x")
    for scorer, shift, filled in (("paper", 0.14, True), ("math", -0.14, False)):
        for place, node in enumerate(models):
            value = find_value(rows, node, "accuracy", scorer=scorer, split=split, k=1)
            if not value:
                continue
            colour, marker = style_of(node.method)
            low, high = interval_lengths(value)
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
    controls = list_controls(rows)
    tags = [
        " (control)" if node.method in controls else " (broken)" if node.is_broken else ""
        for node in models
    ]
    labels = [node_label(node) + tag for node, tag in zip(models, tags, strict=True)]
    axes.set_yticks(range(len(models)), labels)
    axes.set_ylim(-0.6, len(models) - 0.4)
    axes.set_xlabel(f"accuracy on {split} (%)")
    axes.grid(axis="x")


def iterations_figure(metrics: pl.DataFrame, diagnostics: pl.DataFrame) -> Figure:
    """Stage I: accuracy of the three fine-tuned models over the iterations (paper scorer)."""
    with figure_style():
        figure, panels = _make_panels(list_evaluations(metrics), width=5.2, height=3.9)
        drawn: set[str] = set()
        for evaluation, (axes,) in panels:
            rows = _accuracies(metrics, evaluation)
            drawn |= _draw_iterations(axes, rows, evaluation.split)
        if drawn:
            lines = [
                legend_handle(*STYLES[method], method_label(method), line="-")
                for method in _STAGE_1
                if method in drawn
            ]
            lines += [
                legend_handle(STYLES["weak"][0], "", "floor", line=":"),
                legend_handle(STYLES["full_weak"][0], "", "full weak", line="-."),
                legend_handle(STYLES["ceiling"][0], "", "ceiling", line="--"),
            ]
            add_legend(figure, lines)
        return figure


def _draw_iterations(axes: Axes, rows: pl.DataFrame, split: str) -> set[str]:
    """Draw one chain; the methods that have a line."""
    drawn = set()
    of_stage = rows.filter(pl.col("method").is_in(_STAGE_1))
    iterations = sorted(of_stage["iteration"].drop_nulls().unique())
    if not iterations:
        mark_not_run(axes)
        return drawn
    _draw_references(axes, rows, split, "y")
    for place, method in enumerate(_STAGE_1):
        values = {
            iteration: find_value(
                rows, NodeName(method, iteration), "accuracy", scorer="paper", split=split
            )
            for iteration in iterations
        }
        values = {iteration: value for iteration, value in values.items() if value}
        if not values:
            continue
        colour, marker = STYLES[method]
        # A small shift keeps the intervals of the three methods apart.
        x = [iteration + 0.05 * (place - 1) for iteration in values]
        style = {"color": colour, "marker": marker, "ms": 5.5, "lw": 1.6}
        draw_intervals(axes, x, list(values.values()), style)
        drawn.add(method)
    axes.set_xticks(iterations)
    axes.set_xlim(min(iterations) - 0.35, max(iterations) + 0.35)
    axes.set_xlabel("Stage I iteration")
    axes.set_ylabel(f"accuracy on {split} (%)")
    axes.grid(axis="y")
    return drawn


def filter_figure(metrics: pl.DataFrame, diagnostics: pl.DataFrame) -> Figure:
    """Stage I filter: share of correct answers among the kept ones (above), number kept (below).

    Each seed has its lines and bars. The accuracy of all labels is drawn for comparison.
    """
    with figure_style():
        data = diagnostics.filter(pl.col("diagnostic") == "filter")
        chains = [_as_panel(chain) for chain in list_chains(metrics)]
        figure, panels = _make_panels(chains, rows=2, width=5.2, height=5.0)
        drawn = [
            _draw_filter(upper, lower, rows_of_chain(data, panel.chain))
            for panel, (upper, lower) in panels
        ]
        if any(drawn):
            lines = [
                legend_handle(style["color"], style["marker"], label, line="-")
                for style, label in _FILTER_LINES.values()
            ]
            add_legend(figure, lines)
        return figure


def _draw_filter(upper: Axes, lower: Axes, rows: pl.DataFrame) -> bool:
    """Draw one chain; whether it has anything to draw."""
    precision = rows.filter(pl.col("name") == "precision").sort("seed", "iteration")
    iterations = sorted(precision["iteration"].drop_nulls().unique())
    if not iterations:
        mark_not_run(upper)
        mark_not_run(lower)
        return False
    seeds = precision["seed"].unique().sort().to_list()
    width = 0.5 / len(seeds)
    for place, seed in enumerate(seeds):
        from_middle = place - (len(seeds) - 1) / 2
        of_seed = rows.filter(pl.col("seed") == seed)
        for name, (style, _) in _FILTER_LINES.items():
            points = of_seed.filter(pl.col("name") == name, pl.col("value").is_not_null())
            points = points.sort("iteration")
            if points.height:
                x = [iteration + 0.06 * from_middle for iteration in points["iteration"]]
                draw_intervals(upper, x, _values(points, "value"), style)
        kept = precision.filter(pl.col("seed") == seed, pl.col("n").is_not_null())
        bars = lower.bar(
            [iteration + width * from_middle for iteration in kept["iteration"]],
            kept["n"].to_list(),
            width=0.92 * width,
            color="#9dd3c3",
        )
        lower.bar_label(bars, fontsize=8, padding=1)
    for axes in (upper, lower):
        axes.set_xticks(iterations)
        axes.set_xlim(min(iterations) - 0.5, max(iterations) + 0.5)
        axes.grid(axis="y")
    upper.set_ylabel("correct (%)")
    lower.set_ylabel("questions kept")
    lower.margins(y=0.15)
    lower.set_xlabel("Stage I iteration")
    return True


def _values(rows: pl.DataFrame, column: str) -> list[MetricValue]:
    """Values of a column with the intervals beside it."""
    return [
        MetricValue(row[column], row["ci_low"], row["ci_high"], row["n"] or 0)
        for row in rows.iter_rows(named=True)
    ]


def pass_at_k_figure(metrics: pl.DataFrame, diagnostics: pl.DataFrame) -> Figure:
    """pass@k (above) and maj@k (below) of the sampled models (paper scorer).

    Each method is shown at its last iteration.
    """
    with figure_style():
        figure, panels = _make_panels(list_evaluations(metrics), rows=2, width=6.2, height=6.4)
        drawn: set[NodeName] = set()
        for (chain, split, _), column in panels:
            rows = rows_of_chain(metrics, chain).filter(
                pl.col("split") == split, pl.col("scorer") == "paper"
            )
            for metric, axes in zip(("pass_at_k", "maj_at_k"), column, strict=True):
                drawn |= _draw_curves(axes, rows, metric, split)
            column[-1].set_xlabel("k (samples a question)")
        handles = [
            legend_handle(*style_of(node.method), node_label(node), line="-")
            for node in sorted(drawn, key=node_key)
        ]
        if handles:
            figure.legend(handles=handles, loc="outside right center")
        return figure


def _draw_curves(axes: Axes, rows: pl.DataFrame, metric: str, split: str) -> set[NodeName]:
    """Draw a metric of one chain over k; the models that have a curve."""
    drawn = set()
    rows = rows.filter(pl.col("metric") == metric)
    ks = sorted(rows["k"].drop_nulls().unique())
    if not ks:
        mark_not_run(axes)
        return drawn
    models = _last_iterations(list_nodes(rows))
    for place, node in enumerate(models):
        curve = {tick: find_value(rows, node, metric, k=k) for tick, k in enumerate(ks)}
        curve = {tick: value for tick, value in curve.items() if value}
        if not curve:
            continue
        drawn.add(node)
        colour, marker = style_of(node.method)
        shift = 0.035 * (place - (len(models) - 1) / 2)
        style = {"color": colour, "marker": marker, "ms": 5, "lw": 1.4}
        draw_intervals(axes, [tick + shift for tick in curve], list(curve.values()), style)
    axes.set_xticks(range(len(ks)), [str(k) for k in ks])
    axes.set_xlim(-0.4, len(ks) - 0.6)
    axes.set_ylabel(f"{metric.replace('_at_', '@')} on {split} (%)")
    axes.grid(axis="y")
    return drawn


def _last_iterations(models: list[NodeName]) -> list[NodeName]:
    """The last iteration of each method, in the order of `models`."""
    last = {node.method: node for node in sorted(models, key=lambda node: node.iteration)}
    return [node for node in models if last[node.method] == node]


def calibration_figure(metrics: pl.DataFrame, diagnostics: pl.DataFrame) -> Figure:
    """How often the majority answer of M_plus is right, by its share of the samples (train_2)."""
    with figure_style():
        chains = [_as_panel(chain) for chain in list_chains(metrics)]
        figure, panels = _make_panels(chains, width=4.4, height=4.0)
        for panel, (axes,) in panels:
            bins = calibration_bins(rows_of_chain(diagnostics, panel.chain))
            _draw_calibration(axes, bins.filter(_is_vote()))
        return figure


def _is_vote() -> pl.Expr:
    """Whether a diagnostic is of the vote of M_plus, and not of a selection with a name."""
    return pl.col("method").str.contains("^majority(@|$)")


def _draw_calibration(axes: Axes, bins: pl.DataFrame) -> None:
    if bins.is_empty():
        mark_not_run(axes)
        return
    axes.plot([0, 100], [0, 100], color="#888888", ls="--", lw=1, label="calibrated")
    several_seeds = len(list_seeds(bins)) > 1
    most = bins["n"].max()
    for place, ((seed,), rows) in enumerate(bins.group_by("seed", maintain_order=True)):
        rows = rows.sort("confidence")
        values = _values(rows, "accuracy")
        x = [100 * confidence for confidence in rows["confidence"]]
        colour = _SEED_COLOURS[place % len(_SEED_COLOURS)]
        draw_intervals(axes, x, values, {"color": colour, "lw": 1.2, "marker": ""})
        sizes = [18 + 120 * value.n / most for value in values]
        label = f"seed {seed}" if several_seeds else "majority answer"
        y = [100 * value.value for value in values]
        axes.scatter(x, y, s=sizes, color=colour, label=label, zorder=3)
    axes.set_xlim(0, 104)
    axes.set_ylim(0, 104)
    axes.set_xlabel("share of the samples (%)")
    axes.set_ylabel("majority answer right (%)")
    axes.grid()
    axes.legend(loc="upper left")


def calibration_bins(rows: pl.DataFrame) -> pl.DataFrame:
    """Bins of the diagnostic "calibration", one row for each bin that holds questions.

    Args:
        rows: DIAGNOSTICS of one chain. In the column `name` a bin has two rows, such as
            "bin 0.6-0.7 accuracy" and "bin 0.6-0.7 confidence".

    Returns:
        Columns seed, method, iteration, bin, confidence, accuracy, n, ci_low, ci_high (both of the
        accuracy), sorted by the first four.
    """
    parts = pl.col("name").str.extract_groups(_BIN)
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


def selection_figure(metrics: pl.DataFrame, diagnostics: pl.DataFrame) -> Figure:
    """How right the questions are that each selection keeps, by how many it keeps (train_2).

    Agreement filters and selections are points. The least share of the votes is a line: of M_plus
    from all questions with a majority answer to those on which all samples agree, of a selection
    from its point to those of its questions of which it is surest.
    """
    with figure_style():
        chains = [_as_panel(chain) for chain in list_chains(metrics)]
        figure, panels = _make_panels(chains, width=5.2, height=4.0)
        for panel, (axes,) in panels:
            _draw_selections(axes, rows_of_chain(diagnostics, panel.chain))
        return figure


def _draw_selections(axes: Axes, rows: pl.DataFrame) -> None:
    curve, points = vote_curve(rows), _filter_points(rows)
    if curve.is_empty() and points.is_empty():
        mark_not_run(axes)
        return
    for (_,), of_seed in curve.filter(_is_vote()).group_by("seed", maintain_order=True):
        x, y = 100 * of_seed["coverage"], 100 * of_seed["precision"]
        axes.plot(x, y, color="#CC79A7", marker=".", lw=1.4, label="least share of the votes")
    for place, ((label,), of_label) in enumerate(points.group_by("label", maintain_order=True)):
        colour = _SEED_COLOURS[place % len(_SEED_COLOURS)]
        x, y = 100 * of_label["coverage"], 100 * of_label["precision"]
        marker = _POINT_MARKERS[place // len(_SEED_COLOURS) % len(_POINT_MARKERS)]
        axes.scatter(x, y, color=colour, marker=marker, s=36, label=label, zorder=3)
        for (_,), of_seed in curve.filter(method=label).group_by("seed", maintain_order=True):
            x, y = 100 * of_seed["coverage"], 100 * of_seed["precision"]
            axes.plot(x, y, color=colour, marker=".", lw=0.8)
    handles, labels = axes.get_legend_handles_labels()
    first = dict(zip(reversed(labels), reversed(handles), strict=True))  # one for all seeds
    # A long legend would hide the points.
    beside = {"loc": "upper left", "bbox_to_anchor": (1.02, 1)} if len(first) > 6 else {}
    axes.legend(list(reversed(first.values())), list(reversed(first)), **beside)
    axes.set_xlim(0, 104)
    axes.set_xlabel("questions kept (%)")
    axes.set_ylabel("right among them (%)")
    axes.grid()


def vote_curve(rows: pl.DataFrame) -> pl.DataFrame:
    """What a least share of the votes would keep, from the largest share to the smallest.

    Args:
        rows: DIAGNOSTICS of one chain. In the column `name` a share has two rows, such as
            "share 0.60 coverage" and "share 0.60 precision".

    Returns:
        Columns method, seed, share, coverage, precision (the last three in [0, 1]), n (questions
        kept).
    """
    parts = pl.col("name").str.extract_groups(_SHARE)
    of_shares = (
        rows.filter(pl.col("diagnostic") == "selection")
        .with_columns(parts.alias("parts"))
        .unnest("parts", separator=".")
        .with_columns(share=pl.col("parts.share").cast(pl.Float64))
    )
    key = ["method", "seed", "share"]
    coverage = of_shares.filter(pl.col("parts.name") == "coverage").select(
        *key, pl.col("value").alias("coverage")
    )
    precision = of_shares.filter(pl.col("parts.name") == "precision").select(
        *key, pl.col("value").alias("precision"), "n"
    )
    return coverage.join(precision, on=key).sort(key, descending=[False, False, True])


def _filter_points(rows: pl.DataFrame) -> pl.DataFrame:
    """Columns seed, label, coverage, precision of filters and selections that kept anything."""
    is_filter = pl.col("diagnostic") == "filter"
    points = rows.filter(is_filter | (pl.col("diagnostic") == "kept")).with_columns(
        label=pl.when(is_filter)
        .then(pl.format("agreement {}", "iteration"))
        .otherwise(pl.col("method"))
    )
    key = ["seed", "label"]
    coverage, precision = (
        points.filter(pl.col("name") == name).select(*key, pl.col("value").alias(new))
        for name, new in (("kept", "coverage"), ("precision", "precision"))
    )
    return coverage.join(precision, on=key).drop_nulls().sort("label", "seed")


#: Figures by name, in the order of the report.
FIGURES: dict[str, Callable[[pl.DataFrame, pl.DataFrame], Figure]] = {
    "accuracy": accuracy_figure,
    "iterations": iterations_figure,
    "stage2": stage2_figure,
    "filter": filter_figure,
    "pass_at_k": pass_at_k_figure,
    "calibration": calibration_figure,
    "selection": selection_figure,
}
