"""Report questions that repeat or stand in several splits; check that gold answers can be read.

Input:
    sources: raw files of the task, in the order of `sources.source_entries`.
Params:
    task: name of the task.
    settings: settings of the task on which its tables depend.
    local: digests of local raw files. A changed file so makes the job run again.
    reading: how its answers are read, see `gold_check.find_unread_gold`.
    gold_unread: share of a split's gold answers that may not be read back.
Output:
    report: CONTAMINATION as CSV, of the splits as read, with "removed" rows for `remove_overlap`.
"""

from typing import Any

import polars as pl

from weak_to_strong.data.contamination import CONTAMINATION, contamination_report, remove_overlap
from weak_to_strong.data.splits import make_splits
from weak_to_strong.evaluation.gold_check import check_gold, count_stops
from weak_to_strong.jobs.logs import logger
from weak_to_strong.jobs.script import run_script
from weak_to_strong.tables.files import publish


def main(snakemake: Any) -> None:
    """Read all splits and compare them."""
    task, settings = snakemake.params.task, snakemake.params.settings
    raw = make_splits(settings, list(snakemake.input.get("sources", [])), task)
    params = snakemake.params
    for name, count in check_gold(raw, params.reading, params.gold_unread, task).items():
        logger.warning("%s: %d gold answers are not read back from their own text", name, count)
    for stop, count in count_stops(raw, params.reading["stop"]).items():
        logger.warning("stop string %r stands in %d gold solutions", stop, count)
    report = contamination_report(raw)
    kept = remove_overlap(raw, settings["remove_overlap"])
    removed = [
        ("removed", name, "", raw[name].height - kept[name].height, raw[name].height, "")
        for name in raw
    ]
    report = pl.concat([report, pl.DataFrame(removed, schema=CONTAMINATION, orient="row")])
    for row in report.filter(pl.col("count") > 0).iter_rows(named=True):
        partner = f", with {row['other_split']}" if row["other_split"] else ""
        logger.info(
            "%s: %d of %d of %s%s", row["kind"], row["count"], row["rows"], row["split"], partner
        )
    # A spreadsheet would take an id that begins so for a formula.
    formula = pl.col("ids").str.contains(r"^[=+\-@\t\r]")
    report = report.with_columns(ids=pl.when(formula).then("'" + pl.col("ids")).otherwise("ids"))
    with publish(snakemake.output.report) as part:
        report.write_csv(part)


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
