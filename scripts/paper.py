"""The paper's tables and figures, with what this experiment reproduced of them.

Input:
    published: resources/published_results.csv.
    metrics: METRICS as CSV.
    diagnostics: DIAGNOSTICS as CSV.
    contamination: contamination report of each task as CSV, in the order of `tasks`.
Params:
    names: the keys `paper` of the configuration, as `published_results.names_of` gives them.
    tasks: names of the tasks.
Output:
    <table>_csv, <table>_md, <table>_tex: one of each for each of `paper_tables.TABLES`.
    <table>_svg, <table>_png: one of each for each of `paper_plots.PAPER_FIGURES`.
"""

from typing import Any

import polars as pl

from weak_to_strong.evaluation.diagnostics import DIAGNOSTICS
from weak_to_strong.jobs.script import run_script
from weak_to_strong.paper.published_results import check_names, read_published
from weak_to_strong.report.paper_plots import PAPER_FIGURES, comparison_figure
from weak_to_strong.report.paper_reproduced import reproduced_figures
from weak_to_strong.report.paper_tables import paper_tables
from weak_to_strong.report.plot_style import save_figure
from weak_to_strong.report.text_tables import write_paper_table
from weak_to_strong.tables.frames import read_csv
from weak_to_strong.tables.schemas import METRICS


def main(snakemake: Any) -> None:
    """Read what was published and what was measured, and write the tables of both."""
    inputs, params, output = snakemake.input, snakemake.params, snakemake.output
    published = read_published(inputs.published)
    check_names(params.names, published)
    reproduced = reproduced_figures(
        published,
        params.names,
        metrics=read_csv(inputs.metrics, METRICS),
        diagnostics=read_csv(inputs.diagnostics, DIAGNOSTICS),
        contamination={
            task: pl.read_csv(path)
            for task, path in zip(params.tasks, inputs.contamination, strict=True)
        },
    )
    for name, table in paper_tables(published, reproduced).items():
        paths = {kind: output[f"{name}_{kind}"] for kind in ("csv", "md", "tex")}
        write_paper_table(table, paths)
        if name in PAPER_FIGURES:
            figure = comparison_figure(table)
            save_figure(figure, output[f"{name}_svg"], output[f"{name}_png"])


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
