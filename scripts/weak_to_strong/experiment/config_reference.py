"""config/README.md: a hand-written introduction, and the reference that the schema gives.

`python -m weak_to_strong.experiment.config_reference` (`make docs`) writes the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from weak_to_strong.experiment.schema import SCHEMA_FILE, load_schema
from weak_to_strong.tables.files import publish

REFERENCE_FILE = SCHEMA_FILE.with_name("README.md")
INTRODUCTION_FILE = SCHEMA_FILE.with_name("README.md.in")
#: Where the introduction leaves room for the reference.
MARK = "<!-- reference -->\n"
NOTE = (
    f"<!-- `make docs` writes this file from {INTRODUCTION_FILE.name} and {SCHEMA_FILE.name}: "
    "edit those. -->\n\n"
)

_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_TYPES = {"integer": "whole number", "string": "text", "null": "`null`", "object": "mapping"}
#: Definitions with a section of their own, after that of the key that uses them.
_EXPLAINED_AFTER = {"tasks": ("split", "source")}
#: Definitions that the section of a key explains.
_EXPLAINED_BY = {"training": "training", "pair_settings": "pairs", "test_split": "split"}


def render_readme() -> str:
    """The text of config/README.md.

    Raises:
        ValueError: the introduction has no `MARK`, or several.
    """
    introduction = INTRODUCTION_FILE.read_text(encoding="utf-8")
    if introduction.count(MARK) != 1:
        raise ValueError(f"{INTRODUCTION_FILE.name}: put one line {MARK.strip()} into it")
    return NOTE + introduction.replace(MARK, render_reference(load_schema()))


def render_reference(schema: Mapping[str, Any]) -> str:
    """Markdown tables of every key of the configuration: values, default, meaning."""
    rows, sections = [], []
    for key, part in schema["properties"].items():
        suffix, inner = _entry(part, schema["$defs"])
        values = describe_values(part)
        if inner:
            values = f"{'list of mappings' if suffix == '[]' else 'mapping'}: see [{key}](#{key})"
            sections += _section(key, part, schema["$defs"])
        # A section has the whole description.
        meaning = _meaning(part)
        if inner:
            meaning = meaning.partition(". ")[0].rstrip(".") + "."
        default = _default(part, key in schema["required"])
        rows.append([f"`{key}`", values, default, meaning])
    top = _table(["Key", "Values", "Default", "Meaning"], rows)
    return "\n".join(["### Top level\n", top, *sections])


def describe_values(schema: Mapping[str, Any]) -> str:
    """The values that a key may have, in Markdown."""
    if "$ref" in schema:
        name = _reference(schema)
        definition = load_schema()["$defs"][name]
        if not {"properties", "oneOf", "else"} & definition.keys():
            return describe_values(definition)
        section = _EXPLAINED_BY.get(name, name)
        return f"see [{section}](#{section})"
    if "else" in schema:
        return f"{describe_values(schema['else'])}, or {describe_values(schema['then'])}"
    if "enum" in schema:
        return ", ".join(_code(value) for value in schema["enum"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return " or ".join(_describe_type(kind, schema) for kind in kinds)


def _describe_type(kind: str, schema: Mapping[str, Any]) -> str:
    if kind == "array":
        least = schema.get("minItems", 0)
        amount = f" (at least {least})" if least else ""
        return f"list{amount} of {describe_values(schema['items'])}"
    if kind == "boolean":
        return "`true`, `false`"
    if kind == "string" and schema.get("format") == "path":
        return "path"
    text = _TYPES.get(kind, kind)
    if kind == "string" and "pattern" in schema:
        return f"{text} `{schema['pattern']}`"
    if kind in ("integer", "number"):
        bounds = [f"{sign} {schema[key]}" for key, sign in _BOUNDS.items() if key in schema]
        return f"{text} {', '.join(bounds)}".strip()
    return text


def _entry(
    part: Mapping[str, Any], definitions: Mapping[str, Any]
) -> tuple[str, Mapping[str, Any] | None]:
    """How the mapping inside a top-level key is reached, and its schema; or None for a value."""
    entries = part.get("additionalProperties")
    if isinstance(entries, Mapping):
        (entry,) = (choice for choice in entries.get("oneOf", [entries]) if "$ref" in choice)
        return ".<name>", _resolve(entry, definitions)
    if "items" in part and "properties" in part["items"]:
        return "[]", part["items"]
    if "$ref" in part:
        part = _resolve(part, definitions)
    return "", part if "properties" in part else None


def _section(key: str, part: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[str]:
    """Heading, description and tables of a top-level key that holds mappings."""
    suffix, inner = _entry(part, definitions)
    yield f"### {key}\n"
    yield f"{part['description']}\n"
    if "propertyNames" in part:
        yield f"Names match `{part['propertyNames']['pattern']}`.\n"
    default = part.get("default", {})
    names = inner["properties"]
    shared, *others = {schema.get("$ref") for schema in names.values()}
    if shared and not others:
        # The same keys under each name: one table, with a column of defaults for each.
        yield "\n".join(f"- `{name}`: {schema['description']}" for name, schema in names.items())
        yield f"\nKeys of `{key}.<name>`, with the defaults of each name:\n"
        defaults = {f"`{name}`": schema["default"] for name, schema in names.items()}
        yield _keys(_resolve(next(iter(names.values())), definitions), defaults)
    else:
        if suffix and "description" in inner:
            yield f"{inner['description']}\n"
        yield f"Keys of `{key}{suffix}`:\n"
        yield _keys(inner, {"Default": {} if suffix else default})
    if suffix and default:
        yield f"Entries of `{key}` that are there by default:\n"
        yield _entries(default)
    for name in _EXPLAINED_AFTER.get(key, ()):
        definition = definitions[name]
        choices = [definition, *definition.get("oneOf", [])]
        keyed = next(choice for choice in choices if "properties" in choice)
        yield f"#### {name}\n"
        yield f"{definition['description']}\n"
        yield _keys(keyed, {"Default": {}})


def _keys(schema: Mapping[str, Any], defaults: Mapping[str, Mapping[str, Any]]) -> str:
    """Table of the keys of a mapping; keys of inner mappings under dotted names.

    Args:
        schema: has `properties`.
        defaults: column title -> defaults that go before those of the keys themselves.
    """
    rows = [
        [
            f"`{'.'.join(path)}`",
            describe_values(part),
            *(_default(part, required, _look_up(values, path)) for values in defaults.values()),
            _meaning(part),
        ]
        for path, part, required in _flatten(schema)
    ]
    return _table(["Key", "Values", *defaults, "Meaning"], rows)


def _meaning(part: Mapping[str, Any]) -> str:
    """The description of a key, or else of the definition that it refers to."""
    if "description" in part:
        return part["description"]
    return load_schema()["$defs"][_reference(part)]["description"]


def _flatten(
    schema: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any], bool]]:
    for key, part in schema["properties"].items():
        yield (*path, key), part, key in schema.get("required", ())
        if "properties" in part:
            yield from _flatten(part, (*path, key))


def _look_up(value: Any, path: Sequence[str]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _entries(entries: Mapping[str, Mapping[str, Any]]) -> str:
    keys = list(dict.fromkeys(key for entry in entries.values() for key in entry))
    rows = [
        [f"`{name}`", *(_code(entry[key]) if key in entry else "" for key in keys)]
        for name, entry in entries.items()
    ]
    return _table(["Name", *(f"`{key}`" for key in keys)], rows)


def _default(part: Mapping[str, Any], required: bool, set_above: Any = None) -> str:
    if required:
        return "required"
    if set_above is None and "default" not in part:
        return ""
    value = part["default"] if set_above is None else set_above
    # The keys of a mapping have lines, with defaults, of their own.
    return "" if isinstance(value, Mapping) else _code(value)


def _reference(schema: Mapping[str, Any]) -> str:
    """Name of the definition that a schema refers to."""
    return schema["$ref"].rpartition("/")[2]


def _resolve(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    return definitions[_reference(schema)]


def _code(value: Any) -> str:
    """A value as YAML reads it back: 1e-05 without a full stop would be text."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"))
    plain = text.strip().removesuffix("...").strip()  # "..." ends a document that is one value
    return f"`{plain}`"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    escaped = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def main() -> None:
    """Write config/README.md."""
    with publish(REFERENCE_FILE) as part:
        part.write_text(render_readme(), encoding="utf-8")


if __name__ == "__main__":
    main()
