"""Generation with the real vLLM on tiny random models: what changes a text, and what must not.

An import of vLLM costs many seconds, so three rounds serve all the tests.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

from weak_to_strong.generation.rounds import generate_round
from weak_to_strong.method.prompts import few_shot_prompt, zero_shot_prompt
from weak_to_strong.tables.files import hash_file, write_json
from weak_to_strong.tables.frames import write_table
from weak_to_strong.tables.schemas import DEMONSTRATIONS, QUESTIONS

pytestmark = pytest.mark.slow

CHARACTERS = "\n 0123456789+-=:.?abcdefghijklmnopqrstuvwxyzAQ"
ENGINE = {"max_model_len": 192, "kv_cache_gib": 0.1, "max_num_seqs": 64, "shard_size": 8}
MAX_TOKENS = 24
#: Longer than the 128 tokens, here characters, that are the unit of vLLM's prefix cache on a CPU.
SHOTS = [
    {
        "id": "s",
        "prompt": zero_shot_prompt("1+1?"),
        "response": "1+1 is what comes after 1 and that is 2. " * 2
        + "so it is not 3 and not 0 either.",
    }
]


def write_manifest(folder: Path, **facts: object) -> str:
    files = {path.name: hash_file(path) for path in sorted(folder.iterdir())}
    write_json(
        {"name": folder.name, "path": str(folder), "files": files, **facts},
        path := folder.with_suffix(".json"),
    )
    return str(path)


def make_models(root: Path) -> dict[str, str]:
    """Manifests of a base model, a full model of its shape, and two adapters of the base."""
    import torch
    from peft import LoraConfig, get_peft_model
    from tokenizers import Tokenizer, decoders, models, processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.set_num_threads(1)
    vocabulary = {token: index for index, token in enumerate(["<s>", "</s>", *CHARACTERS])}
    raw = Tokenizer(models.BPE(vocabulary, []))
    raw.decoder = decoders.Fuse()
    raw.add_special_tokens(["<s>", "</s>"])
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        # Far from ties, so that a difference in the last bit changes no greedy choice.
        initializer_range=0.3,
    )
    paths = {}
    for seed, name in enumerate(["base", "full"]):
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
        paths[name] = write_manifest(root / name, kind="full", base="base")
    for rank, name in [(4, "one"), (12, "two")]:
        torch.manual_seed(rank)
        model = LlamaForCausalLM.from_pretrained(root / "base")
        lora = LoraConfig(
            r=rank,
            lora_alpha=16,
            init_lora_weights=False,
            target_modules=[f"{part}_proj" for part in ("q", "k", "v", "o", "gate", "up", "down")],
        )
        get_peft_model(model, lora).save_pretrained(root / name)
        paths[name] = write_manifest(root / name, kind="lora", base="base")
    return paths


class Rounds(NamedTuple):
    """Models and questions, one round, and the same requests served in two other ways."""

    models: dict[str, str]
    questions: list[str]
    first: pl.DataFrame
    cost: dict
    otherwise: pl.DataFrame
    resumed: pl.DataFrame
    resumed_cost: dict

    def texts(self, request: str) -> list[str]:
        return self.first.filter(pl.col("request") == request)["response"].to_list()


def serve(requests: list[dict], engine: dict, store: Path) -> tuple[pl.DataFrame, dict, dict]:
    batches, *facts = generate_round(requests, engine, store)
    return pl.concat(batches), *facts


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of temporary files of this process and of its engines, which need no compiler."""
    folder = tmp_path_factory.mktemp("tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXX", str(folder / "no-compiler"))
        patch.setenv("TMPDIR", str(folder))
        patch.setattr("tempfile.tempdir", str(folder))
        yield folder


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory, temporary: Path) -> Rounds:
    root = tmp_path_factory.mktemp("generation")
    models = make_models(root)
    # Weights that are not the base's: an engine that saw them would take them.
    shutil.copyfile(root / "full/model.safetensors", root / "base/model_backup.safetensors")
    questions = [f"{a}+{a * b}-{b}?" for a in range(1, 7) for b in range(2, 6)]
    rows = {"id": [f"q{index}" for index in range(len(questions))], "question": questions}
    table = pl.DataFrame(rows).with_columns(
        pl.lit("").alias(name) for name in QUESTIONS if name not in rows
    )
    write_table(table, QUESTIONS, root / "questions.parquet")
    write_table(pl.DataFrame(SHOTS), DEMONSTRATIONS, root / "shots.parquet")

    def request(name: str, model: str | None, **changes: object) -> dict:
        return {
            "name": name,
            "model": models[model] if model else None,
            "base": models["base"],
            "problems": str(root / "questions.parquet"),
            "demonstrations": None,
            "n": 1,
            "temperature": 0.0,
            "top_p": 1.0,
            "max_tokens": MAX_TOKENS,
            "seed": 0,
            "stop": ["Q", "A"],
            "prompt": "question_answer",
        } | changes

    sampled = {"n": 4, "temperature": 1.0}
    requests = [
        request("base", None),
        request("shots", None, demonstrations=str(root / "shots.parquet")),
        request("sampled", None, **sampled),
        request("one", "one"),
        request("two", "two"),
        request("one sampled", "one", **sampled),
        request("full", "full"),
    ]
    store = root / "store"
    first, stats, cost = serve(requests, ENGINE, store)

    changes = {"shard_size": 5, "max_num_seqs": 7}
    otherwise, _, _ = serve(requests[::-1], ENGINE | changes, root / "other")

    # Only the base remains to be served: this engine has no adapters at all.
    for name in ("base", "sampled"):
        (store / stats[name]["key"] / "shard-000008.parquet").unlink()
    added = request("new seed", None, **sampled, seed=1)
    resumed, _, resumed_cost = serve([*requests, added], ENGINE, store)
    return Rounds(models, questions, first, cost, otherwise, resumed, resumed_cost)


