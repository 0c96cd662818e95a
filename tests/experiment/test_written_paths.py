"""Paths as users write them: `~`, variables, and the folder that was searched."""

import os
import shutil
from copy import deepcopy

import pytest
import yaml

from weak_to_strong.experiment.configuration import SCHEMA_FILE, ConfigError, load_configuration
from weak_to_strong.experiment.written_paths import expand_path
from weak_to_strong.paper.released import find_released

ROOT = SCHEMA_FILE.parents[1]
ROW = '{"question": "How many?", "solution": "s", "answer": "1"}\n'
DEEPSPEED = "zero2.json"
#: Every kind of key that holds a path: the mappings that lead to it, and a path below HOME.
KEYS = {
    "tasks.sums.splits.test.path": "rows.jsonl",
    "tasks.sums.splits.train_1.1.path": "rows.jsonl",
    "tasks.sums.pool.path": "rows.jsonl",
    "models.tiny_weak.path": "model",
    "training.sft.deepspeed": DEEPSPEED,
    "tasks.sums.training.sft.deepspeed": DEEPSPEED,
    "methods.weak.training.deepspeed": DEEPSPEED,
    "tasks.sums.methods.dpo.training.deepspeed": DEEPSPEED,
    "variants.other.training.dpo.deepspeed": DEEPSPEED,
    "published_dir": "published",
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder with one file of each kind."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "rows.jsonl").write_text(ROW)
    (home / "published").mkdir()
    shutil.copy(ROOT / "config/deepspeed" / DEEPSPEED, home)
    shutil.copytree(ROOT / "resources/embedded/study_weak", home / "model")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("NOWHERE", raising=False)
    return home


@pytest.fixture
def config(home, monkeypatch):
    """A configuration that has each of `KEYS`, without a variable in it."""
    monkeypatch.chdir(ROOT)
    demo = yaml.safe_load((ROOT / "config/config.yaml").read_text())

    def rows():
        return {"path": str(home / "rows.jsonl")}

    task = {
        "loader": "table",
        "columns": {},
        "splits": {"train_1": [rows(), rows()], "train_2": 9, "test": rows()},
        "pool": rows(),
        "max_tokens": 100,
    }
    strong = demo["chains"][0]["strong"]
    return {
        **demo,
        "tasks": {"sums": task},
        "chains": [{"task": "sums", "weak": "tiny_weak", "strong": strong, "variants": ["other"]}],
        "variants": {"other": {"training": {"dpo": {"epochs": 2}}}},
    }


def put(config, key, value):
    config = deepcopy(config)
    *parents, last = key.split(".")
    place = config
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place.setdefault(name, {})
    place[last] = value
    return config


def get(config, key):
    for name in key.split("."):
        config = config[int(name)] if isinstance(config, list) else config[name]
    return config


#: Keys that name a function as `file.py:name`, and the entry that each needs.
FUNCTIONS = {
    "selections.own.keep": {"selections": {"own": {"answers": ["weak_labels"]}}},
    "preferences.own.chosen": {"preferences": {"own": {"answers": ["weak_labels"]}}},
    "methods.own.reward": {
        "methods": {
            "own": {"stage": "stage2", "start": "strong", "trainer": "grpo", "data": "questions"}
        },
    },
    "tasks.sums.methods.own.reward": {
        "methods": {
            "own": {"stage": "stage2", "start": "strong", "trainer": "grpo", "data": "questions"}
        },
    },
}


@pytest.mark.parametrize("key", FUNCTIONS)
@pytest.mark.parametrize("start", ["~", "${HOME}"])
def test_functions_below_home(key, start, config, home):
    (home / "mine.py").write_text("def choose():\n    pass\n")
    config = config | deepcopy(FUNCTIONS[key])
    completed = load_configuration(put(config, key, f"{start}/mine.py:choose"))
    assert get(completed, key) == f"{home}/mine.py:choose"


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("start", ["~", "$HOME", "${HOME}"])
def test_home_and_variables(key, start, config, home):
    completed = load_configuration(put(config, key, f"{start}/{KEYS[key]}"))
    assert get(completed, key) == f"{home}/{KEYS[key]}"


@pytest.mark.parametrize("key", KEYS)
def test_an_unset_variable_is_one_line(key, config):
    with pytest.raises(ConfigError) as error:
        load_configuration(put(config, key, f"$NOWHERE/{KEYS[key]}"))
    assert str(error.value) == (
        f"config key `{key}`: the environment variable NOWHERE is not set; set it, or write the "
        "whole path"
    )


@pytest.mark.parametrize("key", [key for key in KEYS if key != "published_dir"])
def test_a_missing_file_is_named_with_the_folder_searched(key, config, tmp_path, monkeypatch):
    config = put(config, "models.tiny_strong.path", str(ROOT / "resources/embedded/study_strong"))
    config = put(config, "models.tiny_weak.path", str(ROOT / "resources/embedded/study_weak"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        load_configuration(put(config, key, "none.jsonl"))
    assert f" none.jsonl (in {tmp_path}); " in str(error.value)


def test_a_missing_folder_of_released_data_is_named_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no such folder: none") as error:
        find_released("none")
    assert f"none (in {tmp_path}); name the folder" in str(error.value)


def test_a_secret_enters_no_path(config, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijkl")
    with pytest.raises(ConfigError, match="HF_TOKEN holds a secret") as error:
        load_configuration(put(config, "published_dir", "/data/$HF_TOKEN"))
    assert "abcdef" not in str(error.value)


def test_what_a_variable_holds_is_checked_as_text_is(config, monkeypatch):
    monkeypatch.setenv("PLACE", "a\nb")
    with pytest.raises(ConfigError, match="`published_dir`: holds the control character"):
        load_configuration(put(config, "published_dir", "$PLACE"))


def test_other_signs_stay(home):
    for text in ("a$5.jsonl", "cost$", "a~b", "~no-such-user/x", "$(pwd)", "${}"):
        assert expand_path(text) == text
    assert expand_path("~") == os.environ["HOME"]


def test_only_paths_are_filled_in(config):
    """Not the stop strings, nor the address of a file."""
    config = put(config, "tasks.sums.stop", ["$HOME", "~"])
    assert load_configuration(config)["tasks"]["sums"]["stop"] == ["$HOME", "~"]


def test_paths_of_test_sets_and_of_a_pool_of_several_files(config, home):
    task = config["tasks"]["sums"]
    task["splits"]["test"] = {
        "near": {"path": "~/rows.jsonl"},
        "far": [{"path": "$HOME/rows.jsonl"}],
    }
    task["pool"] = [{"path": "~/rows.jsonl"}]
    loaded = load_configuration(config)["tasks"]["sums"]
    written = {"path": str(home / "rows.jsonl")}
    assert loaded["splits"]["test"] == {"near": written, "far": [written]}
    assert loaded["pool"] == [written]
