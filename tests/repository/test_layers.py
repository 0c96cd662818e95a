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
