"""The metrics table: which rows there are, and what they compare."""

from __future__ import annotations

import json

import polars as pl
import pytest

from weak_to_strong.evaluation.metrics import majority_right, metrics_json, metrics_table
from weak_to_strong.report.results_table import results_table
from weak_to_strong.tables.schemas import ALL_SEEDS, METRICS, SCORES

LEVELS = ["1", "1", "2", "2"]


def facts(method: str, seed: int = 1, decoding: str = "greedy", **other) -> dict:
    node = {"task": "t", "weak": "w", "strong": "s", "stage": "one", "iteration": 0}
    return {**node, "method": method, "seed": seed, "decoding": decoding, **other}


def scored(request: str, right: list[int], sample: int = 0, **columns) -> pl.DataFrame:
    """One answer a question; math mode agrees with paper mode unless told otherwise."""
    verdicts = ["right" if value else "wrong" for value in right]
    base = {
        "request": [request] * len(right),
        "id": [str(i) for i in range(len(right))],
        "sample": [sample] * len(right),
        "prediction": ["p"] * len(right),
        "answer": ["p"] * len(right),
        "level": LEVELS[: len(right)],
        "paper": verdicts,
        "math": verdicts,
    }
    return pl.DataFrame({**base, **columns}, schema=SCORES)


ANSWERS = {
    "weak": [0, 0, 0, 1],
    "ceiling": [1, 1, 0, 1],
    "full_weak": [1, 0, 0, 0],
    "hybrid_ft": [1, 0, 1, 0],
}


def study(seeds: tuple[int, ...] = (1,)) -> tuple[pl.DataFrame, dict]:
    tables, nodes = [], {}
    for seed in seeds:
        for method, right in ANSWERS.items():
            request = f"{method}-{seed}"
            nodes[request] = facts(
                method,
                seed,
                weak="none" if method == "ceiling" else "w",
                strong="none" if method == "weak" else "s",
            )
            tables.append(scored(request, right))
    return pl.concat(tables), nodes


def table(*args, **kwargs) -> pl.DataFrame:
    return metrics_table(*args, "demo", [1, 2], bootstrap_draws=200, **kwargs)


def value(metrics: pl.DataFrame, **where) -> float | None:
    where = {"scorer": "paper", "split": "test", "seed": 1, **where}
    rows = metrics.filter(pl.all_horizontal(pl.col(key) == item for key, item in where.items()))
    return rows["value"].item()


def test_comparisons_pair_nodes_of_the_same_chain():
    metrics = table(*study())
    assert metrics.schema == METRICS
    assert value(metrics, method="hybrid_ft", metric="accuracy") == 0.5
    assert value(metrics, method="hybrid_ft", metric="pgr") == 0.5
    assert value(metrics, method="hybrid_ft", metric="difference_vs_full_weak") == 0.25
    assert value(metrics, method="hybrid_ft", metric="mcnemar_p_vs_full_weak") == 1.0
    assert metrics.filter(method="full_weak", metric="difference_vs_full_weak").is_empty()
    assert set(metrics.filter(metric="pgr")["method"]) == {"full_weak", "hybrid_ft"}


def test_a_model_is_compared_with_the_one_it_is_to_improve_on():
    scores, nodes = study()
    nodes["hybrid_ft-1"]["predecessor"] = "weak-1"
    nodes["ceiling-1"]["predecessor"] = "absent"
    metrics = table(scores, nodes)
    # Two questions that only it gets right, one that only the other does.
    assert value(metrics, method="hybrid_ft", metric="difference_vs_predecessor") == 0.25
    assert value(metrics, method="hybrid_ft", metric="mcnemar_p_vs_predecessor") == 1.0
    with_one = metrics.filter(pl.col("metric").str.ends_with("_vs_predecessor"))
    assert set(with_one["method"]) == {"hybrid_ft"}


def test_accuracy_by_level():
    metrics = table(*study())
    by_level = [
        value(metrics, method="ceiling", metric="accuracy", split=f"test/level={level}")
        for level in (1, 2)
    ]
    assert by_level == [1.0, 0.5]


def test_a_comparison_without_partner_is_left_out():
    scores, nodes = study()
    del nodes["ceiling-1"], nodes["full_weak-1"]
    metrics = table(scores.filter(pl.col("request").is_in(list(nodes))), nodes)
    assert set(metrics["metric"]) == {"accuracy", "scorer_agreement", "undecided", "timeout"}


