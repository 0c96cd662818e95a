"""A second run does nothing; a change reruns exactly what depends on it."""

import os
import re

import polars as pl
import pytest
from project import changed
from random_study import CHAIN, WEAK_SIDE

from weak_to_strong.tables.files import hash_file

pytestmark = pytest.mark.slow

CEILING = "Train ceiling (iteration 0) of dice/none/random_strong/seed-0"
FULL_WEAK = f"Train full_weak (iteration 0) of {CHAIN}"

FIGURES = {"Figures", "Report of experiment test"}
SCORES = {"Score task dice", "Metrics of experiment test", *FIGURES}
STRONG_EVALUATION = {"Generation round evaluation/dice/random_strong", *SCORES}
DIAGNOSTICS = {"Diagnostics of filter, votes and pairs", *FIGURES}
PREFERENCES = {
    *(f"Pairs of {method}: {CHAIN}" for method in ("dpo", "orpo")),
    *(f"Train {method} (iteration 0) of {CHAIN}" for method in ("dpo", "orpo")),
    *STRONG_EVALUATION,
    *DIAGNOSTICS,
}
VOTES = {f"Majority vote: {CHAIN}", *PREFERENCES}
SAMPLES = {f"Generation round {CHAIN}/samples", *VOTES}


def sft(method, iteration):
    return {
        f"SFT set of {method} (iteration {iteration}): {CHAIN}",
        f"Train {method} (iteration {iteration}) of {CHAIN}",
    }


def labels(side, iteration, chain=CHAIN):
    return {f"Labels of the {side} side, iteration {iteration}: {chain}"}


SECOND_ITERATION = {
    f"Generation round {CHAIN}/iteration-2",
    *labels("weak", 2),
    *labels("icl", 2),
    f"Agreement filter, iteration 2: {CHAIN}",
    *sft("weak_ft", 2),
    *sft("icl_ft", 2),
    *sft("hybrid_ft", 2),
    *SAMPLES,
}
FROM_ICL_LABELS = {
    f"Demonstrations: {CHAIN}",
    f"Generation round {CHAIN}/icl-1",
    *labels("icl", 1),
    f"Agreement filter, iteration 1: {CHAIN}",
    *sft("weak_ft", 1),
    *sft("icl_ft", 1),
    *sft("hybrid_ft", 1),
    *SECOND_ITERATION,
}

CONFIGURED = {
    "tau": ("pairs.min_confidence", 0.4, PREFERENCES),
    "number of samples": ("sampling.n", 5, SAMPLES),
    "one demonstration": ("demonstrations.ids", ["0", "2"], FROM_ICL_LABELS),
    "learning rate of dpo": (
        "training.dpo.learning_rate",
        2e-4,
        {f"Train dpo (iteration 0) of {CHAIN}", *STRONG_EVALUATION},
    ),
    "learning rate of one method": (
        "methods.weak_ft",
        {"training": {"learning_rate": 2e-3}},
        {
            f"Train weak_ft (iteration 1) of {CHAIN}",
            *SECOND_ITERATION,
        },
    ),
    "bootstrap draws": ("evaluation.bootstrap_draws", 300, SCORES - {"Score task dice"}),
    "a scorer's time limit": ("evaluation.math_timeout", 6, SCORES),
}


def test_a_second_run_does_nothing(project):
    assert "Nothing to be done" in project.run()


@pytest.mark.parametrize(
    "resources", [[], ["--set-resources", "train:gpu=4", "train:nodes=2", "generate:mem_mb=9000"]]
)
def test_a_cluster_reruns_nothing(project, resources):
    """What jobs would ask a cluster for is shown, and decides no result."""
    output = project.run("--dry-run", "--profile", "profiles/slurm", *resources)
    assert "Nothing to be done" in output
    assert re.search(r"^train +random_strong +sft, lora ", output, re.M)


@pytest.mark.parametrize("case", CONFIGURED)
def test_a_changed_key_reruns_exactly_its_descendants(project, configure, case):
    key, value, expected = CONFIGURED[case]
    configure(key, value)
    assert project.planned() == expected


def test_a_new_method_is_one_entry(project, configure):
    entry = {"stage": "stage2", "start": "m_plus", "trainer": "dpo", "data": "pairs"}
    configure("methods.dpo_tau", {**entry, "pairs": {"min_confidence": 0.4}})
    assert project.planned() == {
        f"Pairs of dpo_tau: {CHAIN}",
        f"Train dpo_tau (iteration 0) of {CHAIN}",
        *STRONG_EVALUATION,
        *DIAGNOSTICS,
    }


VARIANT = CHAIN.replace("seed-0", "strict/seed-0")


def test_a_variant_adds_only_what_it_reaches(project):
    chain = {**project.config["chains"][0], "variants": ["strict"]}
    changes = {"pairs": {"min_confidence": 0.4}, "methods": ["dpo"]}
    project.write_config({**project.config, "chains": [chain], "variants": {"strict": changes}})
    try:
        planned = project.planned()
    finally:
        project.write_config(project.config)
    assert planned == {
        f"Pairs of dpo: {VARIANT}",
        f"Train dpo (iteration 0) of {VARIANT}",
        *STRONG_EVALUATION,
        *DIAGNOSTICS,
    }


