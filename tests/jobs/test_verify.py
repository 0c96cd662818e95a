"""Records of results: what is found when a file was edited, lost, added or made anew."""

import json
import os
import platform
import re
import shutil
from datetime import datetime
from importlib import metadata
from pathlib import Path

import pytest
from rule_scripts import rule_job

from weak_to_strong.jobs import records
from weak_to_strong.jobs.records import leave_record, read_records, start_record
from weak_to_strong.jobs.verify import describe, find_differences, find_stale, ro_crate
from weak_to_strong.tables.files import hash_file, write_json

ENDED = 1_000_000_000.0
TABLE, MODEL = "results/x/votes/votes.parquet", "results/x/models/a/model"


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
    leave("majority_vote", [TABLE], ["data/a.jsonl"])
    leave("train", [MODEL], [TABLE])
    return tmp_path / "results/x"


def a_job(rule, outputs, inputs=(), seed=0, manifest=None, **named):
    """A job with a log; `named` are inputs with a name of their own."""
    return rule_job(
        rule,
        {"files": inputs, **named},
        {"files": outputs, **({"manifest": manifest} if manifest else {})},
        {"settings": {"data_seed": seed}, "rounds": [{"seed": 5}]},
        log=f"results/x/logs/{rule}.log",
        wildcards={"chain": "a"},
    )


def leave(rule, outputs, inputs=(), **facts):
    """The record of a job that has just made its outputs."""
    job = a_job(rule, outputs, inputs, **facts)
    leave_record(job, "snakemake --cores 2", start_record(job), {"wall_seconds": 1.5})


def record():
    return describe(Path("results/x"), {"config": {}}, read_records(Path("results/x/logs")))


def wrong(before):
    return find_differences(
        before, record(), Path("results/x"), read_records(Path("results/x/logs"))
    )


def test_a_file_has_its_job_and_what_that_read(results):
    files = record()["files"]
    assert list(files) == ["models/a/model/w.safetensors", "votes/votes.parquet"]
    votes = files["votes/votes.parquet"]
    assert votes["rule"] == "majority_vote"
    assert votes["sha256"] == hash_file(results / "votes/votes.parquet")
    assert votes["inputs"] == {"data/a.jsonl": hash_file(results.parents[1] / "data/a.jsonl")}
    weights = files["models/a/model/w.safetensors"]
    assert weights["rule"] == "train"
    assert weights["inputs"] == {TABLE: votes["sha256"]}


def test_untouched_results_have_no_problem(results):
    assert wrong(record()) == wrong({"files": {}}) == []


def test_an_edited_file_is_named(results):
    before = record()
    put(results / "votes/votes.parquet", "other")
    assert wrong(before) == ["votes/votes.parquet: differs from what its job made"]


def test_a_file_that_a_job_made_anew_is_no_problem(results):
    before = record()
    put(results / "votes/votes.parquet", "other", ENDED + 50)
    leave("majority_vote", [TABLE])
    leave("train", [MODEL], [TABLE])
    assert wrong(before) == []


def test_an_edit_before_the_first_record_shows_by_its_contents(results):
    leave("majority_vote", [TABLE])
    assert wrong({"files": {}}) == []
    put(results / "votes/votes.parquet", "other")  # its time is that of the job
    assert wrong({"files": {}}) == ["votes/votes.parquet: differs from what its job made"]
    assert wrong(record()) == ["votes/votes.parquet: differs from what its job made"]
    leave("majority_vote", [TABLE])  # the job has run again
    leave("train", [MODEL], [TABLE])
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
    assert entry["params"] == ["[{'seed': 5}]", "{'data_seed': 42}"]
    assert 0 < entry["started"] <= entry["ended"]


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


def test_inputs_are_those_of_the_job_and_not_of_now(results):
    raw = results.parents[1] / "data/a.jsonl"
    read = hash_file(raw)
    leave("majority_vote", [TABLE], ["data/a.jsonl"])
    leave("train", [MODEL], [TABLE])
    put(raw, "replaced")
    files = record()["files"]
    assert files["votes/votes.parquet"]["inputs"] == {"data/a.jsonl": read}
    entities = {entity["@id"]: entity for entity in ro_crate(record(), "x")["@graph"]}
    assert entities["#outside/data/a.jsonl"]["sha256"] == read
    line = (
        "data/a.jsonl: has other contents than when majority_vote used it; `touch` it and run "
        "again, or bring the old file back"
    )
    assert wrong(record()) == wrong({"files": {}}) == [line]
    raw.unlink()
    assert wrong({"files": {}}) == []


