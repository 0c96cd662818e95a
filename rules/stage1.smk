"""Stage I: agreement filter and supervised fine-tuning sets (paper section 3.1)."""


rule agreement_filter:
    """Keep a question if and only if the weak and the ICL final answers agree."""
    input:
        weak=lambda wildcards: graph.labels(
            Chain.parse(wildcards.chain), "weak", int(wildcards.iteration)
        ),
        icl=lambda wildcards: graph.labels(
            Chain.parse(wildcards.chain), "icl", int(wildcards.iteration)
        ),
        questions=questions_file,
    output:
        kept=f"{RESULTS}/filter/{{chain}}/kept-{{iteration}}.parquet",
        summary=f"{RESULTS}/filter/{{chain}}/kept-{{iteration}}.json",
    log:
        f"{RESULTS}/logs/agreement_filter/{{chain}}/{{iteration}}.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("agreement_filter"),
        settings=chain_setting("filter"),
        judge=judge_settings,
    message:
        "Agreement filter, iteration {wildcards.iteration}: {wildcards.chain}"
    script:
        "../scripts/agreement_filter.py"


rule sft_set:
    """Training rows of any node that is trained with SFT, gold ones included."""
    input:
        unpack(set_files),
    output:
        rows=f"{RESULTS}/models/{{chain}}/{{method}}-{{iteration}}/rows.parquet",
        export=f"{RESULTS}/models/{{chain}}/{{method}}-{{iteration}}/rows.json",
    log:
        f"{RESULTS}/logs/sft_set/{{chain}}/{{method}}-{{iteration}}.log",
    wildcard_constraints:
        method=methods_with(("sft",)),
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        code=code("sft_set"),
        kind=lambda wildcards: graph.method(node_of(wildcards))["data"],
        answer_key=task_setting("answer_key"),
        prompt=task_setting("prompt"),
    message:
        "SFT set of {wildcards.method} (iteration {wildcards.iteration}): {wildcards.chain}"
    script:
        "../scripts/sft_set.py"
