"""Score generations by string equality (as in the paper) and by mathematical equality.

Input:
    generations: GENERATIONS tables (Parquet) of requests to the same problems.
    problems: PROBLEMS (Parquet), with the gold answers.
Params:
    answer_key: what precedes a final answer.
    stop: strings at which a response ends.
    extraction: how its answer is read, one of `answers.EXTRACTIONS`.
    quirks: fields of `PaperQuirks`, for paper mode.
    answer_after: mark after which the answer of a reasoning model stands, or None.
    chat: whether the task asks in the turns of a chat; then the lengths of answers are counted.
    judge: settings of `choose_judge`; another one than that of strings serves math mode.
    timeout_seconds: CPU time of one comparison.
Threads: most comparison processes at once.
Output:
    scores: SCORES (Parquet).
    agreement: JSON, verdicts of one scorer against the other's, math mode's by answer type, and
        what each extraction filter found (`filters`: FILTER_COUNTS as rows); of a chat also the
        lengths of the answers (`lengths`: LENGTHS as rows).
"""

from typing import Any

import polars as pl

from weak_to_strong.evaluation.judges import choose_judge, verdicts_by_type
from weak_to_strong.evaluation.scoring import (
    answer_lengths,
    count_filters,
    score_generations,
    scorer_agreement,
)
from weak_to_strong.jobs.script import run_script
from weak_to_strong.method.answers import PaperQuirks
from weak_to_strong.tables.files import write_json
from weak_to_strong.tables.frames import read_table, write_table
from weak_to_strong.tables.schemas import GENERATIONS, PROBLEMS, SCORES


def main(snakemake: Any) -> None:
    """Read, score and publish."""
    files = snakemake.input.generations
    files = [files] if isinstance(files, str) else files
    params = snakemake.params
    problems = read_table(snakemake.input.problems, PROBLEMS)
    judge = None
    if params.judge["name"] != "string":
        judge = choose_judge(params.judge, problems, snakemake.threads)
    reading = (params.answer_key, params.stop)
    scores, filters, lengths = [], [], []
    for file in files:  # the texts of one round at a time in memory
        generations = read_table(file, GENERATIONS)
        filters.append(count_filters(generations, *reading, params.extraction, params.answer_after))
        scores.append(
            score_generations(
                generations,
                problems,
                *reading,
                quirks=PaperQuirks(**params.quirks),
                judge=judge,
                timeout_seconds=params.timeout_seconds,
                workers=snakemake.threads,
                extraction=params.extraction,
                answer_after=params.answer_after,
            )
        )
        if params.chat:
            lengths.append(answer_lengths(generations, scores[-1]))
    scores = pl.concat(scores)
    write_table(scores, SCORES, snakemake.output.scores)
    summary = scorer_agreement(scores)
    if types := verdicts_by_type(scores, problems):
        summary["answer_types"] = types
    summary["filters"] = pl.concat(filters).to_dicts()
    if lengths:
        summary["lengths"] = pl.concat(lengths).to_dicts()
    write_json(summary, snakemake.output.agreement)


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
