"""Checks of `answers`, `selections` and `preferences`, and of what methods are made with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from weak_to_strong.experiment.check_data import check_filled_in
from weak_to_strong.experiment.entries import (
    KINDS_FROM_PAIRS,
    LABELS_BY_SIDE,
    QUESTIONS_KIND,
    STARTS,
    WEAK_METHOD,
)
from weak_to_strong.experiment.schema import complain
from weak_to_strong.method.training_sets import TABLES_OF_KIND
from weak_to_strong.method.user_functions import check_function

#: Kinds of rows that are no selection.
ROW_KINDS = (
    "none",
    *(kind for kind in TABLES_OF_KIND if kind not in ("selected", "weighted")),
    *KINDS_FROM_PAIRS,
    QUESTIONS_KIND,
)
#: Keys of a selection that name another one.
OTHER_SELECTIONS = ("without", "as_many_as")


def method_path(config: Mapping[str, Any], task: str, name: str) -> list:
    """Where a method of a task stands: the common entry, or the task's own."""
    is_common = config["methods"].get(name) == config["tasks"][task]["methods"][name]
    return ["methods", name] if is_common else ["tasks", task, "methods", name]


def check_selections(config: Mapping[str, Any]) -> None:
    """Check the entries of `answers`, `selections` and `preferences`, used or not.

    Raises:
        ConfigError: a name that is not there, or settings that do not fit each other.
    """
    for name, entry in config["answers"].items():
        _check_answers_entry(["answers", name], entry, config)
        if entry["blind_spots_of"] is not None:
            _check_blind_spots(name, entry, config["answers"])
    answers = [*LABELS_BY_SIDE, *config["answers"]]
    for name, entry in config["selections"].items():
        _check_selection(name, entry, answers, config)
    for name, entry in config["preferences"].items():
        _check_preferences(name, entry, answers, config)


def _check_selection(
    name: str, entry: Mapping[str, Any], answers: Sequence[str], config: Mapping[str, Any]
) -> None:
    """Check an entry of `selections`."""
    path, selections = ["selections", name], config["selections"]
    if name in ROW_KINDS:
        raise complain(path, "is the name of a kind of rows", "choose another name")
    _check_names([*path, "answers"], entry["answers"], answers)
    for key in OTHER_SELECTIONS:
        if entry[key] not in (None, *selections):
            others = [other for other in selections if other != name]
            raise complain(
                [*path, key],
                f"unknown selection `{entry[key]}`",
                f"known: {', '.join(others)}" if others else "remove it: there is no other one",
            )
    if ":" in entry["keep"] and entry["without"]:
        raise complain([*path, "without"], "has no effect on a function", "remove it")
    if ":" in entry["keep"] and entry["vote"] != "majority":
        raise complain([*path, "vote"], "has no effect on a function", "remove it")
    if entry["vote"] == "ranking" and len(entry["answers"]) < 2:
        raise complain(
            [*path, "vote"],
            "is `ranking` with one entry of `answers`, and each entry is an evaluator",
            "name several answers, or remove it",
        )
    for key in ("keep_empty", "pad_to", "as_many_as"):
        if entry[key] and entry["take"] == "other":
            raise complain([*path, key], "does not go with `take: other`", "remove one of them")
    _check_cycle(path, ".".join(path), config, {})
    if ":" in entry["keep"]:
        check_user_function([*path, "keep"], entry["keep"])


def _check_blind_spots(name: str, entry: Mapping[str, Any], answers: Mapping[str, Any]) -> None:
    """Check that an entry of `answers` and the one of which it names the blind spots have votes."""
    other, path = entry["blind_spots_of"], ["answers", name, "blind_spots_of"]
    if other not in answers or other == name:
        known = ", ".join(known for known in answers if known != name)
        raise complain(path, f"no other answers `{other}`", f"known: {known or 'none'}")
    for one in (name, other):
        if answers[one]["n"] < 2:
            raise complain(
                path, f"`{one}` is one answer to each question", f"set answers.{one}.n above 1"
            )


