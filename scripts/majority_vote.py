"""Vote over the samples of each question.

input.generations: GENERATIONS; params.request: name of the sampled request in it;
params.answer_key, params.stop: as for labels. output.samples: SAMPLES; output.votes: VOTES.
"""

from weak_to_strong.labels import read_answers, select_request
from weak_to_strong.logs import logger, run_script
from weak_to_strong.majority_vote import SAMPLES, majority_vote
from weak_to_strong.tables import GENERATIONS, VOTES, read_table, write_table


def main(snakemake) -> None:
    params = snakemake.params
    generations = select_request(
        read_table(snakemake.input.generations, GENERATIONS), params.request
    )
    samples = read_answers(generations, params.answer_key, params.stop)
    votes = majority_vote(samples)
    write_table(samples, SAMPLES, snakemake.output.samples)
    write_table(votes, VOTES, snakemake.output.votes)
    logger.info("%d questions, mean confidence %.3f", len(votes), votes["confidence"].mean())


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
