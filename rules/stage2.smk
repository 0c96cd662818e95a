"""Stage II: votes over the samples of M_plus, and contrastive pairs (paper section 3.2)."""


rule majority_vote:
    """Majority answer of the samples of each question, and its share: the confidence."""
    input:
        generations=paths.samples,
        questions=questions,
    output:
        votes=paths.votes,
        samples=paths.voted_samples,
    log:
        paths.log("majority_vote", "{chain}"),
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("majority_vote"),
        request="samples",
        answer_key=task_setting("answer_key"),
        stop=task_setting("stop"),
        extraction=task_setting("extraction"),
        quirks=task_setting("quirks"),
        judge=judge,
    message:
        "Majority vote: {wildcards.chain}"
    script:
        "../scripts/majority_vote.py"


rule pairs:
    """Contrastive pairs of any node that is trained on preferences."""
    input:
        unpack(lambda wildcards: graph.training_inputs(node_of(wildcards))),
    output:
        rows=paths.rows,
        export=paths.rows_export,
    log:
        paths.log("pairs", "{chain}/{method}-{iteration}"),
    wildcard_constraints:
        method=methods_with("dpo", "orpo"),
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("pairs"),
        settings=lambda wildcards: graph.pair_settings(node_of(wildcards)),
        prompt=task_setting("prompt"),
        judge=judge,
    message:
        "Pairs of {wildcards.method}: {wildcards.chain}"
    script:
        "../scripts/pairs.py"
