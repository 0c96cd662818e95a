"""Cells of the paper's tables: a published figure beside the one that an experiment reproduced."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl

from weak_to_strong.evaluation.stats import (
    IntervalEstimate,
    independent_difference,
    wilson_interval,
)
from weak_to_strong.paper.published_results import PUBLISHED_KEY
from weak_to_strong.report.names import MetricValue

NOT_RUN, NOT_MEASURED = "not run", "not measured"
#: Shown for what exists nowhere: a figure that was not published, a level that a task lacks.
MISSING = "\N{EN DASH}"
#: One row for each cell of a table. Percentages are in per cent, differences in percentage points,
#: counts are numbers. `reproduced` is a number, "not run", or "not measured" for a count that the
#: workflow does not take. `difference_low` and `difference_high` shift the interval of the
#: reproduced figure and take the published one as a constant. `two_sample_low` and
#: `two_sample_high` take both as samples (`stats.independent_difference`, with the Wilson interval
#: of the published figure).
PAPER_TABLE = pl.Schema(
    {
        **{name: pl.Int32 if name in ("iteration", "k") else pl.String for name in PUBLISHED_KEY},
        "unit": pl.String,
        "published": pl.Float64,
        "published_n": pl.Int32,
        "confidence": pl.String,
        "source": pl.String,
        "reproduced": pl.String,
        "reproduced_low": pl.Float64,
        "reproduced_high": pl.Float64,
        "reproduced_n": pl.Int32,
        "difference": pl.Float64,
        "difference_low": pl.Float64,
        "difference_high": pl.Float64,
        "two_sample_low": pl.Float64,
        "two_sample_high": pl.Float64,
    }
)
#: Counts of the data: name -> (title, whether the workflow measures it), in the order of the table.
STATISTICS = {
    "train_1": ("questions of train_1", True),
    "train_1_original": ("… original ones", False),
    "train_1_augmented": ("… augmented ones", False),
    "train_2": ("questions of train_2", True),
    "train_2_original": ("… original ones", False),
    "train_2_augmented": ("… augmented ones", False),
    "train_2_in_train_1": ("… that train_1 also has", True),
    "test": ("questions of test", True),
    "weak_right": ("right weak labels of train_2", True),
    "weak_empty": ("weak labels without an answer", True),
    "kept": ("kept by the agreement filter", True),
    "kept_right": ("… right ones", True),
    "kept_empty": ("… without an answer", False),
    "kept_released": ("questions in the released training set", False),
    "hybrid_rows": ("training rows of Hybrid-FT", False),
    "pairs": ("preference pairs", True),
    "pair_questions": ("… questions they are about", True),
}
#: Metrics that are shares; all others are counts.
_SHARES = (
    "accuracy",
    "pass_at_k",
    "train_2_in_train_1",
    "weak_right",
    "weak_empty",
    "kept",
    "kept_right",
)
_PUBLISHED_NOTE = (
    "Published: arXiv 2407.13647, as resources/published_results.csv has it{secondary}."
)
_SECONDARY = "; a dagger marks figures from secondary summaries"
_NOTE = (
    "Reproduced: this experiment, paper scorer, test split, with 95% interval; what is not run has "
    "no such result. Difference: reproduced minus published, in percentage points, with the "
    "interval of the reproduced figure, the published one being taken as a constant; the CSV file "
    "also has an interval that takes both as independent samples."
)
_DATA_NOTE = (
    "Reproduced: this experiment, over all seeds; a share has a 95% interval where there is one "
    "seed, a number of pairs is the mean. The workflow does not take what is not measured. "
    "Difference: reproduced minus published, in percentage points for shares, with the interval of "
    "the reproduced figure."
)


class Key(NamedTuple):
    """Identity of a figure: the columns of `PUBLISHED_KEY`, with names as displayed."""

    task: str
    weak: str
    strong: str
    method: str
    iteration: int = 0
    metric: str = "accuracy"
    k: int = 1
    level: str | None = None


@dataclass(frozen=True)
class Cell:
    """One figure, published and reproduced.

    Attributes:
        key: its identity.
        published: its row of PUBLISHED, or None.
        reproduced: value and interval, in per cent or as a count, or None.
        possible: whether the task has questions for it.
    """

    key: Key
    published: Mapping[str, Any] | None = None
    reproduced: MetricValue | None = None
    possible: bool = True

    @property
    def exists(self) -> bool:
        """Whether the figure was published or reproduced."""
        return self.published is not None or self.reproduced is not None

    @property
    def unit(self) -> str:
        """percent, count or points. A published count with an `n` is shown as a percentage."""
        if self.published:
            is_share = self.published["unit"] == "count" and self.published["n"]
            return "percent" if is_share else self.published["unit"]
        return "percent" if self.key.metric in _SHARES else "count"

    @property
    def published_value(self) -> float | None:
        """The published figure in `unit`."""
        if not self.published:
            return None
        value, n = self.published["value"], self.published["n"]
        return 100 * value / n if self.published["unit"] == "count" and n else value

    @property
    def state(self) -> str:
        """Text in place of a reproduced figure that does not exist."""
        if not self.possible:
            return MISSING
        metric = self.key.metric
        unmeasured = metric in STATISTICS and (self.key.level or not STATISTICS[metric][1])
        return NOT_MEASURED if unmeasured else NOT_RUN

    @property
    def difference(self) -> MetricValue | None:
        """Reproduced minus published, with the interval of the reproduced figure."""
        if self.reproduced is None or self.published_value is None:
            return None
        value, low, high, n = self.reproduced
        ends = (None if end is None else end - self.published_value for end in (low, high))
        return MetricValue(value - self.published_value, *ends, n)

    @property
    def two_sample(self) -> tuple[float, float] | None:
        """Interval of the difference that takes both figures as samples, in percentage points."""
        if self.difference is None or self.unit != "percent" or not self.published["n"]:
            return None
        if self.reproduced.low is None or self.reproduced.high is None:
            return None
        n = self.published["n"]
        ends = wilson_interval(round(self.published_value * n / 100), n)
        published = IntervalEstimate(self.published_value, *(100 * end for end in ends))
        reproduced = IntervalEstimate(*self.reproduced[:3])
        return tuple(independent_difference(reproduced, published)[1:])


@dataclass(frozen=True)
class PaperTable:
    """A table of cells.

    Attributes:
        name: name of its files.
        title: its title.
        labels: titles of the columns of labels.
        columns: titles of the columns of cells. Without any, each row has one cell, and the
            columns are its published figure, its reproduced figure and their difference.
        rows: (labels, cells) of each row.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[Cell, ...]], ...]

    @property
    def cells(self) -> list[Cell]:
        return [cell for _, cells in self.rows for cell in cells]

    @property
    def note(self) -> str:
        """What "published", "reproduced" and "difference" mean in this table."""
        confidences = {cell.published["confidence"] for cell in self.cells if cell.published}
        published = _PUBLISHED_NOTE.format(
            secondary=_SECONDARY if "secondary" in confidences else ""
        )
        return f"{published} {_DATA_NOTE if self.name == 'data' else _NOTE}"


