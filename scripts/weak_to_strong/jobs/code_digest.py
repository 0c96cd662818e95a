"""A digest of the code that a rule's script runs, so that an edited function reruns its users.

Snakemake sees a script, but not the modules that the script imports. The digest covers the script
and every definition of this package that the script reaches, and nothing else. For example, an edit
of the voting function changes the digest of the rules that vote. Comments, docstrings and layout do
not count.

To parse the package takes longer than all else that a dry run does with it. So what was read of a
file is kept in its `__pycache__`, as Python keeps its bytecode.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from weak_to_strong.tables.files import write_json

PACKAGE = Path(__file__).parents[1]
#: Modules that only report progress and failures. They cannot change a result.
IGNORED = frozenset(
    {
        *("jobs.errors", "jobs.logs", "jobs.script", "jobs.secret_values"),
        *("jobs.trackers", "jobs.work_notes", "training.reporting"),
    }
)
#: Name of a module that a script starts (`python -m weak_to_strong.x.y`). All of it counts.
_MODULE_NAME = re.compile(r"weak_to_strong\.(\w+(?:\.\w+)*)\Z")


class _WithoutDocstrings(ast.NodeTransformer):
    """Removes docstrings."""

    def _strip(self, node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return node

    visit_Module = visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _strip


class Statement(NamedTuple):
    """What the digest has to know of a top-level statement."""

    #: sha256 (hex) of the statement without comments, docstrings and layout.
    digest: str
    #: Names that it uses.
    names: list[str]
    #: (module, name) pairs that it imports from this package. Modules have dotted names within the
    #: package, such as "method.pairs". The name "*" stands for a whole module.
    imports: list[tuple[str, str]]


@cache
def _definitions(path: Path) -> dict[str, list[Statement]]:
    """Top-level statements of a module by the name that they bind; others under ""."""
    source = path.read_bytes()
    # Another reader, or another Python, may read the same file otherwise.
    of = hashlib.sha256(b"\0".join([_reader(), source])).hexdigest()
    notes = path.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}.digest.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(notes.read_bytes())
        if known["of"] == of:
            return {
                name: [Statement(*statement) for statement in statements]
                for name, statements in known["definitions"].items()
            }
    definitions = _parse(source)
    with suppress(OSError):  # of a checkout that nobody may write
        write_json({"of": of, "definitions": definitions}, notes)
    return definitions


@cache
def _reader() -> bytes:
    return Path(__file__).read_bytes()


def _parse(source: bytes) -> dict[str, list[Statement]]:
    definitions: dict[str, list[Statement]] = {}
    for node in _WithoutDocstrings().visit(ast.parse(source)).body:
        names = [""]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = getattr(node, "targets", None) or [node.target]
            bound = (name for target in targets for name in ast.walk(target))
            names = [name.id for name in bound if isinstance(name, ast.Name)] or [""]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.asname or alias.name.partition(".")[0] for alias in node.names]
        statement = _describe(node)
        for name in names:
            definitions.setdefault(name, []).append(statement)
    return definitions


def _describe(statement: ast.stmt) -> Statement:
    names: set[str] = set()
    imports: set[tuple[str, str]] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.ImportFrom) and node.module:
            package, _, module = node.module.partition(".")
            if package == "weak_to_strong":
                imports.update((module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            imports.update(
                (alias.name.partition(".")[2], "*")
                for alias in node.names
                if alias.name.startswith("weak_to_strong.")
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            match = _MODULE_NAME.match(node.value)
            if match:
                imports.add((match[1], "*"))
    digest = hashlib.sha256(ast.dump(statement).encode()).hexdigest()
    return Statement(digest, sorted(names), sorted(imports))


@cache
def _find_import(module: str, name: str) -> tuple[str, str]:
    """The module and the definition that an import names; "*" if the name is a module itself.

    Raises:
        FileNotFoundError: the package has no such module.
    """
    inner = f"{module}.{name}".lstrip(".")
    if _module_file(inner).is_file():
        return inner, "*"
    if not _module_file(module).is_file():
        raise FileNotFoundError(f"{_module_file(module)}: no module weak_to_strong.{module}")
    return module, name


@cache
def _module_file(module: str) -> Path:
    file = PACKAGE.joinpath(*module.split("."))
    return file / "__init__.py" if file.is_dir() else file.with_name(f"{file.name}.py")


def code_digest(script: str | Path, read_again: bool = False) -> str:
    """sha256 (hex, 16 digits) of a script and of the package's definitions that it reaches.

    Args:
        script: the file.
        read_again: whether files that were read before may have changed since.

    Raises:
        FileNotFoundError: the script, or a module of the package that it imports, is missing.
        SyntaxError: one of them is not Python.
    """
    if read_again:
        for remembered in (_definitions, _find_import, _module_file):
            remembered.cache_clear()
    script = Path(script)
    # The script has the empty name, since a module may have the name of a script.
    reached: dict[tuple[str, str], str] = {}
    remaining: list[tuple[str, str]] = [("", name) for name in _definitions(script)]
    while remaining:
        module, name = key = remaining.pop()
        if key in reached or module in IGNORED:
            continue
        definitions = _definitions(_module_file(module) if module else script)
        if name == "*":
            reached[key] = ""
            remaining += [(module, definition) for definition in definitions]
            continue
        statements = definitions.get(name, [])
        reached[key] = "\n".join(statement.digest for statement in statements)
        if module:
            remaining.append((module, ""))
        for statement in statements:
            remaining += [(module, used) for used in statement.names if used in definitions]
            remaining += [_find_import(*imported) for imported in statement.imports]
    text = "\n".join(f"{key}:{reached[key]}" for key in sorted(reached))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def has_digest(script: str | Path, digest: str) -> bool:
    """Whether a script and what it reaches still are as they were when `digest` was taken.

    Files are read again. False also where one of them is gone, or half edited.
    """
    try:
        return code_digest(script, read_again=True) == digest
    except (OSError, SyntaxError, ValueError):
        return False
