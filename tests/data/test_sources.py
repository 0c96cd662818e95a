"""Raw files: pins, places and downloads (from this machine only)."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from weak_to_strong.data.sources import (
    check_source,
    explain_hub_error,
    fetch_source,
    source_entries,
)

CONTENTS = b'{"question": "Q", "answer": "#### 1"}\n'
SHA256 = hashlib.sha256(CONTENTS).hexdigest()
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def server():
    """Address of a server that has /data.jsonl and a /short.jsonl that breaks off."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.partition("?")[0]
            if name not in ("/data.jsonl", "/short.jsonl"):
                self.send_error(404)
                return
            body = CONTENTS if name == "/data.jsonl" else CONTENTS[:10]
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENTS)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "k: has none of them; give exactly one of `path`, `url` or `hub`"),
        ({"path": "a", "url": "b"}, "exactly one"),
        ({"path": "a", "sha256": SHA256}, r"has `sha256`, and `path` has no such key; remove it"),
        ({"url": "https://example.org/a"}, "k.sha256: is missing; add it beside `url`"),
        ({"url": "https://example.org/a", "sha256": "F" * 64}, "k.sha256: not 64 lower-case"),
        ({"url": "ftp://example.org/a", "sha256": SHA256}, "k.url: is neither"),
        ({"hub": "a/b", "file": "c"}, "k.revision: is missing; add it beside `hub`"),
        (
            {"hub": "a/b", "file": "c", "revision": "main"},
            "k.revision: 'main' is not a full commit",
        ),
        ({"hub": "a/b", "file": "../c", "revision": COMMIT}, "k.file: '../c' is not a path inside"),
    ],
)
def test_entries_without_a_sound_pin_are_refused(entry, message):
    with pytest.raises(ValueError, match=message):
        check_source(entry, "k")


def test_source_entries_have_a_fixed_order():
    settings = {
        "pool": {"path": "p"},
        "splits": {
            "test": {"path": "t"},
            "validation": {"from": "train_1", "count": 3},
            "train_2": 5,
            "train_1": [{"path": "a"}, {"path": "b"}],
        },
    }
    assert source_entries(settings) == [
        ("train_1", {"path": "a"}),
        ("train_1", {"path": "b"}),
        ("test", {"path": "t"}),
        ("pool", {"path": "p"}),
    ]


def test_url(server, tmp_path):
    target = tmp_path / "new" / "data.jsonl"
    fetch_source({"url": f"{server}/data.jsonl", "sha256": SHA256}, target)
    assert target.read_bytes() == CONTENTS
    assert [file.name for file in target.parent.iterdir()] == ["data.jsonl"]


def test_file_url(tmp_path):
    (tmp_path / "a").write_bytes(CONTENTS)
    fetch_source({"url": (tmp_path / "a").as_uri(), "sha256": SHA256}, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == CONTENTS


@pytest.mark.parametrize(
    ("name", "sha256", "message"),
    [
        ("data.jsonl", "0" * 64, f"k.sha256: the fetched file has {SHA256}, expected 0{{64}}"),
        ("short.jsonl", SHA256, "k.sha256: the fetched file has"),
        ("absent.jsonl", SHA256, "k.url: the server answers 404"),
    ],
)
def test_failed_download_leaves_the_old_file(server, tmp_path, name, sha256, message):
    target = tmp_path / "data.jsonl"
    target.write_text("old")
    with pytest.raises(ValueError, match=message):
        fetch_source({"url": f"{server}/{name}", "sha256": sha256}, target, "k")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_no_server_is_one_line_without_secrets(tmp_path):
    url = "http://127.0.0.1:9/data.jsonl?version=secret#secret"
    with pytest.raises(ValueError, match=r"cannot fetch .*name it by `path`") as error:
        fetch_source({"url": url, "sha256": SHA256}, tmp_path / "a")
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hidden@127.0.0.1:9/data.jsonl",
        "http://hidden@127.0.0.1:9/data.jsonl",
        "http://127.0.0.1:9/data.jsonl?token=hidden",
        "http://127.0.0.1:9/data.jsonl?X-Amz-Signature=hidden&x=1",
        "http://127.0.0.1:9/data.jsonl?sig=hidden",
    ],
)
def test_an_address_that_gives_access_is_refused(url):
    with pytest.raises(ValueError, match=r"k\.url: holds .*name it by `path`") as error:
        check_source({"url": url, "sha256": SHA256}, "k")
    assert "hidden" not in str(error.value)


def test_hub_offline_is_one_line(tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(*_, **__):
        raise LocalEntryNotFoundError("outgoing traffic\nhas been disabled")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    entry = {"hub": "org/set", "revision": COMMIT, "file": "a.jsonl"}
    with pytest.raises(ValueError, match=r"k: a\.jsonl: cannot fetch org/set.*by `path`") as error:
        fetch_source(entry, tmp_path / "a", "k")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_other_errors_are_not_taken_for_the_hub():
    assert explain_hub_error(KeyError("bug"), "org/set", COMMIT) is None


def test_hub_file_is_moved_into_place(tmp_path, monkeypatch):
    import huggingface_hub

    def download(repo, file, *, repo_type, revision, local_dir):
        assert (repo, file, repo_type, revision) == ("org/set", "x/a.jsonl", "dataset", COMMIT)
        path = f"{local_dir}/a.jsonl"
        with open(path, "wb") as stream:
            stream.write(CONTENTS)
        return path

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    entry = {"hub": "org/set", "revision": COMMIT, "file": "x/a.jsonl", "sha256": SHA256}
    fetch_source(entry, tmp_path / "a.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == CONTENTS
    assert len(list(tmp_path.iterdir())) == 1
