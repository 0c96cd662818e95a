"""The embedded models, pretrained again: `snakemake rebuild_embedded_models`.

Experiments use the models in `resources/embedded/`. These rules write new ones to
`results/embedded/`. Compare them with the shipped ones, or copy them there.
"""

import yaml

EMBEDDED = yaml.safe_load((CHECKOUT / "config/embedded_models.yaml").read_text(encoding="utf-8"))


rule embedded_tokenizer:
    """Train the byte-level BPE tokenizer of the embedded models."""
    output:
        folder=directory(f"{PREFIX}results/embedded/tokenizer"),
    log:
        f"{PREFIX}results/embedded/logs/embedded_tokenizer.log",
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
        tokenizer=f"{PREFIX}results/embedded/tokenizer",
    output:
        folder=directory(f"{PREFIX}results/embedded/{{embedded_model}}"),
        manifest=f"{PREFIX}results/embedded/{{embedded_model}}.json",
    log:
        f"{PREFIX}results/embedded/logs/pretrain-{{embedded_model}}.log",
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
        work=f"{PREFIX}results/embedded/checkpoints/{{embedded_model}}",
    message:
        "Pretrain the embedded model {wildcards.embedded_model}"
    script:
        "../scripts/pretrain.py"


rule rebuild_embedded_models:
    """All embedded base models, from random weights."""
    input:
        collect(f"{PREFIX}results/embedded/{{model}}.json", model=EMBEDDED["models"]),
    localrule: True
