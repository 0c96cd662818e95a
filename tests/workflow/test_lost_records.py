"""Without Snakemake's own folder, after a copy and after `--touch`: no stale result passes."""

import os
import shutil

import polars as pl
import pytest
from project import changed, jobs
from random_study import CHAIN
from test_reruns import PREFERENCES

from weak_to_strong.jobs.records import read_job_records
from weak_to_strong.jobs.snakemake_adapter import read_metadata

pytestmark = pytest.mark.slow

SCORES = "scores/dice.parquet"
PAIRS = f"results/test/models/{CHAIN}/dpo-0/rows.parquet"


@pytest.fixture
def lost(project_copy):
    """The finished project, after its folder `.snakemake` was removed."""
    shutil.rmtree(project_copy.path(".snakemake"))
    return project_copy


def test_records_and_snakemake_agree_on_parameters_and_inputs(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    records = read_job_records(project.result("logs"))
    assert len(records) > 40
    for job, record in records.items():
        assert record["output_paths"], job
        for output in record["output_paths"]:
            facts = read_metadata(output)
            assert facts["params"] == record["params"], job
            assert facts["input"] == record["input_paths"], job


def test_no_parameter_is_a_function_of_files_or_resources(project):
    """Snakemake leaves such parameters out of what it stores, and a record could not."""
    for file in project.path("rules").glob("*.smk"):
        for line in file.read_text().splitlines():
            assert "lambda wildcards, " not in line.replace("wildcards, attempt", ""), file


def test_without_metadata_nothing_and_only_what_has_changed_is_made_again(lost):
    assert "Nothing to be done" in lost.run()
    shutil.rmtree(lost.path(".snakemake"))
    os.utime(lost.path("data/train_2.jsonl"))  # the contents are compared, not the time
    os.utime(lost.result("data/dice/train_2.parquet"))
    assert lost.planned() == set()
    shutil.rmtree(lost.path(".snakemake"))
    lost.write_config(changed(lost.config, "pairs.min_confidence", 0.4))
    assert lost.planned() == PREFERENCES


def test_edited_scores_are_refused_without_metadata(lost):
    path = lost.result(SCORES)
    scores = pl.read_parquet(path)
    scores.with_columns(
        pl.when(pl.col(name) == "wrong").then(pl.lit("right")).otherwise(pl.col(name)).alias(name)
        for name in scores.columns
        if scores[name].dtype == pl.String
    ).write_parquet(path)
    done = lost.snakemake()
    assert done.returncode != 0
    assert f"results/test/{SCORES}: is not as its job made it" in done.stderr


def test_a_copied_folder_passes_for_no_other_experiment(project_copy):
    shutil.copytree(project_copy.result(""), project_copy.path("results/other"))
    config = changed(project_copy.config, "training.dpo.learning_rate", 2e-4)
    project_copy.write_config({**config, "experiment": "other"})
    output = project_copy.run("--dry-run")
    assert len(jobs(output)) == len(read_job_records(project_copy.result("logs")))
    assert "the records in results/other/logs do not show that this is up to date" in output
    verified = project_copy.snakemake("verify")
    assert verified.returncode != 0
    assert "was made by no job" in verified.stderr
    # Snakemake alone, without profiles/default, ends and names the files.
    alone = project_copy.snakemake("--dry-run", "--workflow-profile", "none")
    assert alone.returncode != 0
    assert "IncompleteFilesException" in alone.stderr + alone.stdout


def test_touched_results_keep_the_parameters_that_made_them(project_copy):
    project_copy.write_config(changed(project_copy.config, "pairs.min_confidence", 0.4))
    project_copy.run("--touch")
    verified = project_copy.snakemake("verify")
    assert verified.returncode != 0
    line = f"pairs/{CHAIN}/dpo-0: was made with other parameters or other code; run again"
    assert line in verified.stderr
    assert "Traceback" not in verified.stderr
    assert project_copy.planned() == PREFERENCES
    project_copy.write_config(project_copy.config)
    assert project_copy.planned() == set()
    project_copy.verify()


def test_touched_results_of_replaced_inputs_are_made_again(project_copy):
    """The pairs are made with other settings, and `--touch` keeps what was trained on the old."""
    project_copy.write_config(changed(project_copy.config, "pairs.min_confidence", 0.4))
    project_copy.run(PAIRS)
    project_copy.run("--touch")
    assert PREFERENCES - {f"Pairs of dpo: {CHAIN}"} == project_copy.planned()


def test_results_without_a_record_of_their_own_are_made_again(project_copy):
    (project_copy.result("logs") / f"pairs/{CHAIN}/dpo-0.json").unlink()
    orpo = {f"Pairs of orpo: {CHAIN}", f"Train orpo (iteration 0) of {CHAIN}"}
    assert project_copy.planned() == PREFERENCES - orpo
    stray = project_copy.result(f"models/{CHAIN}/orpo-0/model/notes.txt")
    stray.write_text("a note")
    assert project_copy.planned() == PREFERENCES - orpo


def test_code_that_changes_during_a_run_ends_the_job(project_copy):
    """A script that edits its own code stands for a user who does."""
    script = project_copy.path("scripts/plots.py")
    module = project_copy.path("scripts/weak_to_strong/report/plots.py")
    edit = (
        f"    with open({str(module)!r}, 'a') as file:\n        file.write('FIGURES.keys()\\n')\n"
    )
    script.write_text(script.read_text().replace("    metrics = ", f"{edit}    metrics = ", 1))
    done = project_copy.snakemake()
    assert done.returncode != 0
    assert (
        "[plots] the code of rule plots has changed since this run was planned; run again\n"
        in done.stderr
    )
    assert "Traceback" not in done.stderr
    assert not project_copy.result("logs/plots.json").exists()
    assert not project_copy.result("report/plots/accuracy.svg").exists()
