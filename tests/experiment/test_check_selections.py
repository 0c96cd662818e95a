"""What ends a configuration whose answers, selections and methods do not fit each other."""

from copy import deepcopy
from dataclasses import replace

import pytest
import yaml

from weak_to_strong.experiment.configuration import (
    SCHEMA_FILE,
    ConfigError,
    complete,
    load_configuration,
)
from weak_to_strong.experiment.graph import Graph

ROOT = SCHEMA_FILE.parents[1]
PARTS = {
    "answers": {
        "weak_samples": {"model": "weak", "n": 4},
        "icl_samples": {"model": "strong", "few_shot": True, "n": 4},
        "student": {"model": "confident"},
        "second": {"model": "weak", "weak": "tiny_strong"},
    },
    "selections": {
        "sure": {"answers": ["weak_samples"], "keep": "entropy"},
        "teachers": {"answers": ["weak_labels", "second"]},
        "relabelled": {"answers": ["student"], "keep": "all"},
    },
    "preferences": {
        "own": {"chosen": "relabelled", "answers": ["weak_samples"]},
        "taught_pairs": {"chosen": "teachers"},
        "sided": {"chosen": "sure", "one_side": "weak_labels"},
    },
    "methods": {
        "confident": {"stage": "stage1", "start": "strong", "trainer": "sft", "data": "sure"},
        "relabel": {"stage": "stage1", "start": "strong", "trainer": "sft", "data": "relabelled"},
        "taught": {"stage": "stage1", "start": "confident", "trainer": "sft", "data": "teachers"},
        "preferring": {"stage": "stage2", "start": "relabel", "trainer": "dpo", "data": "own"},
        "again": {"stage": "stage2", "start": "preferring", "trainer": "kto", "data": "own"},
        "better": {"stage": "stage2", "start": "m_plus", "trainer": "orpo", "data": "taught_pairs"},
    },
}


@pytest.fixture
def config(monkeypatch):
    monkeypatch.chdir(ROOT)
    demo = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    return {**demo, **deepcopy(PARTS)}


def test_parts_that_fit(config):
    graph = Graph(load_configuration(config))
    (chain,) = graph.chains
    assert graph.init_of(graph.node(chain, "taught")) == graph.node(chain, "confident")
    assert graph.base_of(graph.node(chain, "taught")) == "tiny_strong"
    assert graph.predecessor(graph.node(chain, "taught")) == graph.node(chain, "confident")
    needed = {round_.key.rpartition("/")[2] for round_ in graph.rounds()}
    assert {"answers-weak_samples", "answers-student", "answers-second"} <= needed
    assert "answers-icl_samples" not in needed  # nothing is made with them
    (second,) = [round_ for round_ in graph.rounds() if round_.key.endswith("answers-second")]
    assert graph.bases(second) == ["tiny_strong"]
    assert [request.node.method for request in graph.requests(second)] == ["weak"]


def test_a_selection_has_the_settings_that_count(config):
    config["selections"] |= {
        "padded": {"answers": ["weak_labels"], "pad_to": 9},
        "all_of_them": {"answers": ["weak_labels"], "keep": "all", "keep_empty": True},
        "drawn": {"answers": ["weak_labels"], "keep": "random", "as_many_as": "padded"},
    }
    selections = Graph(load_configuration(config)).experiment.selections
    assert {name: entry.settings for name, entry in selections.items()} == {
        "sure": {"keep": "entropy", "fraction": 0.5, "take": "first"},
        "teachers": {"keep": "agreement", "take": "first"},
        "relabelled": {"keep": "all", "take": "first"},
        "padded": {"keep": "agreement", "take": "first", "pad_to": 9, "pad_seed": 42},
        "all_of_them": {"keep": "all", "take": "first", "keep_empty": True},
        "drawn": {"keep": "random", "as_many_as": "padded", "take": "first"},
    }


