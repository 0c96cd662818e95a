"""Figures and the report, one page that holds everything it shows."""

FIGURES = ("accuracy", "iterations", "stage2", "filter", "pass_at_k", "calibration", "selection")


rule plots:
    """The figures of the report as SVG and PNG."""
    input:
        metrics=rules.metrics.output.csv,
        diagnostics=rules.diagnostics.output.csv,
    output:
        **{
            f"{figure}_{kind}": report(
                paths.figure.format(figure=figure, format=kind),
                caption="../resources/captions/plots.rst",
                category="Figures",
                labels={"figure": figure, "format": kind},
            )
            for figure in FIGURES
            for kind in ("svg", "png")
        },
    log:
        paths.log("plots"),
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
        plots=collect(paths.figure, figure=FIGURES, format="svg"),
        scores=collect(paths.scores, evaluated=EVALUATED),
        agreement=collect(paths.agreement, evaluated=EVALUATED),
        generations=graph.evaluation_generations(),
        problems=[
            graph.evaluated_split(evaluated).path(paths) for evaluated in graph.evaluated_sets()
        ],
        contamination=collect(paths.contamination, task=graph.tasks),
        template=page_templates("page.html.j2"),
    output:
        html=report(
            paths.page,
            caption="../resources/captions/report.rst",
            category="Report",
        ),
        costs=f"{paths.report}/costs.csv",
        ledger=f"{paths.report}/ledger.csv",
        models=paths.models_table,
    log:
        paths.log("report"),
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("report"),
        experiment=graph.experiment.name,
        config=graph.deciding_settings(),
        nodes=graph.evaluation_nodes(),
        sources=graph.model_sources(),
        tasks=graph.tasks,
        prices=graph.prices(),
        evaluated=EVALUATED,
        logs=paths.logs,
    message:
        "Report of experiment {params.experiment}"
    script:
        "../scripts/report.py"
