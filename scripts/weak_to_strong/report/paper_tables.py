"""The paper's tables: each published figure beside the one that an experiment reproduced.

A table is the union of what was published and what was measured, so that an experiment with models
of its own has the same tables. A figure that was not measured is "not run" and is never filled in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl

from weak_to_strong.evaluation.stats import Estimate, independent_difference, wilson_interval
from weak_to_strong.paper.published_results import KEY, NOT_STATED, known_names
from weak_to_strong.report.names import (
    METHOD_LABELS,
    NodeName,
    Value,
    finite,
    method_label,
    natural_key,
    node_key,
    node_label,
)
from weak_to_strong.tables.schemas import ALL_SEEDS, NONE

NOT_RUN, NOT_MEASURED = "not run", "not measured"
#: For what there is nowhere: a published figure that was not published, a level that a task lacks.
MISSING = "\N{EN DASH}"
OLYMPICARENA = "OlympicArena"
#: One cell of a table a row. Percentages are in per cent, differences in percentage points, counts
#: as they are. `reproduced` is a number, "not run", or "not measured" for a count that the workflow
#: does not take. `difference_low` and `_high` shift the interval of the reproduced figure, the
#: published one being a constant; `two_sample_low` and `_high` count both as samples
#: (`stats.independent_difference`, with the Wilson interval of the published figure).
PAPER_TABLE = pl.Schema(
    {
        **{name: pl.Int32 if name in ("iteration", "k") else pl.String for name in KEY},
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
#: Counts of the data in the order of their table; those with True are measured.
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
#: Metrics that are shares of something; the others are counts.
_SHARES = ("accuracy", "pass_at_k", "train_2_in_train_1", "weak_right", "weak_empty", "kept")
_SHARES += ("kept_right",)
_STAGE_1 = ("weak_ft", "icl_ft", "hybrid_ft")
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
    """Name of a figure (the columns `published_results.KEY`), all names being display names."""

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
    """A figure of a table.

    Attributes:
        published: its row of PUBLISHED, or None.
        reproduced: estimate and interval, in per cent or as a count; None where there is none.
        possible: whether the task has questions for it.
    """

    key: Key
    published: Mapping[str, Any] | None = None
    reproduced: Value | None = None
    possible: bool = True

    @property
    def unit(self) -> str:
        """percent, count or points; a published count with an `n` is shown as a percentage."""
        if self.published:
            share = self.published["unit"] == "count" and self.published["n"]
            return "percent" if share else self.published["unit"]
        return "percent" if self.key.metric in _SHARES else "count"

    @property
    def published_value(self) -> float | None:
        if not self.published:
            return None
        value, n = self.published["value"], self.published["n"]
        return 100 * value / n if self.published["unit"] == "count" and n else value

    @property
    def state(self) -> str:
        """What stands in place of a reproduced figure that there is not."""
        key = self.key
        if not self.possible:
            return MISSING
        unmeasured = key.metric in STATISTICS and (key.level or not STATISTICS[key.metric][1])
        return NOT_MEASURED if unmeasured else NOT_RUN

    @property
    def difference(self) -> Value | None:
        """Reproduced minus published, with the interval of the reproduced figure."""
        if self.reproduced is None or self.published_value is None:
            return None
        value, low, high, n = self.reproduced
        ends = (None if end is None else end - self.published_value for end in (low, high))
        return Value(value - self.published_value, *ends, n)

    @property
    def two_sample(self) -> tuple[float, float] | None:
        """Ends of the interval of the difference that counts both figures as samples."""
        if self.difference is None or self.unit != "percent" or not self.published["n"]:
            return None
        if self.reproduced.low is None or self.reproduced.high is None:
            return None
        n = self.published["n"]
        ends = wilson_interval(round(self.published_value * n / 100), n)
        published = Estimate(self.published_value, *(100 * end for end in ends))
        return tuple(independent_difference(Estimate(*self.reproduced[:3]), published)[1:])


@dataclass(frozen=True)
class PaperTable:
    """A table of cells.

    Attributes:
        labels: titles of the label columns.
        columns: titles of the columns of cells; none where each row has one cell, of which
            published and reproduced figure and their difference are then the columns.
        rows: (labels, cells).
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
        confidences = {cell.published["confidence"] for cell in self.cells if cell.published}
        published = _PUBLISHED_NOTE.format(
            secondary=_SECONDARY if "secondary" in confidences else ""
        )
        return f"{published} {_DATA_NOTE if self.name == 'data' else _NOTE}"


# --- what an experiment reproduced -----------------------------------------------------------


