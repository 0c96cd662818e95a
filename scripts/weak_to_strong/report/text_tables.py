"""Files of a paper table: CSV, Markdown and LaTeX (booktabs)."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from weak_to_strong.report.display_text import fixed_decimals
from weak_to_strong.report.names import MetricValue
from weak_to_strong.report.paper_cells import MISSING, Cell, PaperTable, table_frame
from weak_to_strong.tables.files import publish

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",
    "→": r"$\rightarrow$",
    "\N{EN DASH}": "--",
    "…": r"\ldots{}",
    "†": r"\dag{}",
    "\N{MINUS SIGN}": "$-$",
}
_LATEX_SPECIAL = re.compile("|".join(map(re.escape, _LATEX)))


def escape_latex(text: str) -> str:
    """`text` as LaTeX source; any run of white space becomes one space."""
    one_line = " ".join(text.split())
    return _LATEX_SPECIAL.sub(lambda match: _LATEX[match[0]], one_line)


def escape_markdown(text: str) -> str:
    """`text` for a cell of a pipe table: it neither is markup nor ends the cell."""
    one_line = " ".join(text.split())
    return re.sub(r"([\\|*_`<>\[\]~])", r"\\\1", one_line)


class _Markup(ABC):
    """How one kind of file writes cells."""

    @abstractmethod
    def escape(self, text: str) -> str: ...

    @abstractmethod
    def interval(self, value: MetricValue, digits: int, *, signed: bool) -> str:
        """A value with both ends of its interval."""

    def number(self, value: MetricValue | None, digits: int, *, signed: bool = False) -> str:
        """A value with its interval where it has one."""
        if value is None:
            return self.escape(MISSING)
        if value.low is None or value.high is None:
            return self.escape(fixed_decimals(value.value, digits, signed=signed))
        return self.interval(value, digits, signed=signed)

    def published(self, cell: Cell) -> str:
        """The published figure; counts show what they are a share of."""
        row = cell.published
        if not row:
            return self.escape(MISSING)
        text = fixed_decimals(cell.published_value, 0 if cell.unit == "count" else 2)
        if row["unit"] == "count" and row["n"]:
            text += f" ({row['value']:.0f}/{row['n']})"
        return self.escape(text + ("†" if row["confidence"] == "secondary" else ""))

    def reproduced(self, cell: Cell) -> str:
        """The reproduced figure, or why there is none."""
        if cell.reproduced is None:
            return self.escape(cell.state)
        whole = cell.unit == "count" and float(cell.reproduced.value).is_integer()
        return self.number(cell.reproduced, 0 if whole else 1)

    def difference(self, cell: Cell) -> str:
        """Reproduced minus published."""
        value = cell.difference
        whole = value and cell.unit == "count" and float(value.value).is_integer()
        return self.number(value, 0 if whole else 1, signed=True)


class _Markdown(_Markup):
    def escape(self, text: str) -> str:
        return escape_markdown(text)

    def interval(self, value: MetricValue, digits: int, *, signed: bool) -> str:
        middle, low, high = (fixed_decimals(part, digits, signed=signed) for part in value[:3])
        return f"{middle} [{low}, {high}]"


class _Latex(_Markup):
    def escape(self, text: str) -> str:
        return escape_latex(text)

    def interval(self, value: MetricValue, digits: int, *, signed: bool) -> str:
        # Distances to the ends are shorter than the ends: a table of seven methods must fit a page.
        middle = f"{round(value.value, digits) + 0.0:{'+' if signed else ''}.{digits}f}"
        above, below = max(value.high - value.value, 0), max(value.value - value.low, 0)
        return f"${middle}^{{+{above:.{digits}f}}}_{{-{below:.{digits}f}}}$"


_QUANTITIES = ("Published", "Reproduced", "Difference")


def _heads(table: PaperTable) -> list[str]:
    return [*table.labels, *(("", *table.columns) if table.columns else _QUANTITIES)]


def _groups(table: PaperTable, markup: _Markup) -> Iterator[list[list[str]]]:
    """Lines of the table, grouped by row or chain. Only a group's first line names it."""
    if table.columns:
        return _groups_of_lines(table, markup)
    return _groups_of_chains(table, markup)


