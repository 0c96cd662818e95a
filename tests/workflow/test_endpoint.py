"""A weak model behind an endpoint, through the whole workflow's rules."""

import json
import os
import re
from unittest import mock

import polars as pl
import pytest
import yaml
from model_server import Asked, ModelServer, Reply, completion
from planted import MARK, SECRETS, files_with
from project import ROOT, changed
from random_study import SIZES
from snakemake.api import SnakemakeApi
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    OutputSettings,
    ResourceSettings,
    WorkflowSettings,
)
from snakemake_interface_executor_plugins.settings import ExecMode

pytestmark = pytest.mark.slow

#: Of the planted secrets, which every run of a test has in its environment.
KEY = "WANDB_API_KEY"
WEAK_SIDE = "dice/teacher/none/seed-0"
LABELS = f"results/test/labels/{WEAK_SIDE}/weak-1.parquet"
ROUNDS = (f"{WEAK_SIDE}/weak-1", "evaluation/dice/teacher")
TARGETS = (LABELS, "results/test/generations/evaluation/dice/teacher.parquet")


def answer(asked: Asked) -> Reply:
    number = sum(map(int, re.findall(r"\d", asked.body["prompt"]))) % 3
    return Reply(completion(*[f" a\n#### {number}"] * asked.body.get("n", 1)))


def with_teacher(config: dict, url: str, **endpoint: object) -> dict:
    """The study with a teacher in place of its weak model."""
    entry = {"url": url, "model": "teacher-1", "key_env": KEY, **endpoint}
    config = changed(config, "models.teacher", {"endpoint": entry})
    return changed(config, "chains", [{**config["chains"][0], "weak": "teacher"}])


def test_the_teacher_labels_and_is_evaluated(fresh_project):
    """How it is asked, and what it costs, then reruns nothing."""
    project = fresh_project
    with ModelServer(answer) as server:
        config = with_teacher(project.config, server.url, price={"input": 1.0, "output": 10.0})
        project.write_config(config)
        output = project.run(*TARGETS)
        how = {"requests_at_once": 2, "retries": 0, "timeout": 5, "price": None}
        project.write_config(with_teacher(config, server.url, **how, key_env="OPENAI_KEY"))
        assert project.planned(*TARGETS) == set()

    # One request for each label and each greedy answer, one for all samples of a question.
    assert len(server.asked) == SIZES["train_2"] + 2 * SIZES["test"]
    keys = {asked.headers["authorization"] for asked in server.asked}
    assert keys == {f"Bearer {SECRETS[KEY]}"}
    labels = pl.read_parquet(project.path(LABELS))
    assert set(labels["prediction"]) == {"0", "1", "2"}

    manifest = json.loads(project.result("bases/teacher.json").read_text())
    assert manifest["source"] == {"endpoint": server.url, "model": "teacher-1", "revision": None}
    stats = json.loads(project.result(f"generations/{ROUNDS[0]}.json").read_text())
    assert stats["weak-1"]["served"] == ["teacher-2026-01 fp1"]
    cost = project.cost(f"ask_endpoint/{ROUNDS[0]}")
    assert cost["response_tokens"] == 5 * SIZES["train_2"]

    # Neither the files of the run nor its messages show the key.
    assert files_with(MARK, project.folder) == []
    assert MARK not in output


def test_a_missing_key_ends_the_run_before_its_first_job(fresh_project):
    config = with_teacher(fresh_project.config, "http://127.0.0.1:9/v1", key_env="NO_SUCH_API_KEY")
    fresh_project.write_config(config)
    planned = fresh_project.planned()  # a plan needs no key
    assert len([text for text in planned if text.endswith(", at an endpoint")]) == len(ROUNDS)
    assert not any("Train weak (iteration 0)" in text for text in planned)
    completed = fresh_project.snakemake(*TARGETS)
    assert completed.returncode != 0
    (line,) = [text for text in completed.stderr.splitlines() if "key_env" in text]
    assert (
        "models.teacher.endpoint.key_env: the environment variable NO_SUCH_API_KEY is not" in line
    )
    assert "Traceback" not in completed.stderr
    assert not list(fresh_project.path("results").rglob("*.json"))


def test_a_server_that_refuses_the_key(fresh_project):
    def refuse(asked: Asked) -> Reply:
        shown = asked.headers["authorization"]
        return Reply({"error": {"message": f"Incorrect key: {shown}"}}, 401)

    with ModelServer(refuse) as server:
        fresh_project.write_config(with_teacher(fresh_project.config, server.url))
        completed = fresh_project.snakemake(LABELS)
    assert completed.returncode != 0
    assert "status 401: it does not accept the key (it says: Incorrect key: Bearer [hidden])" in (
        completed.stderr
    )
    assert "Traceback" not in completed.stderr
    assert MARK not in completed.stderr
    assert files_with(MARK, fresh_project.folder) == []


def test_on_a_cluster_it_is_a_job_without_a_gpu(tmp_path, monkeypatch):
    """With the partition of CPU jobs, and nothing of the key but the name of its variable."""
    how = {"requests_at_once": 3, "retries": 4, "timeout": 5}
    strong = {"hub": "owner/strong", "revision": "0" * 40, "parameters": 10**6}
    sizes = {"train_1": 4, "train_2": 4, "test": 4}
    study = {
        "experiment": "test",
        "tasks": {"dice": {"loader": "embedded", "templates": [6], "splits": sizes}},
        "models": {"random_strong": strong},
        "chains": [{"task": "dice", "strong": "random_strong"}],
    }
    config = with_teacher(study, "http://127.0.0.1:9/v1", **how)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("W2S_SITE", str(ROOT / "profiles/slurm/site.yaml"))
    with mock.patch.dict(os.environ), SnakemakeApi(OutputSettings(dryrun=True)) as api:
        workflow_api = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(configfiles=[tmp_path / "study.yaml"]),
            workflow_settings=WorkflowSettings(exec_mode=ExecMode.SUBPROCESS),
            snakefile=ROOT / "Snakefile",
        )
        workflow_api.dag(dag_settings=DAGSettings(targets=set(TARGETS)))
        workflow = workflow_api._workflow_store
        workflow._prepare_dag(
            forceall=True, ignore_incomplete=True, lock_warn_only=True, nolock=True
        )
        workflow._build_dag()
        asked = [job for job in workflow.dag.jobs if job.rule.name == "ask_endpoint"]
        resources = [dict(job.resources.items()) for job in asked]
    assert len(resources) == len(ROUNDS)
    for given in resources:
        assert given["slurm_partition"] == "cpu"
        assert (given["mem_mb"], given["runtime"]) == (8000, 60)
        assert (given["requests_at_once"], given["request_retries"]) == (3, 4)
        assert (given["request_seconds"], given["key_env"]) == (5, KEY)
        assert "gpu" not in given
