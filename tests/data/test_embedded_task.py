"""The embedded task and the model pair that is pretrained on it."""

import json
import re
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import yaml

from weak_to_strong.data.authors import REQUESTS, ask
from weak_to_strong.data.embedded_task import LIBRARY_SUFFIX, generate_problems
from weak_to_strong.data.splits import make_splits
from weak_to_strong.tables.files import hash_file
from weak_to_strong.training.pretraining import (
    HELD_OUT,
    QUESTION_KEYS,
    SOLUTION_KEYS,
    experiment_questions,
    generate_documents,
    pack_tokens,
    pretrain,
    train_tokenizer,
)

ROOT = Path(__file__).parents[2]
EMBEDDED = yaml.safe_load((ROOT / "config/embedded_models.yaml").read_text())
CONFIGURATIONS = {
    name: yaml.safe_load((ROOT / f"config/{name}.yaml").read_text())
    for name in ("config", "study", "paper-mini")
}
DEMO, STUDY = (CONFIGURATIONS[name]["tasks"]["gsm_embedded"] for name in ("config", "study"))
STUDY_MODELS = ("study_weak", "study_strong")
#: Each embedded model of an experiment, with the task that it answers there.
OF_EACH_MODEL = [
    pytest.param(
        Path(path).name, config["tasks"][chain["task"]], id=f"{name}-{chain['task']}-{model}"
    )
    for name, config in CONFIGURATIONS.items()
    for chain in config["chains"]
    for model in (chain["weak"], chain["strong"])
    if (path := config["models"][model]["path"]).startswith("resources/embedded/")
]
TEMPLATES = EMBEDDED["task"]["templates"]


@pytest.fixture(scope="module")
def problems():
    return list(islice(generate_problems(TEMPLATES, seed=3), 200))


def test_problems_are_distinct_and_end_in_their_answer(problems):
    assert len({problem["question"] for problem in problems}) == len(problems)
    for problem in problems:
        assert problem["solution"].endswith(f"\n#### {problem['answer']}")
        assert LIBRARY_SUFFIX.strip() not in problem["question"]


def test_the_stream_is_a_function_of_its_seed(problems):
    assert list(islice(generate_problems(TEMPLATES, seed=3), 20)) == problems[:20]
    assert list(islice(generate_problems(TEMPLATES, seed=4), 20)) != problems[:20]


def test_excluded_questions_never_come(problems):
    shown = {problem["question"] for problem in problems}
    again = islice(generate_problems(TEMPLATES, seed=3, exclude=shown), 200)
    assert not shown & {problem["question"] for problem in again}


def test_unknown_templates_are_named():
    with pytest.raises(ValueError, match=r"unknown templates \[108\]; known: 0 to 107"):
        next(generate_problems([6, 108], seed=0))


def test_pretraining_never_shows_the_prompts_pair_of_keys():
    documents = list(islice(generate_documents(TEMPLATES, 1, 0.2), 300))
    text = "\n\n".join(documents)
    for key in (*QUESTION_KEYS, *SOLUTION_KEYS, "####"):
        assert key in text
    for document in documents:
        starts = [line.split(" ")[0] for line in document.split("\n")]
        assert not set(HELD_OUT) <= set(starts)


@pytest.mark.parametrize(("name", "task"), OF_EACH_MODEL)
def test_every_question_of_an_experiment_is_kept_out_of_pretraining(name, task):
    settings = EMBEDDED["task"] | EMBEDDED["models"][name].get("task", {})
    assert task["templates"] == settings["templates"]
    assert task["data_seed"] == settings["data_seed"]
    assert sum(task["splits"].values()) <= settings["problems"]


@pytest.mark.parametrize("name", STUDY_MODELS)
@pytest.mark.parametrize("task", [DEMO, STUDY], ids=["demo", "study"])
def test_no_split_has_a_question_of_the_pretraining_text(task, name):
    settings = EMBEDDED["task"] | EMBEDDED["models"][name]["task"]
    kept_out = {ask(question) for question in experiment_questions(**settings)}
    assert all(set(split["question"]) <= kept_out for split in make_splits(task, []).values())


def test_the_weak_model_of_the_study_was_not_taught_what_its_text_gets_wrong():
    assert (
        sorted(STUDY["train_1_templates"] + EMBEDDED["models"]["study_weak"]["authors"]["unknown"])
        == TEMPLATES
    )
    assert not EMBEDDED["models"]["study_strong"]["authors"]["unknown"]


