"""Score generations by string equality (as in the paper) and by mathematical equality.

Input:
    generations: GENERATIONS tables (Parquet) of requests to the same problems.
    problems: PROBLEMS (Parquet), with the gold answers.
Params:
    answer_key: what precedes a final answer.
    stop: strings at which a response ends.
    timeout_seconds: CPU time of one comparison.
Threads: most comparison processes at once.
Output:
    scores: SCORES (Parquet).
    agreement: JSON, verdicts of one scorer against the other's.
"""

from typing import Any

import polars as pl

from weak_to_strong.logs import run_script
from weak_to_strong.scoring import score_generations, scorer_agreement
from weak_to_strong.tables import GENERATIONS, PROBLEMS, SCORES, read_table, write_json, write_table


def main(snakemake: Any) -> None:
    """Read, score and publish."""
    files = snakemake.input.generations
    files = [files] if isinstance(files, str) else files
    params = snakemake.params
    scores = score_generations(
        pl.concat(read_table(file, GENERATIONS) for file in files),
        read_table(snakemake.input.problems, PROBLEMS),
        params.answer_key,
        params.stop,
        timeout_seconds=params.timeout_seconds,
        workers=snakemake.threads,
    )
    write_table(scores, SCORES, snakemake.output.scores)
    write_json(scorer_agreement(scores), snakemake.output.agreement)


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
