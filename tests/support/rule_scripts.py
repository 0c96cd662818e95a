"""Run the script of a rule on a fake `snakemake` object, without Snakemake."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from snakemake.iocontainers import InputFiles, Log, OutputFiles, Params, ResourceList, Wildcards

SCRIPTS = Path(__file__).parents[2] / "scripts"


def script_main(rule: str) -> Callable[[Any], Any]:
    """The function `main` of a rule's script."""
    return runpy.run_path(str(SCRIPTS / f"{rule}.py"))["main"]


def rule_job(
    rule: str,
    inputs: Mapping[str, Any] | None = None,
    outputs: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    *,
    folder: Path = Path(),
    log: str | None = None,
    wildcards: Mapping[str, str] | None = None,
    resources: Mapping[str, Any] | None = None,
    threads: int = 1,
) -> SimpleNamespace:
    """The object `snakemake` that a rule's script gets.

    Snakemake's own containers are used: they are lists, so a parameter named `count` is hidden by
    the method of that name here as in a run.

    Args:
        rule: name of the rule.
        inputs: path, or list of paths, by the name of the input.
        outputs: the same for outputs.
        params: value by the name of the parameter.
        folder: folder that relative paths are below.
        log: path of the log; no log by default.
        wildcards: value by the name of the wildcard.
        resources: value by the name of the resource.
        threads: number of threads.
    """
    return SimpleNamespace(
        rule=rule,
        input=_files(InputFiles, inputs or {}, folder),
        output=_files(OutputFiles, outputs or {}, folder),
        params=Params(fromdict=params or {}),
        wildcards=Wildcards(fromdict=wildcards or {}),
        resources=ResourceList(fromdict=resources or {}),
        log=Log([str(folder / log)] if log else []),
        threads=threads,
    )


def _files(container: type, paths: Mapping[str, Any], folder: Path) -> Any:
    """A container of files; as in Snakemake, the items of a list stand in it one by one."""
    files = container()
    for name, value in paths.items():
        several = isinstance(value, list | tuple)
        first = len(files)
        files.extend(str(folder / path) for path in (value if several else [value]))
        files._set_name(name, first, end=len(files) if several else None)
    return files
