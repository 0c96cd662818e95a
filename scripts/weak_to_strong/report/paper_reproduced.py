"""What an experiment reproduced of the paper's figures, under the names of the paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from weak_to_strong.paper.published_results import PUBLISHED_KEY, known_names
from weak_to_strong.report.names import MetricValue, finite_or_none
from weak_to_strong.report.paper_cells import STATISTICS, Key
from weak_to_strong.tables.schemas import ALL_SEEDS, NONE

#: Statistic of the data -> (diagnostic, methods, name) of the DIAGNOSTICS rows that measure it.
#: The first method that has rows is taken.
_DIAGNOSTICS_OF_STATISTICS = {
    "weak_right": ("labels", ("weak",), "accuracy"),
    "weak_empty": ("labels", ("weak",), "empty"),
    "kept": ("filter", ("agreement",), "kept"),
    "kept_right": ("filter", ("agreement",), "precision"),
    "pairs": ("pairs", ("dpo", "orpo"), "questions"),
    "pair_questions": ("pairs", ("dpo", "orpo"), "questions"),
}


def reproduced_figures(
    published: pl.DataFrame,
    names: Mapping[str, Mapping[str, str]],
    metrics: pl.DataFrame,
    diagnostics: pl.DataFrame,
    contamination: Mapping[str, pl.DataFrame],
) -> dict[Key, MetricValue]:
    """Every figure of an experiment that a table may show, in per cent or as a count.

    Args:
        published: PUBLISHED.
        names: values of the configuration's keys `paper` (`published_results.names_of`).
        metrics: METRICS.
        diagnostics: diagnostics.DIAGNOSTICS.
        contamination: contamination.CONTAMINATION by task.

    Returns:
        Keys have names as displayed, see `display_names`.
    """
    display = display_names(names, published)
    configured = {**metric_figures(metrics), **data_figures(diagnostics, contamination)}
    return {
        key._replace(
            task=display["tasks"](key.task),
            weak=key.weak if key.weak == NONE else display["models"](key.weak),
            strong=key.strong if key.strong == NONE else display["models"](key.strong),
        ): value
        for key, value in configured.items()
    }


def display_names(
    names: Mapping[str, Mapping[str, str]], published: pl.DataFrame
) -> dict[str, Callable[[str], str]]:
    """For each section of the configuration, the function from a configured to a displayed name.

    A displayed name is the paper's where the configuration gives one (key `paper`). A configured
    name that happens to be one of the paper's is marked "(own)", so that only the key `paper` makes
    two figures one.
    """
    known = known_names(published)

    def display(section: str) -> Callable[[str], str]:
        def display_one(configured: str) -> str:
            marked = f"{configured} (own)" if configured in known[section] else configured
            return names.get(section, {}).get(configured) or marked

        return display_one

    return {section: display(section) for section in known}


def metric_figures(metrics: pl.DataFrame) -> dict[Key, MetricValue]:
    """Accuracy, overall and by level, and pass@k, in per cent, under configured names.

    Only the paper's scorer and the test split count, as in the paper.

    Args:
        metrics: METRICS.
    """
    rows = metrics.filter(
        pl.col("scorer") == "paper",
        pl.col("metric").is_in(["accuracy", "pass_at_k"]),
        pl.col("split").str.contains(r"^test(/level=.*)?$"),
    ).with_columns(
        pl.col("iteration").fill_null(0), level=pl.col("split").str.extract("^test/level=(.*)$")
    )
    figures = {}
    for key, group in rows.partition_by(PUBLISHED_KEY, as_dict=True, maintain_order=True).items():
        row = _row_over_seeds(group)
        if row and finite_or_none(row["value"]) is not None:
            numbers = (_percent(row[name]) for name in ("value", "ci_low", "ci_high"))
            figures[Key(*key)] = MetricValue(*numbers, row["n"] or 0)
    return figures


def _row_over_seeds(rows: pl.DataFrame) -> Mapping[str, Any] | None:
    """The row over all seeds, or the only row."""
    if rows.height > 1:
        rows = rows.filter(pl.col("seed") == ALL_SEEDS)
    return rows.row(0, named=True) if rows.height == 1 else None


def _percent(share: float | None) -> float | None:
    number = finite_or_none(share)
    return None if number is None else 100 * number


def data_figures(
    diagnostics: pl.DataFrame, contamination: Mapping[str, pl.DataFrame]
) -> dict[Key, MetricValue]:
    """Measured STATISTICS of the data, under configured names; over all seeds.

    Args:
        diagnostics: diagnostics.DIAGNOSTICS.
        contamination: contamination.CONTAMINATION by task, with the rows "removed" of the rule
            `contamination`.
    """
    figures: dict[Key, MetricValue | None] = {}
    for task, report in contamination.items():
        figures |= _split_figures(Key(task, NONE, NONE, NONE), report)
    for (task, weak, strong), rows in diagnostics.partition_by(
        ["task", "weak", "strong"], as_dict=True, maintain_order=True
    ).items():
        for key, value in _chain_figures(Key(task, weak, strong, NONE), rows).items():
            figures.setdefault(key, value)
    return {key: value for key, value in figures.items() if value and key.metric in STATISTICS}


def _split_figures(task: Key, report: pl.DataFrame) -> dict[Key, MetricValue]:
    """Sizes of a task's splits, and the share of train_2 that train_1 also has."""
    figures = {}
    sizes = report.filter(pl.col("kind") == "removed").select("split", "rows", "count")
    for split, rows, removed in sizes.iter_rows():
        figures[task._replace(metric=split)] = MetricValue(float(rows - removed), None, None, 0)
    shared = report.filter(
        pl.col("kind") == "exact",
        pl.col("split") == "train_2",
        pl.col("other_split") == "train_1",
        pl.col("rows") > 0,
    )
    for count, rows in shared.select("count", "rows").iter_rows():
        value = MetricValue(100 * count / rows, None, None, rows)
        figures[task._replace(metric="train_2_in_train_1")] = value
    return figures


