"""Bad input ends at once, in one line that names the key or file, and leaves nothing behind."""

import json
import os
import re

import pytest
import yaml
from project import changed
from random_study import CHAIN, SIZES, WEAK_SIDE
from table_builders import generations, labels

from weak_to_strong.tables.files import hash_file, write_json
from weak_to_strong.tables.frames import write_table
from weak_to_strong.tables.schemas import GENERATIONS, LABELS

pytestmark = pytest.mark.slow

CASES = {
    "pairs.tau": (0.5, "unknown key"),
    "pairs.min_confidence": ("high", "is not a number, such as"),
    "models.random_strong.path": ("models/none", "no folder models/none"),
    "chains": ([{"task": "dce", "weak": "random_weak", "strong": "random_strong"}], "`dce`"),
    "tasks.dice.splits.test.path": ("data/none.jsonl", "no such file"),
}


@pytest.mark.parametrize("path", CASES)
def test_configuration(fresh_project, path):
    value, expected = CASES[path]
    fresh_project.write_config(changed(fresh_project.config, path, value))
    completed = fresh_project.snakemake()
    assert completed.returncode != 0
    lines = [line for line in completed.stderr.splitlines() if "config key" in line]
    assert len(lines) == 1
    assert expected in lines[0]
    assert "Traceback" not in completed.stderr
    assert not fresh_project.path("results").exists()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sampling: {n: 3}\n", "the key `sampling` stands twice"),
        ("__use_yte__: true\n", "has the key `__use_yte__`, with which Snakemake runs code"),
    ],
)
def test_text_of_a_configuration(fresh_project, line, expected):
    """What the parsed configuration no longer shows, also in a dry run."""
    file = fresh_project.path("config/test.yaml")
    file.write_text(file.read_text() + line)
    done = fresh_project.snakemake("-n")
    assert done.returncode != 0
    (message,) = [text for text in done.stderr.splitlines() if "config/test.yaml: " in text]
    assert expected in message
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("path", ["data/misspelt/test.parquet", "bases/misspelt.json"])
def test_a_path_of_no_task_and_no_model(fresh_project, path):
    done = fresh_project.snakemake("-n", f"results/test/{path}")
    assert done.returncode != 0
    output = done.stdout + done.stderr
    assert f"No rule to produce results/test/{path}" in output
    assert "Traceback" not in output


DATA = {
    "empty": ("", "the file has no rows; put problems into it"),
    "no answer": (
        '{"question": "How many?", "solution": "s", "answer": null}\n',
        "1 of 1 problems have no answer.*complete these rows or remove them",
    ),
    "no question": (
        '{"question": " ", "solution": "s", "answer": "1"}\n',
        "1 of 1 problems have no question.*complete these rows or remove them",
    ),
    "repeated ids": (
        '{"id": 7, "question": "How many?", "solution": "s", "answer": "1"}\n' * 2,
        r"ids \['7'\] repeat; set `ids: row`",
    ),
    "broken": ('{"question": "How many?"\n', "line 1"),
}


@pytest.mark.parametrize("case", DATA)
def test_raw_data(fresh_project, case):
    text, expected = DATA[case]
    fresh_project.write_config(changed(fresh_project.config, "tasks.dice.ids", "given"))
    fresh_project.path("data/train_1.jsonl").write_text(text)
    completed = fresh_project.snakemake("results/test/data/dice/train_1.parquet")
    assert completed.returncode != 0
    lines = [line for line in completed.stderr.splitlines() if line.startswith("[problems/")]
    assert len(lines) == 1
    assert "data/train_1.jsonl" in lines[0]
    assert re.search(expected, lines[0])
    assert "Traceback" not in completed.stderr
    assert list(fresh_project.result("data").rglob("*.*")) == []


