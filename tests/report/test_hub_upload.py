"""What is uploaded, what never is, and an upload by the real client to a server of this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import upload_examples as examples
from huggingface_hub import ModelCard
from local_hub import local_hub
from planted import MARK, files_with
from rule_scripts import SCRIPTS
from safetensors.numpy import save_file

from weak_to_strong.report.hub_upload import (
    RESULT_TABLES,
    check_uploads,
    collect_model,
    collect_tables,
    list_uploads,
)
from weak_to_strong.tables.files import hash_file, read_json

SUPPORT = Path(__file__).parents[1] / "support"
TOKEN = f"hf_{MARK}"
SCRIPT = """
import json, sys
from rule_scripts import rule_job, script_main
from weak_to_strong.jobs.script import run_script

run_script(script_main("upload"), rule_job("upload", params=json.loads(sys.argv[1]), log="u.log"))
"""


@pytest.fixture(autouse=True)
def experiment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples.write_experiment()


def collect() -> list:
    return collect_model(examples.MANIFEST, read_json(examples.BASE))


def check(files, stale=()) -> None:
    check_uploads(files, examples.ROOT, [examples.GOLD, "gone.parquet"], stale)


def upload(*, model: bool = True, environment=None, **settings) -> subprocess.CompletedProcess:
    """Run the rule's script as a job does."""
    given = {"repo": "me/repo", "model": None, "private": True, "send": False}
    params = {
        "settings": given | settings,
        "root": examples.ROOT,
        "experiment": "study",
        "report": f"{examples.ROOT}/report",
        "model": examples.PARAMETER if model else None,
        "gold": [examples.GOLD],
        "stale": [],
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(params)],
        env={
            **kept,
            "PYTHONPATH": f"{SCRIPTS}{os.pathsep}{SUPPORT}",
            "HF_HUB_DISABLE_XET": "1",
            **(environment or {}),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )


class TestFiles:
    def test_an_adapter_names_its_base_and_no_local_path(self):
        files = {file.name: file for file in collect()}
        assert files.keys() == {"adapter_config.json", "adapter_model.safetensors"}
        config = json.loads(files["adapter_config.json"].source)
        assert config["base_model_name_or_path"] == "owner/large"
        assert config["revision"] == examples.HUB["revision"]
        assert config["r"] == 8
        check(collect())

    def test_what_snakemake_leaves_in_the_folder_is_left_out(self):
        Path(examples.MODEL, ".snakemake_timestamp").touch()
        assert ".snakemake_timestamp" not in {file.name for file in collect()}

    def test_a_local_base_is_named_as_in_the_configuration(self):
        examples.write_base({"path": "/home/someone/models/large"})
        assert json.loads(collect()[0].source)["base_model_name_or_path"] == "large"

    def test_a_line_for_each_file_has_its_size(self):
        *lines, total = list_uploads(collect())
        size = Path(examples.MODEL, "adapter_model.safetensors").stat().st_size
        assert lines[1].split() == [f"{size:,}", "adapter_model.safetensors"]
        assert lines[0].endswith("adapter_config.json (names the base model)")
        assert total.endswith("bytes in 2 files")

    def test_a_card_that_came_with_the_base_is_replaced(self):
        Path(examples.MODEL, "README.md").write_text("of the base")
        examples.write_manifest()
        assert "README.md" not in {file.name for file in collect()}

    @pytest.mark.parametrize("name", ["train_2_gold.parquet", "notes.txt", ".hidden"])
    def test_a_file_that_is_not_of_the_model_is_refused(self, name):
        Path(examples.MODEL, name).write_text("x")
        with pytest.raises(ValueError, match=f"{name}: is not of the model"):
            collect()

    @pytest.mark.parametrize("name", ["model.bin", "model.pt", "model.gguf"])
    def test_only_safetensors_are_uploaded(self, name):
        Path(examples.MODEL, name).write_bytes(b"x")
        examples.write_manifest()
        with pytest.raises(ValueError, match=f"{name}: only weights in safetensors are uploaded"):
            collect()

    @pytest.mark.parametrize("name", ["rows.parquet", "code.py", "rows.jsonl"])
    def test_data_and_code_are_refused(self, name):
        Path(examples.MODEL, name).write_bytes(b"x")
        examples.write_manifest()
        with pytest.raises(ValueError, match=f"{name}: is neither weights nor configuration"):
            collect()

    def test_damage_is_refused(self):
        save_file({"lora_A": np.zeros((2, 3), np.float32)}, collect()[1].source)
        with pytest.raises(ValueError, match="is damaged or was changed"):
            collect()

    def test_a_missing_table_is_one_line(self):
        assert [file.name for file in collect_tables(f"{examples.ROOT}/report")] == list(
            RESULT_TABLES
        )
        Path(examples.ROOT, "report/ledger.csv").unlink()
        with pytest.raises(ValueError, match=r"report/ledger\.csv: is missing; run the experiment"):
            collect_tables(f"{examples.ROOT}/report")


