"""Raw data -> canonical tables and splits (paper section 4.1)."""


rule fetch_source:
    """Bring one raw file of a task here, checked against its pin."""
    output:
        file=f"{RESULTS}/data/{{task}}/sources/{{name}}",
    log:
        f"{RESULTS}/logs/fetch_source/{{task}}/{{name}}.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("fetch_source"),
        source=remote_source,
    message:
        "Raw file {wildcards.name} of task {wildcards.task}"
    script:
        "../scripts/fetch_source.py"


rule problems:
    """One split as a canonical table, with gold answers: train_1, validation or test."""
    input:
        sources=lambda wildcards: source_files(wildcards.task, wildcards.split),
    output:
        problems=f"{RESULTS}/data/{{task}}/{{split}}.parquet",
    log:
        f"{RESULTS}/logs/problems/{{task}}/{{split}}.log",
    wildcard_constraints:
        split="train_1|validation|test",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("problems"),
        task="{task}",
        split="{split}",
        local=lambda wildcards: local_digests(wildcards.task, wildcards.split),
        settings=lambda wildcards: data_settings(wildcards.task, wildcards.split),
    message:
        "Split {wildcards.split} of task {wildcards.task}"
    script:
        "../scripts/problems.py"


rule withhold_gold:
    """train_2: its questions, and apart from them the gold answers that are withheld."""
    input:
        sources=lambda wildcards: source_files(wildcards.task, "train_2"),
    output:
        questions=f"{RESULTS}/data/{{task}}/train_2.parquet",
        gold=f"{RESULTS}/data/{{task}}/train_2_gold.parquet",
    log:
        f"{RESULTS}/logs/withhold_gold/{{task}}.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("withhold_gold"),
        local=lambda wildcards: local_digests(wildcards.task, "train_2"),
        task="{task}",
        settings=lambda wildcards: data_settings(wildcards.task, "train_2"),
    message:
        "Split train_2 of task {wildcards.task}, gold apart"
    script:
        "../scripts/withhold_gold.py"


rule contamination:
    """Duplicates within splits and overlap between them; gold graded against itself."""
    input:
        sources=lambda wildcards: source_files(wildcards.task),
    output:
        report=f"{RESULTS}/data/{{task}}/contamination.csv",
    log:
        f"{RESULTS}/logs/contamination/{{task}}.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("contamination"),
        local=lambda wildcards: local_digests(wildcards.task),
        task="{task}",
        settings=lambda wildcards: data_settings(wildcards.task),
        reading=lambda wildcards: reading_settings(wildcards.task),
        gold_unread=task_setting("gold_unread"),
    message:
        "Contamination report of task {wildcards.task}"
    script:
        "../scripts/contamination.py"
