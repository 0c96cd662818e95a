"""Were the results made by the present configuration and code: records, and `snakemake verify`."""

from contextlib import suppress

from weak_to_strong.jobs.metadata import follow_records

if is_first_process(workflow):
    # OSError: whoever may only read the folder can still look at the plan.
    with faults_in_one_line(WorkflowError), suppress(OSError):
        others = (f"{PREFIX}results/published", f"{PREFIX}results/embedded", comparison.root)
        for root in (paths.root, *others):
            follow_records(Path(root))


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
