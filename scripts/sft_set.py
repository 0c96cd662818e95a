"""Build the rows of one set for supervised fine-tuning.

Input (those of the kind, see `TABLES_OF_KIND`):
    problems: PROBLEMS of train_1.
    questions: QUESTIONS of train_2.
    gold: GOLD of train_2.
    weak_labels, icl_labels: LABELS of train_2 from one side.
    kept: KEPT of the agreement filter.
    selected: SELECTED of a selection.
    pairs: PAIRS of preferences.
Params:
    kind: which rows to take, see `sft_rows`.
    seed: of the draw, for the kinds that draw.
    answer_key: text that introduces the final answer in targets made from gold.
    prompt: style of the prompts.
    reasoning: answer_after and reasoning of `chat.settle_reasoning`; None for texts without.
Output:
    rows: SFT_ROWS; WEIGHTED_ROWS of the kind `weighted`.
    export: the same rows as LLaMA-Factory JSON.
"""

from typing import Any

from weak_to_strong.jobs.logs import logger
from weak_to_strong.jobs.script import run_script
from weak_to_strong.method.chat import settle_reasoning
from weak_to_strong.method.training_sets import TABLES_OF_KIND, export_llama_factory_sft, sft_rows
from weak_to_strong.tables.files import write_json
from weak_to_strong.tables.frames import read_table, write_table
from weak_to_strong.tables.schemas import (
    GOLD,
    KEPT,
    LABELS,
    PAIRS,
    PROBLEMS,
    QUESTIONS,
    SELECTED,
    SFT_ROWS,
    WEIGHTED_ROWS,
)

SCHEMAS = {
    "problems": PROBLEMS,
    "questions": QUESTIONS,
    "gold": GOLD,
    "weak_labels": LABELS,
    "icl_labels": LABELS,
    "kept": KEPT,
    "selected": SELECTED,
    "pairs": PAIRS,
}


def main(snakemake: Any) -> None:
    """Choose the answers and export."""
    params = snakemake.params
    tables = {
        name: read_table(path, SCHEMAS[name])
        for name in TABLES_OF_KIND.get(params.kind, ())
        if (path := snakemake.input.get(name))
    }
    rows = sft_rows(
        params.kind,
        answer_key=params.answer_key,
        prompt=params.prompt,
        seed=params.seed,
        **tables,
    )
    # Preferences are settled where they are built.
    if params.reasoning and params.kind != "preferred":
        rows = settle_reasoning(rows, ["completion"], **params.reasoning)
    schema = WEIGHTED_ROWS if params.kind == "weighted" else SFT_ROWS
    write_table(rows, schema, snakemake.output.rows)
    write_json(export_llama_factory_sft(rows), snakemake.output.export)
    logger.info("%d rows of %d questions", len(rows), rows["id"].n_unique())


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