def test_ablations_run_beside_their_chain(project_copy):
    """Two for real: more pairs a question, and kept questions padded with disagreeing ones."""
    chain = {**project_copy.config["chains"][0], "variants": ["many_pairs", "padded"]}
    variants = {
        "many_pairs": {"pairs": {"pairs_per_question": 3}, "methods": ["dpo"]},
        "padded": {"filter": {"pad_to": 60}, "iterations": 1, "methods": ["weak_ft"]},
    }
    before = hash_file(project_copy.result(f"models/{CHAIN}/dpo-0/rows.parquet"))
    project_copy.write_config({**project_copy.config, "chains": [chain], "variants": variants})
    project_copy.run()

    def rows(node, variant=""):
        place = CHAIN.replace("seed-0", f"{variant}/seed-0") if variant else CHAIN
        return pl.read_parquet(project_copy.result(f"models/{place}/{node}/rows.parquet"))

    assert rows("weak_ft-1").height < rows("weak_ft-1", "padded").height == 60
    assert rows("dpo-0", "many_pairs").height >= rows("dpo-0").height
    assert hash_file(project_copy.result(f"models/{CHAIN}/dpo-0/rows.parquet")) == before
    metrics = pl.read_csv(project_copy.result("report/metrics.csv"))
    assert {"dpo@many_pairs", "weak_ft@padded"} <= set(metrics["method"])
    diagnostics = pl.read_csv(project_copy.result("report/diagnostics.csv"))
    assert {"dpo@many_pairs", "agreement@padded"} <= set(diagnostics["method"])


def test_another_seed_reruns_no_label_and_no_training_of_the_first(project, configure):
    configure("seeds", [0, 1])
    again = {job for job in project.planned() if "seed-0" in job}
    assert again == set()


def test_one_test_row_reruns_evaluation_only(project, edit):
    edit("data/test.jsonl", '"question": "', '"question": "Well: ')
    assert project.planned() == {
        "Split test of task dice",
        "Contamination report of task dice",
        "Generation round evaluation/dice/random_weak",
        *STRONG_EVALUATION,
    }


def test_one_train_1_row_does_not_rerun_the_ceiling(project, edit):
    edit("data/train_1.jsonl", '"question": "', '"question": "Well: ')
    planned = project.planned()
    assert {f"Train weak (iteration 0) of {WEAK_SIDE}", FULL_WEAK} <= planned
    assert CEILING not in planned


def test_the_voting_function(project, edit):
    module = "scripts/weak_to_strong/method/majority_vote.py"
    edit(module, "\ndef majority_vote(", "\nUNUSED = 1\n\n\ndef majority_vote(")
    assert project.planned() == set()
    edit(module, "if rows.is_empty():", "if not rows.height:")
    assert project.planned() == VOTES


def test_the_plotting_script(project, edit):
    edit("scripts/plots.py", "    for name, draw in", "    assert FIGURES\n    for name, draw in")
    assert project.planned() == FIGURES


def test_a_comment_reruns_nothing(project, edit):
    edit(
        "scripts/weak_to_strong/method/pairs.py",
        "\ndef build_pairs(",
        "\n# A remark.\ndef build_pairs(",
    )
    assert project.planned() == set()


def test_how_costs_are_measured_reruns_nothing(project, edit):
    edit("scripts/weak_to_strong/jobs/meter.py", "SECONDS, SHARE = 1.0,", "SECONDS, SHARE = 5.0,")
    assert project.planned() == set()


def test_touched_files_rerun_nothing(project):
    """Also above Snakemake's own limit of 1 MB."""
    names = [
        "models/strong/model.safetensors",
        "scripts/pairs.py",
        "data/train_2.jsonl",
    ]
    names += ["results/test/data/dice/train_2.parquet", "Snakefile"]
    assert project.path(names[0]).stat().st_size > 1_000_000
    for name in names:
        os.utime(project.path(name))
    assert project.planned() == set()


def test_replaced_base_weights_rerun_what_stands_on_them(project):
    path = project.path("models/weak/model.safetensors")
    original = path.read_bytes()
    try:
        path.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
        planned = project.planned()
    finally:
        path.write_bytes(original)
    assert f"Train weak (iteration 0) of {WEAK_SIDE}" in planned
    assert CEILING not in planned


def test_a_changed_threshold_generates_only_for_the_models_it_changed(project_copy):
    """A real incremental run: the round is run again, but serves only what changed."""
    before = {
        path: hash_file(path)
        for path in project_copy.result("models").rglob("*.safetensors")
        if not path.parts[-3].startswith(("dpo", "orpo"))
    }
    stricter = changed(project_copy.config, "pairs.weak_rejected_confidence", 1.0)
    project_copy.write_config(stricter)
    assert project_copy.planned() == PREFERENCES
    project_copy.run()
    served = project_copy.cost("generate/evaluation/dice/random_strong")
    assert served["requests_generated"] <= 4  # greedy and samples, of DPO and ORPO
    assert served["requests"] > 20
    assert {path: hash_file(path) for path in before} == before
    assert "Nothing to be done" in project_copy.run()
