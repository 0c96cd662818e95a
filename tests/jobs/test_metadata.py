"""What Snakemake's metadata becomes, from the records and the files of a results folder."""

import shutil
import time
from pathlib import Path

import pytest
from rule_scripts import rule_job

from weak_to_strong.jobs.metadata import follow_records
from weak_to_strong.jobs.records import leave_record, start_record
from weak_to_strong.jobs.snakemake_adapter import (
    INCOMPLETE,
    mark_incomplete,
    metadata_file,
    read_metadata,
    write_metadata,
)
from weak_to_strong.tables.files import hash_file, read_json, write_json

ROOT = Path("results/x")
RAW, TABLE, MODEL = "data/raw.jsonl", "results/x/votes.parquet", "results/x/a/model"
MANIFEST = "results/x/a/manifest.json"


def put(path, text):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def leave(rule, outputs, inputs, limit=1):
    job = rule_job(
        rule,
        {"files": inputs},
        {"files": outputs},
        {"limit": limit},
        log=f"results/x/logs/{rule}.log",
    )
    leave_record(job, "snakemake", start_record(job), {})


def marked():
    """The outputs that Snakemake will make again, of those that the tests name."""
    outputs = [TABLE, MODEL, MANIFEST, f"{MODEL}/weights", f"{MODEL}/notes.txt"]
    return {output for output in outputs if metadata_file(output, INCOMPLETE).exists()}


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(RAW, "raw")
    put(TABLE, "votes")
    put(f"{MODEL}/weights", "weights")
    put(MANIFEST, "{}")
    leave("vote", [TABLE], [RAW])
    leave("train", [MODEL, MANIFEST], [TABLE], limit=2)


def test_lost_metadata_comes_from_the_records(capsys):
    follow_records(ROOT)
    table, model = read_metadata(TABLE), read_metadata(MODEL)
    assert (table["rule"], table["params"], table["input"]) == ("vote", ["1"], [RAW])
    assert table["log"] == ["results/x/logs/vote.log"]
    assert table["input_checksums"] == {RAW: f"sha256:{hash_file(RAW)}"}
    assert (model["rule"], model["params"], model["input"]) == ("train", ["2"], [TABLE])
    assert read_metadata(MANIFEST) == model
    assert marked() == set()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("facts", [{"params": ["9"]}, {"input": []}])
def test_metadata_that_differs_is_replaced(facts):
    """As after `--touch`: Snakemake has noted what never made the file."""
    follow_records(ROOT)
    before = read_metadata(TABLE)
    write_metadata(TABLE, {**facts, "software_stack_hash": "kept"})
    follow_records(ROOT)
    assert read_metadata(TABLE) == {**before, "software_stack_hash": "kept"}


def test_metadata_that_agrees_is_not_written():
    follow_records(ROOT)
    file = metadata_file(TABLE)
    before = file.stat().st_mtime_ns
    follow_records(ROOT)
    assert file.stat().st_mtime_ns == before


def test_damaged_metadata_is_replaced():
    follow_records(ROOT)
    before = read_metadata(TABLE)
    metadata_file(TABLE).write_text("{")
    follow_records(ROOT)
    assert read_metadata(TABLE) == before


def test_what_is_gone_gets_no_metadata():
    Path(TABLE).unlink()
    follow_records(ROOT)
    assert read_metadata(TABLE) == {}
    assert marked() == set()


@pytest.mark.parametrize("old", [False, True])
def test_files_without_a_record_are_made_again(capsys, old):
    file = Path("results/x/logs/train.json")
    record = read_json(file)
    if old:  # of a version that recorded no parameters
        write_json({key: record[key] for key in ("rule", "inputs", "outputs", "cost")}, file)
    else:
        file.unlink()
    follow_records(ROOT)
    assert marked() == {MODEL, f"{MODEL}/weights", MANIFEST}
    assert capsys.readouterr().err == (
        f"{MANIFEST} and others: the records in results/x/logs do not show that this is up to "
        "date; what the run needs of it is made again.\n"
    )
    follow_records(ROOT)
    assert capsys.readouterr().err == ""  # said once


def test_a_copied_folder_has_no_record_of_its_own():
    shutil.copytree(ROOT, "results/y")
    follow_records(Path("results/y"))
    copies = [path.replace("/x/", "/y/") for path in (TABLE, MODEL, MANIFEST)]
    assert all(metadata_file(path, INCOMPLETE).exists() for path in copies)
    assert all(read_metadata(path) == {} for path in copies)
    follow_records(ROOT)
    assert marked() == set()


def test_a_stray_file_in_a_recorded_folder_makes_nothing_again():
    put(f"{MODEL}/notes.txt", "a note")
    follow_records(ROOT)
    assert marked() == set()


def test_what_was_made_from_replaced_results_is_made_again():
    put(TABLE, "other votes")
    leave("vote", [TABLE], [RAW])
    follow_records(ROOT)
    assert marked() == {MODEL, MANIFEST}


def test_what_touch_has_given_other_inputs_is_made_again():
    follow_records(ROOT)
    write_metadata(TABLE, {"input_checksums": {RAW: "sha256:other"}})
    follow_records(ROOT)
    assert marked() == {TABLE}


def test_a_later_job_of_another_rule_counts():
    leave("other_vote", [TABLE], [RAW], limit=7)
    follow_records(ROOT)
    assert read_metadata(TABLE)["rule"] == "other_vote"
    assert marked() == set()


def test_marks_of_a_running_job_stay_as_they_are():
    mark_incomplete(TABLE)
    before = metadata_file(TABLE, INCOMPLETE).stat().st_mtime_ns
    Path("results/x/logs/vote.json").unlink()
    follow_records(ROOT)
    assert metadata_file(TABLE, INCOMPLETE).stat().st_mtime_ns == before


def test_a_damaged_record_is_named():
    put("results/x/logs/vote.json", "{")
    with pytest.raises(ValueError, match=r"^results/x/logs/vote\.json: not a readable JSON file"):
        follow_records(ROOT)


@pytest.mark.parametrize(
    "name", ["inputs", "params", "input_paths", "output_paths", "started", "ended", "wildcards"]
)
@pytest.mark.parametrize("value", [None, "x", [5]], ids=str)
def test_a_record_with_a_value_of_another_kind_is_named(name, value):
    """Such as one of another program, or one that was edited."""
    record = Path("results/x/logs/vote.json")
    write_json({**read_json(record), name: value}, record)
    with pytest.raises(ValueError, match=r"vote\.json: is not the record of a job"):
        follow_records(ROOT)


def test_no_folder_is_no_fault():
    follow_records(Path("results/none"))
    assert not Path(".snakemake").exists()


def test_a_start_stays_fast():
    """300 jobs with records of 20 kB take less than 0.3 s of a core."""
    for number in range(300):
        put(f"results/y/{number}/table", str(number))
    record = read_json("results/x/logs/vote.json")
    for number in range(300):
        path = f"results/y/{number}/table"
        own = {"output_paths": [path], "outputs": {path: "0" * 64}, "params": ["x" * 20_000]}
        write_json({**record, **own}, Path(f"results/y/logs/vote/{number}.json"))
    follow_records(Path("results/y"))
    start = time.process_time()
    follow_records(Path("results/y"))
    seconds = time.process_time() - start
    print(f"{seconds:.3f} s")
    assert seconds < 0.3
