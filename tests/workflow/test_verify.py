"""`snakemake verify`: records results once, then names what is no longer as a job made it."""

import os

from planted import MARK, files_with

from weak_to_strong.tables import read_json

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
    assert list(entry["inputs"]) == ["data/test.jsonl"]
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