def display_names(
    names: Mapping[str, Mapping[str, str]], published: pl.DataFrame
) -> dict[str, Callable[[str], str]]:
    """How a configuration's own names are shown, by section: the paper's where it gives one.

    An own name that happens to be one of the paper's is marked, so that only the key `paper` makes
    two figures one.
    """
    known = known_names(published)

    def shown(section: str) -> Callable[[str], str]:
        def show(own: str) -> str:
            name = names.get(section, {}).get(own)
            return name or (f"{own} (own)" if own in known[section] else own)

        return show

    return {section: shown(section) for section in known}


def _pooled(rows: pl.DataFrame) -> Mapping[str, Any] | None:
    """The row over all seeds, or the only one."""
    if rows.height > 1:
        rows = rows.filter(pl.col("seed") == ALL_SEEDS)
    return rows.row(0, named=True) if rows.height == 1 else None


def metric_figures(metrics: pl.DataFrame) -> dict[Key, Value]:
    """Accuracy, by level too, and pass@k of the test split from METRICS, under own names.

    Only the paper's scorer, and only the split that the paper reports.
    """
    rows = metrics.filter(
        pl.col("scorer") == "paper",
        pl.col("metric").is_in(["accuracy", "pass_at_k"]),
        pl.col("split").str.contains(r"^test(/level=.*)?$"),
    ).with_columns(
        pl.col("iteration").fill_null(0), level=pl.col("split").str.extract("^test/level=(.*)$")
    )
    found = {}
    for key, group in rows.partition_by(KEY, as_dict=True, maintain_order=True).items():
        row = _pooled(group)
        if row and finite(row["value"]) is not None:
            ends = (finite(row[name]) for name in ("value", "ci_low", "ci_high"))
            numbers = (None if end is None else 100 * end for end in ends)
            found[Key(*key)] = Value(*numbers, row["n"] or 0)
    return found


def _over_seeds(rows: pl.DataFrame) -> Value | None:
    """A share over seeds, in per cent; with the interval of the row where there is one seed."""
    rows = rows.filter(pl.col("value").is_not_null(), pl.col("n") > 0)
    if rows.is_empty():
        return None
    n = rows["n"].sum()
    value = 100 * (rows["value"] * rows["n"]).sum() / n
    if rows.height > 1:
        return Value(value, None, None, n)
    ends = (finite(rows[name][0]) for name in ("ci_low", "ci_high"))
    return Value(value, *(None if end is None else 100 * end for end in ends), n)


def _mean(values: pl.Series) -> Value | None:
    return Value(values.mean(), None, None, 0) if len(values) else None


#: (diagnostic, methods, name) behind each share of the data; the first method found is taken.
_DIAGNOSED = {
    "weak_right": ("labels", ("weak",), "accuracy"),
    "weak_empty": ("labels", ("weak",), "empty"),
    "kept": ("filter", ("agreement",), "kept"),
    "kept_right": ("filter", ("agreement",), "precision"),
    "pairs": ("pairs", ("dpo", "orpo"), "questions"),
    "pair_questions": ("pairs", ("dpo", "orpo"), "questions"),
}


def data_figures(
    diagnostics: pl.DataFrame, contamination: Mapping[str, pl.DataFrame]
) -> dict[Key, Value]:
    """Counts of the data (`STATISTICS`) under own names; several seeds are pooled or averaged.

    Args:
        diagnostics: diagnostics.DIAGNOSTICS.
        contamination: contamination table of each task, as the rule `contamination` writes it.
    """
    found: dict[Key, Value | None] = {}
    for task, table in contamination.items():
        own = Key(task, NONE, NONE, NONE)
        sizes = table.filter(pl.col("kind") == "removed")
        for split, rows, removed in sizes.select("split", "rows", "count").iter_rows():
            found[own._replace(metric=split)] = Value(float(rows - removed), None, None, 0)
        shared = table.filter(
            pl.col("kind") == "exact",
            pl.col("split") == "train_2",
            pl.col("other_split") == "train_1",
            pl.col("rows") > 0,
        )
        for count, rows in shared.select("count", "rows").iter_rows():
            value = Value(100 * count / rows, None, None, rows)
            found[own._replace(metric="train_2_in_train_1")] = value
    for (task, weak, strong), rows in diagnostics.partition_by(
        ["task", "weak", "strong"], as_dict=True, maintain_order=True
    ).items():
        for metric, (diagnostic, methods, name) in _DIAGNOSED.items():
            measured = rows.filter(pl.col("diagnostic") == diagnostic, pl.col("name") == name)
            present = [method for method in methods if method in measured["method"]]
            measured = measured.filter(pl.col("method").is_in(present[:1]))
            for (step,), of_step in measured.partition_by(
                ["iteration"], as_dict=True, maintain_order=True
            ).items():
                of_step = of_step.unique("seed", maintain_order=True)
                chain = Key(task, weak, strong, NONE, step or 0, metric)
                if metric.startswith("weak_"):
                    # The second iteration's weak side is no weak model any more.
                    if step == 1:
                        found.setdefault(chain._replace(strong=NONE), _over_seeds(of_step))
                elif metric == "pairs":
                    found[chain] = _mean(of_step["n"])
                elif metric == "pair_questions":
                    found[chain] = _mean(of_step["value"])
                else:
                    found[chain] = _over_seeds(of_step)
    return {key: value for key, value in found.items() if value and key.metric in STATISTICS}


