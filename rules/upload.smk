"""A model or the result tables, to a repository of the Hub: `snakemake upload`."""

with faults_in_one_line(WorkflowError):
    uploaded_model = model_to_upload()


rule upload:
    """Show what would be uploaded, file by file, or upload it; runs no other rule."""
    log:
        paths.log("upload"),
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        settings=graph.config["upload"],
        root=paths.root,
        experiment=graph.experiment.name,
        report=paths.report,
        model=uploaded_model,
        gold=collect(paths.gold, task=graph.tasks),
        stale=stale_jobs,
    message:
        "Upload from experiment {params.experiment}"
    script:
        "../scripts/upload.py"
