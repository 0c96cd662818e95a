"""Nodes, rounds and what each of them depends on."""

import pytest
import yaml

from weak_to_strong.experiment.configuration import (
    SCHEMA_FILE,
    ConfigError,
    check_references,
    complete,
)
from weak_to_strong.experiment.graph import Graph
from weak_to_strong.experiment.nodes import Chain, EvaluationRound, Gold, Node, SampleRound

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
        assert two_weak.node_of(node.chain.key, node.method, str(node.iteration)) == node
    for round_ in two_weak.rounds():
        assert two_weak.round(round_.key) == round_
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
    (first,) = graph.round_requests(graph.label_round(chain, "icl", 1))
    assert first["model"] is None
    assert first["demonstrations"] == graph.demonstrations(chain)
    weak, icl = graph.round_requests(graph.round(f"{chain.key}/iteration-3"))
    assert icl["model"] == graph.manifest(Node(chain, "icl_ft", 2))
    assert icl["demonstrations"] is None
    assert (weak["name"], icl["name"]) == ("weak-3", "icl-3")


def test_one_evaluation_round_for_each_base_serves_every_model(two_weak):
    bases = {round_.base for round_ in two_weak.evaluation_rounds("gsm_embedded")}
    assert bases == {"tiny_weak", "other_weak", "tiny_strong"}
    requests = two_weak.round_requests(EvaluationRound("gsm_embedded", "tiny_strong"))
    on_strong = [n for n in two_weak.nodes if two_weak.base_of(n) == "tiny_strong"]
    assert len(requests) == 2 * len(on_strong)
    assert len({request["name"] for request in requests}) == len(requests)


def test_only_the_ceiling_is_trained_on_gold_of_train_2(two_weak):
    gold = Gold("gsm_embedded").path(two_weak.paths)
    users = {
        node.method
        for node in two_weak.nodes
        if two_weak.method(node).is_trained and gold in two_weak.training_inputs(node).values()
    }
    assert users == {"ceiling"}
    rounds = [f"{chain.key}/samples" for chain in two_weak.chains]
    rounds += [f"{chain.key}/icl-1" for chain in two_weak.chains]
    rounds += [f"evaluation/gsm_embedded/{base}" for base in ("tiny_weak", "tiny_strong")]
    assert all(gold not in two_weak.round_inputs(two_weak.round(key)) for key in rounds)


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
    assert Chain("t", "w", "s", 3).key == "t/w/s/seed-3"


def test_a_key_of_no_chain_or_round_is_named(two_weak):
    with pytest.raises(ValueError, match="chain `t/w/s/seed-3`: is not part of this experiment"):
        two_weak.chain("t/w/s/seed-3")
    with pytest.raises(ValueError, match="generation round `evaluation/t/b`: is not part"):
        two_weak.round("evaluation/t/b")


VARIANTS = {
    "careful": {"demonstrations": {"ids": ["7", "8"]}},
    "padded": {"filter": {"pad_to": 300}},
    "one_round": {"iterations": 1},
    "few_samples": {"sampling": {"n": 5}},
    "strict": {"pairs": {"min_confidence": 0.8}},
    "beta": {"training": {"dpo": {"beta": 0.5}}},
}


@pytest.fixture
def ablations(config):
    """The demo with six variants, each of which reaches another place."""
    config["variants"] = VARIANTS
    config["chains"][0]["variants"] = list(VARIANTS)
    return Graph(complete(config))


def test_a_variant_has_of_its_own_only_what_it_reaches(ablations):
    own = {
        name: {(n.method, n.iteration) for n in ablations.nodes if n.chain.variant == name}
        for name in VARIANTS
    }
    stage_1 = {(f"{side}_ft", i) for side in ("weak", "icl", "hybrid") for i in (1, 2)}
    preference = {("dpo", 0), ("orpo", 0)}
    assert own == {
        "careful": {("weak_icl", 0), *stage_1, *preference},
        "padded": stage_1 | preference,
        "one_round": preference,
        "few_samples": preference,
        "strict": preference,
        # A change of DPO alone would train the same ORPO once more.
        "beta": {("dpo", 0)},
    }


def test_what_a_variant_shares_is_the_file_of_its_chain(ablations):
    plain, *_ = ablations.chains
    chains = {chain.variant: chain for chain in ablations.chains}
    assert ablations.labels(chains["careful"], "weak", 1) == ablations.labels(plain, "weak", 1)
    assert ablations.labels(chains["careful"], "icl", 1) != ablations.labels(plain, "icl", 1)
    assert ablations.labels(chains["padded"], "icl", 1) == ablations.labels(plain, "icl", 1)
    assert ablations.kept(chains["padded"], 1) != ablations.kept(plain, 1)
    assert ablations.m_plus(chains["one_round"]) == Node(plain, "hybrid_ft", 1)
    assert ablations.m_plus(chains["strict"]) == Node(plain, "hybrid_ft", 2)
    assert ablations.votes(chains["strict"]) == ablations.votes(plain)
    assert ablations.votes(chains["few_samples"]) != ablations.votes(plain)
    dpo = ablations.node(chains["strict"], "dpo")
    assert ablations.pair_settings(dpo)["min_confidence"] == 0.8
    assert ablations.pair_settings(ablations.node(plain, "dpo"))["min_confidence"] == 0.6
    (samples,) = ablations.round_requests(SampleRound(chains["few_samples"]))
    assert samples["n"] == 5
    assert samples["model"] == ablations.manifest(Node(plain, "hybrid_ft", 2))


