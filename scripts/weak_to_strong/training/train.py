"""Fine-tuning with TRL: SFT, DPO and ORPO on one shared set-up.

A run starts from a base model (SFT) or continues an SFT model (DPO, ORPO; Stage II of the paper).
It ends as a model folder - one LoRA adapter over the base, or full weights with the tokenizer -
beside a manifest and a history of losses. In between it lives in a work folder named by a hash of
all that bears on the weights, and resumes there from the last whole checkpoint.

`python -m weak_to_strong.training.train job.json` runs one job; that is how a launcher starts it:
torchrun on one machine, torchrun in a SLURM step on several.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from weak_to_strong.jobs.allocation import Allocation, free_port, step_command, step_environment
from weak_to_strong.jobs.code_digest import code_digest
from weak_to_strong.jobs.errors import ProcessDied, explain_storage
from weak_to_strong.jobs.imports import collection_paused
from weak_to_strong.jobs.locks import follow_parent, mark_parent
from weak_to_strong.jobs.logs import configure_logging, logger
from weak_to_strong.jobs.secret_values import without_secrets
from weak_to_strong.models.manifests import check_files, hash_files, list_files, read_manifest
from weak_to_strong.tables.files import hash_file, hash_value, publish_folder, read_json, write_json
from weak_to_strong.tables.frames import read_table
from weak_to_strong.tables.schemas import PAIRS, SFT_ROWS
from weak_to_strong.training.checkpoints import (
    alone_in,
    find_checkpoint,
    list_unhashed,
    remove_torn,
    seal_checkpoint,
    step_of,
)
from weak_to_strong.training.length_sorting import sort_updates_of
from weak_to_strong.training.rows import (
    Encoded,
    dpo_columns,
    encode_rows,
    orpo_columns,
    sft_columns,
)
from weak_to_strong.training.settings import (
    QUANTISER,
    SAVE_KEYS,
    accumulation_steps,
    check_quantiser,
    complete_settings,
    run_key,
)

#: Whose code bears on the weights.
SCRIPT = Path(__file__).parents[2] / "train.py"
PACKAGES = ("accelerate", "peft", "torch", "transformers", "trl")
#: DPO's reference is the policy with its adapter disabled, see `build_trainer`.
ADAPTER_OFF = "adapter off"
#: What a bitsandbytes layer may do on this CPU.
REPACKS = "support_avx512bf16_for_cpu"
#: Entries of the trainer's log that depend on the machine, or (TRL's token count) on resumption.
UNSTEADY = ("runtime", "per_second", "total_flos", "num_tokens")


@dataclass(frozen=True)
class Job:
    """One training run: what goes in (trainer to init), and where it works and ends.

    Attributes:
        trainer: "sft", "dpo" or "orpo".
        settings: see `training_settings.complete_settings`.
        rows: Parquet table, SFT_ROWS for sft and PAIRS for dpo and orpo.
        base: manifest of the base model.
        init: manifest of the trained model to continue (needed by dpo and orpo), or None.
        work: folder for checkpoints; each run has a subfolder of its own, removed when it ends.
        model: model folder to publish.
        manifest: its manifest, written last: {"kind", "base", "base_path", "path", "files",
            "training", "facts"}.
        history: JSON list of {"step", "loss", ...}, one entry an update.
    """

    trainer: str
    settings: dict[str, Any]
    rows: str
    base: str
    init: str | None
    work: str
    model: str
    manifest: str
    history: str


def run(job: Job, allocation: Allocation | None = None) -> int:
    """Train in this process, or under a launcher where several processes or DeepSpeed are set.

    Args:
        job: what to train.
        allocation: of the SLURM job; where it has several nodes, the processes are spread evenly
            over them.

    Returns:
        The update that it went on from, 0 where there was no checkpoint.

    Raises:
        ValueError: bad settings or input, or no package to quantise with.
        ProcessDied: a launched process failed; its own messages have been logged.
    """
    settings = complete_settings(job.trainer, job.settings)
    check_quantiser(settings)
    # Jobs that would end with the same weights have one work folder, in other experiments too.
    work = work_folder(job, settings)
    with alone_in(work):
        checkpoint = find_checkpoint(work)
        if settings["processes"] == 1 and not settings["deepspeed"]:
            # With more devices in sight transformers would turn to torch's DataParallel.
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
            os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[0]
            hide_quantiser(settings)
            train(job)
        else:
            launch(job, settings["processes"], allocation)
    return step_of(checkpoint) if checkpoint else 0


def launch(job: Job, processes: int, allocation: Allocation | None) -> None:
    """Train in processes of a launcher, see `run`."""
    spec = Path(job.work) / f"{hash_value(asdict(job))[:16]}.json"
    write_json(asdict(job), spec)
    command = launch_command(processes, allocation, str(spec))
    package_root = str(Path(__file__).resolve().parents[2])
    search = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
    inherited = without_secrets(step_environment(os.environ))  # a training needs no network
    environment = {"PYTHONWARNINGS": "ignore::FutureWarning", **inherited}
    environment["PYTHONPATH"] = search
    mark_parent(environment)
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as launched:
        try:
            for line in launched.stdout:
                logger.info("%s", line.rstrip())
        except BaseException:  # such as SIGTERM (see `logs.run_script`)
            launched.terminate()
            raise
    spec.unlink()
    if launched.returncode:
        raise ProcessDied(
            f"a training process ended with status {launched.returncode}, for what it says above; "
            "one that was killed (SIGKILL, -9) mostly ran out of memory"
        )


def launch_command(processes: int, allocation: Allocation | None, spec: str) -> list[str]:
    """torchrun of this module: on this machine, or once on each node, which meet on the first.

    Args:
        processes: of all nodes together.
        allocation: of the SLURM job, or None.
        spec: file of the job.

    Raises:
        ValueError: `processes` is no multiple of the number of nodes.
    """
    torchrun, module = (
        ["-m", "torch.distributed.run"],
        ["-m", "weak_to_strong.training.train", spec],
    )
    nodes = allocation.nodes if allocation else ()
    if not nodes:
        nproc = [f"--nproc-per-node={processes}"]
        return [sys.executable, *torchrun, "--standalone", *nproc, *module]
    each, rest = divmod(processes, len(nodes))
    if rest or not each:
        raise ValueError(f"processes: {processes} cannot be spread evenly over {len(nodes)} nodes")
    return [
        *step_command(allocation, nodes),
        # Only on its node does a task know which it is; the first node has the first process.
        *("bash", "-c", 'exec "$0" "${@:1:2}" --node-rank="$SLURM_NODEID" "${@:3}"'),
        *(sys.executable, *torchrun, f"--nnodes={len(nodes)}", f"--nproc-per-node={each}"),
        *(f"--master-addr={socket.gethostname()}", f"--master-port={free_port()}", *module),
    ]


def train(job: Job, callbacks: Iterable[Any] = ()) -> None:
    """Run one job in this process, which may be one of several of a launcher.

    Args:
        job: what to train.
        callbacks: further transformers callbacks.

    Raises:
        ValueError: bad settings, rows or initial model; or a loss that is not finite.
    """
    settings = complete_settings(job.trainer, job.settings)
    base = read_manifest(job.base, "name")
    init = read_manifest(job.init, "base", "kind") if job.init else None
    first = int(os.environ.get("RANK", "0")) == 0
    if first:
        for manifest in filter(None, [job.base, job.init]):
            check_files(manifest)
    check_init(job.trainer, settings, base, init)
    frame = read_table(job.rows, SFT_ROWS if job.trainer == "sft" else PAIRS)
    quieten_libraries()
    import_libraries(job.trainer)
    from transformers import AutoTokenizer, PrinterCallback

    tokenizer = AutoTokenizer.from_pretrained(base["path"], local_files_only=True)
    columns = ("completion",) if job.trainer == "sft" else ("chosen", "rejected")
    rows = encode_rows(frame, tokenizer, settings["max_length"], columns)

    work = work_folder(job, settings)
    work.mkdir(parents=True, exist_ok=True)
    prepare_torch(settings)
    arguments = training_arguments(job.trainer, settings, work)
    model = load_model(settings, base, init)
    reference = None
    if settings["reference"] == "base":
        lora = settings["adapter"] == "lora"
        reference = ADAPTER_OFF if lora else load_model(settings, base, None)
    trainer = build_trainer(
        job.trainer, arguments, model, tokenizer, rows, settings["likelihood"], reference
    )
    trainer.remove_callback(PrinterCallback)
    for callback in (*make_callbacks(settings["save_minutes"]), *callbacks):
        trainer.add_callback(callback)
    checkpoint = find_checkpoint(work)
    if first:
        remove_torn(work)
        logger.info("%s: %d rows, work folder %s", job.trainer, len(rows), work.name)
        if checkpoint:
            logger.info("resuming from %s", checkpoint.name)
            if unhashed := list_unhashed(checkpoint):
                logger.info("above 1 GiB and checked by size only: %s", ", ".join(unhashed))
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

    history = clean_history(trainer.state.log_history)
    if not history:
        raise ValueError("training: made no update; raise epochs")
    state = gather_state(trainer)
    if not first:
        return
    with publish_folder(job.model) as part:
        save_model(trainer, state, settings, base, init, part)
        check_saved(part)
        files = hash_files(part)
    write_json(history, job.history)
    steps = trainer.state.global_step
    manifest = {
        "kind": settings["adapter"],
        "base": base["name"],
        "base_path": base["path"],
        "path": job.model,
        "files": files,
        "training": {
            "trainer": job.trainer,
            **{name: value for name, value in settings.items() if name not in SAVE_KEYS},
            "rows_sha256": hash_file(job.rows),
            "init_files": init["files"] if init else None,
            "versions": package_versions(settings),
        },
        "facts": training_facts(rows, settings["epochs"], steps, history),
    }
    write_json(manifest, job.manifest)
    shutil.rmtree(work, ignore_errors=True)


def package_versions(settings: Mapping[str, Any]) -> dict[str, str]:
    """Versions of the packages that bear on the weights."""
    others = {QUANTISER: settings["quantization"], "deepspeed": settings["deepspeed"]}
    used = [*PACKAGES, *(name for name, wanted in others.items() if wanted)]
    return {name: version(name) for name in used}


def work_folder(job: Job, settings: Mapping[str, Any]) -> Path:
    """Where a job keeps its checkpoints, see `run_key`; there need be nothing yet.

    Args:
        job: what to train.
        settings: its settings, complete.

    Raises:
        ValueError: a damaged manifest.
    """
    base = read_manifest(job.base, "name")
    init = read_manifest(job.init, "base", "kind") if job.init else None
    versions = {**package_versions(settings), "code": code_digest(SCRIPT)}
    return Path(job.work) / run_key(job.trainer, settings, job.rows, base, init, versions)


def training_facts(
    rows: Sequence[Encoded], epochs: int, steps: int, history: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Counts over the whole run: `tokens` (prompt + completion) and `supervised_tokens` count each
    pass; `examples` are rows of the table; `loss` is the mean over the updates."""
    losses = [entry["loss"] for entry in history]
    return {
        "steps": steps,
        "examples": len(rows),
        "tokens": epochs * sum(row.tokens for row in rows),
        "supervised_tokens": epochs * sum(row.supervised for row in rows),
        "longest_row": max(row.longest for row in rows),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "loss": math.fsum(losses) / len(losses),
    }


