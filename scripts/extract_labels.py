"""Read the final answers of one greedy request.

input.generations: GENERATIONS; params.request: name of the request in it; params.answer_key: text
that introduces the final answer; params.stop: stop strings; params.quirks: fields of `PaperQuirks`;
params.judge: of `choose_judge`, answers being normalised for that of strings only. output.labels:
LABELS.
"""

from weak_to_strong.agreement import count_empty
from weak_to_strong.answers import PaperQuirks
from weak_to_strong.labels import labels_from_generations, select_request
from weak_to_strong.logs import logger, run_script
from weak_to_strong.tables import GENERATIONS, LABELS, scan_table, write_table


def main(snakemake) -> None:
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
    )
    write_table(labels, LABELS, snakemake.output.labels)
    logger.info("%d labels, %d without a final answer", len(labels), count_empty(labels))


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
