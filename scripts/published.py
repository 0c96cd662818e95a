"""Sum up the checks of the released data; end with an error where a check failed.

Input:
    checks: CSV with the columns `released_outcomes.CHECKS`.
Output:
    summary: a table as text: number of files by check and verdict, then all findings.
"""

from typing import Any

from weak_to_strong.jobs.logs import logger
from weak_to_strong.jobs.script import run_script
from weak_to_strong.paper.released_checks import read_checks, require_no_failure, summarise_checks
from weak_to_strong.tables.files import publish


def main(snakemake: Any) -> None:
    """Sum up."""
    checks = read_checks(snakemake.input.checks)
    summary = summarise_checks(checks)
    for line in summary.splitlines():
        logger.info("%s", line)
    require_no_failure(checks, snakemake.input.checks)
    with publish(snakemake.output.summary) as part:
        part.write_text(summary, encoding="utf-8")


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
