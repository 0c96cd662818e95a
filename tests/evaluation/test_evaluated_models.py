"""What each model took and learned from, from the records of jobs and the diagnostics."""

import polars as pl
import pytest
from finished_experiments import record
from report_examples import diagnostic

from weak_to_strong.evaluation.diagnostics import DIAGNOSTICS
from weak_to_strong.evaluation.evaluated_models import EVALUATED_MODELS, evaluated_models
from weak_to_strong.tables.files import write_json

FACTS = {"task": "sums", "weak": "tiny", "strong": "small", "stage": "stage1", "seed": 0}
FILES = {"generations": "g.parquet", "scores": "s.parquet", "problems": "p.parquet"}


@pytest.fixture
def records(tmp_path):
    """Weak labels (a round of two requests), their rows, a training; another training apart."""
    counts = {"weak-1": {"response_tokens": 700}, "icl-1": {"response_tokens": 300}}
    write_json(counts, tmp_path / "round.json")
    for name, tokens in (("model", 5000), ("other", 90)):
        write_json({"kind": "lora", "facts": {"tokens": tokens}}, tmp_path / f"{name}.json")
    round_, model, other = (str(tmp_path / f"{name}.json") for name in ("round", "model", "other"))
    jobs = {
        # The round found its texts in the store, so that this run generated none.
        "generate": ([], [round_, "round.parquet"], {"response_tokens": 0, "cpu_seconds": 1.0}),
        "rows": (["round.parquet"], ["rows"], {"cpu_seconds": 0.5}),
        "train": (["rows"], [model, "folder"], {"trained_tokens": 10, "cpu_seconds": 8.0}),
        "train other": (["rows"], [other], {"trained_tokens": 90, "gpu_seconds": 3.0}),
    }
    made = {
        path: {"job": job, **record(job, dict.fromkeys(inputs, "0"), dict.fromkeys(outputs, "0"))}
        | {"cost": cost}
        for job, (inputs, outputs, cost) in jobs.items()
        for path in outputs
    }
    return made, model, other


def table(records, labels=None, method="hybrid_ft", iteration=1, diagnostics=(), made_from=()):
    nodes = {"x#greedy": {**FACTS, "method": method, "iteration": iteration}, "x#samples": {}}
    sources = {"x#greedy": {**FILES, "made_from": list(made_from), "labels": labels}}
    rows = pl.DataFrame(diagnostics, schema=DIAGNOSTICS)
    frame = evaluated_models(nodes, sources, records, rows)
    assert frame.schema == EVALUATED_MODELS
    return frame.row(0, named=True)


def test_tokens_count_what_was_made_and_hours_what_the_last_run_took(records):
    made, model, other = records
    row = table(made, made_from=[model])
    assert (row["generated_tokens"], row["trained_tokens"]) == (1000, 5000)
    assert (row["cpu_seconds"], row["gpu_seconds"]) == (9.5, None)
    both = table(made, made_from=[model, other])
    assert (both["generated_tokens"], both["trained_tokens"]) == (1000, 5090)
    assert both["gpu_seconds"] == 3.0


def test_a_model_that_nothing_was_made_for_took_nothing(records):
    row = table(records[0], method="strong_zero_shot")
    names = ("generated_tokens", "trained_tokens", "cpu_seconds", "gpu_seconds")
    assert [row[name] for name in names] == [0, 0, 0, 0]
    assert row["label_precision"] is None


ROWS = [
    diagnostic("filter", "precision", 0.8, 50, iteration=1, method="agreement"),
    diagnostic("filter", "kept", 0.25, 200, iteration=1, method="agreement"),
    diagnostic("filter", "precision", 0.9, 60, iteration=2, method="agreement"),
    diagnostic("filter", "kept", 0.3, 200, iteration=2, method="agreement"),
    diagnostic("kept", "precision", 0.95, 40, method="sure"),
    diagnostic("kept", "kept", 0.2, 200, method="sure"),
    diagnostic("labels", "accuracy", 0.35, 200, iteration=1, method="weak"),
    diagnostic("pairs", "chosen_accuracy", 0.7, 90, method="dpo"),
    diagnostic("pairs", "questions", 40, 90, method="dpo"),
]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("filter", "agreement", 2), (0.9, 0.3)),
        (("kept", "sure", 0), (0.95, 0.2)),
        (("labels", "weak", 1), (0.35, 1.0)),
        (("pairs", "dpo", 0), (0.7, 0.2)),
        (("pairs", "orpo", 0), (None, None)),  # not measured
        (None, (None, None)),
    ],
)
def test_label_quality_is_that_of_the_models_own_diagnostic(labels, expected):
    named = labels and dict(zip(("diagnostic", "method", "iteration"), labels, strict=True))
    row = table({}, named, diagnostics=ROWS)
    assert (row["label_precision"], row["label_coverage"]) == expected
