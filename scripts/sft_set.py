"""Build the rows of one set for supervised fine-tuning.

Input (those of the kind, see `TABLES_OF_KIND`):
    problems: PROBLEMS of train_1.
    questions: QUESTIONS of train_2.
    gold: GOLD of train_2.
    weak_labels: LABELS of train_2 from the weak side.
    kept: KEPT of the agreement filter.
Params:
    kind: which rows to take, see `sft_rows`.
    answer_key: text that introduces the final answer in targets made from gold.
    prompt: style of the prompts.
Output:
    rows: SFT_ROWS.
    export: the same rows as LLaMA-Factory JSON.
"""

from typing import Any

from weak_to_strong.jobs.logs import logger
from weak_to_strong.jobs.script import run_script
from weak_to_strong.method.training_sets import TABLES_OF_KIND, export_llama_factory_sft, sft_rows
from weak_to_strong.tables.files import write_json
from weak_to_strong.tables.frames import read_table, write_table
from weak_to_strong.tables.schemas import GOLD, KEPT, LABELS, PROBLEMS, QUESTIONS, SFT_ROWS

SCHEMAS = {
    "problems": PROBLEMS,
    "questions": QUESTIONS,
    "gold": GOLD,
    "weak_labels": LABELS,
    "kept": KEPT,
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
        **tables,
    )
    write_table(rows, SFT_ROWS, snakemake.output.rows)
    write_json(export_llama_factory_sft(rows), snakemake.output.export)
    logger.info("%d rows of %d questions", len(rows), rows["id"].n_unique())


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
