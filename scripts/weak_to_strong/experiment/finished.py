"""Finished experiments by name: that they are finished, and the files of them that are compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from weak_to_strong.evaluation.evaluated_models import EVALUATED_MODELS
from weak_to_strong.experiment.paths import Paths
from weak_to_strong.experiment.schema import complain
from weak_to_strong.jobs.lineage import jobs_behind
from weak_to_strong.jobs.records import read_records
from weak_to_strong.tables.files import hash_file, with_folder
from weak_to_strong.tables.frames import UNREADABLE, read_csv
from weak_to_strong.tables.schemas import GENERATIONS, METRICS, PROBLEMS, SCORES

_KEY = ["experiments"]
_RUN = "run it with its own configuration"
#: Tables that EVALUATED_MODELS names, by its columns.
_TABLES = {"generations": GENERATIONS, "scores": SCORES, "problems": PROBLEMS}


def find_finished(names: Sequence[str], prefix: str = "") -> list[dict[str, Any]]:
    """The files of finished experiments, each with its recorded contents.

    Args:
        names: of the experiments.
        prefix: text before every path, see `paths.Paths`.

    Returns:
        For each experiment `name`; `metrics` and `models`, paths of METRICS and EVALUATED_MODELS;
        `root`, the folder of the files that EVALUATED_MODELS names; and `sha256` by path of all
        these files, as the records of their jobs have it.

    Raises:
        ConfigError: no name, or an experiment that is missing, unfinished, or made with another
            version of the tables; names it and the fix.
        ValueError: a damaged record; names the file.
    """
    if not names:
        raise complain(
            _KEY,
            "names no experiment",
            "name finished ones, as in `--config 'experiments=[one,other]'`",
        )
    return [_find(name, prefix) for name in names]


def _find(name: str, prefix: str) -> dict[str, Any]:
    paths = Paths(name, prefix)
    if not Path(paths.root).is_dir():
        raise complain(
            _KEY,
            f"there is no {with_folder(paths.root)}",
            "correct the name, or run that experiment first",
        )
    for path in (paths.page, paths.metrics):
        if not Path(path).is_file():
            raise complain(_KEY, f"{name} is not finished ({path} is missing)", _RUN)
    records = read_records(Path(paths.logs))
    files = [paths.metrics, paths.models_table]
    for path, schema in zip(files, (METRICS, EVALUATED_MODELS), strict=True):
        _check_columns(name, path, schema)
    models = read_csv(paths.models_table, EVALUATED_MODELS)
    for column, schema in _TABLES.items():
        for path in models[column].unique(maintain_order=True):
            files.append(f"{paths.root}/{path}")
            _check_columns(name, files[-1], schema)
    if outdated := next(_outdated_files(paths, files, records), None):
        raise complain(
            _KEY,
            f"{name} is not finished (the job that makes {outdated} has not ended, or its result "
            "is newer than what was made from it)",
            _RUN,
        )
    return {
        "name": name,
        "root": paths.root,
        "metrics": paths.metrics,
        "models": paths.models_table,
        "sha256": {path: records[path]["outputs"][path] for path in files},
    }


def _check_columns(name: str, path: str, schema: pl.Schema) -> None:
    """Refuse a table that is gone, or that another version of the workflow wrote."""
    try:
        if path.endswith(".csv"):
            is_same = pl.read_csv(path, n_rows=0).columns == schema.names()
        else:
            is_same = pl.read_parquet_schema(path) == schema
    except FileNotFoundError:
        problem = "is missing"
    except UNREADABLE:
        problem = "cannot be read"
    else:
        if is_same:
            return
        problem = "has other columns"
    raise complain(
        _KEY,
        f"{name} is unfinished, or was made with another version of the tables ({path} {problem})",
        f"{_RUN} and this version",
    )


def _outdated_files(
    paths: Paths, files: Sequence[str], records: Mapping[str, dict[str, Any]]
) -> Iterator[str]:
    """Results without a record, and results that were made again after a job had read them."""
    yield from (path for path in (paths.page, *files) if path not in records)
    for record in jobs_behind([paths.page], records).values():
        for path, digest in record.get("inputs", {}).items():
            if not path.startswith(f"{paths.root}/"):
                continue
            if path not in records or records[path]["outputs"][path] != digest:
                yield path


def check_unchanged(digests: Mapping[str, str]) -> None:
    """Check that files have the contents that a run was planned with.

    Args:
        digests: sha256 by path, see `find_finished`.

    Raises:
        ValueError: a file has other contents; names it.
    """
    for path, digest in digests.items():
        if hash_file(path) != digest:
            raise ValueError(
                f"{path}: is not as its job made it, or has changed since this run was planned; "
                "run its experiment, then run again"
            )
