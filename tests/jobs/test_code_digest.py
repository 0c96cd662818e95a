"""Which edits change a rule's code digest."""

import subprocess
import sys
from pathlib import Path

import pytest

from weak_to_strong.jobs import code_digest as module

SCRIPT = """\
from weak_to_strong.first import used
def main(snakemake):
    return used(snakemake)
"""
FIRST = """\
from weak_to_strong.second import deep
LIMIT = 3
def used(x):
    '''What it does.'''
    return deep(x) + LIMIT
def unused(x):
    return x
"""
SECOND = """\
def deep(x):
    from weak_to_strong.third import lazy
    return lazy(x)
"""
THIRD = "def lazy(x):\n    return helper(x)\ndef helper(x):\n    return x\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "weak_to_strong"
    folder.mkdir()
    monkeypatch.setattr(module, "PACKAGE", folder)
    texts = {"first": FIRST, "second": SECOND, "third": THIRD}
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    (tmp_path / "rule.py").write_text(SCRIPT)

    def digest(**edits):
        for name, (old, new) in edits.items():
            path = tmp_path / "rule.py" if name == "rule" else folder / f"{name}.py"
            assert old in path.read_text()
            path.write_text(path.read_text().replace(old, new))
        return module.code_digest(tmp_path / "rule.py", read_again=True)

    return digest


@pytest.mark.parametrize(
    "edit",
    [
        {"rule": ("used(snakemake)", "used(snakemake) * 2")},
        {"first": ("LIMIT = 3", "LIMIT = 4")},
        {"second": ("lazy(x)", "lazy(x) + 0")},
        {"third": ("def helper(x):\n    return x", "def helper(x):\n    return -x")},
    ],
)
def test_an_edit_that_the_script_reaches_changes_the_digest(package, edit):
    before = package()
    assert package(**edit) != before


@pytest.mark.parametrize(
    "edit",
    [
        {"first": ("def unused(x):\n    return x", "def unused(x):\n    return 7")},
        {"first": ("What it does.", "What it really does.")},
        {"first": ("LIMIT = 3", "LIMIT = 3  # why three")},
    ],
)
def test_an_edit_that_it_does_not_reach_changes_nothing(package, edit):
    before = package()
    assert package(**edit) == before


def test_a_module_started_by_name_counts_as_a_whole(package):
    before = package(rule=("return used(snakemake)", "return run('weak_to_strong.third')"))
    assert package(third=("return x", "return x + 1")) != before


def test_a_module_with_the_name_of_the_script_is_told_from_it(package, tmp_path):
    (tmp_path / "first.py").write_text("from weak_to_strong.first import used\n")
    before = module.code_digest(tmp_path / "first.py")
    package(first=("LIMIT = 3", "LIMIT = 4"))
    assert module.code_digest(tmp_path / "first.py") != before


@pytest.mark.slow
def test_the_digest_does_not_depend_on_the_process():
    """Sets of names have another order in each process."""
    code = (
        "from pathlib import Path; from weak_to_strong.jobs.code_digest import code_digest; "
        "print([code_digest(file) for file in sorted(Path('scripts').glob('*.py'))])"
    )
    root = Path(module.__file__).parents[3]
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=root,
            env={"PYTHONPATH": "scripts", "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in range(3)
    }
    assert len(printed) == 1


def test_a_missing_module_is_an_error(package):
    with pytest.raises(FileNotFoundError):
        package(first=("weak_to_strong.second", "weak_to_strong.nowhere"))


def notes_of(folder):
    return sorted(folder.glob("__pycache__/*.digest.json"))


def test_what_was_read_of_a_file_is_kept(package, tmp_path, monkeypatch):
    before = package()
    monkeypatch.setattr(module, "_parse", lambda source: pytest.fail("parsed again"))
    assert package() == before
    assert len(notes_of(tmp_path / "weak_to_strong")) == 3


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"of": 3}', b"\xff"])
def test_notes_that_cannot_be_read_are_made_again(package, tmp_path, text):
    before = package()
    for notes in notes_of(tmp_path / "weak_to_strong"):
        notes.write_bytes(text)
    assert package() == before


def test_notes_of_another_reader_are_not_used(package, tmp_path, monkeypatch):
    before = package()
    for notes in notes_of(tmp_path / "weak_to_strong"):
        notes.write_text(notes.read_text().replace('"helper"', '"other"'))
    assert package() != before
    monkeypatch.setattr(module, "_reader", lambda: b"another")
    assert package() == before


def test_without_a_folder_for_notes_files_are_parsed(package, tmp_path):
    (tmp_path / "weak_to_strong/__pycache__").write_text("no folder")
    assert package() == package()
