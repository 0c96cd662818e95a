"""The paper's tables: each published figure beside the one that an experiment reproduced.

A table unites what was published and what was measured, so that an experiment with models of its
own has the same tables. A figure that was not measured is "not run" and is never filled in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import polars as pl

from weak_to_strong.paper.published_results import NOT_STATED, PUBLISHED_KEY
from weak_to_strong.report.names import (
    METHOD_LABELS,
    MetricValue,
    NodeName,
    method_label,
    natural_key,
    node_key,
    node_label,
)
from weak_to_strong.report.paper_cells import MISSING, STATISTICS, Cell, Key, PaperTable
from weak_to_strong.tables.schemas import NONE

OLYMPICARENA = "OlympicArena"
_STAGE_1 = ("weak_ft", "icl_ft", "hybrid_ft")
#: Methods of the tables by level and of pass@k.
_COMPARED = ("weak", "full_weak", "hybrid_ft", "dpo", "orpo", "ceiling")
_CHAIN_COLUMNS = ("Task", "Weak → strong")
#: Labels of a row, and the keys of its cells.
_Row = tuple[tuple[str, ...], Sequence[Key]]


class _Figures:
    """All figures, published and reproduced, and the cells that tables make of them."""

    def __init__(self, published: pl.DataFrame, reproduced: Mapping[Key, MetricValue]) -> None:
        self.published = {
            Key(*(row[name] for name in PUBLISHED_KEY)): row
            for row in published.iter_rows(named=True)
        }
        self.reproduced = reproduced
        self.levels = {(key.task, key.level) for key in self.all_keys()}

    def all_keys(self) -> list[Key]:
        """Keys of all figures, each once, published ones first."""
        return list(dict.fromkeys([*self.published, *self.reproduced]))

    def cell(self, key: Key) -> Cell:
        """A figure of a chain, or one that chains share: a ceiling has no weak model."""
        candidates = (key, key._replace(strong=NONE), key._replace(weak=NONE))
        known = next((name for name in candidates if self._is_known(name)), key)
        possible = key.level is None or (key.task, key.level) in self.levels
        return Cell(known, self.published.get(known), self.reproduced.get(known), possible)

    def _is_known(self, key: Key) -> bool:
        return key in self.published or key in self.reproduced

    def chains(self, is_wanted: Callable[[Key], bool]) -> list[Key]:
        """Chains that have a wanted figure of their own, as keys without a method."""
        chains = (
            Key(*key[:3], "")
            for key in self.all_keys()
            if is_wanted(key) and not {NONE, NOT_STATED} & {key.weak, key.strong}
        )
        return list(dict.fromkeys(chains))

    def last_iteration(self, chain: Key, method: str) -> Key:
        """A method of a chain at its last published iteration, or else its last reproduced one."""
        for figures in (self.published, self.reproduced):
            iterations = [
                key.iteration
                for key in figures
                if key[:4] == (*chain[:3], method) and key.metric == "accuracy"
            ]
            if iterations:
                return chain._replace(method=method, iteration=max(iterations))
        return chain._replace(method=method)


def _chain_labels(key: Key) -> tuple[str, str]:
    models = [name for name in (key.weak, key.strong) if name != NONE]
    return key.task, " → ".join(models) or MISSING


def _method_title(method: str) -> str:
    """Title of a method. A method of Stage I stands for its last iteration."""
    title = method_label(method)
    return f"{title} (last)" if method in _STAGE_1 else title


def _make_table(
    figures: _Figures,
    name: str,
    title: str,
    rows: Iterable[_Row],
    labels: tuple[str, ...],
    columns: Sequence[str] | None = None,
) -> PaperTable:
    """A table of the cells that `rows` name, without rows and columns that have no figure.

    Without `columns` each row has one cell.
    """
    cells_of_rows = [(head, [figures.cell(key) for key in keys]) for head, keys in rows]
    filled = [(head, cells) for head, cells in cells_of_rows if any(cell.exists for cell in cells)]
    places = [
        place
        for place in range(1 if columns is None else len(columns))
        if any(cells[place].exists for _, cells in filled)
    ]
    return PaperTable(
        name,
        title,
        labels,
        () if columns is None else tuple(columns[place] for place in places),
        tuple((head, tuple(cells[place] for place in places)) for head, cells in filled),
    )


def _table_of_methods(
    figures: _Figures, name: str, title: str, chains: Sequence[Key], methods: Sequence[str]
) -> PaperTable:
    """Accuracy of methods by chain; methods of Stage I at their last iteration."""
    rows = [
        (_chain_labels(chain), [figures.last_iteration(chain, method) for method in methods])
        for chain in chains
    ]
    columns = [_method_title(method) for method in methods]
    return _make_table(figures, name, title, rows, _CHAIN_COLUMNS, columns)


def _main(figures: _Figures) -> PaperTable:
    chains = figures.chains(lambda key: key.metric == "accuracy" and key.task != OLYMPICARENA)
    methods = ("weak", "full_weak", "weak_icl", *_STAGE_1, "ceiling")
    return _table_of_methods(figures, "main", "Accuracy by weak model (%)", chains, methods)


def _stage1(figures: _Figures) -> PaperTable:
    def is_wanted(key: Key) -> bool:
        return key.method in _STAGE_1 and key.metric == "accuracy"

    last = max((key.iteration for key in figures.all_keys() if is_wanted(key)), default=0)
    models = [(method, iteration) for method in _STAGE_1 for iteration in range(1, last + 1)]
    rows = [
        (
            _chain_labels(chain),
            [chain._replace(method=method, iteration=iteration) for method, iteration in models],
        )
        for chain in figures.chains(is_wanted)
    ]
    columns = [f"{method_label(method)} {iteration}" for method, iteration in models]
    title = "Accuracy over the iterations of Stage I (%)"
    return _make_table(figures, "stage1", title, rows, _CHAIN_COLUMNS, columns)


def _stage2(figures: _Figures) -> PaperTable:
    chains = figures.chains(
        lambda key: (
            key.method in ("dpo", "orpo") and key.metric == "accuracy" and key.task != OLYMPICARENA
        )
    )
    methods = ("hybrid_ft", "dpo", "orpo", "ceiling")
    return _table_of_methods(figures, "stage2", "Accuracy after Stage II (%)", chains, methods)


def _olympicarena(figures: _Figures) -> PaperTable:
    chains = figures.chains(lambda key: key.task == OLYMPICARENA and key.metric == "accuracy")
    methods = ("weak", "full_weak", "weak_icl", "hybrid_ft", "dpo", "orpo", "ceiling")
    title = "Accuracy on OlympicArena (%)"
    return _table_of_methods(figures, "olympicarena", title, chains, methods)


def _levels(figures: _Figures) -> PaperTable:
    """Accuracy by numbered level. The levels of OlympicArena are answer types and left out."""
    leveled = [
        key
        for key in figures.all_keys()
        if key.level and key.level.isdecimal() and key.metric == "accuracy"
    ]
    levels = sorted({key.level for key in leveled}, key=natural_key)
    tasks = {key.task for key in leveled}
    models_with_levels = {key[:5] for key in leveled}
    rows = []
    for chain in figures.chains(lambda key: key.task in tasks and key.metric == "accuracy"):
        for method in _COMPARED:
            model = figures.last_iteration(chain, method)
            if figures.cell(model).key[:5] in models_with_levels:
                keys = [model._replace(level=level) for level in levels]
                rows.append(((*_chain_labels(chain), _method_title(method)), [*keys, model]))
    columns = [*(f"level {level}" for level in levels), "all"]
    labels = (*_CHAIN_COLUMNS, "Method")
    return _make_table(figures, "levels", "Accuracy by level (%)", rows, labels, columns)


def _pass_at_k(figures: _Figures) -> PaperTable:
    ks = sorted({key.k for key in figures.all_keys() if key.metric == "pass_at_k"})
    rows = []
    for chain in figures.chains(lambda key: key.metric == "pass_at_k"):
        for method in ("weak", "full_weak", *_STAGE_1, "dpo", "orpo", "ceiling"):
            model = figures.last_iteration(chain, method)
            for k in ks:
                labels = (*_chain_labels(chain), _method_title(method), str(k))
                rows.append((labels, [model._replace(metric="pass_at_k", k=k)]))
    title = "Questions that one of k samples answers (pass@k, %)"
    return _make_table(figures, "pass_at_k", title, rows, (*_CHAIN_COLUMNS, "Method", "k"))


def _ablations(figures: _Figures) -> PaperTable:
    """Methods that the paper's other tables lack, among them variants of its methods."""
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
        model = node_label(NodeName(key.method, key.iteration))
        figure = "accuracy (%)" if key.metric == "accuracy" else "difference without (points)"
        rows.append(((*_chain_labels(key), model, figure), [key]))
    labels = (*_CHAIN_COLUMNS, "Method", "Figure")
    return _make_table(figures, "ablations", "Ablations", rows, labels)


