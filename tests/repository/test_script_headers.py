"""The docstring of a rule's script names every input, parameter and output of the rule."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = re.compile(r'"\.\./scripts/(\w+)\.py"')
#: A name that a rule gives to an input, a parameter or an output.
NAME = re.compile(r"^ {8}(\w+)=", re.M)
#: Every rule has the digest of its code as a parameter (`rules/common.smk`). No script reads it.
NOT_READ = {"code"}


def names_of_rules() -> dict[str, set[str]]:
    """Script -> names that its rule gives it. Names that a function returns are not seen."""
    names = {}
    for file in (ROOT / "rules").glob("*.smk"):
        for rule in re.split(r"^rule ", file.read_text(encoding="utf-8"), flags=re.M)[1:]:
            if script := SCRIPT.search(rule):
                parts = re.split(r"^ {4}(\w+):", rule, flags=re.M)[1:]
                blocks = dict(zip(parts[::2], parts[1::2], strict=True))
                given = "".join(blocks.get(name, "") for name in ("input", "output", "params"))
                names[script[1]] = set(NAME.findall(given)) - NOT_READ
    return names


def test_every_script_belongs_to_a_rule():
    assert set(names_of_rules()) == {file.stem for file in (ROOT / "scripts").glob("*.py")}


@pytest.mark.parametrize(("script", "names"), sorted(names_of_rules().items()))
def test_a_script_describes_what_its_rule_gives_it(script, names):
    text = ast.get_docstring(ast.parse((ROOT / f"scripts/{script}.py").read_text("utf-8")))
    described = set(re.findall(r"\w+", " ".join(re.findall(r"^ {4}([^:]+):", text, re.M))))
    assert names <= described, f"scripts/{script}.py: describe {sorted(names - described)}"
