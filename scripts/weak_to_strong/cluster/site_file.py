"""The site file: the cluster that jobs run on, in the few words that a site has to edit.

`profiles/slurm/site.yaml` is the example and names every key; the environment variable `W2S_SITE`
names another one. Nothing in it bears on a result.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from weak_to_strong.experiment.configuration import ConfigError

VARIABLE = "W2S_SITE"

#: Keys: their type, and whether they must be there.
_TEXT, _COUNT, _AMOUNT = "text", "a whole number >= 1", "a number > 0"
KEYS = {
    "gpu.partition": (_TEXT, True),
    "gpu.model": (_TEXT, False),
    "gpu.memory_gb": (_AMOUNT, True),
    "gpu.per_node": (_COUNT, True),
    "gpu.cpus_per_gpu": (_COUNT, True),
    "gpu.mem_gb_per_gpu": (_AMOUNT, True),
    "gpu.max_nodes": (_COUNT, True),
    "gpu.runtime": (_COUNT, True),
    "cpu.partition": (_TEXT, True),
    "cpu.mem_gb": (_AMOUNT, False),
    "cpu.runtime": (_COUNT, False),
    "account": (_TEXT, False),
    "scratch": (_TEXT, False),
}
DEFAULTS = {"cpu.mem_gb": 8, "cpu.runtime": 60}


@dataclass(frozen=True)
class Site:
    """A cluster. Memory in bytes, times in minutes.

    Attributes:
        gpu_partition: of GPU jobs.
        gpu_model: name of the GPU as SLURM knows it, or None for any.
        gpu_memory: of one GPU.
        gpus_per_node: GPUs of a node.
        cpus_per_gpu: CPUs that a job gets for each GPU.
        node_memory: host memory of a GPU node that jobs may have.
        max_nodes: most nodes of one job.
        max_runtime: longest walltime of a GPU job.
        cpu_partition: of jobs without a GPU.
        cpu_memory: host memory of such a job, at its first attempt.
        cpu_runtime: walltime of such a job, at its first attempt.
        account: that is charged, or None for the user's own.
        scratch: folder on a shared file system for caches, or None.
    """

    gpu_partition: str
    gpu_model: str | None
    gpu_memory: float
    gpus_per_node: int
    cpus_per_gpu: int
    node_memory: float
    max_nodes: int
    max_runtime: int
    cpu_partition: str
    cpu_memory: float
    cpu_runtime: int
    account: str | None
    scratch: str | None


def _valid(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return False
    if kind == _TEXT:
        return isinstance(value, str) and bool(value)
    if kind == _COUNT:
        return isinstance(value, int) and value >= 1
    return isinstance(value, int | float) and value > 0


def parse_site(content: Any, name: str) -> Site:
    """Check the content of a site file.

    Args:
        content: what its YAML says.
        name: of the file, for messages.

    Raises:
        ConfigError: an unknown or missing key, or a value of the wrong type; one line.
    """
    if not isinstance(content, Mapping):
        raise ConfigError(f"{name}: is no mapping of keys; see profiles/slurm/site.yaml")
    given: dict[str, Any] = {}
    for key, value in content.items():
        if key not in ("gpu", "cpu"):
            given[str(key)] = value
        elif isinstance(value, Mapping):
            given |= {f"{key}.{inner}": part for inner, part in value.items()}
        else:
            raise ConfigError(f"{name}: `{key}` is {value!r}; want keys below it")
    for key, value in given.items():
        if key not in KEYS:
            close = get_close_matches(key, KEYS, n=1)
            known = f"did you mean `{close[0]}`?" if close else f"known: {', '.join(KEYS)}"
            raise ConfigError(f"{name}: unknown key `{key}`; {known}")
        kind, required = KEYS[key]
        if not (_valid(value, kind) or (value is None and not required)):
            raise ConfigError(f"{name}: `{key}` is {value!r}; want {kind}")
    for key, (kind, required) in KEYS.items():
        if required and key not in given:
            raise ConfigError(f"{name}: `{key}` is missing; give {kind}")
    values = {**DEFAULTS, **{key: value for key, value in given.items() if value is not None}}
    return Site(
        gpu_partition=values["gpu.partition"],
        gpu_model=values.get("gpu.model"),
        gpu_memory=values["gpu.memory_gb"] * 1e9,
        gpus_per_node=values["gpu.per_node"],
        cpus_per_gpu=values["gpu.cpus_per_gpu"],
        node_memory=values["gpu.mem_gb_per_gpu"] * values["gpu.per_node"] * 1e9,
        max_nodes=values["gpu.max_nodes"],
        max_runtime=values["gpu.runtime"],
        cpu_partition=values["cpu.partition"],
        cpu_memory=values["cpu.mem_gb"] * 1e9,
        cpu_runtime=values["cpu.runtime"],
        account=values.get("account"),
        scratch=values.get("scratch"),
    )


def read_site(path: str | Path) -> Site:
    """Read a site file.

    Raises:
        ConfigError: there is none, it is no YAML, or see `parse_site`; one line.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); correct {VARIABLE}, or `site` in the "
            "profile"
        ) from error
    except yaml.YAMLError as error:
        line = " ".join(str(error).split())
        raise ConfigError(f"{path}: is no YAML ({line}); see profiles/slurm/site.yaml") from error
    return parse_site(content, str(path))


def cache_variables(scratch: str) -> dict[str, str]:
    """Environment variables that put the caches of all libraries below a folder.

    Home folders are small and slow on many clusters, and on some not there on the nodes.
    """
    folders = {
        "HF_HOME": "huggingface",
        "TORCH_EXTENSIONS_DIR": "torch_extensions",
        "TORCH_HOME": "torch",
        "TORCHINDUCTOR_CACHE_DIR": "inductor",
        "TRITON_CACHE_DIR": "triton",
        "VLLM_CACHE_ROOT": "vllm",
    }
    root = Path(os.path.expandvars(scratch)).expanduser()
    return {name: str(root / folder) for name, folder in folders.items()}
