"""One training, resolved once: settings, models, versions and its work folder in one object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from weak_to_strong.jobs.code_digest import code_digest, has_digest
from weak_to_strong.jobs.trackers import TrackedRun
from weak_to_strong.models.chat_format import ChatFormat, load_chat_format
from weak_to_strong.models.manifests import read_manifest
from weak_to_strong.models.view import VIEWS, model_view
from weak_to_strong.tables.files import hash_file, hash_value, read_json, write_json
from weak_to_strong.training.settings import (
    QUANTISER,
    REWARD_TRAINERS,
    TrainingSettings,
    check_quantiser,
    complete_settings,
)

#: The script whose code, with all that it reaches, the weights depend on.
SCRIPT = Path(__file__).parents[2] / "train.py"
#: Further modules whose code the weights of a trainer depend on (`trainers.trainer_module`).
TRAINER_CODE = {name: Path(__file__).with_name(f"{name}.py") for name in REWARD_TRAINERS}
#: Packages that the weights depend on.
PACKAGES = ("accelerate", "peft", "torch", "transformers", "trl")


@dataclass(frozen=True)
class TrainingJob:
    """What a rule asks for: a trainer, its settings, and paths.

    Attributes:
        trainer: one of `settings.TRAINERS`.
        settings: see `settings.complete_settings`.
        rows: Parquet table: SFT_ROWS or WEIGHTED_ROWS for sft, PAIRS or WEIGHTED_PAIRS for dpo,
            REWARD_ROWS for grpo, PAIRS for the others.
        base: manifest of the base model.
        init: manifest of the trained model to continue, or None. Only sft and grpo can do without.
        work: folder of checkpoints. Each training has its own folder in it, removed at its end.
        model: model folder to publish.
        manifest: manifest of the model to publish, see `saving.publish_model`.
        history: JSON list to publish, one {"step", "loss", ...} for each update.
        chat: settings of a chat, see `chat_format.load_chat_format`; None for plain text.
        tracked: how its figures are reported, or None. No weight depends on it.
    """

    trainer: str
    settings: Mapping[str, Any]
    rows: str
    base: str
    init: str | None
    work: str
    model: str
    manifest: str
    history: str
    chat: Mapping[str, Any] | None = None
    tracked: TrackedRun | None = None


@dataclass(frozen=True)
class TrainingRun:
    """A training whose settings are checked, whose manifests are read, and whose folder is known.

    Attributes:
        trainer: one of `settings.TRAINERS`.
        settings: complete settings.
        rows: path of the table of rows.
        rows_sha256: sha256 of that file.
        base: content of the base model's manifest.
        base_manifest: path of that manifest.
        base_view: folder from which the base model is read, see `view.model_view`.
        init: content of the initial model's manifest, or None.
        init_manifest: path of that manifest, or None.
        init_view: folder from which the initial model is read, or None.
        versions: versions of the packages that the weights depend on, by package.
        code: digest of the code that the weights depend on, see `training_code`.
        work: this training's own folder of checkpoints, named by `run_key`. It need not exist.
        model: model folder to publish.
        manifest: manifest to publish.
        history: history to publish.
        chat: how rows become the turns of a chat; None for plain text.
        tracked: how its figures are reported, or None.
    """

    trainer: str
    settings: TrainingSettings
    rows: str
    rows_sha256: str
    base: Mapping[str, Any]
    base_manifest: str
    base_view: str
    init: Mapping[str, Any] | None
    init_manifest: str | None
    init_view: str | None
    versions: Mapping[str, str]
    code: str
    work: str
    model: str
    manifest: str
    history: str
    chat: ChatFormat | None = None
    tracked: TrackedRun | None = None

    def write(self, path: Path) -> None:
        """Write the run as JSON, for the processes of a launcher."""
        write_json(asdict(self), path)

    @classmethod
    def read(cls, path: Path) -> TrainingRun:
        """The run that `write` wrote."""
        value = read_json(path)
        settings = TrainingSettings.from_json(value["settings"])
        chat = value["chat"] and ChatFormat(**value["chat"])
        tracked = value["tracked"] and TrackedRun.from_json(value["tracked"])
        return cls(**{**value, "settings": settings, "chat": chat, "tracked": tracked})


def resolve(job: TrainingJob) -> TrainingRun:
    """Check a job's settings, read its manifests, make its models' views and find its work folder.

    Jobs that would end with the same weights have the same work folder, across experiments too.

    Raises:
        ValueError: bad settings, a damaged manifest, no package to quantise with, or a chat with a
            model that has no chat template.
    """
    settings = complete_settings(job.trainer, job.settings)
    check_quantiser(job.settings)
    base = read_manifest(job.base, "name")
    init = read_manifest(job.init, "base", "kind") if job.init else None
    rows_sha256, versions = hash_file(job.rows), package_versions(settings)
    code = training_code(job.trainer)
    chat = load_chat_format(base["name"], job.chat, base["path"]) if job.chat else None
    # Beside the folder of all trainings, which all nodes share.
    views = Path(job.work).parent / VIEWS.name
    key = run_key(job.trainer, settings, rows_sha256, base, init, {**versions, "code": code}, chat)
    return TrainingRun(
        trainer=job.trainer,
        settings=settings,
        rows=job.rows,
        rows_sha256=rows_sha256,
        base=base,
        base_manifest=job.base,
        base_view=str(model_view(job.base, views)),
        init=init,
        init_manifest=job.init,
        init_view=str(model_view(job.init, views)) if job.init else None,
        versions=versions,
        code=code,
        work=str(Path(job.work) / key),
        model=job.model,
        manifest=job.manifest,
        history=job.history,
        chat=chat,
        tracked=job.tracked,
    )


def training_code(trainer: str) -> str:
    """Digest of the code that the weights depend on (`code_digest`), with the trainer's own."""
    return "-".join(map(code_digest, _code_files(trainer)))


