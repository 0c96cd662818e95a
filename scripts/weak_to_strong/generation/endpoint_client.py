"""Questions to a model behind an endpoint: what is sent, what is read, and how a failure is said.

The client is OpenAI's (`openai`). It tries again after the status 408, 409, 429 or 5xx, a timeout
or a lost connection, and keeps to the server's `Retry-After`. What a server sends is not trusted:
redirects are not followed, the length and the time of an answer are limited, and each field is
checked. The key is in the header of requests alone. No message and no answer shows it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai

from weak_to_strong.generation.requests import Prompt
from weak_to_strong.jobs.secret_values import HIDDEN, hide_secrets
from weak_to_strong.models.endpoints import Endpoint

#: Most bytes of an answer, unpacked. A million tokens are a few megabytes.
LONGEST_ANSWER = 2**26
#: Most tokens that a server may count in one answer: the tables hold 32 bits.
_MOST_TOKENS = 2**31 - 1
#: Most characters of a server's own words in a message or in a record.
_LONGEST_QUOTE = 300
_PATHS = {"completions": "/completions", "chat": "/chat/completions"}
#: Status -> what it means for the user, and the fix.
_MEANINGS = {
    400: "it refuses the request; correct `body`, or the task's `max_tokens` or `stop`",
    401: "it does not accept the key",
    403: "it does not allow the key to use this model",
    404: "it has no such address or model; correct `url` (mostly it ends with /v1), `model` or "
    "`api`",
    413: "the prompt is too long for it",
    422: "it refuses the request; correct `body`, or the task's `max_tokens` or `stop`",
    429: "it is asked too often, or the account has no credit; lower `requests_at_once`, and run "
    "again later",
}


@dataclass(frozen=True)
class Access:
    """How an endpoint is asked. Nothing here changes an answer.

    Attributes:
        key: the key, or None for an endpoint without one.
        requests_at_once: most requests under way.
        retries: further tries of a request.
        timeout: most seconds of one try.
    """

    key: str | None = field(repr=False)
    requests_at_once: int
    retries: int
    timeout: float


@dataclass(frozen=True)
class ServerAnswers:
    """What a server answered to one request.

    Attributes:
        texts: text and finish reason ("stop", "length" or "content_filter") of each choice.
        prompt_tokens: tokens of the prompt, as the server counts them.
        cached_tokens: those of the prompt that the server says it had cached.
        response_tokens: tokens of all choices, with reasoning that the server does not show.
        served: the model that answered, in the server's own words.
    """

    texts: list[tuple[str, str]]
    prompt_tokens: int
    cached_tokens: int
    response_tokens: int
    served: str


class _AnswerTooLong(Exception):
    pass


class _BoundedHttpClient(openai.DefaultAsyncHttpxClient):
    """An HTTP client that ends an answer which is too long or takes too long.

    httpx limits the time between two packets only, and no length.
    """

    def __init__(self, seconds: float, **options: Any) -> None:
        super().__init__(follow_redirects=False, timeout=seconds, **options)
        self._seconds = seconds
        #: Tries that ended without an answer.
        self.failures = 0

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        self.failures += 1
        try:
            async with asyncio.timeout(self._seconds):
                response = await self._read(request, **{**options, "stream": True})
        except TimeoutError as error:
            raise httpx2.ReadTimeout("no complete answer in time", request=request) from error
        self.failures -= response.is_success
        return response

    async def _read(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        response = await super().send(request, **options)
        body = bytearray()
        try:
            async for part in response.aiter_bytes():
                body += part
                if len(body) > LONGEST_ANSWER:
                    raise _AnswerTooLong
        finally:
            await response.aclose()
        unpacked = [
            (name, value)
            for name, value in response.headers.items()
            if name.lower() not in ("content-encoding", "content-length", "transfer-encoding")
        ]
        return httpx2.Response(
            response.status_code, headers=unpacked, content=bytes(body), request=request
        )


class EndpointClient:
    """Asks one endpoint, as an asynchronous context manager.

    Args:
        name: configuration key of the endpoint, for messages.
        endpoint: the endpoint.
        access: how it is asked.
    """

    def __init__(self, name: str, endpoint: Endpoint, access: Access) -> None:
        self._name, self._endpoint, self._access = name, endpoint, access
        limits = httpx2.Limits(max_connections=access.requests_at_once)
        self._http = _BoundedHttpClient(access.timeout, limits=limits)
        try:
            self._client = openai.AsyncOpenAI(
                base_url=endpoint.url,
                # Not None, for which the library would send OPENAI_API_KEY to any server.
                api_key=access.key or "none",
                max_retries=access.retries,
                http_client=self._http,
            )
        except httpx2.InvalidURL as error:
            raise ValueError(f"{name}.url: {endpoint.url!r} is no address ({error})") from None

    @property
    def failures(self) -> int:
        """Tries so far that ended without an answer. Most of them were tried again."""
        return self._http.failures

    async def __aenter__(self) -> EndpointClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def ask(
        self, prompt: Prompt, sampling: Mapping[str, Any], n: int, seed: int | None
    ) -> ServerAnswers:
        """Ask for up to `n` answers to a prompt.

        Args:
            prompt: the prompt.
            sampling: temperature, top_p, max_tokens and stop.
            n: number of answers. A server may give fewer, but at least one.
            seed: seed of the first answer; None for greedy decoding.

        Raises:
            ValueError: no answer, or one that cannot be read; one line that names the endpoint.
        """
        key = self._access.key
        authorization = f"Bearer {key}" if key else openai.Omit()
        try:
            response = await self._client.post(
                _PATHS[self._endpoint.api],
                cast_to=httpx2.Response,
                body=request_body(self._endpoint, prompt, sampling, n, seed),
                options={"headers": {"Authorization": authorization}},
            )
            return self._read(response.content, n)
        except (openai.OpenAIError, httpx2.HTTPError, _AnswerTooLong) as error:
            raise ValueError(self._line(self._explain(error))) from None

    def _read(self, content: bytes, n: int) -> ServerAnswers:
        try:
            answers = read_response(content, self._endpoint.api, n)
        except ValueError as error:
            raise ValueError(self._line(f"its answer cannot be read: {error}")) from None
        key = self._access.key
        if key and any(key in text for text in (answers.served, *(t for t, _ in answers.texts))):
            raise ValueError(self._line("its answer has the key in it; use another server"))
        return answers

    def _line(self, reason: str) -> str:
        place = f"{self._name}: the model {self._endpoint.model!r} at {self._endpoint.url}"
        return self._hide(f"{place} does not answer: {reason}")

    def _hide(self, text: str) -> str:
        key = self._access.key
        return hide_secrets(text.replace(key, HIDDEN) if key else text)

    def _explain(self, error: Exception) -> str:
        """Why there is no answer, and the fix, without what only the server knows to be no key."""
        if isinstance(error, _AnswerTooLong):
            return f"its answer has more than {LONGEST_ANSWER // 2**20} MiB; correct `url`"
        if isinstance(error, openai.APITimeoutError):
            return (
                f"no complete answer within {self._access.timeout:g} seconds "
                f"{self._tries()}; raise `timeout`, or lower `requests_at_once`"
            )
        if isinstance(error, openai.APIStatusError):
            return self._explain_status(error)
        cause = error.__cause__ or error
        return (
            f"no connection {self._tries()} ({self._quote(str(cause) or type(cause).__name__)}); "
            "correct `url`, or see that the server runs and can be reached from here"
        )

    def _explain_status(self, error: openai.APIStatusError) -> str:
        status = error.status_code
        if 300 <= status < 400:
            return (
                f"status {status}: it sends requests on to another address, which is not followed; "
                "put the final address into `url`"
            )
        meaning = _MEANINGS.get(status, "see what its operator says")
        if status in (401, 403) and not self._access.key:
            meaning = "it wants a key; name the variable that holds it in `key_env`"
        if status >= 500:
            meaning = "it is in trouble; run again later"
        tries = f" {self._tries()}" if status >= 500 or status in (408, 409, 429) else ""
        return f"status {status}{tries}: {meaning} (it says: {self._quote(_words(error))})"

    def _tries(self) -> str:
        return f"in {self._access.retries + 1} tries"

    def _quote(self, text: str) -> str:
        """A server's words, short and on one line; the cut leaves no part of a key."""
        return " ".join(self._hide(text).split())[:_LONGEST_QUOTE]


