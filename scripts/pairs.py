"""Build the contrastive pairs of Stage II, or rows that are made from them.

Input:
    weak_labels: LABELS of train_2 from the weak side.
    samples: SAMPLES of M_plus.
    votes: VOTES over these samples.
    questions: QUESTIONS of train_2.
Params:
    kind: `pairs`; of controls `shuffled_pairs` (`shuffle_sides`) or `chosen` (`chosen_rows`).
    settings: `pairs` of the configuration, as it holds for this method (fields of `PairSettings`);
        `swapped: true` where a variant breaks the pairs on purpose (`swap_sides`).
    seed: seed of the shuffling.
    prompt: style of the prompts.
    reasoning: answer_after and reasoning of `chat.settle_reasoning`; None for texts without.
    judge: settings of `choose_judge`.
Output:
    rows: PAIRS; SFT_ROWS of the kind `chosen`.
    export: the same rows as LLaMA-Factory JSON.
"""

from typing import Any

from weak_to_strong.evaluation.judges import choose_judge
from weak_to_strong.jobs.logs import logger
from weak_to_strong.jobs.script import run_script
from weak_to_strong.method.chat import settle_reasoning
from weak_to_strong.method.majority_vote import SAMPLES
from weak_to_strong.method.pairs import PairSettings, build_pairs, shuffle_sides, swap_sides
from weak_to_strong.method.training_sets import (
    chosen_rows,
    encode_llama_factory_pairs,
    export_llama_factory_sft,
)
from weak_to_strong.tables.files import write_json, write_json_rows
from weak_to_strong.tables.frames import ROWS_OF_A_GROUP, read_table, scan_table, write_table
from weak_to_strong.tables.schemas import LABELS, PAIRS, QUESTIONS, SFT_ROWS, VOTES


def main(snakemake: Any) -> None:
    """Pair and export."""
    tables, params = snakemake.input, snakemake.params
    questions = read_table(tables.questions, QUESTIONS)
    settings = dict(params.settings)
    swapped = settings.pop("swapped", False)
    rows = build_pairs(
        read_table(tables.weak_labels, LABELS),
        scan_table(tables.samples, SAMPLES),
        read_table(tables.votes, VOTES),
        questions,
        PairSettings(**settings),
        prompt=params.prompt,
        judge=choose_judge(params.judge, questions, snakemake.threads),
    )
    if params.reasoning:
        rows = settle_reasoning(rows, ["chosen", "rejected"], **params.reasoning)
    if swapped:
        rows = swap_sides(rows)
    if params.kind == "chosen":
        rows = chosen_rows(rows)
        write_table(rows, SFT_ROWS, snakemake.output.rows)
        write_json(export_llama_factory_sft(rows), snakemake.output.export)
        logger.info("%d chosen answers", len(rows))
        return
    if params.kind == "shuffled_pairs":
        rows = shuffle_sides(rows, params.seed)
    write_table(rows, PAIRS, snakemake.output.rows)
    batches = map(encode_llama_factory_pairs, rows.iter_slices(ROWS_OF_A_GROUP))
    write_json_rows(batches, snakemake.output.export)
    logger.info(
        "%d pairs of %d questions; weak answer chosen in %d",
        len(rows),
        rows["id"].n_unique(),
        rows.filter(weak_side="chosen").height,
    )


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