def test_what_was_made_from_a_table_that_is_another_now_is_outdated(results):
    leave("majority_vote", [TABLE])
    leave("train", [MODEL], [TABLE])
    put(results / "votes/votes.parquet", "other")
    assert wrong({"files": {}}) == ["votes/votes.parquet: differs from what its job made"]
    leave("majority_vote", [TABLE])
    [line] = wrong({"files": {}})
    assert line.startswith(f"{TABLE}: has other contents than when train used it; ")


def test_an_input_that_decides_nothing_may_change(results):
    path = "results/x/data/contamination.csv"
    put(Path(path), "0")
    leave("contamination", [path])
    leave("train", [MODEL], [TABLE], splits=path)
    put(Path(path), "1")
    leave("contamination", [path])
    assert [line for line in wrong(record()) if path in line] == []


def test_a_base_model_is_hashed_by_its_manifest_alone(results, monkeypatch):
    """Of a local model the files are inputs; those that a job has brought are its outputs."""
    manifest = "results/x/bases/a.json"
    write_json({"path": MODEL, "files": {"w.safetensors": "f" * 64}}, manifest)
    weights = f"{MODEL}/w.safetensors"
    monkeypatch.setattr(records, "hash_file", lambda path: Path(path).name)
    leave("base_model", [], manifest=manifest, model=weights)
    made = records.read_job_records(results / "logs")["base_model"]
    assert made["inputs"] == {weights: "f" * 64}
    assert made["outputs"] == {manifest: "a.json"}
    leave("base_model", [], manifest=manifest)
    made = records.read_job_records(results / "logs")["base_model"]
    assert made["inputs"] == {}
    assert made["outputs"] == {weights: "f" * 64, manifest: "a.json"}


@pytest.fixture
def metrics(results):
    """A small file with the record of its job, to be read by another one."""
    path = "results/x/report/metrics.csv"
    put(Path(path), "value\n0.5\n")
    leave("metrics", [path])
    return path


def test_a_changed_digit_is_refused_when_the_file_is_read(metrics):
    leave("plots", ["results/x/report/plots"], [metrics])
    put(Path(metrics), "value\n0.6\n")
    remedy = "logs/metrics.json); delete the file and run again"
    with pytest.raises(ValueError, match=f"^{re.escape(metrics)}: is not as .*{re.escape(remedy)}"):
        leave("plots", ["results/x/report/plots"], [metrics])
    Path("results/x/logs/metrics.json").unlink()  # the edit is meant
    leave("plots", ["results/x/report/plots"], [metrics])


def test_a_changed_file_in_a_folder_is_refused(results):
    leave("embedded_tokenizer", [MODEL])
    start_record(a_job("pretrain", ["results/x/a"], [MODEL]))
    put(results / "models/a/model/w.safetensors", "other")
    with pytest.raises(ValueError, match=rf"^{MODEL}/w\.safetensors: is not as its job made it"):
        start_record(a_job("pretrain", ["results/x/a"], [MODEL]))


def test_what_has_no_record_is_not_checked(metrics):
    """A run has such files made again before it starts jobs (`metadata.py`)."""
    Path("results/x/logs/metrics.json").unlink()
    put(Path(metrics), "other")
    start_record(a_job("plots", ["results/x/report/plots"], [metrics, "data/a.jsonl"]))


def test_the_record_of_an_earlier_rule_is_not_taken(metrics):
    """As where a method is trained with SFT first, then with DPO: other rules make its rows."""
    put(Path(metrics), "other")
    leave("earlier", [metrics])
    os.utime("results/x/logs/earlier.json", (ENDED, ENDED))  # as in a copy of the folder
    start_record(a_job("plots", ["results/x/report/plots"], [metrics]))
    assert read_records(Path("results/x/logs"))[metrics]["job"] == "earlier"


def test_a_job_that_ends_early_leaves_no_old_record(metrics):
    """Its outputs may be there, as with `--keep-incomplete`, and those are others."""
    start_record(a_job("metrics", [metrics]))
    put(Path(metrics), "other")
    start_record(a_job("plots", ["results/x/report/plots"], [metrics]))


def test_a_record_that_goes_while_others_are_read_is_none(metrics, monkeypatch):
    def read(file):
        file.unlink()
        raise ValueError("no such file")

    monkeypatch.setattr(records, "read_json", read)
    assert read_records(Path("results/x/logs")) == {}


def test_a_file_lost_before_the_first_record_is_named(results):
    leave("majority_vote", [TABLE])
    (results / "votes/votes.parquet").unlink()
    assert "votes/votes.parquet: is recorded and is gone" in wrong({"files": {}})


