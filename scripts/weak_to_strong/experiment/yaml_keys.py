"""Checks on the text of a YAML or JSON file that its parsed value no longer shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

#: Keys with which Snakemake runs the configuration as a program (YTE) while it reads the file.
PROGRAM_KEYS = ("__use_yte__", "__definitions__", "__variables__")


def check_keys(path: str | Path) -> None:
    """Check that no mapping of a file has a key twice, and that the file is no program.

    YAML's parsers silently take the last of two equal keys.

    Args:
        path: of a YAML or JSON file.

    Raises:
        ValueError: one line that names the file, the key, its lines and the fix. A file that is no
            YAML passes: whoever parses it says more.
    """
    try:
        root = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, OSError, ValueError, RecursionError):
        return
    for mapping in _mappings(root):
        lines: dict[str, int] = {}
        for key, _ in mapping.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in PROGRAM_KEYS:
                raise ValueError(
                    f"{path}: line {line} has the key `{key.value}`, with which Snakemake runs "
                    "code from a configuration; remove it, and write the values themselves"
                )
            if key.value in lines and key.value != "<<":
                raise ValueError(
                    f"{path}: the key `{key.value}` stands twice, in lines {lines[key.value]} and "
                    f"{line}; remove one of them"
                )
            lines[key.value] = line


def _mappings(root: yaml.Node | None) -> Iterator[yaml.MappingNode]:
    """Every mapping below a node, each once: an alias names a node that was there before."""
    waiting, seen = [root] if root else [], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield node
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
