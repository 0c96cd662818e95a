"""What made each file of a results folder, and whether it is still as it was made.

Snakemake keeps a record of each output: its rule, inputs, parameters (the digest of the code among
them) and times. The job keeps another, of the contents that it read and made (`records.py`), which
lies in the folder and is moved with it. Here these are put beside the contents: the first check of
a folder writes `provenance.json` with the sha256 of every file, later ones compare with it. A file
that differs from what its job made, or from before though no job made it anew, was edited by hand.
An input that differs from what a job read makes outdated what that job made. `ro_crate` gives the
same as RO-Crate 1.1 (https://w3id.org/ro/crate/1.1), each job being a `CreateAction`.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from weak_to_strong.tables.files import hash_file

RECORD, CRATE = "provenance.json", "ro-crate-metadata.json"
#: What jobs said and took, and is no result.
UNRECORDED = ("logs",)
#: A file that is this much (seconds) younger than the end of its job was touched after it.
TOLERANCE = 5.0


def artefacts(root: Path) -> list[Path]:
    """Files of a results folder that are results, in order; hidden ones are unfinished."""
    found = []
    for file in sorted(root.rglob("*")):
        parts = file.relative_to(root).parts
        kept = parts[0] not in (*UNRECORDED, RECORD, CRATE)
        if kept and file.is_file() and not any(part.startswith(".") for part in parts):
            found.append(file)
    return found


def job_of(path: str, jobs: Mapping[str, dict]) -> tuple[str, dict[str, Any]] | None:
    """A file, or the folder that it lies in, as output of a job, and Snakemake's record of that."""
    for place in (path, *map(str, Path(path).parents)):
        if place in jobs:
            return place, jobs[place]
    return None


def describe(
    root: Path,
    jobs: Mapping[str, dict],
    facts: Mapping[str, Any],
    records: Mapping[str, dict[str, Any]],
) -> dict[str, Any]:
    """Record of a results folder.

    Args:
        root: the folder, `results/<experiment>`.
        jobs: Snakemake's, see `snakemake_adapter.read_job_metadata`.
        facts: what holds for all: configuration, versions.
        records: see `records.read_records`.

    Returns:
        `facts` and `files`: path below `root` -> `sha256`, `bytes` and, where Snakemake has a
        record, `rule`, `params`, `started`, `ended` (seconds since 1970) and `inputs`
        (path -> sha256; null for one that is gone). Where the job left a record, `inputs` are as
        they were when it read them, and there are also `rule`, `job`, `made`, the sha256 at that
        time, `command`, `seeds` and `versions`.
    """
    digests: dict[Path, str | None] = {}

    def digest(path: Path) -> str | None:
        if path not in digests:
            digests[path] = hash_file(path) if path.is_file() else None
        return digests[path]

    recorded = {str(parent) for path in records for parent in Path(path).parents}
    files = {}
    for file in artefacts(root):
        entry: dict[str, Any] = {"sha256": digest(file), "bytes": file.stat().st_size}
        path = file.as_posix()
        record = records.get(path)
        place, job = job_of(path, jobs) or (None, None)
        # In a recorded folder, a file that its job did not leave there is no job's.
        if job and (record or place not in recorded):
            entry |= {"rule": job.get("rule"), "params": job.get("params", [])}
            entry |= {"started": job.get("starttime"), "ended": job.get("endtime")}
            if not (record and "inputs" in record):
                used = sorted(job.get("input") or [])
                entry["inputs"] = {path: digest(Path(path)) for path in used}
        if record:
            kept = ("rule", "job", "command", "seeds", "versions", "inputs")
            entry |= {name: record[name] for name in kept if name in record}
            entry["made"] = record["outputs"][path]
        files[file.relative_to(root).as_posix()] = entry
    return {**facts, "files": files}


