"""Finished generations on disk, keyed by a hash of everything that their text depends on.

`<store>/<key>/request.json` has what was hashed. `shard-<position>.parquet` has the samples of some
prompts; its name has the position of the first prompt. Shards of different sizes from different
runs stand side by side. Texts are read one shard at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from weak_to_strong.tables.files import hash_value, write_json
from weak_to_strong.tables.frames import DamagedTable, read_table, write_table
from weak_to_strong.tables.schemas import GENERATIONS

logger = logging.getLogger("weak_to_strong")

#: Rows of a shard: all samples of its prompts.
SHARD = pl.Schema({name: kind for name, kind in GENERATIONS.items() if name != "request"})
#: One row for each complete prompt: its shard and its counts. `response_tokens` and `truncated` are
#: sums over its samples; `truncated` counts the responses that `max_tokens` cut off.
INDEX = pl.Schema(
    {
        "id": pl.String,
        "shard": pl.Int64,
        "prompt_tokens": pl.Int64,
        "response_tokens": pl.Int64,
        "truncated": pl.Int64,
    }
)


class RequestStore:
    """The shards of one request.

    Args:
        root: folder of all stores.
        facts: everything that the text depends on, as JSON-like values.
    """

    def __init__(self, root: str | Path, facts: dict[str, Any]) -> None:
        self.facts = facts
        self.key = hash_value(facts)
        self.folder = Path(root) / self.key

    def index(self, n: int) -> pl.DataFrame:
        """INDEX rows of the prompts that have all `n` samples in the store.

        A damaged shard is removed, so that its prompts are generated again.

        Raises:
            ValueError: the system cannot read a shard, which may be intact.
        """
        tables = []
        for path in sorted(self.folder.glob("shard-*.parquet")):
            try:
                rows = read_table(path, SHARD)
            except DamagedTable as error:
                logger.warning("generated again, for %s", error)
                path.unlink()
                continue
            prompts = (
                rows.group_by("id", maintain_order=True)
                .agg(
                    samples=pl.len(),
                    shard=pl.lit(int(path.stem.removeprefix("shard-"))),
                    prompt_tokens=pl.first("prompt_tokens"),
                    response_tokens=pl.sum("response_tokens").cast(pl.Int64),
                    truncated=(pl.col("finish_reason") == "length").sum(),
                )
                .filter(pl.col("samples") == n)
            )
            tables.append(prompts.select(pl.col(name).cast(kind) for name, kind in INDEX.items()))
        return pl.concat([INDEX.to_frame(), *tables]).unique(
            "id", keep="first", maintain_order=True
        )

    def rows(self, index: pl.DataFrame, ids: pl.Series) -> Iterator[pl.DataFrame]:
        """Rows (SHARD) of the indexed prompts in the order of `ids`, some at a time.

        One shard is in memory at a time. Only where shards of different runs overlap are rows of
        others in memory, too.

        Args:
            index: INDEX rows as `index` returned them.
            ids: ids of all prompts of the request.

        Raises:
            ValueError: a shard was damaged in the meantime.
        """
        order = ids.to_frame("id").with_row_index("position")
        shards = (
            index.select("id", "shard")
            .join(order, on="id")
            .group_by("shard")
            .agg("id", "position", first=pl.min("position"))
            .sort("first")
            .with_columns(end=pl.col("first").shift(-1, fill_value=len(ids)))
        )
        later = None  # rows that come after those of the next shard
        for shard, names, positions, _, end in shards.iter_rows():
            places = pl.DataFrame(
                {"id": names, "position": positions},
                schema={"id": pl.String, "position": pl.UInt32},
            )
            rows = read_table(self._path(shard), SHARD).join(places, on="id")
            rows = rows if later is None else pl.concat([later, rows])
            yield (
                rows.filter(pl.col("position") < end)
                .sort("position", "sample")
                .select(SHARD.names())
            )
            later = rows.filter(pl.col("position") >= end)
            later = None if later.is_empty() else later

    def append(self, first: int, rows: pl.DataFrame) -> None:
        """Add a shard atomically; `first` is the position of its first prompt."""
        if not (self.folder / "request.json").exists():
            write_json(self.facts, self.folder / "request.json")
        write_table(rows, SHARD, self._path(first))

    def merge(self, shards: Mapping[int, pl.DataFrame]) -> None:
        """Put shards of this store, by the position of their first prompt, into one.

        Cut off in the middle, it leaves some prompts in two shards. Of these one is read.

        Args:
            shards: position of a shard's first prompt -> its SHARD table.
        """
        first, *others = sorted(shards)
        rows = pl.concat([shards[place] for place in (first, *others)])
        write_table(rows, SHARD, self._path(first))
        for place in others:
            self._path(place).unlink(missing_ok=True)

    def _path(self, first: int) -> Path:
        return self.folder / f"shard-{first:06d}.parquet"
