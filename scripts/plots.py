"""Draw the figures of the report.

Input:
    metrics: METRICS as CSV.
    diagnostics: DIAGNOSTICS as CSV.
Output:
    <figure>_svg, <figure>_png: one of each for each of `plots.FIGURES`.
"""

from typing import Any

from weak_to_strong.evaluation.diagnostics import DIAGNOSTICS
from weak_to_strong.jobs.script import run_script
from weak_to_strong.report.plot_style import save_figure
from weak_to_strong.report.plots import FIGURES
from weak_to_strong.tables.frames import read_csv
from weak_to_strong.tables.schemas import METRICS


def main(snakemake: Any) -> None:
    """Draw each figure from the two tables."""
    metrics = read_csv(snakemake.input.metrics, METRICS)
    diagnostics = read_csv(snakemake.input.diagnostics, DIAGNOSTICS)
    for name, draw in FIGURES.items():
        svg, png = snakemake.output[f"{name}_svg"], snakemake.output[f"{name}_png"]
        save_figure(draw(metrics, diagnostics), svg, png)


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
