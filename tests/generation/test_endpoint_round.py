"""Rounds at an endpoint: what is asked, what is kept, and what is not asked again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl
import pytest
from model_server import Asked, ModelServer, Reply, completion

from weak_to_strong.generation.endpoint_client import Access
from weak_to_strong.generation.endpoint_round import SHARD_SIZE, ask_round
from weak_to_strong.models.endpoints import describe_endpoint
from weak_to_strong.tables.files import write_json
from weak_to_strong.tables.frames import write_table
from weak_to_strong.tables.schemas import GENERATIONS, QUESTIONS

SCRIPTS = Path(__file__).parents[2] / "scripts"
ACCESS = Access(None, 4, 0, 20)


def question_of(asked: Asked) -> str:
    return asked.body["prompt"].removeprefix("Question: ").split("\n")[0]


def echo(asked: Asked) -> Reply:
    """Answers that tell the question, the seed and the place."""
    n = asked.body.get("n", 1)
    texts = [f"{question_of(asked)} {asked.body.get('seed')} {place}" for place in range(n)]
    return Reply(completion(*texts, response=10))


class Round:
    """Questions and the manifest of an endpoint in a folder."""

    def __init__(self, folder: Path, questions: int = 7) -> None:
        self.folder, self.store = folder, folder / "store"
        self.questions = [f"q{index}" for index in range(questions)]
        rows = {key: [""] * questions for key in QUESTIONS.names()}
        table = pl.DataFrame({**rows, "id": self.questions, "question": self.questions})
        write_table(table, QUESTIONS, folder / "questions.parquet")

    def request(self, url: str, name: str = "weak-1", **changes: object) -> dict:
        endpoint = {"url": url, "model": "teacher", **changes.pop("endpoint", {})}
        write_json(describe_endpoint("teacher", endpoint), self.folder / "teacher.json")
        return {
            "name": name,
            "model": None,
            "base": str(self.folder / "teacher.json"),
            "problems": str(self.folder / "questions.parquet"),
            "demonstrations": None,
            "n": 1,
            "temperature": 0.0,
            "top_p": 1.0,
            "max_tokens": 16,
            "seed": 0,
            "stop": ["Question"],
            "prompt": "question_answer",
        } | changes

    def ask(self, *requests: dict, access: Access = ACCESS) -> tuple[pl.DataFrame, dict, dict]:
        batches, *facts = ask_round(requests, self.store, access, "models.teacher.endpoint")
        return pl.concat(batches), *facts

    def shards(self) -> list[str]:
        return sorted(path.name for path in self.store.rglob("shard-*.parquet"))


@pytest.fixture
def round_(tmp_path: Path) -> Round:
    return Round(tmp_path)


def serving(reply: Callable[[Asked], Reply] = echo) -> ModelServer:
    return ModelServer(reply)


def counts(server: ModelServer) -> Counter[str]:
    return Counter(map(question_of, server.asked))


def test_rows_statistics_and_costs(round_: Round) -> None:
    with serving() as server:
        requests = [
            round_.request(server.url),
            round_.request(server.url, "sampled", n=3, temperature=1.0),
            round_.request(server.url, "the same as weak-1"),
        ]
        frame, stats, cost = round_.ask(*requests)
        again = round_.ask(*requests)
    assert frame.schema == GENERATIONS
    greedy = frame.filter(request="weak-1")
    assert greedy["id"].to_list() == round_.questions
    assert greedy["response"].to_list() == [f"{name} None 0" for name in round_.questions]
    sampled = frame.filter(request="sampled", id="q2")
    assert sampled["sample"].to_list() == [0, 1, 2]
    assert sampled["response_tokens"].to_list() == [10, 10, 10]
    assert sampled["prompt_tokens"].to_list() == [7, 7, 7]
    assert stats["sampled"] | {"key": ""} == {
        "key": "",
        "prompts": 7,
        "samples": 21,
        "prompt_tokens": 7 * 7,
        "response_tokens": 210,
        "truncated": 0,
        "served": ["teacher-2026-01 fp1"],
    }
    assert len(server.asked) == 14
    assert cost.pop("engine_seconds") > 0
    assert cost == {
        "requests": 3,
        "requests_generated": 2,
        "samples": 28,
        # A prompt counts once, however many answers it gets: so servers bill it.
        "prompt_tokens": 14 * 7,
        "cached_prompt_tokens": 0,
        "response_tokens": 280,
        "failed_tries": 0,
    }
    assert again[0].equals(frame)
    assert again[1] == stats
    assert again[2]["response_tokens"] == 0


def test_samples_of_a_server_that_gives_one_at_a_time(round_: Round) -> None:
    def one(asked: Asked) -> Reply:
        return Reply(completion(f"seed {asked.body['seed']}"))

    with serving(one) as server:
        frame, _, cost = round_.ask(round_.request(server.url, n=3, temperature=1.0))
    assert [asked.body.get("n") for asked in server.asked].count(3) == 7
    texts = frame.filter(id="q0")["response"]
    assert texts.n_unique() == 3  # each with a seed of its own
    assert cost["prompt_tokens"] == 21 * 7


def test_at_most_so_many_requests_at_once(round_: Round) -> None:
    lock, under_way, most = threading.Lock(), 0, 0

    def reply(asked: Asked) -> Reply:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.1)
        with lock:
            under_way -= 1
        return echo(asked)

    with serving(reply) as server:
        round_.ask(round_.request(server.url), access=Access(None, 3, 0, 20))
    assert most == 3


def test_what_is_cut_counts_as_cut(round_: Round) -> None:
    def reply(asked: Asked) -> Reply:
        return Reply(completion("x", reason="length" if question_of(asked) == "q1" else "eos"))

    with serving(reply) as server:
        frame, stats, _ = round_.ask(round_.request(server.url))
    assert stats["weak-1"]["truncated"] == 1
    assert frame.filter(id="q1")["finish_reason"].item() == "length"
    assert set(frame.filter(pl.col("id") != "q1")["finish_reason"]) == {"stop"}


@pytest.mark.parametrize(
    "change",
    [
        {"endpoint": {"model": "other"}},
        {"endpoint": {"api": "chat"}},
        {"endpoint": {"body": {"x": 1}}},
        {"max_tokens": 17},
        {"temperature": 0.5},
    ],
)
def test_what_decides_the_answers_asks_again(round_: Round, change: dict) -> None:
    def reply(asked: Asked) -> Reply:
        answer = completion("x")
        answer["choices"][0]["message"] = {"content": "x"}
        return Reply(answer)

    with serving(reply) as server:
        round_.ask(round_.request(server.url))
        round_.ask(round_.request(server.url), access=Access("sk-plantedplanted", 1, 3, 9))
        assert len(server.asked) == 7
        round_.ask(round_.request(server.url, **change))
        assert len(server.asked) == 14


def test_a_failure_keeps_what_is_finished(round_: Round) -> None:
    broken = True

    def reply(asked: Asked) -> Reply:
        if broken and question_of(asked) == "q4":
            time.sleep(0.5)
            return Reply({}, 404)
        return echo(asked)

    with serving(reply) as server:
        with pytest.raises(ValueError, match="status 404"):
            round_.ask(round_.request(server.url))
        broken = False
        frame, _, cost = round_.ask(round_.request(server.url))
    assert counts(server) == {name: 1 + (name == "q4") for name in round_.questions}
    assert cost["samples"] == 1
    assert frame["id"].to_list() == round_.questions


def test_many_answers_share_a_file(tmp_path: Path) -> None:
    questions = 2 * SHARD_SIZE + 3
    round_ = Round(tmp_path, questions)
    with serving() as server:
        frame, *_ = round_.ask(round_.request(server.url))
    assert frame["id"].to_list() == round_.questions
    assert len(round_.shards()) == 3


ASKING = """
import json, sys
from weak_to_strong.generation.endpoint_client import Access
from weak_to_strong.generation.endpoint_round import ask_round
request, store = json.loads(sys.argv[1])
ask_round([request], store, Access(None, 2, 0, 60), "models.teacher.endpoint")
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_round_asks_for_no_finished_answer_again(tmp_path: Path, number: int) -> None:
    round_ = Round(tmp_path, SHARD_SIZE + 20)
    stuck, finished = threading.Event(), SHARD_SIZE + 5
    held: set[str] = set()

    def reply(asked: Asked) -> Reply:
        if len(server.asked) > finished and not stuck.is_set():
            held.add(question_of(asked))
            stuck.wait(60)
        return echo(asked)

    with serving(reply) as server:
        request = round_.request(server.url)
        command = [sys.executable, "-c", ASKING, json.dumps([request, str(round_.store)])]
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(SCRIPTS)})
        deadline = time.monotonic() + 60
        while len(held) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        process.wait(20)
        stuck.set()
        frame, *_ = round_.ask(request)
    assert len(held) == 2
    assert frame["id"].to_list() == round_.questions
    assert counts(server) == {name: 1 + (name in held) for name in round_.questions}


