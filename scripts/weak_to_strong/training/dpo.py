"""Direct preference optimisation with TRL's DPOTrainer. Importing this module loads TRL.

Let d be the difference, chosen less rejected, of the two answers' log-ratios of trained model and
reference, and m the same difference of their means over tokens. The losses of a pair are:

- sigmoid: -log s(beta d), with s the logistic function (Rafailov et al., arXiv 2305.18290);
- ipo: (m - 1 / (2 beta))^2 (Azar et al., arXiv 2310.12036; the mean over tokens is TRL's);
- robust: (-(1 - e) log s(beta d) + e log s(-beta d)) / (1 - 2 e), with e the share of pairs that
  are taken to be exchanged (Chowdhury et al., arXiv 2403.00409);
- sigmoid_norm: -log s(beta m), in the manner of SimPO's normalised length (Meng et al., arXiv
  2405.14734; Lambert et al., arXiv 2411.15124).

Pairs may have weights of mean 1. The loss of an update is then the mean of weight times loss over
its pairs. With the confidence of a weak model as weight this is confidence-weighted preference
optimisation (Afzali et al., arXiv 2603.04968, after its abstract), but for the mean of 1.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from weak_to_strong.training.loading import ADAPTER_OFF
from weak_to_strong.training.reference import build_with_reference, drop_reference
from weak_to_strong.training.rows import Encoded, dpo_columns
from weak_to_strong.training.settings import TrainingSettings


def make_arguments(common: Mapping[str, Any], settings: TrainingSettings) -> DPOConfig:
    """TRL's configuration with the loss, and when the reference's probabilities are computed."""
    return DPOConfig(
        **common,
        beta=settings.beta,
        loss_type=[settings.loss],
        label_smoothing=settings.label_smoothing or 0.0,
        precompute_ref_log_probs=settings.precompute_ref,
    )


def make_trainer(
    common: Mapping[str, Any],
    rows: Sequence[Encoded],
    sort_rows: Callable[[type], type],
    likelihood: str | None,
    reference: Any,
) -> DPOTrainer:
    """The trainer. Its loss is a mean over the pairs of an update, so rows may be sorted.

    Args: see `trainers.trainer_module`.
    """

    columns = dpo_columns(rows)
    trainer = WeightedDPOTrainer if "weight" in columns else DPOTrainer

    class TokenisedDPOTrainer(sort_rows(trainer)):
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def _precompute_ref_logps(self, *arguments: Any) -> Any:
            if reference == ADAPTER_OFF:
                drop_reference(self.model)
            return super()._precompute_ref_logps(*arguments)

    arguments = common["args"]
    dataset = Dataset.from_dict(columns)
    if arguments.precompute_ref_log_probs and arguments.world_size > 1:
        dataset = share_dataset(dataset, arguments)
    return build_with_reference(TokenisedDPOTrainer, common, dataset, reference)


class WeightedDPOTrainer(DPOTrainer):
    """TRL's trainer with a weight for each pair.

    TRL can multiply the losses of pairs by weights of its own (WPO; Zhou et al., arXiv 2406.11827).
    It computes these from two outputs of the model. One of them is set here so that the pairs' own
    weights come out, to a relative error of about 1e-5.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.use_weighting = True
        self._set_signature_columns_if_needed()
        self._signature_columns = [*self._signature_columns, "weight"]
        collate = self.data_collator

        def collate_weights(rows: list[dict[str, Any]]) -> dict[str, Any]:
            return {**collate(rows), "weight": torch.tensor([row["weight"] for row in rows])}

        self.data_collator = collate_weights

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        weights = inputs.pop("weight")

        def weighted(**given: Any) -> Any:
            outputs = model(**given)
            # TRL's weight of an answer is exp(mean(log_probs - log_sum_sq_probs)) over its tokens,
            # that of a pair the product of both. A weight of 0 has no logarithm.
            halves = torch.cat([weights.clamp_min(1e-30).log(), torch.zeros_like(weights)])
            outputs.log_sum_sq_probs = outputs.log_probs.detach() - halves.unsqueeze(1)
            return outputs

        return super()._compute_loss(weighted, inputs, return_outputs)


def share_dataset(dataset: Dataset, arguments: DPOConfig) -> Dataset:
    """The same rows in a file in the training's work folder, for all of its processes.

    TRL's processes share the reference's log-probabilities through a file beside that of the rows.
    With rows in memory each process would look for it in its own temporary folder.
    """
    folder = Path(arguments.output_dir) / "rows"
    with arguments.main_process_first(local=False):
        if arguments.process_index == 0:
            shutil.rmtree(folder, ignore_errors=True)  # one of a killed training may be incomplete
            dataset.save_to_disk(folder)
    return Dataset.load_from_disk(folder)
