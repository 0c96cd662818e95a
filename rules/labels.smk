"""Weak labels and ICL labels of train_2 (paper section 3.1)."""


rule extract_labels:
    """One side's cleaned answers and final answers: the weak labels or the ICL labels."""
    input:
        generations=label_generations,
    output:
        labels=f"{RESULTS}/labels/{{chain}}/{{side}}-{{iteration}}.parquet",
    log:
        f"{RESULTS}/logs/extract_labels/{{chain}}/{{side}}-{{iteration}}.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("extract_labels"),
        request="{side}-{iteration}",
        answer_key=task_setting("answer_key"),
        stop=task_setting("stop"),
        extraction=task_setting("extraction"),
        quirks=task_setting("quirks"),
        judge=judge_settings,
    message:
        "Labels of the {wildcards.side} side, iteration {wildcards.iteration}: {wildcards.chain}"
    script:
        "../scripts/extract_labels.py"


rule demonstrations:
    """Few-shot demonstrations drawn from the weak labels, with no check of correctness."""
    input:
        weak_labels=lambda wildcards: graph.labels(Chain.parse(wildcards.chain), "weak", 1),
        questions=questions_file,
    output:
        demonstrations=f"{RESULTS}/labels/{{chain}}/demonstrations.parquet",
    log:
        f"{RESULTS}/logs/demonstrations/{{chain}}.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("demonstrations"),
        shots=lambda wildcards: chain_setting("demonstrations")(wildcards)["count"],
        ids=lambda wildcards: chain_setting("demonstrations")(wildcards)["ids"],
        seed=lambda wildcards: Chain.parse(wildcards.chain).seed,
        prompt=task_setting("prompt"),
    message:
        "Demonstrations: {wildcards.chain}"
    script:
        "../scripts/demonstrations.py"
