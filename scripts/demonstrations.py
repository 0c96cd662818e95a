"""Draw the few-shot demonstrations from the weak labels.

Input:
    weak_labels: LABELS of train_2.
    questions: QUESTIONS of train_2.
    problems: PROBLEMS of train_1, where a variant breaks the demonstrations on purpose: the gold
        solutions of its problems then stand in for the weak labels.
Params:
    shots: number of demonstrations.
    seed: seed of the draw.
    ids: ids of train_2 to take instead, or None.
    prompt: style of the prompts.
    repeat_question: whether all demonstrations ask the question of the first one.
    answer_after: mark after which the answer of a reasoning model stands, or None.
    answer_key: of `problems`: text that introduces the final answer.
Output:
    demonstrations: DEMONSTRATIONS.
"""

from typing import Any

from weak_to_strong.jobs.logs import logger
from weak_to_strong.jobs.script import run_script
from weak_to_strong.method.demonstrations import draw_demonstrations, gold_labels
from weak_to_strong.tables.frames import read_table, write_table
from weak_to_strong.tables.schemas import DEMONSTRATIONS, LABELS, PROBLEMS, QUESTIONS


def main(snakemake: Any) -> None:
    """Draw and write."""
    params = snakemake.params
    shots, ids = params.shots, params.get("ids")
    if problems := snakemake.input.get("problems"):
        asked = read_table(problems, PROBLEMS)
        labels = gold_labels(asked, params.answer_key)
        shots, ids = len(ids or ()) or shots, None  # the ids are of train_2
    else:
        labels = read_table(snakemake.input.weak_labels, LABELS)
        asked = read_table(snakemake.input.questions, QUESTIONS)
    rows = draw_demonstrations(
        labels,
        asked,
        shots,
        params.seed,
        ids,
        params.prompt,
        repeat_question=params.repeat_question,
        answer_after=params.answer_after,
    )
    write_table(rows, DEMONSTRATIONS, snakemake.output.demonstrations)
    logger.info("demonstrations %s", ", ".join(rows["id"]))


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
