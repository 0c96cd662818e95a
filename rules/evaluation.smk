"""Scores, metrics with intervals and tests, and gold-based diagnostics (paper section 4)."""


rule score:
    """Two scorers side by side over everything that a task's models answered."""
    input:
        generations=lambda wildcards: [
            graph.generations(f"evaluation/{wildcards.task}/{base}")
            for base in graph.evaluation_bases(wildcards.task)
        ],
        problems=lambda wildcards: graph.data(wildcards.task, SETTINGS["evaluation"]["split"]),
    output:
        scores=f"{RESULTS}/scores/{{task}}.parquet",
        agreement=f"{RESULTS}/scores/{{task}}.json",
    log:
        f"{RESULTS}/logs/score/{{task}}.log",
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
        judge=judge_settings,
        timeout_seconds=SETTINGS["evaluation"]["math_timeout"],
    message:
        "Score task {wildcards.task}"
    script:
        "../scripts/score.py"


rule metrics:
    """metrics.csv: every figure of the experiment, with its interval."""
    input:
        scores=collect(f"{RESULTS}/scores/{{task}}.parquet", task=graph.tasks),
    output:
        csv=f"{RESULTS}/report/metrics.csv",
        json=f"{RESULTS}/report/metrics.json",
        table=f"{RESULTS}/report/table.txt",
    log:
        f"{RESULTS}/logs/metrics.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        **cpu_job(),
    params:
        code=code("metrics"),
        experiment=SETTINGS["experiment"],
        nodes=graph.evaluation_nodes(),
        split=SETTINGS["evaluation"]["split"],
        ks=SETTINGS["evaluation"]["ks"],
        bootstrap_draws=SETTINGS["evaluation"]["bootstrap_draws"],
        seed=0,
    message:
        "Metrics of experiment {params.experiment}"
    script:
        "../scripts/metrics.py"


rule diagnostics:
    """The only use of train_2's gold answers but the ceiling: quality of filter and pairs."""
    input:
        files=diagnostic_files,
    output:
        csv=f"{RESULTS}/report/diagnostics.csv",
        json=f"{RESULTS}/report/diagnostics.json",
    log:
        f"{RESULTS}/logs/diagnostics.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("diagnostics"),
        chains=graph.diagnostics(),
        bins=SETTINGS["evaluation"]["calibration_bins"],
    message:
        "Diagnostics of filter, votes and pairs"
    script:
        "../scripts/diagnostics.py"
