"""The workflow as a module of another workflow, with and without `prefix`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from project import MACHINE, ROOT, jobs
from random_study import ANSWERS, WEAK_SIDE, write_study

from weak_to_strong.tables.frames import read_table
from weak_to_strong.tables.schemas import DEMONSTRATIONS, LABELS

pytestmark = pytest.mark.slow

SNAKEFILE = """
configfile: "ours.yaml"

module w2s:
    snakefile: {snakefile!r}
    config: config["study"]
    {prefix}

use rule * from w2s as w2s_*

onstart:
    print("our own start")

rule ours:
    input: "{folder}results/test/report/index.html"
    output: "ours.txt"
    shell: "touch {{output}}"
"""


@pytest.fixture
def other_workflow(tmp_path):
    """Another workflow's folder, with the study's data and models; runs Snakemake there."""
    config = write_study(tmp_path, ANSWERS)
    (tmp_path / "ours.yaml").write_text(yaml.safe_dump({"study": config}))

    def run(prefix: str, *arguments: str, status: int = 0) -> str:
        statement = f"prefix: {prefix!r}" if prefix else ""
        folder = f"{prefix}/" if prefix else ""
        text = SNAKEFILE.format(snakefile=str(ROOT / "Snakefile"), prefix=statement, folder=folder)
        (tmp_path / "Snakefile").write_text(text)
        resources = [text.replace("generate", "w2s_generate") for text in MACHINE]
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", "--cores", "2", *arguments, *resources],
            cwd=tmp_path,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == status, done.stderr[-4000:]
        return done.stdout + done.stderr

    return tmp_path, run


def test_it_plans_the_same_jobs_with_and_without_a_prefix(other_workflow):
    _, run = other_workflow
    plain, prefixed = run("", "-n", "ours"), run("inner", "-n", "ours")
    assert len(jobs(plain)) > 20
    assert jobs(plain) == jobs(prefixed)
    inputs = re.findall(r"^    input: (.*)$", prefixed, flags=re.M)
    results = {file for line in inputs for file in line.split(", ") if "results/" in file}
    assert results
    assert all(file.startswith("inner/results/") for file in results)


def test_what_is_checked_before_the_first_job_is_checked_in_a_module(other_workflow):
    """The other workflow has an `onstart` of its own, which is called too."""
    folder, run = other_workflow
    data = folder / "data/train_1.jsonl"
    before = data.stat().st_mtime
    os.utime(data, (before, before + 24 * 3600))
    table = "results/test/data/dice/train_1.parquet"
    message = run("", table, status=1)
    assert "data/train_1.jsonl: its time, " in message
    assert "Execute " not in message
    os.utime(data, (before, before))
    assert run("", table).count("our own start") == 1


def test_a_study_runs_as_a_module_under_a_prefix(other_workflow):
    """Data, a training, a generation round and labels: every kind of path is used."""
    folder, run = other_workflow
    target = f"inner/results/test/labels/{WEAK_SIDE}"
    demonstrations = target.replace("none", "random_strong") + "/demonstrations.parquet"
    run("inner", demonstrations)
    assert read_table(folder / f"{target}/weak-1.parquet", LABELS).height == 96
    assert read_table(folder / demonstrations, DEMONSTRATIONS).height == 2
    assert not (folder / "results/test").exists()
    assert (Path(folder) / "inner/results/test/logs").is_dir()
    assert "Nothing to be done" in run("inner", demonstrations)
