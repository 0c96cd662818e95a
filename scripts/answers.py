"""Read the final answers of an entry of `answers`, greedy or sampled.

Input:
    generations: GENERATIONS.
Params:
    answer_key, stop, extraction, quirks, answer_after, judge: as for labels.
Output:
    answers: SAMPLES.
"""

from typing import Any

from weak_to_strong.jobs.logs import logger
from weak_to_strong.jobs.script import run_script
from weak_to_strong.method.agreement import count_empty
from weak_to_strong.method.answers import PaperQuirks
from weak_to_strong.method.labels import read_answers, select_request
from weak_to_strong.method.majority_vote import SAMPLES
from weak_to_strong.tables.frames import read_table, scan_table, write_table
from weak_to_strong.tables.schemas import GENERATIONS


def main(snakemake: Any) -> None:
    """Read the answers."""
    params = snakemake.params
    answers = read_answers(
        select_request(scan_table(snakemake.input.generations, GENERATIONS), "answers"),
        params.answer_key,
        params.stop,
        PaperQuirks(**params.quirks),
        raw=params.judge["name"] != "string",
        extraction=params.extraction,
        answer_after=params.answer_after,
    )
    # Written from a lazy table: the texts of all samples need not fit into memory.
    write_table(answers, SAMPLES, snakemake.output.answers)
    written = read_table(snakemake.output.answers, SAMPLES)
    logger.info("%d answers, %d without a final answer", len(written), count_empty(written))


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
