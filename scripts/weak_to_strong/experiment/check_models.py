"""Checks of a configuration's methods, chains and models."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from weak_to_strong.experiment.check_data import check_filled_in
from weak_to_strong.experiment.check_selections import (
    check_method_parts,
    check_user_function,
    method_path,
)
from weak_to_strong.experiment.entries import (
    KINDS_FROM_PAIRS,
    PAIR_KINDS,
    QUESTIONS_KIND,
    WEAK_METHOD,
)
from weak_to_strong.experiment.graph import Graph
from weak_to_strong.experiment.nodes import Node
from weak_to_strong.experiment.schema import ConfigError, complain
from weak_to_strong.experiment.yaml_keys import check_keys
from weak_to_strong.tables.files import with_folder
from weak_to_strong.tables.schemas import BROKEN, CEILING_MARK, CONTROL
from weak_to_strong.training.deepspeed_file import check_deepspeed
from weak_to_strong.training.settings import (
    PREFERENCE_TRAINERS,
    REWARD_TRAINERS,
    check_quantiser,
    complete_settings,
)

#: Methods whose models the workflow itself builds on; they can be changed but not removed.
REQUIRED_METHODS = ("weak", "weak_ft", "icl_ft", "hybrid_ft")


def check_method_keys(config: dict) -> None:
    """Check that the methods of all tasks have the keys on which every other check relies."""
    examples = {"stage": "stage1", "start": "strong", "trainer": "sft"}
    for name, task in config["tasks"].items():
        for method, entry in task["methods"].items():
            for key, example in examples.items():
                if key not in entry:
                    raise complain(
                        [*method_path(config, name, method), key],
                        "is missing",
                        f"a new method needs it, such as `{key}: {example}`",
                    )


def _check_method(path: list, method: dict, preferences: dict) -> None:
    data, trainer = method.get("data", "none"), method["trainer"]
    _check_reward(path, method, data)
    if (trainer == "none") != (data == "none"):
        raise complain([*path, "data"], f"`{data}` with trainer `{trainer}`", "set both or none")
    takes_chosen = trainer == "sft" and data in preferences
    on_pairs = data in (*PAIR_KINDS, *preferences) and not takes_chosen
    if (trainer in PREFERENCE_TRAINERS) != on_pairs:
        raise complain(
            [*path, "data"],
            f"`{data}` with trainer `{trainer}`",
            f"{', '.join(PREFERENCE_TRAINERS)}, and only they, train on `pairs`, `shuffled_pairs` "
            "or an entry of `preferences`; sft takes the chosen answers of such an entry",
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
    # A preference model is held near the model that it starts from, which should have been tuned.
    refused = ("weak",) if takes_chosen else ("weak", "strong")
    if data in preferences and method["start"] in refused:
        raise complain(
            [*path, "start"],
            f"`{method['start']}` with data `{data}`",
            f"set it to {'strong, ' * takes_chosen}m_plus, or to a method that trains a model",
        )
    if data in preferences and preferences[data]["weights"] == "share" and trainer != "dpo":
        raise complain(
            [*path, "trainer"],
            f"`{trainer}` on `{data}`, whose pairs have weights",
            f"set it to dpo, or preferences.{data}.weights to equal",
        )
    if method.get("pairs") and data not in KINDS_FROM_PAIRS:
        others = f", or set the keys of preferences.{data}" if data in preferences else ""
        raise complain([*path, "pairs"], f"has no effect on data `{data}`", f"remove it{others}")
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
    """Check the methods of one task, its own and the common ones."""
    task = config["tasks"][name]
    for method in REQUIRED_METHODS:
        if method not in task["methods"]:
            is_common = method in config["methods"]
            path = ["tasks", name, "methods", method] if is_common else ["methods", method]
            raise complain(path, "cannot be removed", "delete the `null`")
    for method, entry in task["methods"].items():
        path = method_path(config, name, method)
        check_method_parts(path, method, config, name)
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


def _is_always_asked(config: dict, task: str) -> bool:
    """Whether all weak models of a task are behind endpoints, so that none is trained."""
    weak = [chain["weak"] for chain in config["chains"] if chain["task"] == task]
    return all("endpoint" in config["models"].get(name, {}) for name in weak)


def check_chain(config: dict, index: int) -> None:
    """Check the names and settings of one chain and of its variants."""
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
            _engine_path(chain["task"], task),
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


def _engine_path(name: str, task: dict) -> list:
    """Where the room of a task's texts is written: by the task itself, or for all."""
    place = ["tasks", name] if "max_model_len" in task.get("engine", {}) else []
    return [*place, "engine", "max_model_len"]


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
    seen: dict[tuple, int] = {}
    for index, chain in enumerate(chains):
        first = seen.setdefault((chain["task"], chain["weak"], chain["strong"]), index)
        if first != index:
            raise complain(
                ["chains", index],
                f"is the chain {first} once more",
                "make its settings an entry of `variants`",
            )


