"""A method that is trained by reward, through Snakemake: files, record, reruns, gold."""

import json
import shutil

import polars as pl
import pytest
from project import changed

from weak_to_strong.tables.files import hash_file, read_json

pytestmark = pytest.mark.slow

STRONG_SIDE = "dice/none/random_strong/seed-0"
COMMON = {"trainer": "grpo", "data": "questions", "start": "strong"}
SCORE = """
def shorter(answers, seed):
    return -0.5 * answers["response"].str.len_chars()
"""
METHODS = {
    "ttrl": {**COMMON, "stage": "stage2", "reward": "majority"},
    "grpo_coin": {**COMMON, "stage": "control", "control_of": "ttrl", "reward": "random"},
    "ceiling_grpo": {**COMMON, "stage": "baseline", "reward": "gold"},
}
GRPO = {"max_steps": 2, "max_length": 64, "global_batch_size": 16, "learning_rate": 1e-3}


def file(method: str, name: str) -> str:
    return f"results/test/models/{STRONG_SIDE}/{method}-0/{name}"


@pytest.fixture
def by_reward(fresh_project):
    """A project with methods that are trained by reward from the strong base, before any run."""
    training = {**fresh_project.config["training"], "grpo": GRPO}
    fresh_project.config |= {"methods": METHODS, "training": training}
    fresh_project.write_config(fresh_project.config)
    return fresh_project


def test_a_model_its_record_and_its_reruns(by_reward):
    """Of a task with chats, whose questions a template makes."""
    template = by_reward.path("resources/chat_templates/question_answer.jinja")
    for name in ("weak", "strong"):
        shutil.copy(template, by_reward.path(f"models/{name}/chat_template.jinja"))
    by_reward.write_config(changed(by_reward.config, "tasks.dice.prompt", "chat"))
    manifest = file("ttrl", "manifest.json")
    output = by_reward.run(manifest)
    assert f"Questions of ttrl: {STRONG_SIDE}" in output
    made = read_json(by_reward.path(manifest))
    assert made["training"]["chat"]["template"] == template.read_text()
    facts = made["facts"]
    assert (facts["steps"], facts["examples"], facts["ended"]) == (2, 96, None)
    cost = by_reward.cost(f"train/{STRONG_SIDE}/ttrl-0")
    assert cost["response_tokens"] == facts["generated_tokens"] > 0
    assert cost["trained_tokens"] == facts["tokens"] > facts["generated_tokens"]

    assert by_reward.planned(manifest) == set()
    vote = by_reward.path("scripts/weak_to_strong/method/majority_vote.py")
    vote.write_text(vote.read_text().replace("if rows.is_empty():", "if not rows.height:"))
    planned = by_reward.planned(manifest)
    assert f"Train ttrl (iteration 0) of {STRONG_SIDE}" in planned


def test_a_function_of_the_users_rewards_and_an_edit_trains_again(by_reward):
    by_reward.path("score.py").write_text(SCORE)
    method = {**COMMON, "stage": "stage2", "reward": "score.py:shorter"}
    training = {**by_reward.config["training"], "grpo": GRPO}
    methods = {**METHODS, "short": method}
    by_reward.write_config({**by_reward.config, "methods": methods, "training": training})
    manifests = [file(name, "manifest.json") for name in ("short", "ttrl")]
    by_reward.run(*manifests)
    assert read_json(by_reward.path(manifests[0]))["facts"]["last_reward"] < 0
    assert by_reward.planned(*manifests) == set()
    by_reward.path("score.py").write_text(SCORE.replace("return", "# a note\n    return"))
    assert by_reward.planned(*manifests) == set()
    by_reward.path("score.py").write_text(SCORE.replace("-0.5", "-0.25"))
    assert by_reward.planned(*manifests) == {f"Train short (iteration 0) of {STRONG_SIDE}"}
    by_reward.path("score.py").write_text(SCORE.replace("str.len_chars", "str.length"))
    failed = by_reward.snakemake(*manifests)
    assert failed.returncode != 0
    assert "score.py:shorter: failed at line 3 with AttributeError" in failed.stderr


def test_gold_of_train_2_changes_the_rows_of_the_ceiling_only(by_reward):
    rows = {name: file(name, "rows.parquet") for name in METHODS}
    by_reward.run(*rows.values())
    before = {name: hash_file(by_reward.path(path)) for name, path in rows.items()}
    data = by_reward.path("data/train_2.jsonl")
    changed = [json.loads(line) for line in data.read_text().splitlines()]
    for row in changed:
        row["answer"] = str(int(row["answer"]) + 1000)
        row["solution"] = f"a\n#### {row['answer']}"
    data.write_text("".join(json.dumps(row) + "\n" for row in changed))
    by_reward.run(*rows.values())
    after = {name: hash_file(by_reward.path(path)) for name, path in rows.items()}
    assert {name for name in rows if before[name] != after[name]} == {"ceiling_grpo"}
    assert pl.read_parquet(by_reward.path(rows["ttrl"]))["answer"].null_count() == 96