def reproduced_figures(
    published: pl.DataFrame,
    names: Mapping[str, Mapping[str, str]],
    metrics: pl.DataFrame,
    diagnostics: pl.DataFrame,
    contamination: Mapping[str, pl.DataFrame],
) -> dict[Key, Value]:
    """Every figure of an experiment that a table may show, under display names.

    Args:
        names: the configuration's keys `paper` (`published_results.names_of`).
        metrics, diagnostics: METRICS and DIAGNOSTICS.
    """
    shown = display_names(names, published)
    own = {**metric_figures(metrics), **data_figures(diagnostics, contamination)}
    return {
        key._replace(
            task=shown["tasks"](key.task),
            weak=key.weak if key.weak == NONE else shown["models"](key.weak),
            strong=key.strong if key.strong == NONE else shown["models"](key.strong),
        ): value
        for key, value in own.items()
    }


# --- tables ----------------------------------------------------------------------------------


class _Figures:
    """All figures, published and reproduced, and how a table finds its cells among them."""

    def __init__(self, published: pl.DataFrame, reproduced: Mapping[Key, Value]) -> None:
        self.published = {
            Key(*(row[name] for name in KEY)): row for row in published.iter_rows(named=True)
        }
        self.reproduced = reproduced
        self.levels = {(key.task, key.level) for key in self.all_keys()}

    def all_keys(self) -> list[Key]:
        """Published ones first, each once."""
        return list(dict.fromkeys([*self.published, *self.reproduced]))

    def cell(self, key: Key) -> Cell:
        """A figure of a chain, or one that it shares with others: a ceiling has no weak model."""
        shared = (key, key._replace(strong=NONE), key._replace(weak=NONE))
        found = next(
            (each for each in shared if each in self.published or each in self.reproduced), key
        )
        possible = key.level is None or (key.task, key.level) in self.levels
        return Cell(found, self.published.get(found), self.reproduced.get(found), possible)

    def chains(self, wanted: Callable[[Key], bool]) -> list[Key]:
        """Chains that have a figure of their own among those wanted (`method` is empty)."""
        chains = (
            Key(*key[:3], "")
            for key in self.all_keys()
            if wanted(key) and not {NONE, NOT_STATED} & {key.weak, key.strong}
        )
        return list(dict.fromkeys(chains))

    def last(self, chain: Key, method: str) -> Key:
        """A method of a chain at the last iteration that was published, or else reproduced."""
        for figures in (self.published, self.reproduced):
            steps = [
                key.iteration
                for key in figures
                if key[:4] == (*chain[:3], method) and key.metric == "accuracy"
            ]
            if steps:
                return chain._replace(method=method, iteration=max(steps))
        return chain._replace(method=method)


def _exists(cell: Cell) -> bool:
    return cell.published is not None or cell.reproduced is not None


def _chain_labels(key: Key) -> tuple[str, str]:
    models = [name for name in (key.weak, key.strong) if name != NONE]
    return key.task, " → ".join(models) or MISSING


def _label(method: str) -> str:
    """Title of a method; of those of Stage I the last iteration is meant."""
    label = method_label(method)
    return f"{label} (last)" if method in _STAGE_1 else label


def _wide(
    figures: _Figures,
    name: str,
    title: str,
    rows: Iterable[tuple[tuple[str, ...], Sequence[Key]]],
    labels: tuple[str, ...],
    columns: Sequence[str],
) -> PaperTable:
    """A table of the cells named by `rows`, without rows and columns that nobody has measured."""
    found = [(head, [figures.cell(key) for key in keys]) for head, keys in rows]
    found = [(head, cells) for head, cells in found if any(map(_exists, cells))]
    used = [
        place for place in range(len(columns)) if any(_exists(cells[place]) for _, cells in found)
    ]
    return PaperTable(
        name,
        title,
        labels,
        tuple(columns[place] for place in used),
        tuple((head, tuple(cells[place] for place in used)) for head, cells in found),
    )


