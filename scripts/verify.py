"""Compare a results folder with the records of its jobs and with the present configuration.

Params:
    root: results folder of the experiment; `provenance.json` and `ro-crate-metadata.json` are
        written there.
    experiment: its name.
    config: the settings that decide the results (`Graph.deciding_settings`).
    stale: a line for each job that other parameters or other code have made.
"""

from pathlib import Path
from typing import Any

from weak_to_strong.jobs.logs import logger
from weak_to_strong.jobs.records import library_versions, read_records
from weak_to_strong.jobs.script import run_script
from weak_to_strong.jobs.verify import CRATE, RECORD, describe, find_differences, ro_crate
from weak_to_strong.tables.files import read_json, write_json


def main(snakemake: Any) -> None:
    """Compare, and write the record."""
    params = snakemake.params
    root = Path(params.root)
    facts = {"config": params.config, "versions": library_versions()}
    records = read_records(root / "logs")
    present = describe(root, facts, records)
    is_first = not (root / RECORD).exists()
    if is_first and not present["files"]:
        raise ValueError(f"{root}: there are no results; run the experiment first")
    earlier = {"files": {}} if is_first else read_json(root / RECORD)
    problems = [*find_differences(earlier, present, root, records), *params.stale]
    if problems:
        for line in problems:
            logger.warning("%s", line)
        raise ValueError(
            f"{root}: {len(problems)} problems with the {len(present['files'])} files; see above"
        )
    write_json(present, root / RECORD)
    write_json(ro_crate(present, params.experiment), root / CRATE)
    logger.info(
        "%d files %s",
        len(present["files"]),
        "recorded" if is_first else "are as their jobs made them",
    )


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