def check_init(
    trainer: str,
    settings: Mapping[str, Any],
    base: Mapping[str, Any],
    init: Mapping[str, Any] | None,
) -> None:
    """Check that the initial model can be continued under these settings.

    Raises:
        ValueError: a preference run without one; one of another base or kind; or another LoRA
            shape than `lora` asks for.
    """
    if init is None:
        if trainer != "sft":
            raise ValueError(f"{trainer}: needs the supervised model that it starts from")
        if settings["adapter"] == "lora" and settings["lora"] is None:
            raise ValueError("lora: is missing; give r, alpha, dropout, target_modules")
        return
    if init["base"] != base["name"]:
        raise ValueError(f"initial model: made from base {init['base']!r}, not {base['name']!r}")
    if init["kind"] != settings["adapter"]:
        raise ValueError(
            f"adapter: {settings['adapter']!r} cannot continue an initial model of kind "
            f"{init['kind']!r}; set it to {init['kind']!r}"
        )
    if settings["lora"]:
        saved = read_json(Path(init["path"]) / "adapter_config.json")
        for key, name in {"r": "r", "alpha": "lora_alpha"}.items():
            if saved[name] != settings["lora"][key]:
                raise ValueError(
                    f"lora.{key}: {settings['lora'][key]} differs from the initial adapter's "
                    f"{saved[name]}; leave lora out to continue that adapter"
                )
        if sorted(saved["target_modules"]) != settings["lora"]["target_modules"]:
            raise ValueError(
                "lora.target_modules: differ from the initial adapter's "
                f"{sorted(saved['target_modules'])}; leave lora out to continue that adapter"
            )


