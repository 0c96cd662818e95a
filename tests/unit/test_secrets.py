"""Tokens of the environment stay there: in no log, message, record or page."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
import report_examples as examples
import yaml
from snakemake.iocontainers import InputFiles, OutputFiles, Params, Wildcards

from weak_to_strong.costs import COSTS
from weak_to_strong.logs import run_script
from weak_to_strong.records import COMMAND, library_versions
from weak_to_strong.report import ReportInputs, build_report
from weak_to_strong.sources import explain_hub_error
from weak_to_strong.tables import PROBLEMS, read_table

SCRIPTS = Path(__file__).parents[2] / "scripts"
SECRET = "hf_plantedplantedplantedplanted0000"
VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY")


@pytest.fixture(autouse=True)
def planted(monkeypatch):
    for name in VARIABLES:
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv(COMMAND, f"snakemake --config token={SECRET}")


def job(tmp_path, rule, output, **params):
    """What a rule's script gets, with its log."""

    return SimpleNamespace(
        rule=rule,
        wildcards=Wildcards(),
        threads=1,
        log=[str(tmp_path / f"{rule}.log")],
        input=InputFiles(),
        params=Params(fromdict=params),
        output=OutputFiles(fromdict={key: str(tmp_path / name) for key, name in output.items()}),
    )


def leaks(folder: Path) -> list[str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return [file.name for file in files if SECRET.encode() in file.read_bytes()]


def test_a_failed_download(tmp_path, capsys):
    main = runpy.run_path(str(SCRIPTS / "fetch_source.py"))["main"]
    for url in (f"http://127.0.0.1:9/{{}}?token={SECRET}", f"http://x:{SECRET}@127.0.0.1:9/a"):
        source = {"url": url, "sha256": "0" * 64}
        with pytest.raises(SystemExit):
            run_script(main, job(tmp_path, "fetch_source", {"file": "a.jsonl"}, source=source))
    assert leaks(tmp_path) == []
    assert (tmp_path / "fetch_source.log").read_text() != ""
    assert SECRET not in "".join(capsys.readouterr())


def test_what_the_hub_says_is_shown_without_the_token():
    error = OSError(f"401 for https://huggingface.co/x?token={SECRET} (Bearer {SECRET})")
    said = explain_hub_error(error, "owner/x", "0" * 40)
    assert "cannot fetch owner/x from the Hub" in said
    assert SECRET not in said


def test_a_traceback_in_a_log(tmp_path, capsys):
    def fail(_):
        raise RuntimeError(f"request with Authorization: Bearer {SECRET} failed")

    with pytest.raises(SystemExit):
        run_script(fail, job(tmp_path, "generate", {}))
    assert leaks(tmp_path) == []
    assert "request with Authorization" in (tmp_path / "generate.log").read_text()
    assert SECRET not in "".join(capsys.readouterr())


def test_tables_and_report(tmp_path):
    settings = {"loader": "embedded", "templates": [6], "splits": {"test": 3}, "data_seed": 1}
    main = runpy.run_path(str(SCRIPTS / "problems.py"))["main"]
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
