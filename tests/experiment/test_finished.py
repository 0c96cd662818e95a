"""Finished experiments are found by name; any other ends in one line that names it and the fix."""

from pathlib import Path

import polars as pl
import pytest
from finished_experiments import JOBS, SCORES_FILE, record_jobs, write_experiment

from weak_to_strong.experiment.configuration import ConfigError
from weak_to_strong.experiment.finished import check_unchanged, find_finished
from weak_to_strong.tables.files import hash_file

ROOT = Path("results/a")


@pytest.fixture(autouse=True)
def experiment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_experiment(ROOT)


def refusal(*names: str) -> str:
    with pytest.raises(ConfigError) as caught:
        find_finished(names)
    message = str(caught.value)
    assert message.startswith("config key `experiments`: ")
    assert "\n" not in message
    return message


def test_the_files_of_an_experiment_with_their_contents():
    (found,) = find_finished(["a"])
    assert found["name"] == "a"
    assert found["sha256"].keys() == {
        f"{ROOT}/{file}"
        for file in (
            *("report/metrics.csv", "report/models.csv", SCORES_FILE, "data/sums/test.parquet"),
            "generations/evaluation/sums/small.parquet",
        )
    }
    assert all(digest == hash_file(path) for path, digest in found["sha256"].items())


def test_no_name_is_refused():
    assert "names no experiment; name finished ones, as in `--config" in refusal()


def test_a_missing_experiment_is_named():
    assert "there is no results/b (in " in refusal("a", "b")
    assert "correct the name, or run that experiment first" in refusal("b")


@pytest.mark.parametrize("file", ["report/index.html", "report/metrics.csv"])
def test_an_experiment_without_report_is_not_finished(file):
    (ROOT / file).unlink()
    assert f"a is not finished ({ROOT}/{file} is missing); run it" in refusal("a")


@pytest.mark.parametrize("file", ["report/models.csv", SCORES_FILE])
def test_a_missing_table_is_named(file):
    (ROOT / file).unlink()
    assert (
        f"a is unfinished, or was made with another version of the tables ({ROOT}/{file} is mis"
        in (refusal("a"))
    )


def test_tables_of_another_version_are_refused():
    path = ROOT / "report/metrics.csv"
    pl.read_csv(path).drop("detectable").write_csv(path)
    assert f"another version of the tables ({path} has other columns); run it" in refusal("a")


@pytest.mark.parametrize("file", ["report/models.csv", "data/sums/test.parquet"])
@pytest.mark.parametrize("content", [b"", b"\xff\x00PAR1"])
def test_a_damaged_table_is_named(file, content):
    (ROOT / file).write_bytes(content)
    assert f"({ROOT}/{file} " in refusal("a")


@pytest.mark.parametrize("job", ["report", "score/sums", "problems/sums/test"])
def test_a_job_that_has_not_ended_leaves_the_experiment_unfinished(job):
    (ROOT / f"logs/{job}.json").unlink()  # as a job does when it starts
    assert "a is not finished (the job that makes results/a/" in refusal("a")


def test_a_result_that_is_newer_than_the_report_leaves_it_unfinished():
    path = ROOT / SCORES_FILE
    frame = pl.read_parquet(path)
    frame.with_columns(paper=pl.lit("wrong")).write_parquet(path)
    record_jobs(ROOT, [job for job in JOBS if job[0] == "score/sums"])
    assert f"a is not finished (the job that makes {path} has not ended, or" in refusal("a")


def test_a_file_that_changed_since_the_plan_is_named():
    (found,) = find_finished(["a"])
    check_unchanged(found["sha256"])
    (ROOT / SCORES_FILE).write_bytes(b"other")
    with pytest.raises(ValueError, match=f"{SCORES_FILE}: is not as its job made it, or has chang"):
        check_unchanged(found["sha256"])
