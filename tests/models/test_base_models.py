"""Base models: what is accepted, what is refused at start-up, and the manifest."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from weak_to_strong.models import base_models
from weak_to_strong.models.base_models import (
    check_base_model,
    check_image_package,
    context_length,
    describe_base_model,
    prepare_base_model,
)
from weak_to_strong.models.model_files import check_finite
from weak_to_strong.tables.files import hash_file

#: The least that config.json says of a model.
CONFIG = '{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "eos_token_id": 1}'
EMBEDDED = Path(__file__).parents[2] / "resources/embedded"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def fill(folder):
    """Write the files of a smallest model."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(CONFIG)
    (folder / "tokenizer.json").write_text("{}")
    save_file({"w": np.ones(4, np.float32)}, folder / "model.safetensors")
    return folder


def shard_weights(folder, *shards):
    """Replace the weights by shards and their index."""
    (folder / "model.safetensors").unlink()
    for number, shard in enumerate(shards):
        save_file({f"w{number}": np.ones(4, np.float32)}, folder / shard)
    index = {"weight_map": {f"w{number}": shard for number, shard in enumerate(shards)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.fixture
def folder(tmp_path):
    return fill(tmp_path / "model")


def refuse(entry, message):
    with pytest.raises(ValueError, match=message) as error:
        check_base_model("m", entry)
    assert str(error.value).startswith("models.m")
    assert "\n" not in str(error.value)


def test_manifest_names_every_model_file_and_no_other(folder, tmp_path, monkeypatch):
    (folder / "README.md").write_text("x")
    (folder / "pytorch_model.bin").write_text("x")
    monkeypatch.chdir(tmp_path)
    entry = {"path": "model"}
    check_base_model("m", entry)
    manifest = describe_base_model("m", entry)
    files = ["config.json", "model.safetensors", "tokenizer.json"]
    assert manifest == {
        "name": "m",
        "path": "model",
        "files": {f: hashlib.sha256((folder / f).read_bytes()).hexdigest() for f in files},
        "source": {"path": "model"},
    }


FOREIGN = (
    *("consolidated.safetensors", "model_backup.safetensors", "adapter_model.safetensors"),
    *("params.json", "hf_quant_config.json", "modules.json", "notes.txt", "modeling.py"),
    *("tekken.json", "tokenizer.4.json", "config.4.json", "training_args.bin"),
    os.fsdecode(b"caf\xe9.json"),
)


def add_foreign_files(folder):
    for name in FOREIGN:
        (folder / name).write_text("not a model's")


def test_further_files_are_left_out_and_not_refused(folder):
    before = describe_base_model("m", {"path": str(folder)})
    add_foreign_files(folder)
    # An index beside the whole weights would name others.
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"w": "other"}}')
    check_base_model("m", {"path": str(folder)})
    assert describe_base_model("m", {"path": str(folder)}) == before


def test_of_shards_only_those_in_the_index_are_the_models(folder):
    shard_weights(folder, "model-1.safetensors", "model-2.safetensors")
    add_foreign_files(folder)
    (folder / "model-3.safetensors").write_text("of another version")
    check_base_model("m", {"path": str(folder)})
    assert list(describe_base_model("m", {"path": str(folder)})["files"]) == [
        "config.json",
        "model-1.safetensors",
        "model-2.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ]


@pytest.mark.parametrize(
    "name",
    ["study_strong", "study_weak", "study_weak_large", "study_weak_small", "weak", "weak_large"],
)
def test_the_manifests_of_the_embedded_models_keep_their_files(name):
    folder = EMBEDDED / name
    files = describe_base_model(name, {"path": str(folder)})["files"]
    assert list(files) == sorted(path.name for path in folder.iterdir())
    assert all(hash_file(folder / file) == digest for file, digest in files.items())


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "give exactly one of `path`, `hub`, `gguf_package` or `endpoint`"),
        ({"path": "a", "hub": "b"}, "exactly one"),
        (
            {"path": "a", "revision": COMMIT},
            r"has `revision`, and `path` has no such key; remove it",
        ),
        ({"path": "nowhere"}, "no folder nowhere"),
        ({"hub": "a/b"}, "revision: is missing; add it beside `hub`"),
        ({"hub": "a/b", "revision": "main"}, "revision: 'main' is not a full commit"),
        ({"gguf_package": "no-such-package-xyz"}, "not installed.*--no-deps"),
        ({"gguf_package": "pytest"}, "pytest has 0 GGUF files"),
        ({"gguf_package": "x; touch was-run"}, "'x; touch was-run' is no name of a package"),
        ({"gguf_package": "--index-url=http://x"}, "is no name of a package"),
    ],
)
def test_refused_entries(entry, message):
    refuse(entry, message)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", "has no config.json"),
        ("tokenizer.json", "has no tokenizer"),
        ("model.safetensors", "safetensors weights, it has none"),
    ],
)
def test_missing_parts(folder, missing, message):
    (folder / missing).unlink()
    refuse({"path": str(folder)}, message)


