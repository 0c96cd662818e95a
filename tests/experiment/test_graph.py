"""Nodes, rounds and what each of them depends on."""

import pytest
import yaml

from weak_to_strong.experiment.configuration import (
    SCHEMA_FILE,
    ConfigError,
    check_references,
    complete,
    load_configuration,
)
from weak_to_strong.experiment.graph import Graph
from weak_to_strong.experiment.nodes import Chain, EvaluationRound, Gold, Node, SampleRound
from weak_to_strong.method.user_functions import function_files
from weak_to_strong.training.settings import complete_settings

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
    # All models answer greedily, and those named in `sampled` are sampled too.
    sampled = [n for n in on_strong if n.method == "hybrid_ft"]
    assert two_weak.config["evaluation"]["sampled"] == ["hybrid_ft"]
    assert len(requests) == len(on_strong) + len(sampled)
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


TEACHER = {
    "endpoint": {
        "url": "https://host/v1",
        "model": "m",
        "key_env": "TEACHER_API_KEY",
        "price": {"input": 1, "output": 2},
        "body": {"reasoning_effort": "low"},
    }
}


def with_teacher(config):
    """The demo, and beside its weak model a teacher behind an endpoint."""
    config["models"]["teacher"] = TEACHER
    config["chains"].append({**config["chains"][0], "weak": "teacher"})
    return config


def test_a_weak_model_behind_an_endpoint_answers_as_it_is(config):
    graph = Graph(load_configuration(with_teacher(config)))
    local, asked = graph.chains
    assert graph.method(graph.node(local, "weak")).trainer == "sft"
    assert not graph.method(graph.node(asked, "weak")).is_trained
    assert {node.chain.weak for node in graph.trained_nodes() if node.method == "weak"} == {
        "tiny_weak"
    }
    (labels,) = graph.round_requests(graph.label_round(asked, "weak", 1))
    assert labels["model"] is None
    assert labels["base"] == graph.base_manifest("teacher")
    assert labels["demonstrations"] is None
    # Its labels feed the same steps as any weak model's.
    assert graph.training_inputs(graph.node(asked, "full_weak"))["weak_labels"] == graph.labels(
        asked, "weak", 1
    )


def test_rounds_of_an_endpoint_are_told_from_those_of_engines(config):
    graph = Graph(load_configuration(with_teacher(config)))
    keys = {"gsm_embedded/teacher/none/seed-0/weak-1", "evaluation/gsm_embedded/teacher"}
    assert {round_.key for round_ in graph.asked_rounds()} == keys
    assert set(graph.rounds()) - set(graph.engine_rounds()) == set(graph.asked_rounds())
    assert {graph.asked_model(round_) for round_ in graph.asked_rounds()} == {"teacher"}
    assert graph.prices() == {key: {"input": 1, "output": 2} for key in keys}
    without = Graph(load_configuration(yaml.safe_load((ROOT / "config/config.yaml").read_text())))
    assert without.asked_rounds() == []
    assert without.engine_rounds() == without.rounds()


def test_what_decides_the_answers_of_an_endpoint(config):
    graph = Graph(load_configuration(with_teacher(config)))
    deciding = {"endpoint": {key: TEACHER["endpoint"][key] for key in ("url", "model", "body")}}
    deciding["endpoint"]["api"] = "completions"
    assert graph.experiment.base_entry("teacher") == deciding
    assert graph.deciding_settings()["models"]["teacher"] == deciding


def test_a_task_whose_weak_models_all_are_behind_endpoints_needs_no_train_1(config):
    config = with_teacher(config)
    del config["tasks"]["gsm_embedded"]["splits"]["train_1"]
    with pytest.raises(ConfigError, match=r"train_1.*method `weak` is trained on it"):
        load_configuration(config)
    del config["chains"][0]
    graph = Graph(load_configuration(config))
    assert not any("train_1" in file for file in graph.diagnostic_files())