def quieten_libraries() -> None:
    """Turn off progress bars, telemetry and look-ups on the hub; before the libraries load."""
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "TRL_EXPERIMENTAL_SILENCE"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Deterministic matrix products on CUDA; must be set before its first use.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def hide_quantiser(settings: Mapping[str, Any]) -> None:
    """Let a process that does not quantise start without what transformers and peft would import
    for it: about a second."""
    if not settings["quantization"]:
        sys.modules.setdefault(QUANTISER, None)  # as if it were not installed


def import_libraries(trainer: str) -> None:
    """Import what a run of `trainer` needs, and turn off transformers' bars and warnings."""
    with collection_paused():
        import datasets  # noqa: F401
        from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer  # noqa: F401
        from transformers.utils import logging

        if trainer == "sft":
            from trl import SFTTrainer  # noqa: F401
        elif trainer == "dpo":
            from trl import DPOTrainer  # noqa: F401
        else:
            from trl.experimental.orpo import ORPOTrainer  # noqa: F401

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def prepare_torch(settings: Mapping[str, Any]) -> None:
    """Bind threads to OMP_NUM_THREADS, seed all generators, ask for deterministic kernels.

    DeepSpeed joins its processes here: ZeRO-3 must know their number when the weights load.
    """
    import torch
    from transformers import set_seed

    if threads := os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))
    set_seed(settings["seed"])
    if torch.cuda.is_available():
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False
    if settings["deepspeed"]:
        import deepspeed

        backend = "nccl" if torch.cuda.is_available() else "gloo"
        if backend == "nccl":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        deepspeed.init_distributed(backend)
    else:
        from accelerate.utils import other

        # Where DeepSpeed is installed, accelerate imports it (2 to 3 s) only to ask whether the
        # model is one of its engines.
        other.is_deepspeed_available = lambda: False


