"""What autograd keeps of a real Llama block, against the table by which GPU needs are computed."""

from tempfile import TemporaryDirectory

import pytest

from weak_to_strong.cluster.model_shape import Shape
from weak_to_strong.cluster.training_cost import TrainingCost
from weak_to_strong.training.loading import quantisation_config
from weak_to_strong.training.settings import Zero

pytestmark = pytest.mark.slow

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SEQUENCES, LENGTH = 2, 128
SHAPES = {
    "keys and values as wide as queries": (256, 256, 688),
    "keys and values shared by heads": (256, 64, 1024),
}
SETTINGS = {
    "float32, full": {"dtype": "float32", "adapter": "full"},
    "float32, LoRA": {"dtype": "float32", "adapter": "lora"},
    "bfloat16, LoRA": {"dtype": "bfloat16", "adapter": "lora"},
    "bfloat16, full": {"dtype": "bfloat16", "adapter": "full"},
    "bfloat16, full, DeepSpeed": {"dtype": "bfloat16", "adapter": "full", "deepspeed": "a file"},
    "bfloat16, LoRA, 4 bits": {"dtype": "bfloat16", "adapter": "lora", "quantization": "nf4"},
}


def kept_bytes(shape: Shape, settings: dict, length: int = LENGTH) -> int:
    """Bytes that the backward pass of SEQUENCES sequences needs, without the weights.

    The model is as `loading.load_model` makes it; DeepSpeed's trains without autocasting.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    half = settings["dtype"] == "bfloat16"
    lora, deepspeed = settings["adapter"] == "lora", "deepspeed" in settings
    head = 32
    config = LlamaConfig(
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.hidden // head,
        num_key_value_heads=shape.key_value // head,
        vocab_size=shape.vocabulary,
        use_cache=False,
    )
    model = LlamaForCausalLM(config).train()
    if half and (lora or deepspeed):
        model = model.to(torch.bfloat16)
    if settings.get("quantization"):  # weights are quantised as they are loaded
        with TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            quantised = quantisation_config(settings["quantization"], settings["dtype"])
            loading = {"dtype": torch.bfloat16, "quantization_config": quantised}
            model = LlamaForCausalLM.from_pretrained(folder, **loading).train()
    if lora:
        model = get_peft_model(
            model, LoraConfig(r=2, target_modules=PROJECTIONS, lora_dropout=0.05)
        )
    if settings.get("gradient_checkpointing"):
        model.gradient_checkpointing_enable({"use_reentrant": False})
        if lora:
            model.enable_input_require_grads()
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept, tensors = {}, []

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        tensors.append(tensor)  # else its place would be taken by another
        return tensor

    tokens = torch.randint(0, shape.vocabulary, (SEQUENCES, length))
    with (
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=half and not deepspeed),
    ):
        model(input_ids=tokens, labels=tokens)
    return sum(kept.values())


def per_token_and_block(sizes: tuple[int, int, int], settings: dict) -> float:
    """Kept bytes by the number of blocks and of tokens; what depends on one alone drops out."""

    def kept(layers: int, length: int) -> int:
        return kept_bytes(Shape(0, layers, *sizes, vocabulary=64), settings, length)

    longer, shorter = (kept(3, length) - kept(1, length) for length in (3 * LENGTH, LENGTH))
    return (longer - shorter) / (2 * SEQUENCES * 2 * LENGTH)


@pytest.mark.parametrize("sizes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_block_keeps_what_the_table_says(settings, sizes):
    expected = TrainingCost(Shape(0, 1, *sizes), "sft", settings, Zero()).block_bytes
    assert per_token_and_block(sizes, settings) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("settings", list(SETTINGS.values())[:3], ids=list(SETTINGS)[:3])
def test_a_checkpointed_block_keeps_its_input(settings):
    sizes = SHAPES["keys and values shared by heads"]
    width = 2 if settings["dtype"] == "bfloat16" else 4
    checkpointed = {**settings, "gradient_checkpointing": True}
    assert per_token_and_block(sizes, checkpointed) == pytest.approx(width * sizes[0], rel=0.01)


def test_all_of_a_model_is_within_the_estimate():
    """With the logits, of which more copies live in the backward pass than are kept for it."""
    shape = Shape(0, 2, 64, 64, 128, vocabulary=5000)
    settings = SETTINGS["bfloat16, LoRA"]
    batch = {"per_device_batch_size": SEQUENCES, "max_length": LENGTH}
    estimate = TrainingCost(shape, "sft", {**settings, **batch}, Zero()).activation_bytes
    assert estimate / 3 < kept_bytes(shape, settings) < estimate
