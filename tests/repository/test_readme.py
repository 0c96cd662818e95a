"""README.md shows what its files say, and names what exists."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

spec = importlib.util.spec_from_file_location("update", ROOT / "docs/update.py")
update = importlib.util.module_from_spec(spec)
spec.loader.exec_module(update)


def test_quoted_results_are_those_of_their_files():
    assert update.insert_files(README, ROOT) == README


def test_a_block_is_filled_from_its_file(tmp_path):
    (tmp_path / "a.txt").write_text("1\n")
    text = update.insert_files("x\n<!-- begin a.txt -->\nold\n<!-- end -->\ny", tmp_path)
    assert text == "x\n<!-- begin a.txt -->\n\n```text\n1\n```\n\n<!-- end -->\ny"


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README))))
def test_links_lead_somewhere(target):
    assert (ROOT / target).exists()


def test_rules_and_modules_named_in_the_readme_exist():
    table = README.partition("## Where each step")[2].partition("\n\nRules are")[0]
    rows = [row.split("|") for row in table.splitlines() if row.startswith("| ")][1:]
    rules = {rule for row in rows for rule in re.findall(r"`(\w+)`", row[2])}
    modules = {module for row in rows for module in re.findall(r"`(\w+\.py)`", row[3])}
    scripts = {path.stem for path in (ROOT / "scripts").glob("*.py")}
    package = {path.name for path in (ROOT / "scripts/weak_to_strong").rglob("*.py")}
    assert rules
    assert rules <= scripts
    assert modules <= package


def test_every_rule_with_a_script_has_its_name():
    for file in (ROOT / "rules").glob("*.smk"):
        text = file.read_text(encoding="utf-8")
        for body in re.split(r"^rule ", text, flags=re.M)[1:]:
            script = re.search(r'"\.\./scripts/(\w+)\.py"', body)
            assert not script or script[1] == body.split(":")[0]