def test_pickle_weights(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refuse({"path": str(folder)}, r"only pickle weights \(pytorch_model.bin\)")


def test_adapter(folder):
    (folder / "adapter_config.json").write_text("{}")
    refuse({"path": str(folder)}, "is an adapter")


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_of_its_own_takes_trust(folder, file):
    content = {**json.loads(CONFIG), "auto_map": {"AutoModel": "modeling.Model"}}
    (folder / file).write_text(json.dumps(content))
    (folder / "modeling.py").write_text("")
    entry = {"path": str(folder)}
    refuse(entry, f"{file} names code of the model's own.*trust_remote_code")
    refuse({**entry, "trust_remote_code": "yes"}, "auto_map")
    trusted = {**entry, "trust_remote_code": True}
    check_base_model("m", trusted)
    assert "modeling.py" in describe_base_model("m", trusted)["files"]


ROPE = {"max_position_embeddings": 2048}
LINEAR = {"rope_type": "linear", "factor": 8}


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({}, None),
        ({"max_position_embeddings": 2048}, 2048),
        ({"max_position_embeddings": 2048, "rope_scaling": None}, 2048),
        ({"max_position_embeddings": 2048, "rope_parameters": {"rope_type": "default"}}, 2048),
        ({**ROPE, "rope_scaling": {"type": "linear", "factor": 2}}, 4096),
        ({**ROPE, "rope_scaling": {"type": "linear"}}, None),
        ({**ROPE, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 2048),
        ({**ROPE, "rope_scaling": {"type": "mrope", "mrope_section": [1, 1]}}, 2048),
        ({**ROPE, "rope_scaling": "linear"}, None),
        # Gemma 3 and Qwen-VL: the sizes of the text in a part of its own, an entry for each layer.
        ({"text_config": ROPE, "vision_config": {"max_position_embeddings": 7}}, 2048),
        ({"text_config": {**ROPE, "rope_parameters": {"full": LINEAR, "sliding": {}}}}, None),
        ({"text_config": {**ROPE, "rope_parameters": {"full": LINEAR, "other": LINEAR}}}, 16384),
        (
            {"text_config": {**ROPE, "model_type": "gemma3_text", "rope_scaling": LINEAR}},
            2048,
        ),
        ({"model_type": "gemma3", "text_config": {"rope_scaling": LINEAR}}, None),
    ],
)
def test_context_length(folder, config, length):
    (folder / "config.json").write_text(json.dumps(config))
    assert context_length(folder) == length


@pytest.mark.parametrize(
    ("sees", "installed", "refused"),
    [
        (True, {"vllm"}, True),
        (True, {"vllm", "torchvision"}, False),
        (True, set(), False),  # vLLM is in the environment of another rule
        (False, {"vllm"}, False),
    ],
)
def test_a_model_that_sees_images_takes_a_package(folder, monkeypatch, sees, installed, refused):
    config = {"vision_config": {"hidden_size": 8}} if sees else {"hidden_size": 8}
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(base_models, "find_spec", lambda name: name in installed or None)
    if refused:
        with pytest.raises(ValueError, match=r"^models\.m: .* `torchvision`, .*; docs/your_mod"):
            check_image_package(folder, "models.m")
    else:
        check_image_package(folder, "models.m")


