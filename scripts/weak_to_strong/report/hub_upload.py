"""What `snakemake upload` sends to a repository of the Hub: its files, their checks, the sending.

Only files that a job of the experiment has made, and that are as it made them, are sent. Data is
never sent, so gold answers are not either.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weak_to_strong.jobs.records import read_records
from weak_to_strong.jobs.secret_values import hide_secrets
from weak_to_strong.jobs.snakemake_adapter import FOLDER_TIME
from weak_to_strong.models.manifests import WEIGHTS, check_files, list_files
from weak_to_strong.report.model_card import base_name
from weak_to_strong.tables.files import AGAIN, hash_file, read_json

#: Environment variable with the access token. No file is searched for one.
TOKEN = "HF_TOKEN"
#: The card.
README = "README.md"
#: Result tables, in the folder of the report.
RESULT_TABLES = (
    *("metrics.csv", "metrics.json", "table.txt"),
    *("diagnostics.csv", "diagnostics.json", "costs.csv", "ledger.csv"),
)
#: Suffixes of a model's files beside its weights: configuration, tokenizer, chat template.
_OTHER_FILES = (".json", ".txt", ".jinja", ".model")
_ADAPTER = "adapter_config.json"


@dataclass(frozen=True)
class UploadFile:
    """A file to send.

    Attributes:
        name: its name in the repository.
        source: the file, or its content.
        note: what is special about it, or "".
    """

    name: str
    source: Path | bytes
    note: str = ""

    @property
    def size(self) -> int:
        """Its bytes."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size


def find_manifest(manifest_path: str) -> UploadFile:
    """The manifest of a trained model.

    Raises:
        ValueError: it is missing.
    """
    path = Path(manifest_path)
    if not path.is_file():
        raise ValueError(f"{path}: is missing; run the experiment first")
    return UploadFile(path.name, path)


def collect_model(manifest_path: str, base: Mapping[str, Any]) -> list[UploadFile]:
    """The files of a trained model, each checked against its manifest.

    The configuration of an adapter is sent with the name of its base in place of a local path.

    Args:
        manifest_path: path of the model's manifest.
        base: manifest of its base model.

    Raises:
        ValueError: a file that is not of the model, weights that are no safetensors, or damage.
    """
    check_files(manifest_path)
    manifest = read_json(manifest_path)
    folder = Path(manifest["path"])
    for name in list_files(folder):
        if name not in manifest["files"] and name != FOLDER_TIME:
            raise ValueError(
                f"{folder / name}: is not of the model ({manifest_path} does not name it); move it "
                "elsewhere"
            )
    files = []
    for name in sorted(manifest["files"]):
        path = folder / name
        if name.endswith(WEIGHTS) and not name.endswith(".safetensors"):
            raise ValueError(f"{path}: only weights in safetensors are uploaded; convert the model")
        if not name.endswith((".safetensors", *_OTHER_FILES)) and name != README:
            raise ValueError(
                f"{path}: is neither weights nor configuration nor tokenizer; move it elsewhere"
            )
        if name == README:
            continue  # the card takes its place
        if name == _ADAPTER:
            files.append(UploadFile(name, _name_base(path, base), "names the base model"))
        else:
            files.append(UploadFile(name, path))
    return files


def _name_base(path: Path, base: Mapping[str, Any]) -> bytes:
    """An adapter's configuration that names its base as others find it."""
    name, revision = base_name(base)
    config = {**read_json(path), "base_model_name_or_path": name, "revision": revision}
    return (json.dumps(config, indent=2) + "\n").encode()


def collect_tables(report: str) -> list[UploadFile]:
    """The result tables of an experiment.

    Args:
        report: folder of its report.

    Raises:
        ValueError: one is missing.
    """
    return [find_table(report, name) for name in RESULT_TABLES]


def find_table(report: str, name: str) -> UploadFile:
    """One of the result tables.

    Raises:
        ValueError: it is missing.
    """
    path = Path(report, name)
    if not path.is_file():
        raise ValueError(f"{path}: is missing; run the experiment first")
    return UploadFile(name, path)


