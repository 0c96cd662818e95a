"""Gold answers of train_2 reach no label, filter, pair or training set but the ceiling's."""

import json

import pytest
import yaml
from project import ROOT
from random_study import CHAIN

from weak_to_strong.tables.files import hash_file

pytestmark = pytest.mark.slow


def test_other_gold_answers_change_the_ceiling_only(project_copy):
    """Every training set and every table before it, and the models that write labels.

    The training sets are also those of the demo's controls.
    """
    methods = yaml.safe_load((ROOT / "config/config.yaml").read_text())["methods"]
    controls = {name: entry for name, entry in methods.items() if "control_of" in entry}
    assert controls
    project_copy.write_config({**project_copy.config, "methods": controls})
    rows_of_controls = [f"results/test/models/{CHAIN}/{name}-0/rows.parquet" for name in controls]
    project_copy.run(*rows_of_controls)
    path = project_copy.path("data/train_2.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["answer"] = str(int(row["answer"]) + 1000)
        row["solution"] = f"It is said to be so.\n#### {row['answer']}"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")

    files = [
        *project_copy.result("models").rglob("rows.parquet"),
        *project_copy.result("labels").rglob("*.parquet"),
        *project_copy.result("filter").rglob("*.parquet"),
        *project_copy.result("votes").rglob("*.parquet"),
    ]
    models = [f"{side}_ft-1" for side in ("weak", "icl")] + ["hybrid_ft-2"]
    files += [
        project_copy.result(f"models/{CHAIN}/{model}/model/adapter_model.safetensors")
        for model in models
    ]
    assert {project_copy.path(name) for name in rows_of_controls} <= {*files}
    before = {file: (hash_file(file), file.stat().st_mtime_ns) for file in files}
    project_copy.run(
        *(str(file.relative_to(project_copy.folder)) for file in files if file.suffix == ".parquet")
    )
    changed = {file for file in files if hash_file(file) != before[file][0]}
    assert changed == {
        project_copy.result("models/dice/none/random_strong/seed-0/ceiling-0/rows.parquet")
    }
    # The comparison proves something only about files that were made again.
    kept = {file for file in files if file.stat().st_mtime_ns == before[file][1]}
    assert {file.parent.name for file in kept} == {"weak-0"}
