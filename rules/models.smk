"""Base models, training and generation: one generic rule each, for every node of the graph."""


rule base_model:
    """Describe a base model by the hashes of its files; download or convert it where needed."""
    input:
        model=lambda wildcards: raw_files.base_files(wildcards.base),
    output:
        manifest=paths.base,
    log:
        paths.log("base_model", "{base}"),
    localrule: True
    conda:
        "../envs/inference.yaml"
    params:
        code=code("base_model"),
        local=lambda wildcards: digest_small(raw_files.base_files(wildcards.base)),
        name="{base}",
        entry=lambda wildcards: graph.experiment.base_entry(wildcards.base),
        folder=paths.base_folder,
    message:
        "Base model {wildcards.base}"
    script:
        "../scripts/base_model.py"


rule train:
    """Train a node: SFT, DPO or ORPO, from its base or from M_plus."""
    input:
        unpack(lambda wildcards: graph.training_files(node_of(wildcards))),
        splits=after_data_checks,
        rows=paths.rows,
    output:
        model=directory(paths.model),
        manifest=paths.manifest,
        history=paths.history,
    log:
        paths.log("train", "{chain}/{method}-{iteration}"),
    wildcard_constraints:
        method=methods_with("sft", "dpo", "orpo"),
    conda:
        "../envs/training.yaml"
    threads: 1
    resources:
        **training_job(checkpoint_steps=100, checkpoint_minutes=10, processes=0),
    params:
        code=code("train"),
        trainer=lambda wildcards: graph.method(node_of(wildcards)).trainer,
        settings=lambda wildcards: graph.training_settings(node_of(wildcards)),
        work=TRAINING_STORE,
    message:
        "Train {wildcards.method} (iteration {wildcards.iteration}) of {wildcards.chain}"
    script:
        "../scripts/train.py"


rule generate:
    """Serve all requests of a round; each of its engines loads a base model at most once."""
    input:
        files=lambda wildcards: graph.round_inputs(graph.round(wildcards.round)),
        splits=after_data_checks,
    output:
        generations=paths.generations,
        stats=paths.generation_stats,
    log:
        paths.log("generate", "{round}"),
    conda:
        "../envs/inference.yaml"
    threads: 2
    resources:
        **generation_job(
            shard_size=64,
            engine_processes=0,
            tensor_parallel_size=1,
            max_num_seqs=256,
            gpu_memory_percent=90,
        ),
    params:
        code=code("generate"),
        requests=lambda wildcards: graph.round_requests(graph.round(wildcards.round)),
        engine=lambda wildcards: graph.engine(task_of(wildcards)),
        work=REQUEST_STORE,
    message:
        "Generation round {wildcards.round}"
    script:
        "../scripts/generate.py"
