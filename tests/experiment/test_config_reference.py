"""config/README.md is in step with the schema, and what it says to write works."""

import json
import re
import shutil

import polars as pl
import pytest
import yaml

from weak_to_strong.data.sources import source_entries
from weak_to_strong.data.splits import make_splits
from weak_to_strong.experiment.config_reference import (
    INTRODUCTION_FILE,
    REFERENCE_FILE,
    describe_values,
    render_readme,
    render_reference,
)
from weak_to_strong.experiment.configuration import SCHEMA_FILE, load_configuration, load_schema
from weak_to_strong.method.training_sets import sft_rows

ROOT = SCHEMA_FILE.parents[1]


def blocks(language):
    text = INTRODUCTION_FILE.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.M | re.S)


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The introduction's example, in a folder with the data and the model that it names."""
    monkeypatch.chdir(tmp_path)
    (row,) = map(json.loads, blocks("json"))
    rows = [{**row, "problem": f"{number}: {row['problem']}"} for number in range(300)]
    (tmp_path / "data").mkdir()
    for name in ("train_1", "test"):
        lines = "\n".join(map(json.dumps, rows))
        (tmp_path / f"data/{name}.jsonl").write_text(lines, encoding="utf-8")
    pl.DataFrame(rows).write_parquet("data/train_2.parquet")
    small = shutil.copytree(ROOT / "resources/embedded/study_weak", tmp_path / "models/small")
    facts = json.loads((small / "config.json").read_text())
    (small / "config.json").write_text(json.dumps({**facts, "max_position_embeddings": 16384}))
    (tmp_path / "templates").mkdir()
    for template in (small / "chat_template.jinja", tmp_path / "templates/small.jinja"):
        shutil.copy(ROOT / "resources/chat_templates/question_answer.jinja", template)
    return yaml.safe_load(blocks("yaml")[0])


def test_the_file_is_in_step():
    fix = "config/README.md is out of date: `make docs`"
    assert REFERENCE_FILE.read_text(encoding="utf-8") == render_readme(), fix


def test_the_example_passes_every_check_before_the_jobs(example):
    config = load_configuration(example)
    assert config["chains"] == example["chains"]


def test_the_example_reads_the_rows_shown_with_it(example):
    task = load_configuration(example)["tasks"]["word_problems"]
    paths = [entry["path"] for _, entry in source_entries(task)]
    splits = make_splits(task, paths, "word_problems")
    sizes = {name: frame.height for name, frame in splits.items()}
    assert sizes == {"train_1": 100, "train_2": 300, "validation": 200, "test": 300}
    rows = sft_rows("gold_train_1", answer_key=task["answer_key"], problems=splits["train_1"])
    assert rows["completion"][0].endswith("36 eggs. The answer is: 36")


def merged(example, fragment):
    """The example with a fragment written into it; lists are replaced."""
    if not (isinstance(example, dict) and isinstance(fragment, dict)):
        return fragment
    return example | {name: merged(example.get(name), part) for name, part in fragment.items()}


@pytest.mark.parametrize("fragment", blocks("yaml")[1:])
def test_each_fragment_fits_the_example(example, fragment):
    given = yaml.safe_load(fragment)
    config = load_configuration(merged(example, given))
    for name, entry in given.get("methods", {}).items():
        assert (name in config["methods"]) == (entry is not None)


def test_keys_named_in_the_introduction_exist():
    """Of the form `section.key`."""
    known = load_schema()["properties"]
    named = re.findall(r"`([a-z]+)\.([a-z_]+)`", INTRODUCTION_FILE.read_text(encoding="utf-8"))
    named = [(section, key) for section, key in named if section in known]
    assert named
    assert [name for name in named if name[1] not in known[name[0]]["properties"]] == []


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "integer", "minimum": 1}, "whole number ≥ 1"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, "number > 0, ≤ 1"),
        ({"enum": ["####", "x"]}, "`'####'`, `x`"),
        ({"type": ["array", "null"], "items": {"type": "string"}}, "list of text or `null`"),
        ({"type": "string", "pattern": "^a$"}, "text `^a$`"),
        ({"$ref": "#/$defs/pair_settings"}, "see [pairs](#pairs)"),
    ],
)
def test_values_in_words(schema, text):
    assert describe_values(schema) == text


def test_a_changed_range_or_default_shows():
    schema = json.loads(json.dumps(load_schema()))
    schema["$defs"]["task"]["properties"]["max_tokens"] |= {"maximum": 7, "default": 3}
    line = next(line for line in render_reference(schema).splitlines() if "`max_tokens`" in line)
    assert line.startswith("| `max_tokens` | whole number ≥ 1, ≤ 7 | `3` |")


def test_every_link_of_the_reference_has_its_section():
    text = render_readme()
    sections = set(re.findall(r"^#+ (.*)$", text, flags=re.M))
    links = set(re.findall(r"\]\(#([^)]*)\)", text))
    assert links
    assert links <= sections


def test_defaults_read_back_from_yaml():
    """YAML has 1e-05 for text and 1.0e-05 for a number."""
    line = next(line for line in render_readme().splitlines() if "| `learning_rate`" in line)
    defaults = [yaml.safe_load(text) for text in re.findall(r"`([^`]*)`", line)[1:]]
    training = load_schema()["properties"]["training"]["properties"].values()
    assert defaults == [part["default"]["learning_rate"] for part in training]