_CHAIN = ("Task", "Weak → strong")


def _of_methods(
    figures: _Figures, name: str, title: str, chains: Sequence[Key], methods: Sequence[str]
) -> PaperTable:
    """Accuracy of methods by chain, those of Stage I at their last iteration."""
    rows = [(_chain_labels(chain), [figures.last(chain, each) for each in methods])
            for chain in chains]  # fmt: skip
    return _wide(figures, name, title, rows, _CHAIN, [_label(each) for each in methods])


def _main(figures: _Figures) -> PaperTable:
    chains = figures.chains(lambda key: key.metric == "accuracy" and key.task != OLYMPICARENA)
    methods = ("weak", "full_weak", "weak_icl", *_STAGE_1, "ceiling")
    return _of_methods(figures, "main", "Accuracy by weak model (%)", chains, methods)


def _stage1(figures: _Figures) -> PaperTable:
    def wanted(key: Key) -> bool:
        return key.method in _STAGE_1 and key.metric == "accuracy"

    steps = range(
        1, max((key.iteration for key in figures.all_keys() if wanted(key)), default=0) + 1
    )
    nodes = [(method, step) for method in _STAGE_1 for step in steps]
    rows = [
        (_chain_labels(chain), [chain._replace(method=m, iteration=step) for m, step in nodes])
        for chain in figures.chains(wanted)
    ]
    columns = [f"{method_label(method)} {step}" for method, step in nodes]
    title = "Accuracy over the iterations of Stage I (%)"
    return _wide(figures, "stage1", title, rows, _CHAIN, columns)


def _stage2(figures: _Figures) -> PaperTable:
    chains = figures.chains(
        lambda key: (
            key.method in ("dpo", "orpo") and key.metric == "accuracy" and key.task != OLYMPICARENA
        )
    )
    methods = ("hybrid_ft", "dpo", "orpo", "ceiling")
    return _of_methods(figures, "stage2", "Accuracy after Stage II (%)", chains, methods)


def _olympicarena(figures: _Figures) -> PaperTable:
    chains = figures.chains(lambda key: key.task == OLYMPICARENA and key.metric == "accuracy")
    methods = ("weak", "full_weak", "weak_icl", "hybrid_ft", "dpo", "orpo", "ceiling")
    title = "Accuracy on OlympicArena (%)"
    return _of_methods(figures, "olympicarena", title, chains, methods)


_COMPARED = ("weak", "full_weak", "hybrid_ft", "dpo", "orpo", "ceiling")


def _levels(figures: _Figures) -> PaperTable:
    """By level, where levels are numbers; the levels of OlympicArena are kinds of answers."""
    graded = [key for key in figures.all_keys() if key.level and key.level.isdecimal()]
    graded = [key for key in graded if key.metric == "accuracy"]
    levels = sorted({key.level for key in graded}, key=natural_key)
    tasks = {key.task for key in graded}
    has_levels = {key[:5] for key in graded}
    rows = []
    for chain in figures.chains(lambda key: key.task in tasks and key.metric == "accuracy"):
        for method in _COMPARED:
            node = figures.last(chain, method)
            if figures.cell(node).key[:5] in has_levels:
                keys = [node._replace(level=level) for level in levels]
                rows.append(((*_chain_labels(chain), _label(method)), [*keys, node]))
    columns = [f"level {level}" for level in levels]
    labels = (*_CHAIN, "Method")
    return _wide(figures, "levels", "Accuracy by level (%)", rows, labels, [*columns, "all"])


def _pass_at_k(figures: _Figures) -> PaperTable:
    ks = sorted({key.k for key in figures.all_keys() if key.metric == "pass_at_k"})
    rows = [
        ((*_chain_labels(chain), _label(method), str(k)),
         [figures.last(chain, method)._replace(metric="pass_at_k", k=k)])
        for chain in figures.chains(lambda key: key.metric == "pass_at_k")
        for method in ("weak", "full_weak", *_STAGE_1, "dpo", "orpo", "ceiling")
        for k in ks
    ]  # fmt: skip
    labels = (*_CHAIN, "Method", "k")
    title = "Questions that one of k samples answers (pass@k, %)"
    return _long(figures, "pass_at_k", title, rows, labels)


