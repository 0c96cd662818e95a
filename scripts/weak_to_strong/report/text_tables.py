"""A table of the paper as Markdown and as LaTeX (booktabs), and its files."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from weak_to_strong.report.names import Value
from weak_to_strong.report.paper_tables import MISSING, Cell, PaperTable, table_frame
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
    """`text` as LaTeX typesets it; white space of any kind becomes one space."""
    one_line = " ".join(text.split())
    return _LATEX_SPECIAL.sub(lambda match: _LATEX[match[0]], one_line)


def escape_markdown(text: str) -> str:
    """`text` for a cell of a pipe table: nothing in it is read as markup or ends the cell."""
    one_line = " ".join(text.split())
    return re.sub(r"([\\|*_`<>\[\]~])", r"\\\1", one_line)


def number(value: float, digits: int, *, signed: bool = False) -> str:
    """A number with a fixed number of decimals, a real minus sign, and never a negative zero."""
    rounded = round(value, digits) + 0.0
    sign = "+" if signed and rounded else ""
    return f"{rounded:{sign}.{digits}f}".replace("-", "\N{MINUS SIGN}")


class _Markup(ABC):
    """How a kind of text shows cells."""

    @abstractmethod
    def escape(self, text: str) -> str: ...

    @abstractmethod
    def interval(self, value: Value, digits: int, *, signed: bool) -> str:
        """An estimate with both ends of its interval."""

    def estimate(self, value: Value | None, digits: int, *, signed: bool = False) -> str:
        if value is None:
            return self.escape(MISSING)
        if value.low is None or value.high is None:
            return self.escape(number(value.value, digits, signed=signed))
        return self.interval(value, digits, signed=signed)

    def published(self, cell: Cell) -> str:
        row = cell.published
        if not row:
            return self.escape(MISSING)
        text = number(cell.published_value, 0 if cell.unit == "count" else 2)
        if row["unit"] == "count" and row["n"]:
            text += f" ({row['value']:.0f}/{row['n']})"
        return self.escape(text + ("†" if row["confidence"] == "secondary" else ""))

    def reproduced(self, cell: Cell) -> str:
        if cell.reproduced is None:
            return self.escape(cell.state)
        whole = cell.unit == "count" and float(cell.reproduced.value).is_integer()
        return self.estimate(cell.reproduced, 0 if whole else 1)

    def difference(self, cell: Cell) -> str:
        value = cell.difference
        whole = value and cell.unit == "count" and float(value.value).is_integer()
        return self.estimate(value, 0 if whole else 1, signed=True)


class _Markdown(_Markup):
    def escape(self, text: str) -> str:
        return escape_markdown(text)

    def interval(self, value: Value, digits: int, *, signed: bool) -> str:
        middle, low, high = (number(part, digits, signed=signed) for part in value[:3])
        return f"{middle} [{low}, {high}]"


class _Latex(_Markup):
    def escape(self, text: str) -> str:
        return escape_latex(text)

    def interval(self, value: Value, digits: int, *, signed: bool) -> str:
        # Distances instead of ends: a table of seven methods must fit a page.
        middle = f"{round(value.value, digits) + 0.0:{'+' if signed else ''}.{digits}f}"
        above, below = max(value.high - value.value, 0), max(value.value - value.low, 0)
        return f"${middle}^{{+{above:.{digits}f}}}_{{-{below:.{digits}f}}}$"


_QUANTITIES = ("Published", "Reproduced", "Difference")


def _heads(table: PaperTable) -> list[str]:
    return [*table.labels, *(("", *table.columns) if table.columns else _QUANTITIES)]


def _groups(table: PaperTable, markup: _Markup) -> Iterator[list[list[str]]]:
    """Lines of text that belong together, those of a chain; only the first names the chain.

    A table with columns has a line each for published, reproduced and difference, as far as there
    is anything to show in it; another one has them as columns.
    """
    above: tuple[str, ...] = ()
    group: list[list[str]] = []
    for labels, cells in table.rows:
        if table.columns:
            kinds = [markup.published, markup.reproduced, markup.difference]
            shown = (any(cell.published for cell in cells), True, any(c.difference for c in cells))
            lines = [
                [name.lower(), *map(kind, cells)]
                for name, kind, show in zip(_QUANTITIES, kinds, shown, strict=True)
                if show
            ]
            blank = [""] * len(labels)
            heads = [[markup.escape(label) for label in labels], *([blank] * (len(lines) - 1))]
            yield [[*head, *line] for head, line in zip(heads, lines, strict=True)]
            continue
        if group and labels[:2] != above[:2]:
            yield group
            group = []
        kept = ("", "", *labels[2:]) if group else labels
        (cell,) = cells
        quantities = (markup.published(cell), markup.reproduced(cell), markup.difference(cell))
        group.append([*map(markup.escape, kept), *quantities])
        above = labels
    if group:
        yield group


def markdown(table: PaperTable) -> str:
    """A pipe table under its title, with a note."""
    markup = _Markdown()
    rows = [row for group in _groups(table, markup) for row in group]
    widths = len(table.labels) + bool(table.columns)
    heads = _heads(table)
    rule = ["---"] * widths + ["---:"] * (len(heads) - widths)
    lines = [list(map(markup.escape, heads)), rule, *rows]
    body = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"**{markup.escape(table.title)}**\n\n{body}\n{_note(table, 'in brackets')}\n"


def latex(table: PaperTable) -> str:
    """A `table` environment for a document that uses the packages booktabs and graphicx.

    An interval is printed as the distances of its ends; a table too wide for the page is scaled.
    """
    markup = _Latex()
    texts = len(table.labels) + bool(table.columns)
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
        rf"\begin{{tabular}}{{{'l' * texts}{'r' * (len(heads) - texts)}}}",
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
    """A title, broken near its middle if it is long: columns of figures are narrow."""
    gaps = [place for place, sign in enumerate(title) if sign == " "]
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
