"""What the adapter takes for granted of Snakemake, held against a run of the installed version."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from weak_to_strong.jobs.snakemake_adapter import (
    METADATA,
    is_rule_script,
    mark_incomplete,
    metadata_file,
    read_metadata,
    was_killed,
    write_metadata,
)
from weak_to_strong.tables.files import hash_file

pytestmark = pytest.mark.slow

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parents[2] / "scripts"
#: Of more than 254 characters in base64, so that its record lies in folders.
LONG = "made/" + "/".join(["long-folder-name"] * 12) + "/long.txt"
SNAKEFILE = f"""
import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, {str(SCRIPTS)!r})

from snakemake.dag import DAG
from snakemake.exceptions import WorkflowError
from snakemake.persistence.file import FilePersistence

from weak_to_strong.jobs import snakemake_adapter as adapter

facts = {{
    "configfile": adapter.has_configfile_option(workflow),
    "files": adapter.config_files(workflow),
    "first": adapter.is_first_process(workflow),
    "here": adapter.runs_on_this_machine(workflow),
    "site": adapter.default_resource(workflow.resource_settings, "site"),
    "set": adapter.set_resources(workflow.resource_settings),
}}
adapter.offer_gpus(workflow, 3)
adapter.keep_locks_of_others(FilePersistence)
if "mended" in config:
    adapter.run_before_until(DAG)
if "lifted" in config:
    adapter.call_before_plan(DAG, adapter.lift_core_limit)
facts["gpu"] = str(workflow.global_resources["gpu"])

if config.get("fault") == "start":
    with adapter.faults_in_one_line(WorkflowError):
        raise ValueError("config key `x`: is wrong; correct it")


states = []


@contextmanager
def noted(scheduled):
    running = adapter.running_gpus(workflow, scheduled)
    finished = adapter.finished_logs(workflow, scheduled)
    states.append([running, sorted(finished), adapter.run_counts(workflow)])
    yield


onsuccess:
    Path("states.json").write_text(json.dumps(states))


onstart:
    facts["planned"] = adapter.planned_jobs(workflow, Path())
    facts["wildcards"] = adapter.planned_wildcards(workflow, Path("script.py"))
    facts["limited"] = workflow.scheduler.job_rate_limiter is not None
    adapter.lift_rate_limit(workflow)
    facts["locks"] = [path.name for path in adapter.list_locks()]
    facts["own"] = adapter.own_locks(workflow)
    facts["job"] = adapter.job_facts(workflow, "make", {{"name": "made/short"}})
    facts["no_job"] = adapter.job_facts(workflow, "nowhere", {{}})
    scheduled = adapter.scheduled_jobs(workflow, Path())
    facts["scheduled"] = [(job.script, dict(job.wildcards), job.log) for job in scheduled]
    facts["counts"] = adapter.run_counts(workflow)
    facts["quiet"] = adapter.has_quiet_option(workflow)
    # Messages of Snakemake come before a job starts, and after it has ended.
    adapter.surround_messages(lambda: noted(scheduled))
    facts["locked"] = any(adapter.locks_folder().iterdir())
    Path(f"facts-{{os.getpid()}}.json").write_text(json.dumps(facts))
    if config.get("fault") == "onstart":
        with adapter.faults_in_one_line(WorkflowError):
            raise ValueError("config key `x`: is wrong; correct it")


rule all:
    input:
        "made/short.txt",
        {LONG!r},


rule make:
    input:
        "raw.txt",
    output:
        "{{name}}.txt",
    log:
        "logs/{{name}}.log",
    wildcard_constraints:
        name="made/.+",
    params:
        text="said",
        name="{{name}}",
        size=lambda wildcards: len(wildcards.name),
        nested=lambda wildcards: {{"b": [1, 2.5, None], "a": (True, "x'y")}},
        nothing=None,
        listed=["{{name}}", 3],
        unlike=lambda wildcards: Path("not stored"),
    resources:
        gpu=1,
    script:
        "script.py"


rule begun:
    output:
        "step/0.txt",
    shell:
        "touch {{output}}"


rule step:
    input:
        lambda wildcards: f"step/{{int(wildcards.number) - 1}}.txt",
    output:
        "step/{{number}}.txt",
    shell:
        "touch {{output}}"


rule after:
    input:
        "step/3.txt",
    output:
        "after.txt",
    shell:
        "touch {{output}}"


rule threaded:
    output:
        "{{name}}.threads",
    threads: 3
    shell:
        "echo {{threads}} > {{output}}"


rule spawned:
    output:
        "spawned.txt",
    run:
        Path(output[0]).write_text(str(facts["first"]))


rule killed:
    output:
        "killed",
    shell:
        "kill -KILL $$"
