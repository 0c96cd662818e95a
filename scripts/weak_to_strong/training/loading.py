"""Loading the model of a training: weights, 4-bit quantisation, LoRA adapter."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from weak_to_strong.models.loading import auto_class, explain_report
from weak_to_strong.tables.files import read_json
from weak_to_strong.training.settings import PREFERENCE_TRAINERS, LoraShape, TrainingSettings
from weak_to_strong.training.training_run import TrainingRun

#: Stands for a reference that is the trained model with its adapter disabled.
ADAPTER_OFF = "adapter off"
#: What a generation configuration says of tokens.
TOKEN_NUMBERS = ("bos_token_id", "eos_token_id", "pad_token_id")
#: Attribute of a bitsandbytes layer: whether it may pack its weights anew on this CPU.
REPACKS = "support_avx512bf16_for_cpu"


def check_init(
    trainer: str,
    settings: TrainingSettings,
    base: Mapping[str, Any],
    init: Mapping[str, Any] | None,
) -> None:
    """Check that a training can start from its initial model under its settings.

    Args:
        trainer: one of `settings.TRAINERS`.
        settings: complete settings.
        base: manifest of the base model.
        init: manifest of the initial model, or None.

    Raises:
        ValueError: a preference trainer without an initial model; one of another base or kind; or
            another LoRA shape than `lora` asks for.
    """
    if init is None:
        if trainer in PREFERENCE_TRAINERS:
            raise ValueError(f"{trainer}: needs the supervised model that it starts from")
        if settings.adapter == "lora" and settings.lora is None:
            raise ValueError("lora: is missing; give r, alpha, dropout, target_modules")
        return
    if init["base"] != base["name"]:
        raise ValueError(f"initial model: made from base {init['base']!r}, not {base['name']!r}")
    if init["kind"] != settings.adapter:
        raise ValueError(
            f"adapter: {settings.adapter!r} cannot continue an initial model of kind "
            f"{init['kind']!r}; set it to {init['kind']!r}"
        )
    if settings.lora:
        _check_shape(settings.lora, read_json(Path(init["path"]) / "adapter_config.json"))


def _check_shape(lora: LoraShape, saved: Mapping[str, Any]) -> None:
    """Check that an initial adapter has the shape that the settings ask for."""
    for key, name in {"r": "r", "alpha": "lora_alpha"}.items():
        if saved[name] != getattr(lora, key):
            raise ValueError(
                f"lora.{key}: {getattr(lora, key)} differs from the initial adapter's "
                f"{saved[name]}; leave lora out to continue that adapter"
            )
    if sorted(saved["target_modules"]) != list(lora.target_modules):
        raise ValueError(
            "lora.target_modules: differ from the initial adapter's "
            f"{sorted(saved['target_modules'])}; leave lora out to continue that adapter"
        )


def load_model(training: TrainingRun) -> Any:
    """The model to train: the base with a new adapter, with the initial adapter, or full weights.

    Args:
        training: the resolved run.

    Raises:
        ValueError: weights are missing or do not fit; or the model has no module of one of the
            adapter's target names.
    """
    settings, base, init = training.settings, training.base, training.init
    if settings.adapter == "full" and init:
        return load_weights(settings, training.init_view, init["path"])
    model = load_weights(settings, training.base_view, base["path"])
    if settings.adapter == "full":
        return model
    policy = add_adapter(settings, model, training.init_view)
    if settings.quantization:
        # TRL makes the adapter of a model that says so bfloat16. Small updates would be lost, and a
        # resumed training would end with other weights.
        model.is_loaded_in_4bit = False
    return policy


def load_reference(training: TrainingRun) -> Any:
    """What `trainers.build_trainer` takes as a reference; None for the initial model.

    The base model under an adapter is the trained model without its adapter. Full weights of the
    base are loaded beside the trained ones.

    Args:
        training: the resolved run.
    """
    settings = training.settings
    if settings.reference != "base":
        return None
    if settings.adapter == "lora":
        return ADAPTER_OFF
    return load_weights(settings, training.base_view, training.base["path"])


def load_weights(settings: TrainingSettings, view: str, folder: str) -> Any:
    """The model in `view`, in the precision in which it is trained.

    bfloat16 weights are trained in place only where float32 copies exist elsewhere: in the float32
    adapter of LoRA, and in DeepSpeed's optimiser. Otherwise weights stay float32, under bfloat16
    autocast.

    With `quantization` the projections of the frozen base have 4 bits a weight. Embeddings, norms
    and the output layer keep their precision. (peft's `prepare_model_for_kbit_training` would make
    them float32. The rest of what it does - freezing, gradients through checkpoints - peft does for
    any adapter and TRL for any checkpointing.)

    Args:
        settings: complete settings.
        view: folder with the files of the model and no others, see `view.model_view`.
        folder: folder of the model as its manifest names it. An adapter on it names it too.

    Raises:
        ValueError: a tensor is missing, has another shape, or does not belong to the model.
    """
    import torch
    from transformers import AutoConfig, GenerationConfig

    float32_elsewhere = settings.adapter == "lora" or settings.deepspeed
    half = settings.dtype == "bfloat16" and float32_elsewhere
    local = {"local_files_only": True, "trust_remote_code": False}
    config = AutoConfig.from_pretrained(view, **local)
    # SDPA, transformers' default, leaves out the cap of attention logits. vLLM, which serves the
    # model, applies it.
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    model, report = auto_class(config).from_pretrained(
        view,
        **local,
        dtype=torch.bfloat16 if half else torch.float32,
        attn_implementation="eager" if capped else None,
        quantization_config=quantisation_config(settings.quantization, settings.dtype),
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # the report has them too
    )
    if reason := explain_report(report):
        raise ValueError(f"{folder}: {reason}")
    if model.generation_config is not None:
        try:
            model.generation_config.validate(strict=True)
        except ValueError:
            # transformers would refuse to save the model. The sampling that a model proposes is
            # never used here, so only the numbers of its tokens are kept.
            numbers = model.generation_config.to_dict()
            model.generation_config = GenerationConfig(
                **{name: numbers.get(name) for name in TOKEN_NUMBERS}
            )
    if others := parts_beside_text(model):
        # Texts give them no gradient. Frozen, they need no optimiser, and no process waits for it.
        for name, parameter in model.named_parameters():
            if re.fullmatch(others, name):
                parameter.requires_grad_(False)
    model.name_or_path = folder  # peft writes it into adapter_config.json
    if settings.quantization:
        for module in model.modules():
            # On some CPUs a bitsandbytes layer packs its weights anew when it evaluates, such as
            # for DPO's reference, and leaves them so: in another precision, and only some shapes.
            if hasattr(module, REPACKS):
                setattr(module, REPACKS, False)
    return model


def add_adapter(settings: TrainingSettings, model: Any, init_view: str | None) -> Any:
    """The model with the initial adapter, or with a new one of the shape `settings.lora`."""
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers.integrations import is_deepspeed_zero3_enabled

    # ZeRO-3 gathers parameters of one dtype only, so there the adapter has that of the base.
    cast = not is_deepspeed_zero3_enabled()
    if init_view:
        return PeftModel.from_pretrained(
            model, init_view, is_trainable=True, autocast_adapter_dtype=cast
        )
    shape, others = settings.lora, parts_beside_text(model)
    modules = [name for name, _ in model.named_modules()]
    check_targets(
        shape.target_modules,
        [name for name in modules if not (others and re.fullmatch(others, name))],
    )
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=shape.r,
        lora_alpha=shape.alpha,
        lora_dropout=shape.dropout,
        target_modules=list(shape.target_modules),
        exclude_modules=others,
    )
    return get_peft_model(model, config, autocast_adapter_dtype=cast)


def parts_beside_text(model: Any) -> str | None:
    """Pattern of the names of all parts that are not the language model of a larger model.

    Gemma 3 and Qwen-VL have a part that sees images, whose projections have the names of those of
    the language model. Texts do not go through it.

    Args:
        model: a model of transformers.

    Returns:
        A regular expression that matches whole names; None for a model that has texts only.
    """
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    if model.config.get_text_config() is model.config or decoder is model:
        return None
    kept = (name for name, module in model.named_modules() if module in (decoder, head))
    return rf"(?!({'|'.join(map(re.escape, kept))})(\.|$)).*"


def check_targets(targets: Sequence[str], modules: Sequence[str]) -> None:
    """Check that the model has each target of an adapter: peft only asks for one of them.

    Raises:
        ValueError: names a missing target, and the model's projections.
    """
    ends = {name.rpartition(".")[2] for name in modules}
    for target in targets:
        if not any(f".{name}".endswith(f".{target}") for name in modules):
            there = ", ".join(sorted(end for end in ends if "proj" in end or end.startswith("fc")))
            raise ValueError(
                f"lora.target_modules: the model has no {target!r}; its projections are {there}"
            )


def quantisation_config(quantization: str | None, dtype: str) -> Any:
    """transformers' configuration of 4-bit weights, or None.

    4-bit normal floats with double quantisation (QLoRA; Dettmers et al., arXiv 2305.14314,
    section 3).

    Args:
        quantization: "nf4", or None for none.
        dtype: type in which products are computed.
    """
    if not quantization:
        return None
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quantization,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
