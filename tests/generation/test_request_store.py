"""What keeps a round's prompts and texts out of memory: shards in the store, tokens in a file."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from weak_to_strong.generation.request_store import SHARD, RequestStore
from weak_to_strong.generation.requests import hash_prompts
from weak_to_strong.generation.token_file import TokenFile
from weak_to_strong.tables.files import hash_value
from weak_to_strong.tables.frames import read_table, write_batches
from weak_to_strong.tables.schemas import GENERATIONS

IDS = [f"q{number}" for number in range(12)]


def samples(numbers: list[int], n: int = 2) -> pl.DataFrame:
    """SHARD rows of some prompts, the last sample first, as if they ended in that order."""
    rows = [
        (IDS[number], sample, f"{number}.{sample}", ["stop", "length"][sample % 2], number, 10)
        for number in numbers
        for sample in reversed(range(n))
    ]
    return pl.DataFrame(rows, schema=SHARD, orient="row")


@pytest.fixture
def store(tmp_path: Path) -> RequestStore:
    return RequestStore(tmp_path, {"of": "a test"})


@pytest.mark.parametrize(
    "shards",
    [
        [[*range(12)]],
        [[number] for number in range(12)],
        [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]],
        # A first run had other shards, of which some were lost.
        [[2, 3], [8, 9], [0, 1, 4, 5, 6], [7, 10, 11]],
        [[0, 11], [1, 10], [2, 9], [3, 8], [4, 7], [5, 6]],
    ],
    ids=str,
)
def test_rows_come_in_the_order_of_the_problems(store, shards):
    for numbers in shards:
        store.append(numbers[0], samples(numbers))
    batches = list(store.rows(store.index(2), pl.Series(IDS)))
    rows = pl.concat(batches)
    assert rows.schema == SHARD
    assert rows["id"].to_list() == [name for name in IDS for _ in range(2)]
    assert rows["response"].to_list() == [f"{n}.{s}" for n in range(12) for s in range(2)]
    longest = max(map(len, shards))
    assert max(map(len, batches)) <= 2 * max(longest, 12 - longest)


def test_shards_apart_are_read_one_at_a_time(store, monkeypatch):
    for first in range(0, 12, 3):
        store.append(first, samples([first, first + 1, first + 2]))
    index = store.index(2)
    read = []
    monkeypatch.setattr(
        "weak_to_strong.generation.request_store.read_table",
        lambda path, schema: read.append(path) or read_table(path, schema),
    )
    for number, rows in enumerate(store.rows(index, pl.Series(IDS)), 1):
        assert len(read) == number
        assert len(rows) == 6


def test_index_has_the_prompts_whose_samples_are_all_there(store):
    store.append(0, samples([0, 1]))
    store.append(4, pl.concat([samples([4]), samples([5], n=1)]))
    index = store.index(2)
    assert index.to_dicts() == [
        {"id": "q0", "shard": 0, "prompt_tokens": 0, "response_tokens": 20, "truncated": 1},
        {"id": "q1", "shard": 0, "prompt_tokens": 1, "response_tokens": 20, "truncated": 1},
        {"id": "q4", "shard": 4, "prompt_tokens": 4, "response_tokens": 20, "truncated": 1},
    ]
    texts = pl.concat(store.rows(index, pl.Series(IDS)))
    assert texts["id"].to_list() == ["q0", "q0", "q1", "q1", "q4", "q4"]


def test_an_empty_store_has_nothing(store):
    assert store.index(1).is_empty()
    assert list(store.rows(store.index(1), pl.Series(IDS))) == []


def test_a_shard_damaged_since_it_was_counted_is_named(store):
    store.append(0, samples([0, 1]))
    index = store.index(2)
    shard = next(store.folder.glob("shard-*"))
    shard.write_bytes(shard.read_bytes()[:-7])
    with pytest.raises(ValueError, match=r"shard-000000\.parquet.*delete the file and run again"):
        list(store.rows(index, pl.Series(IDS)))


def test_a_damaged_shard_is_generated_again(store):
    for number in range(3):
        store.append(number, samples([number]))
    damaged, replaced, _ = sorted(store.folder.glob("shard-*"))
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    pl.DataFrame({"x": [1]}).write_parquet(replaced)
    assert store.index(2)["id"].to_list() == ["q2"]
    assert not damaged.exists()
    assert not replaced.exists()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EACCES, errno.ENOMEM])
@pytest.mark.parametrize("reader", ["python", "polars"])
def test_a_shard_that_the_system_does_not_give_stays(store, monkeypatch, number, reader):
    store.append(0, samples([0]))

    def refuse(*_: object) -> None:
        if reader == "python":
            raise OSError(number, os.strerror(number))
        raise pl.exceptions.ComputeError(f"{os.strerror(number)} (os error {number})")

    with monkeypatch.context() as patched:
        name = "_find_signature" if reader == "python" else "pl.scan_parquet"
        patched.setattr(f"weak_to_strong.tables.frames.{name}", refuse)
        with pytest.raises(ValueError, match=r"shard-000000\.parquet: cannot be read .*run again"):
            store.index(2)
    assert store.index(2)["id"].to_list() == ["q0"]


def test_tokens_come_back_as_they_were_added(tmp_path):
    prompts = [[1, 2, 3], [], [2**32 - 1], [*range(1000)], [7]]
    tokens = TokenFile(tmp_path / "store")
    tokens.append(prompts[:2])
    tokens.append(iter(prompts[2:]))
    assert len(tokens) == 5
    assert [tokens.length(number) for number in range(5)] == [3, 0, 1, 1000, 1]
    for first in range(5):
        for end in range(first, 6):
            assert tokens.read(first, end) == prompts[first:end]
    assert list((tmp_path / "store").iterdir()) == []


@pytest.mark.parametrize(
    ("ids", "prompts"),
    [([], []), (["a"], ["b"]), (["a", 'ü"\n'], ["[,]", "\u2028 \\ \U0001f600"])],
    ids=str,
)
def test_prompts_hash_as_two_lists(ids, prompts):
    assert hash_prompts(iter(ids), iter(prompts)) == hash_value([ids, prompts])


def test_a_table_of_batches_is_that_of_all_rows(tmp_path):
    rows = samples([*range(12)]).select(pl.lit("r").alias("request"), pl.all())
    write_batches(rows.iter_slices(5), GENERATIONS, tmp_path / "batches.parquet")
    assert read_table(tmp_path / "batches.parquet", GENERATIONS).equals(rows)
    write_batches([], GENERATIONS, tmp_path / "none.parquet")
    assert read_table(tmp_path / "none.parquet", GENERATIONS).is_empty()


def test_batches_that_fail_leave_no_table(tmp_path):
    def batches() -> Iterator[pl.DataFrame]:
        yield samples([0]).select(pl.lit("r").alias("request"), pl.all())
        raise ValueError("the second batch is damaged")

    with pytest.raises(Exception, match="the second batch is damaged"):
        write_batches(batches(), GENERATIONS, tmp_path / "batches.parquet")
    assert list(tmp_path.iterdir()) == []