def _where(written: dict, levels: list[list], keys: Sequence[str]) -> list:
    """Path of the key, of several that a fault concerns, that the narrowest level sets.

    Args:
        written: the configuration as the user wrote it.
        levels: paths of the sections that set these keys, each under the next one; the first has
            the defaults.
        keys: the first is named where one level sets several.
    """
    for level in reversed(levels):
        section = written
        for name in level:
            inside = isinstance(section, dict) and name in section
            inside = inside or (isinstance(section, list) and name < len(section))
            section = (section[name] if inside else None) or {}
        for key in keys:
            if key in section:
                return [*level, key]
    return [*levels[0], keys[0]]


def _training_levels(graph: Graph, node: Node) -> list[list]:
    """Where hyper-parameters of a node are set, each level under the next one."""
    method, task, variant = graph.method(node), node.chain.task, node.chain.variant
    return [
        ["training", method.trainer],
        ["tasks", task, "training", method.trainer],
        *_method_levels(node, "training"),
        *([["variants", variant, "training", method.trainer]] if variant else []),
    ]


def _method_levels(node: Node, key: str) -> list[list]:
    return [["methods", node.method, key], ["tasks", node.chain.task, "methods", node.method, key]]


def _pair_levels(graph: Graph, node: Node) -> list[list]:
    """Where settings of a node's pairs are set, each level under the next one."""
    chain = node.chain
    ours = (chain.task, chain.weak, chain.strong)
    entries = [(entry.task, entry.weak, entry.strong) for entry in graph.experiment.chains]
    return [
        ["pairs"],
        ["chains", entries.index(ours), "pairs"],
        *_method_levels(node, "pairs"),
        *([["variants", chain.variant, "pairs"]] if chain.variant else []),
    ]


