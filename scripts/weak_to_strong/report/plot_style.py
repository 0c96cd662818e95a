"""Style of all figures: colours, markers, error bars, legends, and files that are reproducible.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart. Each method also has
a marker.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weak_to_strong.report.names import MetricValue
from weak_to_strong.tables.files import publish

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Method -> (colour, marker).
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
    "kto": ("#5d2e6b", "h"),
    "ttrl": ("#2f7d5b", "d"),
    "ceiling_grpo": ("#404040", "^"),
    "ceiling": ("#000000", "v"),
}
_OTHER_METHODS = ("#8c3f6b", "p")
_SETTINGS = {
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
    # Matplotlib names the elements of an SVG by a hash. A fixed salt keeps the names the same.
    "svg.hashsalt": "weak-to-strong",
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw and save in the style of the report."""
    import matplotlib

    with matplotlib.rc_context(_SETTINGS):
        yield


def style_of(method: str) -> tuple[str, str]:
    """Colour and marker of a method; all methods that the paper does not have share one style."""
    return STYLES.get(method, _OTHER_METHODS)


def interval_lengths(value: MetricValue) -> tuple[float, float]:
    """Lengths of the interval below and above the value, 0 where there is no interval."""
    low = value.value if value.low is None else min(value.low, value.value)
    high = value.value if value.high is None else max(value.high, value.value)
    return value.value - low, high - value.value


def draw_intervals(
    axes: Axes, x: list[float], values: list[MetricValue], style: dict[str, Any]
) -> None:
    """Shares in per cent with vertical intervals, joined by a line."""
    lengths = [interval_lengths(value) for value in values]
    axes.errorbar(
        x,
        [100 * value.value for value in values],
        yerr=[[100 * low for low, _ in lengths], [100 * high for _, high in lengths]],
        capsize=2.5,
        elinewidth=1,
        **style,
    )


def mark_not_run(axes: Axes) -> None:
    """Say "not run" in place of a panel."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, "not run", ha="center", va="center", color="#666666", size=12)


def legend_handle(
    colour: str, marker: str, label: str, *, line: str = "none", filled: bool = True
) -> Any:
    """One entry of a legend."""
    from matplotlib.lines import Line2D

    face = colour if filled else "white"
    return Line2D([], [], color=colour, marker=marker, ls=line, markerfacecolor=face, label=label)


def add_legend(figure: Figure, handles: list[Any]) -> None:
    """A legend below all panels."""
    panels = figure.axes[0].get_gridspec().ncols
    columns = max(2, min(len(handles), 4 * panels))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def save_figure(figure: Figure, svg_path: str | Path, png_path: str | Path) -> None:
    """Write a figure as SVG and as PNG (160 dots an inch). The same figure gives the same bytes."""
    with figure_style():
        with publish(svg_path) as part:
            metadata = {"Date": None, "Creator": None}
            figure.savefig(part, format="svg", metadata=metadata)
        with publish(png_path) as part:
            figure.savefig(part, format="png", dpi=160, metadata={"Software": None})
