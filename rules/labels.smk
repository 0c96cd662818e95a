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
        answer_after=task_setting("answer_after"),
        judge=judge,
    message:
        "Labels of the {wildcards.side} side, iteration {wildcards.iteration}: {wildcards.chain}"
    script:
        "../scripts/extract_labels.py"


rule demonstrations:
    """Few-shot demonstrations drawn from the weak labels, with no check of correctness.

    Where a variant breaks them on purpose, they are gold solutions of train_1.
    """
    input:
        unpack(lambda wildcards: graph.demonstration_inputs(chain_of(wildcards))),
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
        answer_after=task_setting("answer_after"),
        answer_key=lambda wildcards: graph.gold_answer_key(chain_of(wildcards)),
    message:
        "Demonstrations: {wildcards.chain}"
    script:
        "../scripts/demonstrations.py"
