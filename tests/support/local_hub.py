"""A small Hub on this machine: what `huggingface_hub` asks of one to make and fill a repository."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class LocalHub:
    """The state of the server.

    Attributes:
        url: its address.
        token: the token that may write.
        repos: by `<type>s/<owner>/<name>`: `private`, and `files` (content by name).
    """

    def __init__(self, token: str) -> None:
        self.url = ""
        self.token = token
        self.repos: dict[str, dict[str, Any]] = {}
        self._objects: dict[str, bytes] = {}

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Status and answer of a request."""
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            asked = json.loads(body)
            key = f"{asked.get('type') or 'model'}s/{asked['organization']}/{asked['name']}"
            url = f"{self.url}/{key.removeprefix('models/')}"
            if key in self.repos:
                return 409, {"error": "You already created this repo", "url": url}
            private = asked.get("visibility") == "private" or bool(asked.get("private"))
            self.repos[key] = {"private": private, "files": {}}
            return 200, {"url": url, "name": key.partition("/")[2]}
        if path.startswith("/lfs/"):
            self._objects[path.removeprefix("/lfs/")] = body
            return 200, {}
        if path.endswith("/info/lfs/objects/batch"):
            entries = json.loads(body)["objects"]
            for entry in entries:
                entry["actions"] = {"upload": {"href": f"{self.url}/lfs/{entry['oid']}"}}
            return 200, {"transfer": "basic", "objects": entries}
        key = "/".join(path.removeprefix("/api/").split("/")[:3])
        if key not in self.repos:
            return 404, {"error": "Repository not found"}
        if "/preupload/" in path:
            return 200, {"files": [self._mode(file) for file in json.loads(body)["files"]]}
        if "/commit/" in path:
            self._commit(key, body)
            oid = "0" * 40
            return 200, {"commitUrl": f"{self.url}/{key}/commit/{oid}", "commitOid": oid}
        name = key.partition("/")[2]
        return 200, {"id": name, "private": self.repos[key]["private"], "sha": "0" * 40}

    @staticmethod
    def _mode(file: dict[str, Any]) -> dict[str, Any]:
        mode = "lfs" if file["path"].endswith(".safetensors") else "regular"
        return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}

    def _commit(self, key: str, body: bytes) -> None:
        files = self.repos[key]["files"]
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                content = self._objects[value["oid"]]
                assert hashlib.sha256(content).hexdigest() == value["oid"]
                files[value["path"]] = content


@contextmanager
def local_hub(token: str) -> Iterator[LocalHub]:
    """A running server, for as long as it is needed."""
    hub = LocalHub(token)

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            allowed = self.headers.get("Authorization") == f"Bearer {hub.token}"
            # An address for an object needs no token: it is one itself.
            if allowed or path.startswith("/lfs/"):
                status, answer = hub.answer(self.command, path, body)
            else:
                status, answer = 401, {"error": "Invalid credentials"}
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_HEAD = _serve

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
