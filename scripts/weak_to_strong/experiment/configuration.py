"""Reading, completing and checking an experiment's configuration, before any job starts."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

from weak_to_strong.experiment.check_data import check_filled_in, check_task
from weak_to_strong.experiment.check_idle import check_idle
from weak_to_strong.experiment.check_models import (
    check_chain,
    check_chat_templates,
    check_context,
    check_method_keys,
    check_methods,
    check_models_to_train,
    check_twins,
)
from weak_to_strong.experiment.check_selections import check_answering, check_selections
from weak_to_strong.experiment.entries import BESIDE_FILES
from weak_to_strong.experiment.schema import (
    MAX_NAME,
    SCHEMA_FILE,
    ConfigError,
    check_schema,
    check_values,
    complain,
    describe_breach,
    follow_reference,
    load_schema,
    name_key,
)
from weak_to_strong.experiment.written_paths import expand_paths

#: With what other packages need of the schema.
__all__ = [
    "SCHEMA_FILE",
    "ConfigError",
    "check_references",
    "check_schema",
    "complete",
    "describe_breach",
    "load_configuration",
    "load_schema",
]

#: First part of the place of results that belong to no experiment (`results/<name>`).
RESERVED_EXPERIMENTS = ("compare", "embedded", "gpu-test", "published", "store")


def complete(config: dict) -> dict:
    """Check `config` against the schema and return it with all defaults filled in.

    Raises:
        ConfigError: unknown key, wrong type, a value out of range, or a path with a variable that
            is not set.
    """
    check_values(config)
    config = expand_paths(_read_numbers(config, load_schema()))
    check_values(config)  # `nan` may have come as text, and anything in a variable
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
        if entry["loader"] == "multiple_choice" and "extraction" not in config["tasks"][name]:
            entry = {**entry, "extraction": "letter"}
        task = _fill_reading(_fill(entry, load_schema()["$defs"]["task"]))
        filled["tasks"][name] = {**task, "methods": methods}
    check_schema(filled)
    return filled


def _fill_reading(task: dict) -> dict:
    """`task` with the defaults that depend on other keys: `chat`, `stop`, `judge` and `quirks`."""
    from weak_to_strong.data.reasoning_gym_task import FAMILIES
    from weak_to_strong.method.answers import DEFAULT_STOPS
    from weak_to_strong.method.chat import DEFAULT_ANSWER_AFTER

    as_in_paper = task["extraction"] == "paper"
    judge = "string" if task["extraction"] in ("paper", "letter") else "math"
    if task["loader"] == "reasoning_gym" and not as_in_paper:
        judge = FAMILIES.get(task.get("reasoning_gym", {}).get("family"), judge)
    if not as_in_paper and task["prompt"] == "olympicarena":
        judge = "olympicarena"
    stops = DEFAULT_STOPS[task["extraction"]]
    if task["prompt"] == "chat":
        chat = _fill(task.get("chat", {}), load_schema()["$defs"]["task"]["properties"]["chat"])
        if chat["thinking"] and chat["answer_after"] is None:
            chat["answer_after"] = DEFAULT_ANSWER_AFTER
        task, stops = {**task, "chat": chat}, []
    return {
        **task,
        "judge": task["judge"] or judge,
        "stop": stops if task["stop"] is None else task["stop"],
        "quirks": {
            name: as_in_paper if kept is None else kept for name, kept in task["quirks"].items()
        },
    }


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
    schema = follow_reference(schema)
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


def _read_numbers(value: Any, schema: dict) -> Any:
    """`value` with text read as a number, or as true or false, where the schema wants one.

    Snakemake hands over what stands inside `--config key={...}` as text, and YAML reads `1e-4` so.
    """
    schema = follow_reference(schema)
    for choice in schema.get("oneOf", ()):  # a method or null, a size or a source
        value = _read_numbers(value, choice)
    kinds = schema.get("type", [])
    kinds = {kinds} if isinstance(kinds, str) else {*kinds} - {"null"}
    if isinstance(value, float) and kinds == {"integer"} and value.is_integer():
        return int(value)  # `seeds: [1.0]` must not become another path than `seeds: [1]`
    if kinds == {"boolean"} and value in ("true", "false"):
        return value == "true"
    if isinstance(value, str) and kinds in ({"integer"}, {"number"}):
        try:
            number = float(value)
            if kinds == {"number"}:
                return number
            whole = "e" in value.lower() and number.is_integer()  # `1e3`
            return int(number) if whole else int(value)
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


def _check_removed(path: list, entries: dict, known: dict) -> None:
    """Refuse to remove a method that is not there: a misspelt one would stay."""
    for name, entry in entries.items():
        if entry is None and name not in known:
            raise complain([*path, name], "no such method to remove", f"known: {', '.join(known)}")


def _fill_methods(entries: dict) -> dict:
    """Method entries with their defaults, without those that are removed by null."""
    schema = load_schema()["$defs"]["method"]
    return {name: _fill(entry, schema) for name, entry in entries.items() if entry is not None}


def check_references(config: dict, written: dict | None = None) -> None:
    """Check what a schema cannot: names, paths, and keys that depend on each other.

    Args:
        config: a completed configuration.
        written: the same as the user wrote it, without defaults, so that a line names the place
            where a value is written and settings without effect are refused; None for neither.

    Raises:
        ConfigError: naming the first offending key and what to do.
    """
    from weak_to_strong.paper.published_results import check_configured_names

    try:
        check_configured_names(config)
    except ValueError as error:
        raise name_key(error) from error
    _check_experiment(config["experiment"])
    check_method_keys(config)
    check_selections(config)
    for name, task in config["tasks"].items():
        if name == "evaluation":  # of generation rounds, those that evaluate begin so
            raise complain(["tasks", name], "cannot be a name here", "choose another")
        check_task(name, task)
        check_methods(config, name)
    check_answering(config)
    for index in range(len(config["chains"])):
        check_chain(config, index)
    check_twins(config["chains"])
    check_idle(written or {}, config)
    check_models_to_train(config, written or {})
    samples, ks = config["evaluation"]["samples"], config["evaluation"]["ks"]
    if samples and max(ks) > samples:
        raise complain(
            ["evaluation", "ks"], f"{max(ks)} exceeds evaluation.samples {samples}", "lower it"
        )
    known = dict.fromkeys(name for task in config["tasks"].values() for name in task["methods"])
    for name in config["evaluation"]["sampled"] or ():
        if name not in known:
            raise complain(
                ["evaluation", "sampled"],
                f"unknown method `{name}`",
                f"known: {', '.join(known)}",
            )
    check_filled_in(["published_dir"], config["published_dir"] or "")
    used = {chain[key] for chain in config["chains"] for key in ("weak", "strong")}
    used |= {entry["weak"] for entry in config["answers"].values() if entry["weak"]}
    for name in sorted(used):
        _check_model(name, config["models"][name], config["trust_remote_code"])
    check_context(config)
    check_chat_templates(config)


def _check_experiment(name: str) -> None:
    """Refuse a name whose folder of results cannot be made or is in use."""
    if name in RESERVED_EXPERIMENTS:
        raise complain(["experiment"], f"results/{name} is in use", "choose another name")
    if len(name) > MAX_NAME:
        raise complain(["experiment"], "is too long", f"shorten it to {MAX_NAME} characters")


def _check_model(name: str, model: dict, trust_remote_code: bool) -> None:
    """Check the entry of a base model, and the files of a local one."""
    from weak_to_strong.models.base_models import check_base_model
    from weak_to_strong.models.model_files import model_files

    check_filled_in(["models", name, "path"], model.get("path", ""))
    entry = {key: model[key] for key in model if key not in BESIDE_FILES}
    entry["trust_remote_code"] = trust_remote_code
    if "hub" in entry and entry.get("revision", "") is None:  # see `require_pins`
        return
    try:
        check_base_model(name, entry)
    except ConfigError:
        raise
    except ValueError as error:
        raise name_key(error) from error
    if "path" in model:
        folder = Path(model["path"])
        for file in model_files(folder, f"models.{name}", trust_remote_code=trust_remote_code):
            check_filled_in(["models", name, "path"], str(folder / file))


def load_configuration(config: dict) -> dict:
    """The complete, checked configuration of `config` (what Snakemake read), or ConfigError."""
    completed = complete(dict(config))
    check_references(completed, config)
    return completed
