"""Packages depend on each other in one direction."""

import ast
from pathlib import Path

import pytest

import weak_to_strong

PACKAGE = Path(weak_to_strong.__file__).parent
#: Packages in the order of the docstring: each may import those before it.
LAYERS = [
    line.split()[0] for line in weak_to_strong.__doc__.split("\n\n")[2].splitlines() if line.strip()
]
#: Libraries that only some packages may use.
RESERVED = {
    "snakemake": {"jobs"},
    "vllm": {"generation"},
    "trl": {"training"},
    "peft": {"training"},
    "deepspeed": {"training"},
    "matplotlib": {"report"},
}
#: Public names that several modules define on purpose: their meaning is the same in each.
SHARED_NAMES = {
    "main",  # a module that runs as a program
    "logger",
    "make_arguments",  # one trainer's part of a common interface
    "make_trainer",
}


def imported(file: Path) -> set[str]:
    """Dotted names that a module imports anywhere, in functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def modules() -> list[Path]:
    return sorted(PACKAGE.glob("*/*.py"))


def test_the_list_names_every_package_and_no_module_stands_outside():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders == set(LAYERS)
    assert len(LAYERS) <= 12
    assert [path.name for path in PACKAGE.glob("*.py")] == ["__init__.py"]


@pytest.mark.parametrize("package", LAYERS)
def test_a_package_says_what_belongs_there_and_what_never_does(package):
    text = ast.get_docstring(ast.parse((PACKAGE / package / "__init__.py").read_text()))
    assert "belong" in text
    assert "never" in text


@pytest.mark.parametrize("file", modules(), ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_imports_run_one_way(file):
    layer = LAYERS.index(file.parent.name)
    for name in imported(file):
        root, _, rest = name.partition(".")
        if root == "weak_to_strong":
            assert LAYERS.index(rest.partition(".")[0]) <= layer, name
        assert file.parent.name in RESERVED.get(root, {file.parent.name}), name


def defined_names(file: Path) -> set[str]:
    """Public classes, functions and constants at the top level of a module."""
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {
                part.id
                for target in targets
                for part in ast.walk(target)
                if isinstance(part, ast.Name)
            }
    return {name for name in names if not name.startswith("_")}


def test_a_public_name_has_one_meaning():
    """A reader who searches for a name finds one definition of it."""
    places: dict[str, list[str]] = {}
    for file in modules():
        for name in defined_names(file):
            places.setdefault(name, []).append(f"{file.parent.name}.{file.stem}")
    repeated = {
        name: where for name, where in places.items() if len(where) > 1 and name not in SHARED_NAMES
    }
    assert not repeated, f"defined in several modules, rename all but one: {repeated}"


def test_tests_mirror_the_packages():
    for file in Path(__file__).parents[1].glob("*/test_*.py"):
        if file.parent.name in LAYERS:
            named = [
                module
                for module in modules()
                if module.parent.name == file.parent.name
                and file.stem.startswith(f"test_{module.stem}")
            ]
            assert named, f"{file}: names no module of {file.parent.name}"
