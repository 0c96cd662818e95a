"""Choose the questions of a training by reward, each with the answer that is rewarded.

Input (those of the reward, see `tables_of_reward`):
    questions: QUESTIONS of train_2.
    weak_labels: LABELS of train_2 from the weak side.
    kept: KEPT of the agreement filter.
    gold: GOLD of train_2, for a ceiling only.
Params:
    reward: how answers are rewarded, see `method.rewards`.
    prompt: style of the prompts.
    quirks: flaws of the paper's normalisation to keep, for gold answers.
    judge: settings of `choose_judge`.
Output:
    rows: REWARD_ROWS.
"""

from typing import Any

from weak_to_strong.jobs.logs import logger
from weak_to_strong.jobs.script import run_script
from weak_to_strong.method.answers import PaperQuirks
from weak_to_strong.method.rewards import reward_rows, tables_of_reward
from weak_to_strong.tables.frames import read_table, write_table
from weak_to_strong.tables.schemas import GOLD, KEPT, LABELS, QUESTIONS, REWARD_ROWS

SCHEMAS = {"questions": QUESTIONS, "weak_labels": LABELS, "kept": KEPT, "gold": GOLD}


def main(snakemake: Any) -> None:
    """Choose the questions."""
    params = snakemake.params
    tables = {
        name: read_table(snakemake.input[name], SCHEMAS[name])
        for name in tables_of_reward(params.reward)
    }
    questions = tables.pop("questions")
    rows = reward_rows(
        params.reward,
        questions,
        prompt=params.prompt,
        quirks=PaperQuirks(**params.quirks),
        raw=params.judge["name"] != "string",
        **tables,
    )
    write_table(rows, REWARD_ROWS, snakemake.output.rows)
    logger.info("%d of %d questions", len(rows), len(questions))


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
