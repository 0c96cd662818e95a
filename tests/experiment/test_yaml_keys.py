"""Duplicate keys and programs in configuration files are refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from weak_to_strong.experiment.yaml_keys import check_keys, check_overrides

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
        (
            "a: &a {b: 1}\nc: &c {b: 2}\nd:\n  <<: *a\n  <<: *c\n",
            "the key `<<` stands twice, in lines 4 and 5",
        ),
        ("seeds: [1, 017]\n", "line 1 has `017`, which YAML reads as 15; write 15 if"),
        ("a:\n  n: -010\n", "line 2 has `-010`, which YAML reads as -8;"),
        ("n: 1:30\n", "line 1 has `1:30`, which YAML reads as 90;"),
        ("n: 1:30.5\n", "line 1 has `1:30.5`, which YAML reads as 90.5;"),
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
        "a: [0, -0, 0.5, 1e-5, '017', 0x10, 08, 100, 1_000, +1, 0.0]\nb: '1:30'\n",
        "revision: 0123456789abcdef\nversion: 1.2.3\n",
        "",
        "a: [",
    ],
)
def test_other_files_pass(tmp_path, text):
    (tmp_path / "mine.yaml").write_text(text)
    check_keys(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--config seeds=[0] -n --config iterations=1", "has --config twice, of which Snakemake"),
        ("-C seeds=[0] --config=iterations=1", "has --config twice"),
        ("--configfile a.yaml --configfile b.yaml", "has --configfile twice"),
        ("--config experiment=a experiment=b", "--config has `experiment` twice; remove one"),
        ("--config a={b:{c:1,d:2}} a={b: 1,b: 2}", "the key `b` stands twice"),
    ],
)
def test_a_setting_of_the_command_line_that_would_be_lost(arguments, message):
    words = arguments.replace("b: ", "b:\t").split(" ")
    with pytest.raises(ValueError, match=message) as caught:
        check_overrides(["snakemake", *(word.replace("\t", " ") for word in words)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-n", "--config", "experiment=a", "seeds=[0, 1]", "--configfile", "a.yaml", "b.yaml"],
        ["--config", "models={a: {path: x}}", "models={b: {path: y}}", "-c", "2"],
        ["--config=experiment=a", "--cores", "1", "all"],
    ],
)
def test_other_command_lines_pass(arguments):
    check_overrides(["snakemake", *arguments])


@pytest.mark.parametrize(
    "file", sorted(ROOT.glob("config/**/*.yaml")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_the_shipped_configurations_pass(file):
    check_keys(file)
