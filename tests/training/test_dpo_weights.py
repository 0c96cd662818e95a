"""The loss of weighted pairs in TRL's own code, on log-probabilities in place of a model."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

pytestmark = pytest.mark.slow

PAIRS = 3


def loss_of(rows: list[int], loss: str, weights: list[float] | None = None) -> float:
    """The loss of a micro-batch of some of the pairs."""
    import torch
    from trl import DPOTrainer

    from weak_to_strong.training.dpo import WeightedDPOTrainer

    # Each side of a pair has two tokens of prompt and two of completion; the last pair has one.
    mask = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 0]]).repeat(2, 1)
    log_probs = -((torch.arange(6.0 * 3) / 6) ** 2).reshape(6, 3) * mask[:, 1:]
    sides = [*rows, *(PAIRS + row for row in rows)]
    inputs = {
        "input_ids": torch.ones_like(mask)[sides],
        "attention_mask": torch.ones_like(mask)[sides],
        "completion_mask": mask[sides],
        "ref_chosen_logps": torch.zeros(len(rows)),
        "ref_rejected_logps": torch.zeros(len(rows)),
    }
    empty = torch.zeros(len(sides), 3)
    outputs = SimpleNamespace(
        log_probs=log_probs[sides], entropy=empty, mean_logits=empty, is_top1=empty.bool()
    )
    kind = DPOTrainer
    if weights is not None:
        kind, inputs["weight"] = WeightedDPOTrainer, torch.tensor(weights)
    trainer: Any = mock.MagicMock(
        spec=kind, use_weighting=weights is not None, precompute_ref_logps=True,
        model=mock.MagicMock(training=True), aux_loss_enabled=False, ld_alpha=None,
        f_divergence_type="reverse_kl", loss_types=[loss], loss_weights=[1.0], beta=0.1,
        _metrics={"train": defaultdict(list)}, _total_train_tokens=0, _tp_size=1,
    )  # fmt: skip
    trainer.accelerator = mock.MagicMock(device="cpu")
    trainer.accelerator.gather = trainer.accelerator.gather_for_metrics = lambda tensor: tensor
    return float(kind._compute_loss(trainer, lambda **_: outputs, inputs, False))


@pytest.mark.parametrize("loss", ["sigmoid", "ipo"])
def test_the_loss_is_the_mean_of_weight_times_loss(loss):
    weights = [0.0, 0.5, 2.5]
    alone = [loss_of([row], loss) for row in range(PAIRS)]
    assert len(set(alone)) > 1
    expected = sum(weight * one for weight, one in zip(weights, alone, strict=True)) / PAIRS
    assert loss_of([0, 1, 2], loss, weights) == pytest.approx(expected, rel=1e-4)
    assert loss_of([0, 1, 2], loss, [1.0] * PAIRS) == pytest.approx(loss_of([0, 1, 2], loss))
