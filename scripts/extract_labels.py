"""Read the final answers of one greedy request.

Input:
    generations: GENERATIONS.
Params:
    request: name of the request in it.
    answer_key: text that introduces the final answer.
    stop: stop strings.
    extraction: how an answer is read, one of `answers.EXTRACTIONS`.
    quirks: fields of `PaperQuirks`.
    answer_after: mark after which the answer of a reasoning model stands, or None.
    judge: of `choose_judge`; answers are normalised for that of strings only.
Output:
    labels: LABELS.
"""

from typing import Any

from weak_to_strong.jobs.logs import logger
from weak_to_strong.jobs.script import run_script
from weak_to_strong.method.agreement import count_empty
from weak_to_strong.method.answers import PaperQuirks
from weak_to_strong.method.labels import labels_from_generations, select_request
from weak_to_strong.tables.frames import scan_table, write_table
from weak_to_strong.tables.schemas import GENERATIONS, LABELS


def main(snakemake: Any) -> None:
    """Read the answers of one request."""
    params = snakemake.params
    generations = select_request(
        scan_table(snakemake.input.generations, GENERATIONS), params.request
    ).collect()
    labels = labels_from_generations(
        generations,
        params.answer_key,
        params.stop,
        PaperQuirks(**params.quirks),
        raw=params.judge["name"] != "string",
        extraction=params.extraction,
        answer_after=params.answer_after,
    )
    write_table(labels, LABELS, snakemake.output.labels)
    logger.info("%d labels, %d without a final answer", len(labels), count_empty(labels))


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
