"""Compare the files of a results folder with their record; the first time, make the record.

Params:
    root: results folder of the experiment; `provenance.json` and `ro-crate-metadata.json` are
        written there.
    experiment: its name.
    config: the settings that decide the results (`Graph.deciding_settings`).
"""

from pathlib import Path
from typing import Any

from weak_to_strong.jobs.logs import logger
from weak_to_strong.jobs.records import library_versions, read_records
from weak_to_strong.jobs.script import run_script
from weak_to_strong.jobs.snakemake_adapter import read_job_metadata
from weak_to_strong.jobs.verify import (
    CRATE,
    RECORD,
    compare,
    describe,
    problems_of,
    ro_crate,
)
from weak_to_strong.tables.files import read_json, write_json


def main(snakemake: Any) -> None:
    """Compare, and write the record."""
    params = snakemake.params
    root = Path(params.root)
    facts = {"config": params.config, "versions": library_versions()}
    records = read_records(root / "logs")
    found = describe(root, read_job_metadata(), facts, records)
    first = not (root / RECORD).exists()
    if first and not found["files"]:
        raise ValueError(f"{root}: there are no results; run the experiment first")
    recorded = {"files": {}} if first else read_json(root / RECORD)
    result = compare(recorded, found, root, records)
    if problems := problems_of(result):
        for line in problems:
            logger.warning("%s", line)
        raise ValueError(
            f"{root}: {len(problems)} problems with the {len(found['files'])} files; see above"
        )
    write_json(found, root / RECORD)
    write_json(ro_crate(found, params.experiment), root / CRATE)
    logger.info(
        "%d files %s", len(found["files"]), "recorded" if first else "are as their jobs made them"
    )


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
