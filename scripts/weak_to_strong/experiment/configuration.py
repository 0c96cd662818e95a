"""Reading, completing and checking an experiment's configuration, before any job starts."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from weak_to_strong.training.settings import check_quantiser, check_quantization

SCHEMA_FILE = Path(__file__).parents[3] / "config" / "config.schema.yaml"

#: Methods whose models the workflow itself builds on; they can be changed but not removed.
REQUIRED_METHODS = ("weak", "weak_ft", "icl_ft", "hybrid_ft")

#: First part of the place of results that belong to no experiment (`results/<name>`).
RESERVED_EXPERIMENTS = ("embedded", "published", "store")

#: No experiment has as much: YAML's references let a page of text stand for millions of entries.
MAX_ENTRIES = 100_000
MAX_DEPTH = 30
#: Characters of a name, which becomes that of a folder, and of any other text: nobody means more.
MAX_NAME = 100
MAX_TEXT = 1000
#: Bytes in the name of a file to fetch: names made of it stay below the 255 that a folder takes.
MAX_FILE_NAME = 200
#: Snakemake fills in `{name}` and `<name>` in a job's inputs, and would read another file.
_FILLED_IN = re.compile(r"[{}<>]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")

#: Keys of a model that describe it to tables and estimates, and decide no job.
DESCRIPTIVE_KEYS = frozenset({"paper", "parameters"})


class ConfigError(ValueError):
    """A configuration that cannot be run; the message is one line naming the key and the fix."""


@cache
def load_schema() -> dict:
    """The JSON schema (draft 2020-12) of the configuration."""
    # libyaml's reader where it is built in: ten times as fast.
    reader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(SCHEMA_FILE.read_text(encoding="utf-8"), reader)


def _merge(default: Any, given: Any) -> Any:
    """`given` over `default`, mapping by mapping."""
    if not (isinstance(default, dict) and isinstance(given, dict)):
        return given
    merged = dict(deepcopy(default))
    for key, value in given.items():
        merged[key] = _merge(default[key], value) if key in default else value
    return merged


def _fill(value: Any, schema: dict) -> Any:
    """`value` with the schema's defaults put in at every depth."""
    schema = _resolve(schema)
    value = _merge(schema["default"], value) if "default" in schema else value
    if not isinstance(value, dict):
        return value
    filled = dict(value)
    for key, part in schema.get("properties", {}).items():
        if key in filled:
            filled[key] = _fill(filled[key], part)
        elif "default" in part:
            filled[key] = _fill(deepcopy(part["default"]), part)
    entries = schema.get("additionalProperties")
    if isinstance(entries, dict):
        for key in filled.keys() - schema.get("properties", {}).keys():
            filled[key] = _fill(filled[key], entries)
    return filled


def _resolve(schema: dict) -> dict:
    """The schema with its `$ref` followed; its own words win over those referred to."""
    if "$ref" not in schema:
        return schema
    target = load_schema()["$defs"][schema["$ref"].rpartition("/")[2]]
    return {**target, **{key: part for key, part in schema.items() if key != "$ref"}}


def _read_numbers(value: Any, schema: dict) -> Any:
    """`value` with text read as a number where the schema wants one.

    Snakemake hands over what stands inside `--config key={...}` as text, and YAML reads `1e-4` so.
    """
    schema = _resolve(schema)
    if isinstance(value, float) and schema.get("type") == "integer" and value.is_integer():
        return int(value)  # `seeds: [1.0]` must not become another path than `seeds: [1]`
    if isinstance(value, str) and schema.get("type") in ("integer", "number"):
        try:
            return int(value) if schema["type"] == "integer" else float(value)
        except ValueError:
            return value
    if isinstance(value, list) and "items" in schema:
        return [_read_numbers(item, schema["items"]) for item in value]
    if isinstance(value, dict):
        others = schema.get("additionalProperties")
        others = others if isinstance(others, dict) else {}
        known = schema.get("properties", {})
        return {key: _read_numbers(part, known.get(key, others)) for key, part in value.items()}
    return value


