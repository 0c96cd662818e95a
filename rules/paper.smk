"""The paper's tables and figures: published, reproduced, and the difference.

`snakemake paper` runs the experiment for them; `snakemake published_tables` runs nothing and leaves
every reproduced cell "not run".
"""

PAPER_TABLES = (
    "main",
    "stage1",
    "stage2",
    "levels",
    "pass_at_k",
    "olympicarena",
    "ablations",
    "data",
)
#: Tables of percentages, which also have a figure.
PAPER_FIGURES = ("main", "stage1", "stage2", "levels", "pass_at_k", "olympicarena")
PUBLISHED_RESULTS = own_file("resources/published_results.csv")


rule paper:
    """Tables and figures of the paper, with what this experiment reproduced of them."""
    input:
        published=PUBLISHED_RESULTS,
        metrics=rules.metrics.output.csv,
        diagnostics=rules.diagnostics.output.csv,
        contamination=collect(paths.contamination, task=graph.tasks),
    output:
        **{
            f"{table}_{kind}": paths.paper_table.format(table=table, format=kind)
            for table in PAPER_TABLES
            for kind in ("csv", "md", "tex")
        },
        **{
            f"{table}_{kind}": paths.paper_table.format(table=table, format=kind)
            for table in PAPER_FIGURES
            for kind in ("svg", "png")
        },
    log:
        paths.log("paper"),
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("paper"),
        names=graph.published_names(),
        tasks=graph.tasks,
    message:
        f"The paper's tables, with experiment {graph.experiment.name}"
    script:
        "../scripts/paper.py"


rule published_tables:
    """The same tables with the published figures alone."""
    input:
        published=PUBLISHED_RESULTS,
    output:
        **{
            f"{table}_{kind}": f"{PREFIX}results/published/tables/{table}.{kind}"
            for table in PAPER_TABLES
            for kind in ("csv", "md", "tex")
        },
    log:
        f"{PREFIX}results/published/logs/published_tables.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("published_tables"),
    message:
        "The paper's tables, published figures alone"
    script:
        "../scripts/published_tables.py"