def _check_continued(graph: Graph, node: Node, written: dict) -> None:
    """Check that training can go on from what was trained with other settings."""
    init = graph.init_of(node)
    if init is None:
        return
    settings, initial = graph.training_settings(node), graph.training_settings(init)
    levels = _training_levels(graph, node)
    start = graph.method(node).start
    first = "M_plus" if start == "m_plus" else f"method `{start}`"
    if settings["adapter"] != initial["adapter"]:
        raise complain(
            _where(written, levels, ["adapter"]),
            f"`{settings['adapter']}` cannot continue {first}, which is `{initial['adapter']}`",
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
            _where(written, levels, ["lora"]),
            f"differs from the adapter of {first}",
            "leave it out to continue that",
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


#: Key that `complete_settings` names -> further keys that the fault may lie in.
_TOGETHER = {
    "global_batch_size": ("per_device_batch_size", "samples"),
    "label_smoothing": ("loss",),
    "quantization": ("adapter", "deepspeed"),
}


def _check_training(trainer: str, settings: dict, levels: list[list], written: dict) -> None:
    """Check the hyper-parameters of one model by what its training itself checks."""
    if "deepspeed" in settings:
        path = _where(written, levels, ["deepspeed"])
        check_filled_in(path, settings["deepspeed"])
        if not os.path.isfile(settings["deepspeed"]):
            missing = f"no such file: {with_folder(settings['deepspeed'])}"
            raise complain(path, missing, "correct the path")
        _check_deepspeed(path, Path(settings["deepspeed"]))
    try:
        complete_settings(trainer, settings)
        # Where each kind of rule has an environment of its own, nothing is trained in this one.
        if find_spec("peft"):
            check_quantiser(settings)
    except ValueError as error:
        key, _, message = str(error).partition(": ")
        path = _where(written, levels, [key, *_TOGETHER.get(key, ())])
        raise ConfigError(f"config key `{'.'.join(map(str, path))}`: {message}") from None


def _check_questions(
    graph: Graph, node: Node, settings: dict, levels: list[list], written: dict
) -> None:
    """Check that a training by reward has questions for one update, where their number is known."""
    count = graph.task(node.chain.task).data["splits"]["train_2"]
    per_update = settings["global_batch_size"] // settings["samples"]
    known = isinstance(count, int) and not settings.get("max_steps")
    if known and settings["epochs"] * count < per_update:
        raise complain(
            _where(written, levels, ["global_batch_size", "samples"]),
            f"an update takes {per_update} questions (global_batch_size / samples), and train_2 of "
            f"task `{node.chain.task}` has {count}",
            "lower global_batch_size, or raise samples or epochs",
        )


def _check_node(graph: Graph, node: Node, written: dict) -> None:
    """Check the settings of one model as they come out of all their levels."""
    method = graph.method(node)
    if method.is_trained:
        settings, levels = graph.training_settings(node), _training_levels(graph, node)
        _check_training(method.trainer, settings, levels, written)
        longest = graph.task(node.chain.task).max_tokens
        # Gold answers are of any length.
        if not method.data.startswith("gold_") and settings["max_length"] <= longest:
            raise complain(
                _where(written, levels, ["max_length"]),
                f"{settings['max_length']} leaves no room for a prompt beside an answer of "
                f"tasks.{node.chain.task}.max_tokens {longest}",
                "raise it, or lower max_tokens",
            )
        if method.reward:
            _check_questions(graph, node, settings, levels, written)
        _check_continued(graph, node, written)
    if method.data in KINDS_FROM_PAIRS:
        pairs, keys = graph.pair_settings(node), ["weak_rejected_confidence", "min_confidence"]
        if pairs[keys[0]] < pairs[keys[1]]:
            raise complain(
                _where(written, _pair_levels(graph, node), keys),
                f"{keys[0]} {pairs[keys[0]]} is below {keys[1]} {pairs[keys[1]]}",
                "raise the first, or lower the second",
            )


def _check_iterations(graph: Graph) -> None:
    """Check that the models that answer have the iterations that `answers` name."""
    for chain in graph.chains:
        for name, entry in graph.experiment.answers.items():
            method = graph.task(chain.task).methods.get(entry.model)
            if entry.iteration is None or method is None:
                continue
            if not method.per_iteration:
                raise complain(
                    ["answers", name, "iteration"],
                    f"has no effect on model `{entry.model}` of task `{chain.task}`, of which "
                    "there is one",
                    "remove it",
                )
            node = graph.answering(chain, name)
            most = graph.settings(node.chain).iterations
            if entry.iteration > most:
                variant = f" in variant `{node.chain.variant}`" if node.chain.variant else ""
                raise complain(
                    ["answers", name, "iteration"],
                    f"{entry.iteration} is above `iterations: {most}` of task `{chain.task}`"
                    f"{variant}",
                    "lower it, or raise `iterations`",
                )


def check_models_to_train(config: dict, written: dict) -> None:
    """Check the settings of every model that is evaluated or trained.

    Args:
        config: a completed configuration.
        written: the same without defaults, by which a line names the place of a value.
    """
    graph = Graph(config)
    _check_iterations(graph)
    evaluated = {(node.chain.task, node.chain.variant) for node in graph.nodes}
    for chain in graph.chains:
        if chain.variant and (chain.task, chain.variant) not in evaluated:
            raise complain(
                ["variants", chain.variant],
                f"changes no model of task `{chain.task}` that it evaluates",
                "correct its `methods` or what it changes",
            )
    for node in dict.fromkeys([*graph.nodes, *graph.trained_nodes()]):
        _check_node(graph, node, written)


def check_chat_templates(config: dict) -> None:
    """Check that the models of a chat have a template, as far as their files are here."""
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
    """Check that models of local folders are made for texts as long as the engine's."""
    from weak_to_strong.models.base_models import context_length

    for chain in config["chains"]:
        engine = {**config["engine"], **config["tasks"][chain["task"]].get("engine", {})}
        for name in (chain["weak"], chain["strong"]):
            entry = config["models"][name]
            limit = context_length(Path(entry["path"])) if "path" in entry else None
            if limit and engine["max_model_len"] > limit:
                raise complain(
                    _engine_path(chain["task"], config["tasks"][chain["task"]]),
                    f"{engine['max_model_len']} exceeds the {limit} tokens that model `{name}` "
                    "is made for",
                    "lower it",
                )