def test_sampled_answers_have_the_seed_of_their_chain(config):
    config["seeds"] = [3]
    graph = Graph(complete(config))
    (chain,) = graph.chains
    decodings = {
        name: graph._answer_request(graph._answers(chain, name).chain, name).decoding
        for name in ("weak_samples", "student")
    }
    assert decodings == {
        "weak_samples": {"n": 4, "temperature": 1.0, "top_p": 1.0, "seed": 3},
        "student": {},
    }


def test_a_further_teacher_may_be_behind_an_endpoint(config):
    config["models"]["far"] = {"endpoint": {"url": "https://host/v1", "model": "m"}}
    config["answers"]["second"]["weak"] = "far"
    graph = Graph(load_configuration(config))
    (round_,) = [one for one in graph.rounds() if one.key.endswith("answers-second")]
    assert graph.asked_model(round_) == "far"
    assert [request.node for request in graph.requests(round_)] == [None]


def test_a_variant_has_its_own_selection_only_where_it_reaches_one(config):
    config["variants"] = {"careful": {"demonstrations": {"count": 2}}}
    config["chains"][0]["variants"] = ["careful"]
    config["selections"]["shown"] = {"answers": ["icl_samples"], "keep": "share"}
    config["methods"]["led"] = {
        **{"stage": "stage1", "start": "strong", "trainer": "sft", "data": "shown"}
    }
    config["methods"]["on"] = {**config["methods"]["led"], "start": "led", "data": "sure"}
    config["selections"]["drawn"] = {
        **{"answers": ["weak_labels"], "keep": "random", "as_many_as": "shown"}
    }
    config["methods"]["control"] = {**config["methods"]["led"], "data": "drawn"}
    graph = Graph(complete(config))
    plain, careful = graph.chains
    own = {node.method for node in graph.nodes if node.chain == careful}
    assert {"led", "on", "control"} <= own
    inputs = graph.selection_inputs(careful, "drawn")
    assert inputs["as_many_as"] == [graph._selected(careful, "shown").path(graph.paths)]
    assert own.isdisjoint({"confident", "relabel", "taught"})
    assert graph.node(careful, "confident") == graph.node(plain, "confident")


@pytest.mark.parametrize("start", ["strong", "m_plus", "relabel"])
def test_sft_takes_the_chosen_answers_of_preferences(config, start):
    config["methods"]["chosen"] = {
        **{"stage": "stage2", "start": start, "trainer": "sft", "data": "own"}
    }
    graph = Graph(load_configuration(config))
    (chain,) = graph.chains
    node = graph.node(chain, "chosen")
    pairs = graph.rows(graph.node(chain, "preferring"))
    assert graph.training_inputs(node) == {"pairs": pairs}
    assert graph.rows(node) == node.fill(graph.paths.rows)
    assert graph.kind_of_rows(node) == "preferred"
    assert graph.methods_on(["own"]) == ["again", "preferring"]
    assert graph.methods_on(["preferred"]) == ["chosen"]
    assert graph.methods_on(["selected"]) == ["confident", "relabel", "taught"]


def test_pairs_of_a_name_are_made_once_and_of_the_models_that_they_name(config):
    graph = Graph(load_configuration(config))
    (chain,) = graph.chains
    first, second, other = (graph.node(chain, name) for name in ("preferring", "again", "better"))
    assert graph.rows(first) == graph.rows(second) != graph.rows(other)
    assert graph.rows(first).endswith(f"preferences/{chain.key}/own.parquet")
    assert graph.init_of(second) == first
    inputs = graph.preference_inputs(chain, "own")
    assert [path.rpartition("/")[2] for path in inputs["answers"]] == ["weak_samples.parquet"]
    assert [path.rpartition("/")[2] for path in inputs["selected"]] == ["relabelled.parquet"]
    assert graph.preference_answers("taught_pairs") == ("weak_labels", "second")
    diagnosed = graph.diagnostics()[0]
    assert {"own", "taught_pairs"} <= set(diagnosed["pairs"])
    sources = graph.model_sources()
    labels = [sources[f"{node.key}#greedy"]["labels"] for node in (first, other)]
    assert [entry["method"] for entry in labels] == ["own", "taught_pairs"]


