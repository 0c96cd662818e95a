"""Weak labels and ICL labels of train_2 (paper section 3.1)."""


rule extract_labels:
    """Read the answers of one side: the weak labels or the ICL labels."""
    input:
        generations=lambda wildcards: graph.label_generations(
            chain_of(wildcards), wildcards.side, int(wildcards.iteration)
        ),
    output:
        labels=paths.labels,
    log:
        paths.log("extract_labels", "{chain}/{side}-{iteration}"),
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
        judge=judge,
    message:
        "Labels of the {wildcards.side} side, iteration {wildcards.iteration}: {wildcards.chain}"
    script:
        "../scripts/extract_labels.py"


rule demonstrations:
    """Few-shot demonstrations drawn from the weak labels, with no check of correctness."""
    input:
        weak_labels=lambda wildcards: graph.labels(chain_of(wildcards), "weak", 1),
        questions=questions,
    output:
        demonstrations=paths.demonstrations,
    log:
        paths.log("demonstrations", "{chain}"),
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("demonstrations"),
        shots=lambda wildcards: graph.settings(chain_of(wildcards)).demonstrations["count"],
        ids=lambda wildcards: graph.settings(chain_of(wildcards)).demonstrations["ids"],
        repeat_question=lambda wildcards: graph.settings(chain_of(wildcards)).demonstrations[
            "repeat_question"
        ],
        seed=lambda wildcards: chain_of(wildcards).seed,
        prompt=task_setting("prompt"),
    message:
        "Demonstrations: {wildcards.chain}"
    script:
        "../scripts/demonstrations.py"
