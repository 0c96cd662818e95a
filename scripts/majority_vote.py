"""Vote over the samples of each question.

Input:
    generations: GENERATIONS.
    questions: QUESTIONS of train_2.
Params:
    request: name of the sampled request.
    answer_key, stop, extraction, quirks, answer_after, judge: as for labels.
Output:
    samples: SAMPLES.
    votes: VOTES.
"""

from typing import Any

from weak_to_strong.evaluation.judges import choose_judge
from weak_to_strong.jobs.logs import logger
from weak_to_strong.jobs.script import run_script
from weak_to_strong.method.answers import PaperQuirks
from weak_to_strong.method.labels import read_answers, select_request
from weak_to_strong.method.majority_vote import SAMPLES, majority_vote
from weak_to_strong.tables.frames import read_table, scan_table, write_table
from weak_to_strong.tables.schemas import GENERATIONS, QUESTIONS, VOTES


def main(snakemake: Any) -> None:
    """Read the samples' answers and vote."""
    params = snakemake.params
    generations = select_request(
        scan_table(snakemake.input.generations, GENERATIONS), params.request
    )
    quirks = PaperQuirks(**params.quirks)
    raw = params.judge["name"] != "string"
    # Written first and voted over from there: the texts of all samples need not fit into memory.
    samples = read_answers(
        generations,
        params.answer_key,
        params.stop,
        quirks,
        raw=raw,
        extraction=params.extraction,
        answer_after=params.answer_after,
    )
    write_table(samples, SAMPLES, snakemake.output.samples)
    questions = read_table(snakemake.input.questions, QUESTIONS)
    votes = majority_vote(
        scan_table(snakemake.output.samples, SAMPLES),
        judge=choose_judge(params.judge, questions, snakemake.threads),
    )
    write_table(votes, VOTES, snakemake.output.votes)
    logger.info("%d questions, mean confidence %.3f", len(votes), votes["confidence"].mean())


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
