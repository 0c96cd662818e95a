"""Build the self-contained HTML report, and the tables of what the run cost.

Input:
    metrics, diagnostics: METRICS and DIAGNOSTICS as CSV.
    template: the page's template and style. The script does not read them from here.
    plots: SVG files; a file's name without suffix is the name of the figure.
    scores, generations: Parquet files of the evaluation, any number.
    problems: evaluated questions, in the order of params.evaluated.
    contamination: contamination report of each task (CSV), in the order of params.tasks.
    agreement: JSON of `score`, in the order of params.evaluated; what the extraction filters found,
        and of chats the lengths of the answers.
    metrics_json: not read; the page takes it from the tables above.
Params:
    experiment: its name.
    tasks: names of the tasks.
    evaluated: `EvaluatedSet.key` of the evaluated questions.
    nodes: request -> task, weak, strong, method, stage, iteration, seed, decoding.
    sources: greedy request -> what its model comes from (`Graph.model_sources`).
    config: the settings that decide the results (`Graph.deciding_settings`).
    prices: key of a round of an endpoint -> price of a million tokens, `input` and `output`.
    logs: folder of the jobs' records; read at run time, since what a job cost must not make the
        page outdated.
Output:
    html: the page.
    costs: CSV with the columns of `costs.COSTS`, one row a rule.
    ledger: CSV with the columns of `costs.LEDGER`, one row a job.
    models: EVALUATED_MODELS as CSV: what each model is, learned from and took.
"""

import json
from pathlib import Path
from typing import Any

import polars as pl

from weak_to_strong.evaluation.diagnostics import DIAGNOSTICS
from weak_to_strong.evaluation.evaluated_models import evaluated_models
from weak_to_strong.jobs.costs import read_ledger, sum_costs
from weak_to_strong.jobs.records import library_versions, read_records
from weak_to_strong.jobs.script import run_script
from weak_to_strong.report.page import ReportInputs, build_report
from weak_to_strong.report.plots import FIGURES
from weak_to_strong.tables.files import publish
from weak_to_strong.tables.frames import read_csv, read_table, scan_table
from weak_to_strong.tables.schemas import GENERATIONS, METRICS, PROBLEMS, SCORES


def read_plots(paths: list[str]) -> dict[str, str]:
    """SVG text by figure, in the order of the report."""
    plots = {Path(path).stem: Path(path).read_text(encoding="utf-8") for path in paths}
    order = [*FIGURES, *sorted(plots.keys() - FIGURES.keys())]
    return {name: plots[name] for name in order if name in plots}


def main(snakemake: Any) -> None:
    """Read everything, write ledger, costs, models and page."""
    given, params = snakemake.input, snakemake.params
    # The record of this very job would be that of an earlier run.
    prices = {f"ask_endpoint/{round_}": price for round_, price in params.prices.items()}
    ledger = read_ledger(params.logs, prices).filter(pl.col("rule") != snakemake.rule)
    costs = sum_costs(ledger)
    diagnostics = read_csv(given.diagnostics, DIAGNOSTICS)
    records = read_records(Path(params.logs))
    models = evaluated_models(params.nodes, params.sources, records, diagnostics)
    for name, frame in (("ledger", ledger), ("costs", costs), ("models", models)):
        with publish(snakemake.output[name]) as part:
            frame.write_csv(part)

    first_samples = [
        scan_table(path, GENERATIONS).filter(pl.col("sample") == 0).collect(engine="streaming")
        for path in given.generations
    ]
    summaries = {
        key: json.loads(Path(path).read_text(encoding="utf-8"))
        for key, path in zip(params.evaluated, given.agreement, strict=True)
    }
    inputs = ReportInputs(
        experiment=params.experiment,
        metrics=read_csv(given.metrics, METRICS),
        diagnostics=diagnostics,
        costs=costs,
        plots=read_plots(given.plots),
        scores=pl.concat([read_table(path, SCORES) for path in given.scores]),
        generations=pl.concat(first_samples),
        problems={
            key: read_table(path, PROBLEMS)
            for key, path in zip(params.evaluated, given.problems, strict=True)
        },
        nodes=params.nodes,
        contamination={
            task: pl.read_csv(path)
            for task, path in zip(params.tasks, given.contamination, strict=True)
        },
        config=params.config,
        versions=library_versions(),
        filters={key: summary["filters"] for key, summary in summaries.items()},
        lengths={
            key: summary["lengths"] for key, summary in summaries.items() if "lengths" in summary
        },
    )
    with publish(snakemake.output.html) as part:
        part.write_text(build_report(inputs), encoding="utf-8")


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
