"""Paths as a user writes them: the one place that fills in `~` and environment variables."""

from __future__ import annotations

import os
import re
from typing import Any

from weak_to_strong.experiment.schema import complain, follow_reference, load_schema
from weak_to_strong.jobs.secret_values import hide_secrets

#: What the schema calls a path: a file or folder, or a function as `file.py:name`.
_FORMATS = ("path", "function")
#: Another `$` is a sign like any other.
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))", re.ASCII)


def expand_path(text: str) -> str:
    """A path with `~`, `~user`, `$NAME` and `${NAME}` filled in, as a shell does it.

    Raises:
        ValueError: "message; fix": a variable is not set, or is empty, or holds a secret, which
            would be written into the results.
    """
    return os.path.expanduser(_VARIABLE.sub(_value, text))


def _value(match: re.Match) -> str:
    name = match[1] or match[2]
    value = os.environ.get(name, "")
    if not value:
        raise ValueError(
            f"the environment variable {name} is not set; set it, or write the whole path"
        )
    if hide_secrets(value) != value:
        raise ValueError(
            f"the environment variable {name} holds a secret, and paths are written into the "
            "results; write the whole path"
        )
    return value


def expand_paths(config: dict) -> dict:
    """`config` with `expand_path` of every value that the schema calls a path.

    Raises:
        ConfigError: names the key and the variable that is not set.
    """
    return _expand(config, load_schema(), [])


def _expand(value: Any, schema: dict, path: list) -> Any:
    schema = follow_reference(schema)
    choices = [schema[key] for key in ("then", "else") if key in schema]
    for choice in schema.get("oneOf", choices):
        value = _expand(value, choice, path)
    if isinstance(value, str) and schema.get("format") in _FORMATS:
        try:
            return expand_path(value)
        except ValueError as error:
            raise complain(path, *str(error).rsplit("; ", 1)) from None
    if isinstance(value, list) and "items" in schema:
        return [_expand(item, schema["items"], [*path, place]) for place, item in enumerate(value)]
    if isinstance(value, dict):
        others = schema.get("additionalProperties")
        others = others if isinstance(others, dict) else {}
        known = schema.get("properties", {})
        return {
            key: _expand(part, known.get(key, others), [*path, key]) for key, part in value.items()
        }
    return value
