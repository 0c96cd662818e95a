"""The target `published`, on a tiny release of raw and gold training files."""

import csv
import json

import pytest

pytestmark = pytest.mark.slow

GOLD = "data/llama_factory/sums/sums_train_2.json"


def write_release(folder):
    for split, first in (("train_1", 0), ("train_2", 100)):
        numbers = range(first, first + 4)
        raw = [
            {
                "question": f"How many are {n} and 1?",
                "answer": f"It is <<{n}+1={n + 1}>>{n + 1}.\n#### {n + 1}",
            }
            for n in numbers
        ]
        rows = [
            {
                "id": i,
                "content": f"Question: How many are {n} and 1?\nAnswer:",
                "output": f"It is {n + 1}.\n#### {n + 1}",
            }
            for i, n in enumerate(numbers)
        ]
        files = {
            f"data/raw/sums/{split}.jsonl": "".join(f"{json.dumps(row)}\n" for row in raw),
            f"data/llama_factory/sums/sums_{split}.json": json.dumps(rows, indent=4),
        }
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)


def verdicts(project):
    with project.path("results/published/check.csv").open() as file:
        rows = csv.DictReader(file)
        return {(row["file"], row["check"]): row["ok"] for row in rows}


def test_it_passes_then_fails_on_a_changed_file(fresh_project):
    folder = fresh_project.path("release")
    write_release(folder)
    target = ("published", "--config", "published_dir=release")
    fresh_project.run(*target)
    assert verdicts(fresh_project)[GOLD, "from raw"] == "ok"
    assert fresh_project.path("results/published/summary.txt").exists()
    assert not fresh_project.path("results/test").exists()
    assert fresh_project.planned(*target) == set()

    gold = folder / GOLD
    gold.write_text(gold.read_text().replace("It is 102", "It is 103"))
    done = fresh_project.snakemake(*target)
    assert done.returncode != 0
    (line,) = (line for line in done.stderr.splitlines() if "checks failed" in line)
    assert f"`from raw` of {GOLD}" in line
    assert "Traceback" not in done.stderr
    assert verdicts(fresh_project)[GOLD, "from raw"] == "FAIL"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "is not set"),
        (("--config", "published_dir=nowhere"), "no such folder: nowhere"),
        (("--config", "published_dir=envs"), "holds no released file"),
    ],
)
def test_without_a_folder_one_line_names_key_and_fix(fresh_project, given, message):
    completed = fresh_project.snakemake("published", *given)
    assert completed.returncode != 0
    (line,) = (line for line in completed.stderr.splitlines() if "config key" in line)
    assert "`published_dir`" in line
    assert message in line
    assert "published_dir=DIR" in line
    assert "Traceback" not in completed.stderr
    assert not fresh_project.path("results").exists()


def test_the_folder_reaches_no_other_rule(project, configure):
    configure("published_dir", str(project.path("data")))
    assert project.planned() == set()
