"""Before a run is planned: Snakemake's metadata is made to agree with the records of the jobs.

Snakemake decides from its own folder `.snakemake` what to make again. It makes nothing again where
this folder was lost, where results were copied from elsewhere, and after `--touch`. The records
(`records.py`) lie beside the results, and show with which parameters, code and inputs each file was
made. So they decide:

- An output whose record and metadata differ gets the metadata of the record. Snakemake then sees
  which parameters and inputs have changed since.
- A file without a record of its own, or one that was made from inputs with other contents, is
  marked as incomplete. Snakemake then makes it again.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weak_to_strong.jobs.records import has_params, in_time, read_job_records
from weak_to_strong.jobs.snakemake_adapter import (
    INCOMPLETE,
    incomplete_files,
    mark_incomplete,
    metadata_file,
    read_metadata,
    write_metadata,
)
from weak_to_strong.jobs.verify import artefacts


def follow_records(root: Path) -> None:
    """Make Snakemake's metadata of a results folder agree with the records in its logs.

    Args:
        root: the folder, `results/<experiment>`.

    Raises:
        ValueError: a damaged record; names the file.
        OSError: Snakemake's folder cannot be written to.
    """
    # The order matters where another run is at work. Snakemake marks the outputs of a job, the job
    # makes them and leaves its record, and Snakemake removes the marks last.
    marked = incomplete_files()
    files = [file.as_posix() for file in artefacts(root)]
    contents: dict[str, str] = {}
    made_by: dict[str, dict[str, Any]] = {}
    for job, record in in_time(read_job_records(root / "logs")):
        if has_params(record):
            contents |= record["outputs"]
            log = f"{root.as_posix()}/logs/{job}.log"
            made_by |= {output: {**record, "log": log} for output in record["output_paths"]}
    not_shown = [
        output
        for output, record in made_by.items()
        if Path(output).exists() and not _follow(output, record, contents)
    ]
    folders = []
    for file in (file for file in files if file not in contents):
        parents = [parent.as_posix() for parent in Path(file).parents]
        # A stray file in the folder of a model is no reason to train again; `verify` names it.
        if not made_by.keys() & {file, *parents}:
            not_shown.append(file)
            folders += parents[: -len(root.parts) - 1]
    new = [
        path
        for path in dict.fromkeys([*not_shown, *folders])
        if metadata_file(path, INCOMPLETE) not in marked
    ]
    for path in new:
        mark_incomplete(path)
    if new:
        print(
            f"{new[0]}{' and others' * (len(new) > 1)}: the records in {root}/logs do not show "
            "that this is up to date; what the run needs of it is made again.",
            file=sys.stderr,
        )


def _follow(output: str, record: Mapping[str, Any], contents: Mapping[str, str]) -> bool:
    """Give an output the metadata of its record, unless they agree.

    Args:
        output: as Snakemake knows it.
        record: of the job that made it.
        contents: sha256 of each recorded file of the folder, by path.

    Returns:
        Whether the inputs still have the contents that the job read, as far as is known without
        reading them: inputs from the folder are recorded, and Snakemake has hashed others.
    """
    known = read_metadata(output)
    hashed = known.get("input_checksums") or {}
    checksums = {path: f"sha256:{digest}" for path, digest in record["inputs"].items()}
    for path, checksum in checksums.items():
        now = f"sha256:{contents[path]}" if path in contents else hashed.get(path)
        if now not in (None, checksum):
            return False
    if (known.get("params"), known.get("input")) != (record["params"], record["input_paths"]):
        facts = {
            "rule": record["rule"],
            "input": record["input_paths"],
            "log": [record["log"]],
            "params": record["params"],
            "starttime": record["started"],
            "endtime": record["ended"],
            "input_checksums": checksums,
        }
        write_metadata(output, facts)
    return True