def training_arguments(trainer: str, settings: Mapping[str, Any], work: Path) -> Any:
    """The TRL configuration of a run.

    It must exist before the model is loaded: DeepSpeed's ZeRO-3 shards the weights on loading only
    when it has been set up by then.
    """
    import torch

    cuda = torch.cuda.is_available()
    common = {
        "output_dir": str(work),
        "learning_rate": settings["learning_rate"],
        "num_train_epochs": settings["epochs"],
        "per_device_train_batch_size": settings["per_device_batch_size"],
        "gradient_accumulation_steps": accumulation_steps(settings),
        "lr_scheduler_type": settings["scheduler"],
        "warmup_steps": float(settings["warmup_ratio"]),  # below 1: a share of all steps
        "weight_decay": settings["weight_decay"],
        "max_grad_norm": settings["max_grad_norm"],
        "max_length": settings["max_length"],
        "seed": settings["seed"],
        "data_seed": settings["seed"],
        "use_cpu": not cuda,
        "bf16": settings["dtype"] == "bfloat16",  # TRL turns it on unless told
        "gradient_checkpointing": settings["gradient_checkpointing"],
        "deepspeed": settings["deepspeed"],
        "dataloader_pin_memory": cuda,
        "save_strategy": "steps" if settings["save_steps"] else "no",
        "save_steps": settings["save_steps"] or 500,
        # The last but one stays until the last is known to be whole.
        "save_total_limit": 2,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
    }
    if trainer == "sft":
        from trl import SFTConfig

        return SFTConfig(**common)
    if trainer == "dpo":
        from trl import DPOConfig

        precompute = settings["precompute_ref"]
        return DPOConfig(**common, beta=settings["beta"], precompute_ref_log_probs=precompute)
    from trl.experimental.orpo import ORPOConfig

    return ORPOConfig(**common, beta=settings["beta"], remove_unused_columns=False)


