"""Secrets in environment variables: hide them in texts, and keep them from other processes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import unquote

HIDDEN = "[hidden]"
#: Fewest characters of a secret. Hiding shorter values would remove ordinary words from messages.
SHORTEST = 8
#: Names of variables that hold secrets. TOKENIZERS_PARALLELISM, SSH_ASKPASS and PWD do not match.
_NAME = re.compile(
    r"TOKEN(?![IS])|SECRET|PASS(?:W|PHRASE|CODE)|CREDENTIAL|API_?KEY"
    r"|(?<![A-Z])(?:JWT|BEARER|COOKIES?)(?![A-Z])|(?<!ASK)(?<!BY)PASS(?![A-Z])|_PWD(?![A-Z])",
    re.I,
)
#: Names of secrets or of other things: AUTH=required, SORT_KEY=timestamp, MAX_TOKENS=100000000.
_VAGUE_NAME = re.compile(r"(?<![A-Z])(?:AUTH|AUTHORIZATION|KEYS?|PAT)(?![A-Z])|TOKENS", re.I)
_FILE_NAME = re.compile(r"(?:FILE|PATH|DIR|SOCK)\Z", re.I)
#: Ordinary values: a number, or words of one case that together are shorter than a key.
_PLAIN = re.compile(
    r"[+-]?\d{1,15}(?:\.\d*)?|(?=.{1,24}\Z)(?:[a-z]+(?:[ ._-][a-z]+)*|[A-Z]+(?:[ ._-][A-Z]+)*)"
)
#: User and password before the host of an address, up to the last @.
_ACCESS = re.compile(r"(?<=://)([^\s/?#\"<>:@]*)(?::([^\s/?#\"<>]*))?@")


def _is_path(name: str, value: str) -> bool:
    if "/" not in value:
        return False
    # Under such a name the file need not exist. Elsewhere it must: keys in base64 may have slashes.
    named = _FILE_NAME.search(name) and value.startswith(("/", "~", "."))
    return bool(named) or os.path.exists(os.path.expanduser(value))


def names_secret(name: str) -> bool:
    """Whether the value of a variable of this name is hidden, if it looks like a secret at all."""
    is_named = _NAME.search(name) or _VAGUE_NAME.search(name)
    return bool(is_named) and not name.startswith("SLURM_")


def _secrets(name: str, value: str) -> set[str]:
    """Secrets in a variable's value: the value and its lines, or the access in an address."""
    secrets = set()
    for user, password in _ACCESS.findall(value):
        # An address may have a token in place of the user.
        secret = password or ("" if _PLAIN.fullmatch(user) else user)
        secrets |= {secret, unquote(secret)}
    named = _NAME.search(name) or (_VAGUE_NAME.search(name) and not _PLAIN.fullmatch(value))
    if named and not _is_path(name, value):
        secrets.add(value)
        for line in value.splitlines():
            # Some messages are joined into one line with single spaces.
            secrets |= {line.strip(), " ".join(line.split())}
    return {secret for secret in secrets if len(secret) >= SHORTEST}


def hide_secrets(text: str) -> str:
    """`text` without access in addresses, and without secrets of environment variables.

    Secrets are values of variables with names such as HF_TOKEN, WANDB_KEY and DB_PASS, and
    passwords in addresses, as in HTTPS_PROXY. Values shorter than SHORTEST and paths are not
    secrets. Under a vague name, such as SORT_KEY, numbers and words are not secrets either.
    """
    secrets = (_secrets(name, value) for name, value in os.environ.items())
    for secret in sorted(set().union(*secrets), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _ACCESS.sub(lambda access: access[0] if access[2] is None else f"{HIDDEN}@", text)


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that hold no secret, for processes that need none and may print anything.

    Variables of SLURM stay: srun may need SLURM_JWT.
    """

    def is_secret(name: str, value: str) -> bool:
        passwords = [password for _, password in _ACCESS.findall(value)]
        has_secret = bool(_secrets(name, value)) or any(passwords)
        return has_secret and not name.startswith("SLURM_")

    return {name: value for name, value in environment.items() if not is_secret(name, value)}
