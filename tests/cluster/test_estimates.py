"""Estimates: formulas by hand, what they count, and docs/plan.csv in step with config/paper."""

import csv
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise

import pytest
import yaml

from weak_to_strong.cluster.assumptions import (
    ASSUMPTIONS_FILE,
    Device,
    read_assumptions,
)
from weak_to_strong.cluster.cluster_jobs import full_models, requests_by_weights
from weak_to_strong.cluster.estimates import Estimator
from weak_to_strong.cluster.generation_cost import decode_seconds, prefill_seconds
from weak_to_strong.cluster.model_shape import Shape
from weak_to_strong.cluster.training_cost import TrainingCost
from weak_to_strong.experiment.configuration import (
    SCHEMA_FILE,
    ConfigError,
    complete,
    load_configuration,
)
from weak_to_strong.experiment.graph import Graph
from weak_to_strong.experiment.nodes import Chain, EvaluationRound, Node, SampleRound

ROOT = SCHEMA_FILE.parents[1]
ALL_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

#: A model and a device of round numbers.
SHAPE = Shape(parameters=1000, layers=2, hidden=8, key_value=4, intermediate=16)
DEVICE = Device(
    flops=10_000.0,
    memory_bandwidth=2_000.0,
    link_bandwidth=1_000.0,
    host_link_bandwidth=100.0,
    host_memory_bandwidth=700.0,
    memory=1_000.0,
    weights_share=0.5,
    prefill_utilisation=0.5,
    decode_utilisation=0.5,
    batch=10,
    training_utilisation=0.5,
    link_utilisation=0.5,
    load_bandwidth=100.0,
    start_seconds=5.0,
)
LORA = {"epochs": 2, "adapter": "lora", "per_device_batch_size": 2, "gradient_checkpointing": True}
#: Vocabulary, and how often its matrix is stored: once where input and output share it.
VOCABULARIES = {
    "Llama-2-7b": (32_000, 2),
    "Llama-2-70b": (32_000, 2),
    "Gemma-2b": (256_000, 1),
    "Mistral-7b-v0.1": (32_000, 2),
    "Llama-3-8B-Instruct": (128_256, 2),
    "Llama-3-70B": (128_256, 2),
}


def paper_config(name):
    return yaml.safe_load((ROOT / f"config/paper/{name}.yaml").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch):
    """Configurations name their DeepSpeed file relative to the project."""
    monkeypatch.chdir(ROOT)


@pytest.fixture
def assumptions():
    return read_assumptions()


@pytest.fixture
def gsm8k():
    return paper_config("gsm8k")


def cost(trainer, settings, shape=SHAPE):
    return TrainingCost.of(shape, trainer, settings)


def estimator(config, assumptions):
    return Estimator(Graph(load_configuration(config)), assumptions)


# --- formulas ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("adapter", "checkpointing", "expected"),
    [("lora", False, 40), ("lora", True, 60), ("full", False, 60), ("full", True, 80)],
)
def test_flops_of_a_trained_token(adapter, checkpointing, expected):
    settings = {"adapter": adapter, "gradient_checkpointing": checkpointing}
    assert cost("sft", settings, replace(SHAPE, parameters=10)).flops_per_token == expected


@pytest.mark.parametrize(
    ("trainer", "changes", "expected"),
    [
        ("sft", {}, 2 * 6),
        ("sft", {"gradient_checkpointing": False}, 2 * 4),
        ("orpo", {}, 2 * 6),
        ("dpo", {}, 2 * 6 + 2),
        ("dpo", {"precompute_ref": None}, 2 * 6 + 2),
        ("dpo", {"precompute_ref": False}, 2 * (6 + 2)),
        ("dpo", {"precompute_ref": True}, 2 * 6 + 2),
        ("orpo", {"precompute_ref": True}, 2 * 6),
        ("kto", {}, 2 * (6 + 3 * 2)),
        ("grpo", {"beta": 0.0}, 2 * 6),
        ("grpo", {"beta": 0.1}, 2 * (6 + 2)),
    ],
)
def test_flops_of_a_training(trainer, changes, expected):
    assert cost(trainer, {**LORA, **changes}).flops(7) == 7 * 1000 * expected


SAMPLED = {**LORA, "beta": 0.0, "samples": 8, "global_batch_size": 16, "max_steps": None}


