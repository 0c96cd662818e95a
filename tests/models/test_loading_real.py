"""Models that are not whole are refused in one line, by transformers' own loading report."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from weak_to_strong.models import base_models, loading
from weak_to_strong.models.base_models import check_base_model, prepare_base_model
from weak_to_strong.models.loading import CHECKED, check_before_jobs, check_loading, was_checked

pytestmark = pytest.mark.slow

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "resources/embedded/study_weak_small"


@pytest.fixture
def damage(tmp_path):
    """Copies an embedded model, changing its tensors, config or tokenizer; returns the folder."""
    from safetensors.torch import load_file, save_file

    def change(tensors=None, **texts) -> Path:
        folder = Path(shutil.copytree(MODEL, tmp_path / "model"))
        if tensors:
            weights = load_file(folder / "model.safetensors")
            tensors(weights)
            save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        for name, values in texts.items():
            file = folder / f"{name}.json"
            file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
        return folder

    return change


def remove_three(weights):
    for name in sorted(weights)[:3]:
        del weights[name]


def add_one(weights):
    weights["model.layers.0.extra.weight"] = next(iter(weights.values())).clone()


def untie(weights):
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone() + 1


def tie(weights):
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()


def test_a_tied_tensor_may_stand_there_twice(damage):
    check_loading(damage(tensors=tie), "models.m")


def test_a_tokens_number_beyond_the_model_is_refused(damage):
    """However few tokens the tokenizer has."""
    tokenizer = json.loads((MODEL / "tokenizer.json").read_text())["model"]
    vocabulary = tokenizer["vocab"]
    vocabulary[max(vocabulary, key=vocabulary.get)] = 100_000
    with pytest.raises(ValueError, match=r"a token with the number 100000, the model has 768"):
        check_loading(damage(tokenizer={"model": tokenizer}), "models.m")


def test_whole_models_pass():
    for folder in sorted(path for path in MODEL.parent.iterdir() if path.is_dir()):
        check_loading(folder, "models.m")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tensors": remove_three}, r"lacks \d tensors of the model that config\.json names \("),
        ({"tensors": add_one}, r"has 1 tensors that the model in config\.json does not have \(mod"),
        ({"tensors": untie}, r"ties lm_head\.weight to model\.embed_tokens\.weight, and the two"),
        ({"config": {"vocab_size": 4000}}, r"1 tensors of another shape .*embed_tokens.*4000"),
        ({"config": {"intermediate_size": 8}}, r"tensors of another shape than config\.json"),
        ({"config": {"num_hidden_layers": 1}}, r"tensors that the model in config\.json does not"),
        ({"config": {"num_hidden_layers": 9}}, r"lacks \d+ tensors"),
        ({"config": {"model_type": "bert"}}, r"lacks \d+ tensors|has \d+ tensors"),
        ({"config": {"architectures": ["MistralForCausalLM"]}}, r"vLLM would read another model"),
        ({"config": {"model_type": "nothing"}}, r"transformers cannot build the model"),
        (
            {"tokenizer_config": {"eos_token": None}},
            r"has no end token, so that no answer would end; set `eos_token`",
        ),
    ],
)
def test_a_model_that_is_not_whole_is_refused_in_one_line(damage, change, message):
    folder = damage(**change)
    with pytest.raises(ValueError, match=message) as caught:
        check_loading(folder, "models.m")
    assert str(caught.value).startswith("models.m: ")
    assert "\n" not in str(caught.value)


def test_other_files_in_the_folder_are_not_read(damage):
    folder = damage()
    shutil.copyfile(MODEL / "model.safetensors", folder / "model_backup.safetensors")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"w": "other"}}')
    check_loading(folder, "models.m")


@pytest.mark.parametrize("model_type", ["llama", "theirs"])
def test_code_of_the_models_own_never_runs(damage, tmp_path, model_type):
    """A known architecture is read without it; an unknown one ends in one line, not a question."""
    maps = {"AutoConfig": "theirs.Config", "AutoModelForCausalLM": "theirs.Model"}
    folder = damage(
        config={"auto_map": maps, "model_type": model_type},
        tokenizer_config={"auto_map": {"AutoTokenizer": ["theirs.Tokenizer", None]}},
    )
    (folder / "theirs.py").write_text(f"open({str(tmp_path / 'was-run')!r}, 'w')")
    check_base_model("m", {"path": str(folder), "trust_remote_code": True})
    done = subprocess.run(
        [sys.executable, "-P", "-m", "weak_to_strong.models.loading", f"m={folder}"],
        env={"PYTHONPATH": str(ROOT / "scripts"), "HF_HOME": str(tmp_path / "hub")},
        input="y\n" * 9,
        capture_output=True,
        text=True,
    )
    assert done.returncode == (model_type == "theirs"), done.stderr
    assert done.stdout.count("\n") == (model_type == "theirs")
    assert not (tmp_path / "was-run").exists()


def test_the_command_names_each_model_that_is_not_whole(damage):
    folder = damage(tensors=remove_three)
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "weak_to_strong.models.loading"),
            *(f"good={MODEL}", f"bad={folder}"),
        ],
        env={"PYTHONPATH": str(ROOT / "scripts")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["models.bad"]


def test_a_run_checks_its_models_once(damage, monkeypatch):
    monkeypatch.setenv(CHECKED, "[]")
    folder = str(damage(tensors=remove_three))
    with pytest.raises(ValueError, match=r"^models\.bad: .* lacks \d tensors"):
        check_before_jobs({"bad": folder, "good": str(MODEL)})
    assert not was_checked("bad")
    monkeypatch.setattr(loading, "can_check", lambda: False)
    check_before_jobs({"bad": folder})
    with pytest.raises(ValueError, match=r"^models\.bad: .* lacks \d tensors"):
        prepare_base_model("bad", {"path": folder}, "unused")
    monkeypatch.undo()
    monkeypatch.setenv(CHECKED, "[]")
    check_before_jobs({"good": str(MODEL)})
    assert was_checked("good")
    monkeypatch.setattr(base_models, "check_loading", pytest.fail)
    prepare_base_model("good", {"path": str(MODEL)}, "unused")


def test_a_file_of_the_working_folder_is_not_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CHECKED, "[]")
    for name in ("torch", "transformers", "tokenize"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
    check_before_jobs({"good": str(MODEL)})
