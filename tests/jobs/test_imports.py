"""Imports without garbage collection."""

from __future__ import annotations

import gc

import pytest

from weak_to_strong.jobs.imports import collection_paused


@pytest.fixture(autouse=True)
def thaw():
    yield
    gc.unfreeze()


def test_nothing_is_collected_inside_and_later_collections_pass_by_what_came() -> None:
    before = gc.get_freeze_count()
    with collection_paused():
        assert not gc.isenabled()
        kept = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(kept)


def test_a_failed_import_leaves_collection_on() -> None:
    with pytest.raises(ImportError), collection_paused():
        raise ImportError("no such library")
    assert gc.isenabled()
