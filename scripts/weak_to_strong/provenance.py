"""What made each file of a results folder, and whether it is still as it was made.

Snakemake keeps a record of each output: its rule, inputs, parameters (the digest of the code among
them) and times. Here these are put beside the contents: the first check of a folder writes
`provenance.json` with the sha256 of every file, later ones compare with it. A file that differs
though no job made it anew was edited by hand; so was one that differs from what its job made,
which jobs write down when they are done (`records.py`). `ro_crate` gives the same as RO-Crate 1.1
(https://w3id.org/ro/crate/1.1), each job being a `CreateAction`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from weak_to_strong.tables import hash_file

RECORD, CRATE = "provenance.json", "ro-crate-metadata.json"
#: What jobs said and took, and is no result.
UNRECORDED = ("logs",)
#: A file that is this much (seconds) younger than the end of its job was touched after it.
TOLERANCE = 5.0


def read_jobs(metadata: Path) -> dict[str, dict[str, Any]]:
    """Snakemake's records by path of the output; {} where there are none.

    Args:
        metadata: the folder `.snakemake/metadata`. A file's name is its path in base64; a long
            one is parted into folders that begin with `@`.
    """
    jobs = {}
    for file in sorted(metadata.rglob("*")):
        if not file.is_file():
            continue
        parts = file.relative_to(metadata).parts
        name = "".join([*(part.removeprefix("@") for part in parts[:-1]), parts[-1]])
        try:
            path = base64.b64decode(name, altchars=b"-_", validate=False).decode()
            record = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            continue
        if isinstance(record, dict) and not record.get("incomplete"):
            jobs[path] = record
    return jobs


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
        jobs: see `read_jobs`.
        facts: what holds for all: configuration, versions.
        records: see `records.read_records`.

    Returns:
        `facts` and `files`: path below `root` -> `sha256`, `bytes` and, where Snakemake has a
        record, `rule`, `params`, `started`, `ended` (seconds since 1970) and `inputs`
        (path -> sha256; null for one that is gone). Where the job left a record also `made`, the
        sha256 at that time, `command`, `seeds` and `versions`.
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
        place, job = job_of(path, jobs) or (None, None)
        # In a recorded folder, a file that its job did not leave there is no job's.
        if job and (path in records or place not in recorded):
            entry |= {"rule": job.get("rule"), "params": job.get("params", [])}
            entry |= {"started": job.get("starttime"), "ended": job.get("endtime")}
            entry["inputs"] = {path: digest(Path(path)) for path in sorted(job.get("input") or [])}
        if record := records.get(path):
            entry |= {name: record[name] for name in ("command", "seeds", "versions")}
            entry["made"] = record["outputs"][path]
        files[file.relative_to(root).as_posix()] = entry
    return {**facts, "files": files}


def compare(
    recorded: Mapping[str, Any], found: Mapping[str, Any], root: Path
) -> dict[str, list[str]]:
    """Files by what is wrong with them, from an earlier and a fresh record of a folder.

    Returns:
        `edited` (other contents than the job made, or than were recorded, and no job has run
        since), `missing`, `unknown` (no job made it),
        `touched` (written after its job ended). `renewed` and `new`, what jobs have made since,
        are not wrong.
    """
    before, now = recorded["files"], found["files"]
    result: dict[str, list[str]] = {
        kind: [] for kind in ("edited", "missing", "unknown", "touched", "renewed", "new")
    }
    result["missing"] = sorted(before.keys() - now.keys())
    for name, entry in now.items():
        ended, old = entry.get("ended"), before.get(name)
        if old is None:
            result["unknown" if ended is None else "new"].append(name)
        elif old["sha256"] != entry["sha256"]:
            rerun = ended is not None and ended != old.get("ended")
            result["renewed" if rerun else "edited"].append(name)
        if entry.get("made", entry["sha256"]) != entry["sha256"] and name not in result["edited"]:
            result["edited"].append(name)
        changed = old is None or old["sha256"] != entry["sha256"]
        late = (
            "made" not in entry
            and ended is not None
            and (root / name).stat().st_mtime > ended + TOLERANCE
        )
        if changed and late and name not in result["edited"]:
            result["touched"].append(name)
    return result


def problems_of(result: Mapping[str, list[str]]) -> list[str]:
    """One line for each file that is not as a job made it."""
    meanings = {
        "edited": "differs from what its job made",
        "missing": "is recorded and is gone",
        "unknown": "was made by no job",
        "touched": "was written after its job had ended",
    }
    return [f"{name}: {text}" for kind, text in meanings.items() for name in result[kind]]


def ro_crate(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The record of a results folder as the contents of `ro-crate-metadata.json`.

    Inputs from outside the folder are named and have their digest, but are not in the crate.
    """
    files, actions, outside = [], {}, {}
    for path, entry in record["files"].items():
        files.append(
            {
                "@id": path,
                "@type": "File",
                "name": path,
                "contentSize": str(entry["bytes"]),
                "sha256": entry["sha256"],
            }
        )
        if entry.get("rule") is None:
            continue
        key = f"#{entry['rule']}-{entry['ended']}-{sorted(entry['inputs'])}"
        action = actions.setdefault(key, {"result": [], **entry})
        action["result"].append({"@id": path})
    entities, places = [], []
    root = f"results/{name}/"
    for number, action in enumerate(actions.values()):
        objects = []
        for path, digest in action["inputs"].items():
            inside = path.removeprefix(root)
            known = inside != path and inside in record["files"]
            place = inside if known else f"#outside/{path}"
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
                "startTime": _time(action["started"]),
                "endTime": _time(action["ended"]),
                "object": objects,
                "result": action["result"],
            }
        )
    rules = sorted({action["rule"] for action in actions.values()})
    entities += [
        {"@id": f"#rule-{rule}", "@type": "SoftwareApplication", "name": rule} for rule in rules
    ]
    dates = [action["ended"] for action in actions.values()]
    about = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Weak-to-strong reasoning: {name}",
        "description": "Results of one experiment, each file with the job that made it.",
        "license": {"@id": "https://spdx.org/licenses/MIT"},
        "hasPart": [{"@id": file["@id"]} for file in files],
        "mentions": places,
    }
    if dates:
        about["datePublished"] = _time(max(dates))
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
