"""What the adapter takes for granted of Snakemake, held against a run of the installed version."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from weak_to_strong.jobs.snakemake_adapter import (
    METADATA,
    find_log,
    is_rule_script,
    metadata_file,
    read_job_metadata,
    was_killed,
)

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parents[2] / "scripts"
#: Of more than 254 characters in base64, so that its record lies in folders.
LONG = "made/" + "/".join(["long-folder-name"] * 12) + "/long.txt"
SNAKEFILE = f"""
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, {str(SCRIPTS)!r})

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
facts["gpu"] = str(workflow.global_resources["gpu"])

if config.get("fault") == "start":
    with adapter.faults_in_one_line(WorkflowError):
        raise ValueError("config key `x`: is wrong; correct it")


onstart:
    facts["planned"] = adapter.planned_jobs(workflow)
    facts["wildcards"] = adapter.planned_wildcards(workflow, "make")
    facts["limited"] = workflow.scheduler.job_rate_limiter is not None
    adapter.lift_rate_limit(workflow)
    facts["locks"] = [path.name for path in adapter.list_locks()]
    facts["own"] = adapter.own_locks(workflow)
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
    resources:
        gpu=1,
    script:
        "script.py"


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
SCRIPT = """
import json, os, sys
from pathlib import Path
Path(snakemake.output[0]).write_text(json.dumps([sys.executable, *sys.argv]))
command = Path(f"/proc/{os.getpid()}/cmdline").read_text().split("\\0")
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
    other = folder / ".snakemake/locks/0.output.lock"
    other.parent.mkdir(parents=True)
    other.write_text("results/other\n")
    done = snakemake(
        folder,
        *("--default-resources", "site='site.yaml'"),
        *("--set-resources", "make:gpu=2", "make:mem_mb=attempt*5"),
    )
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("facts-*.json")
    facts = json.loads(file.read_text())
    file.unlink()
    facts["left"] = [path.name for path in other.parent.iterdir()]
    other.unlink()
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
    said = snakemake(folder, "-s", "asks", "-n", "--configfile", "config.yaml")
    assert "option True ['" in said.stdout + said.stderr
    assert "config.yaml']" in said.stdout + said.stderr


def test_jobs_know_that_they_are_not_the_first_process(folder, run):
    assert snakemake(folder, "spawned.txt").returncode == 0
    assert (folder / "spawned.txt").read_text() == "False"


def test_resources_of_profile_and_command_line(run):
    assert run["site"] == "site.yaml"
    assert run["set"] == {"make": {"gpu": 2}}  # mem_mb is no constant
    assert run["gpu"] == 'Resource("gpu", 3)'


def test_the_jobs_to_come_are_known_on_start(run):
    assert run["planned"] == {
        "all": ["made/short.txt", LONG],
        "make": ["raw.txt", "raw.txt"],
    }
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


def test_the_record_of_an_output_is_found_and_read(folder, run, monkeypatch):
    monkeypatch.chdir(folder)
    for path in ("made/short.txt", LONG):
        assert metadata_file(path).is_file()
        assert find_log(path) == f"logs/{path.removesuffix('.txt')}.log"
        record = read_job_metadata()[path]
        assert record["rule"] == "make"
        assert record["input"] == ["raw.txt"]
        assert record["params"] == ["'said'"]
        assert 0 < record["starttime"] <= record["endtime"]
    assert metadata_file(LONG).parent != METADATA
    assert find_log("made/none.txt") is None


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