def test_variants_are_evaluated_in_the_rounds_that_are_there_anyway(ablations):
    requests = ablations.round_requests(EvaluationRound("gsm_embedded", "tiny_strong"))
    assert len({request["name"] for request in requests}) == len(requests)
    facts = ablations.evaluation_nodes()
    assert {"dpo@beta", "dpo@strict", "weak_icl@careful"} <= {f["method"] for f in facts.values()}
    for node in ablations.nodes:
        assert ablations.node_of(node.chain.key, node.method, str(node.iteration)) == node


def test_predecessors_are_what_a_model_is_to_improve_on(ablations):
    facts = ablations.evaluation_nodes()
    plain, *_ = ablations.chains
    key = f"{plain.key}/hybrid_ft"
    before = {
        (each["method"], each["iteration"]): each["predecessor"]
        for each in facts.values()
        if each["decoding"] == "greedy"
    }
    assert before["dpo", 0] == before["dpo@strict", 0] == f"{key}-2#greedy"
    assert before["hybrid_ft", 2] == f"{key}-1#greedy"
    assert before["hybrid_ft", 1] is before["ceiling", 0] is before["weak_icl", 0] is None
    assert set(before.values()) - {None} <= facts.keys()


def test_a_chain_has_settings_of_its_own(config):
    config["chains"][0] |= {"iterations": 1, "pairs": {"pairs_per_question": 3}}
    config["tasks"]["gsm_embedded"]["training"] = {"sft": {"epochs": 3}}
    graph = Graph(complete(config))
    (chain,) = graph.chains
    assert graph.m_plus(chain) == Node(chain, "hybrid_ft", 1)
    settings = graph.pair_settings(graph.node(chain, "dpo"))
    assert (settings["pairs_per_question"], settings["min_confidence"]) == (3, 0.6)
    assert graph.training_settings(graph.node(chain, "full_weak"))["epochs"] == 3


def test_a_task_without_gold_needs_neither_weak_training_nor_ceiling(config):
    task = config["tasks"]["gsm_embedded"]
    del task["splits"]["train_1"]
    with pytest.raises(
        ConfigError, match=r"tasks.gsm_embedded.splits.train_1.*weak.*trainer: none"
    ):
        check_references(complete(config))
    task["methods"] = {"weak": {"trainer": "none", "data": "none"}, "ceiling": None}
    completed = complete(config)
    check_references(completed)
    graph = Graph(completed)
    (chain,) = graph.chains
    (request,) = graph.round_requests(graph.label_round(chain, "weak", 1))
    assert request["model"] is None
    assert "ceiling" not in {node.method for node in graph.nodes}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"variants": ["nothing"]}, "chains.0.variants.0`: unknown variant `nothing`"),
        ({"pairs": {"min_confidence": 0.9}}, "weak_rejected_confidence"),
    ],
)
def test_a_wrong_chain_is_named(config, change, said):
    config["chains"][0] |= change
    with pytest.raises(ConfigError, match=said):
        check_references(complete(config))


def test_a_variant_that_changes_nothing_it_evaluates_is_refused(config):
    config["variants"] = {"odd": {"pairs": {"min_confidence": 0.7}, "methods": ["full_weak"]}}
    config["chains"][0]["variants"] = ["odd"]
    with pytest.raises(ConfigError, match=r"variants.odd`: changes no model"):
        check_references(complete(config))


def test_a_chain_that_stands_twice_is_refused(config):
    config["chains"].append({**config["chains"][0], "iterations": 1})
    with pytest.raises(ConfigError, match=r"chains.1`: is the chain 0 once more.*variants"):
        check_references(complete(config))


def test_a_task_says_how_it_asks_and_compares(config):
    graph = Graph(complete(config))
    (task,) = graph.tasks
    (chain,) = graph.diagnostics()
    assert graph.judge(task) == chain["judge"] == {"name": "string"}
    config["tasks"][task] |= {"prompt": "olympicarena", "judge": "olympicarena"}
    graph = Graph(complete(config))
    (request,) = graph.round_requests(graph.label_round(graph.chains[0], "weak", 1))
    assert request["prompt"] == "olympicarena"
    assert graph.judge(task) == {
        "name": "olympicarena",
        "timeout_seconds": 5.0,
        "released_judge": False,
    }


def test_the_plan_has_every_round_and_training_that_the_report_needs(config):
    graph = Graph(complete(config))
    (chain,) = graph.chains
    assert {round_.key for round_ in graph.rounds()} == {
        f"{chain.weak_side.key}/weak-1",
        f"{chain.key}/icl-1",
        f"{chain.key}/iteration-2",
        f"{chain.key}/samples",
        "evaluation/gsm_embedded/tiny_weak",
        "evaluation/gsm_embedded/tiny_strong",
    }
    evaluated = {node for node in graph.nodes if graph.method(node).is_trained}
    assert set(graph.trained_nodes()) == evaluated
    assert len(graph.trained_nodes()) == len(evaluated)


def test_a_model_that_only_others_start_from_is_planned_too(config):
    config["variants"] = {"strict": {"filter": {"keep_empty": True}, "methods": ["dpo"]}}
    config["chains"][0]["variants"] = ["strict"]
    graph = Graph(complete(config))
    _, strict = graph.chains
    assert {node for node in graph.nodes if node.chain == strict} == {Node(strict, "dpo", 0)}
    own = {node for node in graph.trained_nodes() if node.chain == strict}
    # weak_ft and icl_ft of iteration 1 answer train_2 for iteration 2, whose hybrid_ft is M_plus.
    assert own == {
        Node(strict, "dpo", 0),
        Node(strict, "hybrid_ft", 2),
        Node(strict, "weak_ft", 1),
        Node(strict, "icl_ft", 1),
    }
    keys = {round_.key for round_ in graph.rounds()}
    assert f"{strict.key}/iteration-2" in keys
    assert f"{strict.key}/icl-1" not in keys