def test_chain_key_is_a_path_of_four_parts():
    assert Chain("t", "w", "s", 3).key == "t/w/s/seed-3"


CONTROLS = {
    ("random_hybrid", 0): ("hybrid_ft", 1),
    ("full_icl", 0): ("icl_ft", 1),
    ("sft_chosen", 0): ("orpo", 0),
    ("dpo_shuffled", 0): ("dpo", 0),
}


def test_a_control_is_compared_with_what_it_controls(config):
    graph = Graph(complete(config))
    (chain,) = graph.chains
    counterparts = {
        (node.method, node.iteration): graph.counterpart(node)
        for node in graph.nodes
        if graph.counterpart(node)
    }
    assert counterparts == {
        control: Node(chain, *controlled) for control, controlled in CONTROLS.items()
    }
    facts = graph.evaluation_nodes()
    control, controlled = f"{chain.key}/random_hybrid-0#greedy", f"{chain.key}/hybrid_ft-1#greedy"
    assert facts[control]["counterpart"] == controlled
    # Only what starts from M_plus has a predecessor.
    predecessors = {name: graph.predecessor(graph.node(chain, name)) for name, _ in CONTROLS}
    m_plus = Node(chain, "hybrid_ft", 2)
    assert predecessors == dict.fromkeys(["random_hybrid", "full_icl"]) | {
        "sft_chosen": m_plus,
        "dpo_shuffled": m_plus,
    }


def test_a_control_of_each_iteration_has_the_tables_of_that_iteration(config):
    config["methods"]["random_hybrid"]["per_iteration"] = True
    config["methods"]["full_icl"]["per_iteration"] = True
    graph = Graph(complete(config))
    (chain,) = graph.chains
    for iteration in (1, 2):
        control = graph.node(chain, "random_hybrid", iteration)
        assert graph.counterpart(control) == graph.node(chain, "hybrid_ft", iteration)
        inputs = graph.training_inputs(control)
        assert inputs["kept"] == graph.kept(chain, iteration)
        assert inputs["icl_labels"] == graph.labels(chain, "icl", iteration)
        assert graph.training_inputs(graph.node(chain, "full_icl", iteration)) == {
            "questions": inputs["questions"],
            "icl_labels": inputs["icl_labels"],
        }


def test_controls_never_read_gold(two_weak):
    controls = [node for node in two_weak.nodes if two_weak.method(node).stage == "control"]
    assert {node.method for node in controls} == {name for name, _ in CONTROLS}
    inputs = {path for node in controls for path in two_weak.training_inputs(node).values()}
    gold = {Gold("gsm_embedded").path(two_weak.paths), two_weak.data("gsm_embedded", "train_1")}
    assert not inputs & gold


BROKEN = {
    "broken_filter": {"broken": "filter_inverted", "methods": ["hybrid_ft"], "iterations": 1},
    "broken_pairs": {"broken": "pairs_swapped", "pairs": {"min_confidence": 0.7}},
    "broken_demonstrations": {"broken": "gold_demonstrations", "methods": ["weak_icl"]},
}


def test_a_broken_stage_is_a_variant_that_is_compared_with_its_chain(config):
    config["variants"] = BROKEN
    config["chains"][0]["variants"] = list(BROKEN)
    graph = Graph(complete(config))
    check_references(graph.config)
    plain, inverted, swapped, gold = graph.chains
    assert graph.settings(inverted).filter["keep"] == "disagreeing"
    assert "keep" not in graph.settings(plain).filter
    node = graph.node(swapped, "dpo")
    assert graph.pair_settings(node)["swapped"]
    assert graph.pair_settings(node)["min_confidence"] == 0.7
    assert graph.counterpart(node) == graph.node(plain, "dpo")
    train_1 = graph.data("gsm_embedded", "train_1")
    assert graph.demonstration_inputs(gold) == {"problems": train_1}
    assert graph.gold_answer_key(gold) == "####"
    assert train_1 not in graph.demonstration_inputs(plain).values()
    (broken,) = [node for node in graph.nodes if node.chain == inverted]
    assert broken == Node(inverted, "hybrid_ft", 1)
    assert graph.counterpart(broken) == Node(plain, "hybrid_ft", 1)


