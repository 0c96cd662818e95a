"""Secrets of the environment stay there: in no log, message, table, record or page."""

from __future__ import annotations

import json
import os
import sys
from collections import deque
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import report_examples as examples
import yaml
from planted import MARK, SECRETS, files_with
from rule_scripts import SCRIPTS, rule_job, script_main
from training_runs import bare_run

from weak_to_strong.data.sources import explain_hub_error
from weak_to_strong.evaluation.scoring import _Worker
from weak_to_strong.generation.engine_pool import EnginePool, EngineWork, Shard
from weak_to_strong.jobs.costs import COSTS
from weak_to_strong.jobs.records import COMMAND, library_versions, note_command
from weak_to_strong.jobs.script import run_script
from weak_to_strong.jobs.secret_values import hide_secrets, without_secrets
from weak_to_strong.jobs.trackers import TrackedRun
from weak_to_strong.report.page import ReportInputs, build_report
from weak_to_strong.tables.frames import read_table, write_table
from weak_to_strong.tables.schemas import PROBLEMS
from weak_to_strong.training import launching

SECRET = SECRETS["HF_TOKEN"]
#: Values that belong into messages, under names that resemble those of secrets.
HARMLESS = {
    "SSH_AUTH_SOCK": "/tmp/ssh-gone/agent.1234",
    "XAUTHORITY": "/home/someone/.Xauthority",
    "SSH_ASKPASS": "/usr/bin/ssh-askpass",
    "HF_TOKEN_PATH": "~/.cache/huggingface/token",
    "GOOGLE_APPLICATION_CREDENTIALS": str(SCRIPTS),
    "TOKENIZERS_PARALLELISM": "disabled",
    "MAX_TOKENS": "1000000000",
    "CACHE_KEY": "20261231",
    "SORT_KEY": "problem_id",
    "SMTP_AUTH": "required",
    "KEYBOARD_LAYOUT": "en_US.UTF-8",
    "MONKEY_BUSINESS": "as usual 123",
    "GIT_AUTHOR_NAME": "Ada Lovelace 1",
    "PATTERN": "results/*/report",
    "PWD": "/folder/that/is/gone",
    "DB_PASS": "results",
    "HTTP_PROXY": "http://proxy.example.org:8080/",
    "GIT_REMOTE": "ssh://git@example.org/x.git",
    "SLURM_JOB_ID": "1234567890",
    "SLURM_CONF": "/etc/slurm/slurm.conf",
}


@pytest.fixture(autouse=True)
def planted(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(COMMAND, f"snakemake --config token={SECRET}")


def job(tmp_path, rule, output, **params):
    """A job without inputs, with a log."""
    return rule_job(rule, outputs=output, params=params, folder=tmp_path, log=f"{rule}.log")


def leaks(folder: Path) -> list[str]:
    return files_with(MARK, folder)


@pytest.mark.parametrize("name", SECRETS)
def test_each_secret_is_known_by_its_variable_alone(monkeypatch, name):
    for other in SECRETS:
        if other != name:
            monkeypatch.delenv(other)
    message = f"before {SECRETS[name]} after"
    for text in (
        message,
        " ".join(message.split()),
        "\n".join(map(str.strip, message.splitlines())),
    ):
        shown = hide_secrets(text)
        assert MARK not in shown
        assert shown.startswith("before")
        assert shown.endswith("after")
    assert name not in without_secrets(os.environ)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_no_secret_is_shown_and_handed_on(monkeypatch, name):
    monkeypatch.setenv(name, HARMLESS[name])
    assert hide_secrets(f"with {HARMLESS[name]}") == f"with {HARMLESS[name]}"
    assert without_secrets(os.environ)[name] == HARMLESS[name]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://user:pass@proxy:80", "http://[hidden]@proxy:80"),
        ("http://user:p@ss:w'rd@proxy/a@b", "http://[hidden]@proxy/a@b"),
        ("https://x-access-token:0123abcd@example.org/a", "https://[hidden]@example.org/a"),
        ("https://example.org:80/a:b@c?d=e@f", "https://example.org:80/a:b@c?d=e@f"),
        ("ssh://git@example.org/a", "ssh://git@example.org/a"),
    ],
)
def test_access_in_an_address_is_hidden(monkeypatch, address, shown):
    assert hide_secrets(f"cannot reach {address}, it says") == f"cannot reach {shown}, it says"
    monkeypatch.setenv("HTTPS_PROXY", address)
    assert ("HTTPS_PROXY" in without_secrets(os.environ)) == (address == shown)