"""
SCRIPT = f"""
import json, os, sys
from pathlib import Path
Path(snakemake.output[0]).write_text(json.dumps([sys.executable, *sys.argv]))
sys.path.insert(0, {str(SCRIPTS)!r})
from weak_to_strong.jobs.snakemake_adapter import serialise_params
Path("params.json").write_text(json.dumps(serialise_params(snakemake.params)))
command = Path("/proc/self/cmdline").read_text().split("\\0")
Path("command.json").write_text(json.dumps(command))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    (folder / "Snakefile").write_text(SNAKEFILE)
    (folder / "script.py").write_text(SCRIPT)
    (folder / "raw.txt").touch()
    (folder / "config.yaml").write_text("name: value\n")
    return folder


def snakemake(folder, *arguments):
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "SNAKEMAKE_PROFILE"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def run(folder):
    """The facts that the workflow wrote down during a whole run, beside another."""
    lock = folder / ".snakemake/locks/0.output.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("results/other\n")
    done = snakemake(
        folder,
        *("--default-resources", "site='site.yaml'"),
        *("--set-resources", "make:gpu=2", "make:mem_mb=attempt*5"),
    )
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("facts-*.json")
    facts = json.loads(file.read_text())
    file.unlink()
    facts["states"] = json.loads((folder / "states.json").read_text())
    facts["left"] = [path.name for path in lock.parent.iterdir()]
    lock.unlink()
    return facts


def test_the_first_process_on_this_machine(run):
    assert run["first"] is True
    assert run["here"] is True


def test_a_configuration_file_of_the_command_line_is_seen(folder, run):
    assert run["configfile"] is False
    assert run["files"] == []
    code = folder / "asks"
    code.write_text(
        (folder / "Snakefile").read_text()
        + '\nprint("option", facts["configfile"], facts["files"])\n'
    )
    done = snakemake(folder, "-s", "asks", "-n", "--configfile", "config.yaml")
    assert "option True ['" in done.stdout + done.stderr
    assert "config.yaml']" in done.stdout + done.stderr


def test_the_progress_of_a_run_can_be_followed(folder, run):
    logs = ["logs/made/short.log", f"logs/{LONG.removesuffix('.txt')}.log"]
    assert {log: [script, wildcards] for script, wildcards, log in run["scheduled"]} == {
        log: ["script", {"name": log.removeprefix("logs/").removesuffix(".log")}] for log in logs
    }
    assert run["counts"] == [0, 3]
    assert run["quiet"] is False
    running = [state[0] for state in run["states"]]
    assert dict.fromkeys(logs, 2) == {log: gpus for jobs in running for log, gpus in jobs.items()}
    assert run["states"][-1][1] == sorted(logs)
    assert run["states"][-1][2] == [3, 3]
    quiet = folder / "quiet"
    text = (folder / "Snakefile").read_text()
    quiet.write_text(f"{text}\nprint('quiet', adapter.has_quiet_option(workflow))\n")
    for option, said in ((), "False"), (("--quiet", "progress"), "True"), (("--quiet",), "True"):
        done = snakemake(folder, "-s", "quiet", "-n", *option)
        assert f"quiet {said}" in done.stdout + done.stderr


def test_jobs_know_that_they_are_not_the_first_process(folder, run):
    assert snakemake(folder, "spawned.txt").returncode == 0
    assert (folder / "spawned.txt").read_text() == "False"


def test_resources_of_profile_and_command_line(run):
    assert run["site"] == "site.yaml"
    assert run["set"] == {"make": {"gpu": 2}}  # mem_mb is no constant
    assert run["gpu"] == 'Resource("gpu", 3)'


def test_the_jobs_to_come_are_known_on_start(run):
    assert run["planned"] == {"script": ["raw.txt", "raw.txt"]}
    names = sorted(job["name"] for job in run["wildcards"])
    assert names == sorted(["made/short", LONG.removesuffix(".txt")])


def test_there_is_a_rate_limit_to_lift(run):
    """Once Snakemake has none by default, `lift_rate_limit` can go."""
    assert run["limited"] is True


def test_the_locks_are_where_a_dead_run_leaves_them(run):
    assert run["locks"] == ["0.input.lock", "0.output.lock", "1.output.lock"]


def test_a_run_knows_its_own_locks_and_removes_no_others(run):
    assert run["own"] == ["0.input.lock", "1.output.lock"]
    assert run["left"] == ["0.output.lock"]


def test_metadata_of_an_output_is_found_and_read(folder, run, monkeypatch):
    monkeypatch.chdir(folder)
    for path in ("made/short.txt", LONG):
        assert metadata_file(path).is_file()
        facts = read_metadata(path)
        assert facts["rule"] == "make"
        assert facts["input"] == ["raw.txt"]
        assert facts["log"] == [f"logs/{path.removesuffix('.txt')}.log"]
        assert "'said'" in facts["params"]
        assert facts["input_checksums"] == {"raw.txt": f"sha256:{hash_file('raw.txt')}"}
        assert 0 < facts["starttime"] <= facts["endtime"]
    assert metadata_file(LONG).parent != METADATA
    assert read_metadata("made/none.txt") == {}


