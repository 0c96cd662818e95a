"""Build the self-contained HTML report, and the tables of what the run cost.

Input:
    metrics, diagnostics: METRICS and DIAGNOSTICS as CSV.
    template: the page's template. The script does not read it from here.
    plots: SVG files; a file's name without suffix is the name of the figure.
    scores, generations: Parquet files of the evaluation, any number.
    problems: evaluated split of each task, in the order of params.tasks.
    contamination: contamination report of each task (CSV), in the same order.
    agreement: JSON of `score`, in the order of params.tasks; what the extraction filters found.
    metrics_json: not read; the page takes it from the tables above.
Params:
    experiment: its name.
    tasks: names of the tasks.
    nodes: request -> task, weak, strong, method, stage, iteration, seed, decoding.
    config: the settings that decide the results (`Graph.deciding_settings`).
    logs: folder of the jobs' records; read at run time, since what a job cost must not make the
        page outdated.
Output:
    html: the page.
    costs: CSV with the columns of `costs.COSTS`, one row a rule.
    ledger: CSV with the columns of `costs.LEDGER`, one row a job.
"""

import json
from pathlib import Path
from typing import Any

import polars as pl

from weak_to_strong.evaluation.diagnostics import DIAGNOSTICS
from weak_to_strong.jobs.costs import read_ledger, sum_costs
from weak_to_strong.jobs.records import library_versions
from weak_to_strong.jobs.script import run_script
from weak_to_strong.report.page import ReportInputs, build_report
from weak_to_strong.report.plots import FIGURES
from weak_to_strong.tables.files import publish
from weak_to_strong.tables.frames import read_csv, read_table, scan_table
from weak_to_strong.tables.schemas import GENERATIONS, METRICS, PROBLEMS, SCORES


def read_plots(paths: list[str]) -> dict[str, str]:
    """SVG text by figure, in the order of the report."""
    found = {Path(path).stem: Path(path).read_text(encoding="utf-8") for path in paths}
    order = [*FIGURES, *sorted(found.keys() - FIGURES.keys())]
    return {name: found[name] for name in order if name in found}


def main(snakemake: Any) -> None:
    """Read everything, write ledger, costs and page."""
    given, params = snakemake.input, snakemake.params
    # The record of this very job would be that of an earlier run.
    ledger = read_ledger(params.logs).filter(pl.col("rule") != snakemake.rule)
    costs = sum_costs(ledger)
    for frame, path in ((ledger, snakemake.output.ledger), (costs, snakemake.output.costs)):
        with publish(path) as part:
            frame.write_csv(part)

    first_samples = [
        scan_table(path, GENERATIONS).filter(pl.col("sample") == 0).collect(engine="streaming")
        for path in given.generations
    ]
    inputs = ReportInputs(
        experiment=params.experiment,
        metrics=read_csv(given.metrics, METRICS),
        diagnostics=read_csv(given.diagnostics, DIAGNOSTICS),
        costs=costs,
        plots=read_plots(given.plots),
        scores=pl.concat([read_table(path, SCORES) for path in given.scores]),
        generations=pl.concat(first_samples),
        problems={
            task: read_table(path, PROBLEMS)
            for task, path in zip(params.tasks, given.problems, strict=True)
        },
        nodes=params.nodes,
        contamination={
            task: pl.read_csv(path)
            for task, path in zip(params.tasks, given.contamination, strict=True)
        },
        config=params.config,
        versions=library_versions(),
        filters={
            task: json.loads(Path(path).read_text(encoding="utf-8"))["filters"]
            for task, path in zip(params.tasks, given.agreement, strict=True)
        },
    )
    with publish(snakemake.output.html) as part:
        part.write_text(build_report(inputs), encoding="utf-8")


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
