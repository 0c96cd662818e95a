"""A small server that answers as the Hugging Face Hub does, for huggingface_hub on this machine."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


@contextmanager
def serve_data_sets(
    repositories: dict[str, Path], commit: str, gated: frozenset[str] = frozenset()
):
    """Address of a Hub with these data sets, each at one commit.

    Args:
        repositories: folder by name of the data set.
        commit: the only revision.
        gated: names of data sets whose files may be listed and not read.
    """

    class Handler(BaseHTTPRequestHandler):
        def _fail(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _send(self, body: bytes, **headers: str) -> None:
            self.send_response(200)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_GET(self) -> None:
            parts = unquote(self.path.partition("?")[0]).strip("/").split("/")
            listing = parts[:2] == ["api", "datasets"]
            name = "/".join(parts[2:4] if listing else parts[1:3])
            action, revision, *rest = parts[4:] if listing else parts[3:]
            if name not in repositories:
                return self._fail(404, "RepoNotFound")
            if revision != commit:
                return self._fail(404, "RevisionNotFound")
            folder = repositories[name]
            if listing:
                return self._send(json.dumps(list(_entries(folder))).encode())
            if name in gated:
                return self._fail(403, "GatedRepo")
            path = folder.joinpath(*rest)
            if action != "resolve" or not path.is_file():
                return self._fail(404, "EntryNotFound")
            body = path.read_bytes()
            return self._send(body, ETag=f'"{_digest(body)}"', X_Repo_Commit=commit)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def _entries(folder: Path) -> Iterator[dict]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            body = path.read_bytes()
            name = path.relative_to(folder).as_posix()
            yield {"type": "file", "path": name, "size": len(body), "oid": _digest(body)}


def _digest(body: bytes) -> str:
    return hashlib.sha1(body).hexdigest()