def _words(error: openai.APIStatusError) -> str:
    """What a server says of a failure."""
    body = error.body
    message = body.get("message") if isinstance(body, Mapping) else body
    return str(message or "nothing")


def request_body(
    endpoint: Endpoint, prompt: Prompt, sampling: Mapping[str, Any], n: int, seed: int | None
) -> dict[str, Any]:
    """The body of a request.

    A chat gets the messages of a task that is asked in chats, and a plain prompt as one message of
    the user. Fields that have the server's own default are
    left out, since some servers refuse them.

    Args:
        endpoint: the endpoint, whose `body` has the last word.
        prompt: the prompt, a text or messages with `role` and `content`.
        sampling: temperature, top_p, max_tokens and stop.
        n: number of answers.
        seed: seed of the answers, of which the server gets 31 bits; None for greedy decoding.
    """
    asked: dict[str, Any] = {"prompt": prompt}
    if endpoint.api == "chat":
        plain = isinstance(prompt, str)
        asked = {"messages": [{"role": "user", "content": prompt}] if plain else prompt}
    fields = {
        "model": endpoint.model,
        **asked,
        "temperature": sampling["temperature"],
        "max_tokens": sampling["max_tokens"],
        "top_p": sampling["top_p"] if sampling["top_p"] != 1 else None,
        "stop": sampling["stop"] or None,
        "n": n if n > 1 else None,
        "seed": None if seed is None else seed % 2**31,
        **endpoint.body,
    }
    return {name: value for name, value in fields.items() if value is not None}