def check_uploads(
    files: Iterable[UploadFile], results: str, gold: Collection[str], stale: Sequence[str]
) -> None:
    """Check that what is sent is what jobs made, with the present configuration, and no data.

    Args:
        files: what is to be sent.
        results: folder of the experiment's results.
        gold: tables with the gold answers of train_2; those that do not exist are left out.
        stale: lines on outdated jobs (`verify.find_stale`).

    Raises:
        ValueError: names the file and the reason.
    """
    records = read_records(Path(results, "logs"))
    withheld = {hash_file(path): path for path in gold if Path(path).is_file()}
    for file in files:
        if isinstance(file.source, bytes):
            _check_text(file.name, file.source)
            continue
        path = file.source
        if path.is_symlink():
            raise ValueError(f"{path}: is a link; only files of the results folder are uploaded")
        digest = hash_file(path)
        if digest in withheld:
            raise ValueError(
                f"{path}: is a copy of {withheld[digest]}, which has gold answers of train_2; they "
                "are never uploaded"
            )
        record = records.get(path.as_posix())
        if record is None:
            raise ValueError(f"{path}: was made by no job; only results are uploaded")
        if record["outputs"][path.as_posix()] != digest:
            raise ValueError(f"{path}: is not as its job made it; {AGAIN}")
        if outdated := [line for line in stale if line.startswith(f"{record['job']}:")]:
            raise ValueError(f"{path}: is outdated: {outdated[0]}")
        if not path.name.endswith(".safetensors"):
            _check_text(str(path), path.read_bytes())


def _check_text(name: str, content: bytes) -> None:
    """Check that a text has no value of a secret variable of this environment."""
    text = content.decode("utf-8", errors="replace")
    if hide_secrets(text) != text:
        raise ValueError(
            f"{name}: holds the value of a secret environment variable, or a password in an "
            "address; remove it where it comes from"
        )


def list_uploads(files: Sequence[UploadFile]) -> list[str]:
    """A line for each file, with its size, and one for the sum."""
    rows = [*((file.size, file.name, file.note) for file in files)]
    rows.append((sum(file.size for file in files), f"bytes in {len(files)} files", ""))
    return [f"{size:>15,}  {name}{f' ({note})' if note else ''}" for size, name, note in rows]


def send(files: Sequence[UploadFile], repo: str, kind: str, private: bool, message: str) -> str:
    """Send files to a repository of the Hub, in one commit; make the repository where it is new.

    Args:
        files: what to send.
        repo: `owner/name`.
        kind: "model" or "dataset".
        private: whether others must not see it.
        message: of the commit.

    Returns:
        The address of the commit.

    Raises:
        ValueError: no token, no network, a public repository where a private one is wanted, or a
            refusal of the Hub; names the fix.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, constants, errors
    from huggingface_hub.utils import disable_progress_bars

    token = os.environ.get(TOKEN)
    if not token:
        raise ValueError(f"{TOKEN} is not set; set it to a token that may write to {repo}")
    if constants.HF_HUB_OFFLINE:
        raise ValueError("HF_HUB_OFFLINE is set, and an upload needs a network; unset it")
    disable_progress_bars()
    api = HfApi(token=token)
    additions = [
        CommitOperationAdd(
            file.name, file.source if isinstance(file.source, bytes) else str(file.source)
        )
        for file in files
    ]
    try:
        api.create_repo(repo, repo_type=kind, private=private, exist_ok=True)
        if private and not api.repo_info(repo, repo_type=kind).private:
            raise ValueError(
                f"config key `upload.private`: {repo} is there already and is public; name another "
                "repository, or set `private: false`"
            )
        commit = api.create_commit(repo, additions, commit_message=message, repo_type=kind)
    # OSError: a file that cannot be read, among others.
    except (errors.HTTPError, OSError) as error:
        reason = hide_secrets(" ".join(str(error).split()))[:300]
        response = getattr(error, "response", None)
        if response is not None and response.status_code in (401, 403):
            reason = f"{TOKEN} may not write there; use a token that may"
        raise ValueError(f"{repo}: was not uploaded: {reason}") from error
    return str(commit.commit_url)
