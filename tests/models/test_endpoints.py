"""Entries and manifests of models behind an endpoint, and where their keys come from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from weak_to_strong.models.base_models import (
    check_base_model,
    describe_base_model,
    prepare_base_model,
)
from weak_to_strong.models.endpoints import Endpoint, check_endpoint, read_endpoint, read_key
from weak_to_strong.tables.files import write_json

ENTRY = {"url": "https://host/v1", "model": "teacher"}


@pytest.mark.parametrize(
    "url",
    [
        "https://host/v1",
        "http://127.0.0.1:8000/v1",
        "http://[::1]:8000/v1",
        "https://host",
        "https://host:443/a/b@c"[:-2],
    ],
)
def test_addresses(url: str) -> None:
    check_endpoint({**ENTRY, "url": url}, "k")


@pytest.mark.parametrize(
    "url",
    [
        *("host/v1", "ftp://host/v1", "https://", "https:///v1", "https://host:0/v1"),
        *(
            "https://host:99999/v1",
            "https://user:secretsecret@host/v1",
            "https://secretsecret@host",
        ),
        *("https://host/v1?key=secretsecret", "https://host/#secretsecret", "https://ho st/v1"),
        *("http://[::1/v1", "https://host/v1\n"),
    ],
)
def test_what_is_no_address_is_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match=r"k\.url: is no address") as error:
        check_endpoint({**ENTRY, "url": url}, "k")
    assert "secretsecret" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["TEACHER_API_KEY", "OPENAI_API_KEY", "TEACHER_KEY", "MY_SECRET"])
def test_names_of_keys(name: str) -> None:
    check_endpoint({**ENTRY, "key_env": name}, "k")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("sk-secretsecret", "no name of an environment variable"),
        ("AIzaplain", "does not say that the variable holds a secret"),
        ("SLURM_JWT", "holds the key of another service; put the key of this endpoint into"),
        ("HF_TOKEN", "of another service"),
        ("HUGGING_FACE_HUB_TOKEN", "of another service"),
        ("GITHUB_TOKEN", "of another service"),
        ("AWS_SECRET_ACCESS_KEY", "of another service"),
        ("wandb_api_key", "of another service"),
    ],
)
def test_a_name_that_may_be_the_key_itself_is_not_shown(name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        check_endpoint({**ENTRY, "key_env": name}, "k")
    assert name not in str(error.value)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("HF_TOKEN", "https://router.huggingface.co/v1"),
        ("GITHUB_TOKEN", "https://models.github.ai/inference"),
        ("WANDB_API_KEY", "http://127.0.0.1:8000/v1"),
    ],
)
def test_a_service_and_this_machine_get_the_services_key(name: str, url: str) -> None:
    check_endpoint({**ENTRY, "url": url, "key_env": name}, "k")


def test_an_address_that_looks_like_the_services_does_not() -> None:
    for host in ("huggingface.co.evil.example", "evilhuggingface.co"):
        with pytest.raises(ValueError, match="of another service"):
            check_endpoint({**ENTRY, "url": f"https://{host}/v1", "key_env": "HF_TOKEN"}, "k")


def test_the_key_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_API_KEY", "sk-0123456789")
    assert read_key("TEACHER_API_KEY", "k") == "sk-0123456789"
    assert read_key(None, "k") is read_key("", "k") is None


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "TEACHER_API_KEY is not set"),
        ("", "TEACHER_API_KEY is not set"),
        ("sk-0123456789\n", "has spaces, line breaks"),
        ("sk 0123456789", "has spaces, line breaks"),
        ("sk-0123456789é", "has spaces, line breaks or other signs"),
        ("short", "no key that logs would hide"),
        ("/tmp", "no key that logs would hide"),
    ],
)
def test_a_key_that_is_none(monkeypatch: pytest.MonkeyPatch, value: str | None, says: str) -> None:
    monkeypatch.delenv("TEACHER_API_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("TEACHER_API_KEY", value)
    with pytest.raises(ValueError, match=says) as error:
        read_key("TEACHER_API_KEY", "models.t.endpoint")
    assert str(error.value).startswith("models.t.endpoint.key_env: ")
    if value:
        assert not re.search(rf"{re.escape(value.strip())}\b", str(error.value))


def test_a_word_under_a_vague_name_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORT_KEY", "problem_id")
    with pytest.raises(ValueError, match="an ordinary word"):
        read_key("SORT_KEY", "k")


def test_the_manifest_says_that_nothing_pins_the_model(tmp_path: Path) -> None:
    entry = {"endpoint": {**ENTRY, "api": "chat", "body": {"x": 1}, "key_env": "A_API_KEY"}}
    check_base_model("t", entry)
    prepare_base_model("t", entry, tmp_path / "none")
    manifest = describe_base_model("t", entry)
    assert manifest == {
        "name": "t",
        "endpoint": {"url": "https://host/v1", "model": "teacher", "api": "chat", "body": {"x": 1}},
        "files": {},
        "source": {"endpoint": "https://host/v1", "model": "teacher", "revision": None},
    }
    assert list(tmp_path.iterdir()) == []
    write_json(manifest, tmp_path / "t.json")
    assert read_endpoint(tmp_path / "t.json") == Endpoint(**manifest["endpoint"])