def test_answers_of_one_side_are_made_and_told_from_the_others(config):
    config["preferences"]["own"]["one_side"] = "second"
    del config["methods"]["taught"]
    graph = Graph(load_configuration(config))
    (chain,) = graph.chains
    inputs = graph.preference_inputs(chain, "own")
    assert [path.rpartition("/")[2] for path in inputs["answers"]] == ["weak_samples.parquet"]
    assert [path.rpartition("/")[2] for path in inputs["one_side"]] == ["second.parquet"]
    assert graph.preference_answers("own") == ("weak_samples", "second")
    assert any(round_.key.endswith("answers-second") for round_ in graph.rounds())
    settings = {name: entry.settings for name, entry in graph.experiment.preferences.items()}
    assert settings["own"] == {**settings["taught_pairs"], "weak_rejected_confidence": 0.8}


def test_answers_are_measured_in_the_blind_spots_of_others(config):
    plain = Graph(load_configuration(config))
    assert all("blind_spots" not in chain for chain in plain.diagnostics())
    config["answers"]["sampled"] = {"model": "dpo", "n": 4, "blind_spots_of": "weak_samples"}
    config["variants"] = {
        "careful": {"demonstrations": {"count": 2}},
        "short": {"training": {"orpo": {"beta": 0.3}}},
    }
    config["chains"][0]["variants"] = ["careful", "short"]
    graph = Graph(load_configuration(config))
    chain, careful, short = graph.diagnostics()
    first = graph.chains[0]
    assert chain["blind_spots"] == {
        "sampled": [
            f"results/demo/answers/{first.key}/sampled.parquet",
            f"results/demo/answers/{first.weak_side.key}/weak_samples.parquet",
        ]
    }
    assert careful["blind_spots"]["sampled"][1] == chain["blind_spots"]["sampled"][1]
    assert careful["blind_spots"]["sampled"][0] != chain["blind_spots"]["sampled"][0]
    assert "blind_spots" not in short
    assert set(graph.diagnostic_files()) >= set(chain["blind_spots"]["sampled"])
    made = {round_.key.rpartition("/")[2] for round_ in graph.rounds()}
    assert {"answers-sampled", "answers-weak_samples"} <= made


def test_selections_of_pairs_alone_are_made_and_measured(config):
    for name in ("relabel", "taught"):
        del config["methods"][name]
    config["methods"]["preferring"]["start"] = "m_plus"
    graph = Graph(load_configuration(config))
    assert {"relabelled", "teachers"} <= set(graph.diagnostics()[0]["selections"])
    assert any(round_.key.endswith("answers-student") for round_ in graph.rounds())


def test_a_variant_of_the_trainer_or_of_the_answers_has_its_own_preference_model(config):
    config["variants"] = {
        "steep": {"training": {"kto": {"beta": 0.3}}},
        "careful": {"demonstrations": {"count": 2}},
        "other_pairs": {"pairs": {"rng_seed": 1}},
    }
    config["chains"][0]["variants"] = list(config["variants"])
    config["selections"]["shown"] = {"answers": ["icl_samples"]}
    config["preferences"]["shown_pairs"] = {"chosen": "shown"}
    entry = {"stage": "stage2", "start": "confident", "trainer": "dpo", "data": "shown_pairs"}
    config["methods"]["led"] = entry
    graph = Graph(complete(config))
    plain, steep, careful, _ = graph.chains
    names = ("preferring", "again", "led")
    own = {
        chain.variant: [name for name in names if graph.node(chain, name).chain == chain]
        for chain in graph.chains
    }
    assert own == {"": [*names], "steep": ["again"], "careful": ["led"], "other_pairs": []}
    assert graph.rows(graph.node(steep, "again")) == graph.rows(graph.node(plain, "again"))
    assert graph.rows(graph.node(careful, "led")) != graph.rows(graph.node(plain, "led"))