def test_a_script_serialises_parameters_as_snakemake_does(folder, run, monkeypatch):
    monkeypatch.chdir(folder)
    assert snakemake(folder, "--force", "made/short.txt").returncode == 0
    params = json.loads(Path("params.json").read_text())
    assert params == read_metadata("made/short.txt")["params"]
    assert len(params) == 6  # Snakemake does not store a Path


def test_parameters_and_inputs_of_a_job_without_a_plan(folder, run, monkeypatch):
    monkeypatch.chdir(folder)
    facts = read_metadata("made/short.txt")
    assert run["job"] == [facts["params"], facts["input"]]
    assert run["no_job"] is None


def planned(folder, *options):
    done = snakemake(folder, "--dry-run", "--rerun-triggers", "params", "input", *options)
    return done.stdout + done.stderr


def test_snakemake_goes_by_metadata_that_was_written(folder, run, monkeypatch):
    monkeypatch.chdir(folder)
    before = read_metadata(LONG)
    metadata_file(LONG).unlink()
    assert "Nothing to be done" in planned(folder)
    write_metadata(LONG, {**before, "params": ["'other'"]})
    assert read_metadata(LONG)["record_format_version"] == before["record_format_version"]
    text = planned(folder)
    assert "Params have changed since last execution" in text
    assert LONG in text
    assert metadata_file(LONG).stat().st_mode & 0o660 == 0o660
    write_metadata(LONG, {"params": before["params"], "input": ["other.txt"]})
    assert "Set of input files has changed" in planned(folder)
    write_metadata(LONG, before)
    assert "Nothing to be done" in planned(folder)
    assert "Migrating" not in planned(folder)


def test_until_a_rule_whose_jobs_depend_on_each_other(folder):
    """Once Snakemake runs them by itself, `run_before_until` can go."""
    wanted = ("after.txt", "--until", "step")
    assert "BUG: Out of jobs" in snakemake(folder, *wanted, "-n").stdout
    for option in ("-n", "-p"):
        done = snakemake(folder, *wanted, option, "--config", "mended=1")
        assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in (folder / "step").iterdir()) == [
        "0.txt",
        "1.txt",
        "2.txt",
        "3.txt",
    ]
    assert not (folder / "after.txt").exists()
    assert snakemake(folder, "after.txt", "--config", "mended=1").returncode == 0
    assert (folder / "after.txt").exists()


def test_cores_limit_threads_unless_the_limit_is_lifted(folder):
    """Once Snakemake lets `--cores` limit no job of a cluster, `lift_core_limit` can go."""
    assert snakemake(folder, "limited.threads").returncode == 0
    done = snakemake(folder, "all.threads", "--config", "lifted=1")
    assert done.returncode == 0, done.stderr
    threads = [(folder / f"{name}.threads").read_text() for name in ("limited", "all")]
    assert threads == ["1\n", "3\n"]


def test_a_marked_output_is_made_again(folder, run, monkeypatch):
    monkeypatch.chdir(folder)
    mark_incomplete(LONG)
    text = planned(folder)
    assert "The files below seem to be incomplete" in text
    assert LONG in text
    assert f"output: {LONG}" in planned(folder, "--rerun-incomplete")
    assert snakemake(folder, "--rerun-incomplete").returncode == 0
    assert "Nothing to be done" in planned(folder)


def test_a_script_is_known_by_its_command_line(folder, run):
    command = json.loads((folder / "command.json").read_text())
    assert is_rule_script(command)
    assert not is_rule_script(["bash", "-c", "python .snakemake/scripts/x.py"])


def test_a_killed_job_is_in_the_log(folder, run):
    assert snakemake(folder, "killed").returncode != 0
    logs = sorted((folder / ".snakemake/log").glob("*.log"))
    assert was_killed(map(str, logs[-1:]))
    assert not was_killed(map(str, logs[:1]))


@pytest.mark.parametrize(
    ("place", "options"), [("start", ()), ("start", ("--dry-run",)), ("onstart", ())]
)
def test_a_fault_is_one_line_without_frames(folder, place, options):
    done = snakemake(folder, "--forceall", *options, "--config", f"fault={place}")
    assert done.returncode == 1
    assert done.stderr.endswith("RunFault:\nconfig key `x`: is wrong; correct it\n")
    assert "File " not in done.stderr
    assert "Traceback" not in done.stderr
    assert list((folder / ".snakemake").glob("locks/*")) == []
