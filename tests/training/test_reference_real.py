"""The reference of DPO and KTO, M_plus or the base model: loss of the first update, by hand.

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
from training_runs import write_base

from weak_to_strong.tables.files import read_json
from weak_to_strong.tables.frames import read_table, write_table
from weak_to_strong.tables.schemas import PAIRS, SFT_ROWS
from weak_to_strong.training.launching import run_training
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
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    folder = tmp_path_factory.mktemp("world")
    write_base(folder, WORDS)
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


def log_probabilities(model, world: Path, per_token: bool) -> list[tuple[float, float]]:
    """Of each pair the log-probabilities of the chosen and the rejected answer.

    `per_token` divides each by the number of the answer's tokens.
    """
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(world / "base")
    table = read_table(world / "pairs.parquet", PAIRS)
    pairs = []
    for row in encode_rows(table, tokenizer, 16, ("chosen", "rejected")):
        sums = []
        for completion in row.completions:
            ids = torch.tensor([row.prompt + completion])
            with torch.no_grad():
                scores = model(ids).logits.log_softmax(-1)[0, len(row.prompt) - 1 : -1]
            total = scores.gather(1, torch.tensor([completion]).T).sum().item()
            sums.append(total / len(completion) if per_token else total)
        pairs.append(tuple(sums))
    return pairs


def differences_to_the_base(
    job: TrainingJob, world: Path, per_token: bool = False, sides: bool = False
) -> list:
    """Of each pair: its chosen less its rejected answer, or with `sides` both, in what a trained
    model's log-probabilities are above those of the base model."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(world / "base").eval()
    reference = log_probabilities(base, world, per_token)
    if job.settings["adapter"] == "lora":
        policy = PeftModel.from_pretrained(base, job.model).eval()
    else:
        policy = AutoModelForCausalLM.from_pretrained(job.model).eval()
    trained = log_probabilities(policy, world, per_token)
    gains = [
        tuple(ours - theirs for ours, theirs in zip(*pair, strict=True))
        for pair in zip(trained, reference, strict=True)
    ]
    return gains if sides else [chosen - rejected for chosen, rejected in gains]


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

    expected = [BETA * difference for difference in differences_to_the_base(m_plus, world)]
    assert abs(mean(expected)) > 0.01, "M_plus must differ from its base"
    loss = mean(math.log1p(math.exp(-margin)) for margin in expected)
    assert first["base"]["rewards/margins"] == pytest.approx(mean(expected), abs=1e-5)
    assert first["base"]["loss"] == pytest.approx(loss, abs=1e-5)

    # Both continue M_plus, and a published adapter holds nothing of its reference.
    files = [read_json(job.manifest)["files"] for job in (m_plus, *jobs.values())]
    assert files[0].keys() == files[1].keys() == files[2].keys()
    assert files[1] != files[2]


def minus_log_sigmoid(value: float) -> float:
    return math.log1p(math.exp(-value))


#: Loss -> whether it has means over tokens, and its value for a pair by its difference.
LOSSES = {
    "ipo": (True, lambda m: (m - 1 / (2 * BETA)) ** 2),
    "robust": (
        False,
        lambda d: (0.8 * minus_log_sigmoid(BETA * d) - 0.2 * minus_log_sigmoid(-BETA * d)) / 0.6,
    ),
    "sigmoid_norm": (True, lambda m: minus_log_sigmoid(BETA * m)),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_first_loss_of_each_kind(make_job, m_plus, world, loss):
    per_token, formula = LOSSES[loss]
    share = 0.2 if loss == "robust" else None
    adapter = m_plus.settings["adapter"]
    keys = {"adapter": adapter, "beta": BETA, "precompute_ref": False, "reference": "base"}
    job = make_job(f"{loss}-{adapter}", "dpo", m_plus, loss=loss, label_smoothing=share, **keys)
    train(resolve(job))
    expected = mean(map(formula, differences_to_the_base(m_plus, world, per_token)))
    assert read_json(job.history)[0]["loss"] == pytest.approx(expected, rel=1e-4)
    assert read_json(job.manifest)["training"]["loss"] == loss


def test_first_loss_of_kto(make_job, m_plus, world):
    """By hand, but for the distance of the models, which depends on the order of the pairs."""
    adapter = m_plus.settings["adapter"]
    first = {}
    for reference in ("m_plus", "base"):
        keys = {"adapter": adapter, "beta": BETA, "reference": reference}
        job = make_job(f"kto-{adapter}-{reference}", "kto", m_plus, **keys)
        train(resolve(job))
        first[reference] = read_json(job.history)[0]
    assert first["m_plus"]["loss"] == pytest.approx(0.5, abs=1e-6)
    assert first["m_plus"]["kl"] == pytest.approx(0, abs=1e-6)

    sides = differences_to_the_base(m_plus, world, sides=True)
    distance = first["base"]["kl"]
    assert distance >= 0
    gains = [
        BETA * sign * (side - distance)
        for pair in sides
        for sign, side in zip((1, -1), pair, strict=True)
    ]
    expected = mean(1 - 1 / (1 + math.exp(-gain)) for gain in gains)
    assert first["base"]["loss"] == pytest.approx(expected, abs=1e-5)


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
    run_training(spread)
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


def test_loss_and_its_share_of_exchanged_pairs():
    common = {**SETTINGS, "adapter": "full", "beta": BETA}
    assert complete_settings("dpo", common).loss == "sigmoid"
    robust = complete_settings("dpo", {**common, "loss": "robust", "label_smoothing": 0.2})
    assert (robust.loss, robust.label_smoothing) == ("robust", 0.2)
    other = complete_settings("orpo", {**common, "loss": "robust", "label_smoothing": 0.2})
    assert (other.loss, other.label_smoothing) == (None, None)
    with pytest.raises(ValueError, match="loss: 'hinge' must be sigmoid or ipo or robust"):
        complete_settings("dpo", {**common, "loss": "hinge"})
    for share in (None, 0, 0.5):
        with pytest.raises(ValueError, match=r"label_smoothing: .* above 0 and below 0\.5"):
            complete_settings("dpo", {**common, "loss": "robust", "label_smoothing": share})
    with pytest.raises(ValueError, match="has no use for label_smoothing"):
        complete_settings("dpo", {**common, "label_smoothing": 0.2})
