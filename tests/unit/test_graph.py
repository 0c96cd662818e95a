"""Nodes, rounds and what each of them depends on."""

import pytest
import yaml

from weak_to_strong.configuration import SCHEMA_FILE, complete
from weak_to_strong.graph import Chain, Graph, Node

ROOT = SCHEMA_FILE.parents[1]


@pytest.fixture
def config():
    return yaml.safe_load((ROOT / "config/config.yaml").read_text())


@pytest.fixture
def two_weak(config):
    """Two weak models that supervise one strong model, two seeds."""
    config["models"]["other_weak"] = config["models"]["tiny_weak"]
    config["chains"].append({**config["chains"][0], "weak": "other_weak"})
    config["seeds"] = [0, 1]
    return Graph(complete(config))


def test_keys_name_a_node_and_can_be_read_back(two_weak):
    for node in two_weak.nodes:
        assert Node.parse(node.key) == node
    assert len({node.key for node in two_weak.nodes}) == len(two_weak.nodes)


def test_what_no_weak_model_touches_is_shared_by_all_of_them(two_weak):
    ceilings = [node for node in two_weak.nodes if node.method == "ceiling"]
    assert [node.chain.weak for node in ceilings] == ["none", "none"]
    assert [node.chain.seed for node in ceilings] == [0, 1]
    weak = {
        (node.chain.weak, node.chain.strong) for node in two_weak.nodes if node.method == "weak"
    }
    assert weak == {("tiny_weak", "none"), ("other_weak", "none")}


def test_stage_one_trains_from_the_base_and_stage_two_from_m_plus(config):
    graph = Graph(complete(config))
    (chain,) = graph.chains
    for name in ("weak_ft", "icl_ft", "hybrid_ft"):
        assert graph.init_of(graph.node(chain, name, 2)) is None
    assert graph.init_of(graph.node(chain, "dpo")) == Node(chain, "hybrid_ft", 2)


def test_labels_of_each_iteration_come_from_the_models_of_the_one_before(config):
    graph = Graph(complete({**config, "iterations": 3}))
    (chain,) = graph.chains
    first = graph.label_request(chain, "icl", 1)
    assert first["model"] is None
    assert first["demonstrations"] == graph.demonstrations(chain)
    third = graph.label_request(chain, "icl", 3)
    assert third["model"] == graph.manifest(Node(chain, "icl_ft", 2))
    assert third["demonstrations"] is None
    assert [r["name"] for r in graph.round_requests(f"{chain.key}/iteration-3")] == [
        "weak-3",
        "icl-3",
    ]


def test_one_evaluation_round_for_each_base_serves_every_model(two_weak):
    assert set(two_weak.evaluation_bases("gsm_embedded")) == {
        "tiny_weak",
        "other_weak",
        "tiny_strong",
    }
    requests = two_weak.round_requests("evaluation/gsm_embedded/tiny_strong")
    on_strong = [n for n in two_weak.nodes if two_weak.base_of(n) == "tiny_strong"]
    assert len(requests) == 2 * len(on_strong)
    assert len({request["name"] for request in requests}) == len(requests)


def test_only_the_ceiling_is_trained_on_gold_of_train_2(two_weak):
    gold = two_weak.data("gsm_embedded", "train_2_gold")
    users = {
        node.method
        for node in two_weak.nodes
        if two_weak.method(node.method)["trainer"] != "none"
        and gold in two_weak.training_inputs(node).values()
    }
    assert users == {"ceiling"}
    rounds = [f"{chain.key}/samples" for chain in two_weak.chains]
    rounds += [f"{chain.key}/icl-1" for chain in two_weak.chains]
    rounds += [f"evaluation/gsm_embedded/{base}" for base in ("tiny_weak", "tiny_strong")]
    assert all(gold not in two_weak.round_inputs(key) for key in rounds)


def test_a_method_is_an_entry_and_overrides_only_its_own_settings(config):
    config["methods"] = {
        "dpo_strict": {
            "stage": "stage2",
            "start": "m_plus",
            "trainer": "dpo",
            "data": "pairs",
            "pairs": {"min_confidence": 0.8},
            "training": {"beta": 0.5},
        }
    }
    graph = Graph(complete(config))
    (chain,) = graph.chains
    strict, plain = graph.node(chain, "dpo_strict"), graph.node(chain, "dpo")
    assert graph.pair_settings(strict)["min_confidence"] == 0.8
    assert graph.pair_settings(plain)["min_confidence"] == 0.6
    assert graph.training_settings(strict)["beta"] == 0.5
    assert graph.training_settings(plain)["beta"] == 0.1
    assert strict in graph.nodes


def test_chain_key_is_a_path_of_four_parts():
    chain = Chain("t", "w", "s", 3)
    assert chain.key == "t/w/s/seed-3"
    assert Chain.parse(chain.key) == chain
