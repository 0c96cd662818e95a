"""Make train_2, and store its gold answers apart from what the strong model may see.

Input:
    sources: raw files of train_2, in the order of `sources.source_entries`.
Params:
    task: name of the task.
    settings: settings of the task on which train_2 depends.
    local: digests of local raw files. A changed file so makes the job run again.
Output:
    questions: QUESTIONS.
    gold: GOLD of the same rows. Only the ceiling and the diagnostics read it.
"""

from typing import Any

from weak_to_strong.data.splits import make_split, withhold_gold
from weak_to_strong.jobs.logs import logger
from weak_to_strong.jobs.script import run_script
from weak_to_strong.tables.frames import write_table
from weak_to_strong.tables.schemas import GOLD, QUESTIONS


def main(snakemake: Any) -> None:
    """Read, split and part train_2."""
    params = snakemake.params
    sources = list(snakemake.input.get("sources", []))
    train_2 = make_split(params.settings, sources, "train_2", params.task)
    questions, gold = withhold_gold(train_2)
    write_table(questions, QUESTIONS, snakemake.output.questions)
    write_table(gold, GOLD, snakemake.output.gold)
    logger.info("%d questions", questions.height)


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