class TestChecks:
    @pytest.fixture
    def tables(self):
        return collect_tables(f"{examples.ROOT}/report")

    def test_tables_as_their_job_made_them_pass(self, tables):
        check(tables, stale=["score/sums: was made with other parameters"])

    def test_an_edited_table_is_refused(self, tables):
        tables[0].source.write_text("better figures")
        with pytest.raises(ValueError, match=r"metrics\.csv: is not as its job made it"):
            check(tables)

    def test_a_copy_of_the_gold_answers_is_refused_under_any_name(self, tables):
        tables[2].source.write_bytes(Path(examples.GOLD).read_bytes())
        examples.record("metrics", *(str(file.source) for file in tables))
        with pytest.raises(ValueError, match=r"table\.txt: is a copy of .*gold answers of train_2"):
            check(tables)

    def test_a_link_is_refused(self, tables):
        tables[2].source.unlink()
        tables[2].source.symlink_to("/etc/hostname")
        with pytest.raises(ValueError, match=r"table\.txt: is a link"):
            check(tables)

    def test_a_file_without_a_record_is_refused(self, tables):
        Path(examples.ROOT, "logs/metrics.json").unlink()
        with pytest.raises(ValueError, match=r"metrics\.csv: was made by no job"):
            check(tables)

    def test_outdated_results_are_refused(self, tables):
        line = "metrics: was made with other parameters or other code; run again"
        with pytest.raises(ValueError, match=r"metrics\.csv: is outdated: metrics: was made with"):
            check(tables, stale=[line])

    def test_a_text_with_a_secret_is_refused(self, tables, monkeypatch):
        monkeypatch.setenv("WANDB_API_KEY", f"{MARK}99")
        tables[2].source.write_text(f"key {MARK}99")
        examples.record("metrics", *(str(file.source) for file in tables))
        with pytest.raises(ValueError, match=r"table\.txt: holds the value of a secret") as refusal:
            check(tables)
        assert MARK not in str(refusal.value)


@pytest.mark.slow
class TestScript:
    def test_by_default_all_that_would_be_sent_is_shown_and_nothing_is_sent(self):
        done = upload(environment={"HF_ENDPOINT": "http://127.0.0.1:9"})
        assert done.returncode == 0, done.stderr
        for text in (
            "me/repo: model repository, private",
            "adapter_model.safetensors",
            "README.md (the card)",
            "base_model: owner/large",
            "nothing was sent; add `send: true`",
        ):
            assert text in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize("model", [True, False])
    def test_an_upload_to_a_server(self, tmp_path, model):
        with local_hub(TOKEN) as hub:
            access = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}
            done = upload(model=model, send=True, environment=access)
            assert done.returncode == 0, done.stderr
            again = upload(model=model, send=True, environment=access)
            assert again.returncode == 0, again.stderr
        [(name, repo)] = hub.repos.items()
        assert name == ("models/me/repo" if model else "datasets/me/repo")
        assert repo["private"]
        folder = Path(examples.MODEL) if model else Path(examples.ROOT, "report")
        sent = repo["files"]
        changed = {"README.md", "adapter_config.json"}
        assert sent.keys() - changed == (
            {"adapter_model.safetensors"} if model else {*RESULT_TABLES}
        )
        for file in sent.keys() - changed:
            assert sent[file] == (folder / file).read_bytes()
        if model:
            assert ModelCard(sent["README.md"].decode()).data.base_model == "owner/large"
        assert "sent: http://127.0.0.1" in done.stderr
        assert MARK not in done.stderr + again.stderr
        assert files_with(MARK, tmp_path) == []

    def test_a_public_repository_is_not_used_where_a_private_one_is_wanted(self):
        with local_hub(TOKEN) as hub:
            access = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}
            assert upload(send=True, private=False, environment=access).returncode == 0
            assert hub.repos["models/me/repo"].pop("private") is False
            hub.repos["models/me/repo"] = {"private": False, "files": {}}
            done = upload(send=True, environment=access)
        assert done.returncode == 1
        assert "`upload.private`: me/repo is there already and is public" in done.stderr
        assert hub.repos["models/me/repo"]["files"] == {}

    @pytest.mark.parametrize(
        ("settings", "environment", "line"),
        [
            ({"repo": None}, {"HF_TOKEN": TOKEN}, "config key `upload.repo`: is not set"),
            ({}, {}, "HF_TOKEN is not set; set it to a token that may write to me/repo"),
            ({}, {"HF_TOKEN": "hf_anotherone"}, "me/repo: was not uploaded: HF_TOKEN may not"),
            ({}, {"HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
            ({}, {"HF_TOKEN": TOKEN, "HF_ENDPOINT": "http://127.0.0.1:9"}, "was not uploaded: "),
        ],
    )
    def test_what_cannot_be_sent_is_one_line(self, settings, environment, line):
        with local_hub(TOKEN) as hub:
            access = {"HF_ENDPOINT": hub.url, **environment}
            done = upload(send=True, environment=access, **settings)
        assert done.returncode == 1
        assert line in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
        assert MARK not in done.stderr
        assert hub.repos == {}

    def test_a_token_in_a_file_is_not_used(self, tmp_path):
        (tmp_path / "home").mkdir()
        (tmp_path / "home/token").write_text(TOKEN)
        with local_hub(TOKEN) as hub:
            access = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
            done = upload(send=True, environment=access)
        assert done.returncode == 1
        assert "HF_TOKEN is not set" in done.stderr

    def test_damaged_results_are_neither_shown_nor_sent(self):
        before = hash_file(examples.MANIFEST)
        manifest = read_json(examples.MANIFEST)
        manifest["facts"]["last_loss"] = 0.0
        Path(examples.MANIFEST).write_text(json.dumps(manifest))
        assert hash_file(examples.MANIFEST) != before
        done = upload()
        assert done.returncode == 1
        assert "manifest.json: is not as its job made it" in done.stderr
        assert "README.md" not in done.stderr
