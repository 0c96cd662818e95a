"""Finished generations on disk, keyed by a hash of everything that their text depends on.

`<store>/<key>/request.json` says what was hashed; `shard-<position>.parquet` holds the samples of
some prompts, named by the position of the first. A position stands in at most one shard, so shards
of different sizes, written by different runs, live side by side.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from weak_to_strong.tables import GENERATIONS, hash_value, read_table, write_json, write_table

logger = logging.getLogger("weak_to_strong")

#: Rows of a shard: all samples of its prompts.
SHARD = pl.Schema({name: kind for name, kind in GENERATIONS.items() if name != "request"})


class RequestStore:
    """The shards of one request.

    Args:
        root: folder of all stores.
        facts: JSON-like description of everything that the text depends on.
    """

    def __init__(self, root: str | Path, facts: dict[str, Any]) -> None:
        self.facts = facts
        self.key = hash_value(facts)
        self.folder = Path(root) / self.key

    def finished(self, ids: Sequence[str], n: int) -> pl.DataFrame:
        """Rows (SHARD) of the prompts whose `n` samples are all stored, in the order of `ids`.

        A damaged shard is removed, so that its prompts are generated again.
        """
        shards = []
        for path in sorted(self.folder.glob("shard-*.parquet")):
            try:
                shards.append(read_table(path, SHARD))
            except ValueError as error:
                logger.warning("generated again, for %s", error)
                path.unlink()
        if not shards:
            return SHARD.to_frame()
        order = pl.DataFrame({"id": ids}, schema={"id": pl.String}).with_row_index("position")
        return (
            pl.concat(shards)
            .unique(["id", "sample"], keep="first", maintain_order=True)
            .join(order, on="id", how="inner")
            .filter(pl.len().over("id") == n)
            .sort("position", "sample")
            .select(SHARD.names())
        )

    def append(self, first: int, rows: pl.DataFrame) -> None:
        """Add a shard whose first prompt has position `first`, atomically."""
        if not (self.folder / "request.json").exists():
            write_json(self.facts, self.folder / "request.json")
        write_table(rows, SHARD, self.folder / f"shard-{first:06d}.parquet")
