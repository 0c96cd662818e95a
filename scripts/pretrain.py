"""Pretrain one embedded base model.

Input:
    tokenizer: folder of the tokenizer.
Params:
    task: the embedded task: templates, data_seed, problems.
    settings: the model's entry in config/embedded_models.yaml: shape, training, steps, block,
        drill_share, seed and, optionally, competition_share, authors, drill_largest, `task` (keys
        that differ from the task's) and `then` (keys that differ in a second phase, which goes on
        from the weights of the first).
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
    vocabulary = hash_file(Path(snakemake.input.tokenizer) / "tokenizer.json")
    task = task | settings.get("task", {})
    phases = [settings] + ([settings | settings["then"]] if "then" in settings else [])
    model, facts = None, {"tokens": 0}
    for place, phase in enumerate(phases):
        blocks = pack_tokens(
            generate_documents(
                task["templates"],
                phase["seed"],
                phase["drill_share"],
                experiment_questions(**task),
                phase.get("competition_share", 0.0),
                phase.get("authors"),
                phase.get("drill_largest", DRILL_LARGEST),
            ),
            tokenizer,
            phase["steps"] * phase["training"]["batch_size"],
            phase["block"],
        )
        work = hash_value([task, phases[: place + 1], vocabulary])[:16]
        model, phase_facts = pretrain(
            blocks,
            tokenizer,
            phase["shape"],
            tokenizer.model_max_length,
            phase["training"],
            phase["seed"],
            Path(snakemake.params.work) / work,
            model,
        )
        facts = phase_facts | {"tokens": facts["tokens"] + phase_facts["tokens"]}
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
