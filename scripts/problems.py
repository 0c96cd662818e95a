"""Make one split of a task: train_1, validation or a test set.

Input:
    sources: raw files of the split, in the order of `sources.source_entries`.
Params:
    task: name of the task.
    split: name of the split.
    settings: settings of the task on which this split depends.
    local: digests of local raw files. A changed file so makes the job run again.
Output:
    problems: PROBLEMS.
"""

from typing import Any

from weak_to_strong.data.splits import make_split
from weak_to_strong.jobs.logs import logger
from weak_to_strong.jobs.script import run_script
from weak_to_strong.tables.frames import write_table
from weak_to_strong.tables.schemas import PROBLEMS


def main(snakemake: Any) -> None:
    """Read, split and keep one split."""
    params = snakemake.params
    sources = list(snakemake.input.get("sources", []))
    problems = make_split(params.settings, sources, params.split, params.task)
    write_table(problems, PROBLEMS, snakemake.output.problems)
    logger.info("%d problems", problems.height)


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
