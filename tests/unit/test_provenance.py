"""Records of results: what is found when a file was edited, lost, added or made anew."""

import base64
import json
import os
from pathlib import Path

import pytest

from weak_to_strong.provenance import compare, describe, problems_of, read_jobs, ro_crate
from weak_to_strong.tables import hash_file

ENDED = 1_000_000_000.0
TABLE, MODEL = "results/x/votes/votes.parquet", "results/x/models/a/model"


def note(folder, path, **record):
    """A record as Snakemake writes it."""
    name = base64.b64encode(path.encode(), altchars=b"-_").decode()
    place = folder / ".snakemake/metadata" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    facts = {"incomplete": False, "starttime": ENDED - 9, "endtime": ENDED, "params": ["'1'"]}
    place.write_text(json.dumps({**facts, **record}))


def put(path, text, when=ENDED):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (when, when))


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / TABLE, "votes")
    put(tmp_path / MODEL / "w.safetensors", "weights")
    put(tmp_path / "results/x/logs/a.log", "said")
    put(tmp_path / "results/x/votes/.votes.part", "unfinished")
    put(tmp_path / "data/a.jsonl", "raw")
    note(tmp_path, TABLE, rule="majority_vote", input=["data/a.jsonl"])
    note(tmp_path, MODEL, rule="train", input=[TABLE, "data/gone.jsonl"])
    return tmp_path / "results/x"


def record():
    return describe(Path("results/x"), read_jobs(Path(".snakemake/metadata")), {"config": {}})


def wrong(before):
    return problems_of(compare(before, record(), Path("results/x")))


def test_a_file_has_its_job_and_what_that_read(results):
    files = record()["files"]
    assert list(files) == ["models/a/model/w.safetensors", "votes/votes.parquet"]
    votes = files["votes/votes.parquet"]
    assert votes["rule"] == "majority_vote"
    assert votes["sha256"] == hash_file(results / "votes/votes.parquet")
    assert votes["inputs"] == {"data/a.jsonl": hash_file(results.parents[1] / "data/a.jsonl")}
    weights = files["models/a/model/w.safetensors"]
    assert weights["rule"] == "train"
    assert weights["inputs"] == {TABLE: votes["sha256"], "data/gone.jsonl": None}


def test_untouched_results_have_no_problem(results):
    assert wrong(record()) == wrong({"files": {}}) == []


def test_an_edited_file_is_named(results):
    before = record()
    put(results / "votes/votes.parquet", "other")
    assert wrong(before) == [
        "votes/votes.parquet: differs from its record, and no job has made it anew"
    ]


def test_a_file_that_a_job_made_anew_is_no_problem(results):
    before = record()
    put(results / "votes/votes.parquet", "other", ENDED + 50)
    note(results.parents[1], TABLE, rule="majority_vote", input=[], endtime=ENDED + 50)
    assert wrong(before) == []


def test_an_edit_before_the_first_record_shows_by_its_time(results):
    put(results / "votes/votes.parquet", "other", ENDED + 3600)
    assert wrong({"files": {}}) == ["votes/votes.parquet: was written after its job had ended"]


def test_missing_and_added_files_are_named(results):
    before = record()
    (results / "votes/votes.parquet").unlink()
    put(results / "votes/more.parquet", "more")
    assert wrong(before) == [
        "votes/votes.parquet: is recorded and is gone",
        "votes/more.parquet: was made by no job",
    ]


def test_long_names_are_read(results):
    folder = results.parents[1] / ".snakemake/metadata"
    path = "results/x/" + "long/" * 50 + "a.csv"
    name = base64.b64encode(path.encode(), altchars=b"-_").decode()
    place = folder / f"@{name[:200]}" / name[200:]
    place.parent.mkdir()
    place.write_text(json.dumps({"rule": "score"}))
    assert read_jobs(folder)[path] == {"rule": "score"}


def test_a_crate_names_every_file_and_job(results):
    crate = ro_crate(record(), "x")
    entities = {entity["@id"]: entity for entity in crate["@graph"]}
    assert entities["ro-crate-metadata.json"]["about"] == {"@id": "./"}
    parts = [part["@id"] for part in entities["./"]["hasPart"]]
    assert parts == ["models/a/model/w.safetensors", "votes/votes.parquet"]
    jobs = [entity for entity in entities.values() if entity["@type"] == "CreateAction"]
    assert [job["name"] for job in jobs] == ["train", "majority_vote"]
    for entity in entities.values():  # every reference leads somewhere
        for value in entity.values():
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, dict) and not each["@id"].startswith("http"):
                    assert each["@id"] in entities
