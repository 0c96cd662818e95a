"""Sizes of a base model: from its configuration entry, its config.json or its weights' headers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

from weak_to_strong.models.model_files import EMBEDDINGS, read_header, text_part, weight_files

#: Bytes of one number.
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
HALF, FLOAT32 = 2, 4


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama-shaped model."""

    parameters: int  # number of weights
    layers: int  # number of blocks
    hidden: int  # width of a block, and of all its queries together
    key_value: int  # width of its keys, and of its values
    intermediate: int  # width inside its MLP
    vocabulary: int = 128_000  # number of tokens that it knows; the default is Llama 3's, rounded

    @property
    def size(self) -> int:
        """Bytes of the weights in 16 bits."""
        return HALF * self.parameters

    @property
    def cache_per_token(self) -> int:
        """Bytes of one token's keys and values in 16 bits."""
        return HALF * 2 * self.layers * self.key_value

    def adapter_weights(self, rank: int, modules: Sequence[str]) -> int:
        """Number of weights of a LoRA adapter (Hu et al., arXiv 2106.09685).

        Each adapted projection has `rank` weights for each of its inputs and outputs. A projection
        that a Llama-shaped block does not have, such as a fused one, roughly counts as one from
        `hidden` to `hidden`.
        """
        attention = self.hidden + self.hidden
        grouped = self.hidden + self.key_value
        mlp = self.hidden + self.intermediate
        sizes = {"q_proj": attention, "k_proj": grouped, "v_proj": grouped, "o_proj": attention}
        sizes |= dict.fromkeys(("gate_proj", "up_proj", "down_proj"), mlp)
        return self.layers * rank * sum(sizes.get(name, attention) for name in modules)


def tensor_shapes(folder: Path) -> dict[str, list[int]]:
    """Shape of each tensor of the files that make a model by its name, from their headers alone.

    Raises:
        FileNotFoundError: there is no such folder, or no weights in it.
        ValueError: an index or a file of weights is damaged.
    """
    key = "models"
    files = weight_files(folder, key)
    if not files:
        raise FileNotFoundError(2, "no safetensors files", str(folder))
    headers = (read_header(folder / file, key).items() for file in files)
    return {name: shape for name, (_, shape, _) in chain.from_iterable(headers)}


def rough_shape(parameters: int) -> Shape:
    """Shape of a model of which only the number of weights is known.

    The model is taken to have blocks of 12 h**2 weights, 128 times as wide as they are many, and
    keys and values as wide as queries. This is right for Llama 2 7B (32 blocks of width 4096).
    Newer models share keys and values between queries, and take no more memory than this.
    """
    layers = max(1, round((parameters / (12 * 128**2)) ** (1 / 3)))
    hidden = 128 * layers
    return Shape(parameters, layers, hidden, hidden, round(hidden * 8 / 3))


def config_shape(
    config: Mapping[str, Any], parameters: int, tensors: Mapping[str, Sequence[int]] | None = None
) -> Shape:
    """Shape from the content of a model's config.json.

    A size that stands at the top or in `text_config` is taken as it is. Models save only what
    differs from their defaults, so others are read from the shapes of the weights: the tokens from
    the input embeddings, keys and values from a `k_proj`. `rough_shape` fills in the rest.

    Args:
        config: content of the file.
        parameters: number of weights, those that see images included.
        tensors: shapes of the model's tensors by their names, as of `tensor_shapes`.
    """
    config, tensors, rough = text_part(config), tensors or {}, rough_shape(parameters)
    hidden = config.get("hidden_size", rough.hidden)
    heads = config.get("num_attention_heads") or 1
    head = config.get("head_dim") or hidden // heads
    # The projections of what sees images have other inputs.
    key_values = (
        shape[0]
        for name, shape in tensors.items()
        if name.endswith("k_proj.weight") and list(shape[1:]) == [hidden]
    )
    embeddings = (shape[0] for name, shape in tensors.items() if name.endswith(EMBEDDINGS))
    return Shape(
        parameters=parameters,
        layers=config.get("num_hidden_layers", rough.layers),
        hidden=hidden,
        key_value=next(key_values, head * (config.get("num_key_value_heads") or heads)),
        intermediate=config.get("intermediate_size", rough.intermediate),
        vocabulary=config.get("vocab_size") or next(embeddings, rough.vocabulary),
    )


def model_shape(
    entry: Mapping[str, Any],
    folder: str | Path,
    known: Mapping[str, Mapping[str, int]] | None = None,
) -> Shape:
    """Sizes of a base model: from its config.json, else of a known model, else roughly.

    Args:
        entry: the model's entry in the configuration; its `parameters` go before a count.
        folder: folder of the model, which need not exist yet.
        known: sizes of models by the key `paper` of their entries, as in `Assumptions.models`.

    Raises:
        FileNotFoundError: the entry has no `parameters`, and the model's files are not there.
    """
    config, tensors = Path(folder) / "config.json", {}
    try:
        tensors = tensor_shapes(Path(folder))
    except FileNotFoundError:
        if not entry.get("parameters"):
            raise
    parameters = entry.get("parameters") or sum(map(prod, tensors.values()))
    if config.is_file():
        return config_shape(json.loads(config.read_text("utf-8")), parameters, tensors)
    sizes = (known or {}).get(entry.get("paper"))
    return Shape(parameters, **sizes) if sizes else rough_shape(parameters)
