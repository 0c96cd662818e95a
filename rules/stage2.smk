"""Stage II: votes over the samples of M_plus, and contrastive pairs (paper section 3.2).

Beside it, the questions of methods that learn from rewards of their own samples.
"""


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
        answer_after=task_setting("answer_after"),
        judge=judge,
    message:
        "Majority vote: {wildcards.chain}"
    script:
        "../scripts/majority_vote.py"


rule pairs:
    """Contrastive pairs of any node that is trained on preferences, or their chosen answers."""
    input:
        unpack(lambda wildcards: graph.training_inputs(node_of(wildcards))),
    output:
        rows=paths.rows,
        export=paths.rows_export,
    log:
        paths.log("pairs", "{chain}/{method}-{iteration}"),
    wildcard_constraints:
        method=methods_on(*KINDS_FROM_PAIRS),
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("pairs"),
        kind=lambda wildcards: graph.method(node_of(wildcards)).data,
        seed=lambda wildcards: chain_of(wildcards).seed,
        settings=lambda wildcards: graph.pair_settings(node_of(wildcards)),
        prompt=task_setting("prompt"),
        reasoning=task_setting("reasoning"),
        judge=judge,
    message:
        "Pairs of {wildcards.method}: {wildcards.chain}"
    script:
        "../scripts/pairs.py"


rule reward_rows:
    """Questions of any node that is trained by reward, with the answers that are rewarded."""
    input:
        unpack(lambda wildcards: graph.training_inputs(node_of(wildcards))),
    output:
        rows=paths.rows,
    log:
        paths.log("reward_rows", "{chain}/{method}-{iteration}"),
    wildcard_constraints:
        method=methods_on(QUESTIONS_KIND),
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("reward_rows"),
        reward=lambda wildcards: graph.method(node_of(wildcards)).reward,
        prompt=task_setting("prompt"),
        quirks=task_setting("quirks"),
        judge=judge,
    message:
        "Questions of {wildcards.method}: {wildcards.chain}"
    script:
        "../scripts/reward_rows.py"
