"""Reading and writing of the Parquet and CSV tables that pass between rules.

A written table has its own sha256 in its Parquet footer, computed with zeros in the place of the
sha256. Readers check it, because the pages that polars writes have no checksums: after a flipped
bit a reader would get another text or number. A check is one pass over the compressed file.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source

from weak_to_strong.tables.files import AGAIN, publish

#: Name of the sha256 in the Parquet footer, and its value while the sha256 is computed.
# The name does not begin with "weak_to_strong.", which `code_digest` would take for a module.
SIGNATURE, UNSIGNED = "w2s.sha256", "0" * 64

#: In the footer (Thrift's compact protocol) the value follows the name: type 8, 64 bytes long.
_SIGNED = re.compile(re.escape(SIGNATURE.encode()) + rb"\x18\x40([0-9a-f]{64})")

#: Errors of polars at a file that it cannot read. Its panics are no subclass of Exception.
UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)

#: Rows in memory at a time while a table is written piece by piece.
ROWS_OF_A_GROUP = 100_000


class DamagedTable(ValueError):
    """A table is damaged or has other columns. File system errors are a plain ValueError."""


def write_table(frame: pl.DataFrame | pl.LazyFrame, schema: pl.Schema, path: str | Path) -> None:
    """Write a table as Parquet. It appears at `path` only when it is complete.

    Args:
        frame: the rows; its columns are selected and cast by `schema`. A lazy one is computed and
            written piece by piece.
        schema: columns and types of the file.
        path: the file.

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
    """`write_table` for rows that come in batches, with ROWS_OF_A_GROUP in memory at a time."""

    def source(columns: list[str] | None, *_: object) -> Iterator[pl.DataFrame]:
        for batch in batches:
            yield batch.select(columns or schema.names())

    write_table(register_io_source(source, schema=schema), schema, path)


def _find_signature(path: Path) -> tuple[int, str] | None:
    """Position and value of the sha256 in a file's footer; None where there is none."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        footer_length = int.from_bytes(file.read(4), "little")  # stands before the last four bytes
        start = max(0, size - 8 - footer_length)
        file.seek(start)
        match = _SIGNED.search(file.read(size - start))
    return (start + match.start(1), match[1].decode()) if match else None


def _compute_signature(path: Path, place: int) -> str:
    """sha256 (hex) of a file with UNSIGNED at position `place`."""
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
    """Replace UNSIGNED in a table's footer by its sha256."""
    place, _ = _find_signature(path)
    signature = _compute_signature(path, place)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(signature.encode())


def _unreadable(path: str | Path, error: BaseException) -> ValueError:
    reason = " ".join(str(error).split())
    # An error of the file system does not mean that the file is damaged. Polars may wrap it.
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
    """Check the sha256 of a table that `write_table` wrote. A table without one passes.

    Raises:
        DamagedTable: the file changed after it was written; names it.
        ValueError: the file cannot be read; names it.
    """
    try:
        signature = _find_signature(Path(path))
        intact = signature is None or _compute_signature(Path(path), signature[0]) == signature[1]
    except OSError as error:
        raise _unreadable(path, error) from error
    if not intact:
        raise DamagedTable(
            f"{path}: is damaged (its content does not fit the checksum in it); {AGAIN}"
        )


def read_table(path: str | Path, *schemas: pl.Schema) -> pl.DataFrame:
    """Read a Parquet table and check its columns and types: those of one of the schemas.

    Raises:
        DamagedTable: the file is damaged, not Parquet, or has other columns; names the file.
        ValueError: the file system cannot read it; names the file.
    """
    frame = scan_table(path, *schemas)
    try:
        return frame.collect()
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def scan_table(path: str | Path, *schemas: pl.Schema) -> pl.LazyFrame:
    """A lazy Parquet table, read piece by piece. Its sha256 and columns are checked at once.

    Raises:
        ValueError: as for `read_table`.
    """
    check_signature(path)  # before polars, which panics at some damaged footers
    try:
        frame = pl.scan_parquet(path)
        columns = frame.collect_schema()
    except UNREADABLE as error:
        raise _unreadable(path, error) from error
    if columns not in schemas:
        expected = " or ".join(str(dict(schema)) for schema in schemas)
        raise DamagedTable(f"{path}: columns {dict(columns)}, expected {expected}; {AGAIN}")
    return frame


def read_csv(path: str | Path, schema: pl.Schema) -> pl.DataFrame:
    """Read a CSV table, such as METRICS: select and cast its columns, and turn NaN into null.

    Raises:
        ValueError: it is not a readable CSV, or lacks a column; names the file.
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