def load_model(
    settings: Mapping[str, Any], base: Mapping[str, Any], init: Mapping[str, Any] | None
) -> Any:
    """The policy: base with a new adapter, base with the initial adapter, or full weights.

    bfloat16 weights are trained in place only where float32 copies exist elsewhere: LoRA (float32
    adapter) and DeepSpeed (its optimiser). Else weights stay float32, under bfloat16 autocast.

    With `quantization` the projections of the frozen base have 4 bits a weight; embeddings, norms
    and the output layer keep `dtype`, as without. (peft's `prepare_model_for_kbit_training` would
    make them float32; what else it does - freezing, gradients through checkpoints - peft does for
    any adapter and TRL for any checkpointing.)
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.integrations import is_deepspeed_zero3_enabled

    lora = settings["adapter"] == "lora"
    half = settings["dtype"] == "bfloat16" and (lora or settings["deepspeed"])
    source = init if init and init["kind"] == "full" else base
    config = AutoConfig.from_pretrained(source["path"], local_files_only=True)
    # transformers' default, SDPA, leaves the cap out; vLLM, which serves the model, has it.
    capped = getattr(config, "attn_logit_softcapping", None) is not None
    model = AutoModelForCausalLM.from_pretrained(
        source["path"],
        dtype=torch.bfloat16 if half else torch.float32,
        attn_implementation="eager" if capped else None,
        quantization_config=quantisation_of(settings),
        local_files_only=True,
        use_safetensors=True,
    )
    if settings["quantization"]:
        for module in model.modules():
            # On some CPUs bitsandbytes packs weights anew when it evaluates, such as DPO's
            # reference, and leaves them so: in another precision, and only some shapes.
            if hasattr(module, REPACKS):
                setattr(module, REPACKS, False)
    if not lora:
        return model
    from peft import LoraConfig, PeftModel, get_peft_model

    # ZeRO-3 gathers parameters of one dtype only, so the adapter keeps that of the base.
    cast = not is_deepspeed_zero3_enabled()
    if init:
        policy = PeftModel.from_pretrained(
            model, init["path"], is_trainable=True, autocast_adapter_dtype=cast
        )
    else:
        shape = settings["lora"]
        check_targets(shape["target_modules"], [name for name, _ in model.named_modules()])
        lora_config = LoraConfig(
            task_type="CAUSAL_LM",
            r=shape["r"],
            lora_alpha=shape["alpha"],
            lora_dropout=shape["dropout"],
            target_modules=shape["target_modules"],
        )
        policy = get_peft_model(model, lora_config, autocast_adapter_dtype=cast)
    if settings["quantization"]:
        # TRL makes the adapter of a model that says so bfloat16: small updates would be lost, and a
        # resumed run would end with other weights.
        model.is_loaded_in_4bit = False
    return policy


def check_targets(targets: Sequence[str], modules: Sequence[str]) -> None:
    """Check that each target of an adapter is in the model: peft is content with one that is.

    Raises:
        ValueError: names a target that is not, and the model's projections.
    """
    ends = {name.rpartition(".")[2] for name in modules}
    for target in targets:
        if not any(f".{name}".endswith(f".{target}") for name in modules):
            there = ", ".join(sorted(end for end in ends if "proj" in end or end.startswith("fc")))
            raise ValueError(
                f"lora.target_modules: the model has no {target!r}; its projections are {there}"
            )


def quantisation_of(settings: Mapping[str, Any]) -> Any:
    """transformers' configuration of `quantization`, or None.

    4-bit normal floats with double quantisation (QLoRA; Dettmers et al., arXiv 2305.14314,
    section 3); each product is computed in `dtype`.
    """
    if not settings["quantization"]:
        return None
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=settings["quantization"],
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=settings["dtype"],
    )


def build_trainer(
    trainer: str,
    arguments: Any,
    model: Any,
    tokenizer: Any,
    rows: Sequence[Encoded],
    likelihood: str | None = None,
    reference: Any = None,
) -> Any:
    """A TRL trainer that reads the ids of `rows` as they are, with no tokenising of its own.

    ORPO (Hong et al., arXiv 2403.07691) adds a likelihood term to its odds ratio: with
    "completion", as in LLaMA-Factory, the mean over pairs of the chosen answer's mean
    log-probability; with "sequence", as in TRL, the mean over all tokens of a micro-batch's prompts
    and chosen answers.

    Where the loss allows it, the rows of an update of several micro-batches are sorted
    (`micro_batches`).

    DPO's reference is by default the initial model: of an adapter TRL keeps a frozen copy as a
    second adapter, full weights it loads a second time. `reference` names another one: a model, or
    ADAPTER_OFF, the policy itself without its adapter.
    """
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    common = {"model": model, "args": arguments, "processing_class": tokenizer}
    micro_batches = arguments.gradient_accumulation_steps * arguments.world_size
    update = micro_batches * arguments.per_device_train_batch_size
    lengths = [row.longest for row in rows]

    def sort_rows(kind: type) -> type:
        return sort_updates_of(kind, lengths, update) if micro_batches > 1 else kind

    if trainer == "sft":
        from trl import SFTTrainer

        dataset = Dataset.from_dict(sft_columns(rows))
        return sort_rows(SFTTrainer)(**common, train_dataset=dataset)
    if trainer == "dpo":
        from trl import DPOTrainer

        class TokenisedDPOTrainer(sort_rows(DPOTrainer)):
            def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
                return dataset

            def _precompute_ref_logps(self, *arguments: Any) -> Any:
                if reference == ADAPTER_OFF:
                    drop_reference(self.model)
                return super()._precompute_ref_logps(*arguments)

        dataset = Dataset.from_dict(dpo_columns(rows))
        if arguments.precompute_ref_log_probs and arguments.world_size > 1:
            dataset = share_dataset(dataset, arguments)
        other = None if reference == ADAPTER_OFF else reference
        built = TokenisedDPOTrainer(**common, ref_model=other, train_dataset=dataset)
        if reference == ADAPTER_OFF:
            drop_reference(built.model)
        for name, parameter in built.model.named_parameters():
            if ".ref." in name:
                parameter.requires_grad_(False)
        return built
    from trl.experimental.orpo import ORPOTrainer

    class TokenisedORPOTrainer(ORPOTrainer):
        def tokenize_row(self, feature: dict, model: Any = None) -> dict:
            return feature

    class CompletionORPOTrainer(TokenisedORPOTrainer):
        def concatenated_forward(self, model: Any, batch: dict) -> tuple:
            found = super().concatenated_forward(model, batch)
            return (*found[:4], -found[0].mean(), *found[5:])

    kind = TokenisedORPOTrainer
    if likelihood == "completion":
        kind = sort_rows(CompletionORPOTrainer)
    return kind(**common, train_dataset=Dataset.from_dict(orpo_columns(rows)))


def drop_reference(model: Any) -> None:
    """Remove the frozen copy of a continued adapter, which TRL makes while it is set up.

    Without this copy TRL computes the reference with the trained adapter disabled.
    """
    if "ref" in model.peft_config:
        model.delete_adapter("ref")


def share_dataset(dataset: Any, arguments: Any) -> Any:
    """The same rows in a file of the run's work folder, for all of its processes.

    TRL's processes share the reference's log-probabilities through a file beside that of the rows;
    for rows in memory each would look for it in a temporary folder of its own.
    """
    from datasets import Dataset

    folder = Path(arguments.output_dir) / "rows"
    with arguments.main_process_first(local=False):
        if arguments.process_index == 0:
            shutil.rmtree(folder, ignore_errors=True)  # a cut run's may be torn
            dataset.save_to_disk(folder)
    return Dataset.load_from_disk(folder)


def make_callbacks(save_minutes: int | None = None) -> list[Any]:
    """Callbacks that save by time, seal checkpoints, log some twenty lines of progress and refuse
    a loss that is not finite."""
    import torch
    from transformers import TrainerCallback

    class SaveByTime(TrainerCallback):
        """Steps take a second or a minute; a cut by the time limit is to lose neither an hour."""

        saved = 0.0

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.saved = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            due = save_minutes is not None and time.monotonic() - self.saved >= 60 * save_minutes
            if save_minutes is not None and torch.distributed.is_initialized():
                # All processes save the same step, the one at which the first finds it due.
                decision = torch.tensor([due], dtype=torch.int32, device=args.device)
                torch.distributed.broadcast(decision, src=0)
                due = bool(decision.item())
            if due:
                control.should_save = True

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.saved = time.monotonic()

    class SealCheckpoints(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if torch.distributed.is_initialized():
                torch.distributed.barrier()  # each process writes files of its own
            if state.is_world_process_zero:
                checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
                # DPO's frozen adapter: with it present transformers would load it, and forget the
                # trained one. It is made anew from the initial model.
                shutil.rmtree(checkpoint / "ref", ignore_errors=True)
                seal_checkpoint(checkpoint)

    class LogProgress(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            every = max(1, state.max_steps // 20)
            last = state.global_step == state.max_steps
            due = last or state.global_step % every == 0
            if due and "loss" in logs and state.is_world_process_zero:
                logger.info(
                    "step %d of %d: loss %.4f", state.global_step, state.max_steps, logs["loss"]
                )

    class RefuseLosses(TrainerCallback):
        """At once: a checkpoint of lost numbers would be resumed from."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in logs:
                check_loss(logs["loss"], state.global_step)

    return [SaveByTime(), SealCheckpoints(), LogProgress(), RefuseLosses()]


