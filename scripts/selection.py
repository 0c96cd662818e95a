"""Choose questions of train_2 and an answer to each, as an entry of `selections` says.

Input:
    answers: SAMPLES or LABELS of train_2, in the entry's order.
    without: SELECTED of the selection that is left out, if any.
    as_many_as: SELECTED of the selection that keeps as many questions, if one is named.
    questions: QUESTIONS of train_2.
    function: the file of the user's function, if one selects.
Params:
    settings: the entry without `answers`.
    seed: of draws.
    judge: settings of `choose_judge`.
    function_code: digest of the user's function, so that an edit selects again.
    order: names of the answers, so that another order selects again.
Output:
    selected: SELECTED.
    summary: JSON {questions, kept, rows}.
"""

from typing import Any

import polars as pl

from weak_to_strong.evaluation.judges import choose_judge
from weak_to_strong.jobs.logs import logger
from weak_to_strong.jobs.script import run_script
from weak_to_strong.method.selections import pool_answers, select_answers, select_by_function
from weak_to_strong.tables.files import write_json
from weak_to_strong.tables.frames import read_table, write_table
from weak_to_strong.tables.schemas import QUESTIONS, SELECTED


def main(snakemake: Any) -> None:
    """Select and count."""
    settings, seed = snakemake.params.settings, snakemake.params.seed
    tables = [pl.read_parquet(path) for path in snakemake.input.answers]
    questions = read_table(snakemake.input.questions, QUESTIONS)
    judge = choose_judge(snakemake.params.judge, questions, snakemake.threads)
    if ":" in settings["keep"]:
        selected = select_by_function(
            settings["keep"], pool_answers(tables), questions, seed, judge
        )
    else:
        others = {
            key: {name for path in paths for name in read_table(path, SELECTED)["id"]}
            for key in ("without", "as_many_as")
            if (paths := snakemake.input.get(key))
        }
        selected = select_answers(
            tables,
            settings,
            judge=judge,
            seed=seed,
            without=others.get("without", ()),
            as_many=len(others["as_many_as"]) if "as_many_as" in others else None,
        )
    kept = selected["id"].n_unique()
    summary = {"questions": questions.height, "kept": kept, "rows": selected.height}
    write_table(selected, SELECTED, snakemake.output.selected)
    write_json(summary, snakemake.output.summary)
    logger.info("%(kept)d of %(questions)d questions kept, %(rows)d rows", summary)


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
