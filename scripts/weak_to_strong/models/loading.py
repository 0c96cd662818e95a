"""Does a base model's folder hold the whole model? Asked of transformers, without reading weights.

`python -P -m weak_to_strong.models.loading NAME=FOLDER ...` prints one line for each model that is
not whole, and ends with status 1 where there is one. Snakemake's own process runs this command
before the first job (`check_before_jobs`): importing transformers there would keep the libraries in
its memory for the whole run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from weak_to_strong.jobs.child_processes import start_child
from weak_to_strong.jobs.imports import collection_paused
from weak_to_strong.jobs.temporary_folders import held_folder
from weak_to_strong.models.model_files import model_files, weight_files
from weak_to_strong.models.view import link_files

#: Variable with the names of the models that a run has checked (JSON list), for its jobs.
CHECKED = "W2S_CHECKED_MODELS"
#: How a library reads a model.
_LOCAL = {"local_files_only": True, "trust_remote_code": False}


def check_loading(folder: Path, key: str) -> None:
    """Check that a model's files fill the architecture that its config.json names.

    The architecture is built on torch's meta device, which has shapes and no memory. transformers
    matches the tensors in the safetensors headers against it, by its own rules for renamed and tied
    weights. Files that are not the model's are not read, and code of the model's own does not run.

    Args:
        folder: folder of the model.
        key: config key for the message, such as `models.small`.

    Raises:
        ValueError: one line that names `key` and what does not fit: an architecture that
            transformers lacks, or that is not the one config.json names; missing, unexpected or
            differently shaped tensors; tied tensors that differ; a tokenizer with more tokens than
            the model, or without an end token.
    """
    with held_folder("model") as view:
        link_files(folder, model_files(folder, key), view)
        try:
            _check_view(view)
        except _MisfitError as misfit:
            words = str(misfit).replace(str(view), str(folder))
            raise ValueError(f"{key}: {folder}: {words}") from misfit


def check_tensors(view: Path, folder: str) -> None:
    """Check that the tensors of a model fill its architecture.

    Under ZeRO-3 transformers loads weights by code of its own, whose report lacks unexpected
    tensors. So this must be called before a training has set up DeepSpeed.

    Args:
        view: folder with the files of the model and no others, see `view.model_view`.
        folder: folder of the model for the message.

    Raises:
        ValueError: one line that names `folder` and what does not fit.
    """
    try:
        _build(view)
    except _MisfitError as misfit:
        raise ValueError(f"{folder}: {misfit}") from misfit


class _MisfitError(ValueError):
    """What does not fit in a model, and the fix, without the config key and the folder."""


def _check_view(view: Path) -> None:
    """Check the model in a folder that has no other files than its own, see `check_loading`."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with collection_paused():
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401
        from transformers.utils import logging

    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    model = _build(view)
    _check_tied(view, model.all_tied_weights_keys)
    names, built = model.config.architectures or [], type(model).__name__
    if names != [built]:
        raise _MisfitError(
            f"config.json names the architecture {', '.join(map(str, names))}, and transformers "
            f"reads its model_type as {built}; correct config.json, or vLLM would read another "
            "model"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(view, **_LOCAL)
    except Exception as error:
        raise _MisfitError(
            f"the tokenizer cannot be read ({_first_line(error)}); save it anew"
        ) from error
    vocabulary = model.get_input_embeddings().weight.shape[0]
    last = max(tokenizer.get_vocab().values(), default=0)
    if last >= vocabulary:
        raise _MisfitError(
            f"the tokenizer has a token with the number {last}, the model has {vocabulary} tokens; "
            "save the tokenizer that belongs to the model"
        )
    if tokenizer.eos_token_id is None:
        raise _MisfitError(
            "the tokenizer has no end token, so that no answer would end; set `eos_token` in its "
            "tokenizer_config.json"
        )


def _build(view: Path) -> Any:
    """The model of a view on the meta device, where all its tensors fit."""
    from transformers import AutoConfig

    try:
        reader = auto_class(AutoConfig.from_pretrained(view, **_LOCAL))
        model, report = reader.from_pretrained(
            view,
            **_LOCAL,
            use_safetensors=True,
            device_map="meta",
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except Exception as error:  # whatever a library raises at a stranger's file
        raise _MisfitError(
            f"transformers cannot build the model ({_first_line(error)}); fetch the model again, "
            "or use one that transformers has"
        ) from error
    if reason := explain_report(report):
        raise _MisfitError(reason)
    return model


def auto_class(config: Any) -> Any:
    """The class of transformers that reads a model as the architecture that its config.json names.

    Models that take images too, such as Qwen-VL, are no causal language models to transformers, or
    only their language model is one.

    Args:
        config: transformers' configuration of the model.
    """
    from transformers import AutoModelForCausalLM, AutoModelForMultimodalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES

    takes_images = MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES.get(config.model_type)
    if [takes_images] == config.architectures and not config.is_encoder_decoder:
        return AutoModelForMultimodalLM
    return AutoModelForCausalLM


def _check_tied(view: Path, tied: Mapping[str, str]) -> None:
    """Check that tensors which are one in the model are equal where the files have both.

    Otherwise transformers takes both as they are, and vLLM takes one of them for both.
    """
    from safetensors import safe_open

    files = [safe_open(view / name, framework="pt") for name in weight_files(view, "model")]
    places = {name: file for file in files for name in file.keys()}  # noqa: SIM118 - no mapping
    for name, source in tied.items():
        if name in places and source in places:
            one, other = (places[tensor].get_tensor(tensor) for tensor in (name, source))
            if not one.equal(other):
                raise _MisfitError(
                    f"config.json ties {name} to {source}, and the two differ in the weights; set "
                    "`tie_word_embeddings` to false if both are meant"
                )


def explain_report(report: Mapping[str, Any]) -> str | None:
    """What transformers' loading report says against a model, in one line with the fix.

    Args:
        report: what `from_pretrained` returns with `output_loading_info`.

    Returns:
        The first missing, unexpected or differently shaped tensor and the number of these, or the
        first error; None where all tensors fit.
    """
    if mismatched := sorted(report["mismatched_keys"]):
        name, shape, needed = mismatched[0]
        return (
            f"has {len(mismatched)} tensors of another shape than config.json asks for "
            f"({name}: {tuple(shape)}, asked for {tuple(needed)}); fetch the model again"
        )
    for kind, words in (
        ("missing_keys", "lacks {} tensors of the model that config.json names ({})"),
        ("unexpected_keys", "has {} tensors that the model in config.json does not have ({})"),
    ):
        if names := sorted(report[kind]):
            return f"{words.format(len(names), names[0])}; fetch the model again"
    if report["error_msgs"]:
        return f"{_first_line(report['error_msgs'][0])}; fetch the model again"
    return None


def _first_line(error: object) -> str:
    """What an error says, in one line of bounded length."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 200 else f"{words[:200]} ..."


def can_check() -> bool:
    """Whether transformers is installed; a machine that only starts the workflow may lack it."""
    return find_spec("transformers") is not None


def check_before_jobs(folders: Mapping[str, str]) -> None:
    """Check local models in a child process, and note for the jobs of this run which were checked.

    Where transformers is not installed nothing is checked. Then the job `base_model` does it.

    Args:
        folders: folder of each model by its name in the configuration.

    Raises:
        ValueError: the line of the first model that is not whole.
    """
    if not folders or not can_check():
        return
    models = [f"{name}={folder}" for name, folder in folders.items()]
    command = [sys.executable, "-P", "-m", "weak_to_strong.models.loading", *models]
    child = start_child(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, errors="replace")
    output, messages = child.communicate()
    if child.returncode:
        if output:
            raise ValueError(output.splitlines()[0])
        last = (messages.splitlines() or [f"status {child.returncode}"])[-1]
        raise ValueError(f"models: transformers ended while it checked them ({last}); repair it")
    os.environ[CHECKED] = json.dumps(sorted(folders))


def was_checked(name: str) -> bool:
    """Whether the run that started this job has checked a model, see `check_before_jobs`."""
    return name in json.loads(os.environ.get(CHECKED, "[]"))


def main(arguments: list[str]) -> int:
    """Check the models given as NAME=FOLDER and print what is wrong.

    Returns:
        1 where a model is not whole, else 0.
    """
    lines = []
    for argument in arguments:
        name, _, folder = argument.partition("=")
        try:
            check_loading(Path(folder), f"models.{name}")
        except ValueError as error:
            lines.append(str(error))
    print(*lines, sep="\n", end="\n" if lines else "")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