def test_sampling_writes_the_answers_of_an_update_at_once():
    training = cost("grpo", SAMPLED)
    device = read_assumptions().device
    at_once = replace(device, batch=16)
    epoch = prefill_seconds(SHAPE, 30, device) + decode_seconds(SHAPE, 70, 5, at_once)
    assert training.sampling_seconds(30, 70, 5, device) == pytest.approx(2 * epoch)
    assert cost("dpo", LORA).sampling_seconds(30, 70, 5, device) == 0


def test_steps_of_a_training_by_reward_count_answers():
    """3 steps of 16 answers are those to 6 questions, of which there are 12: half a pass."""
    half = cost("grpo", {**SAMPLED, "max_steps": 3}).for_rows(12)
    assert half.settings["epochs"] == 0.5
    assert cost("grpo", SAMPLED).for_rows(12).settings["epochs"] == 2


def test_a_training_by_reward_counts_what_it_samples(gsm8k, assumptions):
    entry = {"stage": "stage2", "start": "m_plus", "trainer": "grpo", "data": "questions"}
    gsm8k["methods"] = {
        "ttrl": {**entry, "reward": "majority"},
        "grpo_agreement": {**entry, "reward": "agreement"},
    }
    gsm8k.setdefault("training", {})["grpo"] = {"epochs": 2}
    plan = estimator(gsm8k, assumptions)
    graph = Graph(load_configuration(gsm8k))
    jobs = {}
    for node in graph.trained_nodes():
        jobs.setdefault(node.method, plan.training_job(node))
    questions = assumptions.of_task("GSM8K", "train_2")
    prompt, response = (assumptions.of_task("GSM8K", f"{x}_tokens") for x in ("prompt", "response"))
    assert jobs["ttrl"].sampled_tokens == 2 * questions * 8 * response
    assert jobs["ttrl"].tokens == 2 * questions * 8 * (prompt + response)
    assert jobs["grpo_agreement"].sampled_tokens < jobs["ttrl"].sampled_tokens
    assert jobs["dpo"].sampled_tokens == 0
    rounds = sum(plan.generation_job(round_).tokens for round_ in graph.rounds())
    sampled = sum(plan.training_job(node).sampled_tokens for node in graph.trained_nodes())
    assert plan.estimate()["generated_tokens"] == round(rounds + sampled)


def test_steps_in_place_of_epochs():
    """8 steps of 5 rows are 4 passes over 10 rows."""
    steps = {**LORA, "max_steps": 8, "global_batch_size": 5}
    one = cost("sft", steps).for_rows(10)
    assert one.settings["epochs"] == 4
    assert one.flops(7) == 2 * cost("sft", LORA).for_rows(10).flops(7)


def test_weights_are_gathered_for_each_micro_batch_and_pass():
    # 5 rows, 2 at a time, are 3 micro-batches. Each gathers 2000 bytes of weights in 4 passes:
    # forward and backward in 2 epochs.
    assert cost("sft", LORA).gathered_bytes(5) == 3 * 4 * 2000
    beside = {**LORA, "precompute_ref": False}
    assert cost("dpo", beside).gathered_bytes(5) == 3 * (4 + 2) * 2000
    assert cost("dpo", LORA).gathered_bytes(5) == 3 * 5 * 2000


def test_training_takes_the_slower_of_arithmetic_and_gathering():
    seconds = 70 * 12_000 / 5_000
    assert cost("sft", LORA).seconds(5, 70, DEVICE) == seconds
    sharded = {**LORA, "deepspeed": "config/deepspeed/zero3.json"}
    assert cost("sft", sharded).seconds(5, 70, DEVICE) == seconds
    assert cost("sft", sharded).seconds(50, 70, DEVICE) == 25 * 4 * 2000 / 500
    large_device = replace(DEVICE, memory=1e6)
    assert cost("sft", sharded).seconds(50, 70, large_device) == seconds
    whole = {**LORA, "deepspeed": "config/deepspeed/zero2.json"}
    assert cost("sft", whole).seconds(50, 70, DEVICE) == seconds


def test_offloaded_weights_come_from_the_host_to_one_device_too():
    offloaded = {**LORA, "deepspeed": "config/deepspeed/zero3_offload.json"}
    for device in (DEVICE, replace(DEVICE, memory=1e6)):
        assert cost("sft", offloaded).seconds(50, 70, device) == 25 * 4 * 2000 / 50


