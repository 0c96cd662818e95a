"""Scores, metrics with intervals and tests, and gold-based diagnostics (paper section 4)."""


rule score:
    """Score the answers of a task's models to a test set, as strings and as mathematics."""
    input:
        generations=lambda wildcards: graph.evaluation_generations(evaluated_of(wildcards)),
        problems=lambda wildcards: graph.evaluated_split(evaluated_of(wildcards)).path(paths),
    output:
        scores=paths.scores,
        agreement=paths.agreement,
    log:
        paths.log("score", "{evaluated}"),
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
        answer_after=task_setting("answer_after"),
        chat=lambda wildcards: graph.task(task_of(wildcards)).chat is not None,
        judge=judge,
        timeout_seconds=evaluation.math_timeout,
    message:
        "Score task {wildcards.evaluated}"
    script:
        "../scripts/score.py"


rule metrics:
    """metrics.csv: every figure of the experiment, with its interval."""
    input:
        scores=collect(paths.scores, evaluated=EVALUATED),
    output:
        csv=paths.metrics,
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
        trackers=paths.trackers,
    message:
        "Metrics of experiment {params.experiment}"
    script:
        "../scripts/metrics.py"


rule diagnostics:
    """Quality of labels, filter, votes and pairs, against the withheld gold of train_2.

    That gold is also read by the check before any training (`contamination`) and by the ceilings:
    the strong model tuned on gold, and trainings with `reward: gold`.
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
