"""Rounds of chats: real tokenizers and templates, and an engine that tells what it was given."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import polars as pl
import pytest
from chat_tokenizers import chat_tokenizer

from weak_to_strong.generation.requests import Request, find_model
from weak_to_strong.generation.rounds import generate_round
from weak_to_strong.models.manifests import hash_files
from weak_to_strong.tables.files import write_json
from weak_to_strong.tables.frames import write_table
from weak_to_strong.tables.schemas import DEMONSTRATIONS, PROBLEMS, REWARD_ROWS
from weak_to_strong.training.rows import encode_questions, encode_rows

pytestmark = pytest.mark.slow

FAMILIES = ("llama3", "qwen3", "gemma3", "mistral", "smollm2")
TELLING_WORKER = """
import json
from weak_to_strong.generation.engine_worker import run_worker

class Telling:
    cached = 0
    def __init__(self, arguments):
        self.waiting = []
    def add(self, name, prompt, seed, sampling, adapter):
        self.waiting.append((name, json.dumps([prompt, sampling]), "stop", 1))
    def step(self):
        ended, self.waiting = self.waiting, []
        return ended
    def close(self):
        pass

run_worker(Telling, None)
"""
CHAT = {"system": "Be brief.", "options": {}, "thinking": None, "answer_after": None}
QUESTIONS = ["2+2?", "say </s> and <|im_end|>"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Models without weights, one of each family, two problems and a demonstration."""
    folder = tmp_path_factory.mktemp("chats")
    (folder / "worker.py").write_text(TELLING_WORKER)
    rows = {key: ["", ""] for key in PROBLEMS.names()}
    problems = pl.DataFrame({**rows, "id": ["a", "b"], "question": QUESTIONS})
    write_table(problems, PROBLEMS, folder / "problems.parquet")
    shot = pl.DataFrame([("x", "1+1?", "It is 2")], schema=DEMONSTRATIONS, orient="row")
    write_table(shot, DEMONSTRATIONS, folder / "shots.parquet")
    for family in FAMILIES:
        chat_tokenizer(family).save_pretrained(folder / family)
        manifest = {"name": family, "path": str(folder / family)}
        files = hash_files(folder / family)
        write_json({**manifest, "files": files, "source": {}}, folder / f"{family}.json")
    return folder


def request(folder: Path, family: str, name: str = "", **changes: object) -> dict:
    chat = {**CHAT, "template": None, **changes.pop("chat", {})}
    return {
        **{"name": name or family, "model": None, "base": str(folder / f"{family}.json")},
        **{"problems": str(folder / "problems.parquet"), "demonstrations": None, "n": 1},
        **{"temperature": 0.0, "top_p": 1.0, "max_tokens": 16, "seed": 0, "stop": []},
        **{"prompt": "chat", "chat": chat, **changes},
    }


def serve(folder: Path, requests: list[dict], store: Path) -> tuple[pl.DataFrame, dict]:
    engine = {"max_model_len": 512, "device": "cpu"}
    command = [sys.executable, str(folder / "worker.py")]
    batches, stats, _ = generate_round(requests, engine, store, command=command)
    return pl.concat(batches), stats


@pytest.fixture(scope="module")
def served(folder, tmp_path_factory) -> tuple[pl.DataFrame, dict]:
    """A request of each family, and one with a demonstration."""
    requests = [request(folder, family) for family in FAMILIES]
    few_shot = {"demonstrations": str(folder / "shots.parquet")}
    requests.append(request(folder, "qwen3", "few_shot", **few_shot))
    return serve(folder, requests, tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_has_the_ids_that_training_has(served, folder, family):
    given = [json.loads(text) for text in served[0].filter(request=family)["response"]]
    tokenizer = chat_tokenizer(family)
    model = find_model(Request.parse(request(folder, family)))
    rows = [("a", QUESTIONS[0], " It is 4"), ("b", QUESTIONS[1], " </s>, <|im_end|>")]
    columns = {"id": pl.String, "prompt": pl.String, "completion": pl.String}
    frame = pl.DataFrame(rows, schema=columns, orient="row")
    encoded = encode_rows(frame, tokenizer, 512, ("completion",), model.chat)
    assert [prompt for prompt, _ in given] == [row.prompt for row in encoded]
    # An answer ends with the token with which training ends it, which stands in it once.
    for (_, sampling), row in zip(given, encoded, strict=True):
        (end,) = sampling["stop_token_ids"]
        assert row.completions[0][-1] == end
        assert row.completions[0].count(end) == 1
        assert sampling["stop"] == []
    # So do preference rows.
    pairs = frame.rename({"completion": "chosen"}).with_columns(rejected=pl.lit(" It is 5"))
    of_pairs = encode_rows(pairs, tokenizer, 512, ("chosen", "rejected"), model.chat)
    assert [row.prompt for row in of_pairs] == [row.prompt for row in encoded]
    assert [row.completions[0] for row in of_pairs] == [row.completions[0] for row in encoded]
    assert all(row.completions[1][-1] == row.completions[0][-1] for row in of_pairs)
    # So do questions of a training by reward.
    unknown = (pl.lit(None, pl.String).alias(name) for name in REWARD_ROWS.names()[2:])
    questions = encode_questions(
        frame.select("id", "prompt").with_columns(unknown), tokenizer, 512, 16, model.chat
    )
    assert [question.prompt for question in questions] == [row.prompt for row in encoded]
    assert {question.end for question in questions} == {encoded[0].completions[0][-1]}


def test_demonstrations_are_turns_of_the_prompt(served):
    prompt, _ = json.loads(served[0].filter(request="few_shot")["response"][0])
    assert chat_tokenizer("qwen3").decode(prompt) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>"
        "assistant\nIt is 2<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_key_counts_template_options_and_messages(folder, tmp_path):
    template = chat_tokenizer("qwen3").chat_template
    (tmp_path / "same.jinja").write_text(template)
    (tmp_path / "other.jinja").write_text(template.replace("assistant\\n", "assistant \\n"))
    changes = {
        "plain": {},
        "same": {"template": str(tmp_path / "same.jinja")},
        "other": {"template": str(tmp_path / "other.jinja")},
        "option": {"options": {"enable_thinking": False}},
        "system": {"system": None},
        "marks": {"answer_after": "</think>"},
    }
    requests = [request(folder, "qwen3", name, chat=chat) for name, chat in changes.items()]
    _, stats = serve(folder, requests, tmp_path / "store")
    keys = {name: facts["key"] for name, facts in stats.items()}
    assert keys["plain"] == keys["same"]
    assert len(set(keys.values())) == len(keys) - 1
    stored = json.loads((tmp_path / "store" / keys["plain"] / "request.json").read_text())
    assert stored["chat"] == {"template": template, "options": {}}


def test_a_round_ends_with_one_line_where_a_template_refuses(folder, tmp_path):
    (tmp_path / "no.jinja").write_text("{{ raise_exception('no system turn here') }}")
    chat = {"template": str(tmp_path / "no.jinja")}
    with pytest.raises(ValueError, match=r"model `qwen3`: refuses a chat \(no system turn here\)"):
        serve(folder, [request(folder, "qwen3", chat=chat)], tmp_path / "store")


def test_marks_that_are_special_tokens_stay_in_the_text(folder):
    reasoning = Request.parse(request(folder, "qwen3", chat={"answer_after": "</think>"}))
    assert reasoning.sampling()["skip_special_tokens"] is False
    assert "skip_special_tokens" not in Request.parse(request(folder, "qwen3")).sampling()
