"""Which rows of an update go through the model together: those of like length.

An update's gradient is that of all its rows, however they are cut into micro-batches, so rows may
be sorted by length within an update, and only there: micro-batches hold less padding, and those
that several processes work on at the same time take about as long. Grouping over larger parts of
a pass would leave less padding still, and change which rows meet in an update.

That holds for SFT, whose loss is a mean over the tokens of an update, and for DPO, whose loss is
a mean over its pairs; where a pass ends in an update with fewer rows, DPO's last micro-batch
counts as much as a whole one. ORPO's with the likelihood of completions is a mean over pairs too;
that of sequences is one over the tokens of each micro-batch and would change: there rows keep their
order. transformers' "batch_rebalance" makes micro-batches of
unequal size, which DPO's mean does not allow for, and leaves out the last rows of a pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol


class Sampler(Protocol):
    """Row numbers of a pass, in the order of training."""

    def __iter__(self) -> Iterator[int]: ...

    def __len__(self) -> int: ...

    def set_epoch(self, epoch: int) -> None: ...


def sort_updates(order: Iterable[int], lengths: Sequence[int], size: int) -> Iterator[int]:
    """The rows of a pass, those of each update from the longest to the shortest.

    Args:
        order: row numbers.
        lengths: tokens of each row.
        size: rows of an update, on all devices together; the last may have fewer.
    """
    order = iter(order)
    while update := list(islice(order, size)):
        yield from sorted(update, key=lambda row: -lengths[row])


class SortedUpdates:
    """A sampler whose rows are those of another, sorted within each update.

    Args:
        sampler: of the same rows.
        lengths, size: see `sort_updates`.
    """

    def __init__(self, sampler: Sampler, lengths: Sequence[int], size: int) -> None:
        self._sampler, self._lengths, self._size = sampler, lengths, size

    def __iter__(self) -> Iterator[int]:
        return sort_updates(self._sampler, self._lengths, self._size)

    def __len__(self) -> int:
        return len(self._sampler)

    def set_epoch(self, epoch: int) -> None:
        self._sampler.set_epoch(epoch)


def sort_updates_of(trainer: type, lengths: Sequence[int], size: int) -> type:
    """A transformers trainer class whose training rows are sorted within each update.

    Args:
        trainer: the class.
        lengths, size: see `sort_updates`.
    """

    class SortedTrainer(trainer):
        def get_train_dataloader(self) -> Any:
            loader = super().get_train_dataloader()
            loader.set_sampler(SortedUpdates(loader.get_sampler(), lengths, size))
            return loader

    return SortedTrainer


def padding_share(order: Iterable[int], lengths: Sequence[int], size: int) -> float:
    """Share of padding in what goes through the model, between 0 and 1.

    Args:
        order: row numbers, not none.
        lengths: tokens of each row.
        size: rows of a micro-batch, which are padded to the longest.
    """
    order = iter(order)
    tokens = padded = 0
    while batch := [lengths[row] for row in islice(order, size)]:
        tokens += sum(batch)
        padded += len(batch) * max(batch)
    return 1 - tokens / padded
