"""Checks of a configuration's tasks and raw files, as far as they need no network."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, urlsplit

from weak_to_strong.experiment.schema import ConfigError, check_text, complain

#: Bytes in the name of a file to fetch: names made of it stay below the 255 that a folder takes.
MAX_FILE_NAME = 200
#: Snakemake fills in `{name}` and `<name>` in a job's inputs, and would read another file.
_FILLED_IN = re.compile(r"[{}<>]")


def check_task(name: str, task: dict) -> None:
    path = ["tasks", name]
    embedded = task["loader"] == "embedded"
    if embedded and "templates" not in task:
        raise complain([*path, "templates"], "is missing", "list gsm_symbolic template numbers")
    if task["loader"] == "table" and "columns" not in task:
        raise complain([*path, "columns"], "is missing", "map question and answer to columns")
    form = task.get("form", "gsm8k")
    if embedded and form != "gsm8k" and task["answer_key"] == "####":
        raise complain(
            [*path, "answer_key"],
            f"`####` is in no solution of form `{form}`",
            "set it to `The answer is:` or `\\boxed`",
        )
    typed = "olympicarena" in (task["loader"], form) or "answer_type" in task.get("columns", {})
    if task["prompt"] == "olympicarena" and not typed:
        raise complain(
            [*path, "prompt"], "`olympicarena` needs answer types", "name their column in `columns`"
        )
    if task["quirks"]["released_judge"] and task["judge"] != "olympicarena":
        raise complain(
            [*path, "quirks", "released_judge"],
            f"has no effect on judge `{task['judge']}`",
            "set it to false, or `judge` to olympicarena",
        )
    sized = [split for split, entry in task["splits"].items() if isinstance(entry, int)]
    if not embedded and sized and "pool" not in task:
        raise complain(
            [*path, "splits", sized[0]], "a size needs `pool`", "add the pool or give a source"
        )
    sources = {f"splits.{split}": entry for split, entry in task["splits"].items()}
    sources["pool"] = task.get("pool")
    for key, entry in sources.items():
        several = isinstance(entry, list)
        for place, source in enumerate(entry if several else [entry]):
            if isinstance(source, dict) and "from" not in source:
                where = [*path, key, place] if several else [*path, key]
                if embedded:
                    raise complain(where, "the embedded task has no files", "give a size")
                _check_source(where, source)
    _check_moved_rows([*path, "splits"], task["splits"])


def _check_source(path: list, source: dict) -> None:
    """Check one raw file as far as that needs no network."""
    from weak_to_strong.data.readers import check_suffix
    from weak_to_strong.data.sources import check_source, remote_name

    pinned = {key: "0" * 64 if value is None else value for key, value in source.items()}
    if "hub" in pinned and source["revision"] is None:
        pinned["revision"] = "0" * 40
    try:
        kind = check_source(pinned, ".".join(map(str, path)))
    except ValueError as error:
        raise ConfigError(f"config key {error}") from error
    key = {"path": "path", "url": "url", "hub": "file"}[kind]
    name = source["path"] if kind == "path" else remote_name(source)
    for text in (source[key], name):
        check_filled_in([*path, key], text)
    if kind == "url":
        check_text([*path, key], unquote(urlsplit(source["url"]).path))
    # Not Path's, which raises where a name is too long.
    if kind == "path" and not os.path.isfile(source["path"]):
        raise complain([*path, key], f"no such file: {source['path']}", "correct the path")
    if kind != "path" and len(name.encode()) > MAX_FILE_NAME:
        raise complain(
            [*path, key],
            f"the file's name has more than {MAX_FILE_NAME} bytes",
            "fetch the file yourself and name it by `path`",
        )
    try:
        check_suffix(name)
    except ValueError as error:
        message, _, fix = str(error).partition("; ")
        raise complain([*path, key], message.replace("its name", name), fix) from None


def check_filled_in(path: list, text: str) -> None:
    """Refuse a path that would be another one as an input of a job."""
    if match := _FILLED_IN.search(text):
        raise complain(
            path,
            f"{text} holds `{match[0]}`, and Snakemake puts other text in such places",
            "choose another name",
        )


def _check_moved_rows(path: list, splits: dict) -> None:
    """Check the splits that are the first rows of another one."""
    for name, split in splits.items():
        if not (isinstance(split, dict) and "from" in split):
            continue
        origin = splits.get(split["from"])
        if origin is None or (isinstance(origin, dict) and "from" in origin):
            raise complain(
                [*path, name, "from"],
                f"`{split['from']}` is no split with rows of its own",
                "name one that has a size or a source",
            )
        if isinstance(origin, int) and split["count"] >= origin:
            raise complain(
                [*path, name, "count"],
                f"{split['count']} leaves nothing of the {origin} rows of {split['from']}",
                "lower it",
            )
