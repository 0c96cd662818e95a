"""`snakemake verify`: records results once, then names what is no longer as a job made it."""

from project import SECRET, files_with

from weak_to_strong.tables import read_json

TABLE = "results/test/data/dice/test.parquet"


def test_verify(fresh_project):
    early = fresh_project.snakemake("verify")
    assert early.returncode != 0
    assert "there are no results; run the experiment first" in early.stderr

    fresh_project.run(TABLE, "--notemp")
    assert "files recorded" in fresh_project.run("verify")
    record = read_json(fresh_project.result("provenance.json"))
    entry = record["files"]["data/dice/test.parquet"]
    assert entry["rule"] == "problems"
    assert list(entry["inputs"]) == ["data/test.jsonl"]
    assert fresh_project.result("ro-crate-metadata.json").exists()
    assert files_with(SECRET, fresh_project.folder) == []
    # Verifying runs nothing else and makes nothing else rerun.
    assert fresh_project.planned(TABLE) == set()
    assert "are as their jobs made them" in fresh_project.run("verify")

    path = fresh_project.path(TABLE)
    path.write_bytes(path.read_bytes() + b"x")
    edited = fresh_project.snakemake("verify")
    assert edited.returncode != 0
    assert "data/dice/test.parquet: differs from its record" in edited.stderr
    assert "Traceback" not in edited.stderr
    assert read_json(fresh_project.result("provenance.json")) == record