def test_broken_stages_lie_over_the_demo(config):
    overlay = yaml.safe_load((ROOT / "config/broken-stages.yaml").read_text())
    evaluation = {**config["evaluation"], **overlay["evaluation"]}
    graph = Graph(load_configuration({**config, **overlay, "evaluation": evaluation}))
    for node in graph.nodes:
        if variant := node.chain.variant:
            counterpart = graph.counterpart(node)
            assert counterpart in graph.nodes
            assert (counterpart.method, counterpart.chain.variant) == (node.method, "")
            assert variant.startswith("broken_") == ("broken" in overlay["variants"][variant])
    assert {node.chain.variant for node in graph.nodes} == {"", *overlay["variants"]}


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
    del config["methods"]
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
        (node["method"], node["iteration"]): node["predecessor"]
        for node in facts.values()
        if node["decoding"] == "greedy"
    }
    assert before["dpo", 0] == before["dpo@strict", 0] == f"{key}-2#greedy"
    assert before["hybrid_ft", 2] == f"{key}-1#greedy"
    assert before["hybrid_ft", 1] == before["icl_ft", 1] == f"{plain.key}/weak_icl-0#greedy"
    assert before["full_weak", 0] == next(name for name in facts if name.endswith("/weak-0#greedy"))
    assert before["ceiling", 0] is before["weak_icl", 0] is before["weak", 0] is None
    assert set(before.values()) - {None} <= facts.keys()


def test_all_models_of_a_chain_are_compared_with_its_last_hybrid_ft(ablations):
    plain, *_ = ablations.chains
    compared = {
        node["method"]: node["hybrid_ft"]
        for node in ablations.evaluation_nodes().values()
        if node["decoding"] == "greedy"
    }
    request = f"{plain.key}/hybrid_ft-2#greedy"
    assert compared["dpo"] == compared["dpo@strict"] == compared["weak_ft"] == request
    # These belong to several chains.
    assert compared["weak"] is compared["ceiling"] is None


def test_what_starts_from_a_trained_model_is_to_improve_on_that(config):
    config["methods"]["full_weak"] = {"start": "ceiling"}
    graph = Graph(complete(config))
    (chain,) = graph.chains
    assert graph.predecessor(graph.node(chain, "full_weak")) == graph.node(chain, "ceiling")


def test_a_rounds_answers_are_counted_where_the_configuration_has_the_sizes(config):
    sizes = {"train_1": 30, "train_2": 20, "test": 10}
    config["tasks"]["gsm_embedded"]["splits"] |= sizes
    graph = Graph(complete(config))
    (chain,) = graph.chains
    assert graph.round_answers(graph.label_round(chain, "icl", 2)) == 2 * 20
    samples = SampleRound(chain)
    assert graph.round_answers(samples) == 20 * graph.settings(chain).sampling["n"]
    evaluation = EvaluationRound("gsm_embedded", "tiny_strong")
    answers = [request.decoding.get("n", 1) for request in graph.requests(evaluation)]
    assert set(answers) == {1, config["evaluation"]["samples"]}
    assert graph.round_answers(evaluation) == 10 * sum(answers)


def test_answers_to_questions_of_a_file_are_not_counted(config):
    config["tasks"]["gsm_embedded"] |= {"loader": "table", "splits": {}}
    task = config["tasks"]["gsm_embedded"]
    for key in ("form", "templates", "train_1_templates", "data_seed"):
        del task[key]
    task["splits"] = {"train_1": 30, "train_2": {"path": "a.jsonl"}, "test": {"path": "b.jsonl"}}
    task["pool"] = {"path": "c.jsonl"}
    graph = Graph(complete(config))
    (chain,) = graph.chains
    assert graph.round_answers(SampleRound(chain)) is None


