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
    """Train a node, from its base or from M_plus."""
    input:
        unpack(lambda wildcards: graph.training_files(node_of(wildcards))),
        splits=after_data_checks,
        rows=lambda wildcards: graph.rows(node_of(wildcards)),
        # Its digest tells a changed function from a changed comment.
        function=lambda wildcards: ancient(
            function_files(graph.method(node_of(wildcards)).reward_function)
        ),
    output:
        model=directory(paths.model),
        manifest=paths.manifest,
        history=paths.history,
    log:
        paths.log("train", "{chain}/{method}-{iteration}"),
    wildcard_constraints:
        method=methods_with(*TRAINERS),
    conda:
        "../envs/training.yaml"
    threads: 1
    resources:
        **training_job(checkpoint_steps=100, checkpoint_minutes=10, processes=0),
    params:
        code=code("train"),
        trainer_code=lambda wildcards: trainer_code(graph.method(node_of(wildcards)).trainer),
        trainer=lambda wildcards: graph.method(node_of(wildcards)).trainer,
        settings=lambda wildcards: training_settings(node_of(wildcards)),
        chat=lambda wildcards: graph.training_chat(node_of(wildcards)),
        work=TRAINING_STORE,
        node=lambda wildcards: node_of(wildcards).key,
        trackers=paths.trackers,
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
    threads: engine_threads
    resources:
        **generation_job(
            shard_size=64,
            engine_processes=0,
            tensor_parallel_size=1,
            pipeline_parallel_size=1,
            max_num_seqs=256,
            gpu_memory_percent=90,
        ),
    params:
        code=code("generate"),
        requests=lambda wildcards: graph.round_requests(graph.round(wildcards.round)),
        engine=lambda wildcards: graph.engine(task_of(wildcards)),
        work=REQUEST_STORE,
        trackers=paths.trackers,
    message:
        "Generation round {wildcards.round}"
    script:
        "../scripts/generate.py"


rule ask_endpoint:
    """Serve all requests of a round whose model is behind an endpoint; needs no GPU."""
    input:
        files=lambda wildcards: graph.round_inputs(graph.round(wildcards.round)),
        splits=after_data_checks,
    output:
        generations=paths.generations,
        stats=paths.generation_stats,
    log:
        paths.log("ask_endpoint", "{round}"),
    wildcard_constraints:
        round=names_of(round_.key for round_ in graph.asked_rounds()) or "none",
    conda:
        "../envs/inference.yaml"
    resources:
        **cpu_job(
            key_env=endpoint_setting("key_env"),
            requests_at_once=endpoint_setting("requests_at_once"),
            request_retries=endpoint_setting("retries"),
            request_seconds=endpoint_setting("timeout"),
        ),
    params:
        code=code("ask_endpoint"),
        requests=lambda wildcards: graph.round_requests(graph.round(wildcards.round)),
        model=lambda wildcards: graph.asked_model(graph.round(wildcards.round)),
        work=REQUEST_STORE,
    message:
        "Generation round {wildcards.round}, at an endpoint"
    script:
        "../scripts/ask_endpoint.py"


# A round whose model is behind an endpoint is no work for an engine.
ruleorder: ask_endpoint > generate
