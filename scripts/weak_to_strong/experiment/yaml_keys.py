"""Checks on the text of a configuration that its parsed value no longer shows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import yaml

#: Keys with which Snakemake runs the configuration as a program (YTE) while it reads the file.
PROGRAM_KEYS = ("__use_yte__", "__definitions__", "__variables__")
#: What YAML 1.1 reads as an octal number, or as hours, minutes and seconds.
_ODD_NUMBER = re.compile(r"[-+]?(0[0-7_]*[0-7]|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)")


def check_keys(path: str | Path) -> None:
    """Check that a file means what it seems to mean, and is no program.

    YAML's parsers silently take the last of two equal keys, and read `010` as 8 and `1:30` as 90.

    Args:
        path: of a YAML or JSON file.

    Raises:
        ValueError: one line that names the file, the key, its lines and the fix. A file that is no
            YAML passes: whoever parses it says more.
    """
    try:
        # JSON may be indented with tabs, and YAML may not.
        text = Path(path).read_text(encoding="utf-8").replace("\t", " ")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, OSError, ValueError, RecursionError):
        return
    _check_nodes(path, root)


def check_overrides(arguments: Sequence[str]) -> None:
    """Check that a command line of Snakemake loses none of its settings.

    Of `--config a=1 --config b=2` and of two `--configfile` Snakemake takes the last option alone,
    and of `--config a=1 a=2` the last value.

    Args:
        arguments: as the program got them.

    Raises:
        ValueError: one line that names the option or the key, and the fix.
    """
    places = [place for place, word in enumerate(arguments) if word.startswith("-")]
    values: dict[str, list[str]] = {}
    for place, end in pairwise([*places, len(arguments)]):
        option, _, value = arguments[place].partition("=")
        option = _OVERRIDES.get(option, "")
        if option in values:
            raise ValueError(
                f"the command line has {option} twice, of which Snakemake takes the last alone; "
                "put the values of both behind one"
            )
        if option:
            values[option] = [*filter(None, [value]), *arguments[place + 1 : end]]
    keys: set[str] = set()
    for entry in values.get("--config", []):
        key, _, value = entry.partition("=")
        try:
            root = yaml.compose(value, Loader=yaml.SafeLoader)
        except (yaml.YAMLError, ValueError, RecursionError):
            root = None
        if isinstance(root, yaml.MappingNode):  # several of these are merged
            _check_nodes(f"--config {key}", root)
        elif key in keys:
            raise ValueError(f"--config has `{key}` twice; remove one of them")
        keys.add(key)


#: Options of Snakemake that set a configuration, by their spellings.
_OVERRIDES = {
    **dict.fromkeys(["--config", "-C"], "--config"),
    **dict.fromkeys(["--configfile", "--configfiles"], "--configfile"),
}


def _check_nodes(path: str | Path, root: yaml.Node | None) -> None:
    for node in _nodes(root):
        if isinstance(node, yaml.ScalarNode):
            _check_number(path, node)
        if not isinstance(node, yaml.MappingNode):
            continue
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in PROGRAM_KEYS:
                raise ValueError(
                    f"{path}: line {line} has the key `{key.value}`, with which Snakemake runs "
                    "code from a configuration; remove it, and write the values themselves"
                )
            if key.value in lines:
                raise ValueError(
                    f"{path}: the key `{key.value}` stands twice, in lines {lines[key.value]} and "
                    f"{line}; remove one of them"
                )
            lines[key.value] = line


def _check_number(path: str | Path, node: yaml.ScalarNode) -> None:
    is_number = node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
    if is_number and _ODD_NUMBER.fullmatch(node.value):
        number = yaml.safe_load(node.value)
        raise ValueError(
            f"{path}: line {node.start_mark.line + 1} has `{node.value}`, which YAML reads as "
            f"{number}; write {number} if this is meant, else write the number without a leading "
            "zero or a colon"
        )


def _nodes(root: yaml.Node | None) -> Iterator[yaml.Node]:
    """Every node below a node, each once: an alias names a node that was there before."""
    waiting, seen = [root] if root else [], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