def test_only_the_methods_named_in_sampled_are_sampled(config):
    del config["evaluation"]["sampled"]

    def sampled(graph):
        return {
            node["method"]
            for node in graph.evaluation_nodes().values()
            if node["decoding"] == "samples"
        }

    everything = sampled(Graph(complete(config)))
    assert {"weak", "hybrid_ft", "dpo"} <= everything
    assert not everything & {name for name, _ in CONTROLS}
    config["evaluation"]["sampled"] = ["hybrid_ft"]
    assert sampled(Graph(complete(config))) == {"hybrid_ft"}


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
    ("change", "message"),
    [
        ({"variants": ["nothing"]}, "chains.0.variants.0`: unknown variant `nothing`"),
        ({"pairs": {"min_confidence": 0.9}}, "weak_rejected_confidence"),
    ],
)
def test_a_wrong_chain_is_named(config, change, message):
    config["chains"][0] |= change
    with pytest.raises(ConfigError, match=message):
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


def test_a_model_names_the_diagnostic_of_what_it_learned_from(ablations):
    measured = set()
    for chain in ablations.diagnostics():
        ending = f"@{chain['variant']}" if chain["variant"] else ""
        for number in range(1, len(chain["kept"]) + 1):
            measured |= {("labels", f"{side}{ending}", number) for side in ("weak", "icl")}
            measured.add(("filter", f"agreement{ending}", number))
        measured |= {("pairs", f"{method}{ending}", 0) for method in chain["pairs"]}
    plain, *_ = ablations.chains
    sources = ablations.model_sources()
    named = {name: source["labels"] for name, source in sources.items()}
    assert {tuple(labels.values()) for labels in named.values() if labels} <= measured
    assert tuple(named[f"{plain.key}/full_weak-0#greedy"].values()) == ("labels", "weak", 1)
    assert tuple(named[f"{plain.key}/icl_ft-2#greedy"].values()) == ("filter", "agreement", 2)
    strict = plain.key.replace("seed", "strict/seed")
    assert tuple(named[f"{strict}/dpo-0#greedy"].values()) == ("pairs", "dpo@strict", 0)
    padded = plain.key.replace("seed", "padded/seed")
    padded_diagnostic = ("filter", "agreement@padded", 1)
    assert tuple(named[f"{padded}/weak_ft-1#greedy"].values()) == padded_diagnostic
    for method in ("weak", "ceiling", "strong_zero_shot"):
        assert [named[name] for name in named if f"/{method}-0#" in name] == [None]


def test_a_model_names_where_its_answers_lie_and_what_it_is_made_from(config):
    graph = Graph(complete(config))
    (chain,) = graph.chains
    sources, facts = graph.model_sources(), graph.evaluation_nodes()
    greedy = {name for name, fact in facts.items() if fact["decoding"] == "greedy"}
    assert sources.keys() == greedy
    source = sources[f"{chain.key}/dpo-0#greedy"]
    assert source["generations"] == "generations/evaluation/gsm_embedded/tiny_strong.parquet"
    assert source["scores"] == "scores/gsm_embedded.parquet"
    assert source["problems"] == "data/gsm_embedded/test.parquet"
    assert source["made_from"] == [graph.manifest(graph.node(chain, "dpo"))]
    assert sources[f"{chain.key}/weak_icl-0#greedy"]["made_from"] == [graph.demonstrations(chain)]
    zero_shot = graph.node(chain, "strong_zero_shot")
    assert sources[f"{zero_shot.key}#greedy"]["made_from"] == []