def test_a_host_updates_full_weights_that_are_offloaded():
    # 50 rows by 8 are 7 updates; 2 epochs; 28 bytes a weight at 700 bytes/s.
    batch = {**LORA, "global_batch_size": 8}
    offloaded = {**batch, "deepspeed": "config/deepspeed/zero3_offload.json"}
    full = {**offloaded, "adapter": "full"}
    assert cost("sft", full).host_update_seconds(50, DEVICE) == 14 * 28 * 1000 / 700
    assert cost("sft", offloaded).host_update_seconds(50, DEVICE) == 0
    assert cost("sft", {**batch, "adapter": "full"}).host_update_seconds(50, DEVICE) == 0


def test_only_projections_are_quantised_and_have_constants_for_each_block():
    small = replace(SHAPE, parameters=100_000, vocabulary=50)
    nf4 = {**LORA, "dtype": "bfloat16", "quantization": "nf4"}
    # A weight of a projection has 4 bits. Each block of 64 weights has a constant of 8 bits, and
    # each 256 blocks have one of 32 bits. In 16 bits are the embedding and the output layer, 50 x 8
    # each, and the largest projection, 8 x 16, while it is used.
    projections = 100_000 - 2 * 50 * 8
    bits = 4 + 8 / 64 + 32 / 64 / 256
    assert bits == pytest.approx(4.127, abs=1e-4)
    expected = projections * bits / 8 + 2 * (2 * 50 * 8 + 8 * 16)
    assert cost("sft", nf4, small).weight_bytes == pytest.approx(expected)
    assert cost("sft", {**nf4, "quantization": None}, small).weight_bytes == 200_000
    assert cost("sft", {**nf4, "dtype": "float32"}, small).weight_bytes > expected


def test_a_quantised_training_starts_on_fewer_devices(gsm8k, assumptions):
    whole = estimator(gsm8k, assumptions).estimate()
    for trainer in ("sft", "dpo", "orpo"):
        gsm8k["training"][trainer] |= {"quantization": "nf4"}
        del gsm8k["training"][trainer]["deepspeed"]
    quantised = Estimator(Graph(complete(gsm8k)), assumptions).estimate()
    assert quantised["loading_gpu_hours"] < whole["loading_gpu_hours"]
    assert quantised["generation_gpu_hours"] == whole["generation_gpu_hours"]


def test_a_model_is_spread_over_a_power_of_two_of_devices():
    assert DEVICE.count_for(2000) == 4
    assert DEVICE.count_for(2001) == 8
    assert DEVICE.count_for(500) == 1
    assert DEVICE.load_seconds(2000) == 5 + 2000 / 100


def test_all_devices_of_a_model_wait_for_a_start(gsm8k, assumptions):
    graph = Graph(load_configuration(gsm8k))
    estimates = Estimator(graph, assumptions)
    job = estimates.generation_job(graph.label_round(GEMMA, "icl", 1))
    size = estimates.shape("llama2_70b").size
    assert assumptions.device.count_for(size) == 4
    assert job.loading_gpu_hours == 4 * assumptions.device.load_seconds(size) / 3600


def test_writing_is_bound_by_memory_or_by_arithmetic():
    assert SHAPE.cache_per_token == 2 * 2 * 2 * 4
    assert prefill_seconds(SHAPE, 10, DEVICE) == 10 * 2000 / 5_000
    # A step of ten sequences: 4 s of arithmetic, or 2000 + 10 * 3 * 32 bytes at 1000 bytes/s.
    assert decode_seconds(SHAPE, 50, 3, DEVICE) == 50 / 10 * 4
    assert decode_seconds(SHAPE, 50, 10, DEVICE) == 50 / 10 * 5.2


def test_size_of_an_adapter():
    assert SHAPE.adapter_weights(3, ["q_proj", "v_proj", "up_proj"]) == 2 * 3 * (16 + 12 + 24)
    # The block has no qkv_proj, which counts as a projection from 8 to 8.
    assert SHAPE.adapter_weights(3, ["qkv_proj", "v_proj"]) == 2 * 3 * (16 + 12)


def test_adapter_of_a_known_model(gsm8k, assumptions):
    shape = estimator(gsm8k, assumptions).shape("llama2_7b")
    # As peft reports it for rank 8 on the seven projections.
    assert shape.adapter_weights(8, ALL_PROJECTIONS) == 19_988_480


