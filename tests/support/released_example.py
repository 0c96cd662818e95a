"""A small release in the authors' layout, made by the project's own functions."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import polars as pl

from weak_to_strong.data.readers import load_task
from weak_to_strong.data.splits import withhold_gold
from weak_to_strong.method.agreement import agreement_filter
from weak_to_strong.method.answers import normalise_answer, predict_column
from weak_to_strong.method.majority_vote import SAMPLES, majority_vote
from weak_to_strong.method.pairs import PairSettings, build_pairs
from weak_to_strong.method.prompts import zero_shot_prompt
from weak_to_strong.method.training_sets import (
    export_llama_factory_pairs,
    export_llama_factory_sft,
    pad_disagreeing,
    sft_rows,
)
from weak_to_strong.paper.released import dump_json, dump_json_lines, export_test_rows
from weak_to_strong.tables.schemas import LABELS

#: Questions of a split: few, so that checking a whole release takes a second.
SIZE = 40
KEYS = {"sums": "####", "algebra": "The answer is:"}
ITERATIONS = {"sums": 2, "algebra": 1}
MODELS = ("pico_1b", "nano-3b")


def write(folder: Path, path: str, rows: list[dict]) -> None:
    place = folder / path
    place.parent.mkdir(parents=True, exist_ok=True)
    dump = dump_json_lines if path.endswith("l") else dump_json
    place.write_text(dump(rows), encoding="utf-8")


def raw_rows(task: str, split: str) -> list[dict]:
    """Rows of a raw file: `sums` has the form of GSM8K, `algebra` the form of MATH."""
    rows = []
    for i in range(SIZE):
        a, b = i + 10, len(split) + i
        question, total = f"{split} {i}: What is {a} and {b} together?", a + b
        if task == "sums":
            answer = f"It is {a}+{b}=<<{a}+{b}={total}>>{total}.\n#### {total}"
            rows.append({"id": f"raw_{i}", "question": question, "answer": answer})
        else:
            facts = {"subject": "Sums", "level": 1 + i % 5, "unique_id": f"{split}/{i}.json"}
            solution = f"It is $\\boxed{{{total}}}$."
            row = {"problem": question, "solution": solution, "answer": f"{total}"}
            rows.append({**row, **facts})
    return rows


def answer_all(questions: pl.DataFrame, task: str, name: str, wrong: float) -> pl.DataFrame:
    """LABELS of a model whose answers are wrong with probability `wrong`."""
    rng = Random(f"{task} {name}")
    responses = []
    for place in range(questions.height):
        answer = place + (rng.randint(1, 3) if rng.random() < wrong else 0)
        thought = f"{name} thinks {rng.random():.6f}"
        join = "\n" if task == "sums" else " "
        responses.append(f"{thought}.{join}{KEYS[task]} {answer}")
    series = pl.Series("response", responses)
    return pl.DataFrame(
        [questions["id"], series, predict_column(series, KEYS[task])], schema=LABELS
    )


def output_rows(labels: pl.DataFrame, problems: pl.DataFrame) -> list[dict]:
    """Rows of a file of recorded outputs, from labels."""
    rows = []
    for (name, response, prediction), question, answer in zip(
        labels.iter_rows(), problems["question"], problems["answer"], strict=True
    ):
        gold = normalise_answer(answer)
        row = {"id": int(name), "prompt": zero_shot_prompt(question), "response": response}
        rows.append({**row, "pred": prediction, "gold": gold, "result": prediction == gold})
    return rows


def build_release(folder: Path, weak_side_of: dict[str, str] | None = None) -> None:
    """Write a release of two tasks and two weak models; `algebra` is padded as MATH is.

    Args:
        folder: folder to write to.
        weak_side_of: weak model -> model whose answers are the weak side of its pairs; by default
            the weak model itself.
    """
    for task in KEYS:
        for split in ("train_1", "train_2", "test"):
            path = f"data/raw/{task}/{split}.jsonl"
            write(folder, path, raw_rows(task, split))
            loader = {"loader": "gsm8k" if task == "sums" else "math"}
            problems = load_task({**loader, "ids": "row"}, [folder / path])
            given = load_task(
                {**loader, "ids": "row" if task == "sums" else "given"}, [folder / path]
            )
            if split != "train_1":
                name = task if split == "test" else f"{task}_train_2"
                write(folder, f"data/test/{name}.jsonl", export_test_rows(given, name))
            if split != "test":
                rows = sft_rows("gold_train_1", answer_key=KEYS[task], problems=problems)
                path = f"data/llama_factory/{task}/{task}_{split}.json"
                write(folder, path, export_llama_factory_sft(rows))
            if split == "train_2":
                train_2 = problems
        questions = withhold_gold(train_2)[0]
        weak_labels = {name: answer_all(questions, task, name, 0.5) for name in MODELS}
        for name in MODELS:
            weak_side = (weak_side_of or {}).get(name, name)
            _build_chain(folder, task, name, train_2, weak_labels[name], weak_labels[weak_side])


def _build_chain(
    folder: Path,
    task: str,
    name: str,
    problems: pl.DataFrame,
    weak: pl.DataFrame,
    weak_in_pairs: pl.DataFrame,
) -> None:
    stem = f"data/llama_factory/{task}/train_{task}_{name}"
    outputs = f"outputs/{task}_train_2/zero_shot"
    questions = withhold_gold(problems)[0]

    def write_set(kind: str, path: str, **tables: pl.DataFrame) -> None:
        rows = sft_rows(kind, questions=questions, **tables)
        write(folder, path, export_llama_factory_sft(rows))

    path = f"{outputs}/{name}_{task}_1/zero-shot/direct/results.jsonl"
    write(folder, path, output_rows(weak, problems))
    write_set("weak_labels", f"{stem}_full_weak.json", weak_labels=weak)
    for iteration in range(1, ITERATIONS[task] + 1):
        side = weak if iteration == 1 else answer_all(questions, task, f"{name} weak-ft", 0.3)
        icl = answer_all(questions, task, f"{name} icl {iteration}", 0.3)
        kept = agreement_filter(side, icl)
        if task == "algebra":
            for suffix in ("weak", "icl", "hybrid"):
                write_set(f"kept_{suffix}", f"{stem}_iter1_{suffix}_wo_aug.json", kept=kept)
            # As in the released files, padding rows are not in the order of train_2.
            kept = pad_disagreeing(kept, side, icl, target=kept.height + 12, seed=1)
        for suffix in ("weak", "icl", "hybrid"):
            write_set(f"kept_{suffix}", f"{stem}_iter{iteration}_{suffix}.json", kept=kept)
    samples = [answer_all(questions, task, f"{name} sample {i}", 0.15) for i in range(10)]
    for i, sample in enumerate(samples):
        path = f"{outputs}/strong-{name}/zero-shot/direct/t1.0/seed{i}/results.jsonl"
        write(folder, path, output_rows(sample, problems))
    table = pl.concat(
        sample.with_columns(pl.lit(i, pl.Int32).alias("sample")) for i, sample in enumerate(samples)
    ).select(SAMPLES.names())
    pairs = build_pairs(
        weak_in_pairs, table, majority_vote(table), questions, PairSettings(pairs_per_question=3)
    )
    path = f"{stem}_iter{ITERATIONS[task]}_hybrid_paired.json"
    write(folder, path, export_llama_factory_pairs(pairs))


def read(folder: Path, path: str) -> list[dict]:
    text = (folder / path).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()] if path[-1] == "l" else json.loads(text)