def test_a_moved_folder_is_known_by_its_own_records(results):
    leave("majority_vote", [TABLE], ["data/a.jsonl"])
    leave("train", [MODEL], [TABLE])
    before = record()
    shutil.rmtree("data")
    assert wrong(before) == wrong({"files": {}}) == []
    actions = {
        entity["name"]: entity for entity in ro_crate(record(), "x")["@graph"] if "object" in entity
    }
    assert actions["train"]["object"] == [{"@id": "votes/votes.parquet"}]
    assert actions["majority_vote"]["object"] == [{"@id": "#outside/data/a.jsonl"}]
    put(results / "votes/votes.parquet", "other")
    put(results / "votes/more.parquet", "more")
    assert wrong({"files": {}}) == [
        "votes/votes.parquet: differs from what its job made",
        "votes/more.parquet: was made by no job",
    ]


def test_missing_and_added_files_are_named(results):
    before = record()
    (results / "votes/votes.parquet").unlink()
    put(results / "votes/more.parquet", "more")
    assert wrong(before) == [
        "votes/votes.parquet: is recorded and is gone",
        "votes/more.parquet: was made by no job",
    ]


def test_a_crate_names_every_file_and_job(results):
    crate = ro_crate(record(), "x")
    entities = {entity["@id"]: entity for entity in crate["@graph"]}
    assert entities["ro-crate-metadata.json"]["about"] == {"@id": "./"}
    parts = [part["@id"] for part in entities["./"]["hasPart"]]
    assert parts == ["models/a/model/w.safetensors", "votes/votes.parquet"]
    jobs = [entity for entity in entities.values() if entity["@type"] == "CreateAction"]
    assert [job["name"] for job in jobs] == ["train", "majority_vote"]
    ended = record()["files"]["votes/votes.parquet"]["ended"]
    assert datetime.fromisoformat(entities["./"]["datePublished"]).timestamp() == int(ended)
    assert "license" not in entities["./"]  # the results are the user's
    for entity in entities.values():  # every reference leads somewhere
        for value in entity.values():
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, dict) and not item["@id"].startswith("http"):
                    assert item["@id"] in entities


def test_identifiers_of_a_crate_are_encoded(results):
    path = "results/x/votes/a b#1%.csv"
    put(Path(path), "1")
    put(Path("data/a b#1.jsonl"), "raw")
    leave("score", [path], ["data/a b#1.jsonl"])
    entities = {entity["@id"]: entity for entity in ro_crate(record(), "x")["@graph"]}
    assert entities["votes/a%20b%231%25.csv"]["name"] == "votes/a b#1%.csv"
    assert entities["#outside/data/a%20b%231.jsonl"]["name"] == "data/a b#1.jsonl"
    assert {"@id": "votes/a%20b%231%25.csv"} in entities["./"]["hasPart"]
    [job] = [
        entity
        for entity in entities.values()
        if entity.get("name") == "score" and "object" in entity
    ]
    assert job["object"] == [{"@id": "#outside/data/a%20b%231.jsonl"}]
    assert job["result"] == [{"@id": "votes/a%20b%231%25.csv"}]


def test_a_job_with_other_parameters_or_inputs_than_now_is_stale(results):
    def present(**changes):
        def facts(rule, wildcards):
            assert wildcards == {"chain": "a"}
            job = records.read_job_records(results / "logs")[rule]
            return changes.get(rule, (job["params"], job["input_paths"]))

        return find_stale(Path("results/x"), facts)

    params = ["[{'seed': 5}]", "{'data_seed': 0}"]
    assert present() == []
    assert present(train=(["[{'seed': 6}]", params[1]], [TABLE])) == [
        "train: was made with other parameters or other code; run again"
    ]
    assert present(train=(params, [])) == ["train: was made from other inputs; run again"]
    assert present(train=None) == []  # the configuration has no such job
    leave("orpo", [MODEL], [TABLE])
    assert present(train=(params, [])) == []  # another job has made the same files since


def test_a_record_of_an_older_version_shows_nothing(results):
    file = results / "logs/train.json"
    old = json.loads(file.read_text())
    del old["params"], old["input_paths"], old["output_paths"], old["started"], old["ended"]
    file.write_text(json.dumps(old))
    assert find_stale(Path("results/x"), lambda *_: None) == [
        "train: an older version made it and recorded no parameters; run again"
    ]
    assert "datePublished" in ro_crate(record(), "x")["@graph"][1]
