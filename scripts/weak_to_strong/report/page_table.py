"""A table of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PageTable:
    """A table as the macro `grid` of the template shows it.

    Attributes:
        label: name of the table for screen readers and headings.
        caption: sentences above the table.
        columns: headings.
        rows: cells; a cell is a text, a number, None (not measured) or a `share_cell`.
        text_columns: this many columns, from the left, are aligned to the left.
        total: cells of a last row of sums, or None.
    """

    label: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    text_columns: int = 1
    total: Sequence[Any] | None = None
