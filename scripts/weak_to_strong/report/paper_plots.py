"""Figures of the paper's tables: what was published beside what an experiment reproduced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from weak_to_strong.report.paper_tables import Cell, PaperTable
from weak_to_strong.report.plots import STYLES, add_legend, figure_style, legend_handle

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Tables that have a figure.
FIGURES = ("main", "stage1", "stage2", "levels", "pass_at_k", "olympicarena")
_PUBLISHED = ("#444444", "D")
_PANELS_ABREAST = 3


def panels(table: PaperTable) -> dict[str, list[tuple[str, Cell]]]:
    """Named cells by title of their panel: one panel a row, or a chain where rows have one cell."""
    found: dict[str, list[tuple[str, Cell]]] = {}
    for labels, cells in table.rows:
        if table.columns:
            found[": ".join(labels)] = list(zip(table.columns, cells, strict=True))
        else:
            _, _, method, k = labels
            name = f"{method}, {table.labels[-1]} = {k}"
            found.setdefault(": ".join(labels[:2]), []).append((name, cells[0]))
    return found


def comparison_figure(table: PaperTable) -> Figure:
    """Percentages of a table: hollow as published, filled with its interval as reproduced.

    What was not run says so in the place of its point.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = panels(table) or {table.title: []}
    across = min(len(found), _PANELS_ABREAST)
    down = -(-len(found) // across)
    most = max(map(len, found.values()))
    with figure_style():
        figure = Figure(figsize=(5.2 * across, 0.6 + down * (0.9 + 0.3 * most)),
                        layout="constrained")  # fmt: skip
        FigureCanvasAgg(figure)
        grid = figure.subplots(down, across, squeeze=False).ravel()
        for axes in grid[len(found) :]:
            axes.set_axis_off()
        for axes, (title, points) in zip(grid, found.items(), strict=False):
            axes.set_title(title)
            points = points[::-1]
            for place, (_, cell) in enumerate(points):
                if cell.published_value is not None:
                    colour, marker = _PUBLISHED
                    style = {"color": colour, "markerfacecolor": "none", "markersize": 6}
                    axes.plot(cell.published_value, place + 0.12, marker, **style)
                if (value := cell.reproduced) is None:
                    at = axes.get_yaxis_transform()
                    style = {"va": "center", "color": "#666666", "size": 8}
                    axes.text(1.01, place, cell.state, transform=at, **style)
                    continue
                ends = [
                    [0.0 if end is None else abs(end - value.value)]
                    for end in (value.low, value.high)
                ]
                colour, marker = STYLES.get(cell.key.method, ("#8c3f6b", "o"))
                style = {"color": colour, "markersize": 5.5, "capsize": 2, "elinewidth": 1}
                axes.errorbar(value.value, place - 0.12, xerr=ends, fmt=marker, **style)
            axes.set_yticks(range(len(points)), [name for name, _ in points])
            axes.set_ylim(-0.6, max(len(points), 1) - 0.4)
            axes.set_xlabel("%")
            axes.grid(axis="x")
        hollow = legend_handle(*_PUBLISHED, "published", filled=False)
        add_legend(figure, [hollow, legend_handle("#444444", "o", "reproduced")])
        return figure
