"""Rows of cells as lines of text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def align_columns(rows: Sequence[Sequence[str]], left_columns: int | None = None) -> list[str]:
    """One line for each row: columns as wide as their widest cell, two spaces apart.

    No line ends in a space.

    Args:
        rows: cells of each row, all rows with the same number; headings are the first row.
        left_columns: this many columns, from the left, are aligned to the left, and the others to
            the right. None aligns all to the left.

    Raises:
        ValueError: rows have different numbers of cells.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left_count = len(widths) if left_columns is None else left_columns
    return [
        "  ".join(
            cell.ljust(width) if place < left_count else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
