"""A complete run with two models of random weights: every rule, real vLLM and TRL, no pretraining.

The study is that of `random_study`. Its gold answers tell nothing either: a model scores about a
third unless gold reaches it.
"""

import json

import polars as pl
import pytest
from project import Project
from random_study import CONFIG, SIZES, make_models, write_data
from safetensors.numpy import load_file

from weak_to_strong.answers import predict
from weak_to_strong.tables import METRICS, hash_file, read_json

WEAK_SIDE = "dice/random_weak/none/seed-0"
CHAIN = "dice/random_weak/random_strong/seed-0"


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Project:
    """The project after one complete run."""
    project = Project.create(tmp_path_factory.mktemp("random"))
    write_data(project.path("data"))
    make_models(project.path("models"))
    config = json.loads(json.dumps(CONFIG))
    # One file is fetched, so that every rule of a study has something to do.
    test = project.path("data/test.jsonl")
    config["tasks"]["dice"]["splits"]["test"] = {"url": test.as_uri(), "sha256": hash_file(test)}
    project.write_config(config)
    # For so few samples a second engine process costs more than it brings.
    project.run("--set-resources", "generate:engine_processes=1", "--set-threads", "generate=1")
    return project


def table(study: Project, name: str) -> pl.DataFrame:
    return pl.read_parquet(study.result(f"{name}.parquet"))


def accuracies(study: Project) -> pl.DataFrame:
    metrics = pl.read_csv(study.result("report/metrics.csv"), schema=METRICS)
    return metrics.filter(metric="accuracy", split="test")


def test_every_rule_ran(study):
    assert {path.stem for path in study.result("logs").iterdir()} >= {
        *("fetch_source", "problems", "withhold_gold", "contamination", "base_model"),
        *("generate", "extract_labels", "demonstrations", "agreement_filter", "sft_set", "train"),
        *("majority_vote", "pairs", "score", "metrics", "diagnostics", "plots", "report"),
    }


def test_every_method_is_evaluated_by_both_scorers(study):
    expected = {
        *((name, 0) for name in ("weak", "full_weak", "strong_zero_shot", "weak_icl")),
        *((name, 0) for name in ("ceiling", "dpo", "orpo")),
        *((f"{side}_ft", i) for side in ("weak", "icl", "hybrid") for i in (1, 2)),
    }
    for scorer in ("paper", "math"):
        rows = accuracies(study).filter(scorer=scorer)
        assert set(rows.select("method", "iteration").iter_rows()) == expected
        assert len(rows) == len(expected)
        assert rows["n"].unique().to_list() == [SIZES["test"]]
        assert rows["value"].is_between(rows["ci_low"], rows["ci_high"]).all()


def test_every_training_changed_its_model(study):
    adapters = sorted(study.result("models").rglob("adapter_model.safetensors"))
    assert len(adapters) == 11
    assert len({hash_file(file) for file in adapters}) == 11
    for file in adapters:
        # Zero in a new adapter, which then leaves its base as it is.
        moved = [part for name, part in load_file(file).items() if "lora_B" in name]
        assert len(moved) in (7, 14), file
        assert all(part.any() for part in moved), file


def test_models_that_know_nothing_agree_now_and_then(study):
    for iteration in (1, 2):
        chain = WEAK_SIDE if iteration == 1 else CHAIN
        weak = table(study, f"labels/{chain}/weak-{iteration}")
        icl = table(study, f"labels/{CHAIN}/icl-{iteration}")
        assert weak["id"].equals(icl["id"])
        agreeing = weak.filter(
            (weak["prediction"] == icl["prediction"]) & (icl["prediction"] != "")
        )
        kept = table(study, f"filter/{CHAIN}/kept-{iteration}")
        assert kept.select("id", "prediction").equals(agreeing.select("id", "prediction"))
        assert 0 < len(kept) < SIZES["train_2"]


def test_samples_differ_and_vote(study):
    samples, votes = (table(study, f"votes/{CHAIN}/{name}") for name in ("samples", "votes"))
    opinions = samples.group_by("id").agg(pl.col("prediction").n_unique())["prediction"]
    assert (opinions > 1).mean() > 0.5
    assert votes["samples"].unique().to_list() == [6]
    for name, majority, share, _ in votes.rows():
        answers = samples.filter(id=name)["prediction"].to_list()
        assert share == answers.count(majority) / 6
        assert share == max(answers.count(answer) for answer in answers) / 6


@pytest.mark.parametrize("method", ["dpo", "orpo"])
def test_pairs_obey_the_rules(study, method):
    pairs = table(study, f"models/{CHAIN}/{method}-0/rows")
    weak = dict(table(study, f"labels/{WEAK_SIDE}/weak-1").select("id", "response").rows())
    votes = {name: vote for name, *vote in table(study, f"votes/{CHAIN}/votes").rows()}
    assert pairs["id"].is_unique().all()
    assert set(pairs["weak_side"]) == {"chosen", "rejected"}
    for name, _, chosen, rejected, side, confidence in pairs.rows():
        majority, share, _ = votes[name]
        assert predict(chosen, "####") == majority != ""
        assert predict(rejected, "####") != majority
        assert f" {weak[name]}" == {"chosen": chosen, "rejected": rejected}[side]
        assert confidence == share >= {"chosen": 0.3, "rejected": 0.5}[side]


def test_what_cannot_be_known_is_guessed(study):
    """Four standard deviations above a third: by more only gold can lift a model."""
    assert accuracies(study)["value"].max() < 0.58
    diagnostics = pl.read_csv(study.result("report/diagnostics.csv"))
    labels = diagnostics.filter(diagnostic="labels", name="accuracy")
    assert len(labels) == 4
    assert labels["n"].unique().to_list() == [SIZES["train_2"]]
    assert labels["value"].max() < 0.53


def test_code_that_a_model_brings_is_never_run(study):
    assert "theirs.py" in read_json(study.result("bases/random_strong.json"))["files"]
    assert not study.path("models/code was run").exists()


def test_a_second_run_does_nothing(study):
    assert "Nothing to be done" in study.run()
