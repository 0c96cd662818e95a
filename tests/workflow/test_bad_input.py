"""Bad input ends at once, in one line that names the key or file, and leaves nothing behind."""

import json

import pytest
import yaml
from conftest import CONFIG


def changed(path, value):
    config = json.loads(json.dumps(CONFIG))
    *parents, last = path.split(".")
    place = config
    for key in parents:
        place = place.setdefault(key, {})
    place[last] = value
    return config


CASES = {
    "pairs.tau": (0.5, "unknown key"),
    "pairs.min_confidence": ("high", "not of type 'number'"),
    "models.tiny_strong.path": ("models/none", "no folder models/none"),
    "chains": ([{"task": "wrds", "weak": "tiny_weak", "strong": "tiny_strong"}], "`wrds`"),
    "tasks.words.splits.test.path": ("data/none.jsonl", "no such file"),
}


@pytest.mark.parametrize("path", CASES)
def test_configuration(fresh_project, path):
    value, expected = CASES[path]
    fresh_project.write_config(changed(path, value))
    done = fresh_project.snakemake()
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if "config key" in line]
    assert len(lines) == 1
    assert expected in lines[0]
    assert "Traceback" not in done.stderr
    assert not fresh_project.path("results").exists()


DATA = {
    "empty": ("", "no rows"),
    "no answer": ('{"question": "How many?", "solution": "s", "answer": null}\n', "have no answer"),
    "no question": ('{"question": " ", "solution": "s", "answer": "1"}\n', "have no question"),
    "broken": ('{"question": "How many?"\n', "line 1"),
}


@pytest.mark.parametrize("case", DATA)
def test_raw_data(fresh_project, case):
    text, expected = DATA[case]
    fresh_project.path("data/train_1.jsonl").write_text(text)
    done = fresh_project.snakemake("results/test/data/words/train_1.parquet")
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("[problems/")]
    assert len(lines) == 1
    assert "data/train_1.jsonl" in lines[0]
    assert expected in lines[0]
    assert "Traceback" not in done.stderr
    assert not fresh_project.result("data/words/train_1.parquet").exists()


def test_a_model_without_a_tokenizer(fresh_project):
    fresh_project.path("resources/embedded/strong/tokenizer.json").unlink()
    done = fresh_project.snakemake("--dry-run")
    assert done.returncode != 0
    assert "has no tokenizer" in done.stderr


def test_a_missing_configuration_file(fresh_project):
    done = fresh_project.snakemake(config="config/none.yaml")
    assert done.returncode != 0
    assert "config/none.yaml" in done.stderr


def test_the_demo_configuration_is_the_default_and_stands_apart(fresh_project):
    fresh_project.path("config/tiny.yaml").write_text(yaml.safe_dump({"experiment": "x"}))
    done = fresh_project.snakemake(config="config/tiny.yaml")
    assert done.returncode != 0
    assert "is missing" in done.stderr
