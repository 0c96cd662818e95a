"""Were the results made by the present configuration and code: records, and `snakemake verify`."""

from contextlib import suppress

from weak_to_strong.jobs.metadata import follow_records
from weak_to_strong.jobs.snakemake_adapter import job_facts
from weak_to_strong.jobs.verify import find_stale

if is_first_process(workflow):
    # OSError: whoever may only read the folder can still look at the plan.
    with faults_in_one_line(WorkflowError), suppress(OSError):
        for root in (paths.root, "results/published", "results/embedded"):
            follow_records(Path(root))


def stale_jobs(wildcards):
    """Parameter function: a line for each job that other parameters or other code have made."""
    return find_stale(Path(paths.root), lambda *job: job_facts(workflow, *job))


rule verify:
    """Rehash an experiment's results against their record; runs no other rule."""
    log:
        paths.log("verify"),
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        root=paths.root,
        experiment=graph.experiment.name,
        config=graph.deciding_settings(),
        stale=stale_jobs,
    message:
        "Verify the results of experiment {params.experiment}"
    script:
        "../scripts/verify.py"
