"""config/paper against what is known of the paper: golden counts and published figures."""

from pathlib import Path

import pytest
import yaml

from weak_to_strong.experiment.configuration import complete
from weak_to_strong.experiment.graph import Graph
from weak_to_strong.paper.published_results import read_published
from weak_to_strong.paper.released_outcomes import read_golden

ROOT = Path(__file__).parents[2]
SINGLE = ("gsm8k", "math", "olympicarena")


def read(name):
    return yaml.safe_load((ROOT / f"config/paper/{name}.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def graph():
    return Graph(complete(read("all")))


def chains_of(graph, task):
    return {(chain.weak, chain.variant): chain for chain in graph.chains if chain.task == task}


def test_the_experiment_with_all_of_them_has_each_chain_and_variant():
    every = read("all")
    parts = [read(name) for name in SINGLE]
    assert every["chains"] == [chain for part in parts for chain in part["chains"]]
    assert every["variants"] == {k: v for part in parts for k, v in part["variants"].items()}


def test_math_is_padded_as_released_and_the_method_is_a_variant(graph):
    golden = read_golden(ROOT / "resources/golden_counts.csv")
    padded = {}
    for (weak, variant), chain in chains_of(graph, "math").items():
        file = f"data/llama_factory/math/train_math_{weak}_iter1_weak.json"
        rows, agreeing = (golden[file, count][0] for count in ("rows", "agreeing"))
        target = graph.settings(chain).filter["pad_to"]
        padded[weak, variant] = target
        assert target == (rows if rows > agreeing and not variant else None)
    assert padded == {
        ("llama2_7b", ""): None,
        ("gemma_2b", ""): 1000,
        ("gemma_2b", "unpadded"): None,
        ("mistral_7b", ""): 2000,
        ("mistral_7b", "unpadded"): None,
    }


def test_gemma_has_both_other_sets_of_demonstrations(graph):
    chains = chains_of(graph, "gsm8k")
    sets = {
        variant: graph.settings(chain).demonstrations["ids"]
        for (weak, variant), chain in chains.items()
        if weak == "gemma_2b" and variant.startswith("careful")
    }
    assert sets == {
        "careful_3_right": ["2619", "102", "3037", "1126"],
        "careful_4_right": ["4071", "6058", "650", "4889"],
    }
    # The paper does not say which set its figure is of, so no variant has the figure's name.
    (source,) = read_published().filter(method="weak_icl@careful")["source"]
    assert all(" ".join(ids) in source for ids in sets.values())


def test_the_released_prompt_repeats_a_question_and_the_chain_does_not(graph):
    chains = chains_of(graph, "olympicarena")
    repeated = {
        variant: graph.settings(chain).demonstrations["repeat_question"]
        for (_, variant), chain in chains.items()
    }
    assert repeated == {"": False, "released_prompt": True}


def test_dpo_starts_at_its_reference_but_for_one_variant(graph):
    references = {
        node.chain.variant: graph.training_settings(node)["reference"]
        for node in graph.trained_nodes()
        if graph.method(node).trainer == "dpo"
    }
    assert references.pop("base_reference") == "base"
    assert set(references.values()) == {"m_plus"}


def test_m_pro_of_olympicarena_is_orpo():
    rows = read_published().filter(task="OlympicArena", stage="stage2")
    assert rows.select("method", "value").rows() == [("orpo", 15.65)]
