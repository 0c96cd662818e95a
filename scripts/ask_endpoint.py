"""Ask a model behind an endpoint for the texts of all requests of a round.

Input:
    files: every file that a request names. The script finds them by the requests.
    splits: the task's contamination report. The script does not read it. A bad split so ends the
        run before anything is asked.
Params:
    requests: list of mappings, see `generation.requests.Request`.
    model: name of the model in the configuration.
    work: folder of finished answers. Keep it between runs.
Resources:
    key_env: name of the environment variable that holds the key; "" for none.
    requests_at_once: most requests under way.
    request_retries: further tries of a request.
    request_seconds: most seconds of one try.
Output:
    generations: GENERATIONS, ordered by request, problem and sample.
    stats: JSON, request -> its key in the store, its counts of samples and tokens, and what the
        server called the models that answered.
"""

from typing import Any

from weak_to_strong.generation.endpoint_client import Access
from weak_to_strong.generation.endpoint_round import ask_round
from weak_to_strong.jobs.script import run_script
from weak_to_strong.models.endpoints import read_key
from weak_to_strong.tables.files import write_json
from weak_to_strong.tables.frames import write_batches
from weak_to_strong.tables.schemas import GENERATIONS


def main(snakemake: Any) -> dict[str, Any]:
    """Ask for the round; return what this job asked for, for its record."""
    resources, key = snakemake.resources, f"models.{snakemake.params.model}.endpoint"
    access = Access(
        key=read_key(resources.key_env, key),
        requests_at_once=resources.requests_at_once,
        retries=resources.request_retries,
        timeout=resources.request_seconds,
    )
    generations, stats, cost = ask_round(
        snakemake.params.requests, snakemake.params.work, access, key
    )
    write_batches(generations, GENERATIONS, snakemake.output.generations)
    write_json(stats, snakemake.output.stats)
    return cost


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