def test_a_bad_split_ends_the_run_before_the_first_training(fresh_project):
    fresh_project.path("data/test.jsonl").write_text("")
    completed = fresh_project.snakemake(f"results/test/models/{WEAK_SIDE}/weak-0/manifest.json")
    assert completed.returncode != 0
    assert "[contamination/dice] data/test.jsonl: the file has no rows" in completed.stderr
    assert not fresh_project.result(f"models/{WEAK_SIDE}/weak-0/model").exists()


def test_a_model_that_is_not_whole_ends_the_run_before_the_first_job(fresh_project):
    """A dry run does not ask: its plan needs no libraries of models."""
    from safetensors.torch import load_file, save_file

    weights = fresh_project.path(fresh_project.config["models"]["random_strong"]["path"])
    tensors = load_file(weights / "model.safetensors")
    for name in sorted(tensors)[:3]:
        del tensors[name]
    save_file(tensors, weights / "model.safetensors", metadata={"format": "pt"})
    done = fresh_project.snakemake()
    assert done.returncode != 0
    assert "models.random_strong: " in done.stderr
    assert re.search(r"lacks \d tensors of the model that config\.json names", done.stderr)
    assert "Traceback" not in done.stderr
    assert not fresh_project.result("data").exists()
    assert not fresh_project.result("bases").exists()
    fresh_project.run("--dry-run")


def test_files_that_are_not_the_models_change_nothing(fresh_project):
    """Not even one whose name is no UTF-8."""
    folder = fresh_project.path(fresh_project.config["models"]["random_strong"]["path"])
    target = "results/test/bases/random_strong.json"
    fresh_project.run(target)
    (folder / os.fsdecode(b"caf\xe9.json")).touch()
    (folder / "model_backup.safetensors").touch()
    assert fresh_project.planned(target) == set()


def test_a_model_lost_after_a_finished_run_is_to_be_put_back(fresh_project):
    folder = fresh_project.path(fresh_project.config["models"]["random_strong"]["path"])
    target = "results/test/bases/random_strong.json"
    fresh_project.run(target)
    folder.rename(folder.with_name("elsewhere"))
    for arguments in ((), ("--dry-run",)):
        done = fresh_project.snakemake(target, *arguments)
        assert done.returncode != 0
        lines = [line for line in done.stderr.splitlines() if "random_strong" in line]
        assert len(lines) == 1
        assert "put the model there, or correct the path" in lines[0]


def refusal(project, target, *rules):
    """The last word of the last of `rules` when it is asked for `target` and must refuse.

    Tables that other rules would make are there already.
    """
    completed = project.snakemake(f"results/test/{target}", "--allowed-rules", *rules)
    assert completed.returncode != 0
    assert "Traceback" not in completed.stderr
    assert not project.result(target).exists()
    assert list(project.path("results").rglob("*.part")) == []
    messages = [line for line in completed.stderr.splitlines() if line.startswith(f"[{rules[-1]}/")]
    assert messages, completed.stderr[-3000:]
    return messages[-1]


def write_labels(project, place, response, answer):
    frame = labels([answer] * SIZES["train_2"], response)
    write_table(frame, LABELS, project.result(f"labels/{place}.parquet"))


def test_no_agreeing_answers(fresh_project):
    write_labels(fresh_project, f"{WEAK_SIDE}/weak-1", "#### 1", "1")
    write_labels(fresh_project, f"{CHAIN}/icl-1", "#### 2", "2")
    target = f"filter/{CHAIN}/kept-1.parquet"
    line = refusal(fresh_project, target, "withhold_gold", "agreement_filter")
    assert f"no weak and ICL answers agree ({SIZES['train_2']} questions" in line
    assert "check `answer_key`" in line


