"""A study in chats with a teacher behind an endpoint as its weak side, from labels to report."""

import re
import shutil

import polars as pl
import pytest
from model_server import Asked, ModelServer, Reply, chat_completion
from project import Project, changed
from random_study import SIZES

from weak_to_strong.tables.files import read_json
from weak_to_strong.tables.schemas import METRICS

pytestmark = pytest.mark.slow

WEAK_SIDE = "dice/teacher/none/seed-0"
CHAIN = "dice/teacher/random_strong/seed-0"
SYSTEM = "Be brief."
LEFT_OUT = ("full_weak", "strong_zero_shot", "weak_icl", "ceiling")
TRAINED = ("weak_ft", "icl_ft", "hybrid_ft", "dpo", "orpo")


def answer(asked: Asked) -> Reply:
    number = sum(map(int, re.findall(r"\d", asked.body["messages"][-1]["content"]))) % 3
    return Reply(chat_completion(*[f"a\n#### {number}"] * asked.body.get("n", 1)))


def in_chats(project: Project, url: str) -> dict:
    """The study with a template in the strong model's folder, the teacher, and fewer methods."""
    template = project.path("resources/chat_templates/question_answer.jinja")
    shutil.copy(template, project.path("models/strong/chat_template.jinja"))
    config = project.config
    for key, value in {
        "tasks.dice.prompt": "chat",
        "tasks.dice.chat": {"system": SYSTEM},
        "models.teacher": {"endpoint": {"url": url, "model": "teacher-1", "api": "chat"}},
        "chains": [{**config["chains"][0], "weak": "teacher"}],
        "iterations": 1,
        "methods": dict.fromkeys(LEFT_OUT),
        "evaluation.samples": 0,
    }.items():
        config = changed(config, key, value)
    return config


def test_from_the_labels_to_the_report(fresh_project):
    project = fresh_project
    with ModelServer(answer) as server:
        project.write_config(in_chats(project, server.url))
        project.run()
        assert project.planned() == set()

    # The teacher gets the turns; its server makes a text of them.
    assert len(server.asked) == SIZES["train_2"] + SIZES["test"]
    turns = [turn["role"] for asked in server.asked for turn in asked.body["messages"]]
    assert turns == ["system", "user"] * len(server.asked)
    labels = pl.read_parquet(project.result(f"labels/{WEAK_SIDE}/weak-1.parquet"))

    pairs = pl.read_parquet(project.result(f"models/{CHAIN}/dpo-0/rows.parquet"))
    taught = {f" {text}" for text in labels["response"]}
    sides = {"chosen": pl.col("chosen"), "rejected": pl.col("rejected")}
    assert set(pairs["weak_side"]) == {*sides}
    for name, text in sides.items():
        assert set(pairs.filter(weak_side=name).select(text).to_series()) <= taught

    template = project.path("models/strong/chat_template.jinja").read_text()
    for method in TRAINED:
        number = int(method.endswith("_ft"))
        manifest = read_json(project.result(f"models/{CHAIN}/{method}-{number}/manifest.json"))
        told = manifest["training"]["chat"]
        assert (told["template"], told["system"]) == (template, SYSTEM), method

    metrics = pl.read_csv(project.result("report/metrics.csv"), schema=METRICS)
    measured = metrics.filter(metric="accuracy", split="test", scorer="paper")
    assert set(measured["method"]) == {"weak", *TRAINED}
    assert measured["n"].unique().to_list() == [SIZES["test"]]
    page = project.result("report/index.html").read_text()
    assert "Lengths of answers" in page