def test_a_model_of_a_selection_names_the_diagnostic_of_that_selection(config):
    config["answers"] = {"weak_samples": {"model": "weak", "n": 4}}
    config["selections"] = {"sure": {"answers": ["weak_samples"], "keep": "entropy"}}
    entry = {"stage": "stage1", "start": "strong", "trainer": "sft", "data": "sure"}
    config["methods"]["confident"] = entry
    graph = Graph(complete(config))
    (chain,) = graph.chains
    source = graph.model_sources()[f"{chain.key}/confident-0#greedy"]
    assert source["labels"] == {"diagnostic": "kept", "method": "sure", "iteration": 0}
    (diagnosed,) = graph.diagnostics()
    assert "sure" in diagnosed["selections"]
    (answers,) = diagnosed["answers"].items()
    assert answers[0] == "weak_samples"
    assert answers[1] in graph.diagnostic_files()


TEMPLATE = "resources/chat_templates/question_answer.jinja"


@pytest.fixture
def chat(config, monkeypatch):
    """The demo, asked in chats with reasoning."""
    monkeypatch.chdir(ROOT)
    config["tasks"]["gsm_embedded"] |= {"prompt": "chat", "chat": {"thinking": True}}
    config["tasks"]["gsm_embedded"].pop("stop", None)
    for model in config["models"].values():
        model["chat_template"] = TEMPLATE
    return config


def test_plain_prompts_have_nothing_of_a_chat(config):
    graph = Graph(complete(config))
    (chain,) = graph.chains
    assert all("chat" not in request for round_ in graph.rounds()
               for request in graph.round_requests(round_))  # fmt: skip
    assert graph.training_chat(graph.m_plus(chain)) is None
    assert "chat_template" not in graph.training_files(graph.m_plus(chain))
    assert graph.chat_checks() == []
    assert all("answer_after" not in entry for entry in graph.diagnostics())


def test_a_chat_goes_to_requests_and_trainings_alike(chat):
    graph = Graph(load_configuration(chat))
    (chain,) = graph.chains
    told = {"system": None, "thinking": True, "answer_after": "</think>", "template": TEMPLATE}
    told["options"] = {"enable_thinking": True, "thinking": True}
    for round_ in graph.rounds():
        requests = graph.round_requests(round_)
        assert all(request["chat"] == told for request in requests)
        # The end of the assistant's turn ends an answer, and no word in its reasoning.
        assert all(request["stop"] == [] for request in requests)
        assert TEMPLATE in graph.round_inputs(round_)
    dpo = graph.node(chain, "dpo")
    assert graph.training_chat(dpo) == graph.training_chat(graph.m_plus(chain)) == told
    assert graph.training_files(dpo)["chat_template"] == TEMPLATE
    task = graph.task("gsm_embedded")
    assert task.reasoning == {"answer_after": "</think>", "reasoning": "keep"}
    # A model is the same with another template.
    assert "chat_template" not in graph.experiment.base_entry(chain.weak)


def test_local_models_are_tried_before_the_first_job(chat):
    checks = Graph(load_configuration(chat)).chat_checks()
    assert {(check["name"], check["trained"], check["reasons"]) for check in checks} == {
        ("tiny_weak", True, False),  # trained on gold alone
        ("tiny_strong", True, True),
    }


def test_stop_strings_that_a_task_names_stand_in_a_chat_too(chat):
    chat["tasks"]["gsm_embedded"]["stop"] = ["END"]
    assert Graph(complete(chat)).task("gsm_embedded").stop == ["END"]


@pytest.mark.parametrize(("thinking", "mark"), [(True, "</think>"), (False, None), (None, None)])
def test_the_mark_of_a_thinking_model_has_a_default(chat, thinking, mark):
    chat["tasks"]["gsm_embedded"]["chat"] = {"thinking": thinking}
    task = Graph(complete(chat)).task("gsm_embedded")
    assert task.answer_after == mark
    assert (task.reasoning is None) == (mark is None)


