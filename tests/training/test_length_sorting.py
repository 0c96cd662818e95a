"""Rows sorted by length within an update: the same rows, less padding."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weak_to_strong.training.length_sorting import (
    SortedUpdates,
    padding_share,
    sort_updates,
    sort_updates_of,
)

LENGTHS = [5, 9, 2, 7, 7, 1, 8]


def test_each_update_keeps_its_rows_from_the_longest_to_the_shortest():
    order = [6, 2, 0, 5, 3, 1, 4]
    # Updates of three rows: 6 2 0, then 5 3 1, then what is left.
    assert list(sort_updates(order, LENGTHS, 3)) == [6, 0, 2, 1, 3, 5, 4]


def test_rows_of_one_length_keep_their_order():
    assert list(sort_updates([4, 3, 0], LENGTHS, 3)) == [4, 3, 0]


@given(
    lengths=st.lists(st.integers(1, 1000), min_size=1, max_size=60),
    size=st.sampled_from([2, 4]),
    updates=st.integers(1, 8),
)
def test_sorting_moves_no_row_to_another_update_and_never_adds_padding(lengths, size, updates):
    whole = size * updates
    lengths = lengths * whole  # whole updates: a last micro-batch of few rows may be the longest
    rows = range(len(lengths))
    order = list(sort_updates(rows, lengths, whole))
    for first in range(0, len(lengths), whole):
        assert sorted(order[first : first + whole]) == list(rows)[first : first + whole]
    assert padding_share(order, lengths, size) <= padding_share(rows, lengths, size) + 1e-12


def test_padding_share():
    # Micro-batches 5 9, 2 7, 7 1, 8 are padded to 18, 14, 14 and 8 tokens.
    assert padding_share(range(7), LENGTHS, 2) == pytest.approx(1 - 39 / 54)
    assert padding_share(range(7), LENGTHS, 1) == 0


class Shuffled:
    """A sampler with another order in each pass."""

    epoch = 0

    def __iter__(self):
        return iter([0, 1, 2] if self.epoch == 0 else [2, 1, 0])

    def __len__(self):
        return 3

    def set_epoch(self, epoch):
        self.epoch = epoch


def test_a_trainer_reads_the_sorted_rows_of_each_pass():
    class Loader:
        sampler = Shuffled()

        def get_sampler(self):
            return self.sampler

        def set_sampler(self, sampler):
            self.sampler = sampler

    class Trainer:
        def get_train_dataloader(self):
            return Loader()

    loader = sort_updates_of(Trainer, LENGTHS, 2)().get_train_dataloader()
    assert isinstance(loader.sampler, SortedUpdates)
    assert list(loader.sampler) == [1, 0, 2]
    loader.sampler.set_epoch(1)
    assert list(loader.sampler) == [1, 2, 0]
    assert len(loader.sampler) == 3