def test_missing_shard(folder):
    shard_weights(folder, "model-1.safetensors", "model-2.safetensors")
    (folder / "model-2.safetensors").unlink()
    refuse({"path": str(folder)}, "lacks model-2.safetensors")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:4],
        lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 10\n",
    ],
)
def test_damaged_weights(folder, damage):
    weights = folder / "model.safetensors"
    weights.write_bytes(damage(weights.read_bytes()))
    refuse({"path": str(folder)}, "no complete safetensors file.*fetch it again")


def save_numbers(file, kind, tensors):
    """Write tensors of one number type, which numpy need not have."""
    header, content = {}, b""
    for name, numbers in tensors.items():
        if kind == "BF16":  # the upper half of float32
            added = np.array(numbers, np.float32).view(np.uint16)[1::2].tobytes()
        else:
            added = np.array(numbers, f"f{int(kind[1:]) // 8}").tobytes()
        place = [len(content), len(content) + len(added)]
        header[name] = {"dtype": kind, "shape": [len(numbers)], "data_offsets": place}
        content += added
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + content)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["F64", "F32", "F16", "BF16"])
def test_weights_that_are_not_finite_are_refused(folder, kind, number, monkeypatch):
    monkeypatch.setattr("weak_to_strong.models.model_files._AT_ONCE", 7)
    monkeypatch.setattr(base_models, "was_checked", lambda name: True)  # it is no real model
    save_numbers(folder / "model.safetensors", kind, {"a.weight": [3e4] * 20, "mask": [number]})
    check_finite(folder, "models.m")
    numbers = {"a.weight": [3e4] * 19 + [number], "mask": [number]}
    save_numbers(folder / "model.safetensors", kind, numbers)
    with pytest.raises(ValueError, match=r"numbers in a\.weight that are not finite; fetch"):
        prepare_base_model("m", {"path": str(folder)}, "unused")


@pytest.mark.parametrize("offsets", [[0, 3], [2, 4], [4, 0], [-8, 4], [0, 0]])
def test_offsets_that_fit_no_number_hold_nothing_up(folder, offsets):
    header = {
        "a.weight": {"dtype": "F32", "shape": [1], "data_offsets": offsets},
        "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
    }
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + b"\0\0\0\0"
    (folder / "model.safetensors").write_bytes(content)
    check_finite(folder, "models.m")  # the library that reads the weights refuses them


def test_hub_model_appears_only_when_complete(tmp_path, monkeypatch):
    import huggingface_hub

    entry, target = {"hub": "a/b", "revision": COMMIT}, tmp_path / "models" / "m"
    calls = []

    def download(repo, *, revision, local_dir, allow_patterns, ignore_patterns):
        assert (repo, revision) == ("a/b", COMMIT)
        assert "*.bin" not in allow_patterns
        assert "*.py" not in allow_patterns
        calls.append(local_dir)
        local_dir.mkdir(exist_ok=True)
        if len(calls) == 1:
            raise ConnectionError("cut off")
        fill(local_dir)

    checked = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(base_models, "check_loading", lambda *what: checked.append(what))
    with pytest.raises(ValueError, match=r"models\.m: cannot fetch a/b.*cut off"):
        prepare_base_model("m", entry, target)
    assert not target.exists()
    synced = []
    monkeypatch.setattr(
        "weak_to_strong.tables.frames.os.fsync", lambda _: synced.append(target.exists())
    )
    prepare_base_model("m", entry, target)
    assert checked == [(calls[1], "models.m")], "before the model has its name"
    assert calls[0] == calls[1], "a second try must find what the first left"
    files = len(list(target.rglob("*")))
    assert synced == [False] * (1 + files) + [True], "files, then the name that says they are there"
    manifest = describe_base_model("m", entry, target)
    assert manifest["source"] == entry
    assert manifest["path"] == str(target)


def test_hub_model_without_safetensors_is_refused(tmp_path, monkeypatch):
    import huggingface_hub

    def download(*_, local_dir, **__):
        fill(local_dir)
        (local_dir / "model.safetensors").unlink()

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(ValueError, match="must have safetensors weights"):
        prepare_base_model("m", {"hub": "a/b", "revision": COMMIT}, tmp_path / "m")
    assert not (tmp_path / "m").exists()
