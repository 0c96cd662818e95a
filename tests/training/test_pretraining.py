"""The script of rule `pretrain`: a model in one phase, and in two."""

import json
from itertools import islice

import pytest
from rule_scripts import rule_job, script_main

from weak_to_strong.training.pretraining import generate_documents, train_tokenizer

pytestmark = pytest.mark.slow

TASK = {"templates": [6, 10], "data_seed": 1, "problems": 50}
ENTRY = {
    "seed": 5,
    "drill_share": 0.2,
    "steps": 4,
    "block": 32,
    "shape": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
    },
    "training": {
        "learning_rate": 1e-2,
        "batch_size": 2,
        "warmup_ratio": 0.1,
        "weight_decay": 0.0,
        "bf16": False,
    },
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    texts = list(islice(generate_documents(TASK["templates"], 1, 0.2), 100))
    train_tokenizer(texts, vocab_size=400, context=64).save_pretrained(folder)
    return folder


@pytest.fixture
def pretrained(tokenizer, tmp_path, monkeypatch):
    """Pretrain a model of an entry: its weights and its manifest."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(name, entry, work):
        job = rule_job(
            "pretrain",
            inputs={"tokenizer": tokenizer},
            outputs={"folder": name, "manifest": f"{name}.json"},
            params={"task": TASK, "settings": entry, "tokenizer": {}, "work": str(tmp_path / work)},
            folder=tmp_path,
        )
        script_main("pretrain")(job)
        manifest = json.loads((tmp_path / f"{name}.json").read_text())
        return (tmp_path / name / "model.safetensors").read_bytes(), manifest

    return run


def test_a_second_phase_goes_on_from_the_first(pretrained):
    first, before = pretrained("first", ENTRY, "work")
    then = {"steps": 2, "seed": 6, "training": ENTRY["training"] | {"learning_rate": 0.0}}
    # Without a learning rate the weights stay, so they are those of the first phase.
    same, facts = pretrained("same", ENTRY | {"then": then}, "work")
    assert same == first
    assert before["facts"]["tokens"] == 4 * 2 * 32
    assert facts["facts"]["tokens"] == (4 + 2) * 2 * 32
    assert facts["settings"]["then"] == then
    other, _ = pretrained("other", ENTRY | {"then": {"steps": 2, "seed": 6}}, "work")
    assert other != first


def test_keys_of_the_task_may_differ(pretrained):
    _, manifest = pretrained("other", ENTRY | {"task": {"data_seed": 2}}, "work")
    assert manifest["task"] == TASK | {"data_seed": 2}
