"""Checks of a configuration's methods, chains and models."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path

from weak_to_strong.experiment.check_data import check_filled_in
from weak_to_strong.experiment.check_selections import (
    check_measured_answers,
    check_method_parts,
    check_user_function,
)
from weak_to_strong.experiment.entries import (
    KINDS_FROM_PAIRS,
    PAIR_KINDS,
    QUESTIONS_KIND,
    WEAK_METHOD,
)
from weak_to_strong.experiment.graph import Graph
from weak_to_strong.experiment.schema import ConfigError, complain
from weak_to_strong.experiment.yaml_keys import check_keys
from weak_to_strong.tables.files import with_folder
from weak_to_strong.tables.schemas import BROKEN, CEILING_MARK, CONTROL
from weak_to_strong.training.deepspeed_file import check_deepspeed
from weak_to_strong.training.settings import (
    PREFERENCE_TRAINERS,
    REWARD_TRAINERS,
    check_quantiser,
    check_quantization,
    check_rewards,
)

#: Methods whose models the workflow itself builds on; they can be changed but not removed.
REQUIRED_METHODS = ("weak", "weak_ft", "icl_ft", "hybrid_ft")


def _check_method(path: list, method: dict, preferences: dict) -> None:
    for key in ("stage", "start", "trainer"):
        if key not in method:
            raise complain([*path, key], "is missing", "see the default methods in the schema")
    data, trainer = method.get("data", "none"), method["trainer"]
    _check_reward(path, method, data)
    if (trainer == "none") != (data == "none"):
        raise complain([*path, "data"], f"`{data}` with trainer `{trainer}`", "set both or none")
    if (trainer in PREFERENCE_TRAINERS) != (data in (*PAIR_KINDS, *preferences)):
        raise complain(
            [*path, "data"],
            f"`{data}` with trainer `{trainer}`",
            f"{', '.join(PREFERENCE_TRAINERS)}, and only they, train on `pairs`, `shuffled_pairs` "
            "or an entry of `preferences`",
        )
    needed = data.startswith("kept_")
    if method["per_iteration"] != needed and not data.startswith(("random_", "icl_")):
        raise complain(
            [*path, "per_iteration"],
            f"is {method['per_iteration']} with data `{data}`",
            f"set it to {str(needed).lower()}",
        )
    if data in KINDS_FROM_PAIRS and method["start"] != "m_plus":
        raise complain(
            [*path, "start"], f"`{method['start']}` with data `{data}`", "set it to m_plus"
        )
    if data in preferences:
        if method["start"] in ("weak", "strong"):
            raise complain(
                [*path, "start"],
                f"`{method['start']}` with data `{data}`",
                "set it to m_plus, or to a method that trains a model",
            )
        if preferences[data]["weights"] == "share" and trainer != "dpo":
            raise complain(
                [*path, "trainer"],
                f"`{trainer}` on `{data}`, whose pairs have weights",
                f"set it to dpo, or preferences.{data}.weights to equal",
            )
        if method.get("pairs"):
            raise complain(
                [*path, "pairs"],
                f"has no effect on `{data}`",
                f"remove it, or set the keys of preferences.{data}",
            )
    if method["few_shot"] and (method["start"] == "weak" or data.startswith("gold_")):
        raise complain(
            [*path, "few_shot"], "demonstrations need a weak and a strong model", "set it to false"
        )


def _check_reward(path: list, method: dict, data: str) -> None:
    """Check that a training by reward, and no other method, has questions and a reward.

    Gold of train_2 reaches no method that does not say so by its name.
    """
    reward, by_reward = method.get("reward"), method["trainer"] in REWARD_TRAINERS
    trainers = " and ".join(REWARD_TRAINERS)
    for key, given in (("data", data == QUESTIONS_KIND), ("reward", reward is not None)):
        if given != by_reward:
            raise complain(
                [*path, key],
                f"`{method.get(key, 'none')}` with trainer `{method['trainer']}`",
                f"{trainers}, and only it, has `data: {QUESTIONS_KIND}` and a `reward`",
            )
    if not by_reward:
        return
    if method["start"] == "weak":
        raise complain(
            [*path, "start"], f"`weak` with trainer `{method['trainer']}`", "use strong or m_plus"
        )
    if ":" in reward:
        check_user_function([*path, "reward"], reward)
    is_marked = method["stage"] == "baseline" and path[-1].startswith(CEILING_MARK)
    if reward == "gold" and not is_marked:
        raise complain(
            [*path, "reward"],
            "`gold` would show the withheld gold answers of train_2 to a method",
            f"use another reward; a ceiling has `stage: baseline` and a name with `{CEILING_MARK}` "
            "first",
        )


def _check_control(path: list, method: dict, methods: dict) -> None:
    """Check that a control names a method of the same task, and trains without gold."""
    controlled = method["control_of"]
    if (method["stage"] == CONTROL) != (controlled is not None):
        raise complain(
            [*path, "control_of"],
            f"is {controlled or 'missing'} with stage `{method['stage']}`",
            "a control, and only a control, names the method that it controls",
        )
    if controlled is None:
        return
    known = [name for name, entry in methods.items() if entry.get("stage") != CONTROL]
    if controlled not in known:
        raise complain(
            [*path, "control_of"], f"no such method: {controlled}", f"known: {', '.join(known)}"
        )
    gold = method["data"].startswith("gold_") or method.get("reward") == "gold"
    if method["data"] == "none" or gold:
        raise complain(
            [*path, "data"], f"`{method['data']}` in a control", "train it on other rows"
        )


def _check_required_method(path: list, name: str, method: dict) -> None:
    """Check that a method that others build on is still what they take it for.

    The withheld gold answers in particular must not reach the model that labels.
    """
    allowed = {"start": ("weak",), "data": ("gold_train_1", "none")}
    if name != "weak":
        allowed = {"start": ("strong",), "data": ("kept_weak", "kept_icl", "kept_hybrid")}
    for key, values in allowed.items():
        if method[key] not in values:
            raise complain(
                [*path, key],
                f"`{method[key]}`, and others build on `{name}`",
                f"use {' or '.join(values)}, and a new method for anything else",
            )


def check_methods(config: dict, name: str) -> None:
    """Check the methods of one task, its own and the common ones.

    Raises:
        ConfigError: a required method is removed, or one has parts that do not go together.
    """
    task = config["tasks"][name]
    for method in REQUIRED_METHODS:
        if method not in task["methods"]:
            is_common = method in config["methods"]
            path = ["tasks", name, "methods", method] if is_common else ["methods", method]
            raise complain(path, "cannot be removed", "delete the `null`")
    for method, entry in task["methods"].items():
        common = config["methods"].get(method) == entry
        path = ["methods", method] if common else ["tasks", name, "methods", method]
        check_method_parts(path, method, config, task["methods"])
        _check_method(path, entry, config["preferences"])
        _check_control(path, entry, task["methods"])
        if method in REQUIRED_METHODS:
            _check_required_method(path, method, entry)
        if (
            entry["data"] == "gold_train_1"
            and "train_1" not in task["splits"]
            and not (method == WEAK_METHOD and _is_always_asked(config, name))
        ):
            raise complain(
                ["tasks", name, "splits", "train_1"],
                f"is missing, and method `{method}` is trained on it",
                f"add it, or set tasks.{name}.methods.{method} to {{trainer: none, data: none}}",
            )
    check_measured_answers(config, task["methods"])


def _is_always_asked(config: dict, task: str) -> bool:
    """Whether all weak models of a task are behind endpoints, so that none is trained."""
    weak = [chain["weak"] for chain in config["chains"] if chain["task"] == task]
    return all("endpoint" in config["models"].get(name, {}) for name in weak)


def check_chain(config: dict, index: int) -> None:
    """Check the names and settings of one chain and of its variants.

    Raises:
        ConfigError: an unknown name, a missing split, or no room for a prompt in the engine.
    """
    chain = config["chains"][index]
    for key, section in (("task", "tasks"), ("weak", "models"), ("strong", "models")):
        if chain[key] not in config[section]:
            raise complain(
                ["chains", index, key],
                f"unknown {key} `{chain[key]}`",
                f"known in `{section}`: {', '.join(config[section])}",
            )
    task = config["tasks"][chain["task"]]
    _check_endpoints(config, index)
    if config["evaluation"]["split"] == "validation" and "validation" not in task["splits"]:
        raise complain(
            ["evaluation", "split"],
            f"task `{chain['task']}` has no validation split",
            "add one to `splits`",
        )
    engine = {**config["engine"], **task.get("engine", {})}
    if task["max_tokens"] >= engine["max_model_len"]:
        raise complain(
            ["engine", "max_model_len"],
            f"{engine['max_model_len']} leaves no room for a prompt beside "
            f"max_tokens {task['max_tokens']} of task `{chain['task']}`",
            "raise it",
        )
    for place, name in enumerate(chain.get("variants", ())):
        if name not in config["variants"]:
            raise complain(
                ["chains", index, "variants", place],
                f"unknown variant `{name}`",
                f"known in `variants`: {', '.join(config['variants']) or 'none'}",
            )
        _check_broken(name, config["variants"][name].get("broken"), task)
        for method in config["variants"][name].get("methods", ()):
            if method not in task["methods"]:
                raise complain(
                    ["variants", name, "methods"],
                    f"unknown method `{method}`",
                    f"known: {', '.join(task['methods'])}",
                )


def _check_endpoints(config: dict, index: int) -> None:
    """Check that no model of a chain that is behind an endpoint would have to be trained."""
    chain = config["chains"][index]
    weak, strong = (config["models"][chain[key]] for key in ("weak", "strong"))
    if "endpoint" in strong:
        raise complain(
            ["chains", index, "strong"],
            f"model `{chain['strong']}` is behind an endpoint and cannot be trained",
            "make it `weak`, or name a model with `path` or `hub`",
        )
    if "endpoint" not in weak:
        return
    _check_chat_interface(chain["weak"], config["tasks"][chain["task"]], weak["endpoint"])
    for name, method in config["tasks"][chain["task"]]["methods"].items():
        if method["start"] == "weak" and method["trainer"] != "none" and name != WEAK_METHOD:
            raise complain(
                ["tasks", chain["task"], "methods", name],
                f"trains the weak model, and `{chain['weak']}` of chains.{index} is behind an "
                "endpoint and cannot be trained",
                f"leave it out with tasks.{chain['task']}.methods.{name}: null",
            )


def _check_chat_interface(name: str, task: dict, endpoint: dict) -> None:
    """Check that a task that is asked in chats is not sent as plain text."""
    if task["prompt"] == "chat" and endpoint["api"] != "chat":
        raise complain(
            ["models", name, "endpoint", "api"],
            f"`{endpoint['api']}` takes plain text, and the task has prompt `chat`",
            "set it to chat",
        )


def _check_broken(name: str, broken: str | None, task: dict) -> None:
    """Check that the name of a variant says whether it breaks a stage on purpose."""
    if name.startswith(BROKEN) != (broken is not None):
        raise complain(
            ["variants", name, "broken"],
            f"is {broken or 'missing'}",
            f"a variant that breaks a stage, and only such a one, has a name with `{BROKEN}` first",
        )
    if broken == "gold_demonstrations" and "train_1" not in task["splits"]:
        raise complain(
            ["variants", name, "broken"], "needs gold of train_1", "add that split to the task"
        )


def check_twins(chains: list[dict]) -> None:
    """Refuse two chains of the same task, weak and strong model.

    Raises:
        ConfigError: there are two.
    """
    seen: dict[tuple, int] = {}
    for index, chain in enumerate(chains):
        first = seen.setdefault((chain["task"], chain["weak"], chain["strong"]), index)
        if first != index:
            raise complain(
                ["chains", index],
                f"is the chain {first} once more",
                "make its settings an entry of `variants`",
            )


def _check_continued(path: list, settings: dict, initial: dict) -> None:
    """Check that training can go on from what was trained with other settings."""
    if settings["adapter"] != initial["adapter"]:
        raise complain(
            [*path, "adapter"],
            f"`{settings['adapter']}` cannot continue M_plus, which is `{initial['adapter']}`",
            "make the two the same",
        )
    lora, initial_lora = settings.get("lora"), initial.get("lora") or {}
    if settings["adapter"] != "lora" or lora is None:
        return
    same = all(lora.get(key) == initial_lora.get(key) for key in ("r", "alpha"))
    targets = (
        adapter.get("target_modules", initial_lora.get("target_modules"))
        for adapter in (lora, initial_lora)
    )
    if not same or len({frozenset(adapter or ()) for adapter in targets}) > 1:
        raise complain(
            [*path, "lora"], "differs from the adapter of M_plus", "leave it out to continue that"
        )


def _check_deepspeed(path: list, file: Path) -> None:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise complain(path, f"{file} is no JSON object", "name a DeepSpeed configuration")
    try:
        check_keys(file)
        check_deepspeed(value)
    except ValueError as error:
        message, _, fix = str(error).removeprefix(f"{file}: ").rpartition("; ")
        raise complain(path, f"{file}: {message}", fix) from error


def _check_training(path: list, settings: dict) -> None:
    """Check the hyper-parameters of one model; `path` is the section that they come from."""
    if settings["global_batch_size"] % settings["per_device_batch_size"]:
        raise complain(
            [*path, "global_batch_size"],
            f"{settings['global_batch_size']} is not a multiple of per_device_batch_size "
            f"{settings['per_device_batch_size']}",
            "change one of them",
        )
    if settings.get("beta") == 0 and path[-1] not in (*REWARD_TRAINERS, "sft"):
        raise complain([*path, "beta"], f"is 0 for {path[-1]}", "set it above 0")
    if "deepspeed" in settings:
        check_filled_in([*path, "deepspeed"], settings["deepspeed"])
        if not os.path.isfile(settings["deepspeed"]):
            missing = f"no such file: {with_folder(settings['deepspeed'])}"
            raise complain([*path, "deepspeed"], missing, "correct the path")
        _check_deepspeed([*path, "deepspeed"], Path(settings["deepspeed"]))
    try:
        check_quantization(settings)
        # Where each kind of rule has an environment of its own, nothing is trained in this one.
        if settings["quantization"] and find_spec("peft"):
            check_quantiser(settings)
    except ValueError as error:
        key, _, message = str(error).partition(": ")
        raise ConfigError(f"config key `{'.'.join([*path, key])}`: {message}") from None


def _check_reward_settings(path: list, settings: dict) -> None:
    """Check what training by reward needs beside what every training needs."""
    try:
        check_rewards(settings)
    except ValueError as error:
        key, _, message = str(error).partition(": ")
        raise ConfigError(f"config key `{'.'.join([*path, key])}`: {message}") from None


def check_models_to_train(config: dict) -> None:
    """Check the settings of every model as they come out of all their levels.

    Raises:
        ConfigError: a variant changes no evaluated model, or the settings of a training or of pairs
            do not go together.
    """
    graph = Graph(config)
    evaluated = {(node.chain.task, node.chain.variant) for node in graph.nodes}
    for chain in graph.chains:
        if chain.variant and (chain.task, chain.variant) not in evaluated:
            raise complain(
                ["variants", chain.variant],
                f"changes no model of task `{chain.task}` that it evaluates",
                "correct its `methods` or what it changes",
            )
    for node in graph.nodes:
        method, trainer = graph.method(node), graph.method(node).trainer
        if method.is_trained:
            settings, init = graph.training_settings(node), graph.init_of(node)
            _check_training(["training", trainer], settings)
            if method.reward:
                _check_reward_settings(["training", trainer], settings)
            longest = config["tasks"][node.chain.task]["max_tokens"]
            # Gold answers are of any length.
            if not method.data.startswith("gold_") and settings["max_length"] <= longest:
                raise complain(
                    ["training", trainer, "max_length"],
                    f"{settings['max_length']} leaves no room for a prompt beside an answer of "
                    f"tasks.{node.chain.task}.max_tokens {longest}",
                    "raise it, or lower max_tokens",
                )
            if init:
                _check_continued(["training", trainer], settings, graph.training_settings(init))
        if method.data not in KINDS_FROM_PAIRS:
            continue
        pairs = graph.pair_settings(node)
        if pairs["weak_rejected_confidence"] < pairs["min_confidence"]:
            raise complain(
                ["pairs", "weak_rejected_confidence"],
                f"{pairs['weak_rejected_confidence']} is below min_confidence "
                f"{pairs['min_confidence']}",
                "raise it",
            )


def check_chat_templates(config: dict) -> None:
    """Check that the models of a chat have a template, as far as their files are here.

    Raises:
        ConfigError: a file is missing or unreadable, or a model of a chat has no template.
    """
    from weak_to_strong.models.chat_format import no_template, read_chat_template, read_text

    for chain in config["chains"]:
        if config["tasks"][chain["task"]]["prompt"] != "chat":
            continue
        for name in (chain["weak"], chain["strong"]):
            entry, path = config["models"][name], ["models", name, "chat_template"]
            try:
                if "chat_template" in entry:
                    check_filled_in(path, entry["chat_template"])
                    if not os.path.isfile(entry["chat_template"]):
                        missing = f"no such file: {with_folder(entry['chat_template'])}"
                        raise complain(path, missing, "correct the path")
                    read_text(Path(entry["chat_template"]))
                elif "path" in entry and (
                    read_chat_template(Path(entry["path"]), f"models.{name}") is None
                ):
                    raise ValueError(no_template(entry["path"]))
            except ConfigError:
                raise
            except ValueError as error:
                message, _, fix = str(error).rpartition("; ")
                raise complain(path, message, fix) from error


def check_context(config: dict) -> None:
    """Check that models of local folders are made for texts as long as the engine's.

    Raises:
        ConfigError: `engine.max_model_len` exceeds what a model is made for.
    """
    from weak_to_strong.models.base_models import context_length

    for chain in config["chains"]:
        engine = {**config["engine"], **config["tasks"][chain["task"]].get("engine", {})}
        for name in (chain["weak"], chain["strong"]):
            entry = config["models"][name]
            limit = context_length(Path(entry["path"])) if "path" in entry else None
            if limit and engine["max_model_len"] > limit:
                raise complain(
                    ["engine", "max_model_len"],
                    f"{engine['max_model_len']} exceeds the {limit} tokens that model `{name}` "
                    "is made for",
                    "lower it",
                )
