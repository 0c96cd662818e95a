"""The embedded models, pretrained again: `snakemake rebuild_embedded_models`.

Experiments use the models in `resources/embedded/`. These rules write new ones to
`results/embedded/`. Compare them with the shipped ones, or copy them there.
"""

import yaml

EMBEDDED = yaml.safe_load(
    (Path(workflow.basedir) / "config/embedded_models.yaml").read_text(encoding="utf-8")
)


rule embedded_tokenizer:
    """Train the byte-level BPE tokenizer of the embedded models."""
    output:
        folder=directory("results/embedded/tokenizer"),
    log:
        "results/embedded/logs/embedded_tokenizer.log",
    localrule: True
    conda:
        "../envs/training.yaml"
    params:
        code=code("embedded_tokenizer"),
        task=EMBEDDED["task"],
        settings=EMBEDDED["tokenizer"],
    message:
        "Tokenizer of the embedded models"
    script:
        "../scripts/embedded_tokenizer.py"


rule pretrain:
    """Pretrain one embedded base model. A killed job resumes from its last checkpoint."""
    input:
        tokenizer="results/embedded/tokenizer",
    output:
        folder=directory("results/embedded/{embedded_model}"),
        manifest="results/embedded/{embedded_model}.json",
    log:
        "results/embedded/logs/pretrain-{embedded_model}.log",
    wildcard_constraints:
        embedded_model="|".join(EMBEDDED["models"]),
    conda:
        "../envs/training.yaml"
    threads: 1
    resources:
        **cpu_job(),
    params:
        code=code("pretrain"),
        task=EMBEDDED["task"],
        settings=lookup(dpath="{embedded_model}", within=EMBEDDED["models"]),
        tokenizer=EMBEDDED["tokenizer"],
        work="results/embedded/checkpoints/{embedded_model}",
    message:
        "Pretrain the embedded model {wildcards.embedded_model}"
    script:
        "../scripts/pretrain.py"


rule rebuild_embedded_models:
    """All embedded base models, from random weights."""
    input:
        collect("results/embedded/{model}.json", model=EMBEDDED["models"]),
    localrule: True