def _complain(path: list, message: str, fix: str) -> ConfigError:
    names = (name if len(name) <= MAX_NAME else f"{name[:40]}..." for name in map(str, path))
    return ConfigError(f"config key `{'.'.join(names) or '(top level)'}`: {message}; {fix}")


def check_values(config: dict) -> None:
    """Check what a schema cannot say of all values alike, before anything is made of them.

    Raises:
        ConfigError: a name that is no text, a value that YAML alone knows, a number that is not
            finite or has more than 64 bits, text that holds control characters (`stop` may hold
            line breaks), is not valid Unicode or is too long, or more than `MAX_ENTRIES` or deeper
            than `MAX_DEPTH`.
    """
    todo: list[tuple[list, Any]] = [([], config)]
    for _ in range(MAX_ENTRIES):
        if not todo:
            return
        path, value = todo.pop()
        if len(path) > MAX_DEPTH:
            raise _complain(path[:1], f"is nested deeper than {MAX_DEPTH} levels", "remove that")
        if isinstance(value, dict):
            for key in value:
                if isinstance(key, int):
                    _check_size(path, key)
                if not isinstance(key, str):
                    fix = "put it in quotes" if key is not None else "name it or remove it"
                    raise _complain([*path, _as_yaml(key)], "a name must be text", fix)
                shown = [*path, key.encode("unicode_escape").decode()]
                if len(key) > MAX_NAME:
                    raise _complain(shown, "is too long", f"shorten it to {MAX_NAME} characters")
                _check_text(shown, key)
            todo += [([*path, key], part) for key, part in value.items()]
        elif isinstance(value, list):
            todo += [([*path, place], part) for place, part in enumerate(value)]
        elif isinstance(value, str):
            _check_text(path, value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise _complain(path, f"{value} is no finite number", "give one")
        elif isinstance(value, int):
            _check_size(path, value)
        elif not isinstance(value, float | None):
            kind = type(value).__name__  # dates, and what tags of YAML make
            raise _complain(path, f"a {kind} is no value here", "write it in quotes as text")
    raise ConfigError(
        f"config key `{todo[-1][0][0] if todo else ''}`: more than {MAX_ENTRIES} entries in all; "
        "remove references (`*name`) that repeat each other"
    )


def _check_size(path: list, number: int) -> None:
    # Python writes none of over 4300 digits, so not into a message either.
    if number.bit_length() > 64:
        raise _complain(path, "holds a number of more than 64 bits", "give a smaller one")


def _check_text(path: list, text: str) -> None:
    if len(text) > MAX_TEXT:
        raise _complain(
            path, f"a text of {len(text)} characters", f"shorten it to {MAX_TEXT} characters"
        )
    if _SURROGATE.search(text):
        raise _complain(path, "text that is not valid Unicode", "remove what was escaped in it")
    allowed = "\n\t" if "stop" in path[-2:] else ""
    if found := [sign for sign in _CONTROL.findall(text) if sign not in allowed]:
        raise _complain(path, f"holds the control character {found[0]!a}", "remove it")


def _as_yaml(value: Any) -> Any:
    """`value` as a configuration file writes it: `null` and `true`."""
    return json.dumps(value) if value is None or isinstance(value, bool) else value


def _description(path: list) -> str | None:
    """What the schema says of the key at `path`, or of the nearest one above it."""
    schema, found = load_schema(), None
    for step in path:
        schema = _resolve(schema)
        if isinstance(step, int):
            part = schema.get("items")
        else:
            part = schema.get("properties", {}).get(step, schema.get("additionalProperties"))
        if not isinstance(part, dict):
            break
        schema = _resolve(part)
        found = schema.get("description", found)
    return found


def _describe(error: Any) -> ConfigError:
    """One line from a jsonschema error."""
    from difflib import get_close_matches

    path = list(error.absolute_path)
    if "propertyNames" in error.absolute_schema_path:
        fix = error.schema.get("description", "choose another")
        return _complain([*path, error.instance], "cannot be a name here", fix)
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        unknown = sorted(set(error.instance) - set(known))[0]
        close = get_close_matches(str(unknown), known, n=1)
        fix = f"did you mean `{close[0]}`?" if close else f"known keys: {', '.join(known)}"
        return _complain([*path, unknown], "unknown key", fix)
    if error.validator == "required":
        missing = error.message.split("'")[1]
        return _complain([*path, missing], "is missing", "add it (see config/README.md)")
    message = error.message.replace("\n", " ")
    if error.instance is None or isinstance(error.instance, bool):
        message = message.replace(repr(error.instance), _as_yaml(error.instance), 1)
    if error.validator == "enum":
        given, is_not, choices = message.rpartition(" is not one of ")
        message = f"{given}{is_not}{choices.replace('None', 'null')}"
    if len(message) > 160:
        message = message[:157] + "..."
    fix = error.schema.get("description") or _description(path) or "see config/README.md"
    return _complain(path, message, fix)


def _check_unique(validator: Any, unique: bool, items: Any, _schema: dict) -> Iterator:
    """`uniqueItems` in linear time: jsonschema compares each mapping of a list with each other."""
    from jsonschema import ValidationError

    if unique and validator.is_type(items, "array"):
        texts = {json.dumps(item, sort_keys=True) for item in items}
        if len(texts) < len(items):
            yield ValidationError(f"{items!r} has non-unique elements")


def check_schema(config: dict) -> None:
    """Raise ConfigError for the most relevant breach of the schema."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match
    from jsonschema.validators import extend

    validator = extend(Draft202012Validator, {"uniqueItems": _check_unique})
    error = best_match(validator(load_schema()).iter_errors(config))
    if error is not None:
        raise _describe(error)


def complete(config: dict) -> dict:
    """Check `config` against the schema and return it with all defaults filled in.

    Raises:
        ConfigError: unknown key, wrong type, or a value out of range.
    """
    check_values(config)
    config = _read_numbers(config, load_schema())
    check_values(config)  # `nan` may have come as text
    check_schema(config)
    filled = _fill(config, load_schema())
    common = filled["methods"]
    known = load_schema()["properties"]["methods"]["default"]
    _check_removed(["methods"], common, known)
    filled["methods"] = _fill_methods(common)
    for name, entry in filled["tasks"].items():
        # Filled last: a default must not override what the common entry says.
        own = entry.get("methods") or {}
        _check_removed(["tasks", name, "methods"], own, common)
        methods = _fill_methods(_merge(common, own))
        task = _fill_reading(_fill(entry, load_schema()["$defs"]["task"]))
        filled["tasks"][name] = {**task, "methods": methods}
    check_schema(filled)
    return filled


def _fill_reading(task: dict) -> dict:
    """`task` with the defaults that depend on its `extraction`: those of the paper, or ours."""
    from weak_to_strong.method.answers import DEFAULT_STOPS

    as_in_paper = task["extraction"] == "paper"
    judge = "string" if as_in_paper else "math"
    if not as_in_paper and task["prompt"] == "olympicarena":
        judge = "olympicarena"
    return {
        **task,
        "judge": task["judge"] or judge,
        "stop": DEFAULT_STOPS[task["extraction"]] if task["stop"] is None else task["stop"],
        "quirks": {
            name: as_in_paper if kept is None else kept for name, kept in task["quirks"].items()
        },
    }


def _check_removed(path: list, entries: dict, known: dict) -> None:
    """Refuse to remove a method that is not there: a misspelt one would stay."""
    for name, entry in entries.items():
        if entry is None and name not in known:
            raise _complain([*path, name], "no such method to remove", f"known: {', '.join(known)}")


def _fill_methods(entries: dict) -> dict:
    """Method entries with their defaults, without those that are removed by null."""
    schema = load_schema()["$defs"]["method"]
    return {name: _fill(entry, schema) for name, entry in entries.items() if entry is not None}


def _check_task(name: str, task: dict) -> None:
    path = ["tasks", name]
    embedded = task["loader"] == "embedded"
    if embedded and "templates" not in task:
        raise _complain([*path, "templates"], "is missing", "list gsm_symbolic template numbers")
    if task["loader"] == "table" and "columns" not in task:
        raise _complain([*path, "columns"], "is missing", "map question and answer to columns")
    form = task.get("form", "gsm8k")
    if embedded and form != "gsm8k" and task["answer_key"] == "####":
        raise _complain(
            [*path, "answer_key"],
            f"`####` is in no solution of form `{form}`",
            "set it to `The answer is:` or `\\boxed`",
        )
    typed = "olympicarena" in (task["loader"], form) or "answer_type" in task.get("columns", {})
    if task["prompt"] == "olympicarena" and not typed:
        raise _complain(
            [*path, "prompt"], "`olympicarena` needs answer types", "name their column in `columns`"
        )
    sized = [split for split, entry in task["splits"].items() if isinstance(entry, int)]
    if not embedded and sized and "pool" not in task:
        raise _complain(
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
                    raise _complain(where, "the embedded task has no files", "give a size")
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
        _check_filled_in([*path, key], text)
    if kind == "url":
        _check_text([*path, key], unquote(urlsplit(source["url"]).path))
    # Not Path's, which raises where a name is too long.
    if kind == "path" and not os.path.isfile(source["path"]):
        raise _complain([*path, key], f"no such file: {source['path']}", "correct the path")
    if kind != "path" and len(name.encode()) > MAX_FILE_NAME:
        raise _complain(
            [*path, key],
            f"the file's name has more than {MAX_FILE_NAME} bytes",
            "fetch the file yourself and name it by `path`",
        )
    try:
        check_suffix(name)
    except ValueError as error:
        message, _, fix = str(error).partition("; ")
        raise _complain([*path, key], message.replace("its name", name), fix) from None


def _check_filled_in(path: list, text: str) -> None:
    """Refuse a path that would be another one as an input of a job."""
    if found := _FILLED_IN.search(text):
        raise _complain(
            path,
            f"{text} holds `{found[0]}`, and Snakemake puts other text in such places",
            "choose another name",
        )


def _check_moved_rows(path: list, splits: dict) -> None:
    """Check the splits that are the first rows of another one."""
    for name, split in splits.items():
        if not (isinstance(split, dict) and "from" in split):
            continue
        origin = splits.get(split["from"])
        if origin is None or (isinstance(origin, dict) and "from" in origin):
            raise _complain(
                [*path, name, "from"],
                f"`{split['from']}` is no split with rows of its own",
                "name one that has a size or a source",
            )
        if isinstance(origin, int) and split["count"] >= origin:
            raise _complain(
                [*path, name, "count"],
                f"{split['count']} leaves nothing of the {origin} rows of {split['from']}",
                "lower it",
            )


def _check_method(path: list, method: dict) -> None:
    for key in ("stage", "start", "trainer"):
        if key not in method:
            raise _complain([*path, key], "is missing", "see the default methods in the schema")
    data, trainer = method.get("data", "none"), method["trainer"]
    if (trainer == "none") != (data == "none"):
        raise _complain([*path, "data"], f"`{data}` with trainer `{trainer}`", "set both or none")
    if (trainer in ("dpo", "orpo")) != (data == "pairs"):
        raise _complain(
            [*path, "data"], f"`{data}` with trainer `{trainer}`", "dpo and orpo train on `pairs`"
        )
    if method["per_iteration"] != data.startswith("kept_"):
        raise _complain(
            [*path, "per_iteration"],
            f"is {method['per_iteration']} with data `{data}`",
            "models of kept rows, and only they, are trained in each iteration",
        )
    if data == "pairs" and method["start"] != "m_plus":
        raise _complain(
            [*path, "start"], f"`{method['start']}` with data `pairs`", "set it to m_plus"
        )
    if method["few_shot"] and (method["start"] == "weak" or data.startswith("gold_")):
        raise _complain(
            [*path, "few_shot"], "demonstrations need a weak and a strong model", "set it to false"
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
            raise _complain(
                [*path, key],
                f"`{method[key]}`, and others build on `{name}`",
                f"use {' or '.join(values)}, and a new method for anything else",
            )


def _check_continued(path: list, settings: dict, initial: dict) -> None:
    """Check that training can go on from what was trained with other settings."""
    if settings["adapter"] != initial["adapter"]:
        raise _complain(
            [*path, "adapter"],
            f"`{settings['adapter']}` cannot continue M_plus, which is `{initial['adapter']}`",
            "make the two the same",
        )
    own, shape = settings.get("lora"), initial.get("lora") or {}
    if settings["adapter"] != "lora" or own is None:
        return
    same = all(own.get(key) == shape.get(key) for key in ("r", "alpha"))
    targets = (each.get("target_modules", shape.get("target_modules")) for each in (own, shape))
    if not same or len({frozenset(each or ()) for each in targets}) > 1:
        raise _complain(
            [*path, "lora"], "differs from the adapter of M_plus", "leave it out to continue that"
        )


def _check_deepspeed(path: list, file: Path) -> None:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _complain(path, f"{file} is no JSON object", "name a DeepSpeed configuration")


def _check_training(path: list, settings: dict) -> None:
    """Check the hyper-parameters of one model; `path` is the section that they come from."""
    if settings["global_batch_size"] % settings["per_device_batch_size"]:
        raise _complain(
            [*path, "global_batch_size"],
            f"{settings['global_batch_size']} is not a multiple of per_device_batch_size "
            f"{settings['per_device_batch_size']}",
            "change one of them",
        )
    if "deepspeed" in settings:
        _check_filled_in([*path, "deepspeed"], settings["deepspeed"])
        if not os.path.isfile(settings["deepspeed"]):
            raise _complain(
                [*path, "deepspeed"], f"no such file: {settings['deepspeed']}", "correct the path"
            )
        _check_deepspeed([*path, "deepspeed"], Path(settings["deepspeed"]))
    try:
        check_quantization(settings)
        # Where each kind of rule has an environment of its own, nothing is trained in this one.
        if settings["quantization"] and find_spec("peft"):
            check_quantiser(settings)
    except ValueError as error:
        key, _, message = str(error).partition(": ")
        raise ConfigError(f"config key `{'.'.join([*path, key])}`: {message}") from None


def _check_methods(config: dict, name: str) -> None:
    """Check the methods of one task, its own and the common ones."""
    task = config["tasks"][name]
    for method in REQUIRED_METHODS:
        if method not in task["methods"]:
            own = method in config["methods"]
            path = ["tasks", name, "methods", method] if own else ["methods", method]
            raise _complain(path, "cannot be removed", "delete the `null`")
    for method, entry in task["methods"].items():
        common = config["methods"].get(method) == entry
        path = ["methods", method] if common else ["tasks", name, "methods", method]
        _check_method(path, entry)
        if method in REQUIRED_METHODS:
            _check_required_method(path, method, entry)
        if entry["data"] == "gold_train_1" and "train_1" not in task["splits"]:
            raise _complain(
                ["tasks", name, "splits", "train_1"],
                f"is missing, and method `{method}` is trained on it",
                f"add it, or set tasks.{name}.methods.{method} to {{trainer: none, data: none}}",
            )


def _check_chain(config: dict, index: int) -> None:
    """Check the names and settings of one chain and of its variants."""
    chain = config["chains"][index]
    for key, section in (("task", "tasks"), ("weak", "models"), ("strong", "models")):
        if chain[key] not in config[section]:
            raise _complain(
                ["chains", index, key],
                f"unknown {key} `{chain[key]}`",
                f"known in `{section}`: {', '.join(config[section])}",
            )
    task = config["tasks"][chain["task"]]
    if config["evaluation"]["split"] == "validation" and "validation" not in task["splits"]:
        raise _complain(
            ["evaluation", "split"],
            f"task `{chain['task']}` has no validation split",
            "add one to `splits`",
        )
    engine = {**config["engine"], **task.get("engine", {})}
    if task["max_tokens"] >= engine["max_model_len"]:
        raise _complain(
            ["engine", "max_model_len"],
            f"{engine['max_model_len']} leaves no room for a prompt beside "
            f"max_tokens {task['max_tokens']} of task `{chain['task']}`",
            "raise it",
        )
    for place, name in enumerate(chain.get("variants", ())):
        if name not in config["variants"]:
            raise _complain(
                ["chains", index, "variants", place],
                f"unknown variant `{name}`",
                f"known in `variants`: {', '.join(config['variants']) or 'none'}",
            )
        for method in config["variants"][name].get("methods", ()):
            if method not in task["methods"]:
                raise _complain(
                    ["variants", name, "methods"],
                    f"unknown method `{method}`",
                    f"known: {', '.join(task['methods'])}",
                )


def _check_twins(chains: list[dict]) -> None:
    seen: dict[tuple, int] = {}
    for index, chain in enumerate(chains):
        first = seen.setdefault((chain["task"], chain["weak"], chain["strong"]), index)
        if first != index:
            raise _complain(
                ["chains", index],
                f"is the chain {first} once more",
                "make its settings an entry of `variants`",
            )


def _check_models_to_train(config: dict) -> None:
    """Check the settings of every model as they come out of all their levels."""
    from weak_to_strong.experiment.graph import Graph

    graph = Graph(config)
    shown = {(node.chain.task, node.chain.variant) for node in graph.nodes}
    for chain in graph.chains:
        if chain.variant and (chain.task, chain.variant) not in shown:
            raise _complain(
                ["variants", chain.variant],
                f"changes no model of task `{chain.task}` that it evaluates",
                "correct its `methods` or what it changes",
            )
    for node in graph.nodes:
        entry, trainer = graph.method(node), graph.method(node)["trainer"]
        if trainer != "none":
            settings, init = graph.training_settings(node), graph.init_of(node)
            _check_training(["training", trainer], settings)
            longest = config["tasks"][node.chain.task]["max_tokens"]
            # Gold answers are of any length.
            if not entry["data"].startswith("gold_") and settings["max_length"] <= longest:
                raise _complain(
                    ["training", trainer, "max_length"],
                    f"{settings['max_length']} leaves no room for a prompt beside an answer of "
                    f"tasks.{node.chain.task}.max_tokens {longest}",
                    "raise it, or lower max_tokens",
                )
            if init:
                _check_continued(["training", trainer], settings, graph.training_settings(init))
        if entry["data"] != "pairs":
            continue
        pairs = graph.pair_settings(node)
        if pairs["weak_rejected_confidence"] < pairs["min_confidence"]:
            raise _complain(
                ["pairs", "weak_rejected_confidence"],
                f"{pairs['weak_rejected_confidence']} is below min_confidence "
                f"{pairs['min_confidence']}",
                "raise it",
            )


def _check_context(config: dict) -> None:
    """Check that models of local folders are made for texts as long as the engine's."""
    from weak_to_strong.models.base_models import context_length

    for chain in config["chains"]:
        engine = {**config["engine"], **config["tasks"][chain["task"]].get("engine", {})}
        for name in (chain["weak"], chain["strong"]):
            entry = config["models"][name]
            limit = context_length(Path(entry["path"])) if "path" in entry else None
            if limit and engine["max_model_len"] > limit:
                raise _complain(
                    ["engine", "max_model_len"],
                    f"{engine['max_model_len']} exceeds the {limit} tokens that model `{name}` "
                    "is made for",
                    "lower it",
                )


def check_references(config: dict) -> None:
    """Check what a schema cannot: names, paths, and keys that depend on each other.

    Args:
        config: a completed configuration.

    Raises:
        ConfigError: naming the first offending key and what to do.
    """
    from weak_to_strong.models.base_models import check_base_model
    from weak_to_strong.paper.published_results import check_configured_names

    try:
        check_configured_names(config)
    except ValueError as error:
        raise ConfigError(f"config key {error}") from error
    if config["experiment"] in RESERVED_EXPERIMENTS:
        raise _complain(
            ["experiment"], f"results/{config['experiment']} is in use", "choose another name"
        )
    if len(config["experiment"]) > MAX_NAME:
        raise _complain(["experiment"], "is too long", f"shorten it to {MAX_NAME} characters")
    for name, task in config["tasks"].items():
        if name == "evaluation":  # of generation rounds, those that evaluate begin so
            raise _complain(["tasks", name], "cannot be a name here", "choose another")
        _check_task(name, task)
        _check_methods(config, name)
    for index in range(len(config["chains"])):
        _check_chain(config, index)
    _check_twins(config["chains"])
    _check_models_to_train(config)
    samples, ks = config["evaluation"]["samples"], config["evaluation"]["ks"]
    if samples and max(ks) > samples:
        raise _complain(
            ["evaluation", "ks"], f"{max(ks)} exceeds evaluation.samples {samples}", "lower it"
        )
    _check_filled_in(["published_dir"], config["published_dir"] or "")
    used = {chain[key] for chain in config["chains"] for key in ("weak", "strong")}
    for name in sorted(used):
        model = config["models"][name]
        _check_filled_in(["models", name, "path"], model.get("path", ""))
        entry = {key: model[key] for key in model if key not in DESCRIPTIVE_KEYS}
        entry["trust_remote_code"] = config["trust_remote_code"]
        if "hub" in entry and entry.get("revision", "") is None:  # see `require_pins`
            continue
        try:
            check_base_model(name, entry)
        except ConfigError:
            raise
        except ValueError as error:
            raise ConfigError(f"config key {error}") from error
        if "path" in model:
            for file in filter(Path.is_file, Path(model["path"]).iterdir()):
                _check_filled_in(["models", name, "path"], str(file))
    _check_context(config)


def unpinned(config: dict) -> list[str]:
    """Keys of the revisions and digests that are null: a plan can be made, a run cannot.

    Args:
        config: a completed configuration.
    """
    used = {chain[key] for chain in config["chains"] for key in ("weak", "strong")}
    tasks = {chain["task"] for chain in config["chains"]}
    found = [
        f"models.{name}.revision"
        for name in sorted(used)
        if "hub" in config["models"][name] and config["models"][name]["revision"] is None
    ]
    for name in sorted(tasks):
        task = config["tasks"][name]
        for split, entry in {**task["splits"], "pool": task.get("pool")}.items():
            path = f"tasks.{name}.{'' if split == 'pool' else 'splits.'}{split}"
            several = isinstance(entry, list)
            for place, source in enumerate(entry if several else [entry]):
                if isinstance(source, dict):
                    where = f"{path}.{place}" if several else path
                    missing = [key for key, value in source.items() if value is None]
                    found += [f"{where}.{key}" for key in missing]
    return found


def require_pins(config: dict) -> None:
    """Refuse to run with models or data that are not pinned.

    Raises:
        ConfigError: naming the first key that is null.
    """
    if keys := unpinned(config):
        also = f" (and {len(keys) - 1} more like it)" if len(keys) > 1 else ""
        raise ConfigError(
            f"config key `{keys[0]}`: is null{also}, which is enough for a dry run only; look the "
            "commit or digest up where there is a network and put it there"
        )


def load_configuration(config: dict) -> dict:
    """The complete, checked configuration of `config` (what Snakemake read), or ConfigError."""
    completed = complete(dict(config))
    check_references(completed)
    return completed
