"""Scores, metrics with intervals and tests, and gold-based diagnostics (paper section 4)."""


rule score:
    """Score all answers of a task's models, by string equality and by mathematical equality."""
    input:
        generations=lambda wildcards: graph.evaluation_generations(wildcards.task),
        problems=lambda wildcards: graph.data(wildcards.task, evaluation.split),
    output:
        scores=paths.scores,
        agreement=paths.agreement,
    log:
        paths.log("score", "{task}"),
    conda:
        "../envs/analysis.yaml"
    threads: 2
    resources:
        **cpu_job(),
    params:
        code=code("score"),
        answer_key=task_setting("answer_key"),
        stop=task_setting("stop"),
        extraction=task_setting("extraction"),
        quirks=task_setting("quirks"),
        judge=judge,
        timeout_seconds=evaluation.math_timeout,
    message:
        "Score task {wildcards.task}"
    script:
        "../scripts/score.py"


rule metrics:
    """metrics.csv: every figure of the experiment, with its interval."""
    input:
        scores=collect(paths.scores, task=graph.tasks),
    output:
        csv=f"{paths.report}/metrics.csv",
        json=f"{paths.report}/metrics.json",
        table=f"{paths.report}/table.txt",
    log:
        paths.log("metrics"),
    conda:
        "../envs/analysis.yaml"
    resources:
        **cpu_job(),
    params:
        code=code("metrics"),
        experiment=graph.experiment.name,
        nodes=graph.evaluation_nodes(),
        split=evaluation.split,
        ks=evaluation.ks,
        bootstrap_draws=evaluation.bootstrap_draws,
        seed=0,
    message:
        "Metrics of experiment {params.experiment}"
    script:
        "../scripts/metrics.py"


rule diagnostics:
    """Quality of labels, filter, votes and pairs, against the withheld gold of train_2.

    Only this rule and the ceiling use that gold.
    """
    input:
        files=graph.diagnostic_files(),
    output:
        csv=f"{paths.report}/diagnostics.csv",
        json=f"{paths.report}/diagnostics.json",
    log:
        paths.log("diagnostics"),
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("diagnostics"),
        chains=graph.diagnostics(),
        bins=evaluation.calibration_bins,
    message:
        "Diagnostics of filter, votes and pairs"
    script:
        "../scripts/diagnostics.py"
