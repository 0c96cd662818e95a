"""Which files of a folder make a model, and whether they are complete.

Only `check_finite` reads weights; all else is known from names and headers.

Folders of models often hold further files: weights in another format (`consolidated.safetensors`),
copies, notes. Each library has its own rule for them. Here one rule holds for all: a model is made
of the files below and of its weights. Other files are left out.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from operator import index
from pathlib import Path
from typing import Any

from weak_to_strong.tables.files import LFS_POINTER, read_json

#: A tokenizer has all files of one of these sets.
TOKENIZERS = (("tokenizer.json",), ("tokenizer.model",), ("vocab.json", "merges.txt"))
CONFIGURATIONS = ("config.json", "generation_config.json")
TOKENIZER_CONFIGURATIONS = ("tokenizer_config.json", "special_tokens_map.json")
PROCESSOR_CONFIGURATIONS = (
    *("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"),
)
#: The files of a model that are not its weights.
TEXT_FILES = (
    *CONFIGURATIONS,
    *TOKENIZER_CONFIGURATIONS,
    *(name for names in TOKENIZERS for name in names),
    *("added_tokens.json", "spiece.model", "sentencepiece.bpe.model", "vocab.txt"),
    *("chat_template.jinja", "chat_template.json"),
    *PROCESSOR_CONFIGURATIONS,
)
#: The weights: the file, or else the shards that the index names.
SINGLE_FILE, SHARD_INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
#: Weights that only other programs read.
OTHER_SUFFIXES = (".gguf", ".h5", ".msgpack", ".onnx", ".npz", ".tflite")
#: A shard is a file of the folder itself. vLLM reads names that begin so by Mistral's own rules.
_SHARD = re.compile(r"(?!consolidated)[A-Za-z0-9_][A-Za-z0-9_.-]*\.safetensors")
_CODE = re.compile(r"[A-Za-z0-9_]+\.py")

#: Ends of the names of architectures that continue a text.
_CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
#: Keys that send a library to other weights, another model or another configuration.
_REDIRECTS = {
    *("configuration_files", "fast_tokenizer_files", "speculators_config", "transformers_weights")
}
_QUANTISED = {"compression_config", "quantization_config"}
#: Keys whose value may name a repository of kernels, which would be fetched and run.
_KERNELS = {
    *("_attn_implementation", "_attn_implementation_internal", "attn_implementation"),
    *("experts_implementation", "fusion_config", "kernel_config"),
}
#: Number types that weights may have, in safetensors' names: the type of an unsigned integer of the
#: same size, and the bits of the exponent. They are all set in what is not finite.
_FLOATS = {
    "F64": ("<u8", 0x7FF0000000000000),
    "F32": ("<u4", 0x7F800000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
}
#: Number types that config.json may name.
_DTYPES = (None, "auto", "float64", "float32", "float16", "bfloat16")
#: Numbers of a tensor that are read at once.
_AT_ONCE = 2**24
#: Ends of the names of input embeddings. Their rows are the tokens that a model knows.
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")


def model_files(folder: Path, key: str, *, trust_remote_code: bool = False) -> list[str]:
    """Names of the files that make a model, sorted.

    Args:
        folder: folder of the model.
        key: configuration key that a message names.
        trust_remote_code: list Python files too. They never run.

    Raises:
        ValueError: see `weight_files`.
    """
    weights = weight_files(folder, key)
    wanted = {*TEXT_FILES, *weights, *({SHARD_INDEX} if weights not in ([], [SINGLE_FILE]) else ())}
    return sorted(
        name
        for name in os.listdir(folder)
        if (name in wanted or (trust_remote_code and _CODE.fullmatch(name)))
        and (folder / name).is_file()
    )


def weight_files(folder: Path, key: str) -> list[str]:
    """Names of the files with a model's weights, sorted; [] where there are none.

    Raises:
        ValueError: the index of the shards is damaged, or names a missing file or a file elsewhere;
            names `key`.
    """
    names = set(os.listdir(folder))
    if SINGLE_FILE in names:
        return [SINGLE_FILE]
    if SHARD_INDEX not in names:
        return []
    named = read_object(folder / SHARD_INDEX, key).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise ValueError(f"{key}: {folder / SHARD_INDEX} has no weight_map; fetch it again")
    shards = sorted(set(map(str, named.values())))
    for shard in shards:
        if not _SHARD.fullmatch(shard):
            raise ValueError(
                f"{key}: {folder / SHARD_INDEX} names {shard[:80]!r}, which cannot be a shard; "
                "save the model with `save_pretrained`"
            )
        if shard not in names:
            raise ValueError(f"{key}: {folder} lacks {shard}, which {SHARD_INDEX} names")
    return shards


def check_texts(folder: Path, key: str, *, trust_remote_code: bool) -> None:
    """Check what a model's JSON files say about it.

    Args:
        folder: folder of the model, which has a config.json.
        key: configuration key that a message names.
        trust_remote_code: accept a model that names Python code of its own.

    Raises:
        ValueError: no JSON object; code of its own that is not trusted; a key that sends a library
            to other files; quantised weights; no causal language model; or no end token.
    """
    texts = {}
    for name in (*CONFIGURATIONS, *TOKENIZER_CONFIGURATIONS, *PROCESSOR_CONFIGURATIONS):
        if os.path.lexists(folder / name):
            texts[name] = read_object(folder / name, key)
            _check_keys(texts[name], f"{key}: {folder / name}", trust_remote_code)
    _check_architectures(texts["config.json"], f"{key}: {folder / 'config.json'}")
    for name in (name for names in TOKENIZERS for name in names):
        _check_pointer(folder / name, key)
    end_token = (texts.get(name, {}).get("eos_token") for name in TOKENIZER_CONFIGURATIONS)
    end_number = (
        part.get("eos_token_id")
        for name in CONFIGURATIONS
        for part in _objects(texts.get(name, {}))
    )
    if all(value is None for value in (*end_token, *end_number)):
        raise ValueError(
            f"{key}: {folder} names no end token, so that no answer would end; set `eos_token` in "
            "its tokenizer_config.json"
        )
    for name in CONFIGURATIONS:
        _check_values(texts.get(name, {}), f"{key}: {folder / name}")


def _check_values(content: Mapping[str, Any], place: str) -> None:
    """Check values that libraries only read when texts are made."""
    for part in _objects(content):
        ends = part.get("eos_token_id")
        for number in ends if isinstance(ends, list) else [ends]:
            if number is not None and (type(number) is not int or number < 0):
                raise ValueError(
                    f"{place}: `eos_token_id` is {str(ends)[:80]}; it is the number of a token, or "
                    "a list of such numbers"
                )
        for name in ("dtype", "torch_dtype"):
            if part.get(name) not in _DTYPES:
                raise ValueError(
                    f"{place}: `{name}` is {str(part[name])[:80]!r}; use one of "
                    f"{', '.join(_DTYPES[2:])}"
                )


def text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a config.json says of the text: its own keys, and over them those of `text_config`.

    Models that take images too, such as Gemma 3 and Qwen-VL, keep the sizes of their language model
    in `text_config`.
    """
    part = config.get("text_config")
    return {**config, **part} if isinstance(part, dict) else config


