"""What tests of training start from: a tiny base model, and a resolved training without files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weak_to_strong.models.manifests import hash_files
from weak_to_strong.tables.files import write_json
from weak_to_strong.training.settings import complete_settings
from weak_to_strong.training.training_run import TrainingRun


def write_base(
    folder: Path,
    words: Sequence[str],
    hidden_size: int = 16,
    intermediate_size: int = 32,
    **tokens: Any,
) -> None:
    """Write a random base model that knows a few words, `base`, and its manifest, `base.json`.

    Args:
        folder: where both are written.
        words: all that the tokenizer knows; the first three are `<s>`, `</s>` and `<pad>`.
        hidden_size: numbers of a hidden state.
        intermediate_size: numbers between the two halves of a layer's MLP.
        tokens: further arguments of the tokenizer, as its chat template.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

    base = folder / "base"
    vocabulary = {word: place for place, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", **tokens
    ).save_pretrained(base)
    set_seed(0)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(base)
    manifest = {"name": "tiny", "path": str(base), "files": hash_files(base), "source": "test"}
    write_json(manifest, folder / "base.json")


def bare_run(work: str) -> TrainingRun:
    """A supervised training by two processes.

    Args:
        work: its work folder.
    """
    settings = {
        "adapter": "full",
        "dtype": "float32",
        "epochs": 1,
        "global_batch_size": 2,
        "learning_rate": 1.0,
        "max_length": 8,
        "per_device_batch_size": 1,
        "scheduler": "cosine",
        "seed": 0,
        "processes": 2,
    }
    return TrainingRun(
        trainer="sft",
        settings=complete_settings("sft", settings),
        rows="rows.parquet",
        rows_sha256="",
        base={"name": "base", "files": {}},
        base_manifest="base.json",
        base_view="base",
        init=None,
        init_manifest=None,
        init_view=None,
        code="",
        versions={},
        work=work,
        model="model",
        manifest="model.json",
        history="history.json",
    )


class Stop(Exception):
    """Stands for a kill."""


def stop_after(step: int):
    """A callback that ends a training before the update after `step` updates."""
    from transformers import TrainerCallback

    class StopAfter(TrainerCallback):
        def on_step_begin(self, args, state, control, **_):
            if state.global_step == step:
                raise Stop

    return StopAfter()
