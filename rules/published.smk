"""The authors' released data, regenerated: `snakemake published --config published_dir=DIR`.

There are two rules, because Snakemake removes what a failed job wrote: so `check.csv` stays when a
check has failed.
"""


rule check_released:
    """check.csv: each released file against what this workflow's own functions make of it."""
    input:
        released=released_files,
        golden=own_file("resources/golden_counts.csv"),
    output:
        checks=f"{PREFIX}results/published/check.csv",
    log:
        f"{PREFIX}results/published/logs/check_released.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("check_released"),
        published_dir=PUBLISHED_DIR,
    message:
        "Check of the released data in {params.published_dir}"
    script:
        "../scripts/check_released.py"


rule published:
    """Summary of the checks. It fails where a check failed."""
    input:
        checks=rules.check_released.output.checks,
    output:
        summary=f"{PREFIX}results/published/summary.txt",
    log:
        f"{PREFIX}results/published/logs/published.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("published"),
    message:
        "Verdict on the released data"
    script:
        "../scripts/published.py"
