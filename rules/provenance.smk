"""Are the results still what the jobs made: `snakemake verify`."""


rule verify:
    """Rehash an experiment's results against their record; runs no other rule."""
    log:
        f"{RESULTS}/logs/verify.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        root=RESULTS,
        experiment=SETTINGS["experiment"],
        config=SETTINGS,
        metadata=".snakemake/metadata",
    message:
        "Verify the results of experiment {params.experiment}"
    script:
        "../scripts/verify.py"
