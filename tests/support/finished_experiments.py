"""Finished experiments made up for tests: their tables, and the records of their jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import report_examples as examples

from weak_to_strong.evaluation.evaluated_models import EVALUATED_MODELS
from weak_to_strong.evaluation.metrics import metrics_table
from weak_to_strong.experiment.finished import find_finished
from weak_to_strong.tables.files import hash_file, write_json
from weak_to_strong.tables.frames import write_table
from weak_to_strong.tables.schemas import GENERATIONS, PROBLEMS, SCORES

#: (method, stage, iteration, accuracy, the model before it) of each model of the chain.
MODELS = (
    ("weak", "baseline", 0, 0.3, None),
    ("full_weak", "baseline", 0, 0.4, None),
    ("strong_zero_shot", "baseline", 0, 0.1, None),
    ("hybrid_ft", "stage1", 1, 0.6, None),
    ("hybrid_ft", "stage1", 2, 0.7, ("hybrid_ft", 1)),
    ("random_hybrid", "control", 0, 0.5, None),
    ("ceiling", "baseline", 0, 0.8, None),
)
#: Files of an experiment below its folder, each with the job that makes it and what that reads.
GENERATIONS_FILE = "generations/evaluation/sums/small.parquet"
PROBLEMS_FILE, SCORES_FILE = "data/sums/test.parquet", "scores/sums.parquet"
JOBS = (
    ("problems/sums/test", (), (PROBLEMS_FILE,)),
    ("generate/evaluation/sums/small", (PROBLEMS_FILE,), (GENERATIONS_FILE,)),
    ("score/sums", (PROBLEMS_FILE, GENERATIONS_FILE), (SCORES_FILE,)),
    ("metrics", (SCORES_FILE,), ("report/metrics.csv",)),
    (
        "report",
        ("report/metrics.csv", SCORES_FILE, GENERATIONS_FILE, PROBLEMS_FILE),
        ("report/index.html", "report/models.csv"),
    ),
)


def write_experiment(
    root: Path,
    *,
    test: pl.DataFrame | None = None,
    models: Sequence[tuple] = MODELS,
    seeds: Sequence[int] = (0,),
    draw: int = 0,
    respond: Callable[[str, str, bool], str] = lambda request, name, right: f"{request} {right}",
    **columns: Any,
) -> None:
    """Write the results of an experiment with one chain into `results/<name>`.

    Args:
        root: the folder. It is relative, as paths in records are.
        test: PROBLEMS of its test split.
        models: as MODELS.
        seeds: seeds of each model.
        draw: seed of the draw of the questions that a model gets right.
        respond: the answer of a request to a question, from whether it is right.
        columns: other values in EVALUATED_MODELS.
    """
    test = examples.problems(40) if test is None else test
    rng, nodes, scores, texts, rows = Random(draw), {}, [], [], []
    for method, stage, iteration, accuracy, before in models:
        for seed in seeds:
            weak = "none" if method in ("ceiling", "strong_zero_shot") else "tiny"
            strong = "none" if method == "weak" else "small"
            place = f"sums/{weak}/{strong}/seed-{seed}"
            request = f"{place}/{method}-{iteration}#greedy"
            facts = {
                **{"task": "sums", "weak": weak, "strong": strong, "method": method},
                **{"stage": stage, "iteration": iteration, "seed": seed},
            }
            nodes[request] = {
                **facts,
                "decoding": "greedy",
                "predecessor": before and f"{place}/{before[0]}-{before[1]}#greedy",
                "counterpart": None,
                "hybrid_ft": f"{place}/hybrid_ft-2#greedy",
            }
            for name, gold in test.select("id", "answer").rows():
                right = rng.random() < accuracy
                verdict = "right" if right else "wrong"
                given = gold if right else "no"
                scores.append((request, name, 0, given, gold, None, verdict, verdict))
                text = respond(request, name, right)
                texts.append((request, name, 0, text, "stop", 20, len(text)))
            rows.append(
                {
                    "request": request,
                    **facts,
                    "generations": GENERATIONS_FILE,
                    "scores": SCORES_FILE,
                    "problems": PROBLEMS_FILE,
                    "label_precision": 0.75 if method == "hybrid_ft" else None,
                    "label_coverage": 0.5 if method == "hybrid_ft" else None,
                    "generated_tokens": 2000 * iteration,
                    "trained_tokens": 0 if method == "strong_zero_shot" else 50_000,
                    "cpu_seconds": 360.0,
                    "gpu_seconds": None,
                    **columns,
                }
            )
    scores = pl.DataFrame(scores, schema=SCORES, orient="row")
    write_table(test, PROBLEMS, root / PROBLEMS_FILE)
    write_table(scores, SCORES, root / SCORES_FILE)
    texts = pl.DataFrame(texts, schema=GENERATIONS, orient="row")
    write_table(texts, GENERATIONS, root / GENERATIONS_FILE)
    (root / "report").mkdir()
    metrics = metrics_table(scores, nodes, root.name, [1], bootstrap_draws=100)
    metrics.write_csv(root / "report/metrics.csv")
    pl.DataFrame(rows, schema=EVALUATED_MODELS).write_csv(root / "report/models.csv")
    (root / "report/index.html").write_text("the report")
    record_jobs(root)


def record_jobs(root: Path, jobs: Sequence[tuple] = JOBS) -> None:
    """Leave the records of jobs, with the files as they now are."""
    for number, (job, inputs, outputs) in enumerate(jobs):
        files = [
            {f"{root}/{name}": hash_file(root / name) for name in names}
            for names in (inputs, outputs)
        ]
        write_json(
            record(job.split("/")[0], *files, ended=float(number)), root / f"logs/{job}.json"
        )


def record(rule: str, inputs: Mapping[str, str], outputs: Mapping[str, str], **more: Any) -> dict:
    """The record of a job."""
    return {
        **{"rule": rule, "wildcards": {}, "params": [], "started": 0.0, "ended": 1.0, "cost": {}},
        **{"input_paths": sorted(inputs), "output_paths": sorted(outputs)},
        **{"inputs": dict(inputs), "outputs": dict(outputs)},
        **more,
    }


def compare(run_rule: Callable[..., Any], folder: Path, *names: str) -> str:
    """Run the script of the rule `compare` in `folder`; return the page."""
    outputs = {"html": "page/index.html", "models": "page/models.csv"}
    run_rule("compare", {}, outputs, experiments=find_finished(names))
    return (folder / "page/index.html").read_text(encoding="utf-8")