def _objects(value: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A JSON object and all objects in it, at any depth."""
    waiting: list[Any] = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


def _check_keys(content: Mapping[str, Any], place: str, trust_remote_code: bool) -> None:
    for part in _objects(content):
        present = {name for name, value in part.items() if value is not None}
        if part.get("auto_map") and not trust_remote_code:
            raise ValueError(
                f"{place} names code of the model's own (auto_map), which is never run here; set "
                "`trust_remote_code: true` if transformers and vLLM have its architecture "
                "themselves"
            )
        if redirects := sorted(present & _REDIRECTS):
            raise ValueError(
                f"{place} has the key {redirects[0]}, which sends libraries to other files; remove "
                "the key, or name the folder of the model that it stands for"
            )
        if quantised := sorted(present & _QUANTISED):
            raise ValueError(
                f"{place} has the key {quantised[0]}: the weights are quantised; name a model with "
                "whole weights (to train on 4-bit weights set `training.<trainer>.quantization`)"
            )
        for name in sorted(present & _KERNELS):
            if "/" in json.dumps(part[name]):
                raise ValueError(
                    f"{place} names code of the Hub ({name}), which is never run here; remove the "
                    "key"
                )


def _check_architectures(config: Mapping[str, Any], place: str) -> None:
    names = config.get("architectures")
    if not isinstance(names, list) or not names:
        raise ValueError(f"{place} names no `architectures`; save the model with `save_pretrained`")
    for name in names:
        if not str(name).endswith(_CAUSAL):
            raise ValueError(
                f"{place} names the architecture {str(name)[:80]!r}, which does not continue a "
                "text; name a causal language model (...ForCausalLM)"
            )


def check_weights(folder: Path, key: str) -> None:
    """Check that a model's weights are complete safetensors files that fit its config.json.

    Raises:
        ValueError: no weights, or pickle weights only; a missing or cut-off file; a tensor in two
            files, or of a type that is no floating-point number; or another number of tokens or
            layers than config.json says.
    """
    files = weight_files(folder, key)
    if not files:
        raise ValueError(
            f"{key}: {folder} must have safetensors weights, it has "
            f"{_what_instead(os.listdir(folder))}; save the model with `save_pretrained`"
        )
    places: dict[str, str] = {}
    vocabularies = set()
    for file in files:
        if not (folder / file).is_file():
            raise ValueError(f"{key}: {folder / file} is no file; fetch the model again")
        for name, (kind, shape, _) in read_header(folder / file, key).items():
            if name.endswith(".weight") and kind not in _FLOATS:
                raise ValueError(
                    f"{key}: {folder / file} has {name} as {kind}: the weights are quantised; name "
                    f"a model whose weights are {', '.join(_FLOATS)}"
                )
            if name in places:
                raise ValueError(
                    f"{key}: {folder} has the tensor {name} in {places[name]} and in {file}; save "
                    "the model with `save_pretrained`"
                )
            places[name] = file
            if name.endswith(EMBEDDINGS):
                vocabularies.add(shape[0] if shape else 0)
    config = read_object(folder / "config.json", key)
    for part in _objects(config):
        # Libraries would build all layers that are named before they miss the first.
        if isinstance(layers := part.get("num_hidden_layers"), int) and layers > len(places):
            raise ValueError(
                f"{key}: the weights in {folder} are {len(places)} tensors, and config.json names "
                f"{layers} layers; fetch the model again"
            )
    configured = text_part(config).get("vocab_size")
    rows = vocabularies.pop() if len(vocabularies) == 1 else configured
    ends = text_part(config).get("eos_token_id")
    ends = ends if isinstance(ends, list) else [ends]
    if isinstance(rows, int) and any(isinstance(end, int) and end >= rows for end in ends):
        raise ValueError(
            f"{key}: `eos_token_id` in {folder / 'config.json'} is {max(filter(None, ends))}, and "
            f"the weights have {rows} tokens; correct it"
        )
    if configured is not None and configured != rows:
        raise ValueError(
            f"{key}: the weights in {folder} have {rows} tokens, and `vocab_size` in config.json "
            f"is {configured!r}; fetch the model again"
        )


def _what_instead(names: Iterable[str]) -> str:
    """What a folder without weights has in their place."""
    for suffixes, kind in (
        (PICKLE_SUFFIXES, "only pickle weights ({}), which can run code"),
        (OTHER_SUFFIXES, "only weights of another format ({})"),
        ((".safetensors",), f"{{}}, but no {SINGLE_FILE} and no {SHARD_INDEX}"),
    ):
        if others := sorted(name for name in names if name.endswith(suffixes)):
            return kind.format(ascii(others[0])[1:-1])
    return "none"


def check_finite(folder: Path, key: str) -> None:
    """Check that no weight is infinite or not a number. All weights are read.

    Raises:
        ValueError: one is; names `key`, the file and the tensor.
    """
    for file in weight_files(folder, key):
        for name, (kind, _, place) in read_header(folder / file, key).items():
            # Buffers, such as masks, may be infinite.
            if name.endswith(".weight") and not _is_finite(folder / file, kind, place):
                raise ValueError(
                    f"{key}: {folder / file} has numbers in {name} that are not finite; fetch the "
                    "model again"
                )


def _is_finite(file: Path, kind: str, place: tuple[int, int]) -> bool:
    """Whether all numbers of a tensor are finite."""
    import numpy as np

    integer, exponent = _FLOATS[kind]
    first, end = place
    size = np.dtype(integer).itemsize
    while first + size <= end:
        numbers = np.fromfile(file, integer, min(_AT_ONCE, (end - first) // size), offset=first)
        if ((numbers & exponent) == exponent).any():
            return False
        first += numbers.nbytes
    return True


def read_header(file: Path, key: str) -> dict[str, tuple[str, list[int], tuple[int, int]]]:
    """Number type, shape, and first and last byte of each tensor of a safetensors file by its name.

    Raises:
        ValueError: the file is shorter or longer than its header says, as one that was cut off; no
            tensors; or no safetensors file at all.
    """
    size = file.stat().st_size
    _check_pointer(file, key)
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > size - 8:
                raise ValueError("header longer than the file")
            header = json.loads(stream.read(length))
        tensors = {
            name: (
                str(value["dtype"]),
                list(map(index, value["shape"])),
                tuple(8 + length + index(offset) for offset in value["data_offsets"]),
            )
            for name, value in header.items()
            if name != "__metadata__"
        }
        if not tensors:
            raise ValueError("it holds no weights")
        end = max(last for _, _, (_, last) in tensors.values())
        if end != size:
            raise ValueError(f"{size} bytes instead of {end}")
        return tensors
    except (
        struct.error,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        RecursionError,
    ) as error:
        raise ValueError(
            f"{key}: {file} is no complete safetensors file ({error}); fetch it again"
        ) from error


def _check_pointer(file: Path, key: str) -> None:
    """Refuse what `git clone` leaves in the place of a large file if Git LFS is not installed."""
    if file.is_file():
        with file.open("rb") as stream:
            if stream.read(len(LFS_POINTER)) == LFS_POINTER:
                kind = "safetensors file" if file.suffix == ".safetensors" else "file"
                raise ValueError(
                    f"{key}: {file} is no complete {kind} (a pointer of Git LFS); fetch it again "
                    "with `git lfs pull`"
                )


def read_object(file: Path, key: str) -> dict[str, Any]:
    """A JSON object of a model folder.

    Raises:
        ValueError: no regular file, not JSON, or no object; names `key`.
    """
    # Reading a pipe or device of this name would never end.
    _check_pointer(file, key)
    try:
        value = read_json(file) if file.is_file() else None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{key}: {file} is not readable JSON; fetch the model again") from error
    if not isinstance(value, dict):
        raise ValueError(f"{key}: {file} is no JSON object; fetch the model again")
    return value
