"""Models behind an endpoint: a server with OpenAI's HTTP interface, which answers and is not ours.

Such a model has no files and no revision that could be pinned. Its manifest has the address, the
name of the model at the server, and what each request says beside the prompt. The key is in none of
these: an environment variable holds it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from weak_to_strong.jobs.secret_values import SHORTEST, hide_secrets, names_secret
from weak_to_strong.tables.files import AGAIN, read_json

#: Keys of an `endpoint` that decide its answers. The others say how it is asked, and what it costs.
DECIDING_KEYS = ("url", "model", "api", "body")
#: Characters of a key that an HTTP header may hold.
_PRINTABLE = frozenset(map(chr, range(0x21, 0x7F)))
#: An address without user, password, query and fragment, in any of which a key may stand.
_ADDRESS = re.compile(r"https?://[^\s/?#@]+(?:/[^\s?#@]*)?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: First words of variables that hold the access to a service, or to an account with much besides,
#: and the domains of that service. A stranger's configuration must not send these to its own `url`.
_SERVICES = {
    r"HF|HUGGING_?FACE\w*": ("huggingface.co", "huggingface.cloud", "hf.space"),
    r"GITHUB|GH": ("github.ai", "github.com", "githubcopilot.com"),
    r"WANDB": ("wandb.ai",),
    r"AWS": ("amazonaws.com",),
    r"GOOGLE_APPLICATION": ("googleapis.com",),
    r"AZURE_(?:CLIENT|STORAGE|DEVOPS)": ("azure.com",),
    r"GITLAB|CI|BITBUCKET|SLURM|MUNGE|KRB5|KUBE\w*|DOCKER|VAULT|SSH|GPG|SUDO|PG|MYSQL": (),
    r"COMET|MLFLOW|NEPTUNE|CLEARML|KAGGLE|NPM|NODE|PYPI|TWINE|UV|PIP|POETRY|CONDA|ANACONDA": (),
    r"SNAKEMAKE": (),
}
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Endpoint:
    """A model at a server.

    Attributes:
        url: address of the interface, such as `https://host/v1`.
        model: name of the model at the server.
        api: "completions" (plain text) or "chat" (messages).
        body: further fields of each request; None leaves out a field that is sent otherwise.
    """

    url: str
    model: str
    api: str
    body: Mapping[str, Any]


def deciding_part(endpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an entry `endpoint` that decides the answers."""
    return {key: endpoint[key] for key in DECIDING_KEYS if key in endpoint}


def check_endpoint(endpoint: Mapping[str, Any], key: str) -> None:
    """Check an entry `endpoint` as far as this needs no network and no key.

    A refused value is not shown: somebody may have put the key there.

    Args:
        endpoint: the entry.
        key: configuration key that a message names.

    Raises:
        ValueError: one line that names the key and what to do.
    """
    url, variable = endpoint["url"], endpoint.get("key_env")
    try:
        is_address = bool(_ADDRESS.fullmatch(url) and urlsplit(url).port != 0)
    except ValueError:
        is_address = False
    if not is_address:
        raise ValueError(
            f"{key}.url: is no address such as https://host/v1, without user, password, `?` and "
            "`#`; correct it, and put a key into the variable that `key_env` names"
        )
    if url.rstrip("/").endswith("/completions"):
        raise ValueError(
            f"{key}.url: ends in what requests add to the address; write it without "
            "/chat/completions or /completions"
        )
    if variable and not _VARIABLE.fullmatch(variable):
        raise ValueError(
            f"{key}.key_env: is no name of an environment variable, such as TEACHER_API_KEY; put "
            "the key into a variable, and its name here"
        )
    if variable and _is_of_another_service(variable, urlsplit(url).hostname or ""):
        raise ValueError(
            f"{key}.key_env: a variable of this name holds the key of another service; put the key "
            "of this endpoint into a variable of its own, such as TEACHER_API_KEY"
        )
    if variable and not names_secret(variable):
        raise ValueError(
            f"{key}.key_env: this name does not say that the variable holds a secret, so its value "
            "would stand in logs; name it like TEACHER_API_KEY"
        )


def _is_of_another_service(variable: str, host: str) -> bool:
    """Whether a variable holds the key of a service to which `host` does not belong."""
    if host in _THIS_MACHINE:
        return False
    return any(
        re.fullmatch(rf"(?:{names})_\w*", variable, re.I)
        and not any(f".{host}".endswith(f".{domain}") for domain in domains)
        for names, domains in _SERVICES.items()
    )


def read_key(variable: str | None, key: str) -> str | None:
    """The key of an endpoint; None for an endpoint without one.

    Args:
        variable: name of the variable that holds it.
        key: configuration key that a message names.

    Raises:
        ValueError: the variable is not set, or its value cannot be sent or would not be hidden; one
            line that does not show the value.
    """
    if not variable:
        return None
    value = os.environ.get(variable, "")
    if not value:
        raise ValueError(
            f"{key}.key_env: the environment variable {variable} is not set; set it to the key of "
            "the endpoint (export it) and run again"
        )
    if not _PRINTABLE.issuperset(value):
        raise ValueError(
            f"{key}.key_env: the value of {variable} has spaces, line breaks or other signs that "
            "no key has; set the variable to the key alone"
        )
    if value in hide_secrets(value):
        raise ValueError(
            f"{key}.key_env: the value of {variable} is no key that logs would hide: it is a path, "
            f"an ordinary word, or has fewer than {SHORTEST} characters; use another key"
        )
    return value


def describe_endpoint(name: str, endpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of a model behind an endpoint.

    Returns:
        `{"name", "endpoint", "files", "source"}`. There are no files, and `source` says that
        nothing pins the model.
    """
    values = {"api": "completions", "body": {}, **deciding_part(endpoint)}
    source = {"endpoint": values["url"], "model": values["model"], "revision": None}
    return {"name": name, "endpoint": asdict(Endpoint(**values)), "files": {}, "source": source}


def read_endpoint(manifest: str | Path) -> Endpoint:
    """The endpoint of a manifest.

    Raises:
        ValueError: it is damaged, or the manifest of a model with files.
    """
    content = read_json(manifest)
    try:
        return Endpoint(**content["endpoint"])
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{manifest}: not the manifest of an endpoint ({error}); {AGAIN}"
        ) from error