def test_no_pairs(fresh_project):
    """All samples agree with the weak answer: there is nothing to reject."""
    write_labels(fresh_project, f"{WEAK_SIDE}/weak-1", "#### 1", "1")
    frame = generations(
        ("samples", str(row), sample, "#### 1")
        for row in range(SIZES["train_2"])
        for sample in range(4)
    )
    place = fresh_project.result(f"generations/{CHAIN}/samples.parquet")
    write_table(frame, GENERATIONS, place)
    target = f"models/{CHAIN}/dpo-0/rows.parquet"
    line = refusal(fresh_project, target, "withhold_gold", "majority_vote", "pairs")
    assert "no question gives a contrastive pair: 96 of 96 reach min_confidence 0.3" in line
    assert "lower `pairs.min_confidence`" in line


def test_a_ceiling_without_gold(fresh_project):
    path = fresh_project.path("data/train_2.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    bare = [{**row, "solution": None, "answer": None} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in bare))
    target = "models/dice/none/random_strong/seed-0/ceiling-0/rows.parquet"
    line = refusal(fresh_project, target, "withhold_gold", "sft_set")
    assert "train_2 has no gold answers" in line
    assert "methods: {ceiling: null}" in line


def test_prompts_that_are_too_long(fresh_project):
    config = changed(fresh_project.config, "tasks.dice.max_tokens", 12)
    fresh_project.write_config(changed(config, "engine.max_model_len", 16))
    folder = fresh_project.path("models/weak")
    manifest = {
        "kind": "full",
        "path": "models/weak",
        "files": {file.name: hash_file(file) for file in folder.iterdir()},
    }
    write_json(manifest, fresh_project.result(f"models/{WEAK_SIDE}/weak-0/manifest.json"))
    rules = ("fetch_source", "withhold_gold", "contamination", "base_model", "generate")
    line = refusal(fresh_project, f"generations/{WEAK_SIDE}/weak-1.parquet", *rules)
    assert "request 'weak-1', id '0'" in line
    assert "exceed `engine.max_model_len` 16; raise it" in line
    assert list(fresh_project.path("results/store").rglob("shard-*")) == []


def test_demonstrations_that_make_prompts_too_long(fresh_project):
    fresh_project.write_config(changed(fresh_project.config, "engine.max_model_len", 120))
    write_labels(fresh_project, f"{WEAK_SIDE}/weak-1", "so on " * 40 + "\n#### 1", "1")
    rules = (
        "fetch_source",
        "withhold_gold",
        "contamination",
        "base_model",
        "demonstrations",
        "generate",
    )
    line = refusal(fresh_project, f"generations/{CHAIN}/icl-1.parquet", *rules)
    assert "request 'icl-1', id '0'" in line
    assert "exceed `engine.max_model_len` 120; raise it, or show fewer demonstrations" in line
    assert list(fresh_project.path("results/store").rglob("shard-*")) == []


def test_a_model_without_a_tokenizer(fresh_project):
    fresh_project.path("models/strong/tokenizer.json").unlink()
    completed = fresh_project.snakemake("--dry-run")
    assert completed.returncode != 0
    assert "has no tokenizer" in completed.stderr


def test_a_model_without_a_revision_can_be_planned_but_not_run(fresh_project):
    model = {"hub": "owner/large", "revision": None}
    fresh_project.write_config(changed(fresh_project.config, "models.random_strong", model))
    assert fresh_project.snakemake("--dry-run").returncode == 0
    completed = fresh_project.snakemake()
    assert completed.returncode != 0
    (line,) = (line for line in completed.stderr.splitlines() if "config key" in line)
    assert "`models.random_strong.revision`: is null" in line
    assert "Traceback" not in completed.stderr
    assert not fresh_project.path("results").exists()


def test_a_missing_configuration_file(fresh_project):
    completed = fresh_project.snakemake(config="config/none.yaml")
    assert completed.returncode != 0
    assert "config/none.yaml" in completed.stderr


def test_the_demo_configuration_is_the_default_and_stands_apart(fresh_project):
    fresh_project.path("config/tiny.yaml").write_text(yaml.safe_dump({"experiment": "x"}))
    completed = fresh_project.snakemake(config="config/tiny.yaml")
    assert completed.returncode != 0
    assert "is missing" in completed.stderr
