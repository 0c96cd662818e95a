"""The schema of a configuration, checks of single values, and one-line errors for both."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml

SCHEMA_FILE = Path(__file__).parents[3] / "config" / "config.schema.yaml"

#: No experiment has as much: YAML's references let a page of text stand for millions of entries.
MAX_ENTRIES = 100_000
MAX_DEPTH = 30
#: Characters of a name, which becomes that of a folder.
MAX_NAME = 100
#: Characters of any other text.
MAX_TEXT = 1000
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
#: A name that ends in so many repetitions is refused by Snakemake, whatever it stands for.
_REPEATED = re.compile(r"(.+)\1{19}$")
_SURROGATE = re.compile("[\ud800-\udfff]")


class ConfigError(ValueError):
    """A configuration that cannot be run; the message is one line naming the key and the fix."""


@cache
def load_schema() -> dict:
    """The JSON schema (draft 2020-12) of the configuration."""
    # libyaml's reader where it is built in: ten times as fast.
    reader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(SCHEMA_FILE.read_text(encoding="utf-8"), reader)


def follow_reference(schema: dict) -> dict:
    """The schema with its `$ref` followed; its own words win over those referred to."""
    if "$ref" not in schema:
        return schema
    target = load_schema()["$defs"][schema["$ref"].rpartition("/")[2]]
    return {**target, **{key: part for key, part in schema.items() if key != "$ref"}}


def complain(path: list, message: str, fix: str, subject: str = "config key") -> ConfigError:
    """The error of a key, as one line: `<subject> <key>: <message>; <fix>`.

    Args:
        path: keys and places that lead to the key. Long names are cut, and signs that are not seen
            are written as escapes.
        message: what is wrong.
        fix: what to do.
        subject: what the path leads to.
    """
    names = (name if len(name) <= MAX_NAME else f"{name[:40]}..." for name in map(str, path))
    # Signs that are not seen make one name of two.
    names = (
        "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in name)
        for name in names
    )
    return ConfigError(f"{subject} `{'.'.join(names) or '(top level)'}`: {message}; {fix}")


def name_key(error: ValueError) -> ConfigError:
    """The line of another package, which begins with the key, as a line on the configuration."""
    key, _, message = str(error).partition(": ")
    return ConfigError(f"config key `{key.strip('`')}`: {message}")


def check_values(config: dict) -> None:
    """Check what a schema cannot say of all values alike, before anything is made of them.

    Raises:
        ConfigError: a name that is no text or repeats itself, a value that YAML alone knows, a
            number that is not finite or has more than 64 bits, text that holds control characters
            (`stop` and `system` may hold line breaks), is not valid Unicode or is too long, or more
            than `MAX_ENTRIES` or deeper than `MAX_DEPTH`.
    """
    todo: list[tuple[list, Any]] = [([], config)]
    for _ in range(MAX_ENTRIES):
        if not todo:
            return
        path, value = todo.pop()
        if len(path) > MAX_DEPTH:
            raise complain(path[:1], f"is nested deeper than {MAX_DEPTH} levels", "remove that")
        if isinstance(value, dict):
            for key in value:
                if isinstance(key, int):
                    _check_size(path, key)
                if not isinstance(key, str):
                    fix = "put it in quotes" if key is not None else "name it or remove it"
                    raise complain([*path, _as_yaml(key)], "a name must be text", fix)
                printable_path = [*path, key.encode("unicode_escape").decode()]
                if len(key) > MAX_NAME:
                    raise complain(
                        printable_path, "is too long", f"shorten it to {MAX_NAME} characters"
                    )
                if _REPEATED.search(key):
                    reason = "ends in 20 repetitions of the same text, which Snakemake refuses"
                    raise complain(printable_path, reason, "choose another name")
                check_text(printable_path, key)
            todo += [([*path, key], part) for key, part in value.items()]
        elif isinstance(value, list):
            todo += [([*path, place], part) for place, part in enumerate(value)]
        elif isinstance(value, str):
            check_text(path, value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise complain(path, f"{value} is no finite number", "give one")
        elif isinstance(value, int):
            _check_size(path, value)
        elif not isinstance(value, float | None):
            kind = type(value).__name__  # dates, and what tags of YAML make
            raise complain(path, f"a {kind} is no value here", "write it in quotes as text")
    raise ConfigError(
        f"config key `{todo[-1][0][0] if todo else ''}`: more than {MAX_ENTRIES} entries in all; "
        "remove references (`*name`) that repeat each other"
    )


def _check_size(path: list, number: int) -> None:
    # Python writes none of over 4300 digits, so not into a message either.
    if number.bit_length() > 64:
        raise complain(path, "holds a number of more than 64 bits", "give a smaller one")


def check_text(path: list, text: str) -> None:
    """Refuse a text that is too long, or that holds signs that no file or message can hold.

    Raises:
        ConfigError: more than MAX_TEXT characters, a lone surrogate, or a control character. Line
            breaks and tabs are allowed in `stop` and `system`.
    """
    if len(text) > MAX_TEXT:
        raise complain(
            path, f"a text of {len(text)} characters", f"shorten it to {MAX_TEXT} characters"
        )
    if _SURROGATE.search(text):
        raise complain(path, "text that is not valid Unicode", "remove what was escaped in it")
    allowed = "\n\t" if {"stop", "system"} & set(path[-2:]) else ""
    if signs := [sign for sign in _CONTROL.findall(text) if sign not in allowed]:
        raise complain(path, f"holds the control character {signs[0]!a}", "remove it")


def _as_yaml(value: Any) -> Any:
    """`value` as a configuration file writes it: `null` and `true`."""
    return json.dumps(value) if value is None or isinstance(value, bool) else value


def _schemas(path: list) -> Iterator[dict]:
    """The schema of each key on the way to `path`, the whole one first, as far as it is known."""
    schema = load_schema()
    yield schema
    for step in path:  # each schema comes with its reference followed
        choices = map(follow_reference, schema.get("oneOf", ()))
        schema = next((part for part in choices if step in part.get("properties", ())), schema)
        if isinstance(step, int):
            part = schema.get("items")
        else:
            part = schema.get("properties", {}).get(step, schema.get("additionalProperties"))
        if not isinstance(part, dict):
            return
        schema = follow_reference(part)
        yield schema


def _description(path: list) -> str | None:
    """What the schema says of the key at `path`, or of the nearest one above it."""
    below = [schema["description"] for schema in _schemas(path) if "description" in schema]
    return below[-1] if len(below) > 1 else None


def _can_be_left_out(path: list) -> bool:
    """Whether the schema knows the key at `path` and does not require it."""
    schemas = list(_schemas(path))
    is_known = len(schemas) == len(path) + 1 and isinstance(path[-1], str)
    return is_known and path[-1] not in schemas[-2].get("required", ())


#: Types of JSON in plain words, each with an example.
_KINDS = {
    "array": "a list, such as `[a, b]`",
    "boolean": "`true` or `false`",
    "integer": "a whole number, such as `1`",
    "null": "`null`",
    "number": "a number, such as `0.5`",
    "object": "a mapping, such as `{key: value}`",
    "string": "text, such as `name`",
}


def _in_plain_words(error: Any) -> str:
    """What a jsonschema error says, without the words of JSON schemas."""
    value, rule = error.instance, error.validator_value
    written = _as_yaml(value) if value is None or isinstance(value, bool) else repr(value)
    match error.validator:
        case "type":
            kinds = [rule] if isinstance(rule, str) else rule
            words = _name_kinds(kinds)
            if kinds == ["array"] and not isinstance(value, dict | list | None):
                words = f"a list, such as `[{written}]`"
            elif kinds == ["string"] and isinstance(value, bool | int | float):
                words = f"text, such as `'{written}'`"
            return f"{written} is not {words}"
        case "minItems" | "minProperties" | "minLength" if not value:
            return {
                "minItems": "is an empty list, and needs an entry, such as `[a]`",
                "minProperties": "is an empty mapping, and needs an entry, such as `{key: value}`",
                "minLength": "is an empty text, and needs a sign",
            }[error.validator]
        case "maxItems":
            return f"{len(value)} entries are more than {rule}"
        case "maxProperties":
            return f"has keys that do not fit together: {', '.join(value)}"
        case "uniqueItems":
            return f"{written} has an entry twice"
        case "enum":
            return f"{written} is not one of {[*rule]}".replace("None", "null")
        case "oneOf" | "anyOf":
            needed = dict.fromkeys(key for part in rule for key in part.get("required", ()))
            if isinstance(value, dict) and all("required" in part for part in rule):
                names = " and ".join(f"`{key}`" for key in needed if key in value)
                alone = names if names and len(set(needed) & set(value)) > 1 else ""
                return f"has {alone}" if alone else f"lacks {_alternatives(rule)}"
            kinds = [follow_reference(part).get("type") for part in rule]
            return f"{written} is not {_name_kinds(kinds)}"
    return error.message


def _name_kinds(kinds: list[str]) -> str:
    names = [_KINDS[kind] for kind in dict.fromkeys(kinds)]
    if len(set(kinds) - {"null"}) > 1:  # examples of several say nothing
        names = [name.partition(",")[0] for name in names]
    return " or ".join(names)


def _alternatives(rule: list[dict]) -> str:
    return " or ".join(" with ".join(f"`{key}`" for key in part["required"]) for part in rule)


def describe_breach(
    error: Any, subject: str = "config key", reference: str = "config/README.md"
) -> ConfigError:
    """One line from a jsonschema error.

    Args:
        error: of a schema whose keys have descriptions.
        subject: how the line begins, before the key: "config key", or another file's name.
        reference: file that lists the keys.
    """
    from difflib import get_close_matches

    say = partial(complain, subject=subject)
    path = list(error.absolute_path)
    if "propertyNames" in error.absolute_schema_path:
        fix = error.schema.get("description", "choose another")
        return say([*path, error.instance], "cannot be a name here", fix)
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        unknown = sorted(set(error.instance) - set(known))[0]
        close = get_close_matches(str(unknown).lower(), known, n=1)
        fix = f"did you mean `{close[0]}`?" if close else f"known keys: {', '.join(known)}"
        return say([*path, unknown], "unknown key", fix)
    if error.validator == "required":
        missing = error.message.split("'")[1]
        return say([*path, missing], "is missing", f"add it (see {reference})")
    lacking = [part for part in error.context or () if part.validator == "dependentRequired"]
    if lacking:
        _, missing, _, given, _ = lacking[0].message.split("'")
        fix = f"add it, or remove `{given}`"
        return say([*path, missing], f"is missing, and `{given}` needs it", fix)
    message = _in_plain_words(error).replace("\n", " ")
    if len(message) > 160:
        message = message[:157] + "..."
    fix = error.schema.get("description") or _description(path) or f"see {reference}"
    if error.instance is None and path and _can_be_left_out(path):
        message, fix = "is null", f"leave the key out, or write a value. {fix}"
    return say(path, message, fix)


def _check_unique(validator: Any, unique: bool, items: Any, _schema: dict) -> Iterator:
    """`uniqueItems` in linear time: jsonschema compares each mapping of a list with each other."""
    from jsonschema import ValidationError

    if unique and validator.is_type(items, "array"):
        texts = {json.dumps(item, sort_keys=True) for item in items}
        if len(texts) < len(items):
            yield ValidationError("see _in_plain_words")


def check_schema(config: dict) -> None:
    """Raise ConfigError for the most relevant breach of the schema."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match
    from jsonschema.validators import extend

    validator = extend(Draft202012Validator, {"uniqueItems": _check_unique})
    error = best_match(validator(load_schema()).iter_errors(config))
    if error is not None:
        raise describe_breach(error)
