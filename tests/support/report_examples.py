"""Small made-up tables of a finished run, for the tests of the figures and the report."""

from __future__ import annotations

import polars as pl

from weak_to_strong.evaluation.diagnostics import DIAGNOSTICS
from weak_to_strong.tables.schemas import GENERATIONS, METRICS, PROBLEMS, SCORES

#: (method, stage, iteration, accuracy) of one chain.
MODELS = [
    ("weak", "baseline", 0, 0.25),
    ("full_weak", "baseline", 0, 0.30),
    ("strong_zero_shot", "baseline", 0, 0.08),
    ("weak_icl", "baseline", 0, 0.41),
    ("weak_ft", "stage1", 1, 0.38),
    ("icl_ft", "stage1", 1, 0.44),
    ("hybrid_ft", "stage1", 1, 0.43),
    ("weak_ft", "stage1", 2, 0.40),
    ("icl_ft", "stage1", 2, 0.45),
    ("hybrid_ft", "stage1", 2, 0.48),
    ("dpo", "stage2", 0, 0.50),
    ("orpo", "stage2", 0, 0.46),
    ("ceiling", "baseline", 0, 0.60),
]
#: (method, iteration) -> the model that it should improve on.
BEFORE = {
    **{(method, 2): (method, 1) for method in ("weak_ft", "icl_ft", "hybrid_ft")},
    ("dpo", 0): ("hybrid_ft", 2),
    ("orpo", 0): ("icl_ft", 2),
}
#: Controls, as MODELS has its models, and what they control.
CONTROLS = [("random_icl", "control", 0, 0.31), ("dpo_shuffled", "control", 0, 0.48)]
CONTROLLED = {("random_icl", 0): ("icl_ft", 1), ("dpo_shuffled", 0): ("dpo", 0)}


def metric(accuracy: float, name: str = "accuracy", **columns: object) -> dict:
    """One METRICS row of a chain, with an interval of 4 points on either side."""
    row = {
        "experiment": "example",
        "task": "sums",
        "weak": "tiny",
        "strong": "small",
        "method": "full_weak",
        "stage": "baseline",
        "iteration": 0,
        "seed": 0,
        "split": "test",
        "scorer": "paper",
        "metric": name,
        "k": 1,
        "n": 200,
        "value": accuracy,
        "ci_low": accuracy - 0.04,
        "ci_high": accuracy + 0.04,
        "reference": None,
        "detectable": None,
    }
    return {**row, **columns}


def _difference(value: float, reference: str, other: tuple[str, int], facts: dict) -> dict:
    """A METRICS row of a difference to another model, of which 7 points could be detected."""
    name = f"{other[0]} {other[1] or ''}".strip()
    return metric(value, f"difference_vs_{reference}", **facts, reference=name, detectable=0.07)


def metrics(models: list = MODELS, **columns: object) -> pl.DataFrame:
    """METRICS of one chain. The floor names no strong model, and the ceiling no weak model."""
    rows = []
    floor, base, top = (
        next((m[3] for m in models if m[0] == name), None)
        for name in ("weak", "full_weak", "ceiling")
    )
    for method, stage, iteration, value in models:
        facts = {"method": method, "stage": stage, "iteration": iteration}
        if method in ("ceiling", "strong_zero_shot"):
            facts["weak"] = "none"
        if method == "weak":
            facts["strong"] = "none"
        facts |= columns
        test = "sign_flip" if facts.get("seed") == -1 else "mcnemar"
        rows += [metric(value, scorer=scorer, **facts) for scorer in ("paper", "math")]
        rows += [
            metric(value - 0.1 * level, split=f"test/level={level}", **facts) for level in (1, 2)
        ]
        own = method not in ("weak", "ceiling", "strong_zero_shot")
        if own and base is not None and method != "full_weak":
            rows.append(_difference(value - base, "full_weak", ("full_weak", 0), facts))
            p = 0.0004 if abs(value - base) > 0.04 else 0.6
            rows.append(metric(p, f"{test}_p_vs_full_weak", **facts))
        for reference, others in (("predecessor", BEFORE), ("counterpart", CONTROLLED)):
            before = others.get((method, iteration))
            start = next((m[3] for m in models if (m[0], m[2]) == before), None)
            if start is None:
                continue
            rows.append(_difference(value - start, reference, before, facts))
            p = 0.001 if abs(value - start) > 0.04 else 0.4
            rows.append(metric(p, f"{test}_p_vs_{reference}", **facts))
        if own and floor is not None and top is not None and top > floor:
            rows.append(metric((value - floor) / (top - floor), "pgr", **facts))
        for k in (1, 5, 10):
            rows.append(metric(min(value + 0.03 * k, 1.0), "pass_at_k", **{**facts, "k": k}))
            rows.append(metric(min(value + 0.01 * k, 1.0), "maj_at_k", **{**facts, "k": k}))
    return pl.DataFrame(rows, schema=METRICS)