def test_several_test_sets_are_evaluated_apart_and_nothing_else_changes(config):
    plain = Graph(complete(config))
    task = "gsm_embedded"
    config["tasks"][task]["splits"]["test"] = {"near": 30, "far": 40}
    graph = Graph(complete(config))
    assert [evaluated.key for evaluated in graph.evaluated_sets()] == [
        f"{task}/near",
        f"{task}/far",
    ]
    bases = ("tiny_weak", "tiny_strong")
    assert {round_.key for round_ in graph.evaluation_rounds()} == {
        f"evaluation/{task}/{base}/{name}" for base in bases for name in ("near", "far")
    }
    # All else is the same round, model or table under the same path.
    for product in ("rounds", "trained_nodes"):
        before, after = ({p.path(g.paths) for p in getattr(g, product)()} for g in (plain, graph))
        assert {path for path in before ^ after if "/evaluation/" not in path} == set()
    near = graph.round_requests(EvaluationRound(task, "tiny_strong", "near"))
    assert {request["problems"] for request in near} == {graph.data(task, "test-near")}
    nodes = graph.evaluation_nodes()
    assert len(nodes) == 2 * len(plain.evaluation_nodes())
    for request, facts in nodes.items():
        assert facts["test_set"] in ("near", "far")
        for other in (facts["predecessor"], facts["counterpart"]):
            assert other is None or nodes[other]["test_set"] == facts["test_set"]
        assert request.endswith(f"@{facts['test_set']}")
    gold = Gold(task).path(graph.paths)
    assert all(gold not in graph.round_inputs(round_) for round_ in graph.rounds())


def test_one_test_set_names_nothing_by_it(config):
    graph = Graph(complete(config))
    assert [round_.key for round_ in graph.evaluation_rounds()] == [
        "evaluation/gsm_embedded/tiny_weak",
        "evaluation/gsm_embedded/tiny_strong",
    ]
    assert not any("test_set" in facts for facts in graph.evaluation_nodes().values())
    validated = Graph(complete({**config, "evaluation": {"split": "validation"}}))
    assert [evaluated.key for evaluated in validated.evaluated_sets()] == ["gsm_embedded"]


def by_reward(start, reward, **more):
    common = {"stage": "stage2", "start": start, "trainer": "grpo", "data": "questions"}
    return {**common, "reward": reward, **more}


REWARDED = {
    "ttrl": by_reward("strong", "majority"),
    "ttrl_m_plus": by_reward("m_plus", "majority"),
    "grpo_weak_label": by_reward("m_plus", "weak_label"),
    "grpo_agreement": by_reward("strong", "agreement"),
    "grpo_coin": by_reward("strong", "random", stage="control", control_of="ttrl"),
    "grpo_other_coin": by_reward("strong", "random", stage="control", control_of="grpo_agreement"),
    "ceiling_grpo": by_reward("strong", "gold", stage="baseline"),
}


