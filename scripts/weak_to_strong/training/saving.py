"""What a finished training publishes: the model folder, the history and the manifest.

It also notes them under the training's key. An equal training, of any experiment in the same
folder, then copies the model.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from weak_to_strong.jobs.logs import logger
from weak_to_strong.models.manifests import WEIGHTS, hash_files, list_files
from weak_to_strong.tables.files import publish_folder, read_json, write_json
from weak_to_strong.training.training_run import TrainingRun, chat_facts


def gather_state(trainer: Any) -> dict[str, Any] | None:
    """Whole weights under DeepSpeed, where each process has a part; else None.

    All processes must call it.
    """
    if not trainer.is_deepspeed_enabled:
        return None
    return trainer.accelerator.get_state_dict(trainer.deepspeed)


def publish_model(
    training: TrainingRun,
    trainer: Any,
    state: dict[str, Any] | None,
    history: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Any],
) -> None:
    """Write the model folder, the history and the manifest, and note the model for equal trainings.

    The manifest is the last file that the rule waits for. It is {"kind", "base", "base_path",
    "path", "files", "training", "facts"}: "files" has the sha256 of each file, "training" what the
    weights depend on.

    Args:
        training: the training.
        trainer: TRL's trainer.
        state: see `gather_state`.
        history: see `history.clean_history`.
        facts: see `history.training_facts`.
    """
    with publish_folder(training.model) as part:
        save_model(training, trainer.model, state, part)
        check_saved(part)
        files = hash_files(part)
    _write_manifest(training, files, history, facts)
    note = {"path": training.model, "files": files, "history": history, "facts": facts}
    write_json(note, _note_path(training))


def copy_model(training: TrainingRun) -> int:
    """Publish the model of an equal training that has ended, where it is still there and intact.

    Returns:
        Its number of updates; 0 where there is no such model.
    """
    try:
        note = read_json(_note_path(training))
        source, files = Path(note["path"]), note["files"]
        with publish_folder(training.model) as part:
            for name in files:
                (part / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / name, part / name)
            if hash_files(part) != files:
                raise ValueError(f"{source}: has other files by now")
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return 0
    logger.info("an equal training made %s; its model is copied", source)
    _write_manifest(training, files, note["history"], note["facts"])
    return note["facts"]["steps"]


def _note_path(training: TrainingRun) -> Path:
    """Where the model of a training, and of all that are equal to it, is noted."""
    work = Path(training.work)
    return work.parents[1] / "models" / f"{work.name}.json"


def _write_manifest(
    training: TrainingRun,
    files: Mapping[str, str],
    history: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Any],
) -> None:
    """Write the history, and last the manifest, of a model whose folder is published."""
    write_json(history, training.history)
    manifest = {
        "kind": training.settings.adapter,
        "base": training.base["name"],
        "base_path": training.base["path"],
        "path": training.model,
        "files": files,
        "training": {
            "trainer": training.trainer,
            **training.settings.for_weights(),
            "rows_sha256": training.rows_sha256,
            "init_files": training.init["files"] if training.init else None,
            "versions": training.versions,
            **chat_facts(training.chat),
        },
        "facts": facts,
    }
    write_json(manifest, training.manifest)


def save_model(
    training: TrainingRun, model: Any, state: dict[str, Any] | None, folder: Path
) -> None:
    """Save the trained adapter, or full weights with the tokenizer's files.

    Args:
        training: the training.
        model: the trained model.
        state: see `gather_state`.
        folder: where to save.
    """
    if training.settings.adapter == "lora":
        model.save_pretrained(
            str(folder),
            selected_adapters=["default"],
            save_embedding_layers=False,
            state_dict=state,
        )
        (folder / "README.md").unlink()  # a template without content
        sort_adapter_config(folder / "adapter_config.json")
    else:
        _save_weights(model, state, training.settings.dtype, folder)
        _copy_other_files(training.init_view or training.base_view, folder)


def _save_weights(model: Any, state: dict[str, Any] | None, dtype_name: str, folder: Path) -> None:
    """Save full weights and the configuration in a dtype."""
    import torch

    dtype = getattr(torch, dtype_name)
    if state is None:
        model.to(dtype)
    else:
        state = {name: value.to(dtype) for name, value in state.items()}
        model.config.dtype = dtype
    model.save_pretrained(str(folder), state_dict=state)


def _copy_other_files(view: str, folder: Path) -> None:
    """Copy the files of a model, such as its tokenizer's, that are not weights and not there."""
    for name in list_files(Path(view)):
        is_weights = name.endswith((*WEIGHTS, ".safetensors.index.json"))
        if not is_weights and not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(view) / name, folder / name)


def sort_adapter_config(path: Path) -> None:
    """Sort the target modules, which peft keeps as a set: equal trainings give equal bytes."""
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
