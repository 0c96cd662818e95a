"""Checks of the released splits, and of what models recorded as their outputs."""

from __future__ import annotations

import polars as pl

from weak_to_strong.data.contamination import find_matches
from weak_to_strong.data.splits import withhold_gold
from weak_to_strong.method.answers import normalise_answer
from weak_to_strong.method.training_sets import export_llama_factory_sft, sft_rows
from weak_to_strong.paper.released import (
    Release,
    all_prompts,
    dump_json_lines,
    export_test_rows,
    find_answer_key,
    read_set_name,
    row_ids,
)
from weak_to_strong.paper.released_outcomes import (
    Golden,
    Outcome,
    all_hold,
    compare_rows,
    deviation,
    run_check,
)


def find_tasks(release: Release, golden: Golden) -> list[str]:
    """Tasks of which a split is here, or is counted in `golden`."""
    tasks = {match["task"] for kind in ("splits", "gold") for match in release.matches(kind)}
    tasks |= {read_set_name(match["name"])[0] for match in release.matches("tests")}
    trained = {chain.task for chain in release.chains()}
    counted = {task for task in trained if any(f"/raw/{task}/" in file for file, _ in golden)}
    return sorted(tasks | counted)


def check_splits(release: Release, golden: Golden, task: str) -> list[tuple[str, ...]]:
    """Rows of CHECKS of a task's splits: files made from raw ones, and train_2 against train_1."""
    rows = []

    def raw(split: str) -> str:
        return f"data/raw/{task}/{split}.jsonl"

    for split in ("train_1", "train_2"):
        path = f"data/llama_factory/{task}/{task}_{split}.json"

        def gold_rows(path: str = path, split: str = split) -> Outcome:
            problems = release.problems(raw(split))
            key = find_answer_key(row["output"] for row in release.rows(path))
            questions, gold = withhold_gold(problems)
            tables = {"problems": problems} if split == "train_1" else {}
            tables |= {"questions": questions, "gold": gold} if split == "train_2" else {}
            expected = sft_rows(f"gold_{split}", answer_key=key, **tables)
            return compare_rows(release, path, export_llama_factory_sft(expected))

        rows.append(run_check(release, path, "from raw", [path, raw(split)], gold_rows))

    for name, split in ((task, "test"), (f"{task}_train_2", "train_2")):
        path = f"data/test/{name}.jsonl"

        def test_rows(path: str = path, name: str = name, split: str = split) -> Outcome:
            columns = set().union(*release.rows(raw(split)))
            ids = "given" if "unique_id" in columns else "row"
            expected = export_test_rows(release.problems(raw(split), ids=ids), name)
            return compare_rows(release, path, expected, dump_json_lines)

        rows.append(run_check(release, path, "from raw", [path, raw(split)], test_rows))

    def overlap() -> Outcome:
        splits = {name: release.problems(raw(name)) for name in ("train_1", "train_2")}
        matches = find_matches(splits, "exact")
        shared = matches.filter(pl.col("split") > pl.col("other"))["row"].unique().sort()
        first = ", ".join(splits["train_2"]["id"].gather(shared.head(3)))
        note = f"these questions also stand in train_1, the first are ids {first}"
        return deviation(len(shared), golden.get((raw("train_2"), "overlap")), note)

    needs = [raw("train_1"), raw("train_2")]
    rows.append(run_check(release, raw("train_2"), "not in train_1", needs, overlap))
    return rows


def check_outputs(release: Release, path: str, name: str) -> list[tuple[str, ...]]:
    """Recorded outputs: what our extraction makes of the responses, and what they answer."""
    task, split = read_set_name(name)
    problems_file = release.problems_path(task, split) or f"data/raw/{task}/{split}.jsonl"

    def prompts() -> Outcome:
        expected, rows = all_prompts(release.problems(problems_file)), release.rows(path)
        ids = row_ids(rows)
        if ids != list(expected):
            return Outcome(f"{len(expected)} questions", f"{len(ids)} others", "ids differ")
        # Demonstrations may stand before the question.
        flags = [row["prompt"].endswith(expected[str(row["id"])]) for row in rows]
        return all_hold(flags, ids)

    def gold() -> Outcome:
        answers = release.problems(problems_file).select("id", "answer")
        expected = {name: normalise_answer(answer) for name, answer in answers.iter_rows()}
        rows = release.rows(path)
        flags = [normalise_answer(row["gold"]) == expected.get(str(row["id"])) for row in rows]
        return all_hold(flags, row_ids(rows))

    return [
        *check_recorded(release, path),
        run_check(release, path, "prompts", [path, problems_file], prompts),
        run_check(release, path, "gold", [path, problems_file], gold),
    ]


def check_recorded(release: Release, path: str) -> list[tuple[str, ...]]:
    """Recorded `pred` and `result` of a file, from its responses and its recorded gold."""

    def predictions() -> Outcome:
        rows, ours = release.rows(path), release.labels(path)["prediction"]
        flags = [answer == row.get("pred") for answer, row in zip(ours, rows, strict=True)]
        return all_hold(flags, row_ids(rows))

    def results() -> Outcome:
        rows, ours = release.rows(path), release.labels(path)["prediction"]
        flags = [
            (answer == normalise_answer(row.get("gold") or "")) == row.get("result")
            for answer, row in zip(ours, rows, strict=True)
        ]
        return all_hold(flags, row_ids(rows))

    return [
        run_check(release, path, "recorded predictions", [path], predictions),
        run_check(release, path, "recorded results", [path], results),
    ]