@pytest.mark.parametrize(
    "file", sorted((ROOT / "config/methods").glob("*.yaml")), ids=lambda f: f.stem
)
def test_ready_methods_fit_the_demo(file, config):
    demo = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    ready = yaml.safe_load(file.read_text())
    merged = {**demo, **{key: {**demo.get(key, {}), **ready[key]} for key in ready}}
    graph = Graph(load_configuration(merged))
    evaluated = {node.method for node in graph.nodes}
    assert set(ready["methods"]) <= evaluated
    assert "# Source" in file.read_text()


def test_the_papers_steps_differ_from_the_built_in_ones_in_names_alone(monkeypatch):
    """Models are trained with the same settings, and ask for the same answers."""
    monkeypatch.chdir(ROOT)
    config = yaml.safe_load((ROOT / "config/study.yaml").read_text())
    config |= {"seeds": [0], "chains": [{**config["chains"][0], "variants": []}]}
    for section, entries in yaml.safe_load(
        (ROOT / "config/methods/paper_steps.yaml").read_text()
    ).items():
        config[section] = config.get(section, {}) | entries
    graph = Graph(load_configuration(config))
    (chain,) = graph.chains
    twins = {
        graph.node(chain, f"{side}_ft", iteration): graph.node(
            chain, f"steps_{side}_ft_{iteration}"
        )
        for side in ("weak", "icl", "hybrid")
        for iteration in (1, 2)
    }
    twins |= {
        graph.node(chain, name): graph.node(chain, f"steps_{name}") for name in ("dpo", "orpo")
    }
    for node, twin in twins.items():
        assert graph.training_settings(node) == graph.training_settings(twin)
        assert graph.base_of(node) == graph.base_of(twin)
        assert twins.get(graph.init_of(node)) == graph.init_of(twin)
    requests = {
        "steps_weak_labels_2": graph._label_request(chain, "weak", 2),
        "steps_icl_labels_2": graph._label_request(chain, "icl", 2),
        "steps_samples": graph._sample_request(chain),
    }
    for name, request in requests.items():
        twin = replace(request, name="answers", node=twins[request.node])
        assert graph._answer_request(chain, name) == twin
    settings = graph.experiment.preferences["steps_pairs"].settings
    assert {**settings, "weak_side": True} == graph.pair_settings(graph.node(chain, "dpo"))


def test_a_task_may_lack_the_method_that_answers_in_another_one(config):
    """A wildcard that names a round looks at all answers, used or not."""
    config["tasks"]["other"] = {
        **config["tasks"]["gsm_embedded"],
        "methods": dict.fromkeys(("confident", "relabel", "taught", "preferring", "again")),
    }
    config["chains"].append({**config["chains"][0], "task": "other"})
    graph = Graph(load_configuration(config))
    assert graph.round(graph.rounds()[0].key)
    config["tasks"]["other"]["methods"].pop("relabel")
    with pytest.raises(ConfigError, match="`other` has no method `confident`, and its method `rel"):
        load_configuration(config)


def test_an_iteration_is_one_of_the_variant_that_asks(config):
    """A variant with fewer iterations that shares the model with its chain is no fault."""
    config["answers"]["student"] = {"model": "hybrid_ft", "iteration": 2}
    config["variants"] = {"short": {"iterations": 1}}
    config["chains"][0]["variants"] = ["short"]
    load_configuration(config)
    config["variants"]["short"]["demonstrations"] = {"count": 2}
    with pytest.raises(ConfigError, match=r"2 is above `iterations: 1` of .* in variant `short`"):
        load_configuration(config)


def test_a_cycle_beside_a_method_is_named_where_it_is(config):
    config["methods"]["first"] = {**config["methods"]["relabel"], "start": "relabel"}
    config["methods"]["relabel"]["start"] = "taught"
    config["methods"]["taught"]["start"] = "relabel"
    with pytest.raises(
        ConfigError, match=r"`methods.relabel`: needs itself: relabel -> taught -> re"
    ):
        load_configuration(config)


