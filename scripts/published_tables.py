"""The paper's tables with published figures alone: every other cell is "not run".

Input:
    published: resources/published_results.csv.
Output:
    <table>_csv, <table>_md, <table>_tex: one of each for each of `paper_tables.TABLES`.
"""

from typing import Any

from weak_to_strong.jobs.script import run_script
from weak_to_strong.paper.published_results import read_published
from weak_to_strong.report.paper_tables import paper_tables
from weak_to_strong.report.text_tables import write_paper_table


def main(snakemake: Any) -> None:
    """Write the tables."""
    for name, table in paper_tables(read_published(snakemake.input.published)).items():
        paths = {kind: snakemake.output[f"{name}_{kind}"] for kind in ("csv", "md", "tex")}
        write_paper_table(table, paths)


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
