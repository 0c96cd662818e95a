"""The client of an endpoint: what it sends, what it accepts, and what it says of a bad server."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from model_server import Asked, ModelServer, Reply, chat_completion, completion

from weak_to_strong.generation import endpoint_client
from weak_to_strong.generation.endpoint_client import (
    Access,
    EndpointClient,
    ServerAnswers,
    read_response,
    request_body,
)
from weak_to_strong.models.endpoints import Endpoint

KEY = "sk-plantedplantedplanted"
SAMPLING = {"temperature": 0.0, "top_p": 1.0, "max_tokens": 16, "stop": ["Question"]}


def ask(
    url: str, *, api: str = "completions", retries: int = 0, timeout: float = 20, n: int = 1,
    key: str | None = KEY, seed: int | None = None,
) -> ServerAnswers:  # fmt: skip
    access = Access(key, 2, retries, timeout)

    async def run() -> ServerAnswers:
        endpoint = Endpoint(url, "teacher", api, {})
        async with EndpointClient("models.t.endpoint", endpoint, access) as client:
            return await client.ask("1+1?", SAMPLING, n, seed)

    return asyncio.run(run())


def refusal(reply: Callable[[Asked], Reply], **options: object) -> str:
    """The one line about a server."""
    with (
        ModelServer(reply) as server,
        pytest.raises(ValueError, match=r"models\.t\.endpoint") as line,
    ):
        ask(server.url, **options)
    message = str(line.value)
    assert "\n" not in message
    assert KEY not in message
    # No cause or context that a traceback would show.
    assert line.value.__cause__ is None
    assert line.value.__context__ is None or line.value.__suppress_context__
    return message


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)


def test_a_completion_and_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody-else")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer sk-of-somebody-else")
    with ModelServer(lambda _: Reply(completion("two", reason="length"))) as server:
        answers = ask(server.url)
        ask(server.url, key=None)
    assert answers == ServerAnswers([("two", "length")], 7, 0, 5, "teacher-2026-01 fp1")
    first, second = server.asked
    assert first.path == "/v1/completions"
    assert first.body == {
        "model": "teacher",
        "prompt": "1+1?",
        "temperature": 0.0,
        "max_tokens": 16,
        "stop": ["Question"],
    }
    assert first.headers["authorization"] == f"Bearer {KEY}"
    assert "authorization" not in second.headers
    assert "somebody-else" not in str(server.asked)


def test_a_chat_gets_the_prompt_as_one_message() -> None:
    with ModelServer(lambda _: Reply(chat_completion("two", None))) as server:
        answers = ask(server.url, api="chat", n=2, seed=2**40 + 3)
    assert answers.texts == [("two", "stop"), ("", "stop")]
    (asked,) = server.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.body["messages"] == [{"role": "user", "content": "1+1?"}]
    assert (asked.body["n"], asked.body["seed"]) == (2, 3)


def test_the_body_of_the_configuration_has_the_last_word() -> None:
    fields = {"temperature": None, "max_tokens": None, "max_completion_tokens": 9, "x": {"y": [1]}}
    endpoint = Endpoint("http://h", "m", "chat", fields)
    body = request_body(endpoint, "p", {**SAMPLING, "top_p": 0.9, "stop": []}, 1, None)
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "p"}],
        "top_p": 0.9,
        "max_completion_tokens": 9,
        "x": {"y": [1]},
    }


def test_messages_of_a_chat_are_sent_as_they_are() -> None:
    endpoint = Endpoint("https://h/v1", "m", "chat", {})
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "p"}]
    assert request_body(endpoint, messages, SAMPLING, 1, None)["messages"] == messages


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_what_passes_is_tried_again(short_pauses: None, status: int) -> None:
    tries = itertools.count()

    def reply(_: Asked) -> Reply:
        return Reply({}, status) if next(tries) < 2 else Reply(completion("two"))

    with ModelServer(reply) as server:
        assert ask(server.url, retries=2).texts == [("two", "stop")]
    assert len(server.asked) == 3


def test_the_server_says_when_to_ask_again() -> None:
    tries = itertools.count()

    def reply(_: Asked) -> Reply:
        late = {"retry-after": "1.2"}
        return Reply(completion("two")) if next(tries) else Reply({}, 429, late)

    began = time.monotonic()
    with ModelServer(reply) as server:
        ask(server.url, retries=1)
    assert time.monotonic() - began > 1.2


def test_a_slow_answer_is_asked_for_again(short_pauses: None) -> None:
    tries = itertools.count()

    def drip() -> Iterator[bytes]:
        # Each part comes in time, the whole does not.
        for _ in range(60):
            time.sleep(0.1)
            yield b" "

    def reply(_: Asked) -> Reply:
        return Reply(completion("two")) if next(tries) else Reply(drip())

    with ModelServer(reply) as server:
        assert ask(server.url, retries=1, timeout=0.5).texts == [("two", "stop")]
    assert "no complete answer within 0.5 seconds in 2 tries; raise `timeout`" in refusal(
        lambda _: Reply(drip()), retries=1, timeout=0.5
    )


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (400, "status 400: it refuses the request; correct `body`"),
        (401, "status 401: it does not accept the key"),
        (403, "status 403: it does not allow the key to use this model"),
        (404, "status 404: it has no such address or model; correct `url`"),
        (418, "status 418: see what its operator says"),
        (422, "status 422: it refuses the request; correct `body`"),
    ],
)
def test_what_stays_is_said_at_once(status: int, says: str) -> None:
    asked = []

    def reply(request: Asked) -> Reply:
        asked.append(request)
        return Reply({"error": {"message": f"no\n {KEY} {'x' * 999}"}}, status)

    message = refusal(reply, retries=5)
    assert says in message
    assert "(it says: no [hidden] xxx" in message
    assert len(message) < 700
    assert len(asked) == 1


def test_a_server_that_wants_a_key() -> None:
    message = refusal(lambda _: Reply({}, 401), key=None)
    assert "it wants a key; name the variable that holds it in `key_env`" in message


def test_a_server_that_stays_in_trouble(short_pauses: None) -> None:
    message = refusal(lambda _: Reply(b"<html>Bad Gateway</html>", 502), retries=2)
    assert "status 502 in 3 tries: it is in trouble; run again later" in message
    assert "(it says: <html>Bad Gateway</html>)" in message


def test_a_redirect_is_not_followed_with_the_key() -> None:
    with ModelServer(lambda _: Reply(completion("stolen"))) as other:
        for status in (301, 302, 307, 308):
            message = refusal(lambda _, s=status: Reply(b"", s, {"location": f"{other.url}/x"}))
            assert f"status {status}: it sends requests on to another address" in message
    assert other.asked == []


def test_a_server_that_is_not_there(short_pauses: None) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ValueError, match=r"no connection in 3 tries \(.*\); correct `url`"):
        ask(f"http://127.0.0.1:{port}/v1", retries=2)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>hello</html>",
        b"\xff\xfe{",
        b"[" * 100_000,
        b'{"choices": ' + b"9" * 10_000,
    ],
)
def test_what_is_no_json(body: bytes) -> None:
    assert "its answer cannot be read: it is no JSON" in refusal(lambda _: Reply(body))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"choices": None}, "no `choices`"),
        ({"choices": []}, "0 choices, and 1 were asked for"),
        ({"choices": [{}, {}]}, "2 choices, and 1 were asked for"),
        ({"choices": [3]}, "no `text`"),
        ({"choices": [{"message": {"content": "chat"}}]}, "no `text`"),
        ({"choices": [{"text": "\ud800"}]}, "not valid Unicode"),
        ({"usage": None}, "no `usage`"),
        ({"usage": {"prompt_tokens": -1, "completion_tokens": 1}}, "tokens `prompt_tokens`"),
        ({"usage": {"prompt_tokens": 1, "completion_tokens": 2**40}}, "tokens `completion_tokens`"),
        ({"usage": {"prompt_tokens": 1, "completion_tokens": True}}, "tokens `completion_tokens`"),
        ({"model": "\ud800"}, "not valid Unicode"),
    ],
)
def test_an_answer_that_is_none(change: dict, says: str) -> None:
    assert says in refusal(lambda _: Reply({**completion("two"), **change}))


@pytest.mark.parametrize("content", [[], 1, "x", None])
def test_an_answer_of_another_kind(content: object) -> None:
    with pytest.raises(ValueError, match="no `choices`"):
        read_response(json.dumps(content).encode(), "chat", 1)


def test_an_endless_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_client, "LONGEST_ANSWER", 2**20)
    for status in (200, 404):
        message = refusal(lambda _, s=status: Reply(itertools.repeat(b" " * 2**16), s))
        assert "its answer has more than 1 MiB" in message


def test_an_answer_that_unpacks_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_client, "LONGEST_ANSWER", 2**20)
    packed = gzip.compress(b" " * 2**26)
    assert "more than 1 MiB" in refusal(lambda _: Reply(packed, 200, {"content-encoding": "gzip"}))
    fine = gzip.compress(json.dumps(completion("two")).encode())
    with ModelServer(lambda _: Reply(fine, 200, {"content-encoding": "gzip"})) as server:
        assert ask(server.url).texts == [("two", "stop")]


def test_a_server_that_gives_the_key_back() -> None:
    assert "its answer has the key in it" in refusal(lambda _: Reply(completion(f"so {KEY}")))
    named = {**completion("two"), "model": KEY}
    assert "its answer has the key in it" in refusal(lambda _: Reply(named))


def test_the_key_is_in_no_representation() -> None:
    assert KEY not in repr(Access(KEY, 1, 1, 1.0))
