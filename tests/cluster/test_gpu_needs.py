"""Needs of trainings and generation rounds, against figures worked out by hand."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from weak_to_strong.cluster.assumptions import Device
from weak_to_strong.cluster.gpu_needs import (
    engine_sizes,
    generation_needs,
    nodes_of,
    training_gpus,
    training_needs,
)
from weak_to_strong.cluster.model_shape import (
    Shape,
    config_shape,
    model_shape,
    rough_shape,
    tensor_shapes,
)
from weak_to_strong.cluster.site_file import parse_site
from weak_to_strong.cluster.training_cost import TrainingCost
from weak_to_strong.training.settings import Zero

TINY = Shape(400_000, layers=4, hidden=100, key_value=100, intermediate=250, vocabulary=500)
LLAMA_7B = Shape(7_000_000_000, 32, 4096, 4096, 11008, vocabulary=32_000)
LLAMA_70B = Shape(70_000_000_000, 80, 8192, 1024, 28672, vocabulary=32_000)

#: Eight GPUs of 80 GB a node, of which 0.9 x 80 - 2 = 70 GB can be filled.
SITE = parse_site(
    {
        "gpu": {
            "partition": "gpu",
            "memory_gb": 80,
            "per_node": 8,
            "cpus_per_gpu": 6,
            "mem_gb_per_gpu": 100,
            "max_nodes": 4,
            "runtime": 1440,
        },
        "cpu": {"partition": "cpu"},
    },
    "site",
)
#: Round numbers: 1e14 FLOP/s in training, 1e12 bytes/s in writing answers, 1e9 bytes/s from disk.
DEVICE = Device(
    flops=1e15,
    memory_bandwidth=2e12,
    link_bandwidth=2e11,
    host_link_bandwidth=2e10,
    host_memory_bandwidth=1e11,
    memory=80e9,
    weights_share=0.6,
    prefill_utilisation=0.1,
    decode_utilisation=0.5,
    batch=100,
    training_utilisation=0.1,
    link_utilisation=0.5,
    load_bandwidth=1e9,
    start_seconds=60,
)
SETTINGS = {
    "adapter": "lora",
    "dtype": "bfloat16",
    "epochs": 1,
    "global_batch_size": 64,
    "per_device_batch_size": 2,
    "max_length": 1000,  # which the longest row fills; the mean one has a quarter of it
    "lora": {"r": 8, "alpha": 16},
}
ZERO2, ZERO3, OFFLOAD = (
    {"deepspeed": str(Path(__file__).parents[2] / f"config/deepspeed/{name}.json")}
    for name in ("zero2", "zero3", "zero3_offload")
)
NF4 = {"quantization": "nf4"}
CHECKPOINTING = {"gradient_checkpointing": True}


def settings(*changes, **further):
    return {**SETTINGS, **{k: v for change in changes for k, v in change.items()}, **further}


def cost(shape, trainer, given):
    return TrainingCost.of(shape, trainer, given)


def needs(shape, *changes, trainer="sft", **further):
    return training_needs(cost(shape, trainer, settings(*changes)), SITE, DEVICE, **further)


class TestMemory:
    def test_lora_keeps_frozen_weights_and_16_bytes_for_each_of_the_adapter(self):
        # r 8 on q, k, v, o: 4 x (100 + 100); gate, up, down: 3 x (100 + 250); 4 layers.
        adapter = 4 * 8 * (4 * 200 + 3 * 350)
        assert cost(TINY, "sft", settings()).state_bytes == 2 * 400_000 + 16 * adapter

    def test_a_projection_of_another_kind_of_block_is_counted_roughly(self):
        fused = settings(lora={"r": 8, "target_modules": ["qkv_proj", "gate_up_proj"]})
        adapter = 4 * 8 * 2 * 200
        assert cost(TINY, "sft", fused).state_bytes == 2 * 400_000 + 16 * adapter

    def test_dpo_adds_a_frozen_adapter_or_a_second_model(self):
        adapter = 4 * 8 * (4 * 200 + 3 * 350)
        lora = cost(TINY, "dpo", settings()).state_bytes - cost(TINY, "sft", settings()).state_bytes
        assert lora == 4 * adapter
        full = settings(ZERO3, adapter="full")
        assert (
            cost(TINY, "dpo", full).state_bytes - cost(TINY, "sft", full).state_bytes == 2 * 400_000
        )
        assert cost(TINY, "orpo", full).state_bytes == cost(TINY, "sft", full).state_bytes

    def test_grpo_keeps_the_answers_that_it_samples_at_once(self):
        sampled = settings(beta=0.0, samples=8, global_batch_size=16, max_tokens=500)
        training = cost(TINY, "grpo", sampled)
        # 16 sequences of 1000 tokens, with keys and values of 4 layers in 2 bytes; 3 x 500 logits.
        assert training.sampling_bytes(1) == 16 * (1000 * 2 * 2 * 4 * 100 + 12 * 500)
        assert training.sampling_bytes(2) == training.sampling_bytes(1) / 2
        assert training.activation_bytes == cost(TINY, "sft", settings()).activation_bytes
        assert training.work_bytes(1) == max(training.activation_bytes, training.sampling_bytes(1))
        assert training.state_bytes == cost(TINY, "sft", settings()).state_bytes
        beside = cost(TINY, "grpo", {**sampled, "beta": 0.1})
        assert beside.state_bytes == cost(TINY, "dpo", settings()).state_bytes

    def test_grpo_takes_longer_than_training_on_given_answers(self):
        sampled = {"beta": 0.0, "samples": 8, "global_batch_size": 16, "max_tokens": 500}
        given = needs(LLAMA_7B, rows=80_000)
        assert needs(LLAMA_7B, sampled, trainer="grpo", rows=10_000).runtime > given.runtime

    def test_grpo_with_too_many_answers_at_once(self):
        sampled = settings(beta=0.0, samples=8, global_batch_size=4096, max_tokens=500)
        with pytest.raises(ValueError, match=r"training\.grpo\.global_batch_size`: .* at once"):
            training_gpus(cost(LLAMA_7B, "grpo", sampled), SITE)

    @pytest.mark.parametrize(
        ("change", "bytes_a_weight"),
        [({"dtype": "float32"}, 16), ({}, 18), (ZERO3, 16), ({**ZERO3, "dtype": "float32"}, 16)],
    )
    def test_full_training_takes_16_bytes_a_weight_and_2_for_autocasting(
        self, change, bytes_a_weight
    ):
        full = settings(change, adapter="full")
        assert cost(LLAMA_7B, "sft", full).state_bytes == bytes_a_weight * 7e9

    def test_activations_of_all_blocks_or_of_one(self):
        tokens = 2 * 1000
        block = 48 * 100 + 4 * 100 + 12 * 250
        logits = 12 * 500
        assert cost(TINY, "sft", settings()).activation_bytes == tokens * (4 * block + logits)
        checkpointed = cost(TINY, "sft", settings(CHECKPOINTING)).activation_bytes
        assert checkpointed == tokens * (4 * 100 * 2 + block + logits)

    def test_a_row_of_pairs_is_two_sequences(self):
        sequence_bytes = cost(TINY, "sft", settings()).activation_bytes
        assert cost(TINY, "dpo", settings()).activation_bytes == 2 * sequence_bytes
        assert cost(TINY, "orpo", settings()).activation_bytes == 2 * sequence_bytes


class TestTraining:
    def test_a_tiny_model_takes_one_gpu_and_the_least_of_all(self):
        # Host: 5 GB of the process, 0.6 of Snakemake, 0.8 MB of weights.
        needed = needs(TINY, rows=100)
        assert (needed.gpus, needed.nodes, needed.cpus, needed.runtime) == (1, 1, 6, 30)
        assert needed.mem_mb == 5601
        assert needed.checkpoint_minutes == 10

    def test_7b_with_lora_takes_one_gpu(self):
        # 14 GB of weights and 25 GB of activations. 14,000 rows x 250 tokens x 4 x 7e9 FLOPs at
        # 1e14 a second are 980 s, the start 60 s + 14 s; three times that are 53 minutes.
        needed = needs(LLAMA_7B, rows=14_000)
        assert (needed.gpus, needed.nodes) == (1, 1)
        assert needed.mem_mb == 5000 + 14_000 + 600
        assert needed.runtime == 53

    def test_7b_with_full_weights_takes_two_and_deepspeed(self):
        # One GPU would hold 16 x 7e9 = 112 GB, more than 70. Each of two holds half of them, 0.9 GB
        # of gathered weights and 11 GB of activations.
        needed = needs(LLAMA_7B, ZERO3, {"adapter": "full"})
        assert (needed.gpus, needed.nodes, needed.cpus) == (2, 1, 12)
        # Host: 5 GB for each process, the file's 14 GB, and as much gathered to save.
        assert needed.mem_mb == 2 * 5000 + 28_000 + 600
        # Writing a checkpoint of 12 x 7e9 bytes takes 84 s, which is 5% of 28 minutes.
        assert needed.checkpoint_minutes == 28
        with pytest.raises(ValueError, match=r"`training\.sft\.deepspeed`: .* 126 GB .* 15 GB"):
            needs(LLAMA_7B, {"adapter": "full"})

    def test_rows_may_be_as_long_as_max_length(self):
        # Each of two GPUs would hold 57 GB, and 22 GB of activations for the longest rows. Rows of
        # half this length would fit on two.
        long = {"adapter": "full", "max_length": 2000}
        assert needs(LLAMA_7B, ZERO3, long).gpus == 4

    def test_too_many_activations_are_refused_with_the_batch_size_to_lower(self):
        with pytest.raises(ValueError, match=r"`training\.sft\.per_device_batch_size`: .*lower it"):
            needs(LLAMA_7B, {"per_device_batch_size": 32})

    def test_70b_with_lora_takes_four(self):
        # Weights of 140 GB: 70 GB on each of two GPUs leave no room, 35 GB on each of four do.
        needed = needs(LLAMA_70B, ZERO3, CHECKPOINTING)
        assert (needed.gpus, needed.nodes) == (4, 1)
        assert needed.mem_mb == 4 * 5000 + 280_000 + 600

    def test_70b_with_full_weights_takes_four_nodes(self):
        # State of 1120 GB: 70 GB on each of 16 GPUs leave no room, 35 GB on each of 32 do. It
        # would fit on 24, but these cannot share the 32 micro-batches of an update.
        needed = needs(LLAMA_70B, ZERO3, CHECKPOINTING, {"adapter": "full"})
        assert (needed.gpus, needed.nodes, needed.cpus) == (32, 4, 48)

    def test_a_number_of_gpus_that_does_not_divide_the_batch_is_passed_over(self):
        # An update has 3 micro-batches. Of the possible numbers of GPUs only 1 divides 3, and one
        # GPU is too few.
        uneven_batch = settings(ZERO3, CHECKPOINTING, global_batch_size=6)
        with pytest.raises(ValueError, match=r"`training\.sft`: .*global_batch_size 6 "):
            training_gpus(cost(LLAMA_70B, "sft", uneven_batch), SITE)

    def test_more_than_the_site_has_is_refused_in_one_line(self):
        small = replace(SITE, max_nodes=1)
        full = settings(ZERO3, CHECKPOINTING, adapter="full")
        with pytest.raises(ValueError, match=r"does not fit on 8 GPUs of 80 GB") as error:
            training_gpus(cost(LLAMA_70B, "sft", full), small)
        assert "\n" not in str(error.value)
        assert "max_nodes" in str(error.value)

    @pytest.mark.parametrize(
        ("stage", "adapter", "gigabytes"),
        [
            (3, "full", 112 / 4 + 2 * 14 / 32),
            (2, "full", 14 + 98 / 4),
            (1, "full", 28 + 84 / 4),
            (0, "full", 112),
            (2, "lora", 14),  # the base; the adapter's 0.3 GB are spread over four GPUs
        ],
    )
    def test_bytes_on_each_gpu_by_stage_of_zero(self, stage, adapter, gigabytes):
        given = settings(ZERO3, adapter=adapter)
        gpu_gigabytes = TrainingCost(LLAMA_7B, "sft", given, Zero(stage)).gpu_bytes(4) / 1e9
        assert gpu_gigabytes == pytest.approx(gigabytes, abs=0.1)

    def test_the_stage_is_read_from_the_deepspeed_file(self, tmp_path):
        file = tmp_path / "zero2.json"
        file.write_text('{"zero_optimization": {"stage": 2}}')
        with pytest.raises(ValueError, match="take stage 3 of ZeRO"):
            training_gpus(cost(LLAMA_70B, "sft", settings(deepspeed=str(file))), SITE)

    def test_offloaded_full_weights_take_one_gpu_and_the_memory_of_its_host(self):
        # Host: 2 + 4 + 4 + 8 + 2 bytes a weight, and the file and the gathered model to save.
        offload = {**OFFLOAD, "adapter": "full"}
        needed = needs(LLAMA_7B, offload)
        assert (needed.gpus, needed.nodes) == (1, 1)
        assert needed.mem_mb == 5000 + 28_000 + 20 * 7000 + 600
        # Each GPU still holds two of the 32 blocks.
        training = TrainingCost(LLAMA_7B, "sft", settings(offload), Zero(3, True, True))
        assert training.gpu_bytes(1) == 2 * 14e9 / 32

    def test_offloading_more_than_one_host_holds_takes_more_hosts(self):
        # 1400 GB are offloaded; a node has 800.
        offload = {**OFFLOAD, **CHECKPOINTING, "adapter": "full"}
        training = TrainingCost(LLAMA_70B, "sft", settings(offload), Zero(3, True, True))
        assert training.host_bytes == 1.4e12
        needed = needs(LLAMA_70B, offload)
        assert (needed.gpus, needed.nodes) == (16, 2)
        with pytest.raises(ValueError, match=r"8 GPUs of 80 GB with 1400 GB offloaded to their"):
            training_gpus(cost(LLAMA_70B, "sft", settings(offload)), replace(SITE, max_nodes=1))

    def test_with_only_the_optimiser_offloaded_the_weights_stay_on_the_gpu(self):
        full = settings(ZERO2, adapter="full")
        training = TrainingCost(LLAMA_7B, "sft", full, Zero(2, offload_optimizer=True))
        assert training.gpu_bytes(4) == 14e9
        assert training.host_bytes == 18 * 7e9

    def test_70b_in_four_bits_takes_one_gpu(self):
        # 0.516 bytes for all but 0.5 billion of the weights, and 2 for those and one projection:
        # 37 GB; in 16 bits they would be 140.
        needed = needs(LLAMA_70B, NF4, CHECKPOINTING)
        assert (needed.gpus, needed.nodes) == (1, 1)
        assert needed.mem_mb == pytest.approx(5000 + 37_400 + 600, abs=200)
        with pytest.raises(ValueError, match=r"zero3\.json, or set quantization to nf4"):
            needs(LLAMA_70B, CHECKPOINTING)

    def test_smaller_gpus_take_more_of_them(self):
        small = replace(SITE, gpu_memory=24e9)  # 19.6 GB can be filled
        assert training_gpus(cost(LLAMA_70B, "sft", settings(ZERO3, CHECKPOINTING)), small) == 16

    def test_a_retry_gets_more_memory_and_time_up_to_what_there_is(self):
        first, second, tenth = (
            needs(LLAMA_7B, rows=14_000, attempt=attempt) for attempt in (1, 2, 100)
        )
        assert second.mem_mb == 2 * first.mem_mb
        assert second.runtime == 2 * first.runtime
        assert tenth.mem_mb == 800_000
        assert tenth.runtime == 1440
        assert tenth.gpus == first.gpus

    def test_gpus_set_by_the_user_decide_what_follows_from_them(self):
        # On one GPU the training would not fit.
        needed = needs(LLAMA_7B, {"adapter": "full"}, overrides={"gpu": 4, "nodes": 2})
        assert (needed.gpus, needed.nodes, needed.cpus) == (4, 2, 12)

    def test_the_time_is_shared_by_the_gpus(self):
        one = needs(LLAMA_7B, rows=140_000)
        four = needs(LLAMA_7B, rows=140_000, overrides={"gpu": 4})
        assert (one.runtime, four.runtime) == (494, 127)  # 3 x (9800 or 2450 + 74) seconds


ENGINE = {"dtype": "bfloat16", "max_model_len": 2000}


class TestGeneration:
    @pytest.mark.parametrize(
        ("shape", "dtype", "size"),
        [
            (TINY, "float32", 1),
            (LLAMA_7B, "bfloat16", 1),
            (LLAMA_7B, "float32", 1),  # 28 of 48 GB
            (LLAMA_70B, "bfloat16", 4),  # 140 GB are more than 2 x 48
            (LLAMA_70B, "float32", 8),
        ],
    )
    def test_weights_take_at_most_their_share_of_the_memory(self, shape, dtype, size):
        assert engine_sizes(shape, {**ENGINE, "dtype": dtype}, SITE, DEVICE) == (size, 1)

    def test_the_cache_has_room_for_eight_sequences(self):
        # 7B: 524,288 bytes a token; 8 x 16,000 tokens are 67 GB beside the 14 GB of weights.
        engine = {**ENGINE, "max_model_len": 16_000}
        assert engine_sizes(LLAMA_7B, engine, SITE, DEVICE) == (2, 1)

    def test_an_engine_that_no_node_holds_is_refused(self):
        wide = {**ENGINE, "dtype": "float32"}
        with pytest.raises(ValueError, match=r"`engine\.dtype`: 70 billion .* 2 nodes") as error:
            engine_sizes(LLAMA_70B, wide, replace(SITE, gpus_per_node=4), DEVICE)
        assert "gpu.engine_nodes" in str(error.value)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(
        ("per_node", "engine_nodes", "sizes"),
        [(8, 4, (8, 1)), (4, 2, (4, 2)), (6, 2, (4, 2)), (2, 4, (2, 4)), (1, 8, None)],
    )
    def test_an_engine_is_spread_over_nodes_where_the_site_lets_it(
        self, per_node, engine_nodes, sizes
    ):
        # 280 GB of weights take eight GPUs. The site gives a job four nodes.
        site = replace(SITE, gpus_per_node=per_node, engine_nodes=engine_nodes)
        wide = {**ENGINE, "dtype": "float32"}
        if sizes:
            assert engine_sizes(LLAMA_70B, wide, site, DEVICE) == sizes
        else:
            with pytest.raises(ValueError, match=r"8 nodes \(gpu\.engine_nodes and gpu\.max_nodes"):
                engine_sizes(LLAMA_70B, wide, site, DEVICE)

    def test_an_engine_has_no_more_nodes_than_the_model_has_layers(self):
        site = replace(SITE, gpus_per_node=4, engine_nodes=4)
        shallow = replace(LLAMA_70B, layers=1)
        with pytest.raises(ValueError, match="let engines have 2 nodes"):
            engine_sizes(shallow, {**ENGINE, "dtype": "float32"}, site, DEVICE)

    def test_engines_over_two_nodes_get_whole_pairs_of_nodes(self):
        site = replace(SITE, gpus_per_node=4, engine_nodes=2, max_nodes=5)
        wide = {**ENGINE, "dtype": "float32"}

        def needs_of_round(requests):
            return generation_needs(LLAMA_70B, wide, [(10_000, 1, 1000)] * requests, site, DEVICE)

        short, long = needs_of_round(1), needs_of_round(100)
        assert (short.gpus, short.nodes, short.cpus) == (8, 2, 24)
        assert (short.tensor_parallel_size, short.pipeline_parallel_size) == (4, 2)
        # Half of 5 GB for each of four processes and their parent, and half of the weights.
        assert short.mem_mb == 12_500 + 140_000 + 600
        assert (long.gpus, long.nodes) == (16, 4)

    def test_the_nodes_of_an_engine_may_be_set(self):
        sizes = {"tensor_parallel_size": 2, "pipeline_parallel_size": 4}
        needed = generation_needs(LLAMA_70B, ENGINE, [], SITE, DEVICE, overrides=sizes)
        assert (needed.gpus, needed.nodes, needed.cpus) == (8, 4, 12)

    def test_a_short_round_has_one_engine(self):
        needed = generation_needs(LLAMA_70B, ENGINE, [(100, 1, 1000)], SITE, DEVICE)
        assert (needed.gpus, needed.nodes, needed.tensor_parallel_size) == (4, 1, 4)
        # Host: half of 5 GB for each of four processes and their parent, and the weights once.
        assert needed.mem_mb == 12_500 + 140_000 + 600

    def test_a_long_round_gets_engines_on_one_node_and_then_on_whole_nodes(self):
        # A step for 100 answers reads 14 GB and 100 x 1000 x 524,288 bytes, 66 ms at 1e12 a second:
        # a request for 10,000 answers of 250 tokens takes 1660 s, and 1400 s for 1.4e17 FLOPs of
        # prompts.
        def needs_of_round(requests):
            return generation_needs(LLAMA_7B, ENGINE, [(10_000, 1, 1000)] * requests, SITE, DEVICE)

        assert needs_of_round(2).gpus == 1  # 6120 s are less than two hours
        assert needs_of_round(3).gpus == 2
        assert (needs_of_round(18).gpus, needs_of_round(18).nodes) == (8, 1)
        assert (needs_of_round(24).gpus, needs_of_round(24).nodes) == (16, 2)
        assert (needs_of_round(1000).gpus, needs_of_round(1000).nodes) == (32, 4)
        assert needs_of_round(1000).runtime == 1440

    def test_each_load_takes_its_time(self):
        one, fifty = (
            generation_needs(LLAMA_7B, ENGINE, [(1, 1, 1000)], SITE, DEVICE, loads=loads).runtime
            for loads in (1, 50)
        )
        assert (one, fifty) == (30, 186)  # 3 x 50 x (60 + 14) seconds

    def test_sizes_set_by_the_user_are_taken(self):
        needed = generation_needs(
            LLAMA_7B,
            ENGINE,
            [(None, 1, 1000)],
            SITE,
            DEVICE,
            overrides={"gpu": 4, "nodes": 2, "tensor_parallel_size": 2},
        )
        assert (needed.gpus, needed.nodes) == (4, 2)
        assert (needed.tensor_parallel_size, needed.cpus) == (2, 12)


class TestShapes:
    def test_weights_are_counted_in_the_headers_of_the_models_files(self, tmp_path):
        shards = {"a": [[3, 4], [5]], "b": [[2, 2, 2], []]}
        for name, shapes in {**shards, "consolidated": [[3, 4], [5], [2, 2, 2], []]}.items():
            header = {
                f"{name}{index}": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}
                for index, shape in enumerate(shapes)
            }
            text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
            (tmp_path / f"{name}.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
        index = {"weight_map": {f"{name}0": f"{name}.safetensors" for name in shards}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
        assert tensor_shapes(tmp_path) == {"a0": [3, 4], "a1": [5], "b0": [2, 2, 2], "b1": []}
        assert model_shape({}, tmp_path) == rough_shape(12 + 5 + 8 + 1)

    def test_a_model_that_is_not_there_has_no_size(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            model_shape({"hub": "owner/name"}, tmp_path / "nothing")

    def test_parameters_of_the_configuration_are_believed(self, tmp_path):
        assert model_shape({"parameters": 10**9}, tmp_path / "nothing") == rough_shape(10**9)

    def test_a_model_that_is_not_there_may_be_a_known_one(self, tmp_path):
        known = {"Small": {"layers": 2, "hidden": 8, "key_value": 4, "intermediate": 16}}
        entry = {"parameters": 1000, "paper": "Small"}
        assert model_shape(entry, tmp_path / "nothing", known) == Shape(1000, 2, 8, 4, 16)

    def test_config_json_gives_the_widths(self):
        config = {
            "hidden_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "intermediate_size": 128,
            "vocab_size": 99,
        }
        assert config_shape(config, 1000) == Shape(1000, 3, 64, 16, 128, 99)
        assert config_shape({**config, "head_dim": 16}, 1000).key_value == 32

    def test_sizes_of_the_text_stand_in_a_config_of_their_own(self):
        """Gemma 3 as on the Hub: the vision part has other widths, and heads are left out."""
        config = {
            "text_config": {
                "hidden_size": 2560,
                "intermediate_size": 10240,
                "num_hidden_layers": 34,
            },
            "vision_config": {"hidden_size": 1152, "num_attention_heads": 16, "vocab_size": 7},
        }
        tensors = {
            "vision_tower.encoder.layers.0.self_attn.k_proj.weight": [1152, 1152],
            "language_model.model.layers.0.self_attn.k_proj.weight": [1024, 2560],
            "language_model.model.embed_tokens.weight": [262_208, 2560],
        }
        expected = Shape(10**9, 34, 2560, 1024, 10240, 262_208)
        assert config_shape(config, 10**9, tensors) == expected
        # Without weights a cache is taken for the largest that it may be.
        assert config_shape(config, 10**9).key_value == 2560

    def test_the_rough_shape_is_right_for_llama_2(self):
        rough = rough_shape(6_738_415_616)
        assert (rough.layers, rough.hidden) == (32, 4096)
        assert rough_shape(10).layers == 1

    @pytest.mark.parametrize(("gpus", "nodes"), [(1, 1), (8, 1), (9, 2), (32, 4)])
    def test_nodes(self, gpus, nodes):
        assert nodes_of(gpus, SITE) == nodes