@pytest.mark.parametrize("name", ["gsm8k", "math", "olympicarena", "all"])
def test_numbers_of_weights_are_those_of_the_architectures(name, assumptions):
    config = paper_config(name)
    for model, entry in config["models"].items():
        shape = estimator(config, assumptions).shape(model)
        rows, copies = VOCABULARIES[entry["paper"]]
        attention = 2 * shape.hidden * (shape.hidden + shape.key_value)
        block = attention + 3 * shape.hidden * shape.intermediate + 2 * shape.hidden
        expected = copies * rows * shape.hidden + shape.layers * block + shape.hidden
        assert entry["parameters"] == expected, model


# --- assumptions -------------------------------------------------------------------------------


def test_published_counts_are_the_golden_ones(assumptions):
    with (ROOT / "resources/golden_counts.csv").open(encoding="utf-8", newline="") as file:
        golden = {(row["file"], row["count"]): int(row["expected"]) for row in csv.DictReader(file)}

    def count(task, weak, kind, column="rows"):
        return golden[f"data/llama_factory/{task}/train_{weak}_{kind}.json", column]

    models = {"Llama-2-7b": "llama2_7b", "Gemma-2b": "gemma_2b", "Mistral-7b-v0.1": "mistral_7b"}
    for paper, weak in models.items():
        gsm, math = assumptions.tasks["GSM8K"], assumptions.tasks["MATH"]
        kept = [count("gsm8k", f"gsm8k_{weak}", f"iter{i}_weak") for i in (1, 2)]
        assert gsm["kept"][paper] == kept
        pairs = count("gsm8k", f"gsm8k_{weak}", "iter2_hybrid_paired")
        assert gsm["paired"][paper] == pairs
        assert math["kept"][paper] == [count("math", f"math_{weak}", "iter1_weak", "agreeing")]
        paired = count("math", f"math_{weak}", "iter1_hybrid_paired", "questions")
        assert math["paired"][paper] == paired
    # Only this file of MATH has pairs made with its own weak model's answers.
    paired, pairs = (
        count("math", "math_mistral_7b", "iter1_hybrid_paired", column)
        for column in ("questions", "rows")
    )
    share = assumptions.generation["further_pairs"]
    assert paired * (1 + 2 * share) == pytest.approx(pairs, abs=1)
    olympic = [count("olympicarena", "olympic_llama3-8b-instruct", f"iter{i}_weak") for i in (1, 2)]
    assert assumptions.tasks["OlympicArena"]["kept"]["Llama-3-8B-Instruct"] == olympic
    for task, sizes in {"GSM8K": (7000, 7000, 1319), "MATH": (6000, 6000, 500)}.items():
        splits = (assumptions.of_task(task, split) for split in ("train_1", "train_2", "test"))
        assert tuple(splits) == sizes


def change_table(tmp_path, change):
    entries = yaml.safe_load(ASSUMPTIONS_FILE.read_text(encoding="utf-8"))
    change(entries)
    path = tmp_path / "assumptions.yaml"
    path.write_text(yaml.safe_dump(entries), encoding="utf-8")
    return path


CHANGES = {
    "tasks.GSM8K.test: is no": lambda entries: entries["tasks"]["GSM8K"]["test"].pop("source"),
    "device.memory: is no": lambda entries: entries["device"].update(memory=8e10),
    "device.batch is missing": lambda entries: entries["device"].pop("batch"),
    "models.Gemma-2b has no `source`": lambda entries: entries["models"]["Gemma-2b"].pop("source"),
}


@pytest.mark.parametrize("message", CHANGES)
def test_an_entry_without_value_or_source_is_named(tmp_path, message):
    path = change_table(tmp_path, CHANGES[message])
    with pytest.raises(ValueError, match=message):
        read_assumptions(path)


def test_a_missing_assumption_is_named(assumptions):
    with pytest.raises(ValueError, match=r"`tasks.OlympicArena.kept.Gemma-2b` is missing"):
        assumptions.of_task("OlympicArena", "kept", "Gemma-2b")


# --- an experiment -----------------------------------------------------------------------------

GEMMA = Chain("gsm8k", "gemma_2b", "llama2_70b", 0)
THREE = replace(GEMMA, variant="three_pairs")


