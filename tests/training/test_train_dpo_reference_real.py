"""DPO's reference, M_plus or the base model: margin and loss of the first update, by hand.

A tiny random model is made M_plus by supervised training, as an adapter and as full weights. Before
the first update the policy is M_plus, so its margin over either reference follows from the
log-probabilities of two models.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import polars as pl
import pytest

from weak_to_strong.models.manifests import hash_files
from weak_to_strong.tables.files import read_json, write_json
from weak_to_strong.tables.frames import read_table, write_table
from weak_to_strong.tables.schemas import PAIRS, SFT_ROWS
from weak_to_strong.training.launching import run
from weak_to_strong.training.rows import encode_rows
from weak_to_strong.training.settings import complete_settings
from weak_to_strong.training.train import train
from weak_to_strong.training.training_run import TrainingJob, resolve

pytestmark = pytest.mark.slow

WORDS = ["<s>", "</s>", "<pad>", "Question:", "Answer:", "one", "two", "three", "is", "####"]
BETA = 0.1
SETTINGS = {
    "learning_rate": 3e-2,
    "epochs": 2,
    "global_batch_size": 9,
    "per_device_batch_size": 9,
    "scheduler": "constant",
    "max_length": 16,
    "dtype": "float32",
    "seed": 1,
}
LORA = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["q_proj", "v_proj", "down_proj"]}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a base model, its manifest, and rows of both kinds."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    folder = tmp_path_factory.mktemp("world")
    vocabulary = {word: place for place, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    ).save_pretrained(folder / "base")
    set_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    marks = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    config = LlamaConfig(vocab_size=len(WORDS), initializer_range=0.3, **sizes, **heads, **marks)
    LlamaForCausalLM(config).save_pretrained(folder / "base")
    files = hash_files(folder / "base")
    manifest = {"name": "tiny", "path": str(folder / "base"), "files": files, "source": "test"}
    write_json(manifest, folder / "base.json")
    numbers = WORDS[5:8]
    rows = pl.DataFrame(
        {
            "id": f"{left}-{right}",
            "prompt": f"Question: {left} {right}\nAnswer:",
            "completion": f" {left} is {left} #### {right}",
        }
        for left in numbers
        for right in numbers
    )
    write_table(rows, SFT_ROWS, folder / "sft.parquet")
    pairs = rows.select(
        *("id", "prompt"),
        chosen="completion",
        rejected=pl.lit(" two ####"),
        weak_side=pl.lit("chosen"),
        confidence=pl.lit(0.7),
    )
    write_table(pairs, PAIRS, folder / "pairs.parquet")
    return folder


@pytest.fixture(scope="module")
def make_job(world):
    def make(name: str, trainer: str, init: TrainingJob | None = None, **settings) -> TrainingJob:
        folder = world / name
        return TrainingJob(
            trainer=trainer,
            settings={**SETTINGS, **settings},
            rows=str(world / ("sft.parquet" if trainer == "sft" else "pairs.parquet")),
            base=str(world / "base.json"),
            init=init and init.manifest,
            work=str(folder / "work"),
            model=str(folder / "model"),
            manifest=str(folder / "manifest.json"),
            history=str(folder / "history.json"),
        )

    return make


@pytest.fixture(scope="module", params=["lora", "full"])
def m_plus(request, make_job):
    job = make_job(
        f"sft-{request.param}",
        "sft",
        adapter=request.param,
        lora=LORA if request.param == "lora" else None,
    )
    train(resolve(job))
    return job


def log_ratios(model, world: Path) -> list[float]:
    """Of each pair: log-probability of the chosen answer less that of the rejected one."""
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(world / "base")
    table = read_table(world / "pairs.parquet", PAIRS)
    found = []
    for row in encode_rows(table, tokenizer, 16, ("chosen", "rejected")):
        sums = []
        for completion in row.completions:
            ids = torch.tensor([row.prompt + completion])
            with torch.no_grad():
                scores = model(ids).logits.log_softmax(-1)[0, len(row.prompt) - 1 : -1]
            sums.append(scores.gather(1, torch.tensor([completion]).T).sum().item())
        found.append(sums[0] - sums[1])
    return found


def margins_over_the_base(job: TrainingJob, world: Path) -> list[float]:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(world / "base").eval()
    reference = log_ratios(base, world)
    if job.settings["adapter"] == "lora":
        policy = PeftModel.from_pretrained(base, job.model).eval()
    else:
        policy = AutoModelForCausalLM.from_pretrained(job.model).eval()
    pairs = zip(log_ratios(policy, world), reference, strict=True)
    return [BETA * (ours - theirs) for ours, theirs in pairs]


def mean(values) -> float:
    values = list(values)
    return math.fsum(values) / len(values)


@pytest.mark.parametrize("precompute", [False, True])
def test_first_margin_and_loss(make_job, m_plus, world, precompute):
    adapter = m_plus.settings["adapter"]
    first, jobs = {}, {}
    for reference in ("m_plus", "base"):
        name = f"dpo-{adapter}-{reference}-{precompute}"
        keys = {"adapter": adapter, "beta": BETA, "precompute_ref": precompute}
        job = jobs[reference] = make_job(name, "dpo", m_plus, reference=reference, **keys)
        train(resolve(job))
        first[reference] = read_json(job.history)[0]
        assert read_json(job.manifest)["training"]["reference"] == reference

    assert first["m_plus"]["rewards/margins"] == pytest.approx(0, abs=1e-6)
    assert first["m_plus"]["loss"] == pytest.approx(math.log(2), abs=1e-6)

    expected = margins_over_the_base(m_plus, world)
    assert abs(mean(expected)) > 0.01, "M_plus must differ from its base"
    loss = mean(math.log1p(math.exp(-margin)) for margin in expected)
    assert first["base"]["rewards/margins"] == pytest.approx(mean(expected), abs=1e-5)
    assert first["base"]["loss"] == pytest.approx(loss, abs=1e-5)

    # Both continue M_plus, and a published adapter holds nothing of its reference.
    files = [read_json(job.manifest)["files"] for job in (m_plus, *jobs.values())]
    assert files[0].keys() == files[1].keys() == files[2].keys()
    assert files[1] != files[2]


@pytest.mark.skipif(
    os.environ.get("W2S_TEST_DISTRIBUTED") != "1", reason="set W2S_TEST_DISTRIBUTED=1"
)
def test_two_processes_have_the_same_reference(make_job, m_plus):
    """ZeRO-3 shares out the weights of policy and reference."""
    adapter = m_plus.settings["adapter"]
    keys = {"adapter": adapter, "beta": BETA, "reference": "base", "precompute_ref": False}
    keys |= {"global_batch_size": 8, "per_device_batch_size": 4}
    alone = make_job(f"alone-{adapter}", "dpo", m_plus, **keys)
    train(resolve(alone))
    file = str(Path(__file__).parents[2] / "config/deepspeed/zero3.json")
    spread = make_job(f"zero3-{adapter}", "dpo", m_plus, processes=2, deepspeed=file, **keys)
    run(spread)
    one, two = (read_json(job.history)[0] for job in (alone, spread))
    assert two["rewards/margins"] == pytest.approx(one["rewards/margins"], abs=1e-5)
    assert two["loss"] == pytest.approx(one["loss"], abs=1e-5)


def test_settings():
    common = {**SETTINGS, "adapter": "full", "beta": BETA}
    assert complete_settings("dpo", common).reference == "m_plus"
    assert complete_settings("dpo", {**common, "reference": "base"}).reference == "base"
    assert complete_settings("orpo", {**common, "reference": "base"}).reference is None
    with pytest.raises(ValueError, match="reference: 'weak' must be m_plus or base"):
        complete_settings("dpo", {**common, "reference": "weak"})
