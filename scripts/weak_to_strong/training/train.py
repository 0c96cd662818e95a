"""One training in one process, with one of TRL's trainers.

A training starts from a base model (SFT) or continues an SFT model (Stage II of the paper). It
publishes a model folder - one LoRA adapter over the base, or full weights with the tokenizer - with
a manifest and a history of losses. Until then it works in a folder that is named by a hash of
everything that the weights depend on, and resumes there from the last complete checkpoint.

`python -m weak_to_strong.training.train run.json` is one of the processes that `processes.py`
starts, on one machine or in a SLURM step on each of several nodes.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from weak_to_strong.jobs.errors import explain_storage
from weak_to_strong.jobs.locks import follow_parent
from weak_to_strong.jobs.logs import configure_logging, logger
from weak_to_strong.models.loading import check_tensors
from weak_to_strong.models.manifests import check_files
from weak_to_strong.tables.frames import read_table
from weak_to_strong.tables.schemas import (
    PAIRS,
    REWARD_ROWS,
    SFT_ROWS,
    WEIGHTED_PAIRS,
    WEIGHTED_ROWS,
)
from weak_to_strong.training.checkpoints import find_checkpoint, list_unhashed, remove_torn
from weak_to_strong.training.history import (
    clean_history,
    planned_tokens,
    reward_facts,
    training_facts,
)
from weak_to_strong.training.libraries import (
    hide_quantiser,
    import_libraries,
    prepare_torch,
    quieten_libraries,
)
from weak_to_strong.training.loading import check_init, load_model, load_reference
from weak_to_strong.training.rows import Encoded, Question, encode_questions, encode_rows
from weak_to_strong.training.saving import gather_state, publish_model
from weak_to_strong.training.settings import zero_of
from weak_to_strong.training.trainers import build_trainer, training_arguments
from weak_to_strong.training.training_run import TrainingRun, has_training_code


def train(training: TrainingRun, callbacks: Iterable[Any] = ()) -> None:
    """Train in this process, which may be one of several of a launcher.

    Args:
        training: the resolved run.
        callbacks: further transformers callbacks.

    Raises:
        ValueError: bad rows or initial model; or a loss that is not finite.
    """
    if is_first := _is_first():
        for manifest in filter(None, [training.base_manifest, training.init_manifest]):
            check_files(manifest)
    trainer, rows = prepare_trainer(training, callbacks)
    checkpoint = find_checkpoint(Path(training.work))
    if is_first:
        remove_torn(Path(training.work))
        _log_start(training, len(rows), checkpoint)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    history = clean_history(trainer.state.log_history)
    if not history:
        raise ValueError("training: made no update; raise epochs")
    state = gather_state(trainer)
    if is_first:
        if training.settings.rewards:
            facts = reward_facts(rows, trainer.state.max_steps, history)
        else:
            steps = trainer.state.global_step
            facts = training_facts(rows, training.settings, steps, history)
        publish_model(training, trainer, state, history, facts)
        shutil.rmtree(training.work, ignore_errors=True)


def _is_first() -> bool:
    """Whether this process is the only one of its training, or the first."""
    return int(os.environ.get("RANK", "0")) == 0


def _encode(training: TrainingRun, tokenizer: Any) -> list[Encoded] | list[Question]:
    """The rows as token ids."""
    settings, trainer = training.settings, training.trainer
    if settings.rewards:
        table = read_table(training.rows, REWARD_ROWS)
        lengths = settings.max_length, settings.rewards.max_tokens
        return encode_questions(table, tokenizer, *lengths, training.chat)
    schemas = (SFT_ROWS, WEIGHTED_ROWS) if trainer == "sft" else (PAIRS, WEIGHTED_PAIRS)
    table = read_table(training.rows, *schemas)
    columns = ("completion",) if trainer == "sft" else ("chosen", "rejected")
    return encode_rows(table, tokenizer, settings.max_length, columns, training.chat)


def prepare_trainer(
    training: TrainingRun, callbacks: Iterable[Any]
) -> tuple[Any, Sequence[Encoded] | Sequence[Question]]:
    """TRL's trainer with model, rows and callbacks; and the rows as token ids.

    Raises:
        ValueError: bad rows or initial model; or the code is not that with which the job began.
    """
    settings, base, init = training.settings, training.base, training.init
    check_init(training.trainer, settings, base, init)
    quieten_libraries()
    import_libraries(training.trainer)
    from transformers import AutoTokenizer, PrinterCallback

    from weak_to_strong.training.callbacks import make_callbacks
    from weak_to_strong.training.reporting import make_reporters

    # All modules are imported. Checkpoints of edited code must not stand under this code's key.
    if not has_training_code(training.trainer, training.code):
        raise ValueError("the code of the training was edited while it started; run again")
    tokenizer = AutoTokenizer.from_pretrained(
        training.base_view, local_files_only=True, trust_remote_code=False
    )
    rows = _encode(training, tokenizer)
    work = Path(training.work)
    work.mkdir(parents=True, exist_ok=True)
    if _is_first() and zero_of({"deepspeed": settings.deepspeed}).stage == 3:
        check_tensors(Path(training.base_view), base["path"])
        if init and settings.adapter == "full":
            check_tensors(Path(training.init_view), init["path"])
    prepare_torch(settings)
    arguments = training_arguments(training.trainer, settings, work)
    model = load_model(training)
    reference = load_reference(training)
    trainer = build_trainer(
        training.trainer, arguments, model, tokenizer, rows, settings.likelihood, reference
    )
    trainer.remove_callback(PrinterCallback)
    min_entropy = settings.rewards.min_entropy if settings.rewards else 0.0
    tokens = planned_tokens(rows, settings)
    reporters = make_reporters(training.tracked, arguments, tokens) if _is_first() else []
    for callback in (
        *make_callbacks(settings.save_minutes, min_entropy),
        *reporters,
        *callbacks,
    ):
        trainer.add_callback(callback)
    return trainer, rows


def _log_start(training: TrainingRun, rows: int, checkpoint: Path | None) -> None:
    logger.info("%s: %d rows, work folder %s", training.trainer, rows, Path(training.work).name)
    if checkpoint:
        logger.info("resuming from %s", checkpoint.name)
        if unhashed := list_unhashed(checkpoint):
            logger.info("above 1 GiB and checked by size only: %s", ", ".join(unhashed))


def main(arguments: Sequence[str]) -> int:
    """Train the resolved run of a JSON file; the exit status, 1 on bad input."""
    follow_parent()
    configure_logging(None, f"rank {os.environ.get('RANK', '0')}")
    try:
        training = TrainingRun.read(Path(arguments[0]))
        hide_quantiser(training.settings.quantization)
        train(training)
    except ValueError as error:
        logger.error("%s", error)
        return 1
    except Exception as error:
        if not (explanation := explain_storage(error)):
            raise
        logger.error("%s", explanation)
        return 1
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    # All files are written. While the interpreter shuts down, a thread of the backend can abort the
    # process ("terminate called without an active exception"), which would end the other processes.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)
