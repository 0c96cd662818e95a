"""`snakemake verify`: records results once, then names what is no longer as a job made it."""

import os
import shutil

import pytest
from planted import MARK, files_with

from weak_to_strong.tables.files import hash_file, read_json

pytestmark = pytest.mark.slow

TABLE = "results/test/data/dice/test.parquet"


def test_verify(fresh_project):
    early = fresh_project.snakemake("verify")
    assert early.returncode != 0
    assert "there are no results; run the experiment first" in early.stderr

    fresh_project.run(TABLE, "--notemp")
    path = fresh_project.path(TABLE)
    made, when = path.read_bytes(), path.stat().st_mtime
    path.write_bytes(made + b"x")
    os.utime(path, (when, when))  # nothing but its contents tells that it was edited
    edited = fresh_project.snakemake("verify")
    assert edited.returncode != 0
    assert "data/dice/test.parquet: differs from what its job made" in edited.stderr
    path.write_bytes(made)
    assert "files recorded" in fresh_project.run("verify")
    record = read_json(fresh_project.result("provenance.json"))
    entry = record["files"]["data/dice/test.parquet"]
    assert entry["rule"] == "problems"
    assert entry["command"].startswith(f"snakemake --cores 2 {TABLE} --notemp --configfile")
    assert "polars" in entry["versions"]
    assert fresh_project.result("ro-crate-metadata.json").exists()
    assert files_with(MARK, fresh_project.folder) == []
    # Verifying runs nothing else and makes nothing else rerun.
    assert fresh_project.planned(TABLE) == set()
    assert "are as their jobs made them" in fresh_project.run("verify")

    path.write_bytes(made + b"x")
    edited = fresh_project.snakemake("verify")
    assert edited.returncode != 0
    assert "data/dice/test.parquet: differs from what its job made" in edited.stderr
    assert "Traceback" not in edited.stderr
    assert read_json(fresh_project.result("provenance.json")) == record
    path.write_bytes(made)

    raw = fresh_project.path("data/test.jsonl")
    read, when = raw.read_bytes(), raw.stat().st_mtime
    assert entry["inputs"] == {"data/test.jsonl": hash_file(raw)}
    raw.write_bytes(read + b"\n")
    os.utime(raw, (when, when))
    replaced = fresh_project.snakemake("verify")
    assert replaced.returncode != 0
    assert "data/test.jsonl: has other contents than when problems/dice/test" in replaced.stderr
    raw.write_bytes(read)

    shutil.rmtree(fresh_project.path(".snakemake"))
    assert "are as their jobs made them" in fresh_project.run("verify")
    path.unlink()
    assert "test.parquet: is recorded and is gone" in fresh_project.snakemake("verify").stderr
