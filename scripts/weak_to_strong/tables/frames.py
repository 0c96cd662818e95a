"""Schemas of the tables that pass between rules, and their atomic reading and writing.

A table that is written here carries the sha256 of its file in the Parquet footer, taken with zeros
in its own place. Readers check it: Parquet pages have no checksum as polars writes them, and a
flipped bit would mostly give another text or number. It costs one pass over the compressed file.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source

from weak_to_strong.tables.files import (
    AGAIN,
    publish,
)

#: Name of a file's own sha256 in its Parquet footer, and what stands there while it is computed.
# Not "weak_to_strong" and a dot, which `code_digest` would take for a module.
SIGNATURE, UNSIGNED = "w2s.sha256", "0" * 64

#: In the footer (Thrift's compact protocol) the value follows its name: type 8, 64 bytes long.
_SIGNED = re.compile(re.escape(SIGNATURE.encode()) + rb"\x18\x40([0-9a-f]{64})")

#: What polars raises at a file that it cannot read; a panic is not even an Exception.
UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)

#: Of a table that is written piece by piece: what is in memory at once.
ROWS_OF_A_GROUP = 100_000


class DamagedTable(ValueError):
    """A table is not as it was written, or another one; reading it met no error of the system."""


def write_table(frame: pl.DataFrame | pl.LazyFrame, schema: pl.Schema, path: str | Path) -> None:
    """Write `frame` as Parquet, columns selected and cast as `schema` says, atomically.

    A lazy one is made and written piece by piece.

    Raises:
        polars.exceptions.ColumnNotFoundError: `frame` lacks a column of the schema.
    """
    ordered = frame.select(pl.col(name).cast(kind) for name, kind in schema.items())
    with publish(path) as part:
        if isinstance(ordered, pl.LazyFrame):
            ordered.sink_parquet(
                part,
                compression="zstd",
                statistics=False,
                row_group_size=ROWS_OF_A_GROUP,
                metadata={SIGNATURE: UNSIGNED},
            )
        else:
            ordered.write_parquet(
                part, compression="zstd", statistics=False, metadata={SIGNATURE: UNSIGNED}
            )
        _sign(part)


def write_batches(batches: Iterable[pl.DataFrame], schema: pl.Schema, path: str | Path) -> None:
    """`write_table` of rows that come some at a time, the rows of a group in memory at once."""

    def source(columns: list[str] | None, *_: object) -> Iterator[pl.DataFrame]:
        for batch in batches:
            yield batch.select(columns or schema.names())

    write_table(register_io_source(source, schema=schema), schema, path)


def _find_signature(path: Path) -> tuple[int, str] | None:
    """Place and value of a file's signature; None where it has none."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        length = int.from_bytes(file.read(4), "little")  # of the footer, before the mark at the end
        start = max(0, size - 8 - length)
        file.seek(start)
        found = _SIGNED.search(file.read(size - start))
    return (start + found.start(1), found[1].decode()) if found else None


def _compute_signature(path: Path, place: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(min(2**20, place - file.tell())):
            digest.update(block)
        digest.update(UNSIGNED.encode())
        file.seek(place + len(UNSIGNED))
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _sign(path: Path) -> None:
    """Put a table's signature where UNSIGNED stands."""
    place, _ = _find_signature(path)
    signature = _compute_signature(path, place)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(signature.encode())


def _unreadable(path: str | Path, error: BaseException) -> ValueError:
    reason = " ".join(str(error).split())
    # The system's errors say nothing against the file. Polars may wrap them in its own.
    if isinstance(error, OSError) or "(os error " in reason:
        return ValueError(f"{path}: cannot be read ({reason}); see to that and run again")
    return DamagedTable(f"{path}: not a readable Parquet table ({reason}); {AGAIN}")


def has_column(path: str | Path, name: str) -> bool:
    """Whether a Parquet table has a column.

    Raises:
        ValueError: as for `read_table`.
    """
    check_signature(path)
    try:
        return name in pl.read_parquet_schema(path)
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def check_signature(path: str | Path) -> None:
    """Check a table that `write_table` wrote; one without a signature passes.

    Raises:
        DamagedTable: the file is not as it was written; names it.
        ValueError: it cannot be read; names it.
    """
    try:
        found = _find_signature(Path(path))
        intact = found is None or _compute_signature(Path(path), found[0]) == found[1]
    except OSError as error:
        raise _unreadable(path, error) from error
    if not intact:
        raise DamagedTable(
            f"{path}: is damaged (its content does not fit the checksum in it); {AGAIN}"
        )


def read_table(path: str | Path, schema: pl.Schema) -> pl.DataFrame:
    """Read a Parquet table and check its columns and types.

    Raises:
        DamagedTable: the file is not readable Parquet or has other columns; names the file.
        ValueError: the system does not give it; names the file.
    """
    frame = scan_table(path, schema)
    try:
        return frame.collect()
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def scan_table(path: str | Path, schema: pl.Schema) -> pl.LazyFrame:
    """A Parquet table that is read piece by piece; it is checked at once, columns and signature.

    Raises:
        ValueError: as for `read_table`.
    """
    check_signature(path)  # first: polars panics at some damaged footers
    try:
        frame = pl.scan_parquet(path)
        found = frame.collect_schema()
    except UNREADABLE as error:
        raise _unreadable(path, error) from error
    if found != schema:
        raise DamagedTable(f"{path}: columns {dict(found)} where {dict(schema)} are due; {AGAIN}")
    return frame


def read_csv(path: str | Path, schema: pl.Schema) -> pl.DataFrame:
    """Read a CSV as METRICS or DIAGNOSTICS: columns selected and cast; NaN becomes null.

    Raises:
        ValueError: not a readable CSV, or a column is missing; names the file.
    """
    try:
        frame = pl.read_csv(path, infer_schema=False)
        missing = [name for name in schema if name not in frame.columns]
        if missing:
            raise ValueError(f"{path}: no column {', '.join(missing)}; there are {frame.columns}")
        frame = frame.select(pl.col(name).cast(kind) for name, kind in schema.items())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"{path}: not a readable table ({error})") from error
    return frame.with_columns(
        pl.col(name).fill_nan(None) for name, kind in schema.items() if kind == pl.Float64
    )
