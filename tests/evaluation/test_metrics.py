"""The metrics table: which rows there are, and what they compare."""

from __future__ import annotations

import json

import polars as pl
import pytest

from weak_to_strong.evaluation.metrics import (
    accuracy_figures,
    majority_right,
    metrics_json,
    metrics_table,
)
from weak_to_strong.evaluation.stats import mcnemar_detectable
from weak_to_strong.report.results_table import results_table
from weak_to_strong.tables.schemas import ALL_SEEDS, METRICS, SCORES

LEVELS = ["1", "1", "2", "2"]


def facts(method: str, seed: int = 1, decoding: str = "greedy", **columns) -> dict:
    node = {"task": "t", "weak": "w", "strong": "s", "stage": "one", "iteration": 0}
    return {**node, "method": method, "seed": seed, "decoding": decoding, **columns}


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


def test_a_difference_names_the_other_model_and_what_could_be_detected():
    scores, nodes = study((1, 2))
    for seed in (1, 2):
        nodes[f"hybrid_ft-{seed}"]["counterpart"] = f"ceiling-{seed}"
    nodes["ceiling-1"]["iteration"] = nodes["ceiling-2"]["iteration"] = 3
    rows = table(scores, nodes).filter(
        method="hybrid_ft", metric="difference_vs_counterpart", scorer="paper"
    )
    assert set(rows["reference"]) == {"ceiling 3"}
    by_seed = dict(rows.select("seed", "detectable").iter_rows())
    assert by_seed[1] is None  # four questions can show nothing
    (pooled,) = rows.filter(seed=ALL_SEEDS).iter_rows(named=True)
    width = pooled["ci_high"] - pooled["ci_low"]
    assert pooled["detectable"] == pytest.approx(2.8 * width / 3.92, rel=0.01)


def test_one_seed_has_the_detectable_difference_of_the_exact_test():
    right = {"full_weak": [1] * 10 + [0] * 30, "icl_ft": [0] * 4 + [1] * 16 + [0] * 20}
    scores = pl.concat([scored(name, row, level=[None] * 40) for name, row in right.items()])
    metrics = table(scores, {name: facts(name) for name in right})
    rows = metrics.filter(metric="difference_vs_full_weak", scorer="paper")
    assert rows["detectable"].to_list() == [pytest.approx(mcnemar_detectable(40, 14), abs=1e-6)]
    assert metrics.filter(pl.col("reference").is_null())["detectable"].is_null().all()


def test_trackers_get_the_accuracy_of_each_model_with_its_interval():
    scores, nodes = study((1, 2))
    # A model's sampled answers have a request of their own, and no greedy accuracy.
    nodes = {f"t/w/s/{name}#greedy": entry for name, entry in nodes.items()}
    scores = scores.with_columns(request="t/w/s/" + pl.col("request") + "#greedy")
    metrics = table(scores, nodes)
    figures = accuracy_figures(metrics, nodes, "test")
    assert figures.keys() == {name.removesuffix("#greedy") for name in nodes}
    [row] = metrics.filter(
        method="hybrid_ft", metric="accuracy", scorer="math", split="test", seed=2
    ).to_dicts()
    name = "evaluation/accuracy_math"
    shown = figures["t/w/s/hybrid_ft-2"]
    assert shown[name] == row["value"] == 0.5
    assert (shown[f"{name}_low"], shown[f"{name}_high"]) == (row["ci_low"], row["ci_high"])
    assert len(shown) == 6


def test_trackers_show_each_test_set_of_a_model():
    scores, nodes = study()
    metrics = table(scores, nodes)
    metrics = metrics.with_columns(split=pl.col("split").replace("test", "test-new"))
    shown = next(iter(accuracy_figures(metrics, nodes, "test").values()))
    assert {name.removeprefix("evaluation/accuracy_") for name in shown} == {
        f"{scorer}_test-new{end}" for scorer in ("paper", "math") for end in ("", "_low", "_high")
    }


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
        ["accuracy", "difference_vs_full_weak", "sign_flip_p_vs_full_weak", "pgr"], 12
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


def two_sets() -> tuple[pl.DataFrame, dict]:
    """The study on two test sets, whose questions have the same ids and other answers."""
    scores, nodes = study()
    others = {"weak": [0, 0, 1, 1], "ceiling": [1, 1, 1, 1], "full_weak": [0, 1, 0, 1]}
    others["hybrid_ft"] = [1, 1, 1, 1]
    tables, all_nodes = (
        [scores],
        {name: {**facts, "test_set": "old"} for name, facts in nodes.items()},
    )
    for method, right in others.items():
        request = f"{method}-1@new"
        tables.append(scored(request, right))
        all_nodes[request] = {**nodes[f"{method}-1"], "test_set": "new"}
    return pl.concat(tables), all_nodes


def test_each_test_set_has_the_rows_that_it_has_alone():
    scores, nodes = two_sets()
    metrics = table(scores, nodes)
    assert set(metrics["split"]) == {
        f"test-{name}{level}" for name in ("old", "new") for level in ("", "/level=1", "/level=2")
    }
    alone = table(*study())
    old = metrics.filter(pl.col("split").str.starts_with("test-old"))
    old = old.with_columns(pl.col("split").str.replace("test-old", "test", literal=True))
    assert old.equals(alone)
    # Compared within a test set: 2 of 4 questions more than full weak fine-tuning.
    name = "difference_vs_full_weak"
    found = value(metrics, method="hybrid_ft", metric=name, split="test-new")
    assert found == pytest.approx(0.5)
    assert value(metrics, method="hybrid_ft", metric=name, split="test-old") == pytest.approx(0.25)


def test_headlines_of_several_test_sets_stand_apart():
    metrics = table(*two_sets())
    models = metrics_json(metrics)["models"]
    accuracy = {
        (model["method"], model["split"]): model["paper"]["accuracy"]["value"] for model in models
    }
    assert accuracy["hybrid_ft", "test-old"] == 0.5
    assert accuracy["hybrid_ft", "test-new"] == 1.0
    assert "split" not in metrics_json(table(*study()))["models"][0]
    text = results_table(metrics)
    headings = [line for line in text.splitlines() if line.startswith("t: ")]
    assert headings == ["t: weak w, strong s, test-old", "t: weak w, strong s, test-new"]
    old, new = text.split("\nt: weak w, strong s, test-new\n")
    assert " 100.0 " in new
    assert " 100.0 " not in old
