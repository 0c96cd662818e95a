"""Metrics of all evaluated models of an experiment.

Input:
    scores: SCORES, one table for each task or test set.
Params:
    experiment: name of the experiment.
    nodes: request -> facts of its node: task, weak, strong, method, stage, iteration, seed,
        decoding, predecessor, counterpart, of several test sets also test_set (see
        `metrics_table`).
    split: name of the evaluated split.
    ks: k of pass@k and maj@k.
    bootstrap_draws: number of resamples of the bootstrap intervals.
    seed: seed of the resampling.
    trackers: folder of the experiment's runs in trackers (`jobs.trackers`).
Output:
    csv: METRICS.
    json: METRICS, and one record for each model and seed.
    table: the headline results as text.
"""

from typing import Any

import polars as pl

from weak_to_strong.evaluation.metrics import accuracy_figures, metrics_json, metrics_table
from weak_to_strong.jobs.script import run_script
from weak_to_strong.jobs.trackers import report_figures, tracked_run
from weak_to_strong.report.results_table import results_table
from weak_to_strong.tables.files import publish, write_json
from weak_to_strong.tables.frames import read_table
from weak_to_strong.tables.schemas import SCORES


def main(snakemake: Any) -> None:
    """Read scores, work out metrics and publish them."""
    files = snakemake.input.scores
    files = [files] if isinstance(files, str) else files
    params, output = snakemake.params, snakemake.output
    metrics = metrics_table(
        pl.concat(read_table(file, SCORES) for file in files),
        params.nodes,
        params.experiment,
        params.ks,
        split=params.split,
        bootstrap_draws=params.bootstrap_draws,
        seed=params.seed,
    )
    with publish(output.csv) as part:
        metrics.write_csv(part)
    write_json(metrics_json(metrics), output.json)
    with publish(output.table) as part:
        part.write_text(results_table(metrics), encoding="utf-8")
    for node, figures in accuracy_figures(metrics, params.nodes, params.split).items():
        report_figures(tracked_run(node, params.trackers), figures)


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
