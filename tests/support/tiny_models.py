"""Tiny models with random weights, in the architectures that people bring."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Its tokenizer is that of all tiny models. It knows 768 tokens.
EMBEDDED = Path(__file__).parents[2] / "resources/embedded/study_weak_small"
#: Numbers of tokens that stand for parts of an image. No text has them.
_IMAGE_TOKENS = range(760, 764)
_TEXT = {
    "vocab_size": 768,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,  # vLLM's kernels for CPUs know no smaller heads
    "max_position_embeddings": 8192,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
    # Far from ties, so that a difference in the last bit changes no greedy choice.
    "initializer_range": 0.3,
}
_QWEN_VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "depth": 1,
    "num_heads": 2,
    "out_hidden_size": 64,
    "patch_size": 14,
    "spatial_merge_size": 2,
}


def _llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**_TEXT))


def _qwen3() -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(Qwen3Config(**_TEXT))


def _gemma3_text() -> Any:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    return _with_small_embeddings(Gemma3ForCausalLM(Gemma3TextConfig(**_TEXT, sliding_window=64)))


def _with_small_embeddings(model: Any) -> Any:
    """Gemma scales its embeddings up: with large ones, few layers do not change the next token."""
    model.get_input_embeddings().weight.data.mul_(0.1)
    return model


def _gemma3() -> Any:
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3TextConfig,
        SiglipVisionConfig,
    )

    vision = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    config = Gemma3Config(
        text_config=Gemma3TextConfig(**_TEXT, sliding_window=64),
        vision_config=vision,
        mm_tokens_per_image=4,
        **dict(zip(_GEMMA_IMAGE_KEYS, _IMAGE_TOKENS, strict=False)),
    )
    return _with_small_embeddings(Gemma3ForConditionalGeneration(config))


_GEMMA_IMAGE_KEYS = ("boi_token_index", "eoi_token_index", "image_token_index")
_QWEN_IMAGE_KEYS = (
    *("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id"),
)


def _qwen_vl(config: type, model: type, **vision: object) -> Any:
    rope = {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10000.0}
    return model(
        config(
            text_config={**_TEXT, "rope_parameters": rope},
            vision_config={**_QWEN_VISION, **vision},
            **dict(zip(_QWEN_IMAGE_KEYS, _IMAGE_TOKENS, strict=True)),
        )
    )


def _qwen25_vl() -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    blocks = {"fullatt_block_indexes": [0]}
    return _qwen_vl(Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, **blocks)


def _qwen3_vl() -> Any:
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    blocks = {"deepstack_visual_indexes": [0], "num_position_embeddings": 16}
    return _qwen_vl(Qwen3VLConfig, Qwen3VLForConditionalGeneration, **blocks)


#: Models that have a part that sees images, and keep the sizes of the text in `text_config`.
WITH_IMAGES = ("gemma3", "qwen2_5_vl", "qwen3_vl")
_MAKERS: dict[str, Callable[[], Any]] = {
    "llama": _llama,
    "qwen3": _qwen3,
    "gemma3_text": _gemma3_text,
    "gemma3": _gemma3,
    "qwen2_5_vl": _qwen25_vl,
    "qwen3_vl": _qwen3_vl,
}


def make_model(kind: str, folder: Path) -> Path:
    """Save a tiny model with a tokenizer.

    Args:
        kind: its `model_type`.
        folder: where to save it.

    Returns:
        The folder.
    """
    import torch

    torch.manual_seed(0)
    _MAKERS[kind]().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(EMBEDDED / name, folder / name)
    return folder
