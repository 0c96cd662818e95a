"""Real TRL runs on tiny models that also see images: Gemma 3 and Qwen-VL, trained on texts."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest
from tiny_models import WITH_IMAGES, make_model

from weak_to_strong.cluster.model_shape import Shape, model_shape
from weak_to_strong.models.base_models import (
    check_base_model,
    context_length,
    describe_base_model,
    prepare_base_model,
)
from weak_to_strong.tables.files import read_json, write_json
from weak_to_strong.tables.frames import write_table
from weak_to_strong.tables.schemas import PAIRS, SFT_ROWS
from weak_to_strong.training.launching import run_training
from weak_to_strong.training.loading import check_targets, load_weights, parts_beside_text
from weak_to_strong.training.settings import complete_settings
from weak_to_strong.training.training_run import TrainingJob

pytestmark = pytest.mark.slow

SETTINGS = {
    "learning_rate": 1e-2,
    "epochs": 2,
    "global_batch_size": 2,
    "per_device_batch_size": 2,
    "scheduler": "constant",
    "max_length": 64,
    "adapter": "lora",
    "lora": {"r": 4, "alpha": 8},
    "dtype": "float32",
    "seed": 1,
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module", params=WITH_IMAGES)
def base(request, tmp_path_factory) -> Path:
    """Folder of a model, with the manifest and the rows of trainings beside it."""
    folder = make_model(request.param, tmp_path_factory.mktemp("world") / request.param)
    entry = {"path": str(folder)}
    write_json(describe_base_model("m", entry), folder.parent / "base.json")
    rows = pl.DataFrame(
        [
            {
                "id": str(number),
                "prompt": f"Question: {number}+1?\nAnswer:",
                "completion": f" {sum_}",
            }
            for number, sum_ in ((1, 2), (2, 3), (3, 4), (14, 15))
        ]
    )
    write_table(rows, SFT_ROWS, folder.parent / "sft.parquet")
    pairs = rows.select(
        *("id", "prompt"),
        chosen="completion",
        rejected=pl.lit(" none"),
        weak_side=pl.lit("chosen"),
        confidence=pl.lit(0.7),
    )
    write_table(pairs, PAIRS, folder.parent / "pairs.parquet")
    return folder


def train(base: Path, name: str, trainer: str, init: TrainingJob | None = None, **change):
    world = base.parent
    job = TrainingJob(
        trainer=trainer,
        settings={**SETTINGS, **change},
        rows=str(world / ("sft.parquet" if trainer == "sft" else "pairs.parquet")),
        base=str(world / "base.json"),
        init=init and init.manifest,
        work=str(world / name / "work"),
        model=str(world / name / "model"),
        manifest=str(world / name / "manifest.json"),
        history=str(world / name / "history.json"),
    )
    run_training(job)
    return job


@pytest.fixture(scope="module")
def adapter(base) -> TrainingJob:
    return train(base, "adapter", "sft")


def tensors(folder: Path | str, name: str = "model") -> dict:
    from safetensors.torch import load_file

    return load_file(Path(folder) / f"{name}.safetensors")


def test_the_model_passes_the_checks_before_the_first_job(base):
    check_base_model("m", {"path": str(base)})
    prepare_base_model("m", {"path": str(base)}, base)
    assert context_length(base) == 8192


def test_its_size_is_that_of_its_language_model(base):
    weights = sum(tensor.numel() for tensor in tensors(base).values())
    expected = Shape(weights, layers=2, hidden=64, key_value=32, intermediate=96, vocabulary=768)
    assert model_shape({}, base) == expected


def test_sizes_that_config_json_leaves_out_are_read_from_the_weights(base, tmp_path):
    """As the Hub's Gemma 3 does; the part that sees images has heads of another size."""
    config = read_json(base / "config.json")
    for key in ("num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size"):
        del config["text_config"][key]
    (tmp_path / "model.safetensors").symlink_to(base / "model.safetensors")
    write_json(config, tmp_path / "config.json")
    shape = model_shape({}, tmp_path)
    assert (shape.key_value, shape.vocabulary) == (32, 768)


def test_an_adapter_changes_every_target_of_the_language_model_and_nothing_else(base, adapter):
    trained = tensors(adapter.model, "adapter_model")
    assert all(".language_model.layers." in name for name in trained)
    # Seven projections of two layers, each with its lora_A and lora_B.
    assert len(trained) == 2 * 7 * 2
    assert all(tensor.abs().max() > 0 for tensor in trained.values())
    first, *_, last = read_json(adapter.history)
    assert last["loss"] < first["loss"]


def test_preference_trainers_continue_the_adapter(base, adapter):
    for trainer in ("dpo", "orpo"):
        job = train(base, trainer, trainer, adapter, beta=0.1, lora=None)
        before, after = (tensors(folder, "adapter_model") for folder in (adapter.model, job.model))
        assert before.keys() == after.keys()
        assert any(not after[name].equal(before[name]) for name in before)


def test_full_training_changes_the_language_model_only(base):
    job = train(base, "full", "sft", adapter="full", epochs=1)
    before, after = tensors(base), tensors(job.model)
    assert before.keys() == after.keys()
    changed = {name for name in before if not after[name].equal(before[name])}
    seeing = {name for name in before if "vis" in name or "multi_modal" in name}
    assert changed
    assert seeing.isdisjoint(changed)
    # The published model passes the checks of a base model.
    check_base_model("m", {"path": job.model})


def test_a_training_on_texts_needs_no_token_types(base):
    """Of texts all types are 0 (trl issue 5032: former versions of Gemma 3 asked for them)."""
    import torch

    settings = complete_settings("sft", SETTINGS)
    model = load_weights(settings, str(base), str(base)).train()
    tokens = torch.arange(3, 60).unsqueeze(0)
    names = ("token_type_ids", "mm_token_type_ids")
    with torch.no_grad():
        plain = model(input_ids=tokens).logits
        for name in names:
            if name in model.forward.__code__.co_varnames:
                typed = model(input_ids=tokens, **{name: torch.zeros_like(tokens)}).logits
                assert typed.equal(plain)


def test_a_target_of_the_part_that_sees_images_is_refused(base):
    model = load_weights(complete_settings("sft", SETTINGS), str(base), str(base))
    import re

    others = parts_beside_text(model)
    modules = [name for name, _ in model.named_modules() if not re.fullmatch(others, name)]
    with pytest.raises(ValueError, match=r"no 'fc1'; its projections are down_proj, gate_proj"):
        check_targets(["q_proj", "fc1"], modules)