@pytest.mark.parametrize(
    ("node", "rows", "tokens"),
    [
        (Node(GEMMA.weak_side, "weak", 0), 7000, 60 + 86),
        (Node(GEMMA.strong_side, "ceiling", 0), 7000, 60 + 86),
        (Node(GEMMA, "full_weak", 0), 7000, 60 + 96),
        (Node(GEMMA, "weak_ft", 1), 2177, 60 + 67),
        (Node(GEMMA, "hybrid_ft", 2), 2 * 3600, 60 + 67),
        (Node(GEMMA, "dpo", 0), 2354, 2 * (60 + 89)),
        (Node(THREE, "orpo", 0), 2354 * 2.45, 2 * (60 + 89)),
    ],
    ids=lambda value: value.key if isinstance(value, Node) else "",
)
def test_rows_and_tokens_to_train_on(gsm8k, assumptions, node, rows, tokens):
    estimated = estimator(gsm8k, assumptions).training_rows(node)
    assert estimated == pytest.approx((rows, rows * tokens))


@pytest.mark.parametrize(
    ("name", "rows", "tokens"),
    [
        ("random_hybrid", 2 * 2177, 60 + 96),
        ("full_icl", 7000, 60 + 96),
        ("sft_chosen", 2354, 60 + 89),
        ("dpo_shuffled", 2354, 2 * (60 + 89)),
    ],
)
def test_rows_of_the_demos_controls(gsm8k, assumptions, name, rows, tokens):
    demo = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    controlled = {**gsm8k, "methods": {**gsm8k.get("methods", {}), name: demo["methods"][name]}}
    estimated = estimator(controlled, assumptions).training_rows(Node(GEMMA, name, 0))
    assert estimated == pytest.approx((rows, rows * tokens))


def test_padding_fills_up_with_longer_answers(assumptions):
    chain = Chain("math", "gemma_2b", "llama2_70b", 0)
    estimated = estimator(paper_config("math"), assumptions).training_rows(
        Node(chain, "hybrid_ft", 1)
    )
    assert estimated == (2000, 2 * (448 * (74 + 107) + 552 * (74 + 160)))


def test_tokens_of_a_request(gsm8k, assumptions):
    gsm8k_estimator = estimator(gsm8k, assumptions)
    graph = Graph(load_configuration(gsm8k))
    (icl,) = graph.requests(graph.label_round(GEMMA, "icl", 1))
    prefix = 4 * (60 + 96)
    assert gsm8k_estimator.request_tokens(icl) == (prefix + 7000 * 60, 7000 * 96, prefix + 60 + 48)
    (samples,) = graph.requests(SampleRound(GEMMA))
    assert gsm8k_estimator.request_tokens(samples) == (7000 * 60, 10 * 7000 * 96, 60 + 48)
    requests = graph.requests(EvaluationRound("gsm8k", "llama2_70b"))
    (untuned,) = [r for r in requests if r.name.endswith("strong_zero_shot-0#greedy")]
    assert gsm8k_estimator.request_tokens(untuned) == (1319 * 60, 1319 * 512, 60 + 256)


def test_adapters_share_an_engine_and_full_weights_do_not(gsm8k, assumptions):
    key = EvaluationRound("gsm8k", "llama2_70b")
    adapters = Graph(load_configuration(gsm8k))
    assert full_models(adapters) == set()
    base = "results/paper_gsm8k/bases/llama2_70b.json"
    assert list(requests_by_weights(adapters, key, ())) == [base]
    small = estimator(gsm8k, assumptions).estimate()
    for trainer in ("sft", "dpo", "orpo"):
        gsm8k["training"][trainer]["adapter"] = "full"
        gsm8k["training"][trainer].pop("lora", None)
    graph = Graph(load_configuration(gsm8k))
    trained = [node for node in graph.trained_nodes() if graph.base_of(node) == "llama2_70b"]
    by_weights = requests_by_weights(graph, key, full_models(graph))
    assert len(by_weights) == 1 + len(trained)
    assert estimator(gsm8k, assumptions).estimate()["trained_gb"] > 100 * small["trained_gb"]


