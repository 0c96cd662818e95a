"""Loading and setting up the libraries of a training: transformers, TRL, torch, DeepSpeed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from weak_to_strong.jobs.imports import collection_paused
from weak_to_strong.training.kernel_builds import guard_builds
from weak_to_strong.training.meeting import join_processes
from weak_to_strong.training.settings import QUANTISER, TrainingSettings
from weak_to_strong.training.trainers import trainer_module

#: The package of vLLM's engine. It serves models; nothing is trained with it.
ENGINE = "vllm"


def quieten_libraries() -> None:
    """Turn off progress bars, telemetry and look-ups on the Hub. Call it before any import."""
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "TRL_EXPERIMENTAL_SILENCE"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Deterministic matrix products on CUDA; cuBLAS reads it at its first use.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def hide_quantiser(quantization: str | None) -> None:
    """Hide the quantiser from a process that does not quantise.

    transformers and peft would import it, which takes about a second.
    """
    if not quantization:
        sys.modules.setdefault(QUANTISER, None)  # as if it were not installed


@contextmanager
def _without_engine() -> Iterator[None]:
    """Let TRL import its GRPO trainer as if vLLM were not installed.

    It would import all of vLLM, which takes many seconds, and warn of its version.
    """
    if ENGINE in sys.modules:
        yield
        return
    sys.modules[ENGINE] = None
    try:
        yield
    finally:
        del sys.modules[ENGINE]


def import_libraries(trainer: str) -> None:
    """Import what a training with `trainer` needs; turn off transformers' bars and warnings."""
    with collection_paused(), _without_engine():
        import datasets  # noqa: F401
        from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer  # noqa: F401
        from transformers.utils import logging

        trainer_module(trainer)

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def prepare_torch(settings: TrainingSettings) -> None:
    """Set the number of threads (OMP_NUM_THREADS), seed all generators, use deterministic kernels.

    The processes of a training meet here: ZeRO-3 must know their number when the weights load.
    """
    import torch
    from transformers import set_seed

    if threads := os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))
    set_seed(settings.seed)
    if torch.cuda.is_available():
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    join_processes(backend)
    if settings.deepspeed:
        guard_builds()
        import deepspeed

        deepspeed.init_distributed(backend)
    else:
        from accelerate.utils import other

        # accelerate would import an installed DeepSpeed (2 to 3 s) only to ask whether the model is
        # one of its engines.
        other.is_deepspeed_available = lambda: False
