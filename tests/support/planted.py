"""Secrets for the environment of a run. No file that the run writes may contain one of them."""

from __future__ import annotations

from pathlib import Path

import polars as pl

#: Every secret contains this text, and no other text does. No secret is a part of another one:
#: hiding the longer one would hide both.
MARK = "plantedplantedplantedplanted"
SECRETS = {
    "HF_TOKEN": f"hf_{MARK}00",
    "HUGGING_FACE_HUB_TOKEN": f"hf_{MARK}01",
    "WANDB_API_KEY": f"{MARK}02",
    "AWS_SECRET_ACCESS_KEY": f"/{MARK}/03+",
    "GITHUB_PAT": f"ghp_{MARK}04",
    "OPENAI_KEY": f"sk-{MARK}05",
    "WANDB_KEY": f"{MARK}06",
    "SSH_PRIVATE_KEY": f"---BEGIN KEY---\n{MARK}  07\n\tb3{MARK}08\n---END KEY---\n",
    "DB_PASS": f"it's 1 {MARK}09",
    "MYSQL_PWD": f'"{MARK}10',
    "SSHPASS": f"{MARK}11",
    "JWT": f"eyJ0.{MARK}.12",
    "BEARER": f"Bearer {MARK}13",
    "REGISTRY_AUTH": f"dXNlcjo{MARK}14=",
    "SESSION_COOKIE": f"id={MARK}15; Secure",
    "DATABASE_URL": f"postgres://someone:{MARK}16@127.0.0.1:9/x",
    "PIP_EXTRA_INDEX_URL": f"https://glpat-{MARK}17@127.0.0.1:9/a https://127.0.0.1:9/b",
}


def files_with(text: str, folder: Path) -> list[str]:
    """Files of a folder that contain `text`, also hidden files and compressed tables."""
    paths = []
    for file in sorted(folder.rglob("*")):
        if file.is_file() and (
            text.encode() in file.read_bytes()
            or (file.suffix == ".parquet" and text in pl.read_parquet(file).write_json())
        ):
            paths.append(file.relative_to(folder).as_posix())
    return paths