def test_one_load_per_base_serves_it_and_all_its_adapters(rounds: Rounds) -> None:
    assert rounds.cost["engine_loads"] == 2
    different = {tuple(rounds.texts(name)) for name in ("base", "shots", "one", "two", "full")}
    assert len(different) == 5


def test_engines_leave_no_temporary_files(rounds: Rounds, temporary: Path) -> None:
    assert rounds.cost["engine_loads"]
    names = [path.name for path in temporary.rglob("*")]
    assert [name for name in names if name.startswith(("vllm_dist_", "w2s-"))] == []


def test_the_prefix_of_few_shot_prompts_is_computed_once(rounds: Rounds) -> None:
    assert rounds.cost["cached_prompt_tokens"] >= 128
    assert rounds.cost["cached_prompt_tokens"] < rounds.cost["prompt_tokens"]


def test_texts_do_not_depend_on_shards_batches_or_order(rounds: Rounds) -> None:
    key = ["request", "id", "sample"]
    assert rounds.otherwise.sort(key).equals(rounds.first.sort(key))


def test_resumed_round_generates_what_is_missing_and_gives_the_same(rounds: Rounds) -> None:
    assert rounds.resumed_cost["samples"] == 8 + 8 * 4 + 24 * 4
    assert rounds.resumed_cost["requests_generated"] == 3
    new = pl.col("request") == "new seed"
    assert rounds.resumed.filter(~new).equals(rounds.first)
    assert rounds.resumed.filter(new)["response"].to_list() != rounds.texts("sampled")


def test_samples_of_a_question_differ(rounds: Rounds) -> None:
    texts = rounds.texts("sampled")
    same = [row for row in range(0, len(texts), 4) if len(set(texts[row : row + 4])) == 1]
    assert len(same) < 4  # chance lets some end at once each time


def test_response_ends_before_its_stop_string(rounds: Rounds) -> None:
    assert not rounds.first["response"].str.contains("[QA]").any()
    stopped = rounds.first.filter(pl.col("finish_reason") == "stop")
    assert 0 < len(stopped) < len(rounds.first)
    cut = rounds.first.filter(pl.col("finish_reason") == "length")
    assert set(cut["response_tokens"]) == {MAX_TOKENS}


@pytest.mark.parametrize("name", ["base", "shots", "one", "two", "full"])
def test_greedy_text_is_that_of_transformers_and_peft(rounds: Rounds, name: str) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def folder(model: str) -> str:
        return rounds.models[model].removesuffix(".json")

    weights = folder("full" if name == "full" else "base")
    tokenizer = AutoTokenizer.from_pretrained(weights)
    model = AutoModelForCausalLM.from_pretrained(weights)
    if name in ("one", "two"):
        model = PeftModel.from_pretrained(model, folder(name))
    for question, text in zip(rounds.questions, rounds.texts(name), strict=True):
        prompt = zero_shot_prompt(question)
        if name == "shots":
            prompt = few_shot_prompt(prompt, SHOTS)
        tokens = tokenizer(prompt, return_tensors="pt")
        with torch.no_grad():
            output = model.generate(**tokens, max_new_tokens=MAX_TOKENS, do_sample=False)
        response = tokenizer.decode(
            output[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True
        )
        assert text == response.split("Q")[0].split("A")[0]