def diagnostic(kind: str, name: str, value: float, n: int, **columns: object) -> dict:
    """One DIAGNOSTICS row of a chain, with an interval of 3 points on either side."""
    row = {
        "task": "sums",
        "weak": "tiny",
        "strong": "small",
        "seed": 0,
        "diagnostic": kind,
        "method": "",
        "iteration": 0,
        "name": name,
        "value": value,
        "n": n,
        "ci_low": value - 0.03,
        "ci_high": value + 0.03,
    }
    return {**row, **columns}


def diagnostics() -> pl.DataFrame:
    """Filter, label, pair, calibration, selection and sample rows of the same chain."""
    rows, vote = [], {"method": "majority"}
    for step in (1, 2):
        rows += [
            diagnostic("filter", "precision", 0.8 + 0.02 * step, 300 + 90 * step, iteration=step),
            diagnostic("filter", "recall", 0.7, 500, iteration=step),
            diagnostic("filter", "kept", 0.3 + 0.09 * step, 1000, iteration=step),
            diagnostic("filter", "weak_accuracy", 0.35, 1000, iteration=step),
            diagnostic("filter", "icl_accuracy", 0.42, 1000, iteration=step),
            diagnostic("labels", "accuracy", 0.35, 1000, iteration=step, method="weak"),
            diagnostic("labels", "accuracy", 0.42, 1000, iteration=step, method="icl"),
        ]
    rows += [
        diagnostic("pairs", "chosen_accuracy", 0.8, 150, method="dpo"),
        diagnostic("pairs", "rejected_accuracy", 0.1, 150, method="dpo"),
        diagnostic("pairs", "questions", 140, 150, method="dpo", ci_low=None, ci_high=None),
        diagnostic("calibration", "ece", 0.07, 1000, **vote, ci_low=None, ci_high=None),
    ]
    for share, coverage, precision in ((0.6, 0.9, 0.7), (1.0, 0.4, 0.95)):
        name = f"share {share:.2f}"
        rows += [
            diagnostic("selection", f"{name} coverage", coverage, 1000, **vote),
            diagnostic("selection", f"{name} precision", precision, round(1000 * coverage), **vote),
        ]
    rows += [
        diagnostic("samples", "coverage", 0.9, 1000, method="m_plus"),
        diagnostic("samples", "answers", 2.5, 1000, method="m_plus", ci_low=None, ci_high=None),
    ]
    for low, accuracy in ((0.6, 0.5), (0.8, 0.85)):
        name = f"bin {low:.1f}-{low + 0.2:.1f}"
        rows += [
            diagnostic("calibration", f"{name} accuracy", accuracy, 80, **vote),
            diagnostic("calibration", f"{name} confidence", low + 0.1, 80, **vote),
        ]
    return pl.DataFrame(rows, schema=DIAGNOSTICS)


def problems(count: int = 80, **columns: list) -> pl.DataFrame:
    """PROBLEMS of the test split."""
    text = {name: [f"{name} {i}" for i in range(count)] for name in PROBLEMS}
    text |= {"id": [str(i) for i in range(count)], "answer": [str(i) for i in range(count)]}
    text["answer_type"] = [None] * count
    return pl.DataFrame({**text, **columns}, schema=PROBLEMS)


def answers(
    test: pl.DataFrame, response: str = "So\n#### 7"
) -> tuple[dict, pl.DataFrame, pl.DataFrame]:
    """Nodes, SCORES and GENERATIONS of two models, whose answers are right on even rows."""
    nodes = {}
    for method, iteration in (("weak", 0), ("hybrid_ft", 2)):
        for decoding in ("greedy", "samples"):
            nodes[f"sums/{method}-{iteration}#{decoding}"] = {
                **{"task": "sums", "weak": "tiny", "strong": "small", "stage": "stage1"},
                **{"method": method, "iteration": iteration, "seed": 0, "decoding": decoding},
            }
    scores, generations = [], []
    for request in nodes:
        for place, (name, gold) in enumerate(test.select("id", "answer").rows()):
            right = "right" if place % 2 == 0 else "wrong"
            math = "timeout" if place == 3 else right
            given = gold if place % 2 == 0 else ""
            scores.append((request, name, 0, given, gold, "1", right, math))
            generations.append((request, name, 0, response, "stop", 20, 5))
    return (
        nodes,
        pl.DataFrame(scores, schema=SCORES, orient="row"),
        pl.DataFrame(generations, schema=GENERATIONS, orient="row"),
    )
