"""Figures of the paper's tables: what was published beside what an experiment reproduced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from weak_to_strong.report.paper_cells import Cell, PaperTable
from weak_to_strong.report.plot_style import STYLES, add_legend, figure_style, legend_handle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Tables that have a figure.
PAPER_FIGURES = ("main", "stage1", "stage2", "levels", "pass_at_k", "olympicarena")
_PUBLISHED = ("#444444", "D")
_OTHER_METHODS = ("#8c3f6b", "o")
_MOST_PANELS_IN_A_ROW = 3


def panels(table: PaperTable) -> dict[str, list[tuple[str, Cell]]]:
    """Title of each panel -> its cells with their names.

    Each row of a table has a panel; where rows have one cell, each chain has one.
    """
    cells_of: dict[str, list[tuple[str, Cell]]] = {}
    for labels, cells in table.rows:
        if table.columns:
            cells_of[": ".join(labels)] = list(zip(table.columns, cells, strict=True))
        else:
            _, _, method, k = labels
            name = f"{method}, {table.labels[-1]} = {k}"
            cells_of.setdefault(": ".join(labels[:2]), []).append((name, cells[0]))
    return cells_of


def comparison_figure(table: PaperTable) -> Figure:
    """Percentages of a table: published ones hollow, reproduced ones filled, with their interval.

    A figure that was not run says so in its place.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cells_of = panels(table) or {table.title: []}
    columns = min(len(cells_of), _MOST_PANELS_IN_A_ROW)
    rows = -(-len(cells_of) // columns)
    most = max(map(len, cells_of.values()))
    size = (5.2 * columns, 0.6 + rows * (0.9 + 0.3 * most))
    with figure_style():
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid[len(cells_of) :]:
            axes.set_axis_off()
        for axes, (title, cells) in zip(grid, cells_of.items(), strict=False):
            _draw_panel(axes, title, cells[::-1])
        hollow = legend_handle(*_PUBLISHED, "published", filled=False)
        add_legend(figure, [hollow, legend_handle("#444444", "o", "reproduced")])
        return figure


def _draw_panel(axes: Axes, title: str, cells: list[tuple[str, Cell]]) -> None:
    axes.set_title(title)
    for place, (_, cell) in enumerate(cells):
        if cell.published_value is not None:
            colour, marker = _PUBLISHED
            style = {"color": colour, "markerfacecolor": "none", "markersize": 6}
            axes.plot(cell.published_value, place + 0.12, marker, **style)
        if cell.reproduced is None:
            style = {"va": "center", "color": "#666666", "size": 8}
            axes.text(1.01, place, cell.state, transform=axes.get_yaxis_transform(), **style)
        else:
            _draw_reproduced(axes, place - 0.12, cell)
    axes.set_yticks(range(len(cells)), [name for name, _ in cells])
    axes.set_ylim(-0.6, max(len(cells), 1) - 0.4)
    axes.set_xlabel("%")
    axes.grid(axis="x")


def _draw_reproduced(axes: Axes, height: float, cell: Cell) -> None:
    value = cell.reproduced
    lengths = [[0.0 if end is None else abs(end - value.value)] for end in (value.low, value.high)]
    colour, marker = STYLES.get(cell.key.method, _OTHER_METHODS)
    style = {"color": colour, "markersize": 5.5, "capsize": 2, "elinewidth": 1}
    axes.errorbar(value.value, height, xerr=lengths, fmt=marker, **style)
