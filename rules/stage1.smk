"""Stage I: agreement filter and supervised fine-tuning sets (paper section 3.1)."""


rule agreement_filter:
    """Keep a question if and only if the weak and the ICL final answers agree."""
    input:
        weak=labels("weak"),
        icl=labels("icl"),
        questions=questions,
    output:
        kept=paths.kept,
        summary=paths.kept_summary,
    log:
        paths.log("agreement_filter", "{chain}/{iteration}"),
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("agreement_filter"),
        settings=chain_setting("filter"),
        judge=judge,
    message:
        "Agreement filter, iteration {wildcards.iteration}: {wildcards.chain}"
    script:
        "../scripts/agreement_filter.py"


rule sft_set:
    """Training rows of any node that is trained with SFT, but those made from the built-in pairs."""
    input:
        unpack(lambda wildcards: graph.training_inputs(node_of(wildcards))),
    output:
        rows=paths.rows,
        export=paths.rows_export,
    log:
        paths.log("sft_set", "{chain}/{method}-{iteration}"),
    wildcard_constraints:
        method=methods_on(*TABLES_OF_KIND),
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("sft_set"),
        kind=lambda wildcards: graph.kind_of_rows(node_of(wildcards)),
        seed=lambda wildcards: chain_of(wildcards).seed,
        answer_key=task_setting("answer_key"),
        prompt=task_setting("prompt"),
        reasoning=task_setting("reasoning"),
    message:
        "SFT set of {wildcards.method} (iteration {wildcards.iteration}): {wildcards.chain}"
    script:
        "../scripts/sft_set.py"