def table_frame(table: PaperTable) -> pl.DataFrame:
    """PAPER_TABLE: every possible cell of a table, whether run or not.

    A figure that chains share, such as a ceiling, has one row.
    """
    rows = [_cell_row(cell) for cell in table.cells if cell.possible]
    return pl.DataFrame(rows, schema=PAPER_TABLE).unique(PUBLISHED_KEY, maintain_order=True)


def _cell_row(cell: Cell) -> dict[str, Any]:
    row = {**cell.key._asdict(), "unit": cell.unit, "reproduced": cell.state}
    if cell.published:
        row["published"] = _rounded(cell.published_value)
        row["published_n"] = cell.published["n"]
        row["confidence"] = cell.published["confidence"]
        row["source"] = cell.published["source"]
    if cell.reproduced:
        row["reproduced"] = f"{_rounded(cell.reproduced.value):.10g}"
        row["reproduced_low"] = _rounded(cell.reproduced.low)
        row["reproduced_high"] = _rounded(cell.reproduced.high)
        row["reproduced_n"] = cell.reproduced.n or None
    if cell.difference:
        row["difference"] = _rounded(cell.difference.value)
        row["difference_low"] = _rounded(cell.difference.low)
        row["difference_high"] = _rounded(cell.difference.high)
    if cell.two_sample:
        row["two_sample_low"], row["two_sample_high"] = map(_rounded, cell.two_sample)
    return row


def _rounded(number: float | None) -> float | None:
    """Four decimals: no test set has so many questions that a further digit would mean anything."""
    return None if number is None or math.isnan(number) else round(number, 4) + 0.0