def compare(
    recorded: Mapping[str, Any],
    found: Mapping[str, Any],
    root: Path,
    records: Mapping[str, dict[str, Any]],
) -> dict[str, list[str]]:
    """Files by what is wrong with them, from an earlier and a fresh record of a folder.

    Args:
        recorded: the earlier one.
        found: see `describe`.
        root: the folder.
        records: see `records.read_records`.

    Returns:
        `edited` (other contents than the job made, or than were recorded, and no job has run
        since), `missing`, `unknown` (no job made it),
        `touched` (written after its job ended). `renewed` and `new`, what jobs have made since,
        are not wrong. `outdated` are not files but lines, see `find_outdated`.
    """
    before, now = recorded["files"], found["files"]
    result: dict[str, list[str]] = {
        kind: [] for kind in ("edited", "missing", "unknown", "touched", "renewed", "new")
    }
    below = f"{root.as_posix()}/"
    made = {path.removeprefix(below) for path in records if path.startswith(below)}
    result["missing"] = sorted((before.keys() | made) - now.keys())
    for name, entry in now.items():
        ended, old = entry.get("ended"), before.get(name)
        changed = old is None or old["sha256"] != entry["sha256"]
        if "made" in entry:
            if entry["made"] != entry["sha256"]:
                result["edited"].append(name)
            elif changed:
                result["new" if old is None else "renewed"].append(name)
            continue
        if old is None:
            result["unknown" if ended is None else "new"].append(name)
        elif changed:
            rerun = ended is not None and ended != old.get("ended")
            result["renewed" if rerun else "edited"].append(name)
        late = ended is not None and (root / name).stat().st_mtime > ended + TOLERANCE
        if changed and late and name not in result["edited"]:
            result["touched"].append(name)
    result["outdated"] = find_outdated(now, root, {*result["edited"], *result["touched"]})
    return result


def find_outdated(
    files: Mapping[str, dict[str, Any]], root: Path, named: Collection[str]
) -> list[str]:
    """A line for each input, and job that used it, that has other contents since; in order.

    Inputs that are gone are no results, or named as missing.

    Args:
        files: of the folder, see `describe`.
        root: the folder.
        named: files of the folder that are said to be wrong already.
    """
    below, digests = f"{root.as_posix()}/", {}
    lines = set()
    for entry in files.values():
        if "job" not in entry:
            continue
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


def problems_of(result: Mapping[str, list[str]]) -> list[str]:
    """One line for each file that is not as a job made it, and for each outdated input."""
    meanings = {
        "edited": "differs from what its job made",
        "missing": "is recorded and is gone",
        "unknown": "was made by no job",
        "touched": "was written after its job had ended",
    }
    lines = [f"{name}: {text}" for kind, text in meanings.items() for name in result[kind]]
    return [*lines, *result["outdated"]]


def ro_crate(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The record of a results folder as the contents of `ro-crate-metadata.json`.

    Inputs from outside the folder are named and have their digest, but are not in the crate. The
    results are the user's, who may add a licence.
    """
    files, actions, outside = [], {}, {}
    for path, entry in record["files"].items():
        files.append(
            {
                "@id": quote(path),
                "@type": "File",
                "name": path,
                "contentSize": str(entry["bytes"]),
                "sha256": entry["sha256"],
            }
        )
        if entry.get("rule") is None:
            continue
        entry = {"job": None, "started": None, "ended": None, "inputs": {}, **entry}
        key = entry["job"] or (entry["rule"], entry["ended"], *sorted(entry["inputs"]))
        action = actions.setdefault(key, {"result": [], **entry})
        action["result"].append({"@id": quote(path)})
    entities, places = [], []
    root = f"results/{name}/"
    for number, action in enumerate(actions.values()):
        objects = []
        for path, digest in action["inputs"].items():
            inside = path.removeprefix(root)
            known = inside != path and inside in record["files"]
            place = quote(inside) if known else f"#outside/{quote(path)}"
            objects.append({"@id": place})
            if not known:
                fact = {"@id": place, "@type": "CreativeWork", "name": path}
                outside[place] = {**fact, **({"sha256": digest} if digest else {})}
        places.append({"@id": f"#job-{number}"})
        entities.append(
            {
                **places[-1],
                "@type": "CreateAction",
                "name": action["rule"],
                **({"description": action["command"]} if action.get("command") else {}),
                "instrument": {"@id": f"#rule-{action['rule']}"},
                **({"startTime": _time(action["started"])} if action["started"] else {}),
                **({"endTime": _time(action["ended"])} if action["ended"] else {}),
                "object": objects,
                "result": action["result"],
            }
        )
    rules = sorted({action["rule"] for action in actions.values()})
    entities += [
        {"@id": f"#rule-{rule}", "@type": "SoftwareApplication", "name": rule} for rule in rules
    ]
    dates = [action["ended"] for action in actions.values() if action["ended"]]
    about = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Weak-to-strong reasoning: {name}",
        "description": "Results of one experiment, each file with the job that made it.",
        # Due in a crate; jobs' times are not known where Snakemake's records stayed behind.
        "datePublished": _time(max(dates, default=time.time())),
        "hasPart": [{"@id": file["@id"]} for file in files],
        "mentions": places,
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
        "@graph": [descriptor, about, *files, *entities, *outside.values()],
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