def test_each_engine_loads_the_weights_of_a_round(gsm8k, assumptions):
    graph = Graph(load_configuration(gsm8k))
    key, other = (EvaluationRound("gsm8k", base) for base in ("llama2_70b", "gemma_2b"))
    one = Estimator(graph, assumptions)
    eight = Estimator(graph, assumptions, lambda round_key: 8 if round_key == key else 1)
    few, many = one.generation_job(key), eight.generation_job(key)
    assert (few.weights, few.loads) == (1, 1)
    assert (many.weights, many.loads) == (1, 8)
    assert many.loading_gpu_hours == 8 * few.loading_gpu_hours
    work = few.gpu_hours - few.loading_gpu_hours
    assert many.gpu_hours - many.loading_gpu_hours == pytest.approx(work)
    assert eight.generation_job(other) == one.generation_job(other)
    whole, plain = eight.estimate(), one.estimate()
    assert whole["engine_loads"] == plain["engine_loads"] + 7
    assert whole["round_weights"] == plain["round_weights"] == plain["engine_loads"]
    assert whole["loading_gpu_hours"] > plain["loading_gpu_hours"]


def test_each_engine_may_load_each_of_several_weights(gsm8k, assumptions):
    for trainer in ("sft", "dpo", "orpo"):
        gsm8k["training"][trainer]["adapter"] = "full"
        gsm8k["training"][trainer].pop("lora", None)
    graph = Graph(load_configuration(gsm8k))
    round_ = EvaluationRound("gsm8k", "llama2_70b")
    job = Estimator(graph, assumptions, lambda _: 2).generation_job(round_)
    assert job.weights > 1
    assert job.loads == 2 * job.weights


def test_more_samples_take_longer(gsm8k, assumptions):
    estimates = []
    for n in (2, 5, 10, 20):
        config = deepcopy(gsm8k)
        config["sampling"]["n"] = n
        estimates.append(estimator(config, assumptions).estimate())
    for few, many in pairwise(estimates):
        assert few["generated_tokens"] < many["generated_tokens"]
        assert few["generation_gpu_hours"] < many["generation_gpu_hours"]
        assert few["gpu_hours"] < many["gpu_hours"]
        assert few["training_gpu_hours"] == many["training_gpu_hours"]
        assert few["engine_loads"] == many["engine_loads"]


def test_hours_go_with_the_device(gsm8k, assumptions):
    def hours(**changes):
        device = replace(assumptions.device, **changes)
        return estimator(gsm8k, replace(assumptions, device=device)).estimate()

    plain = hours()
    assert hours(memory_bandwidth=1e12)["generation_gpu_hours"] > plain["generation_gpu_hours"]
    assert hours(link_bandwidth=1e11)["training_gpu_hours"] > plain["training_gpu_hours"]
    assert hours(start_seconds=600)["loading_gpu_hours"] > plain["loading_gpu_hours"]
    assert plain["loading_gpu_hours"] < plain["gpu_hours"]


@pytest.mark.parametrize(
    ("section", "name", "key"),
    [
        ("models", "gemma_2b", "parameters"),
        ("models", "gemma_2b", "paper"),
        ("tasks", "gsm8k", "paper"),
    ],
)
def test_a_missing_key_is_named_in_one_line(gsm8k, assumptions, section, name, key):
    del gsm8k[section][name][key]
    with pytest.raises(ConfigError, match=rf"`{section}.{name}.{key}`: ") as raised:
        estimator(gsm8k, assumptions).estimate()
    assert "\n" not in str(raised.value)


def test_the_number_of_weights_is_no_part_of_a_base_model(monkeypatch):
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    for model in config["models"].values():
        model["parameters"] = 1
    seen = []
    monkeypatch.setattr(
        "weak_to_strong.models.base_models.check_base_model", lambda name, entry: seen.append(entry)
    )
    load_configuration(config)
    assert len(seen) == 2
    assert all(entry.keys() == {"path", "trust_remote_code"} for entry in seen)


def test_a_number_of_weights_is_a_positive_integer(gsm8k):
    gsm8k["models"]["gemma_2b"]["parameters"] = 0
    with pytest.raises(ConfigError, match=r"models.gemma_2b.parameters"):
        complete(gsm8k)


# --- docs/plan.csv and docs/plan.md --------------------------------------------------------------


