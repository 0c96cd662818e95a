"""Draw the few-shot demonstrations from the weak labels.

Input:
    weak_labels: LABELS of train_2.
    questions: QUESTIONS of train_2.
Params:
    shots: number of demonstrations.
    seed: seed of the draw.
    ids: ids of train_2 to take instead, or None.
    prompt: style of the prompts.
    repeat_question: whether all demonstrations ask the question of the first one.
Output:
    demonstrations: DEMONSTRATIONS.
"""

from typing import Any

from weak_to_strong.jobs.logs import logger
from weak_to_strong.jobs.script import run_script
from weak_to_strong.method.demonstrations import draw_demonstrations
from weak_to_strong.tables.frames import read_table, write_table
from weak_to_strong.tables.schemas import DEMONSTRATIONS, LABELS, QUESTIONS


def main(snakemake: Any) -> None:
    """Draw and write."""
    params = snakemake.params
    shots = draw_demonstrations(
        read_table(snakemake.input.weak_labels, LABELS),
        read_table(snakemake.input.questions, QUESTIONS),
        params.shots,
        params.seed,
        params.get("ids"),
        params.prompt,
        repeat_question=params.repeat_question,
    )
    write_table(shots, DEMONSTRATIONS, snakemake.output.demonstrations)
    logger.info("demonstrations %s", ", ".join(shots["id"]))


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
