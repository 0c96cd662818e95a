"""Fine-tune a model on supervised rows or preference pairs.

Input:
    rows: SFT_ROWS (sft) or PAIRS (dpo, orpo).
    base: manifest of the base model.
    init: manifest of the trained model to continue. dpo and orpo need one.
    deepspeed: the file that the settings name, where they name one.
    splits: the task's contamination report. The script does not read it. A bad split so ends the
        run before anything is trained.
Params:
    trainer: sft, dpo or orpo.
    settings: mapping, see `training.settings.TrainingSettings`.
    work: folder of the checkpoints from which a killed training resumes.
Resources:
    checkpoint_steps: most updates between two checkpoints.
    checkpoint_minutes: most minutes between two checkpoints.
    processes: number of training processes, one for each device. The global batch stays as
        configured. 0 means one for each GPU of the job, or one without GPUs.
    gpu: number of GPUs of the job.
Output:
    model: folder of one LoRA adapter, or of full weights with the tokenizer.
    manifest: JSON with the kind, base, files' sha256, settings and facts of the training.
    history: JSON list with the loss and other figures of each update.
"""

from typing import Any

from weak_to_strong.jobs.allocation import find_allocation
from weak_to_strong.jobs.script import run_script
from weak_to_strong.tables.files import read_json
from weak_to_strong.training.launching import run
from weak_to_strong.training.training_run import TrainingJob


def main(snakemake: Any) -> dict[str, Any]:
    """Train; return the number of tokens that this job trained on, for its record."""
    resources = snakemake.resources
    allocation = find_allocation(resources, snakemake.threads)
    first_update = run(
        TrainingJob(
            trainer=snakemake.params.trainer,
            settings={
                **snakemake.params.settings,
                "save_steps": resources.checkpoint_steps,
                "save_minutes": resources.checkpoint_minutes,
                "processes": resources.processes or (allocation.all_gpus if allocation else 1),
            },
            rows=snakemake.input.rows,
            base=snakemake.input.base,
            init=snakemake.input.get("init") or None,
            work=snakemake.params.work,
            model=snakemake.output.model,
            manifest=snakemake.output.manifest,
            history=snakemake.output.history,
        ),
        allocation,
    )
    facts = read_json(snakemake.output.manifest)["facts"]
    # A resumed training counts only the updates after its checkpoint; all count the same.
    return {"trained_tokens": round(facts["tokens"] * (1 - first_update / facts["steps"]))}


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
