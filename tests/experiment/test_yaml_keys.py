"""Duplicate keys and programs in configuration files are refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from weak_to_strong.experiment.yaml_keys import check_keys

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds: [0]\na: 1\nseeds: [1]\n", "the key `seeds` stands twice, in lines 1 and 3"),
        ("a:\n  b: 1\n  b: 1\n", "the key `b` stands twice, in lines 2 and 3"),
        ("a:\n  - b: 1\n    b: 2\n", "the key `b` stands twice, in lines 2 and 3"),
        ("a: {b: 1, b: 2}\n", "the key `b` stands twice, in lines 1 and 1"),
        ('{"a": 1,\n "a": 2}', "the key `a` stands twice, in lines 1 and 2"),
        ("a: 1\n'a': 2\n", "the key `a` stands twice, in lines 1 and 2"),
        ("__use_yte__: true\n", "line 1 has the key `__use_yte__`, with which Snakemake runs code"),
        ("a: 1\n__definitions__:\n  - import os\n", "line 2 has the key `__definitions__`"),
        ("a:\n  __variables__: {}\n", "line 2 has the key `__variables__`"),
    ],
)
def test_a_key_that_stands_twice_or_runs_code_is_named_with_its_line(tmp_path, text, message):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        check_keys(file)
    assert str(caught.value).startswith(f"{file}: ")


@pytest.mark.parametrize(
    "text",
    [
        "a: &x {b: 1}\nc: *x\nd: *x\n",
        "base: &base {a: 1}\nmine:\n  <<: *base\n  a: 2\n",
        "a: &a\n  b: *a\n",
        "a: 1\nb: {a: 1}\n",
        "",
        "a: [",
    ],
)
def test_other_files_pass(tmp_path, text):
    (tmp_path / "mine.yaml").write_text(text)
    check_keys(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    "file", sorted(ROOT.glob("config/**/*.yaml")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_the_shipped_configurations_pass(file):
    check_keys(file)