class TestTrainingByReward:
    @pytest.fixture
    def graph(self, two_weak):
        config = {**two_weak.config, "methods": REWARDED}
        del config["tasks"]["gsm_embedded"]["methods"]
        config["training"]["grpo"] = {"adapter": "full", "max_steps": 3}
        return Graph(complete(config))

    def test_gold_of_train_2_reaches_ceilings_only(self, graph):
        gold = Gold("gsm_embedded").path(graph.paths)
        users = {
            node.method
            for node in graph.nodes
            if graph.method(node).is_trained and gold in graph.training_inputs(node).values()
        }
        assert users == {"ceiling", "ceiling_grpo"}

    def test_tables_and_start_of_each(self, graph):
        chain = graph.chains[0]
        tables = {name: {*graph.training_inputs(graph.node(chain, name))} for name in REWARDED}
        alone, labels = {"questions"}, {"questions", "weak_labels"}
        assert tables == {
            **{"ttrl": alone, "ttrl_m_plus": alone, "grpo_weak_label": labels},
            **{"grpo_agreement": {"questions", "kept"}, "grpo_coin": alone},
            **{"grpo_other_coin": alone, "ceiling_grpo": {"questions", "gold"}},
        }
        node = graph.node(chain, "grpo_agreement")
        assert graph.training_inputs(node)["kept"] == graph.kept(chain, 1)
        assert graph.init_of(node) is None
        assert graph.init_of(graph.node(chain, "ttrl_m_plus")) == graph.m_plus(chain)

    def test_without_a_weak_model_it_is_shared_and_a_control_stands_beside_its_method(self, graph):
        weak = {node.method: node.chain.weak for node in graph.nodes if node.chain.seed == 0}
        assert {name for name in REWARDED if weak[name] == "none"} == {
            *("ttrl", "grpo_coin", "ceiling_grpo")
        }
        requests = graph.evaluation_nodes()
        for node in graph.nodes:
            if other := graph.counterpart(node):
                assert f"{other.key}#greedy" in requests

    def test_settings_say_how_answers_are_sampled_and_read(self, graph):
        task = graph.task("gsm_embedded")
        settings = graph.training_settings(graph.node(graph.chains[0], "ttrl"))
        for key in ("max_tokens", "stop", "answer_key", "extraction", "quirks", "answer_after"):
            assert settings[key] == getattr(task, key)
        assert (settings["reward"], settings["judge"]) == ("majority", {"name": "string"})
        assert (settings["samples"], settings["max_steps"], settings["seed"]) == (8, 3, 0)
        assert complete_settings("grpo", settings).rewards.max_tokens == task.max_tokens
        plain = graph.training_settings(graph.node(graph.chains[0], "dpo"))
        assert "reward" not in plain

    def test_in_a_chat_answers_are_read_after_the_mark(self, chat):
        chat["methods"] = {"ttrl": REWARDED["ttrl"]}
        chat["training"]["grpo"] = {"adapter": "full"}
        graph = Graph(load_configuration(chat))
        node = graph.node(graph.chains[0], "ttrl")
        assert graph.training_settings(node)["answer_after"] == "</think>"
        assert graph.training_chat(node) == graph.training_chat(graph.m_plus(graph.chains[0]))

    def test_a_function_sees_the_questions_alone(self, config, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "mine.py").write_text("def score(answers, seed):\n    return 1\n")
        config["methods"] = {"own": by_reward("strong", "mine.py:score")}
        config["training"]["grpo"] = {"adapter": "full", "max_steps": 3}
        graph = Graph(complete(config))
        (chain,) = graph.chains
        node = graph.node(chain, "own")
        assert node.chain == chain.strong_side
        assert {*graph.training_inputs(node)} == {"questions"}
        assert function_files(graph.method(node).reward_function) == ["mine.py"]
        assert function_files(graph.method(graph.node(chain, "dpo")).reward_function) == []

    def test_from_the_base_an_adapter_has_the_shape_of_sft(self, config):
        config["methods"] = {name: REWARDED[name] for name in ("ttrl", "ttrl_m_plus")}
        lora = {"r": 4, "alpha": 8}
        for trainer in ("sft", "dpo", "orpo", "grpo"):
            config["training"].setdefault(trainer, {})["adapter"] = "lora"
        config["training"]["sft"]["lora"] = lora
        graph = Graph(complete(config))
        shapes = {
            name: graph.training_settings(graph.node(graph.chains[0], name)).get("lora")
            for name in ("ttrl", "ttrl_m_plus")
        }
        assert shapes["ttrl"]["r"] == 4
        assert shapes["ttrl_m_plus"] is None

    def test_a_variant_may_change_its_training(self, config):
        config["methods"] = {"ttrl_m_plus": REWARDED["ttrl_m_plus"]}
        config["training"]["grpo"] = {"adapter": "full"}
        config["variants"] = {
            "hot": {"training": {"grpo": {"temperature": 1.5}}},
            "many": {"sampling": {"n": 3}},
        }
        config["chains"][0]["variants"] = ["hot", "many"]
        graph = Graph(complete(config))
        added = {(node.method, node.chain.variant) for node in graph.nodes if node.chain.variant}
        assert ("ttrl_m_plus", "hot") in added
        assert ("ttrl_m_plus", "many") not in added  # the samples for votes are not its own
        assert {method for method, variant in added if variant == "hot"} == {"ttrl_m_plus"}
