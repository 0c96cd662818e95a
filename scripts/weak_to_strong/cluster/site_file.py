"""The site file: the cluster that jobs run on.

`profiles/slurm/site.yaml` is the example; `profiles/slurm/site.schema.yaml` describes every key.
The environment variable `W2S_SITE` names another site file. No key changes a result.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from weak_to_strong.experiment.configuration import ConfigError, describe_breach
from weak_to_strong.experiment.written_paths import expand_path
from weak_to_strong.experiment.yaml_keys import check_keys
from weak_to_strong.tables.files import with_folder

VARIABLE = "W2S_SITE"
EXAMPLE = "profiles/slurm/site.yaml"
SITE_SCHEMA_FILE = Path(__file__).parents[3] / "profiles/slurm/site.schema.yaml"

#: Folders below `scratch`, by the variable that each library reads for its cache.
CACHES = {
    "HF_HOME": "huggingface",
    "TORCH_EXTENSIONS_DIR": "torch_extensions",
    "TORCH_HOME": "torch",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "VLLM_CACHE_ROOT": "vllm",
}


@dataclass(frozen=True)
class Site:
    """A cluster. Memory in bytes, times in minutes."""

    gpu_partition: str  # partition of GPU jobs
    gpu_model: str | None  # name of the GPU in SLURM; None for any
    gpu_memory: float  # memory of one GPU
    gpus_per_node: int  # GPUs of one node
    cpus_per_gpu: int  # CPUs that a job gets with each GPU
    node_memory: float  # host memory of a GPU node that jobs may have
    max_nodes: int  # largest number of nodes of one job
    engine_nodes: int  # largest number of nodes of one engine
    max_runtime: int  # longest walltime of a GPU job
    cpu_partition: str  # partition of jobs without a GPU
    cpu_memory: float  # host memory of such a job at its first attempt
    cpu_runtime: int  # walltime of such a job at its first attempt
    account: str | None  # account that SLURM charges; None for the user's default
    scratch: str | None  # folder on a shared file system for caches; None for none


@cache
def load_site_schema() -> dict:
    """The JSON schema (draft 2020-12) of a site file."""
    return yaml.safe_load(SITE_SCHEMA_FILE.read_text(encoding="utf-8"))


def _with_defaults(values: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """A value for every key of `schema`; None for an optional key without a default."""
    return {
        key: part.get("default") if values.get(key) is None else values[key]
        for key, part in schema["properties"].items()
    }


def parse_site(content: Any, name: str) -> Site:
    """Check the content of a site file against its schema.

    Args:
        content: what the YAML file holds.
        name: name of the file, for messages.

    Raises:
        ConfigError: an unknown or missing key, or a value that the schema refuses; one line that
            names the file, the key and the fix.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    schema = load_site_schema()
    # As JSON, names are text: YAML also has numbers and dates as names.
    content = json.loads(json.dumps(content, default=str))
    if error := best_match(Draft202012Validator(schema).iter_errors(content)):
        raise describe_breach(error, f"{name}: key", EXAMPLE)
    site = _with_defaults(content, schema)
    try:
        scratch = site["scratch"] and expand_path(site["scratch"])
    except ValueError as error:
        raise ConfigError(f"{name}: key `scratch`: {error}") from None
    gpu, cpu = (_with_defaults(site[key], schema["properties"][key]) for key in ("gpu", "cpu"))
    return Site(
        gpu_partition=gpu["partition"],
        gpu_model=gpu["model"],
        gpu_memory=gpu["memory_gb"] * 1e9,
        gpus_per_node=int(gpu["per_node"]),  # the schema takes 8.0 for a whole number
        cpus_per_gpu=int(gpu["cpus_per_gpu"]),
        node_memory=gpu["mem_gb_per_gpu"] * gpu["per_node"] * 1e9,
        max_nodes=int(gpu["max_nodes"]),
        engine_nodes=int(gpu["engine_nodes"]),
        max_runtime=int(gpu["runtime"]),
        cpu_partition=cpu["partition"],
        cpu_memory=cpu["mem_gb"] * 1e9,
        cpu_runtime=int(cpu["runtime"]),
        account=site["account"],
        scratch=scratch,
    )


def read_site(path: str | Path) -> Site:
    """Read a site file.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or `parse_site` refuses it; one line.
    """
    try:
        path = expand_path(str(path))
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{with_folder(path)}: cannot be read ({error.strerror}); correct {VARIABLE}, or "
            "`site` in the profile"
        ) from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        line = " ".join(str(error).split())
        raise ConfigError(f"{path}: is not YAML ({line}); see {EXAMPLE}") from error
    try:
        check_keys(path)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return parse_site(content, str(path))


def cache_variables(scratch: str) -> dict[str, str]:
    """Environment variables that move the caches of all libraries to a folder.

    Home folders are small and slow on many clusters. Some clusters have none on their nodes.
    """
    root = Path(scratch)
    return {name: str(root / folder) for name, folder in CACHES.items()}
