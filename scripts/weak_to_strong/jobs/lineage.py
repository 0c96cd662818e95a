"""Which jobs stand behind a file: the job that made it, those that made its inputs, and so on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def jobs_behind(
    files: Iterable[str], records: Mapping[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Records of all jobs that files depend on, by the jobs' names.

    The records name only inputs that decide contents. A file without a record has no job: it is a
    file of the user.

    Args:
        files: their paths.
        records: latest record of each output, see `records.read_records`.
    """
    jobs: dict[str, dict[str, Any]] = {}
    waiting = list(files)
    while waiting:
        record = records.get(waiting.pop())
        if record and record["job"] not in jobs:
            jobs[record["job"]] = record
            waiting += record.get("inputs", {})
    return jobs
