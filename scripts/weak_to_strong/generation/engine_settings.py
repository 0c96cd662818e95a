"""Settings of engines: their checks, vLLM's arguments, and the environments of worker processes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from weak_to_strong.generation.engine_worker import DEVICES
from weak_to_strong.jobs.child_processes import loopback_variables
from weak_to_strong.jobs.gpus import count_gpus, is_cpu_build, vllm_version

#: LoRA ranks that vLLM makes room for. An adapter of another rank takes the room of the next one.
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True)
class EngineSettings:
    """How engines run.

    Only `device`, `dtype`, `max_model_len` and `batch_invariant` can change a text. On GPUs the
    others can change it by rounding.

    Attributes:
        max_model_len: most tokens of prompt and response together.
        device: "cpu", "cuda", or "auto": the CPU where vLLM's build for CPUs is installed.
        dtype: type of weights and arithmetic. None is float32 on a CPU and bfloat16 on a GPU.
        max_num_seqs: samples that an engine runs at once.
        shard_size: prompts that are generated, and stored, together.
        processes: worker processes, each with its own engine, and on GPUs with its own devices. On
            a CPU one for each thread is best: threads that share a small model mostly wait.
        kv_cache_gib: memory of an engine's KV cache on a CPU, in GiB.
        tensor_parallel_size: GPUs of a node that share an engine's layers.
        pipeline_parallel_size: nodes among which an engine's layers are divided.
        gpu_memory_utilization: share of a GPU's memory that an engine takes.
        max_loras: adapters that may run in one batch on a GPU. On a CPU all may.
        batch_invariant: use kernels whose result does not depend on the batch (GPU; slower).
    """

    max_model_len: int
    device: str = "auto"
    dtype: str | None = None
    max_num_seqs: int = 256
    shard_size: int = 64
    processes: int = 1
    kv_cache_gib: float = 1.0
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9
    max_loras: int = 8
    batch_invariant: bool = False

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> EngineSettings:
        """Check settings given as a mapping, and replace "auto" and None by what they stand for.

        Raises:
            ValueError: an unknown or missing key, or a value out of range; names the key.
        """
        entry = dict(entry)
        if unknown := set(entry) - {item.name for item in fields(cls)}:
            raise ValueError(f"engine settings: unknown key(s) {', '.join(sorted(unknown))}")
        if "max_model_len" not in entry:
            raise ValueError("engine settings: `max_model_len` is missing")
        if entry.get("device", "auto") == "auto":
            entry["device"] = "cpu" if is_cpu_build(vllm_version()) else "cuda"
        entry["dtype"] = entry.get("dtype") or {"cpu": "float32", "cuda": "bfloat16"}.get(
            entry["device"]
        )
        entry["batch_invariant"] = entry.get("batch_invariant", False) and entry["device"] != "cpu"
        settings = cls(**entry)
        if settings.device not in ("cpu", "cuda"):
            raise ValueError(f"engine settings: `device` is {settings.device!r}, not cpu or cuda")
        for item in fields(cls):
            value = getattr(settings, item.name)
            kinds = {"int": int, "float": (int, float)}.get(item.type)
            if kinds and not (isinstance(value, kinds) and value > 0):
                raise ValueError(
                    f"engine settings: `{item.name}` is {value!r}; want {item.type} > 0"
                )
        return settings


def engine_arguments(settings: EngineSettings, weights: str, ranks: Sequence[int]) -> dict:
    """Keyword arguments of `vllm.EngineArgs`.

    Args:
        settings: settings of the round.
        weights: view of the base weights.
        ranks: rank of each adapter that the engine serves. Without adapters LoRA is off.
    """
    arguments: dict[str, Any] = {
        "model": weights,
        "trust_remote_code": False,
        # The part of a model that sees images is not loaded.
        "language_model_only": True,
        "dtype": settings.dtype,
        "seed": 0,
        "max_model_len": settings.max_model_len,
        "max_num_seqs": settings.max_num_seqs,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
    }
    if settings.pipeline_parallel_size > 1:
        arguments["pipeline_parallel_size"] = settings.pipeline_parallel_size
    if settings.device == "cpu":
        arguments |= {
            "enforce_eager": True,
            "distributed_executor_backend": "mp" if settings.pipeline_parallel_size > 1 else "uni",
            # Blocks of 128 tokens, the default, leave short few-shot prefixes uncached.
            "block_size": 32,
            "kv_cache_memory_bytes": int(settings.kv_cache_gib * 2**30),
            # The CPU engine crashes on a prompt in chunks with a seed.
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(settings.max_model_len, 8192),
        }
    else:
        arguments |= {
            "tensor_parallel_size": settings.tensor_parallel_size,
            "gpu_memory_utilization": settings.gpu_memory_utilization,
        }
    if ranks:
        # vLLM's CPU kernels apply the adapter of the last slot to rows without an adapter (vLLM
        # pull request 48421), so on a CPU the last slot stays empty. The slot before it is for an
        # adapter that is tried in a larger copy (`engine_worker.VllmEngine`).
        slots = len(ranks) + 2 if settings.device == "cpu" else min(len(ranks), settings.max_loras)
        arguments |= {
            "enable_lora": True,
            "max_loras": slots,
            "max_cpu_loras": max(slots, len(ranks)),
            "max_lora_rank": min(rank for rank in LORA_RANKS if rank >= max(ranks)),
        }
    return arguments


def worker_environments(
    settings: EngineSettings, threads: int, nodes: int = 1
) -> list[dict[str, str]]:
    """Environment variables that are set for the worker processes of each engine.

    Args:
        settings: settings of the round.
        threads: CPU threads of a node.
        nodes: number of nodes. The processes of a node follow one another.

    Raises:
        ValueError: fewer visible GPUs than the processes need, or engines that do not fit on the
            nodes.
    """
    spread = settings.pipeline_parallel_size
    node_processes, rest = divmod(settings.processes * spread, nodes)
    if spread > 1 and settings.device != "cpu" and node_processes != 1:
        raise ValueError(
            f"engine settings: {settings.processes} engine(s) of `pipeline_parallel_size` "
            f"{spread} take {settings.processes * spread} nodes, and the job has {nodes}; ask for "
            "as many nodes, or raise `tensor_parallel_size` instead"
        )
    if rest:
        raise ValueError(
            f"engine settings: `processes` is {settings.processes}; want a multiple of the "
            f"{nodes} nodes"
        )
    common = {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
        # Without several nodes, the processes of an engine are on one machine.
        **(loopback_variables() if nodes == 1 or spread == 1 else {}),
    }
    # Snakemake sets these to the threads of the job, which the worker processes share.
    share = str(max(1, threads // node_processes))
    common |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), share)
    if settings.device == "cpu":
        # An engine in a process of its own would import vLLM once more.
        common["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        # Models are not compiled on a CPU (`enforce_eager`). Only vLLM's count of likelier tokens
        # would be, when an adapter is tried: ten seconds of a C++ compiler in each engine.
        common["TORCHDYNAMO_DISABLE"] = "1"
        return [common] * settings.processes
    if settings.batch_invariant:
        common["VLLM_BATCH_INVARIANT"] = "1"
    size = settings.tensor_parallel_size
    if nodes > 1:
        # Only a worker on a node sees the node's GPUs.
        parts = [f"{place * size}:{(place + 1) * size}" for place in range(node_processes)]
        return [{**common, DEVICES: part} for part in parts * nodes][: settings.processes]
    return [{**common, "CUDA_VISIBLE_DEVICES": gpus} for gpus in _gpus_of_engines(settings)]


def _gpus_of_engines(settings: EngineSettings) -> list[str]:
    """CUDA_VISIBLE_DEVICES of each engine of this machine.

    Raises:
        ValueError: fewer visible GPUs than the engines need.
    """
    size = settings.tensor_parallel_size
    needed = size * settings.processes
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else [str(gpu) for gpu in range(count_gpus() or needed)]
    if len(devices) < needed:
        raise ValueError(
            f"engine settings: `processes` times `tensor_parallel_size` is {needed}, "
            f"but {len(devices)} GPU(s) are visible"
        )
    return [",".join(devices[first : first + size]) for first in range(0, needed, size)]