def test_competition_texts_have_boxes_and_another_answer_key():
    documents = list(islice(generate_documents(TEMPLATES, 1, 0.0, (), 1.0), 100))
    for document in documents:
        assert "\\boxed{" in document.splitlines()[-1]
        assert "\nAnswer:" not in document
    assert all(f"\n{key} " in "".join(documents) for key in SOLUTION_KEYS[:-1])


def test_authors_write_all_documents_but_the_drills():
    authors = {
        "problems": 200,
        "fields": [TEMPLATES],
        "careful": 0.5,
        "follow": 0.5,
        "unknown": [],
        "marked": 1,
        "rates": {"blind": 1.0, "bad": 1.0, "mid": 0.5, "good": 0.0},
        "stray": 0.0,
        "slips": {"careful": 0.0, "sloppy": 0.0},
    }
    documents = list(islice(generate_documents(TEMPLATES, 1, 0.2, authors=authors), 100))
    written = [text for text in documents if any(request in text for request in REQUESTS)]
    assert 60 < len(written) < 95
    for document in written:
        starts = [line.split(" ")[0] for line in document.split("\n")]
        assert not set(HELD_OUT) <= set(starts)


def test_drills_may_have_larger_sums_and_differences():
    documents = islice(generate_documents(TEMPLATES, 1, 0.99, drill_largest=1000), 100)
    sums = [line for text in documents for line in text.split("\n") if re.match(r"\d+ ?[-+]", line)]
    numbers = [int(number) for line in sums for number in re.findall(r"\d+", line)[:2]]
    assert 900 < max(numbers) <= 1000
    for line in sums:
        left, right, value = map(int, re.findall(r"\d+", line))
        assert value == (left + right if "+" in line else left - right)


def test_a_share_of_nothing_changes_no_document():
    plain = list(islice(generate_documents(TEMPLATES, 1, 0.2), 50))
    assert plain == list(islice(generate_documents(TEMPLATES, 1, 0.2, (), 0.0), 50))


@pytest.mark.parametrize("name", EMBEDDED["models"])
def test_shipped_weights_are_those_of_their_manifest(name):
    folder = ROOT / "resources/embedded" / name
    manifest = json.loads(folder.with_suffix(".json").read_text())
    assert manifest["settings"] == EMBEDDED["models"][name]
    assert manifest["task"] == EMBEDDED["task"] | EMBEDDED["models"][name].get("task", {})
    assert manifest["files"] == {file.name: hash_file(file) for file in sorted(folder.iterdir())}


def test_the_shipped_models_are_small():
    files = (ROOT / "resources/embedded").rglob("*.safetensors")
    assert sum(file.stat().st_size for file in files) <= 40_000_000


@pytest.fixture(scope="module")
def tokenizer():
    texts = list(islice(generate_documents(TEMPLATES, 1, 0.2), 200))
    return train_tokenizer(texts, vocab_size=400, context=128)


def test_tokenizer_has_one_bos_digits_apart_and_reads_any_text(tokenizer):
    ids = tokenizer("#### 1234")["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 1
    assert len(ids) >= 1 + 1 + 4
    for text in ("Ünïcödé → 数", "a\x00b", "<b>{{x}}</b>"):
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


@pytest.mark.slow
def test_a_cut_off_pretraining_resumes_to_the_same_weights(tokenizer, tmp_path):
    documents = generate_documents(TEMPLATES, 1, 0.2)
    blocks = pack_tokens(documents, tokenizer, blocks=32, length=32)
    assert blocks.shape == (32, 32)
    shape = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
    }
    settings = {
        "learning_rate": 1e-2,
        "batch_size": 4,
        "warmup_ratio": 0.1,
        "weight_decay": 0.0,
        "bf16": False,
    }

    def weights(work):
        model, facts = pretrain(blocks, tokenizer, shape, 128, settings, 5, work)
        assert facts["tokens"] == blocks.size
        return {name: value.numpy() for name, value in model.state_dict().items()}

    whole = weights(tmp_path / "whole")
    # The folder of a run that was killed after its first checkpoints.
    cut = tmp_path / "cut"
    (tmp_path / "whole/checkpoint-6").rename(tmp_path / "checkpoint-6")
    cut.mkdir()
    (tmp_path / "checkpoint-6").rename(cut / "checkpoint-6")
    resumed = weights(cut)
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)
