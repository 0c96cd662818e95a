"""Whether a results folder is what its jobs made, with the present configuration and code.

Each job has left a record of the contents that it read and made, and of its parameters
(`records.py`). The record lies in the folder and moves with it. `snakemake verify` hashes all files
and compares them with the records:

- A file with other contents than its job made was edited by hand.
- An input with other contents than a job read makes the outputs of this job outdated.
- A job with other parameters or inputs than the configuration now gives is out of date, too. The
  digest of the job's code is one of the parameters.

The first check of a folder writes `provenance.json`, with the sha256 and the origin of every file.
`ro_crate` gives the same as RO-Crate 1.1 (https://w3id.org/ro/crate/1.1). Each job is a
`CreateAction` there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from weak_to_strong.jobs.records import has_params, in_time, read_job_records
from weak_to_strong.tables.files import hash_file

RECORD, CRATE = "provenance.json", "ro-crate-metadata.json"
#: Folders of a results folder that have no results: logs, what trackers show, and unfinished work
#: of pretraining.
UNRECORDED = ("logs", "trackers", "checkpoints")
#: What `provenance.json` has of the record of a file's job.
_ORIGIN = (
    *("rule", "job", "params", "started", "ended"),
    *("command", "seeds", "versions", "inputs"),
)


def artefacts(root: Path) -> list[Path]:
    """Files of a results folder that are results, in order. Hidden files are unfinished ones."""
    results = []
    for file in sorted(root.rglob("*")):
        parts = file.relative_to(root).parts
        is_result = parts[0] not in (*UNRECORDED, RECORD, CRATE)
        if is_result and file.is_file() and not any(part.startswith(".") for part in parts):
            results.append(file)
    return results


def describe(
    root: Path, facts: Mapping[str, Any], records: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    """The present contents of a results folder, and the origin of each file.

    Args:
        root: the folder, `results/<experiment>`.
        facts: what holds for all files: configuration, versions.
        records: see `records.read_records`.

    Returns:
        `facts` and `files`: path below `root` -> `sha256` and `bytes`. A file with a record also
        has `made`, its sha256 when its job had made it, and what the record says of the job:
        `rule`, `job`, `params`, `started`, `ended`, `command`, `seeds`, `versions`, `inputs`.
    """
    files = {}
    for file in artefacts(root):
        entry: dict[str, Any] = {"sha256": hash_file(file), "bytes": file.stat().st_size}
        if record := records.get(file.as_posix()):
            entry |= {name: record[name] for name in _ORIGIN if name in record}
            entry["made"] = record["outputs"][file.as_posix()]
        files[file.relative_to(root).as_posix()] = entry
    return {**facts, "files": files}


def find_differences(
    earlier: Mapping[str, Any],
    present: Mapping[str, Any],
    root: Path,
    records: Mapping[str, dict[str, Any]],
) -> list[str]:
    """A line for each file that is not as a job made it, and for each outdated input.

    Args:
        earlier: what `describe` returned at the last check; without files at the first check.
        present: what `describe` returns now.
        root: the folder.
        records: see `records.read_records`.
    """
    files, below = present["files"], f"{root.as_posix()}/"
    edited = [
        name for name, file in files.items() if file.get("made", file["sha256"]) != file["sha256"]
    ]
    recorded = {path.removeprefix(below) for path in records if path.startswith(below)}
    missing = sorted((earlier["files"].keys() | recorded) - files.keys())
    return [
        *(f"{name}: differs from what its job made" for name in edited),
        *(f"{name}: is recorded and is gone" for name in missing),
        *(f"{name}: was made by no job" for name, file in files.items() if "made" not in file),
        *find_outdated(files, root, edited),
    ]


def find_outdated(
    files: Mapping[str, dict[str, Any]], root: Path, named: Collection[str]
) -> list[str]:
    """A line for each input that has other contents than a job read, and for each such job.

    An input that is gone has no line. It is no result, or is named as missing.

    Args:
        files: of the folder, see `describe`.
        root: the folder.
        named: files of the folder that other lines name already.
    """
    below, digests = f"{root.as_posix()}/", {}
    lines = set()
    for entry in files.values():
        for path, used in entry.get("inputs", {}).items():
            if path not in digests:
                name = path.removeprefix(below) if path.startswith(below) else ""
                if name in named:
                    digests[path] = None
                elif name in files:
                    digests[path] = files[name]["sha256"]
                else:
                    digests[path] = hash_file(path) if Path(path).is_file() else None
            if digests[path] not in (None, used):
                lines.add(
                    f"{path}: has other contents than when {entry['job']} used it; `touch` it and "
                    "run again, or bring the old file back"
                )
    return sorted(lines)


def find_stale(
    root: Path,
    job_facts: Callable[[str, Mapping[str, str]], tuple[list[str], list[str]] | None],
) -> list[str]:
    """A line for each job whose record differs from what the present configuration gives it.

    Jobs whose outputs are gone, or were made again by another job, are left out.

    Args:
        root: the folder.
        job_facts: parameters and inputs of a job, from its rule and wildcards; None for a job that
            the configuration does not have, which cannot be compared.

    Raises:
        ValueError: a damaged record; names the file.
    """
    records = read_job_records(root / "logs")
    last_job = {path: job for job, record in in_time(records) for path in record["outputs"]}
    lines = []
    present = {
        job for path, job in last_job.items() if root in Path(path).parents and Path(path).exists()
    }
    for job in sorted(present):
        record = records[job]
        if not has_params(record):
            lines.append(f"{job}: an older version made it and recorded no parameters; run again")
            continue
        now = job_facts(record["rule"], record["wildcards"])
        if now is None:
            continue
        params, inputs = now
        if params != record["params"]:
            lines.append(f"{job}: was made with other parameters or other code; run again")
        elif inputs != record["input_paths"]:
            lines.append(f"{job}: was made from other inputs; run again")
    return lines


def ro_crate(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A results folder as the contents of `ro-crate-metadata.json`.

    Inputs from outside the folder are named and have their digest, but are not in the crate. The
    crate has no licence, since the results are the user's.

    Args:
        record: see `describe`.
        name: of the experiment.
    """
    files = [
        {
            "@id": quote(path),
            "@type": "File",
            "name": path,
            "contentSize": str(entry["bytes"]),
            "sha256": entry["sha256"],
        }
        for path, entry in record["files"].items()
    ]
    jobs = _jobs_of(record["files"])
    outside: dict[str, dict[str, Any]] = {}
    actions = [
        _action(number, job, _objects(job, record["files"], f"results/{name}/", outside))
        for number, job in enumerate(jobs)
    ]
    rules = [
        {"@id": f"#rule-{rule}", "@type": "SoftwareApplication", "name": rule}
        for rule in sorted({job["rule"] for job in jobs})
    ]
    about = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Weak-to-strong reasoning: {name}",
        "description": "Results of one experiment, each file with the job that made it.",
        # A crate must have a date. Records of older versions have no times.
        "datePublished": _time(
            max((job.get("ended", 0) for job in jobs), default=0) or time.time()
        ),
        "hasPart": [{"@id": file["@id"]} for file in files],
        "mentions": [{"@id": action["@id"]} for action in actions],
    }
    descriptor = {
        "@id": CRATE,
        "@type": "CreativeWork",
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        "about": {"@id": "./"},
    }
    terms = {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}
    return {
        "@context": ["https://w3id.org/ro/crate/1.1/context", terms],
        "@graph": [descriptor, about, *files, *actions, *rules, *outside.values()],
    }


