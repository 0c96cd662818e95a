"""Compare finished experiments on one page.

Input:
    template: the page's template and style. The script does not read them from here.
Params:
    experiments: files of each experiment with their recorded contents (`finished.find_finished`).
        They are no inputs, so that no job of an experiment is planned with the comparison.
Output:
    html: the page.
    models: CSV with the columns of `compared_models.COMPARED_MODELS`.
"""

from collections.abc import Mapping
from typing import Any

import polars as pl

from weak_to_strong.evaluation.evaluated_models import EVALUATED_MODELS
from weak_to_strong.experiment.finished import check_unchanged
from weak_to_strong.jobs.script import run_script
from weak_to_strong.report.answer_texts import answer_sets
from weak_to_strong.report.compared_models import ComparedExperiment, compared_models
from weak_to_strong.report.comparison_page import build_comparison
from weak_to_strong.tables.files import publish
from weak_to_strong.tables.frames import read_csv, read_table, scan_table
from weak_to_strong.tables.schemas import GENERATIONS, METRICS, PROBLEMS, SCORERS, SCORES


def read_experiment(files: Mapping[str, Any]) -> ComparedExperiment:
    """The tables of an experiment whose files are as their jobs made them."""
    check_unchanged(files["sha256"])
    models = read_csv(files["models"], EVALUATED_MODELS)

    def paths(column: str) -> list[str]:
        names = models[column].unique(maintain_order=True)
        return [f"{files['root']}/{name}" for name in names]

    def greedy(column: str, schema: pl.Schema, *columns: str) -> pl.DataFrame:
        is_greedy = pl.col("request").is_in(models["request"].implode()) & (pl.col("sample") == 0)
        tables = (scan_table(path, schema).filter(is_greedy) for path in paths(column))
        return pl.concat(tables).select("request", "id", *columns).collect(engine="streaming")

    scores = greedy("scores", SCORES, "prediction", *SCORERS)
    texts = greedy("generations", GENERATIONS, "response")
    return ComparedExperiment(
        name=files["name"],
        metrics=read_csv(files["metrics"], METRICS),
        models=models,
        problems={
            path: read_table(f"{files['root']}/{path}", PROBLEMS)
            for path in models["problems"].unique()
        },
        answers=scores.join(texts, on=("request", "id"), how="left"),
    )


def main(snakemake: Any) -> None:
    """Read all experiments, write table and page."""
    experiments = [read_experiment(files) for files in snakemake.params.experiments]
    models = compared_models(experiments)
    with publish(snakemake.output.models) as part:
        models.write_csv(part)
    with publish(snakemake.output.html) as part:
        part.write_text(build_comparison(models, answer_sets(experiments)), encoding="utf-8")


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
