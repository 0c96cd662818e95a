"""A digest of the code that a rule's script runs, so that changing a function reruns its users.

Snakemake sees a script but not the modules it imports. The digest covers the script and every
definition of this package that it reaches, and only those: editing the voting function changes
the digest of the rules that vote. Comments, docstrings and layout do not count.
"""

from __future__ import annotations

import ast
import hashlib
import re
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
#: Modules that report progress and failures only; what they do cannot reach an artefact.
IGNORED = frozenset({"jobs.errors", "jobs.logs", "jobs.script", "jobs.secret_values"})
#: A module that a script starts by name (`python -m weak_to_strong.x.y`) counts as a whole.
_MODULE_NAME = re.compile(r"weak_to_strong\.(\w+(?:\.\w+)*)\Z")


class _Bare(ast.NodeTransformer):
    """Drops docstrings."""

    def _strip(self, node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return node

    visit_Module = visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _strip


@cache
def _definitions(path: Path) -> dict[str, list[ast.stmt]]:
    """Top-level statements of a module by the name they bind; unnamed ones under ""."""
    found: dict[str, list[ast.stmt]] = {}
    for statement in _Bare().visit(ast.parse(path.read_text(encoding="utf-8"))).body:
        names = [""]
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [statement.name]
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = getattr(statement, "targets", None) or [statement.target]
            bound = (name for target in targets for name in ast.walk(target))
            names = [name.id for name in bound if isinstance(name, ast.Name)] or [""]
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            names = [alias.asname or alias.name.partition(".")[0] for alias in statement.names]
        for name in names:
            found.setdefault(name, []).append(statement)
    return found


@cache
def _text(statement: ast.stmt) -> str:
    return ast.dump(statement)


@cache
def _references(statement: ast.stmt) -> tuple[set[str], set[tuple[str, str]]]:
    """Names that a statement uses, and (module, name) pairs it imports from this package.

    Modules have dotted names within the package, such as "method.pairs". The name "*" stands for a
    whole module.
    """
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
    return names, imports


def _find_import(module: str, name: str) -> tuple[str, str]:
    """The module that has an imported name; where the name is a module itself, all of that one.

    Raises:
        FileNotFoundError: the package has no such module.
    """
    inner = f"{module}.{name}".lstrip(".")
    if _module_file(inner).is_file():
        return inner, "*"
    if not _module_file(module).is_file():
        raise FileNotFoundError(f"{_module_file(module)}: no module weak_to_strong.{module}")
    return module, name


def _module_file(module: str) -> Path:
    file = PACKAGE.joinpath(*module.split("."))
    return file / "__init__.py" if file.is_dir() else file.with_name(f"{file.name}.py")


def code_digest(script: str | Path) -> str:
    """sha256 (hex, 16 digits) of a script and the package's definitions that it reaches.

    Raises:
        FileNotFoundError: the script, or a module of the package that it imports, is missing.
    """
    script = Path(script)
    # The script is the module "", so that it may have the name of one.
    seen: dict[tuple[str, str], str] = {}
    todo: list[tuple[str, str]] = [("", name) for name in _definitions(script)]
    while todo:
        module, name = key = todo.pop()
        if key in seen or module in IGNORED:
            continue
        definitions = _definitions(_module_file(module) if module else script)
        if name == "*":
            seen[key] = ""
            todo += [(module, each) for each in definitions]
            continue
        statements = definitions.get(name, [])
        seen[key] = "\n".join(map(_text, statements))
        if module:
            todo.append((module, ""))
        for statement in statements:
            names, imports = _references(statement)
            todo += [(module, each) for each in names if each in definitions]
            todo += [_find_import(*imported) for imported in imports]
    text = "\n".join(f"{key}:{seen[key]}" for key in sorted(seen))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