def test_several_seeds_are_pooled():
    metrics = table(*study(seeds=(1, 2, 3)))
    pooled = metrics.filter(seed=ALL_SEEDS, scorer="paper", split="test", method="hybrid_ft")
    assert dict(pooled.select("metric", "n").iter_rows()) == dict.fromkeys(
        ["accuracy", "difference_vs_full_weak", "pgr"], 12
    )
    assert table(*study()).filter(seed=ALL_SEEDS).is_empty()


def test_a_seed_without_its_ceiling_is_not_pooled():
    scores, nodes = study(seeds=(1, 2))
    del nodes["ceiling-2"]
    metrics = table(scores.filter(pl.col("request") != "ceiling-2"), nodes)
    assert metrics.filter(seed=ALL_SEEDS, metric="pgr").is_empty()
    assert not metrics.filter(seed=1, metric="pgr").is_empty()


def test_the_first_answer_wins_a_tied_vote():
    votes = {"a": ["x", "y", "y", "x"], "b": ["", "", "x", "x"], "c": ["y", "x", "x", "x"]}
    rows = [
        ("r", id_, sample, prediction, "x", None, *["right" if prediction == "x" else "wrong"] * 2)
        for id_, predictions in votes.items()
        for sample, prediction in reversed(list(enumerate(predictions)))
    ]
    scores = pl.DataFrame(rows, schema=SCORES, orient="row")
    right = {
        k: dict(majority_right(scores, k, "paper").select("id", "right").iter_rows())
        for k in (1, 2, 4)
    }
    assert right == {
        1: {"a": True, "b": False, "c": False},
        2: {"a": True, "b": False, "c": False},
        4: {"a": True, "b": False, "c": True},
    }


def test_sampled_metrics_leave_out_ks_beyond_the_samples():
    scores = pl.concat([scored("r", [1, 0, 0, 0], 0), scored("r", [1, 1, 0, 0], 1)])
    metrics = metrics_table(
        scores, {"r": facts("icl_ft", decoding="samples")}, "demo", [1, 2, 5], bootstrap_draws=100
    )
    assert value(metrics, metric="pass_at_k", k=1) == 0.375
    assert value(metrics, metric="pass_at_k", k=2) == 0.5
    assert metrics["k"].max() == 2
    assert "accuracy" not in metrics["metric"].to_list()


def test_what_could_not_be_compared_is_counted():
    verdicts = ["timeout", "undecided", "right", "wrong"]
    scores = scored("r", [1, 0, 1, 0], math=verdicts)
    metrics = table(scores, {"r": facts("weak")})
    assert value(metrics, metric="scorer_agreement", scorer="both") == 0.5
    assert value(metrics, metric="undecided", scorer="math") == 1
    assert value(metrics, metric="timeout", scorer="math") == 1
    assert value(metrics, metric="accuracy", scorer="math") == 0.25


class TestRefusals:
    def test_requests_and_nodes_must_match(self):
        scores, nodes = study()
        del nodes["weak-1"]
        with pytest.raises(ValueError, match=r"lack scores or a node, first weak-1"):
            table(scores, nodes)

    def test_questions_must_be_the_same(self):
        scores = pl.concat([scored("a", [1, 0, 1]), scored("b", [1, 0, 1, 1])])
        with pytest.raises(ValueError, match="request b: its questions differ"):
            table(scores, {"a": facts("weak"), "b": facts("icl_ft")})

    def test_two_requests_for_one_node(self):
        scores = pl.concat([scored("a", [1]), scored("b", [1])])
        with pytest.raises(ValueError, match="request b repeats a"):
            table(scores, {"a": facts("weak"), "b": facts("weak")})

    def test_two_baselines(self):
        scores = pl.concat([scored(name, [1]) for name in "abc"])
        nodes = {
            "a": facts("full_weak"),
            "b": facts("full_weak", iteration=2),
            "c": facts("icl_ft"),
        }
        with pytest.raises(ValueError, match="2 models of method full_weak"):
            table(scores, nodes)


def test_text_and_json():
    metrics = table(*study(seeds=(1, 2)))
    text = results_table(metrics)
    assert text.splitlines()[0] == "t: weak w, strong s"
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["method", *ANSWERS]
    hybrid = next(line for line in text.splitlines() if "hybrid_ft" in line)
    assert hybrid.split()[:4] == ["hybrid_ft", "all", "8", "50.0"]
    assert "+25.0" in hybrid
    document = metrics_json(metrics)
    assert document["experiment"] == "demo"
    assert len(document["models"]) == 12
    json.dumps(document, allow_nan=False)