def _long(
    figures: _Figures,
    name: str,
    title: str,
    rows: Iterable[tuple[tuple[str, ...], Sequence[Key]]],
    labels: tuple[str, ...],
) -> PaperTable:
    """A table of one cell a row."""
    table = _wide(figures, name, title, rows, labels, [""])
    return PaperTable(name, title, labels, (), table.rows)


def _ablations(figures: _Figures) -> PaperTable:
    """Methods beside the paper's, among them the variants of its own."""
    keys = [
        key
        for key in figures.all_keys()
        if key.metric in ("accuracy", "accuracy_difference")
        and key.level is None
        and key.method not in METHOD_LABELS
    ]
    keys.sort(key=lambda key: (key.task, key.weak, node_key(NodeName(key.method, key.iteration))))
    rows = []
    for key in keys:
        node = node_label(NodeName(key.method, key.iteration))
        what = "accuracy (%)" if key.metric == "accuracy" else "difference without (points)"
        rows.append(((*_chain_labels(key), node, what), [key]))
    labels = (*_CHAIN, "Method", "Figure")
    return _long(figures, "ablations", "Ablations", rows, labels)


def _data(figures: _Figures) -> PaperTable:
    order = list(STATISTICS)
    keys = [key for key in figures.all_keys() if key.metric in STATISTICS]
    tasks = list(dict.fromkeys(key.task for key in keys))
    weak = list(dict.fromkeys(key.weak for key in keys))
    # What belongs to a task stands before what belongs to its weak models and chains.
    keys.sort(
        key=lambda key: (
            tasks.index(key.task),
            key.weak != NONE,
            weak.index(key.weak),
            key.strong != NONE,
            key.strong,
            # Pairs follow the last iteration.
            key.iteration if key.iteration or key.strong == NONE else math.inf,
            order.index(key.metric),
            natural_key(key.level or ""),
        )
    )
    rows = []
    for key in keys:
        statistic = STATISTICS[key.metric][0] + (f", level {key.level}" if key.level else "")
        step = str(key.iteration) if key.iteration else MISSING
        rows.append(((*_chain_labels(key), statistic, step), [key]))
    labels = (*_CHAIN, "Count", "Iteration")
    return _long(figures, "data", "Data (% of n, or count)", rows, labels)


#: Tables by name, in the order of presentation.
TABLES: dict[str, Callable[[_Figures], PaperTable]] = {
    "main": _main,
    "stage1": _stage1,
    "stage2": _stage2,
    "levels": _levels,
    "pass_at_k": _pass_at_k,
    "olympicarena": _olympicarena,
    "ablations": _ablations,
    "data": _data,
}


def paper_tables(
    published: pl.DataFrame, reproduced: Mapping[Key, Value] | None = None
) -> dict[str, PaperTable]:
    """All tables by name.

    Args:
        published: PUBLISHED.
        reproduced: see `reproduced_figures`; without it every cell is "not run".
    """
    figures = _Figures(published, reproduced or {})
    return {name: build(figures) for name, build in TABLES.items()}


def table_frame(table: PaperTable) -> pl.DataFrame:
    """PAPER_TABLE: every cell of a table, those that are not run included.

    What chains share, such as a ceiling, is there once.
    """
    rows = []
    for cell in (cell for cell in table.cells if cell.possible):
        row = {**cell.key._asdict(), "unit": cell.unit, "reproduced": cell.state}
        if cell.published:
            row |= {name: cell.published[name] for name in ("confidence", "source")}
            row |= {"published": _rounded(cell.published_value), "published_n": cell.published["n"]}
        if cell.reproduced:
            row |= {
                "reproduced": f"{_rounded(cell.reproduced.value):.10g}",
                "reproduced_low": _rounded(cell.reproduced.low),
                "reproduced_high": _rounded(cell.reproduced.high),
                "reproduced_n": cell.reproduced.n or None,
            }
        for name, numbers in (
            ("difference", cell.difference[:3] if cell.difference else ()),
            ("two_sample", (None, *cell.two_sample) if cell.two_sample else ()),
        ):
            for suffix, number in zip(("", "_low", "_high"), numbers, strict=False):
                if name + suffix in PAPER_TABLE:
                    row[name + suffix] = _rounded(number)
        rows.append(row)
    return pl.DataFrame(rows, schema=PAPER_TABLE).unique(KEY, maintain_order=True)


def _rounded(number: float | None) -> float | None:
    """Four decimals: digits that no question of any test set stands behind are left out."""
    return None if number is None or math.isnan(number) else round(number, 4) + 0.0