def _data(figures: _Figures) -> PaperTable:
    statistics = list(STATISTICS)
    keys = [key for key in figures.all_keys() if key.metric in STATISTICS]
    tasks = list(dict.fromkeys(key.task for key in keys))
    weak_models = list(dict.fromkeys(key.weak for key in keys))
    # Figures of a task stand before those of its weak models, and these before those of chains.
    keys.sort(
        key=lambda key: (
            tasks.index(key.task),
            key.weak != NONE,
            weak_models.index(key.weak),
            key.strong != NONE,
            key.strong,
            # Pairs have no iteration and follow the last one.
            key.iteration if key.iteration or key.strong == NONE else math.inf,
            statistics.index(key.metric),
            natural_key(key.level or ""),
        )
    )
    rows = []
    for key in keys:
        statistic = STATISTICS[key.metric][0] + (f", level {key.level}" if key.level else "")
        iteration = str(key.iteration) if key.iteration else MISSING
        rows.append(((*_chain_labels(key), statistic, iteration), [key]))
    labels = (*_CHAIN_COLUMNS, "Count", "Iteration")
    return _make_table(figures, "data", "Data (% of n, or count)", rows, labels)


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
    published: pl.DataFrame, reproduced: Mapping[Key, MetricValue] | None = None
) -> dict[str, PaperTable]:
    """All tables by name.

    Args:
        published: PUBLISHED.
        reproduced: from `reproduced_figures`; without it every reproduced cell is "not run".
    """
    figures = _Figures(published, reproduced or {})
    return {name: build(figures) for name, build in TABLES.items()}
