"""Report questions that repeat within a split or stand in several splits, as read.

Input:
    sources: raw files of the task, in the order of `sources.source_entries`.
Params:
    task: name of the task.
    settings: settings of the task on which its tables depend.
    local: digests of local raw files. A changed file so makes the job run again.
Output:
    report: CONTAMINATION as CSV, of the splits as read, with "removed" rows for `remove_overlap`.
"""

from typing import Any

import polars as pl

from weak_to_strong.data.contamination import CONTAMINATION, contamination_report, remove_overlap
from weak_to_strong.data.splits import make_splits
from weak_to_strong.jobs.logs import logger
from weak_to_strong.jobs.script import run_script
from weak_to_strong.tables.files import publish


def main(snakemake: Any) -> None:
    """Read all splits and compare them."""
    task, settings = snakemake.params.task, snakemake.params.settings
    raw = make_splits(settings, list(snakemake.input.get("sources", [])), task)
    report = contamination_report(raw)
    kept = remove_overlap(raw, settings["remove_overlap"])
    removed = [
        ("removed", name, "", raw[name].height - kept[name].height, raw[name].height, "")
        for name in raw
    ]
    report = pl.concat([report, pl.DataFrame(removed, schema=CONTAMINATION, orient="row")])
    for row in report.filter(pl.col("count") > 0).iter_rows(named=True):
        other = f", with {row['other_split']}" if row["other_split"] else ""
        logger.info(
            "%s: %d of %d of %s%s", row["kind"], row["count"], row["rows"], row["split"], other
        )
    # A spreadsheet would take an id that begins so for a formula.
    formula = pl.col("ids").str.contains(r"^[=+\-@\t\r]")
    report = report.with_columns(ids=pl.when(formula).then("'" + pl.col("ids")).otherwise("ids"))
    with publish(snakemake.output.report) as part:
        report.write_csv(part)


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
