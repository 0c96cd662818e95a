"""Schemas of the tables that pass between rules, and their atomic reading and writing.

A table that is written here carries the sha256 of its file in the Parquet footer, taken with zeros
in its own place. Readers check it: Parquet pages have no checksum as polars writes them, and a
flipped bit would mostly give another text or number. It costs one pass over the compressed file.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

#: One problem of a task. `level` and `subject` are null where a task has none, and so are the last
#: four, which are OlympicArena's: what kind of answer is asked for, its unit, JSON on the several
#: answers to one question (`olympicarena_prompts.read_parts`), and text that a question refers to.
PROBLEMS = pl.Schema(
    {
        "id": pl.String,
        "question": pl.String,
        "solution": pl.String,
        "answer": pl.String,
        "level": pl.String,
        "subject": pl.String,
        "source": pl.String,
        "answer_type": pl.String,
        "unit": pl.String,
        "parts": pl.String,
        "context": pl.String,
    }
)
#: What the strong model may see of train_2: no solution, no answer.
QUESTIONS = pl.Schema({k: v for k, v in PROBLEMS.items() if k not in ("solution", "answer")})
#: The withheld half of train_2, for diagnostics and the strong ceiling only.
GOLD = pl.Schema({k: PROBLEMS[k] for k in ("id", "solution", "answer")})
#: Few-shot demonstrations in prompt order; `prompt` is the zero-shot prompt of its question.
DEMONSTRATIONS = pl.Schema({"id": pl.String, "prompt": pl.String, "response": pl.String})
#: Raw generations: one row a (request, id, sample); `response` is untouched model text.
GENERATIONS = pl.Schema(
    {
        "request": pl.String,
        "id": pl.String,
        "sample": pl.Int32,
        "response": pl.String,
        "finish_reason": pl.String,
        "prompt_tokens": pl.Int32,
        "response_tokens": pl.Int32,
    }
)
#: One side's answer to each train_2 question: cleaned text and final answer ("" = none), normalised
#: as in the paper; with judge `olympicarena` as it stands in the text.
LABELS = pl.Schema({"id": pl.String, "response": pl.String, "prediction": pl.String})
#: Questions on which the weak and the ICL side agree (Stage I).
KEPT = pl.Schema(
    {
        "id": pl.String,
        "weak_response": pl.String,
        "icl_response": pl.String,
        "prediction": pl.String,
    }
)
#: Rows for supervised fine-tuning. `completion` starts with one space.
SFT_ROWS = pl.Schema({"id": pl.String, "prompt": pl.String, "completion": pl.String})
#: The majority answer over the samples of one question; `confidence` is its share in [0, 1].
VOTES = pl.Schema(
    {"id": pl.String, "majority": pl.String, "confidence": pl.Float64, "samples": pl.Int32}
)
#: Contrastive pairs (Stage II); `weak_side` says which text is the weak model's: "chosen",
#: "rejected", or "none" where both are samples of the strong model.
PAIRS = pl.Schema(
    {
        "id": pl.String,
        "prompt": pl.String,
        "chosen": pl.String,
        "rejected": pl.String,
        "weak_side": pl.String,
        "confidence": pl.Float64,
    }
)
#: Scored generations. `paper` and `math` are verdicts "right", "wrong", "timeout" or "undecided".
SCORES = pl.Schema(
    {
        "request": pl.String,
        "id": pl.String,
        "sample": pl.Int32,
        "prediction": pl.String,
        "answer": pl.String,
        "level": pl.String,
        "paper": pl.String,
        "math": pl.String,
    }
)
#: metrics.csv. `k` is 1 for greedy accuracy; `split` may carry a level as "test/level=3".
METRICS = pl.Schema(
    {
        "experiment": pl.String,
        "task": pl.String,
        "weak": pl.String,
        "strong": pl.String,
        "method": pl.String,
        "stage": pl.String,
        "iteration": pl.Int32,
        "seed": pl.Int32,
        "split": pl.String,
        "scorer": pl.String,
        "metric": pl.String,
        "k": pl.Int32,
        "n": pl.Int32,
        "value": pl.Float64,
        "ci_low": pl.Float64,
        "ci_high": pl.Float64,
    }
)


#: Name of a file's own sha256 in its Parquet footer, and what stands there while it is computed.
# Not "weak_to_strong" and a dot, which `code_digest` would take for a module.
SIGNATURE, UNSIGNED = "w2s.sha256", "0" * 64
#: In the footer (Thrift's compact protocol) the value follows its name: type 8, 64 bytes long.
_SIGNED = re.compile(re.escape(SIGNATURE.encode()) + rb"\x18\x40([0-9a-f]{64})")

#: What `publish` and `training_files.publish_folder` write or set aside, by the name of its target.
_UNPUBLISHED = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.(?:part|old)")

#: What polars raises at a file that it cannot read; a panic is not even an Exception.
UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
#: How a damaged file is made anew.
AGAIN = "delete the file and run again"

#: Of a table that is written piece by piece: what is in memory at once.
ROWS_OF_A_GROUP = 100_000


class DamagedTable(ValueError):
    """A table is not as it was written, or another one; reading it met no error of the system."""


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some file systems of servers cannot do that to a folder.
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(handle)


def published_name(path: Path) -> str | None:
    """What an unpublished file or folder was to be called; None for any other."""
    found = _UNPUBLISHED.fullmatch(path.name)
    return found and found[1]


def mark_writer(handle: int) -> None:
    """Show others that what is open under `handle` has a writer, see `has_writer`."""
    with suppress(OSError):  # no locks on this file system
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def has_writer(path: Path) -> bool | None:
    """Whether a living process is at work on something unpublished; None where nothing shows it.

    The kernel takes the lock of `mark_writer` from a process that ends, however it does.
    """
    try:
        # Over NFS only what is open for writing can be locked; folders cannot.
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(handle)
    return False


def list_unpublished(path: Path) -> list[Path]:
    """What stands beside `path` to be renamed to it: a living writer's, or left by a killed one."""
    return [each for each in path.parent.iterdir() if published_name(each) == path.name]


@contextmanager
def publish(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success fsync it and rename it there.

    A killed or failed writer leaves the final path as it was. What a killed one left beside it goes
    with the next; a living one, as another run in the store of requests, is not disturbed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in list_unpublished(path):
        if has_writer(left) is False:
            left.unlink(missing_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    mark_writer(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)
        sync(part)
        part.replace(path)
        sync(path.parent)
    finally:
        os.close(handle)
        part.unlink(missing_ok=True)


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


def write_json(value: Any, path: str | Path) -> None:
    """Write `value` as indented JSON with sorted keys, atomically."""
    with publish(path) as part:
        part.write_text(
            json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def json_text(text: pl.Expr) -> pl.Expr:
    """Strings as `write_json` writes them."""
    return pl.struct(text.alias("_")).struct.json_encode().str.slice(len('{"_":')).str.head(-1)


def write_json_rows(batches: Iterable[pl.Series], path: str | Path) -> None:
    """What `write_json` makes of all rows in one list, with one batch of them in memory at once.

    Args:
        batches: columns of rows as they stand in that list, each ending with its brace.
        path: the file.
    """
    with publish(path) as part, part.open("w", encoding="utf-8") as file:
        before = "[\n"
        for batch in batches:
            for row in batch:
                file.write(before + row)
                before = ",\n"
        file.write("\n]\n" if before == ",\n" else "[]\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file; a broken one raises ValueError naming the file."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable JSON file ({error}); {AGAIN}") from error


def hash_value(value: Any) -> str:
    """sha256 (hex) of a JSON-like value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_file(path: str | Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