def _check_answers_entry(path: list, entry: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Check an entry of `answers`, as far as this needs no checked methods."""
    model = entry["model"]
    if entry["weak"] is not None and model != "weak":
        raise complain([*path, "weak"], f"has no effect on model `{model}`", "remove it")
    if entry["weak"] not in (None, *config["models"]):
        raise complain(
            [*path, "weak"],
            f"unknown model `{entry['weak']}`",
            f"known in `models`: {', '.join(config['models'])}",
        )
    if entry["few_shot"] and model == "weak":
        raise complain(
            [*path, "few_shot"], "the weak model answers without demonstrations", "remove it"
        )
    every = {}
    for task in config["tasks"].values():
        every |= task["methods"]
    if model not in (*STARTS, *every):
        known = [*STARTS, *_usable(f"answers.{path[-1]}", config, every)]
        raise complain([*path, "model"], f"unknown model `{model}`", f"known: {', '.join(known)}")


def check_answering(config: Mapping[str, Any]) -> None:
    """Check the model of each entry of `answers`, on every task that has it.

    Args:
        config: a completed configuration whose methods are checked.

    Raises:
        ConfigError: a model that is not trained, or is made with gold of train_2; or an iteration
            of a model that has none.
    """
    for name, entry in config["answers"].items():
        path, model = ["answers", name], entry["model"]
        tasks = [task["methods"] for task in config["tasks"].values() if model in task["methods"]]
        if model not in STARTS:
            for methods in tasks:
                _check_model([*path, "model"], model, config, methods)
        has_iterations = any(methods[model]["per_iteration"] for methods in tasks)
        if entry["iteration"] is not None and (model in STARTS or not has_iterations):
            raise complain(
                [*path, "iteration"],
                f"has no effect on model `{model}`, of which there is one",
                "remove it, or name a method with `per_iteration: true`",
            )


def _check_model(path: list, name: str, config: Mapping[str, Any], methods: dict) -> None:
    """Check that a method's model may answer, or be a start."""
    method = methods[name]
    if method["trainer"] == "none" and name != WEAK_METHOD:
        raise complain(
            path,
            f"method `{name}` trains no model",
            "name `strong`, with `few_shot: true` for demonstrations, or a method that trains",
        )
    if method["start"] == "weak" and name != WEAK_METHOD:
        raise complain(path, f"method `{name}` is a weak model", "name `weak`")
    if gold := _gold(name, config, methods):
        raise complain(
            path,
            f"is made with method `{gold}`, which is trained on gold of train_2",
            "name another model",
        )


def _check_preferences(
    name: str, entry: Mapping[str, Any], answers: Sequence[str], config: Mapping[str, Any]
) -> None:
    """Check an entry of `preferences`."""
    path = ["preferences", name]
    tasks = config["tasks"].values()
    taken = {*ROW_KINDS, *config["selections"], *(key for task in tasks for key in task["methods"])}
    if name in taken:
        raise complain(
            path, "is the name of a kind of rows, a selection or a method", "choose another name"
        )
    if ":" in entry["chosen"]:
        check_user_function([*path, "chosen"], entry["chosen"])
        if entry["answers"] is None:
            raise complain(
                [*path, "answers"], "is missing, and a function needs answers", "name some"
            )
    elif entry["chosen"] not in config["selections"]:
        raise complain(
            [*path, "chosen"],
            f"unknown selection `{entry['chosen']}`",
            f"known: {', '.join(config['selections']) or 'none'}; or `file.py:name`",
        )
    _check_names([*path, "answers"], entry["answers"] or (), answers)
    one_side = entry["one_side"]
    if one_side not in (None, *answers):
        raise complain(
            [*path, "one_side"], f"unknown answers `{one_side}`", f"known: {', '.join(answers)}"
        )
    if one_side in config["answers"] and config["answers"][one_side]["n"] > 1:
        raise complain(
            [*path, "one_side"],
            f"`{one_side}` has several answers to each question",
            "name answers with `n: 1`",
        )


def _check_names(path: list, names: Sequence[str], known: Sequence[str]) -> None:
    """Check that answers of all names are there."""
    for place, name in enumerate(names):
        if name not in known:
            raise complain(
                [*path, place], f"unknown answers `{name}`", f"known: {', '.join(known)}"
            )


def check_user_function(path: list, reference: str) -> None:
    """Check that a function of the user's is there.

    Args:
        path: of the key that names it.
        reference: the function as `file.py:name`.

    Raises:
        ConfigError: it is not.
    """
    check_filled_in(path, reference)
    try:
        check_function(reference)
    except ValueError as error:
        raise complain(path, str(error), "correct the path or the function") from error


def check_method_parts(path: list, name: str, config: Mapping[str, Any], task: str) -> None:
    """Check what a method starts from and what its rows are made of.

    Args:
        path: of the method's entry.
        name: of the method.
        config: a configuration whose answers, selections and preferences are checked.
        task: name of the task.

    Raises:
        ConfigError: a name that is not there, a cycle, or gold of train_2 on the way to rows or
            start of a method.
    """
    methods = config["tasks"][task]["methods"]
    method, start = methods[name], methods[name]["start"]
    known = [*ROW_KINDS, *config["selections"], *config["preferences"]]
    if method["data"] not in known:
        raise complain(
            [*path, "data"], f"unknown rows `{method['data']}`", f"known: {', '.join(known)}"
        )
    if start not in (*STARTS, *methods):
        raise complain(
            [*path, "start"],
            f"unknown model `{start}`",
            f"known: {', '.join([*STARTS, *_usable(name, config, methods)])}",
        )
    if method["data"] in config["selections"] and start == "weak":
        raise complain(
            [*path, "start"],
            "the weak model cannot learn from a selection, which may have its answers",
            "set it to strong, m_plus or a method",
        )
    _check_cycle(method_path(config, task, name), name, config, methods)
    for part in _reach(name, config, methods):
        section, _, key = part.rpartition(".")
        model = config["answers"][key]["model"] if section == "answers" else "weak"
        if model not in (*STARTS, *methods):
            raise complain(
                [*part.split("."), "model"],
                f"task `{task}` has no method `{model}`, and its method `{name}` needs it",
                f"add it, or leave out tasks.{task}.methods.{name} with null",
            )
    if start not in STARTS:
        _check_model([*path, "start"], start, config, methods)


def _links(name: str, config: Mapping[str, Any], methods: dict) -> list[str]:
    """What something is made of: names of methods, and `answers.x`, `selections.x`, ..."""
    section, _, key = name.rpartition(".")
    if not section:
        method = methods.get(name)
        if method is None:
            return []
        start, data = method["start"], method["data"]
        links = [start] if start not in STARTS else []
        sections = [s for s in ("selections", "preferences") if data in config[s]]
        return links + [f"{section}.{data}" for section in sections]
    entry = config[section][key]
    if section == "answers":
        return [entry["model"]] if entry["model"] not in STARTS else []
    answers = [*(entry["answers"] or ()), entry.get("one_side")]
    links = [f"answers.{one}" for one in answers if one in config["answers"]]
    keys = OTHER_SELECTIONS if section == "selections" else ("chosen",)
    selections = [entry[key] for key in keys if entry[key] in config["selections"]]
    return links + [f"selections.{selection}" for selection in selections]


def _reach(name: str, config: Mapping[str, Any], methods: dict) -> Iterator[str]:
    """All that something is made with, itself first, and once more where it is in a cycle."""
    yield name
    seen: set[str] = set()
    waiting = _links(name, config, methods)
    while waiting:
        part = waiting.pop()
        if part not in seen:
            seen.add(part)
            yield part
            waiting += _links(part, config, methods)


def _check_cycle(path: list, name: str, config: Mapping[str, Any], methods: dict) -> None:
    """Refuse a method or a selection that needs itself, with each link of the way."""
    if name not in list(_reach(name, config, methods))[1:]:
        return
    came_from: dict[str, str] = {}
    waiting = [name]
    while name not in came_from:  # level by level, so that the way is a shortest one
        part = waiting.pop(0)
        for link in _links(part, config, methods):
            if link not in came_from:
                came_from[link] = part
                waiting.append(link)
    way = [name, came_from[name]]
    while way[-1] != name:
        way.append(came_from[way[-1]])
    raise complain(
        path,
        f"needs itself: {' -> '.join(reversed(way))}",
        "name another model or selection in one of these",
    )


def _gold(name: str, config: Mapping[str, Any], methods: dict) -> str | None:
    """A method that is trained on gold of train_2, among those that a method is made with."""
    for part in _reach(name, config, methods):
        method = methods.get(part, {})
        if method.get("data") == "gold_train_2" or method.get("reward") == "gold":
            return part
    return None


def _usable(name: str, config: Mapping[str, Any], methods: dict) -> list[str]:
    """Methods whose model something may be made with: trained, without gold, not made with it."""
    return [
        other
        for other, method in methods.items()
        if method["trainer"] != "none"
        and method["start"] != "weak"
        and name not in _reach(other, config, methods)
        and not _gold(other, config, methods)
    ]
