"""Fine-tune a model on supervised rows, on preference pairs, or by rewards of its own answers.

Input:
    rows: SFT_ROWS or WEIGHTED_ROWS (sft), PAIRS or WEIGHTED_PAIRS (dpo), PAIRS (orpo, kto) or
        REWARD_ROWS (grpo).
    base: manifest of the base model.
    init: manifest of the trained model to continue. Only sft and grpo can do without.
    deepspeed: the file that the settings name, where they name one.
    function: the file of the user's function that rewards, where one does.
    chat_template: the file that `chat` names, where it names one.
    splits: the task's contamination report. The script does not read it. A bad split so ends the
        run before anything is trained.
Params:
    trainer: sft, dpo, orpo, kto or grpo.
    trainer_code: digest of the code that only this trainer runs, or None. An edit of it so makes
        the job run again.
    settings: mapping, see `training.settings.TrainingSettings`.
    chat: settings of a chat, see `chat_format.load_chat_format`; None for plain text.
    work: folder of the checkpoints from which a killed training resumes.
    node: key of the model, under which trackers show it.
    trackers: folder of the experiment's runs in trackers (`jobs.trackers`).
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
from weak_to_strong.jobs.trackers import tracked_run
from weak_to_strong.tables.files import read_json
from weak_to_strong.training.history import count_tokens
from weak_to_strong.training.launching import run_training
from weak_to_strong.training.settings import REWARD_TRAINERS
from weak_to_strong.training.training_run import TrainingJob


def main(snakemake: Any) -> dict[str, Any]:
    """Train; return numbers of tokens that this job trained on and sampled, for its record."""
    resources = snakemake.resources
    allocation = find_allocation(resources, snakemake.threads)
    first_update = run_training(
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
            chat=snakemake.params.chat,
            tracked=tracked_run(snakemake.params.node, snakemake.params.trackers),
        ),
        allocation,
    )
    if snakemake.params.trainer in REWARD_TRAINERS:
        generated, prompts = count_tokens(read_json(snakemake.output.history)[first_update:])
        return {
            "trained_tokens": generated + prompts,
            "prompt_tokens": prompts,
            "response_tokens": generated,
        }
    facts = read_json(snakemake.output.manifest)["facts"]
    # A resumed training counts only the updates after its checkpoint; all count the same.
    return {"trained_tokens": round(facts["tokens"] * (1 - first_update / facts["steps"]))}


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
