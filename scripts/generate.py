"""Generate the texts of all requests of a round.

Input:
    files: every file that a request names. The script finds them by the requests.
    splits: the task's contamination report. The script does not read it. A bad split so ends the
        run before anything is generated.
Params:
    requests: list of mappings, see `generation.requests.Request`.
    engine: mapping, see `generation.engine_settings.EngineSettings`.
    work: folder of finished samples. Keep it between runs.
    trackers: folder of the experiment's runs in trackers (`jobs.trackers`).
Resources:
    shard_size: number of prompts that are generated, and stored, together.
    tensor_parallel_size: number of GPUs of a node that share an engine's layers.
    pipeline_parallel_size: number of nodes among which an engine's layers are divided.
    engine_processes: number of engines that share the work. 0 means as many as the job's GPUs have
        room for (`tensor_parallel_size` GPUs of each of `pipeline_parallel_size` nodes), or one for
        each thread without GPUs.
    gpu: number of GPUs of the job.
    max_num_seqs: most samples that an engine generates at once.
    gpu_memory_percent: share of a GPU's memory that an engine takes.
Output:
    generations: GENERATIONS, ordered by request, problem and sample.
    stats: JSON, request -> its key in the store and its counts of samples and tokens.
"""

from typing import Any

from weak_to_strong.generation.rounds import generate_round, generation_figures
from weak_to_strong.jobs.allocation import find_allocation
from weak_to_strong.jobs.script import run_script
from weak_to_strong.jobs.trackers import report_figures, tracked_run
from weak_to_strong.tables.files import write_json
from weak_to_strong.tables.frames import write_batches
from weak_to_strong.tables.schemas import GENERATIONS


def main(snakemake: Any) -> dict[str, Any]:
    """Serve the round; return what this job generated, for its record."""
    resources, threads = snakemake.resources, snakemake.threads
    allocation = find_allocation(resources, threads)
    size, nodes = resources.tensor_parallel_size, resources.pipeline_parallel_size
    generations, stats, cost = generate_round(
        snakemake.params.requests,
        {
            **snakemake.params.engine,
            "shard_size": resources.shard_size,
            "max_num_seqs": resources.max_num_seqs,
            "gpu_memory_utilization": resources.gpu_memory_percent / 100,
            "tensor_parallel_size": size,
            "pipeline_parallel_size": nodes,
            "processes": resources.engine_processes
            or (allocation.engines(size, nodes) if allocation else threads),
        },
        snakemake.params.work,
        allocation.cpus if allocation else threads,
        allocation,
    )
    write_batches(generations, GENERATIONS, snakemake.output.generations)
    write_json(stats, snakemake.output.stats)
    run = tracked_run(snakemake.wildcards.round, snakemake.params.trackers)
    report_figures(run, generation_figures(cost))
    return cost


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
