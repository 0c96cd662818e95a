"""Base models, training and generation: one generic rule each, for every node of the graph."""


rule base_model:
    """Describe a base model by the hashes of its files; download or convert it where needed."""
    input:
        model=base_files,
    output:
        manifest=f"{RESULTS}/bases/{{base}}.json",
    log:
        f"{RESULTS}/logs/base_model/{{base}}.log",
    localrule: True
    conda:
        "../envs/inference.yaml"
    params:
        code=code("base_model"),
        local=lambda wildcards: digest_small(base_files(wildcards)),
        name="{base}",
        entry=base_entry,
        folder=f"{RESULTS}/bases/{{base}}",
    message:
        "Base model {wildcards.base}"
    script:
        "../scripts/base_model.py"


rule train:
    """Train a node: SFT, DPO or ORPO, from its base or from M_plus."""
    input:
        unpack(training_files),
        splits=lambda wildcards: all_splits(node_of(wildcards).chain.task),
        rows=f"{RESULTS}/models/{{chain}}/{{method}}-{{iteration}}/rows.parquet",
    output:
        model=directory(f"{RESULTS}/models/{{chain}}/{{method}}-{{iteration}}/model"),
        manifest=f"{RESULTS}/models/{{chain}}/{{method}}-{{iteration}}/manifest.json",
        history=f"{RESULTS}/models/{{chain}}/{{method}}-{{iteration}}/history.json",
    log:
        f"{RESULTS}/logs/train/{{chain}}/{{method}}-{{iteration}}.log",
    wildcard_constraints:
        method=methods_with(("sft", "dpo", "orpo")),
    conda:
        "../envs/training.yaml"
    threads: 1
    resources:
        **training_job(checkpoint_steps=100, checkpoint_minutes=10, processes=0),
    params:
        code=code("train"),
        trainer=lambda wildcards: graph.method(node_of(wildcards))["trainer"],
        settings=lambda wildcards: graph.training_settings(node_of(wildcards)),
        work="results/store/training",
    message:
        "Train {wildcards.method} (iteration {wildcards.iteration}) of {wildcards.chain}"
    script:
        "../scripts/train.py"


rule generate:
    """Serve all requests of a round; each of its engines loads a base model at most once."""
    input:
        files=lambda wildcards: graph.round_inputs(wildcards.round),
        splits=lambda wildcards: all_splits(
            wildcards.round.removeprefix("evaluation/").partition("/")[0]
        ),
    output:
        generations=f"{RESULTS}/generations/{{round}}.parquet",
        stats=f"{RESULTS}/generations/{{round}}.json",
    log:
        f"{RESULTS}/logs/generate/{{round}}.log",
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
        requests=lambda wildcards: graph.round_requests(wildcards.round),
        engine=lambda wildcards: graph.engine(wildcards.round),
        work="results/store/requests",
    message:
        "Generation round {wildcards.round}"
    script:
        "../scripts/generate.py"
