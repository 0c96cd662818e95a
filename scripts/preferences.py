"""Build preference pairs, as an entry of `preferences` says.

Input:
    answers: SAMPLES or LABELS of train_2, in the entry's order.
    selected: SELECTED of the selection whose texts are chosen, if one is.
    one_side: SAMPLES or LABELS of which each pair has one text, if the entry names any.
    questions: QUESTIONS of train_2.
    function: the file of the user's function, if one builds the pairs.
Params:
    function: the user's function as `file.py:name`, or None.
    function_code: digest of the user's function, so that an edit builds the pairs again.
    settings: of `pairs_of_selection`.
    weighted: whether pairs weigh in proportion to their confidence.
    shuffled: whether a coin of the seed exchanges the sides of each pair.
    order: names of the answers, so that another order builds the pairs again.
    seed: of the function and of the coins.
    prompt: style of the prompts.
    reasoning: answer_after and reasoning of `chat.settle_reasoning`; None for texts without.
    judge: settings of `choose_judge`.
Output:
    pairs: PAIRS; WEIGHTED_PAIRS if `weighted`.
    export: the same rows as LLaMA-Factory JSON.
"""

from typing import Any

import polars as pl

from weak_to_strong.evaluation.judges import choose_judge
from weak_to_strong.jobs.logs import logger
from weak_to_strong.jobs.script import run_script
from weak_to_strong.method.chat import settle_reasoning
from weak_to_strong.method.pairs import shuffle_sides
from weak_to_strong.method.preferences import pairs_by_function, pairs_of_selection, weigh_pairs
from weak_to_strong.method.training_sets import encode_llama_factory_pairs
from weak_to_strong.tables.files import write_json_rows
from weak_to_strong.tables.frames import ROWS_OF_A_GROUP, read_table, write_table
from weak_to_strong.tables.schemas import PAIRS, QUESTIONS, SELECTED, WEIGHTED_PAIRS


def main(snakemake: Any) -> None:
    """Pair and export."""
    tables, params = snakemake.input, snakemake.params
    answers = [pl.read_parquet(path) for path in tables.answers]
    questions = read_table(tables.questions, QUESTIONS)
    judge = choose_judge(params.judge, questions, snakemake.threads)
    if params.function:
        rows = pairs_by_function(
            params.function, answers, questions, params.seed, prompt=params.prompt, judge=judge
        )
    else:
        (selected,) = (read_table(path, SELECTED) for path in tables.selected)
        one_side = [pl.read_parquet(path) for path in tables.get("one_side", ())]
        rows = pairs_of_selection(
            selected,
            answers,
            questions,
            params.settings,
            one_side=one_side[0] if one_side else None,
            prompt=params.prompt,
            judge=judge,
        )
    if params.reasoning:
        rows = settle_reasoning(rows, ["chosen", "rejected"], **params.reasoning)
    if params.shuffled:
        rows = shuffle_sides(rows, params.seed)
    if params.weighted:
        rows = weigh_pairs(rows)
    schema = WEIGHTED_PAIRS if params.weighted else PAIRS
    write_table(rows, schema, snakemake.output.pairs)
    batches = map(encode_llama_factory_pairs, rows.iter_slices(ROWS_OF_A_GROUP))
    write_json_rows(batches, snakemake.output.export)
    logger.info("%d pairs of %d questions", len(rows), rows["id"].n_unique())


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
