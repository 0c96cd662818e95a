"""A real server, vLLM's own, gives the texts of the local engine."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest
from vllm_server import KEY, MODEL, vllm_server

from weak_to_strong.data.embedded_task import generate_problems
from weak_to_strong.generation.endpoint_client import Access
from weak_to_strong.generation.endpoint_round import ask_round
from weak_to_strong.generation.rounds import generate_round
from weak_to_strong.models.base_models import describe_base_model
from weak_to_strong.models.endpoints import describe_endpoint
from weak_to_strong.tables.files import write_json
from weak_to_strong.tables.frames import write_table
from weak_to_strong.tables.schemas import QUESTIONS

pytestmark = pytest.mark.slow

STRONG = Path(__file__).parents[2] / "resources/embedded/study_strong"
ENGINE = {"max_model_len": 512, "kv_cache_gib": 0.2, "max_num_seqs": 8, "dtype": "float32"}
MAX_TOKENS = 32
QUESTIONS_ASKED = 24


class Server(NamedTuple):
    url: str
    folder: Path

    def request(self, base: dict, name: str, **changes: object) -> dict:
        write_json(base, manifest := self.folder / f"{base['name']}.json")
        return {
            "name": name,
            "model": None,
            "base": str(manifest),
            "problems": str(self.folder / "questions.parquet"),
            "demonstrations": None,
            "n": 1,
            "temperature": 0.0,
            "top_p": 1.0,
            "max_tokens": MAX_TOKENS,
            "seed": 0,
            "stop": ["Question", "Answer", "\n\n"],
            "prompt": "question_answer",
        } | changes

    def ask(self, name: str, key: str = KEY, **changes: object) -> tuple[pl.DataFrame, dict, dict]:
        endpoint = {"url": self.url, "model": MODEL, **changes.pop("endpoint", {})}
        request = self.request(describe_endpoint("teacher", endpoint), name, **changes)
        batches, *facts = ask_round(
            [request], self.folder / "store", Access(key, 4, 0, 120), "models.teacher.endpoint"
        )
        return pl.concat(batches), *facts


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("endpoint")
    problems = islice(generate_problems([6, 10, 16, 20], seed=1), QUESTIONS_ASKED)
    rows = {name: [""] * QUESTIONS_ASKED for name in QUESTIONS.names()}
    rows |= {
        "id": [str(number) for number in range(QUESTIONS_ASKED)],
        "question": [problem["question"] for problem in problems],
    }
    write_table(pl.DataFrame(rows), QUESTIONS, folder / "questions.parquet")
    length = ("--max-model-len", "512")
    with vllm_server(STRONG, folder / "server.log", *length) as url:
        yield Server(url, folder)


def test_greedy_answers_are_those_of_the_local_engine(server: Server) -> None:
    asked, stats, cost = server.ask("weak-1")
    request = server.request(describe_base_model("strong", {"path": str(STRONG)}), "weak-1")
    batches, local_stats, _ = generate_round([request], ENGINE, server.folder / "local")
    local = pl.concat(batches)
    columns = ["id", "sample", "response", "finish_reason", "prompt_tokens"]
    assert asked.select(columns).equals(local.select(columns))
    assert set(local["finish_reason"]) == {"stop", "length"}
    cut = pl.col("finish_reason") == "length"
    assert set(asked.filter(cut)["response_tokens"]) == {MAX_TOKENS}
    for name in ("prompts", "samples", "prompt_tokens", "truncated"):
        assert stats["weak-1"][name] == local_stats["weak-1"][name]
    assert stats["weak-1"]["served"][0].startswith(MODEL)
    assert cost["prompt_tokens"] == asked["prompt_tokens"].sum()


def test_samples_repeat_with_their_seed(server: Server) -> None:
    sampled = {"n": 3, "temperature": 1.0}
    first, *_ = server.ask("first", **sampled)
    for path in (server.folder / "store").rglob("shard-*.parquet"):
        path.unlink()
    again, _, cost = server.ask("first", **sampled)
    assert cost["samples"] == 3 * QUESTIONS_ASKED
    assert again["response"].to_list() == first["response"].to_list()
    texts = first.group_by("id").agg(pl.n_unique("response"))["response"]
    assert texts.mean() > 1.5
    other, *_ = server.ask("first", **sampled, seed=1)
    assert other["response"].to_list() != first["response"].to_list()


def test_a_real_server_refuses_in_one_line(server: Server) -> None:
    with pytest.raises(ValueError, match="status 401: it does not accept the key"):
        server.ask("x", key="sk-wrongwrong")
    with pytest.raises(ValueError, match="status 404: it has no such address or model"):
        server.ask("x", endpoint={"model": "other"})
    with pytest.raises(ValueError, match="status 404: it has no such address or model"):
        server.ask("x", endpoint={"url": server.url.removesuffix("/v1")})
    with pytest.raises(ValueError, match="status 400: it refuses the request") as error:
        server.ask("x", max_tokens=4000)
    assert "\n" not in str(error.value)
    # The embedded model has no chat template.
    with pytest.raises(ValueError, match=r"status 400.*chat template"):
        server.ask("x", endpoint={"api": "chat"})
    assert KEY not in (server.folder / "server.log").read_text()