def test_a_password_of_an_address_is_hidden_elsewhere_too(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://someone:open%20sesame@proxy:80")
    assert hide_secrets("open%20sesame, open sesame") == "[hidden], [hidden]"


def test_srun_keeps_its_token(monkeypatch):
    monkeypatch.setenv("SLURM_JWT", "eyJhbGciOiJIUzI1NiJ9")
    assert "SLURM_JWT" in without_secrets(os.environ)
    assert "eyJ" not in hide_secrets("token eyJhbGciOiJIUzI1NiJ9")


def test_the_recorded_command_is_without_secrets(monkeypatch):
    """Also without those that quoting for a shell changes."""
    monkeypatch.delenv(COMMAND)
    note_command(["/bin/snakemake", "--config", *(f"x={value}" for value in SECRETS.values())])
    assert MARK not in os.environ[COMMAND]
    assert os.environ[COMMAND].startswith("snakemake --config 'x=[hidden]'")


# It prints what it inherits, and a token that it has from elsewhere.
TALKATIVE = """
import os, sys
from weak_to_strong.generation.engine_worker import run_worker

class Fake:
    cached = 0
    def __init__(self, arguments):
        print(dict(os.environ), file=sys.stderr)
        if arguments["way"] == "raises":
            raise RuntimeError("token=" + os.environ.get("HF_TOKEN", arguments["token"]))
        print("401 for token=" + arguments["token"], file=sys.stderr, flush=True)
        os._exit(7)

run_worker(Fake, lambda weights, prompts: [])
"""


@pytest.mark.parametrize("way", ["dies", "raises"])
def test_an_engine_has_no_secrets_and_errors_quote_none(tmp_path, monkeypatch, way):
    monkeypatch.setenv("SSH_AUTH_SOCK", HARMLESS["SSH_AUTH_SOCK"])
    monkeypatch.setenv("SLURM_JOB_ID", HARMLESS["SLURM_JOB_ID"])
    monkeypatch.delenv(COMMAND)
    command = (sys.executable, "-c", TALKATIVE)
    work = [EngineWork({"way": way, "token": SECRET}, deque([Shard(0, dict, 1)]))]
    pool = EnginePool(1, [{"X": "added"}], tmp_path, fresh=False, max_num_seqs=1, command=command)
    with pytest.raises(RuntimeError, match=r"token=\[hidden\]") as caught, pool:
        pool.run(work, lambda *_: None)
    assert MARK not in str(caught.value)
    inherited = (tmp_path / "engine-0.log").read_text().splitlines()[0]
    assert MARK not in inherited
    for harmless in (HARMLESS["SSH_AUTH_SOCK"], HARMLESS["SLURM_JOB_ID"], "'X': 'added'", "PATH"):
        assert harmless in inherited


def test_training_processes_have_no_secrets_and_their_output_is_filtered(
    tmp_path, monkeypatch, capsys
):
    script = f"import os; print(dict(os.environ)); print('token', {SECRET!r}); raise SystemExit(3)"
    monkeypatch.setattr(launching, "launch_command", lambda *_: [sys.executable, "-c", script])
    monkeypatch.setenv("SSH_AUTH_SOCK", HARMLESS["SSH_AUTH_SOCK"])
    training = bare_run(str(tmp_path / "work"))
    with pytest.raises(SystemExit):
        run_script(lambda _: launching.launch(training, None), job(tmp_path, "train", {}))
    log = (tmp_path / "train.log").read_text()
    assert "token [hidden]" in log
    assert HARMLESS["SSH_AUTH_SOCK"] in log
    assert "HF_TOKEN" not in log
    assert leaks(tmp_path) == []
    assert MARK not in "".join(capsys.readouterr())


def test_a_launched_training_gets_the_key_of_its_tracker_and_prints_it_nowhere(
    tmp_path, monkeypatch
):
    script = "import os; print(sorted(set(os.environ) & set('WANDB_API_KEY HF_TOKEN'.split())));"
    script += "print(os.environ['WANDB_API_KEY'])"
    monkeypatch.setattr(launching, "launch_command", lambda *_: [sys.executable, "-c", script])
    tracked = TrackedRun(("wandb",), "run", "study", str(tmp_path))
    training = replace(bare_run(str(tmp_path / "work")), tracked=tracked)
    run_script(lambda _: launching.launch(training, None), job(tmp_path, "train", {}))
    log = (tmp_path / "train.log").read_text()
    assert "['WANDB_API_KEY']" in log
    assert "[hidden]" in log
    assert leaks(tmp_path) == []


def test_the_worker_that_reads_answers_has_no_secrets(monkeypatch):
    monkeypatch.delenv(COMMAND)
    worker = _Worker(1.0)
    try:
        assert worker.ask("1", "1") == "right"
        inherited = Path(f"/proc/{worker.process.pid}/environ").read_text()
    finally:
        worker.stop()
    assert "PATH=" in inherited
    assert MARK not in inherited


def test_the_search_finds_what_is_compressed_in_a_table(tmp_path):
    rows = {**dict.fromkeys(PROBLEMS, "x"), "question": " ".join([SECRET] * 50)}
    write_table(pl.DataFrame([rows], schema=PROBLEMS), PROBLEMS, tmp_path / "a.parquet")
    assert leaks(tmp_path) == ["a.parquet"]


def test_a_failed_download(tmp_path, capsys):
    main = script_main("fetch_source")
    for url in (f"http://127.0.0.1:9/{{}}?token={SECRET}", f"http://x:{SECRET}@127.0.0.1:9/a"):
        source = {"url": url, "sha256": "0" * 64}
        with pytest.raises(SystemExit):
            run_script(main, job(tmp_path, "fetch_source", {"file": "a.jsonl"}, source=source))
    assert leaks(tmp_path) == []
    assert (tmp_path / "fetch_source.log").read_text() != ""
    assert MARK not in "".join(capsys.readouterr())


def test_what_the_hub_says_is_shown_without_the_token():
    error = OSError(f"401 for https://huggingface.co/x?token={SECRET} (Bearer {SECRET})")
    message = explain_hub_error(error, "owner/x", "0" * 40)
    assert "cannot fetch owner/x from the Hub" in message
    assert SECRET not in message


def test_a_traceback_in_a_log(tmp_path, capsys):
    def fail(_):
        raise RuntimeError(f"request with Authorization: Bearer {SECRET} failed")

    with pytest.raises(SystemExit):
        run_script(fail, job(tmp_path, "generate", {}))
    assert leaks(tmp_path) == []
    assert "request with Authorization" in (tmp_path / "generate.log").read_text()
    assert MARK not in "".join(capsys.readouterr())


def test_tables_and_report(tmp_path):
    settings = {"loader": "embedded", "templates": [6], "splits": {"test": 3}, "data_seed": 1}
    main = script_main("problems")
    names = {"problems": "test.parquet"}
    run_script(main, job(tmp_path, "problems", names, task="t", split="test", settings=settings))
    assert "token=[hidden]" in (tmp_path / "problems.json").read_text()
    test = read_table(tmp_path / "test.parquet", PROBLEMS)
    nodes, scores, generations = examples.answers(test)
    config = yaml.safe_load((SCRIPTS.parent / "config/config.yaml").read_text())
    page = build_report(
        ReportInputs(
            experiment="x",
            metrics=examples.metrics(),
            diagnostics=examples.diagnostics(),
            costs=pl.DataFrame(schema=COSTS),
            scores=scores,
            generations=generations,
            problems={"sums": test},
            nodes=nodes,
            config=config,
            versions=library_versions(),
        )
    )
    (tmp_path / "index.html").write_text(page)
    (tmp_path / "versions.json").write_text(json.dumps(library_versions()))
    assert leaks(tmp_path) == []
