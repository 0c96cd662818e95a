"""What an engine computes and keeps: seconds of prompts and answers, and memory.

Of two small models, bytes of weights and of the cache are exactly those that vLLM takes
(benchmarks/plan_check_engines.csv). Nothing has checked the seconds.
"""

from __future__ import annotations

from weak_to_strong.cluster.assumptions import DEVICE_OVERHEAD, Device
from weak_to_strong.cluster.model_shape import BYTES, HALF, Shape


def prefill_seconds(shape: Shape, tokens: float, device: Device) -> float:
    """Device-seconds of reading `tokens` of prompts: 2 FLOPs for each weight and token.

    Args:
        shape: of the model.
        tokens: number of tokens of all prompts.
        device: which reads them.

    Returns:
        Seconds, summed over devices.
    """
    return 2.0 * shape.parameters * tokens / (device.flops * device.prefill_utilisation)


def decode_seconds(shape: Shape, tokens: float, context: float, device: Device) -> float:
    """Device-seconds of writing `tokens` of answers.

    Each step adds a token to every sequence of the batch. A step reads all weights and the batch's
    keys and values once. It takes the time of this reading or of its arithmetic, the slower one
    (roofline; Pope et al., arXiv 2211.05102). Devices that share a model each read their part, so
    their number does not matter.

    Args:
        shape: sizes of the base model.
        tokens: of all answers.
        context: mean number of tokens that a step looks back on.
        device: the accelerator.
    """
    read = shape.size + device.batch * context * shape.cache_per_token
    reading = read / (device.memory_bandwidth * device.decode_utilisation)
    computing = prefill_seconds(shape, device.batch, device)
    return tokens / device.batch * max(reading, computing)


def generation_memory(shape: Shape, dtype: str, context: float, size: int, device: Device) -> float:
    """Bytes that an engine's weights, and keys and values, take of each of its GPUs.

    vLLM then fills the rest of its share with more of its cache.

    Args:
        shape: sizes of the base model.
        dtype: of the engine.
        context: mean number of tokens of a sequence.
        size: GPUs of the engine.
        device: the accelerator; of it `batch` counts.
    """
    ratio = BYTES[dtype] / HALF
    used = shape.size + device.batch * context * shape.cache_per_token
    return ratio * used / size + DEVICE_OVERHEAD