def _chain_figures(chain: Key, rows: pl.DataFrame) -> dict[Key, MetricValue | None]:
    """Statistics of a chain's labels, kept questions and pairs, by iteration."""
    figures = {}
    for metric, (diagnostic, methods, name) in _DIAGNOSTICS_OF_STATISTICS.items():
        measured = rows.filter(pl.col("diagnostic") == diagnostic, pl.col("name") == name)
        present = [method for method in methods if method in measured["method"]]
        measured = measured.filter(pl.col("method").is_in(present[:1]))
        for (iteration,), of_seeds in measured.partition_by(
            ["iteration"], as_dict=True, maintain_order=True
        ).items():
            of_seeds = of_seeds.unique("seed", maintain_order=True)
            key = chain._replace(iteration=iteration or 0, metric=metric)
            if metric.startswith("weak_"):
                # In later iterations the weak side is a fine-tuned strong model.
                if iteration == 1:
                    figures[key._replace(strong=NONE)] = _share_over_seeds(of_seeds)
            elif metric == "pairs":
                figures[key] = _mean(of_seeds["n"])
            elif metric == "pair_questions":
                figures[key] = _mean(of_seeds["value"])
            else:
                figures[key] = _share_over_seeds(of_seeds)
    return figures


def _share_over_seeds(rows: pl.DataFrame) -> MetricValue | None:
    """A share over all seeds, in per cent; only one seed gives an interval."""
    rows = rows.filter(pl.col("value").is_not_null(), pl.col("n") > 0)
    if rows.is_empty():
        return None
    n = rows["n"].sum()
    value = 100 * (rows["value"] * rows["n"]).sum() / n
    if rows.height > 1:
        return MetricValue(value, None, None, n)
    return MetricValue(value, _percent(rows["ci_low"][0]), _percent(rows["ci_high"][0]), n)


def _mean(values: pl.Series) -> MetricValue | None:
    return MetricValue(values.mean(), None, None, 0) if len(values) else None
