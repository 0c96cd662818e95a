"""The corpus in tests/bad_inputs: each bad input ends in exactly the line written beside it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from weak_to_strong.data.splits import make_split
from weak_to_strong.experiment.configuration import SCHEMA_FILE, ConfigError, load_configuration
from weak_to_strong.models.base_models import check_base_model

ROOT = SCHEMA_FILE.parents[1]
CORPUS = ROOT / "tests/bad_inputs"
#: The least that config.json says of a model.
CONFIG = '{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "eos_token_id": 1}'


def cases(name):
    entries = yaml.safe_load((CORPUS / f"{name}.yaml").read_text(encoding="utf-8"))
    return [pytest.param(case, id=case["case"]) for case in entries]


def change(config, path, value):
    """Set one key of `config`, given as the list of its names."""
    *parents, last = path.split(".")
    for key in parents:
        config = config[int(key)] if isinstance(config, list) else config.setdefault(key, {})
    config[int(last) if isinstance(config, list) else last] = value


def demo():
    return yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))


def refusal(call, *arguments, error=ValueError):
    with pytest.raises(error) as caught:
        call(*arguments)
    return str(caught.value)


def write(path: Path, content):
    """Put a file in place, or what may lie there instead of one."""
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif "header" in content:
        header = content["header"].encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header)
    elif "repeat" in content:
        path.write_text(content["repeat"] * content["times"], encoding="utf-8")
    elif "link" in content:
        path.symlink_to(content["link"])
    elif "folder" in content:
        path.mkdir()
    else:
        os.mkfifo(path)


@pytest.mark.parametrize("case", cases("configuration"))
def test_configuration(case, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = demo()
    for path, value in case["change"].items():
        change(config, path, value)
    message = refusal(load_configuration, config, error=ConfigError)
    assert message.replace(str(ROOT), "CHECKOUT") == case["says"]


@pytest.mark.parametrize("case", cases("command_line"))
def test_command_line(case, monkeypatch):
    """Read and merged as Snakemake does it."""
    from snakemake.cli import parse_config
    from snakemake.utils import update_config

    monkeypatch.chdir(ROOT)
    config = demo()
    update_config(config, parse_config(case["config"]))
    message = refusal(load_configuration, config, error=ConfigError)
    assert message.replace(str(ROOT), "CHECKOUT") == case["says"]


@pytest.mark.parametrize("case", cases("data"))
def test_data(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / case["file"]
    write(path, case["content"])
    source = {"path": str(path)}
    settings = {**case["task"], "splits": {"train_1": source}}
    message = refusal(make_split, settings, [path], "train_1")
    assert message.replace(str(path), "FILE") == case["says"]
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("case", cases("models"))
def test_models(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(CONFIG)
    (folder / "tokenizer.json").write_text("{}")
    save_file({"w": np.ones(4, np.float32)}, folder / "model.safetensors")
    check_base_model("m", {"path": str(folder)})
    for name, content in case["files"].items():
        (folder / name).unlink(missing_ok=True)
        if content is not None:
            write(folder / name, content)
    message = refusal(check_base_model, "m", {"path": str(folder)})
    assert message.replace(str(folder), "FOLDER") == case["says"]
    assert not (tmp_path / "was-run").exists()


def test_every_line_is_one_line_with_a_fix():
    """No case may make a line of several, or one with an object's address in it."""
    names = ("configuration", "command_line", "data", "models")
    lines = [case.values[0]["says"] for name in names for case in cases(name)]
    assert len(lines) >= 100
    assert [line for line in lines if "\n" in line or "object at 0x" in line] == []
    assert [line for line in lines if "hidden" in line] == []


def test_references_that_grow_end_in_one_line(monkeypatch):
    """A page of YAML that stands for ten thousand million entries."""
    monkeypatch.chdir(ROOT)
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 10):
        bomb += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n"
    config = {**demo(), "seeds": yaml.safe_load(bomb)["a9"]}
    message = refusal(load_configuration, config, error=ConfigError)
    assert "`seeds`: more than 100000 entries in all" in message


def test_references_to_themselves_end_in_one_line(monkeypatch):
    monkeypatch.chdir(ROOT)
    for text in ("&a [*a]", "&a {b: *a}"):
        config = {**demo(), "seeds": yaml.safe_load(text)}
        message = refusal(load_configuration, config, error=ConfigError)
        assert message == "config key `seeds`: is nested deeper than 30 levels; remove that"


def test_more_seeds_than_anyone_runs_end_in_one_line(monkeypatch):
    monkeypatch.chdir(ROOT)
    message = refusal(load_configuration, {**demo(), "seeds": [*range(1001)]}, error=ConfigError)
    assert message.startswith(
        "config key `seeds`: 1001 entries are more than 1000; The seeds of the"
    )


def test_names_are_refused_as_snakemake_refuses_them(monkeypatch):
    """Snakemake's own message speaks of endless recursion."""
    from snakemake.io import PeriodicityDetector

    monkeypatch.chdir(ROOT)
    detector = PeriodicityDetector()
    for name in ("a" * 19, "a" * 20, "xy" * 20, "ab" * 19 + "a", "a" * 30 + "b", "llama-3.2"):
        config = {**demo(), "models": {**demo()["models"], name: {"path": "x"}}}
        if detector.is_periodic(name):
            message = refusal(load_configuration, config, error=ConfigError)
            assert "ends in 20 repetitions" in message
        else:
            load_configuration(config)


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system ['touch was-run']", "!!python/name:os.system", "!x 1"]
)
def test_a_tag_of_yaml_runs_no_code(tag, tmp_path, monkeypatch):
    from snakemake.common.configfile import load_configfile
    from snakemake_interface_common.exceptions import WorkflowError

    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(f"experiment: {tag}\n")
    try:
        config = load_configfile("config.yaml")
    except WorkflowError as error:
        assert "not valid JSON or YAML" in str(error)  # noqa: PT017
    else:  # Snakemake's reader returns the function that a tag names, and does not call it
        message = refusal(load_configuration, {**demo(), **config}, error=ConfigError)
        assert "`experiment`: a builtin_function_or_method is no value here" in message
    assert [file.name for file in tmp_path.iterdir()] == ["config.yaml"]


def test_code_of_a_models_own_is_accepted_only_with_the_key(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    content = {**json.loads(CONFIG), "auto_map": {"AutoConfig": "theirs.Config"}}
    (folder / "config.json").write_text(json.dumps(content))
    (folder / "tokenizer.json").write_text("{}")
    save_file({"w": np.ones(4, np.float32)}, folder / "model.safetensors")
    message = refusal(check_base_model, "m", {"path": str(folder)})
    assert "set `trust_remote_code: true`" in message
    check_base_model("m", {"path": str(folder), "trust_remote_code": True})
