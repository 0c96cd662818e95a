"""Sorts the rows of an update by length, so that micro-batches have less padding.

The gradient of an update is that of all its rows, however they are divided into micro-batches. So
rows may be sorted within an update. Micro-batches then have less padding, and those that several
processes compute at the same time take about as long. Sorting over more rows would save more
padding and change which rows are in an update.

Sorting needs a loss that does not depend on the division. SFT's loss is a mean over the tokens of
an update. DPO's loss, and ORPO's with the likelihood of completions, is a mean over its pairs.
(Where a pass ends in an update with fewer rows, DPO's last micro-batch weighs as much as a whole
one.) ORPO's loss with the likelihood of sequences is a mean over the tokens of each micro-batch, so
there rows keep their order.

transformers' "batch_rebalance" does not fit: it makes micro-batches of unequal size, which would
change DPO's mean, and leaves out the last rows of a pass.
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
    """The rows of a pass, in each update from the longest to the shortest.

    Args:
        order: row numbers.
        lengths: number of tokens of each row.
        size: number of rows of an update, on all devices together. The last may have fewer.
    """
    order = iter(order)
    while update := list(islice(order, size)):
        yield from sorted(update, key=lambda row: -lengths[row])


class SortedUpdates:
    """A sampler that sorts the rows of another one within each update.

    Args:
        sampler: the other sampler.
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
    """A subclass of a transformers trainer that sorts its training rows within each update.

    Args:
        trainer: the trainer class.
        lengths, size: see `sort_updates`.
    """

    class SortedTrainer(trainer):
        def get_train_dataloader(self) -> Any:
            loader = super().get_train_dataloader()
            loader.set_sampler(SortedUpdates(loader.get_sampler(), lengths, size))
            return loader

    return SortedTrainer


def padding_share(order: Iterable[int], lengths: Sequence[int], size: int) -> float:
    """Share of padding among the tokens that go through the model, in [0, 1).

    Args:
        order: row numbers, at least one.
        lengths: number of tokens of each row.
        size: number of rows of a micro-batch, which are padded to the longest.
    """
    order = iter(order)
    tokens = padded = 0
    while batch := [lengths[row] for row in islice(order, size)]:
        tokens += sum(batch)
        padded += len(batch) * max(batch)
    return 1 - tokens / padded
