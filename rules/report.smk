"""Plots and the self-contained report page."""

FIGURES = ("accuracy", "iterations", "filter", "pass_at_k", "calibration")


rule plots:
    """The figures of the report as SVG and PNG."""
    input:
        metrics=rules.metrics.output.csv,
        diagnostics=rules.diagnostics.output.csv,
    output:
        **{
            f"{figure}_{kind}": report(
                f"{RESULTS}/report/plots/{figure}.{kind}",
                caption="../resources/captions/plots.rst",
                category="Figures",
                labels={"figure": figure, "format": kind},
            )
            for figure in FIGURES
            for kind in ("svg", "png")
        },
    log:
        f"{RESULTS}/logs/plots.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("plots"),
    message:
        "Figures"
    script:
        "../scripts/plots.py"


rule report:
    """One HTML page that needs no network, with what the run cost."""
    input:
        metrics=rules.metrics.output.csv,
        metrics_json=rules.metrics.output.json,
        diagnostics=rules.diagnostics.output.csv,
        plots=[f"{RESULTS}/report/plots/{figure}.svg" for figure in FIGURES],
        scores=collect(f"{RESULTS}/scores/{{task}}.parquet", task=graph.tasks),
        agreement=collect(f"{RESULTS}/scores/{{task}}.json", task=graph.tasks),
        generations=[
            graph.generations(f"evaluation/{task}/{base}")
            for task in graph.tasks
            for base in graph.evaluation_bases(task)
        ],
        problems=[graph.data(task, SETTINGS["evaluation"]["split"]) for task in graph.tasks],
        contamination=collect(f"{RESULTS}/data/{{task}}/contamination.csv", task=graph.tasks),
        template=own_file("scripts/weak_to_strong/report/page.html.j2"),
    output:
        html=report(
            f"{RESULTS}/report/index.html",
            caption="../resources/captions/report.rst",
            category="Report",
        ),
        costs=f"{RESULTS}/report/costs.csv",
        ledger=f"{RESULTS}/report/ledger.csv",
    log:
        f"{RESULTS}/logs/report.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("report"),
        experiment=SETTINGS["experiment"],
        config=SETTINGS,
        nodes=graph.evaluation_nodes(),
        tasks=graph.tasks,
        logs=f"{RESULTS}/logs",
    message:
        "Report of experiment {params.experiment}"
    script:
        "../scripts/report.py"