def clean_history(log: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The entries of the updates, without what depends on the machine or on resumption."""
    return [
        {key: value for key, value in entry.items() if not any(word in key for word in UNSTEADY)}
        for entry in log
        if "loss" in entry
    ]


def check_loss(loss: float, step: int) -> None:
    """Refuse a run that lost its numbers."""
    if not math.isfinite(loss):
        raise ValueError(f"learning_rate: the loss is {loss} at step {step}; lower it")


def gather_state(trainer: Any) -> dict[str, Any] | None:
    """Whole weights under DeepSpeed, where each process holds a part; all processes must call."""
    if not trainer.is_deepspeed_enabled:
        return None
    return trainer.accelerator.get_state_dict(trainer.deepspeed)


def save_model(
    trainer: Any,
    state: dict[str, Any] | None,
    settings: Mapping[str, Any],
    base: Mapping[str, Any],
    init: Mapping[str, Any] | None,
    folder: Path,
) -> None:
    """Save the policy: one adapter, or full weights in `dtype` with the files of the tokenizer."""
    import torch

    model = trainer.model
    if settings["adapter"] == "lora":
        model.save_pretrained(
            str(folder),
            selected_adapters=["default"],
            save_embedding_layers=False,
            state_dict=state,
        )
        (folder / "README.md").unlink()  # a template without content
        sort_adapter_config(folder / "adapter_config.json")
        return
    dtype = getattr(torch, settings["dtype"])
    if state is None:
        model.to(dtype)
    else:
        state = {name: value.to(dtype) for name, value in state.items()}
        model.config.dtype = dtype
    model.save_pretrained(str(folder), state_dict=state)
    source = init or base
    for name in source["files"]:
        weights = name.endswith((".safetensors", ".safetensors.index.json", ".bin", ".pt", ".gguf"))
        if not weights and not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(source["path"]) / name, folder / name)


def sort_adapter_config(path: Path) -> None:
    """Rewrite an adapter's configuration so that equal runs give equal bytes (peft keeps sets)."""
    config = read_json(path)
    if isinstance(config["target_modules"], list):
        config["target_modules"] = sorted(config["target_modules"])
    write_json(config, path)


def check_saved(folder: Path) -> None:
    """Check that the weights reached the disk.

    Raises:
        RuntimeError: no weights, or an empty or non-finite tensor (as partitioned weights save).
    """
    from safetensors import safe_open

    names = [name for name in list_files(folder) if name.endswith(".safetensors")]
    count = 0
    for name in names:
        with safe_open(folder / name, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a mapping
                tensor = file.get_tensor(key)
                if tensor.numel() == 0 or not tensor.isfinite().all():
                    raise RuntimeError(f"{name}: tensor {key} is empty or not finite")
                count += 1
    if not count:
        raise RuntimeError(f"{folder.name}: no weights were saved")


def main(argv: Sequence[str]) -> int:
    """Run the job of a JSON file (the fields of `Job`); 1 on bad input."""
    follow_parent()
    configure_logging(None, f"rank {os.environ.get('RANK', '0')}")
    try:
        job = Job(**json.loads(Path(argv[0]).read_text(encoding="utf-8")))
        hide_quantiser(complete_settings(job.trainer, job.settings))
        train(job)
    except ValueError as error:
        logger.error("%s", error)
        return 1
    except Exception as error:
        if not (said := explain_storage(error)):
            raise
        logger.error("%s", said)
        return 1
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    # All is on disk. In the interpreter's own tear-down a thread of the backend can abort a process
    # ("terminate called without an active exception"), and torchrun then ends the others.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)
