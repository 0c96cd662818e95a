"""Stage II: votes over the samples of M_plus, and contrastive pairs (paper section 3.2)."""


rule majority_vote:
    """Majority answer of the samples of each question, and its share: the confidence."""
    input:
        generations=f"{RESULTS}/generations/{{chain}}/samples.parquet",
        questions=questions_file,
    output:
        votes=f"{RESULTS}/votes/{{chain}}/votes.parquet",
        samples=f"{RESULTS}/votes/{{chain}}/samples.parquet",
    log:
        f"{RESULTS}/logs/majority_vote/{{chain}}.log",
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
        judge=judge_settings,
    message:
        "Majority vote: {wildcards.chain}"
    script:
        "../scripts/majority_vote.py"


rule pairs:
    """Contrastive pairs of any node that is trained on preferences."""
    input:
        unpack(set_files),
    output:
        rows=f"{RESULTS}/models/{{chain}}/{{method}}-{{iteration}}/rows.parquet",
        export=f"{RESULTS}/models/{{chain}}/{{method}}-{{iteration}}/rows.json",
    log:
        f"{RESULTS}/logs/pairs/{{chain}}/{{method}}-{{iteration}}.log",
    wildcard_constraints:
        method=methods_with(("dpo", "orpo")),
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("pairs"),
        settings=lambda wildcards: graph.pair_settings(node_of(wildcards)),
        prompt=task_setting("prompt"),
        judge=judge_settings,
    message:
        "Pairs of {wildcards.method}: {wildcards.chain}"
    script:
        "../scripts/pairs.py"