def _groups_of_lines(table: PaperTable, markup: _Markup) -> Iterator[list[list[str]]]:
    """For each row of cells a line of published and reproduced figures and of differences.

    A line of published figures or of differences appears only where it has something to show.
    """
    for labels, cells in table.rows:
        lines = []
        if any(cell.published for cell in cells):
            lines.append(["published", *map(markup.published, cells)])
        lines.append(["reproduced", *map(markup.reproduced, cells)])
        if any(cell.difference for cell in cells):
            lines.append(["difference", *map(markup.difference, cells)])
        blank = [""] * len(labels)
        heads = [[markup.escape(label) for label in labels], *([blank] * (len(lines) - 1))]
        yield [[*head, *line] for head, line in zip(heads, lines, strict=True)]


def _groups_of_chains(table: PaperTable, markup: _Markup) -> Iterator[list[list[str]]]:
    """For each chain its lines, one figure each: published, reproduced and their difference."""
    for _, rows in groupby(table.rows, key=lambda row: row[0][:2]):
        group = []
        for labels, (cell,) in rows:
            named = ("", "", *labels[2:]) if group else labels
            quantities = (markup.published(cell), markup.reproduced(cell), markup.difference(cell))
            group.append([*map(markup.escape, named), *quantities])
        yield group


def markdown(table: PaperTable) -> str:
    """A pipe table under its title, with a note."""
    markup = _Markdown()
    rows = [row for group in _groups(table, markup) for row in group]
    text_columns = len(table.labels) + bool(table.columns)
    heads = _heads(table)
    rule = ["---"] * text_columns + ["---:"] * (len(heads) - text_columns)
    lines = [list(map(markup.escape, heads)), rule, *rows]
    body = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"**{markup.escape(table.title)}**\n\n{body}\n{_note(table, 'in brackets')}\n"


def latex(table: PaperTable) -> str:
    """A `table` environment; its document needs the packages booktabs and graphicx.

    An interval is printed as the distances of its ends from the value. A table that is too wide for
    the page is scaled down.
    """
    markup = _Latex()
    text_columns = len(table.labels) + bool(table.columns)
    heads = [_two_lines(head, markup) for head in _heads(table)]
    groups = ["".join(map(_latex_row, group)) for group in _groups(table, markup)]
    lines = [
        "% Needs the packages booktabs and graphicx.",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{markup.escape(table.title)}}}",
        rf"\label{{tab:{table.name}}}",
        r"\footnotesize",
        r"\setlength{\tabcolsep}{3pt}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{'l' * text_columns}{'r' * (len(heads) - text_columns)}}}",
        r"\toprule",
        _latex_row(heads) + r"\midrule",
        "\\addlinespace\n".join(groups) + r"\bottomrule",
        r"\end{tabular}}",
        "",
        r"\smallskip",
        rf"\parbox{{\linewidth}}{{{markup.escape(_note(table, 'as distances of its ends'))}}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _two_lines(title: str, markup: _Markup) -> str:
    """A title, broken near its middle if it is long, so that columns stay narrow."""
    gaps = [place for place, character in enumerate(title) if character == " "]
    if len(title) < 14 or not gaps:
        return markup.escape(title)
    middle = min(gaps, key=lambda place: abs(place - len(title) / 2))
    lines = r"\\".join(markup.escape(part) for part in (title[:middle], title[middle + 1 :]))
    return rf"\shortstack[r]{{{lines}}}"


def _latex_row(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\\n"


def _note(table: PaperTable, how: str) -> str:
    return table.note.replace("95% interval", f"95% interval {how}", 1)


def write_paper_table(table: PaperTable, paths: Mapping[str, str | Path]) -> None:
    """Write a table to `paths`: "csv" (PAPER_TABLE), "md" and "tex"."""
    with publish(paths["csv"]) as part:
        table_frame(table).write_csv(part)
    for kind, text in (("md", markdown(table)), ("tex", latex(table))):
        with publish(paths[kind]) as part:
            part.write_text(text, encoding="utf-8")
