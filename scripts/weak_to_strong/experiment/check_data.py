"""Checks of a configuration's tasks and raw files, as far as they need no network."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from weak_to_strong.data.authors import PROGRAMS
from weak_to_strong.data.hub_layout import find_split_files
from weak_to_strong.data.readers import check_suffix
from weak_to_strong.data.reasoning_gym_task import FAMILIES, check_family
from weak_to_strong.data.sources import check_source, remote_name
from weak_to_strong.data.split_names import TEST, flatten_splits, split_key
from weak_to_strong.data.splits import GENERATED
from weak_to_strong.experiment.schema import check_text, complain, name_key
from weak_to_strong.tables.files import with_folder

#: Bytes in the name of a file to fetch: names made of it stay below the 255 that a folder takes.
MAX_FILE_NAME = 200
#: Snakemake fills in `{name}` and `<name>` in a job's inputs, and would read another file.
_FILLED_IN = re.compile(r"[{}<>]")


def check_task(name: str, task: dict) -> None:
    """Check the settings of one task: its loader, splits and columns, and how answers are read.

    Args:
        name: of the task.
        task: its completed entry.

    Raises:
        ConfigError: a setting is missing, has no effect, or does not go with another one.
    """
    path = ["tasks", name]
    embedded, generated = task["loader"] == "embedded", task["loader"] in GENERATED
    if task["loader"] == "reasoning_gym":
        _check_family([*path, "reasoning_gym"], task.get("reasoning_gym"))
    if embedded and "templates" not in task:
        raise complain([*path, "templates"], "is missing", "list numbers of templates")
    taught = task.get("train_1_templates")
    if taught and not embedded:
        raise complain([*path, "train_1_templates"], "only for loader `embedded`", "remove it")
    if foreign := sorted(set(taught or ()) - set(task.get("templates", ()))):
        raise complain(
            [*path, "train_1_templates"],
            f"template {foreign[0]} is not one of `templates`",
            "remove it, or add it there",
        )
    if task["loader"] == "table" and "columns" not in task:
        raise complain([*path, "columns"], "is missing", "map question and answer to columns")
    if task.get("columns", {}).get("question", "") is None:
        raise complain(
            [*path, "columns", "question"], "is null", "name the column of the questions"
        )
    form = task.get("form", "gsm8k")
    if embedded and form not in ("gsm8k", "authors") and task["answer_key"] == "####":
        raise complain(
            [*path, "answer_key"],
            f"`####` is in no solution of form `{form}`",
            "set it to `The answer is:` or `\\boxed`",
        )
    without = (
        sorted(set(task.get("templates", ())) - set(PROGRAMS)) if form.startswith("authors") else []
    )
    if without:
        raise complain(
            [*path, "templates"],
            f"template {without[0]} has no solutions in form `{form}`",
            f"take some of {', '.join(map(str, PROGRAMS))}",
        )
    typed = "olympicarena" in (task["loader"], form) or task.get("columns", {}).get("answer_type")
    if task["prompt"] == "olympicarena" and not typed:
        raise complain(
            [*path, "prompt"], "`olympicarena` needs answer types", "name their column in `columns`"
        )
    if "chat" in task and task["prompt"] != "chat":
        raise complain(
            [*path, "chat"],
            f"has no effect with prompt `{task['prompt']}`",
            "remove it, or set `prompt` to chat",
        )
    _check_chat_options([*path, "chat"], task.get("chat") or {})
    if task["quirks"]["released_judge"] and task["judge"] != "olympicarena":
        raise complain(
            [*path, "quirks", "released_judge"],
            f"has no effect on judge `{task['judge']}`",
            "set it to false, or `judge` to olympicarena",
        )
    splits = flatten_splits(task["splits"])
    sized = [split for split, entry in splits.items() if isinstance(entry, int)]
    if not generated and sized and "pool" not in task:
        raise complain(
            [*path, "splits", split_key(sized[0])],
            "a size needs `pool`",
            "add the pool or give a source",
        )
    if "paper" in task and TEST not in splits:
        raise complain(
            [*path, "paper"],
            "the paper's tables have one test set, and `test` has names",
            "remove `paper`, or give `test` one source",
        )
    sources = {f"splits.{split_key(split)}": entry for split, entry in splits.items()}
    sources["pool"] = task.get("pool")
    for key, entry in sources.items():
        several = isinstance(entry, list)
        for place, source in enumerate(entry if several else [entry]):
            if isinstance(source, dict) and "from" not in source:
                where = [*path, key, place] if several else [*path, key]
                if generated:
                    kind = "embedded task" if embedded else "loader reasoning_gym"
                    raise complain(where, f"the {kind} has no files", "give a size")
                _check_source(where, source)
    _check_moved_rows([*path, "splits"], splits)


def _check_chat_options(path: list, chat: dict) -> None:
    """Check that one thing is not said of the reasoning in two places."""
    for key in ("enable_thinking", "thinking"):
        if chat.get("thinking") is not None and key in chat.get("options", {}):
            raise complain(
                [*path, "options", key],
                "is what `chat.thinking` gives to the templates",
                "remove it here, or set `chat.thinking` to null",
            )


def _check_family(path: list, entry: dict | None) -> None:
    """Check the name of a family. Its settings are checked before the first job of a run."""
    if entry is None:
        raise complain(path, "is missing", "name a family: {family: gcd}")
    if entry["family"] not in FAMILIES:
        _ask_library(path, entry)


def check_family_settings(tasks: Mapping[str, Mapping[str, Any]]) -> None:
    """Check the settings of families, for which the library is loaded.

    Args:
        tasks: settings that decide a task's data, by its name.

    Raises:
        ConfigError: naming the first wrong setting.
    """
    for name, data in tasks.items():
        if data["loader"] == "reasoning_gym" and data["reasoning_gym"]["settings"]:
            _ask_library(["tasks", name, "reasoning_gym"], data["reasoning_gym"])


def _ask_library(path: list, entry: Mapping[str, Any]) -> None:
    try:
        check_family(entry["family"], entry["settings"])
    except ValueError as error:
        key, _, message = str(error).partition(": ")
        raise complain([*path, *key.split(".")], *message.rsplit("; ", 1)) from None


def _check_source(path: list, source: dict) -> None:
    """Check one raw file as far as that needs no network."""
    pinned = {key: "0" * 64 if value is None else value for key, value in source.items()}
    if "hub" in pinned and source["revision"] is None:
        pinned["revision"] = "0" * 40
    try:
        kind = check_source(pinned, ".".join(map(str, path)))
    except ValueError as error:
        raise name_key(error) from error
    if "split" in source:
        _check_hub_layout(path, source, kind)
        return
    key = {"path": "path", "url": "url", "hub": "file"}[kind]
    name = source["path"] if kind == "path" else remote_name(source)
    for text in (source[key], name):
        check_filled_in([*path, key], text)
    if kind == "url":
        check_text([*path, key], unquote(urlsplit(source["url"]).path))
    # Not Path's, which raises where a name is too long.
    if kind == "path" and not os.path.isfile(source["path"]):
        raise complain(
            [*path, key], f"no such file: {with_folder(source['path'])}", "correct the path"
        )
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


def _check_hub_layout(path: list, source: dict, kind: str) -> None:
    """Check a split of a data set: of a local copy that it is there."""
    if kind == "hub":  # see `sources.check_remote`
        return
    folder = source["path"]
    if not os.path.isdir(folder):
        raise complain([*path, "path"], f"no such folder: {with_folder(folder)}", "correct it")
    try:
        names, _ = find_split_files(folder, source.get("config"), source["split"])
    except ValueError as error:
        message, _, fix = str(error).rpartition("; ")
        raise complain([*path, "path"], f"{with_folder(folder)} {message}", fix) from None
    for name in names:
        check_filled_in([*path, "path"], os.path.join(folder, name))


def check_filled_in(path: list, text: str) -> None:
    """Refuse a path that would be another one as an input of a job.

    Raises:
        ConfigError: the text holds signs in whose place Snakemake puts other text.
    """
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
                [*path, split_key(name), "from"],
                f"`{split['from']}` is no split with rows of its own",
                "name one that has a size or a source",
            )
        if isinstance(origin, int) and split["count"] >= origin:
            raise complain(
                [*path, split_key(name), "count"],
                f"{split['count']} leaves nothing of the {origin} rows of {split['from']}",
                "lower it",
            )
