"""Gold answers of train_2 reach no label, filter, pair or training set but the ceiling's."""

import json

from weak_to_strong.tables import hash_file


def hashes(project):
    files = [
        *project.result("models").rglob("rows.parquet"),
        *project.result("models").rglob("*.safetensors"),
        *project.result("labels").rglob("*.parquet"),
        *project.result("filter").rglob("*.parquet"),
        *project.result("votes").rglob("*.parquet"),
    ]
    return {str(file.relative_to(project.folder)): hash_file(file) for file in files}


def test_other_gold_answers_change_the_ceiling_only(project_copy):
    before = hashes(project_copy)
    path = project_copy.path("data/train_2.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["answer"] = str(int(row["answer"]) + 1000)
        row["solution"] = f"It is said to be so.\n#### {row['answer']}"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    project_copy.run()
    after = hashes(project_copy)
    assert before.keys() == after.keys()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {name for name in before if "/ceiling-0/" in name}
    assert len(changed) == 2
