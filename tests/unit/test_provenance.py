"""Records of results: what is found when a file was edited, lost, added or made anew."""

import base64
import json
import os
import platform
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.iocontainers import OutputFiles, Params, Wildcards

from weak_to_strong.provenance import compare, describe, problems_of, read_jobs, ro_crate
from weak_to_strong.records import leave_record, read_records
from weak_to_strong.tables import hash_file, write_json

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


def leave(rule, outputs, seed=0, manifest=None):
    """The record of a job that has just made its outputs."""
    job = SimpleNamespace(
        rule=rule,
        threads=1,
        wildcards=Wildcards(fromdict={"chain": "a"}),
        params=Params(fromdict={"settings": {"data_seed": seed}, "rounds": [{"seed": 5}]}),
        log=[f"results/x/logs/{rule}.log"],
        output=OutputFiles(outputs, fromdict={"manifest": manifest} if manifest else {}),
    )
    leave_record(job, "snakemake --cores 2", {"wall_seconds": 1.5})


def record():
    jobs = read_jobs(Path(".snakemake/metadata"))
    return describe(Path("results/x"), jobs, {"config": {}}, read_records(Path("results/x/logs")))


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
    assert wrong(before) == ["votes/votes.parquet: differs from what its job made"]


def test_a_file_that_a_job_made_anew_is_no_problem(results):
    before = record()
    put(results / "votes/votes.parquet", "other", ENDED + 50)
    note(results.parents[1], TABLE, rule="majority_vote", input=[], endtime=ENDED + 50)
    assert wrong(before) == []


def test_an_edit_before_the_first_record_shows_by_its_time(results):
    put(results / "votes/votes.parquet", "other", ENDED + 3600)
    assert wrong({"files": {}}) == ["votes/votes.parquet: was written after its job had ended"]


def test_an_edit_before_the_first_record_shows_by_its_contents(results):
    leave("majority_vote", [TABLE])
    assert wrong({"files": {}}) == []
    put(results / "votes/votes.parquet", "other")  # its time is that of the job
    assert wrong({"files": {}}) == ["votes/votes.parquet: differs from what its job made"]
    assert wrong(record()) == ["votes/votes.parquet: differs from what its job made"]
    leave("majority_vote", [TABLE])  # the job has run again
    assert wrong({"files": {}}) == []


def test_a_file_put_into_a_model_folder_is_named(results):
    leave("train", [MODEL])
    put(results / "models/a/model/more.safetensors", "more")
    assert wrong({"files": {}}) == ["models/a/model/more.safetensors: was made by no job"]


def test_a_job_leaves_how_its_files_came_about(results):
    leave("majority_vote", [TABLE], seed=42)
    entry = record()["files"]["votes/votes.parquet"]
    assert entry["command"] == "snakemake --cores 2"
    assert entry["seeds"] == {"settings.data_seed": 42, "rounds.0.seed": 5}
    assert entry["versions"]["python"] == platform.python_version()
    assert entry["versions"]["polars"] == metadata.version("polars")
    assert "vllm" not in entry["versions"]  # not loaded here
    assert entry["made"] == entry["sha256"]
    assert "command" not in record()["files"]["models/a/model/w.safetensors"]


@pytest.mark.parametrize("place", [{"path": MODEL}, {}])
def test_hashes_of_a_model_are_those_of_a_manifest_that_says_where_it_is(results, place):
    manifest = "results/x/models/a/manifest.json"
    write_json({"files": {"w.safetensors": "f" * 64}, **place}, manifest)
    leave("train", [MODEL], manifest=manifest)
    made = read_records(results / "logs")[f"{MODEL}/w.safetensors"]["outputs"]
    weights = results / "models/a/model/w.safetensors"
    assert made == {
        f"{MODEL}/w.safetensors": "f" * 64 if place else hash_file(weights),
        manifest: hash_file(results / "models/a/manifest.json"),
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not a readable JSON file"),
        ("[]", "is not the record of a job"),
        ('{"rule": "train", "outputs": {}}', "is not the record of a job"),
    ],
)
def test_a_damaged_record_is_named(results, text, reason):
    leave("train", [MODEL])
    (results / "logs/train.json").write_text(text)
    with pytest.raises(ValueError, match=rf"logs/train\.json: {reason}"):
        record()


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
