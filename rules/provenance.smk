"""Are the results still what the jobs made: `snakemake verify`."""


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
    message:
        "Verify the results of experiment {params.experiment}"
    script:
        "../scripts/verify.py"
