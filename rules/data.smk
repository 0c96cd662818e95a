"""Raw data -> canonical tables and splits (paper section 4.1)."""


rule fetch_source:
    """Download one raw file of a task, at the commit or with the sha256 that its entry names."""
    output:
        file=paths.source,
    log:
        paths.log("fetch_source", "{task}/{name}"),
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("fetch_source"),
        source=lambda wildcards: raw_files.remote_entry(wildcards.task, wildcards.name),
    message:
        "Raw file {wildcards.name} of task {wildcards.task}"
    script:
        "../scripts/fetch_source.py"


rule problems:
    """One split as a canonical table, with gold answers: train_1, validation or a test set."""
    input:
        sources=lambda wildcards: raw_files.sources(wildcards.task, wildcards.split),
    output:
        problems=paths.split,
    log:
        paths.log("problems", "{task}/{split}"),
    wildcard_constraints:
        split=r"train_1|validation|test(-[A-Za-z0-9_-]+)?",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("problems"),
        task="{task}",
        split="{split}",
        local=lambda wildcards: raw_files.local_digests(wildcards.task, wildcards.split),
        settings=lambda wildcards: raw_files.data_settings(wildcards.task, wildcards.split),
    message:
        "Split {wildcards.split} of task {wildcards.task}"
    script:
        "../scripts/problems.py"


rule withhold_gold:
    """train_2: its questions, and apart from them the gold answers that are withheld."""
    input:
        sources=lambda wildcards: raw_files.sources(wildcards.task, "train_2"),
    output:
        questions=paths.questions,
        gold=paths.gold,
    log:
        paths.log("withhold_gold", "{task}"),
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("withhold_gold"),
        local=lambda wildcards: raw_files.local_digests(wildcards.task, "train_2"),
        task="{task}",
        settings=lambda wildcards: raw_files.data_settings(wildcards.task, "train_2"),
    message:
        "Split train_2 of task {wildcards.task}, gold apart"
    script:
        "../scripts/withhold_gold.py"


rule contamination:
    """Duplicates within splits and overlap between them; gold graded against itself."""
    input:
        sources=lambda wildcards: raw_files.sources(wildcards.task),
    output:
        report=paths.contamination,
    log:
        paths.log("contamination", "{task}"),
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("contamination"),
        local=lambda wildcards: raw_files.local_digests(wildcards.task),
        task="{task}",
        settings=lambda wildcards: raw_files.data_settings(wildcards.task),
        reading=lambda wildcards: reading_settings(wildcards.task),
        gold_unread=task_setting("gold_unread"),
    message:
        "Contamination report of task {wildcards.task}"
    script:
        "../scripts/contamination.py"
