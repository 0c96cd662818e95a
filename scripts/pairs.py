"""Build the contrastive pairs of Stage II.

Input:
    weak_labels: LABELS of train_2 from the weak side.
    samples: SAMPLES of M_plus.
    votes: VOTES over these samples.
    questions: QUESTIONS of train_2.
Params:
    settings: `pairs` of the configuration, as it holds for this method (fields of `PairSettings`).
    prompt: style of the prompts.
    judge: settings of `choose_judge`.
Output:
    rows: PAIRS.
    export: the same pairs as LLaMA-Factory JSON.
"""

from typing import Any

from weak_to_strong.evaluation.judges import choose_judge
from weak_to_strong.jobs.logs import logger
from weak_to_strong.jobs.script import run_script
from weak_to_strong.method.majority_vote import SAMPLES
from weak_to_strong.method.pairs import PairSettings, build_pairs
from weak_to_strong.method.training_sets import encode_llama_factory_pairs
from weak_to_strong.tables.files import write_json_rows
from weak_to_strong.tables.frames import ROWS_OF_A_GROUP, read_table, scan_table, write_table
from weak_to_strong.tables.schemas import LABELS, PAIRS, QUESTIONS, VOTES


def main(snakemake: Any) -> None:
    """Pair and export."""
    tables, params = snakemake.input, snakemake.params
    questions = read_table(tables.questions, QUESTIONS)
    rows = build_pairs(
        read_table(tables.weak_labels, LABELS),
        scan_table(tables.samples, SAMPLES),
        read_table(tables.votes, VOTES),
        questions,
        PairSettings(**params.settings),
        prompt=params.prompt,
        judge=choose_judge(params.judge, questions, snakemake.threads),
    )
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