def _jobs_of(files: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The jobs that made the files of a folder: the entry of one file, and `result`, all files."""
    jobs: dict[str, dict[str, Any]] = {}
    for path, entry in files.items():
        if "job" in entry:
            job = jobs.setdefault(entry["job"], {**entry, "result": []})
            job["result"].append({"@id": quote(path)})
    return list(jobs.values())


def _objects(
    job: Mapping[str, Any],
    files: Mapping[str, Any],
    root: str,
    outside: dict[str, dict[str, Any]],
) -> list[dict[str, str]]:
    """References to the inputs of a job. Inputs that are no files of the crate go to `outside`."""
    references = []
    for path, digest in job.get("inputs", {}).items():
        name = path.removeprefix(root)
        is_inside = name != path and name in files
        identifier = quote(name) if is_inside else f"#outside/{quote(path)}"
        references.append({"@id": identifier})
        if not is_inside:
            fact = {"@id": identifier, "@type": "CreativeWork", "name": path}
            outside[identifier] = {**fact, "sha256": digest}
    return references


def _action(number: int, job: Mapping[str, Any], objects: list[dict[str, str]]) -> dict[str, Any]:
    """A job as an action of a crate."""
    action = {
        "@id": f"#job-{number}",
        "@type": "CreateAction",
        "name": job["rule"],
        "instrument": {"@id": f"#rule-{job['rule']}"},
        "object": objects,
        "result": job["result"],
    }
    if job.get("command"):
        action["description"] = job["command"]
    if "started" in job:
        action |= {"startTime": _time(job["started"]), "endTime": _time(job["ended"])}
    return action


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