def read_response(content: bytes, api: str, n: int) -> ServerAnswers:
    """The answers in the body of a server's response.

    Args:
        content: the body.
        api: "completions" or "chat".
        n: number of answers that were asked for.

    Raises:
        ValueError: it is no response of this interface.
    """
    try:
        response = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON; correct `url`") from None
    choices = _part(response, "choices", list)
    if not 1 <= len(choices) <= n:
        raise ValueError(f"it has {len(choices)} choices, and {n} were asked for")
    texts = [_read_choice(choice, api) for choice in choices]
    usage = _part(response, "usage", dict)
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    served = " ".join(
        str(response[name]) for name in ("model", "system_fingerprint") if response.get(name)
    )
    return ServerAnswers(
        texts,
        prompt_tokens=_count(usage, "prompt_tokens"),
        cached_tokens=_count({"cached_tokens": cached or 0}, "cached_tokens"),
        response_tokens=_count(usage, "completion_tokens"),
        served=_valid_text(" ".join(served.split())[:_LONGEST_QUOTE]),
    )


def _read_choice(choice: Any, api: str) -> tuple[str, str]:
    if api == "chat":
        message = _part(choice, "message", dict)
        # Null where the model refuses, or has spent all tokens on reasoning that is not shown.
        text = "" if message.get("content") is None else _part(message, "content", str)
    else:
        text = _part(choice, "text", str)
    reason = choice.get("finish_reason")
    return _valid_text(text), reason if reason in ("length", "content_filter") else "stop"


def _part(value: Any, name: str, kind: type) -> Any:
    part = value.get(name) if isinstance(value, dict) else None
    if not isinstance(part, kind):
        raise ValueError(f"it has no `{name}` of the interface; correct `url` or `api`")
    return part


def _count(usage: Mapping[str, Any], name: str) -> int:
    value = usage.get(name)
    if type(value) is not int or not 0 <= value <= _MOST_TOKENS:
        raise ValueError(f"it has no number of tokens `{name}`")
    return value


def _valid_text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("its text is not valid Unicode") from None
    return text