def has_training_code(trainer: str, digest: str) -> bool:
    """Whether the code still is as it was when `digest` was taken, see `has_digest`."""
    return all(map(has_digest, _code_files(trainer), digest.split("-")))


def _code_files(trainer: str) -> list[Path]:
    return [SCRIPT, *([TRAINER_CODE[trainer]] if trainer in TRAINER_CODE else [])]


def package_versions(settings: TrainingSettings) -> dict[str, str]:
    """Versions of the packages that the weights depend on, by package."""
    optional = {QUANTISER: settings.quantization, "deepspeed": settings.deepspeed}
    used = [*PACKAGES, *(name for name, wanted in optional.items() if wanted)]
    return {name: version(name) for name in used}


def run_key(
    trainer: str,
    settings: TrainingSettings,
    rows_sha256: str,
    base: Mapping[str, Any],
    init: Mapping[str, Any] | None,
    versions: Mapping[str, str],
    chat: ChatFormat | None = None,
) -> str:
    """Name of a training's work folder: a hash of everything that its weights depend on.

    The weights do not depend on SAVE_KEYS, so a training may be resumed with other values of them.
    A DeepSpeed file counts by its content, and a model by its files, wherever they are.

    Args:
        trainer: one of `settings.TRAINERS`.
        settings: complete settings.
        rows_sha256: sha256 of the table of rows.
        base: manifest of the base model.
        init: manifest of the initial model, or None.
        versions: versions of packages and of the code.
        chat: how rows become the turns of a chat; None for plain text.
    """
    relevant = settings.for_weights()
    if settings.deepspeed:
        relevant["deepspeed"] = hash_file(settings.deepspeed)
    value = {
        "trainer": trainer,
        "settings": relevant,
        "rows": rows_sha256,
        "base": base["files"],
        "init": init["files"] if init else None,
        "versions": dict(versions),
        **chat_facts(chat),
    }
    return hash_value(value)[:16]


def chat_facts(chat: ChatFormat | None) -> dict[str, Any]:
    """What the weights depend on in a chat, under the key `chat`; nothing of plain text."""
    if chat is None:
        return {}
    return {"chat": {**chat.facts(), "system": chat.system, "answer_after": chat.answer_after}}