def test_a_merge_that_was_cut_off_leaves_nothing_twice(round_: Round) -> None:
    with serving() as server:
        request = round_.request(server.url)
        frame, *_ = round_.ask(request)
        (merged,) = round_.store.rglob("shard-*.parquet")
        # The single file of a question that the merged one has too.
        rows = pl.read_parquet(merged).filter(id="q3")
        write_table(rows, rows.schema, merged.with_name("shard-000003.parquet"))
        again, stats, cost = round_.ask(request)
    assert again.equals(frame)
    assert stats["weak-1"]["samples"] == 7
    assert cost["samples"] == 0


def test_the_store_says_what_was_asked(round_: Round) -> None:
    with serving() as server:
        round_.ask(round_.request(server.url), access=Access("sk-plantedplanted", 1, 0, 9))
        url = server.url
    (file,) = round_.store.rglob("request.json")
    facts: Mapping = json.loads(file.read_text())
    assert facts["endpoint"] == {"url": url, "model": "teacher", "api": "completions", "body": {}}
    texts = [path.read_bytes() for path in round_.folder.rglob("*") if path.is_file()]
    assert not any(b"planted" in text for text in texts)


def test_the_manifest_of_a_model_with_files_is_no_endpoint(round_: Round) -> None:
    request = round_.request("http://127.0.0.1:9/v1")
    write_json({"name": "m", "path": "m", "files": {}}, request["base"])
    with pytest.raises(ValueError, match=r"teacher\.json: not the manifest of an endpoint"):
        round_.ask(request)