@pytest.fixture
def plan(monkeypatch):
    """The command docs/plan.py."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import plan

    return plan


@pytest.mark.parametrize("experiment", ["gsm8k", "math", "olympicarena", "all"])
def test_the_plan_is_in_step(plan, experiment):
    (row,) = [row for row in plan.read_csv(plan.PLAN_FILE) if row["experiment"] == experiment]
    assert list(row) == list(plan.COLUMNS)
    expected = {key: str(value) for key, value in plan.estimate(experiment).items()}
    assert {**row, **expected} == row, "docs/plan.csv is out of date: `make plan`"


@pytest.mark.parametrize("experiment", ["gsm8k", "math", "olympicarena", "all"])
def test_every_job_of_the_paper_fits_the_example_site(plan, experiment):
    _, _, cluster = plan.planned(experiment)
    assert "llama" in cluster.plan()  # an error names a training or engine that does not fit


def test_planned_jobs_are_those_of_the_graph(plan):
    jobs = {(row["experiment"], row["rule"]): row["jobs"] for row in plan.read_csv(plan.JOBS_FILE)}
    for row in plan.read_csv(plan.PLAN_FILE):
        name = row["experiment"]
        assert jobs[name, "generate"] == row["generation_rounds"]
        assert jobs[name, "train"] == row["trainings"]
        assert jobs[name, "total"] == row["jobs"]
        counts = [int(n) for (e, rule), n in jobs.items() if e == name and rule != "total"]
        assert sum(counts) == int(row["jobs"])


def test_the_plan_of_each_job_is_in_step(plan):
    rows = plan.read_csv(plan.GPU_JOBS_FILE)
    expected = [{key: str(value) for key, value in row.items()} for row in plan.gpu_jobs()]
    assert rows == expected, "docs/results/plan/gpu_jobs.csv is out of date: `make plan`"


def test_rounds_by_kind_add_up_to_the_plan(plan):
    rows = plan.read_csv(plan.ROUNDS_FILE)
    for row in plan.read_csv(plan.PLAN_FILE):
        name = row["experiment"]
        own = [round_row for round_row in rows if round_row["experiment"] == name]
        computed = plan.round_rows(name)
        expected = [{key: str(value) for key, value in round_row.items()} for round_row in computed]
        assert own == expected, "docs/results/plan/rounds.csv is out of date: `make plan`"
        for column, total in (
            ("rounds", "generation_rounds"),
            ("requests", "requests"),
            ("engine_loads", "engine_loads"),
        ):
            assert sum(int(round_row[column]) for round_row in own) == int(row[total])


def test_a_round_of_eight_engines_is_planned_with_eight_loads(plan):
    rows = {row["job"]: row for row in plan.read_csv(plan.GPU_JOBS_FILE)}
    evaluation = rows["evaluation/gsm8k/llama2_70b"]
    assert (evaluation["gpus"], evaluation["loads"]) == ("32", "8")  # of four GPUs each
    assert rows["gsm8k/gemma_2b/llama2_70b/seed-0/icl-1"]["loads"] == "1"


def test_jobs_add_up_to_the_experiment(plan):
    (whole,) = [row for row in plan.read_csv(plan.PLAN_FILE) if row["experiment"] == "all"]
    rows = plan.read_csv(plan.GPU_JOBS_FILE)
    assert sum(float(row["gpu_hours"]) for row in rows) == pytest.approx(
        float(whole["gpu_hours"]), abs=0.1
    )
    trainings = [row for row in rows if row["rule"] == "train"]
    assert len(trainings) == int(whole["trainings"])
    assert sum(float(row["disk_gb"]) for row in trainings) == pytest.approx(
        float(whole["trained_gb"]), abs=0.1
    )
    memory = plan.read_site(str(plan.SITE_FILE)).gpu_memory / 1e9
    assert all(0 < float(row["gb_per_gpu"]) <= memory for row in rows)


def test_the_table_of_memory_is_in_step(plan):
    rows = [{key: str(value) for key, value in row.items()} for row in plan.memory_rows()]
    assert plan.read_csv(plan.MEMORY_FILE) == rows, "docs/results/plan is out of date: `make plan`"


def test_the_page_shows_the_tables_as_they_are(plan):
    for name, text in plan.tables().items():
        assert (plan.FOLDER / f"{name}.md").read_text(encoding="utf-8") == text
    page = (ROOT / "docs/plan.md").read_text(encoding="utf-8")
    assert plan.insert_files(page, ROOT) == page


def test_the_last_job_table_is_read(plan):
    output = "Job stats:\njob  count\n---  -----\nall  1\ntotal  1\n\nreasons\n"
    later = (
        "Job stats:\njob      count\n-----  -------\ntrain        2\ntotal        2\n\nReasons:\n"
    )
    assert plan.read_jobs(output + later) == {"train": 2, "total": 2}
    with pytest.raises(ValueError, match="no job table"):
        plan.read_jobs("Nothing to be done.")
