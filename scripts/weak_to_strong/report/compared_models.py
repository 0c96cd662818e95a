"""The models of several experiments in one table, with all their tests corrected together.

The figures are those of each experiment's own METRICS and EVALUATED_MODELS. Only the correction of
the p-values is new, because it counts the comparisons of all experiments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from weak_to_strong.evaluation.stats import holm
from weak_to_strong.report.names import (
    NodeName,
    evaluated_splits,
    find_exact_p,
    find_row,
    find_value,
    list_chains,
    list_nodes,
    node_label,
    rows_of_chain,
)
from weak_to_strong.tables.files import hash_value
from weak_to_strong.tables.schemas import BROKEN, CONTROL, NONE

#: What a difference is taken to -> beginning of its columns.
COMPARED_WITH = {"full_weak": "full_weak", "hybrid_ft": "hybrid_ft", "predecessor": "before"}
#: A value with its 95% interval.
_INTERVAL = ("", "_low", "_high")
#: Rows of the comparison's models.csv: one for each model of an experiment, over its seeds. Shares
#: are in [0, 1]. A value is null where it is not known or does not apply.
COMPARED_MODELS = pl.Schema(
    {
        **dict.fromkeys(("experiment", "task", "weak", "strong"), pl.String),
        # The method without its variant; the variant, or null.
        **dict.fromkeys(("method", "variant", "stage"), pl.String),
        "iteration": pl.Int32,
        # Seeds, with a space between them.
        "seeds": pl.String,
        # The evaluated split; what names its questions by their contents; their number.
        **dict.fromkeys(("split", "test_set"), pl.String),
        "questions": pl.Int64,
        # Greedy accuracy by the paper's scorer and by the math scorer.
        **{f"accuracy{end}": pl.Float64 for end in _INTERVAL},
        "math_accuracy": pl.Float64,
        # Difference to full weak fine-tuning, to the last Hybrid-FT, and to the model that this one
        # should improve on: the exact p, and Holm's correction of it over all experiments.
        "before": pl.String,
        **{
            f"{name}_{part}": pl.Float64
            for name in COMPARED_WITH.values()
            for part in ("difference", "difference_low", "difference_high", "p", "p_holm")
        },
        **{f"pgr{end}": pl.Float64 for end in _INTERVAL},
        # Means over the seeds, see EVALUATED_MODELS.
        **dict.fromkeys(("label_precision", "label_coverage"), pl.Float64),
        **dict.fromkeys(("generated_tokens", "trained_tokens"), pl.Float64),
        **dict.fromkeys(("cpu_hours", "gpu_hours"), pl.Float64),
    }
)


@dataclass(frozen=True)
class ComparedExperiment:
    """The tables of a finished experiment.

    Attributes:
        metrics: METRICS.
        models: EVALUATED_MODELS.
        problems: PROBLEMS of the evaluated splits, by the path that `models` has.
        answers: the greedy answers of all models: columns request, id, response, prediction, and a
            verdict for each of SCORERS.
    """

    name: str
    metrics: pl.DataFrame
    models: pl.DataFrame
    problems: Mapping[str, pl.DataFrame]
    answers: pl.DataFrame


def name_questions(problems: pl.DataFrame) -> str:
    """What names a set of questions by ids and contents, whatever their order (12 hex digits).

    Args:
        problems: PROBLEMS; of its columns id, question, context and answer count.
    """
    columns = ("id", "question", "context", "answer")
    return hash_value(sorted(problems.select(columns).rows(), key=repr))[:12]


def compared_models(experiments: Sequence[ComparedExperiment]) -> pl.DataFrame:
    """COMPARED_MODELS of experiments, in their order and in the reports' order of models.

    Accuracies, differences and PGR are shares in [0, 1]. Times are hours.
    """
    rows = [row for experiment in experiments for row in _rows_of(experiment)]
    _correct(rows)
    return pl.DataFrame(
        [{name: row[name] for name in COMPARED_MODELS} for row in rows], schema=COMPARED_MODELS
    )


def is_check(row: Mapping[str, Any]) -> bool:
    """Whether a row of COMPARED_MODELS is a control, or a model with a broken stage."""
    return row["stage"] == CONTROL or (row["variant"] or "").startswith(BROKEN)


def chain_text(row: Mapping[str, Any]) -> str:
    """Weak and strong model of a row, as far as it has them: `small → large`."""
    return " → ".join(row[side] for side in ("weak", "strong") if row[side] != NONE)


def model_label(row: Mapping[str, Any]) -> str:
    """Readable name of a row's model in its experiment, without seeds.

    Args:
        row: of COMPARED_MODELS or EVALUATED_MODELS.
    """
    method = "@".join(filter(None, [row["method"], row.get("variant")]))
    label = node_label(NodeName(method, row["iteration"] or 0))
    return f"{label} ({row['task']}: {chain_text(row)})"


def _correct(rows: list[dict[str, Any]]) -> None:
    """Fill in `..._p_holm`: one family of all tests on methods, and one of those on checks."""
    for kind in (False, True):
        family = [
            (row, name)
            for row in rows
            if is_check(row) == kind
            for name in COMPARED_WITH.values()
            if row[f"{name}_p"] is not None
        ]
        adjusted = holm([row[f"{name}_p"] for row, name in family])
        for (row, name), p in zip(family, adjusted, strict=True):
            row[f"{name}_p_holm"] = p


def _rows_of(experiment: ComparedExperiment) -> Iterator[dict[str, Any]]:
    for split in evaluated_splits(experiment.metrics):
        yield from _rows_of_split(experiment, split)


def _rows_of_split(experiment: ComparedExperiment, split: str) -> Iterator[dict[str, Any]]:
    metrics = experiment.metrics.filter(pl.col("split") == split)
    # Chains share models, such as a weak model. Each model has one row.
    models = {
        (chain.task, *rows.filter(method=node.method).select("weak", "strong").row(0), node): rows
        for chain in list_chains(metrics)
        for rows in (rows_of_chain(metrics, chain),)
        for node in list_nodes(rows)
    }
    for (task, weak, strong, node), rows in models.items():
        method, _, variant = node.method.partition("@")
        facts = {"task": task, "weak": weak, "strong": strong}
        of_node = {"method": node.method, "iteration": node.iteration}
        # The table of a split has its name.
        of_split = pl.col("problems").str.ends_with(f"/{split}.parquet")
        of_task = experiment.models.filter(of_split, task=task)
        problems = experiment.problems[of_task["problems"][0]]
        seeds = of_task.filter(**facts, **of_node)
        yield {
            "experiment": experiment.name,
            **facts,
            "method": method,
            "variant": variant or None,
            "stage": rows.filter(method=node.method)["stage"][0],
            "iteration": node.iteration,
            "seeds": " ".join(map(str, sorted(seeds["seed"]))),
            "split": split,
            "test_set": name_questions(problems),
            "questions": problems.height,
            **_figures(rows, node),
            **_means(seeds),
        }


def _figures(metrics: pl.DataFrame, node: NodeName) -> dict[str, Any]:
    """Columns of a model that METRICS has."""

    def value_of(metric: str, scorer: str = "paper", **where: int) -> Any:
        return find_value(metrics, node, metric, scorer=scorer, **where)

    def interval(name: str, value: Any) -> dict[str, float | None]:
        numbers = value[:3] if value else (None, None, None)
        return dict(zip((f"{name}{end}" for end in _INTERVAL), numbers, strict=True))

    math = value_of("accuracy", "math", k=1)
    figures = {
        **interval("accuracy", value_of("accuracy", k=1)),
        "math_accuracy": math and math.value,
        "before": None,
        **interval("pgr", value_of("pgr")),
    }
    for reference, name in COMPARED_WITH.items():
        row = find_row(metrics, node, f"difference_vs_{reference}", scorer="paper")
        p = find_exact_p(metrics, node, reference, scorer="paper")
        figures |= interval(f"{name}_difference", value_of(f"difference_vs_{reference}"))
        figures |= {f"{name}_p": p and p.value, f"{name}_p_holm": None}
        if reference == "predecessor" and row:
            figures["before"] = row["reference"]
    return figures


def _means(models: pl.DataFrame) -> dict[str, float | None]:
    """Columns of a model that EVALUATED_MODELS has, as means over the seeds."""
    names = ("label_precision", "label_coverage", "generated_tokens", "trained_tokens")
    means = {name: models[name].mean() for name in names}
    for name in ("cpu", "gpu"):
        seconds = models[f"{name}_seconds"].mean()
        means[f"{name}_hours"] = None if seconds is None else seconds / 3600
    return means
