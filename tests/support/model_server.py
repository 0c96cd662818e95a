"""A small HTTP server in place of a model behind an endpoint, for what a real one seldom does."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Asked(NamedTuple):
    """A request that the server got; `headers` have names in small letters."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class Reply(NamedTuple):
    """What the server sends back. A body of parts is sent without a length, part by part."""

    body: bytes | dict | Iterable[bytes] = b""
    status: int = 200
    headers: Mapping[str, str] = {}


class ModelServer:
    """The server, as a context manager: it listens on the loopback interface.

    Args:
        reply: makes the reply to a request. Several may be made at once.

    Attributes:
        asked: every request so far.
    """

    def __init__(self, reply: Callable[[Asked], Reply]) -> None:
        self.asked: list[Asked] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.path, headers, json.loads(content))
                server.asked.append(asked)
                self._send(reply(asked))

            do_GET = do_POST

            def _send(self, answer: Reply) -> None:
                body = answer.body
                body = json.dumps(body).encode() if isinstance(body, dict) else body
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if isinstance(body, bytes):
                    self.send_header("content-type", "application/json")
                    self.send_header("content-length", str(len(body)))
                else:
                    self.send_header("connection", "close")
                    self.close_connection = True
                self.end_headers()
                try:
                    for part in [body] if isinstance(body, bytes) else body:
                        self.wfile.write(part)
                except OSError:
                    pass  # the client has had enough

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False

    @property
    def url(self) -> str:
        """Address of the interface."""
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> ModelServer:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


def completion(*texts: str, reason: str = "stop", prompt: int = 7, response: int = 5) -> dict:
    """The body of an answer with these texts; `prompt` and `response` are numbers of tokens."""
    return {
        "model": "teacher-2026-01",
        "system_fingerprint": "fp1",
        "choices": [{"text": text, "finish_reason": reason, "index": 0} for text in texts],
        "usage": {"prompt_tokens": prompt, "completion_tokens": response * len(texts)},
    }


def chat_completion(*texts: str | None, reason: str = "stop") -> dict:
    """`completion` as a chat's."""
    answer = completion(*("" for _ in texts))
    answer["choices"] = [
        {"message": {"role": "assistant", "content": text}, "finish_reason": reason}
        for text in texts
    ]
    return answer
