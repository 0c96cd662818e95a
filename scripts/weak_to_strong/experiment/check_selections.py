"""Checks of `answers`, `selections` and `preferences`, and of what methods are made with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from weak_to_strong.experiment.entries import (
    KINDS_FROM_PAIRS,
    LABELS_BY_SIDE,
    QUESTIONS_KIND,
    STARTS,
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


def check_selections(config: Mapping[str, Any]) -> None:
    """Check the entries of `answers`, `selections` and `preferences`, whatever the task.

    Raises:
        ConfigError: a name that is not there, or settings that do not fit each other.
    """
    for name, entry in config["answers"].items():
        path = ["answers", name]
        if entry["weak"] is not None and entry["model"] != "weak":
            raise complain(
                [*path, "weak"], f"has no effect on model `{entry['model']}`", "remove it"
            )
        if entry["weak"] not in (None, *config["models"]):
            raise complain(
                [*path, "weak"],
                f"unknown model `{entry['weak']}`",
                f"known in `models`: {', '.join(config['models'])}",
            )
        if entry["few_shot"] and entry["model"] == "weak":
            raise complain(
                [*path, "few_shot"], "the weak model answers without demonstrations", "remove it"
            )
        if entry["blind_spots_of"] is not None:
            _check_blind_spots(name, entry, config["answers"])
    answers = [*LABELS_BY_SIDE, *config["answers"]]
    for name, entry in config["selections"].items():
        _check_selection(name, entry, answers, config["selections"])
    for name, entry in config["preferences"].items():
        _check_preferences(name, entry, answers, config)


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


def _check_selection(
    name: str, entry: Mapping[str, Any], answers: Sequence[str], selections: Mapping[str, Any]
) -> None:
    """Check an entry of `selections`."""
    path = ["selections", name]
    if name in ROW_KINDS:
        raise complain(path, "is the name of a kind of rows", "choose another name")
    _check_answers([*path, "answers"], entry["answers"], answers)
    if entry["without"] not in (None, *selections):
        raise complain(
            [*path, "without"],
            f"unknown selection `{entry['without']}`",
            f"known: {', '.join(selections)}",
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
    seen = [name]
    while (after := selections[seen[-1]]["without"]) is not None:
        if after in seen:
            raise complain(
                [*path, "without"],
                f"leaves out itself: {' -> '.join([*seen, after])}",
                "remove it",
            )
        seen.append(after)
        if after not in selections:
            break
    if ":" in entry["keep"]:
        check_user_function([*path, "keep"], entry["keep"])


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
    _check_answers([*path, "answers"], entry["answers"] or (), answers)


def _check_answers(path: list, names: Sequence[str], known: Sequence[str]) -> None:
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
    try:
        check_function(reference)
    except ValueError as error:
        raise complain(path, str(error), "correct the path or the function") from error


def check_method_parts(path: list, name: str, config: Mapping[str, Any], methods: dict) -> None:
    """Check what a method starts from and what its rows are made of.

    Args:
        path: of the method's entry.
        name: of the method.
        config: a completed configuration.
        methods: of the task.

    Raises:
        ConfigError: a name that is not there, a cycle, or gold of train_2 on the way to rows or
            start of a method.
    """
    method = methods[name]
    known = [*ROW_KINDS, *config["selections"], *config["preferences"]]
    if method["data"] not in known:
        raise complain(
            [*path, "data"], f"unknown rows `{method['data']}`", f"known: {', '.join(known)}"
        )
    if method["start"] not in (*STARTS, *methods):
        raise complain(
            [*path, "start"],
            f"unknown model `{method['start']}`",
            f"known: {', '.join([*STARTS, *methods])}",
        )
    if method["data"] in config["selections"] and method["start"] == "weak":
        raise complain(
            [*path, "start"],
            "the weak model cannot learn from a selection, which may have its answers",
            "set it to strong, m_plus or a method",
        )
    for key, part in _parts(path, method, config):
        _check_part(key, part, methods)
    for part in _reach(path, name, config, methods, ()):
        if part != name:
            _check_gold(path, part, methods)


def check_measured_answers(config: Mapping[str, Any], methods: dict) -> None:
    """Check the models of the answers that the diagnostics measure (`blind_spots_of`).

    Args:
        config: a completed configuration.
        methods: of a task.

    Raises:
        ConfigError: a model that is not there, or is made with gold of train_2.
    """
    for name, entry in config["answers"].items():
        for measured in filter(None, (entry["blind_spots_of"] and name, entry["blind_spots_of"])):
            path, model = ["answers", measured, "model"], config["answers"][measured]["model"]
            if model not in STARTS:
                _check_part(path, model, methods)
                for part in _reach(path, model, config, methods, ()):
                    _check_gold(path, part, methods)


def _check_part(key: list, part: str, methods: dict) -> None:
    """Check that a model that answers, or that a training starts from, can do so."""
    if part not in methods:
        raise complain(key, f"unknown model `{part}`", f"known: {', '.join(methods)}")
    entry = methods[part]
    if entry["trainer"] == "none" and part != "weak":
        raise complain(
            key,
            f"method `{part}` trains no model",
            "name `strong`, with `few_shot: true` for demonstrations, or a method that trains",
        )
    if entry["start"] == "weak" and part != "weak":
        raise complain(key, f"method `{part}` is a weak model", "name `weak`")


def _check_gold(path: list, part: str, methods: dict) -> None:
    """Refuse a method that is trained on gold of train_2."""
    if methods[part]["data"] == "gold_train_2" or methods[part].get("reward") == "gold":
        raise complain(
            path,
            f"is made with method `{part}`, which is trained on gold of train_2",
            "use other answers, or another start",
        )


def _parts(
    path: list, method: Mapping[str, Any], config: Mapping[str, Any]
) -> Iterator[tuple[list, str]]:
    """Methods that a method is made with: the key that names one, and the name."""
    if method["start"] not in STARTS:
        yield [*path, "start"], method["start"]
    names, selection = [], method["data"]
    if pairs := config["preferences"].get(method["data"]):
        names, selection = [*(pairs["answers"] or ())], pairs["chosen"]
    while entry := config["selections"].get(selection):
        names += entry["answers"]
        selection = entry["without"]
    for name in names:
        answers = config["answers"].get(name)
        if answers and answers["model"] not in STARTS:
            yield ["answers", name, "model"], answers["model"]


def _reach(
    path: list, name: str, config: Mapping[str, Any], methods: dict, above: tuple[str, ...]
) -> Iterator[str]:
    """All methods that a method is made with, itself first."""
    if name in above:
        raise complain(
            path, f"needs itself: {' -> '.join([*above, name])}", "name another model or selection"
        )
    yield name
    for _, part in _parts(path, methods[name], config):
        if part in methods:
            yield from _reach(path, part, config, methods, (*above, name))
