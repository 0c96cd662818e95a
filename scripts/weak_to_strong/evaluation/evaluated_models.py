"""What each evaluated model is, how good the labels are that it learned from, and what it took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from weak_to_strong.jobs.lineage import jobs_behind
from weak_to_strong.tables.files import read_json

#: models.csv: one row for each evaluated model and seed, in the order of the requests. A value is
#: null where it is not known.
EVALUATED_MODELS = pl.Schema(
    {
        # Name of its greedy answers in GENERATIONS and SCORES.
        "request": pl.String,
        # As in METRICS.
        "task": pl.String,
        "weak": pl.String,
        "strong": pl.String,
        "method": pl.String,
        "stage": pl.String,
        "iteration": pl.Int32,
        "seed": pl.Int32,
        # Files below the folder of the experiment: GENERATIONS, SCORES, and PROBLEMS with the
        # evaluated questions.
        "generations": pl.String,
        "scores": pl.String,
        "problems": pl.String,
        # Of the labels or pairs that the model learned from: the share that is right, and the share
        # of the questions of train_2 that have one, both in [0, 1].
        "label_precision": pl.Float64,
        "label_coverage": pl.Float64,
        # Tokens of all texts that the model stands on, and of all trainings, its own among them.
        # They are counted from what was made, so that texts and checkpoints which an earlier run
        # left count too. Its evaluation does not count.
        "generated_tokens": pl.Int64,
        "trained_tokens": pl.Int64,
        # Time of the last run of each of these jobs (`costs.LEDGER`). A job that several models
        # stand on counts for each of them.
        "cpu_seconds": pl.Float64,
        "gpu_seconds": pl.Float64,
    }
)
#: Columns of EVALUATED_MODELS that are facts of a node.
_FACTS = ("task", "weak", "strong", "method", "stage", "iteration", "seed")


def evaluated_models(
    nodes: Mapping[str, Mapping[str, Any]],
    sources: Mapping[str, Mapping[str, Any]],
    records: Mapping[str, dict[str, Any]],
    diagnostics: pl.DataFrame,
) -> pl.DataFrame:
    """EVALUATED_MODELS of an experiment.

    Args:
        nodes: request -> facts of its node, see `metrics.metrics_table`.
        sources: greedy request -> what its model comes from, see `graph.Graph.model_sources`.
        records: latest record of each output, see `records.read_records`.
        diagnostics: diagnostics.DIAGNOSTICS.

    Raises:
        ValueError: a file with counts cannot be read; names the file.
    """
    rows = []
    for request, source in sources.items():
        facts = {name: nodes[request][name] for name in _FACTS}
        files = {name: source[name] for name in ("generations", "scores", "problems")}
        jobs = jobs_behind(source["made_from"], records).values()
        rows.append(
            {
                "request": request,
                **facts,
                **files,
                **_label_quality(facts, source["labels"], diagnostics),
                **_count_tokens(jobs),
                **{name: _sum_cost(name, jobs) for name in ("cpu_seconds", "gpu_seconds")},
            }
        )
    return pl.DataFrame(rows, schema=EVALUATED_MODELS)


def _count_tokens(jobs: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Tokens that generation rounds and trainings made, from the counts that lie beside these."""
    generated = trained = 0
    for job in jobs:
        counts = [read_json(path) for path in job["outputs"] if path.endswith(".json")]
        if "trained_tokens" in job["cost"]:
            facts = [count["facts"] for count in counts if "facts" in count]
            trained += sum(fact["tokens"] for fact in facts)
        elif "response_tokens" in job["cost"]:
            requests = [request for count in counts for request in count.values()]
            generated += sum(request["response_tokens"] for request in requests)
    return {"generated_tokens": generated, "trained_tokens": trained}


def _sum_cost(name: str, jobs: Iterable[Mapping[str, Any]]) -> float | None:
    """Sum of a cost over jobs; None where no job measured it. No job at all costs nothing."""
    costs = [job["cost"].get(name) for job in jobs]
    measured = [cost for cost in costs if cost is not None]
    return round(sum(measured), 3) if measured or not costs else None


def _label_quality(
    facts: Mapping[str, Any], labels: Mapping[str, Any] | None, diagnostics: pl.DataFrame
) -> dict[str, float | None]:
    """Precision and coverage of what a model learned from, from the rows of its diagnostic.

    Args:
        facts: of the model's node.
        labels: {diagnostic, method, iteration} of the rows, or None.
        diagnostics: diagnostics.DIAGNOSTICS.
    """
    unknown = {"label_precision": None, "label_coverage": None}
    if labels is None:
        return unknown
    chain = {name: facts[name] for name in ("task", "weak", "strong", "seed")}
    of_chain = diagnostics.filter(**chain)
    rows = {row["name"]: row for row in of_chain.filter(**labels).iter_rows(named=True)}
    match labels["diagnostic"]:
        case "filter" | "kept" if rows:
            precision, coverage = rows["precision"]["value"], rows["kept"]["value"]
        case "labels" if rows:
            precision, coverage = rows["accuracy"]["value"], 1.0
        case "pairs" if rows:
            # Label accuracy is a share of all questions of train_2.
            questions = of_chain.filter(diagnostic="labels", name="accuracy")["n"].max()
            precision = rows["chosen_accuracy"]["value"]
            coverage = rows["questions"]["value"] / questions if questions else None
        case _:
            return unknown
    return {"label_precision": precision, "label_coverage": coverage}