BAD = [
    ({"methods.confident.data": "sur"}, "methods.confident.data.*unknown rows `sur`; known: none"),
    ({"methods.confident.start": "him"}, "methods.confident.start.*unknown model `him`; known:"),
    ({"methods.confident.start": "weak"}, "start.*the weak model cannot learn from a selection"),
    ({"methods.taught.start": "weak_icl"}, "start.*method `weak_icl` trains no model; name `str"),
    (
        {"methods.taught.start": "ceiling"},
        "is made with method `ceiling`, which is trained on gold",
    ),
    (
        {"methods.confident.data": "relabelled"},
        "needs itself: confident -> selections.relabelled -> answers.student -> confident",
    ),
    ({"methods.confident.start": "taught"}, "needs itself: confident -> taught -> confident"),
    ({"methods.confident.trainer": "dpo"}, "`sure` with trainer `dpo`; dpo, orpo, kto, and only"),
    ({"methods.confident.per_iteration": True}, "per_iteration.*set it to false"),
    ({"answers.student.model": "nobody"}, "answers.student.model.*unknown model `nobody`"),
    ({"answers.student.model": "ceiling"}, "is made with method `ceiling`, which is trained on"),
    ({"answers.student.weak": "tiny_weak"}, "answers.student.weak.*no effect on model `conf"),
    ({"answers.second.weak": "third"}, "answers.second.weak.*unknown model `third`; known in"),
    ({"answers.weak_samples.few_shot": True}, "few_shot.*answers without demonstrations; remove"),
    (
        {"answers.icl_samples.blind_spots_of": "weak"},
        "icl_samples.blind_spots_of.*no other answers `weak`; known: weak_samples, student",
    ),
    (
        {"answers.icl_samples.blind_spots_of": "icl_samples"},
        "no other answers `icl_samples`; known",
    ),
    (
        {"answers.icl_samples.blind_spots_of": "student"},
        "blind_spots_of.*`student` is one answer to each question; set answers.student.n above 1",
    ),
    (
        {"answers.spy": {"model": "ceiling", "n": 4, "blind_spots_of": "weak_samples"}},
        "answers.spy.model.*is made with method `ceiling`, which is trained on gold",
    ),
    (
        {"answers.spy": {"model": "nobody", "n": 4, "blind_spots_of": "weak_samples"}},
        "answers.spy.model.*unknown model `nobody`",
    ),
    ({"answers.weak_labels": {"model": "weak"}}, "weak_labels.*are taken"),
    ({"selections.majority": {"answers": ["weak_samples"]}}, "selections.*majority.*are taken"),
    ({"selections.sure.answers": ["weak_sample"]}, r"selections.sure.answers.0.*unknown answers"),
    ({"selections.sure.keep": "most"}, "selections.sure.keep.*Which questions are kept"),
    ({"selections.sure.keep": "gone.py:f"}, "selections.sure.keep.*gone.py: cannot be read"),
    ({"selections.sure.vote": "most"}, "selections.sure.vote.*How the votes choose"),
    ({"selections.sure.vote": "ranking"}, "selections.sure.vote.*each entry is an evaluator; name"),
    (
        {
            "selections.teachers": {
                "answers": ["weak_labels", "second"],
                "vote": "ranking",
                "keep": "benchmarks/determinism.py:main",
            }
        },
        "selections.teachers.vote.*has no effect on a function; remove it",
    ),
    ({"selections.sure.without": "most"}, "selections.sure.without.*unknown selection `most`"),
    (
        {"selections.sure.without": "sure"},
        "selections.sure`: needs itself: selections.sure -> selections.sure; name another",
    ),
    (
        {"selections.sure.without": "teachers", "selections.teachers.without": "sure"},
        "needs itself: selections.sure -> selections.teachers -> selections.sure; name another",
    ),
    (
        {
            "selections.teachers.without": "sure",
            "selections.sure.keep": "random",
            "selections.sure.as_many_as": "teachers",
        },
        "needs itself: selections.sure -> selections.teachers -> selections.sure; name another",
    ),
    (
        {"selections.sure.keep": "random", "selections.sure.as_many_as": "relabelled"},
        "confident -> selections.sure -> selections.relabelled -> answers.student -> confident",
    ),
    (
        {"selections.sure.without": "relabelled"},
        "confident -> selections.sure -> selections.relabelled -> answers.student -> confident",
    ),
    ({"selections.pairs": {"answers": ["weak_labels"]}}, "selections.pairs.*name of a kind of"),
    ({"preferences.own.chosen": "mine"}, "preferences.own.chosen.*unknown selection `mine`; known"),
    ({"preferences.own.chosen": "gone.py:f"}, "preferences.own.chosen.*gone.py: cannot be read"),
    (
        {"preferences.taught_pairs.chosen": "benchmarks/determinism.py:main"},
        "preferences.taught_pairs.answers.*a function needs answers; name some",
    ),
    ({"preferences.own.answers": ["weak"]}, "preferences.own.answers.0.*unknown answers `weak`"),
    ({"preferences.own.answers": []}, "preferences.own.answers"),
    ({"preferences.sided.one_side": "gone"}, "preferences.sided.one_side.*unknown answers `gone`"),
    (
        {"preferences.sided.one_side": "weak_samples"},
        "sided.one_side.*has several answers to each question; name answers with `n: 1`",
    ),
    (
        {
            "preferences.sided.chosen": "benchmarks/determinism.py:main",
            "preferences.sided.answers": ["weak_samples"],
        },
        "preferences.sided.one_side.*has no effect on a function; remove it",
    ),
    (
        {"preferences.own.min_confidence_rejected": 0.9},
        "own.min_confidence_rejected.*has no effect without `one_side`; remove it",
    ),
    (
        {
            "preferences.sided.one_side": "student",
            "methods.confident.start": "preferring",
            "methods.preferring": {
                "stage": "stage2",
                "start": "m_plus",
                "trainer": "dpo",
                "data": "sided",
            },
        },
        "needs itself: confident -> preferring -> preferences.sided -> ",
    ),
    (
        {"selections.taken": {"answers": ["weak_labels"], "take": "every"}},
        "selections.taken.take.*Which text with the majority answer becomes a row",
    ),
    (
        {"preferences.sure": {"chosen": "sure"}},
        "preferences.sure.*is the name of a kind of rows, a",
    ),
    ({"preferences.dpo": {"chosen": "sure"}}, "preferences.dpo.*a selection or a method; choose"),
    ({"preferences.own.most": 1}, "preferences.own.*most"),
    ({"preferences.own.weights": "half"}, "preferences.own.weights.*How much each pair counts"),
    (
        {"preferences.own.weights": "share"},
        "again.trainer.*`kto` on `own`, whose pairs have weights; set it to dpo, or pref",
    ),
    (
        {
            "methods.dpo": {
                "stage": "stage2",
                "start": "m_plus",
                "trainer": "grpo",
                "data": "questions",
                "reward": "gone.py:score",
            }
        },
        "methods.dpo.reward.*gone.py: cannot be read",
    ),
    (
        {
            "methods.dpo": {
                "stage": "stage2",
                "start": "m_plus",
                "trainer": "grpo",
                "data": "questions",
                "reward": "gone",
            }
        },
        "methods.dpo.reward",
    ),
    ({"methods.again.start": "strong"}, "methods.again.start.*set it to m_plus, or to a method"),
    (
        {"methods.again.pairs": {"rng_seed": 1}},
        "no effect on data `own`; remove it, or set the keys of",
    ),
    ({"answers.student.model": "again"}, "needs itself"),
    ({"answers.weak_samples.model": "again"}, "needs itself"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_parts_that_do_not_fit(config, changes, message):
    for key, value in changes.items():
        *parents, last = key.split(".")
        place = config
        for parent in parents:
            place = place[parent]
        place[last] = value
    with pytest.raises(ConfigError, match=message) as raised:
        load_configuration(config)
    assert "\n" not in str(raised.value)
