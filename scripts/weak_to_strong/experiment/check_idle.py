"""Settings that a user wrote and that nothing reads: a run would not be what they describe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from weak_to_strong.experiment.schema import complain
from weak_to_strong.training.settings import REWARD_TRAINERS, USED_BY

#: Keys of a task that only some loaders read.
_LOADERS = {
    "templates": ("embedded",),
    "form": ("embedded",),
    "reasoning_gym": ("reasoning_gym",),
    "columns": ("table",),
    "subjects": ("olympicarena",),
}
#: Keys of a selection that only some values of `keep` read.
_KEEPS = {
    "min_share": ("share",),
    "fraction": ("entropy", "random"),
    "as_many_as": ("random",),
    "keep_empty": ("agreement", "all"),
    "pad_to": ("agreement",),
    "pad_seed": ("agreement",),
}
#: Keys of a selection that draws as many questions as another one keeps.
_NOT_FOR_AS_MANY = ("fraction", "vote")
#: Keys of `preferences` that a user's function does not get.
_NOT_FOR_FUNCTION = (
    *("min_confidence", "pairs_per_question", "rng_seed", "one_side", "min_confidence_rejected"),
)


def check_idle(written: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Refuse settings without effect.

    Args:
        written: the configuration as the user wrote it. A default is never refused.
        config: the same, completed and with references checked.

    Raises:
        ConfigError: names the first such key.
    """
    for path, key, reason in (
        *_idle_answers(written),
        *_idle_selections(written, config),
        *_idle_tasks(written, config),
        *_idle_training(written, config),
    ):
        raise complain([*path, key], f"has no effect {reason}", "remove it")


#: Path of a section, the key in it, and where it has no effect.
_Idle = Iterator[tuple[list, str, str]]


def _idle_answers(written: Mapping[str, Any]) -> _Idle:
    for name, entry in written.get("answers", {}).items():
        for key in ("temperature", "top_p"):
            if key in entry and float(entry.get("n", 1)) == 1:
                yield ["answers", name], key, "on one greedy answer (`n: 1`)"


def _idle_selections(written: Mapping[str, Any], config: Mapping[str, Any]) -> _Idle:
    for name, entry in written.get("selections", {}).items():
        keep = config["selections"][name]["keep"]
        for key, used_with in _KEEPS.items():
            if entry.get(key) is not None and keep not in used_with:
                yield ["selections", name], key, f"with `keep: {keep}`"
        for key in _NOT_FOR_AS_MANY:
            if key in entry and entry.get("as_many_as") is not None:
                yield ["selections", name], key, "with `as_many_as`"
        if "pad_seed" in entry and entry.get("pad_to") is None:
            yield ["selections", name], "pad_seed", "without `pad_to`"
        if "take" in entry and ":" in keep:
            yield ["selections", name], "take", "on a function"
    for name, entry in written.get("preferences", {}).items():
        for key in _NOT_FOR_FUNCTION:
            if key in entry and ":" in entry["chosen"]:
                yield ["preferences", name], key, "on a function"
        if "min_confidence_rejected" in entry and entry.get("one_side") is None:
            yield ["preferences", name], "min_confidence_rejected", "without `one_side`"


def _idle_tasks(written: Mapping[str, Any], config: Mapping[str, Any]) -> _Idle:
    for name, entry in written.get("tasks", {}).items():
        task = config["tasks"][name]
        for key, loaders in _LOADERS.items():
            if key in entry and task["loader"] not in loaders:
                yield ["tasks", name], key, f"with loader `{task['loader']}`"
        chat, completed = entry.get("chat", {}), task.get("chat", {})
        if chat.get("reasoning") == "drop" and completed.get("answer_after") is None:
            yield ["tasks", name, "chat"], "reasoning", "without `answer_after` or `thinking: true`"


def _idle_training(written: Mapping[str, Any], config: Mapping[str, Any]) -> _Idle:
    sections = list(_training_sections(written, config))
    adapters = {trainer: {entry["adapter"]} for trainer, entry in config["training"].items()}
    for _, trainer, settings in sections:
        if "adapter" in settings and trainer != "none":
            adapters[trainer].add(settings["adapter"])
    by_reward = {
        method["trainer"]
        for task in config["tasks"].values()
        for method in task["methods"].values()
    } & {*REWARD_TRAINERS}
    for path, trainer, settings in sections:
        for key, value in settings.items():
            if trainer == "none":
                yield path, key, "on a method that is not trained"
            if value is not None and trainer not in USED_BY.get(key, (trainer,)):
                yield path, key, f"on trainer `{trainer}`"
        # A training by reward may make an adapter of the shape that `sft` has.
        if "lora" in settings and adapters[trainer] == {"full"} and not by_reward:
            yield path, "lora", "with `adapter: full`"


def _training_sections(
    written: Mapping[str, Any], config: Mapping[str, Any]
) -> Iterator[tuple[list, str, Mapping[str, Any]]]:
    """Each section of hyper-parameters that the user wrote: its path, its trainer, its keys."""
    levels: list[tuple[list, Mapping[str, Any], Mapping[str, Any]]]
    levels = [([], written, config["methods"])]
    for name, task in written.get("tasks", {}).items():
        levels.append((["tasks", name], task, config["tasks"][name]["methods"]))
    for name, variant in written.get("variants", {}).items():
        levels.append((["variants", name], variant, {}))
    for path, section, methods in levels:
        for trainer, settings in section.get("training", {}).items():
            yield [*path, "training", trainer], trainer, settings
        if path[:1] == ["variants"]:
            continue  # its `methods` is a list of names
        for name, method in (section.get("methods") or {}).items():
            trainer = methods.get(name, {}).get("trainer")
            if trainer and method and method.get("training"):
                yield [*path, "methods", name, "training"], trainer, method["training"]
