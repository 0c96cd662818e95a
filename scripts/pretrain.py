"""Pretrain one embedded base model.

Input:
    tokenizer: folder of the tokenizer.
Params:
    task: the embedded task: templates, data_seed, problems.
    settings: the model's entry in config/embedded_models.yaml: shape, training, steps, block,
        drill_share, seed and, optionally, competition_share, authors and drill_largest.
    tokenizer: settings of the tokenizer, for the manifest.
    work: folder of checkpoints.
Output:
    folder: model folder with bfloat16 safetensors and the tokenizer.
    manifest: JSON with settings, number of parameters, last loss, and sha256 of each file.
"""

import os
from pathlib import Path
from typing import Any

from weak_to_strong.jobs.script import run_script
from weak_to_strong.tables.files import hash_file, hash_value, write_json
from weak_to_strong.training.pretraining import (
    DRILL_LARGEST,
    experiment_questions,
    generate_documents,
    pack_tokens,
    pretrain,
)


def main(snakemake: Any) -> None:
    """Train, or resume from a checkpoint, and publish the model."""
    import torch
    from transformers import AutoTokenizer

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    task, settings = snakemake.params.task, snakemake.params.settings
    tokenizer = AutoTokenizer.from_pretrained(
        snakemake.input.tokenizer, local_files_only=True, trust_remote_code=False
    )
    blocks = pack_tokens(
        generate_documents(
            task["templates"],
            settings["seed"],
            settings["drill_share"],
            experiment_questions(**task),
            settings.get("competition_share", 0.0),
            settings.get("authors"),
            settings.get("drill_largest", DRILL_LARGEST),
        ),
        tokenizer,
        settings["steps"] * settings["training"]["batch_size"],
        settings["block"],
    )
    vocabulary = hash_file(Path(snakemake.input.tokenizer) / "tokenizer.json")
    work = Path(snakemake.params.work) / hash_value([task, settings, vocabulary])[:16]
    model, facts = pretrain(
        blocks,
        tokenizer,
        settings["shape"],
        tokenizer.model_max_length,
        settings["training"],
        settings["seed"],
        work,
    )
    folder = Path(snakemake.output.folder)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_json(
        {
            "command": "snakemake rebuild_embedded_models",
            "task": task,
            "settings": settings,
            "tokenizer": snakemake.params.tokenizer,
            "facts": facts,
            "files": {file.name: hash_file(file) for file in sorted(folder.iterdir())},
        },
        snakemake.output.manifest,
    )


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
