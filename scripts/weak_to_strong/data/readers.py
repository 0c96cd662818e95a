"""Readers of the raw files of a task. Each gives a PROBLEMS table (see `tables`)."""

from __future__ import annotations

import csv
import gzip
import json
import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import polars as pl

from weak_to_strong.data.embedded_forms import restate
from weak_to_strong.data.embedded_task import generate_problems
from weak_to_strong.method.answers import last_box, last_boxed
from weak_to_strong.method.olympicarena_prompts import read_parts, split_prompt
from weak_to_strong.method.prompts import answer_line
from weak_to_strong.tables.frames import UNREADABLE
from weak_to_strong.tables.schemas import PROBLEMS

logger = logging.getLogger("weak_to_strong")

#: OlympicArena answer types that no answer string can be compared with: programs and "other".
UNGRADED_ANSWER_TYPES = frozenset({"CODE", "OT"})
#: Endings of the raw files that can be read, in small or capital letters; all but Parquet also with
#: `.gz` behind them.
SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".tsv")
#: What to do with other files.
CONVERSIONS = {
    ".zst": "unpack it with `zstd -d FILE`",
    ".xz": "unpack it with `xz -d FILE`",
    ".bz2": "unpack it with `bzip2 -d FILE`",
    ".zip": "unpack it with `unzip FILE`",
    ".xlsx": "save its sheet as CSV",
    ".xls": "save its sheet as CSV",
    ".arrow": "write it as Parquet (`datasets.Dataset.from_file(FILE).to_parquet(NAME)`)",
}
#: Numbers are written out up to this many digits, and larger or smaller ones with an exponent.
LONGEST_NUMBER = 20
#: The order in which splits are cut from one stream or pool: held-out data first, so that it
#: stays the same when a training split grows.
DRAW_ORDER = ("test", "validation", "train_1", "train_2")


def load_gsm8k(path: str | Path, *, optional_answers: bool = False) -> pl.DataFrame:
    """GSM8K: rows {question, answer ending in `#### n`}, or {question, solution, answer}.

    The answer is what follows the last `####` on its line. The solution keeps its `<<...>>`
    calculator marks and its last line. A row whose `solution` is null is read in the first form.
    """
    rows = read_columns(path, ["question", "answer"], ["solution"])

    def convert(row: dict) -> dict:
        if row.get("solution") is not None:
            return row
        text = row.get("answer")
        answer = answer_line(text) if isinstance(text, str) else None
        return {**row, "solution": text, "answer": answer}

    return build_problems(map(convert, rows), path, optional_answers)


def load_math(path: str | Path, *, optional_answers: bool = False) -> pl.DataFrame:
    r"""MATH: rows {problem[, solution][, answer][, subject or type][, level][, unique_id]}.

    A row without `answer` has it in the last box of its solution (`\boxed{2}`, `\boxed 2`,
    `\fbox{2}`, `\framebox{2}`). Files of answers alone, as AIME's, have no `solution`. `Level 3` is
    read as level `3`.
    """
    names = ["solution", "answer", "level", "subject", "type", "unique_id", "id"]
    rows = read_columns(path, ["problem"], names)
    require_columns(rows, path, ["answer" if "solution" not in set().union(*rows) else "solution"])

    def convert(row: dict) -> dict:
        answer, solution = row.get("answer"), str(row.get("solution") or "")
        if answer is None or not str(answer).strip():
            # A closed box first, as released; other forms of a box where there is none.
            answer = last_boxed(solution) or last_box(solution) or None
        level = row.get("level")
        return {
            **row,
            "id": row.get("unique_id", row.get("id")),
            "question": row.get("problem"),
            "answer": answer,
            "subject": row.get("subject", row.get("type")),
            "level": level.removeprefix("Level ") if isinstance(level, str) else level,
        }

    return build_problems(map(convert, rows), path, optional_answers)


def load_olympicarena(
    path: str | Path, *, subjects: Collection[str] | None = None, optional_answers: bool = False
) -> pl.DataFrame:
    """OlympicArena as its authors publish it: the English problems with a comparable answer.

    The parts of an answer are joined by ", ". `level` holds the answer type (SC, TF, NV, ...), as
    `answer_type` does. Where a row has its `prompt`, question and context are those of the prompt.
    The types and units of several answers to one question are in `parts`.

    Args:
        subjects: subjects to keep; all by default.

    Raises:
        ValueError: as for `load_task`; a row without an answer type, or with a type, unit, name or
            prompt that is no text.
    """
    required = ["id", "problem", "answer", "answer_type", "subject", "language"]
    rows = read_columns(path, required)
    known = sorted({str(row.get("subject")) for row in rows})

    def wanted(row: dict) -> bool:
        return row.get("language") == "EN" and (subjects is None or row.get("subject") in subjects)

    def convert(row: dict) -> dict:
        answer = row.get("answer")
        if isinstance(answer, list):
            answer = ", ".join(str(part).strip() for part in answer if part is not None)
        prompt = row.get("prompt")
        if not isinstance(prompt, str | None):
            raise ValueError("`prompt` is no text")
        published = split_prompt(prompt or "") or {}
        return {
            **row,
            "question": row.get("problem"),
            "answer": answer,
            "level": row["answer_type"],
            **_answer_form(row),
            **published,
        }

    kept = []
    for number, row in enumerate(rows, 1):
        if wanted(row):
            try:
                if not isinstance(row.get("answer_type"), str):
                    raise ValueError("`answer_type` is no text")
                if row["answer_type"] not in UNGRADED_ANSWER_TYPES:
                    kept.append(convert(row))
            except ValueError as error:
                raise ValueError(f"{path}: row {number}: {error}; correct it") from None
    if not kept:
        raise ValueError(
            f"{path}: no English problem with a comparable answer in "
            f"{sorted(subjects) if subjects else 'any subject'}; the file has {known}"
        )
    return build_problems(kept, path, optional_answers)


def _answer_form(row: Mapping[str, Any]) -> dict[str, str | None]:
    """`unit` and `parts` of an OlympicArena row, from its lists of units, types and names."""
    units, types, names = (_texts(row, key) for key in ("unit", "type_sequence", "answer_sequence"))
    units = [unit.strip() if unit and unit.strip() else None for unit in units]
    if not types:
        return {"unit": next(filter(None, units), None), "parts": None}
    rest = [None] * len(types)
    parts = [
        {"type": kind, "unit": unit, "name": name}
        for kind, unit, name in zip(types, [*units, *rest], [*names, *rest], strict=False)
    ]
    return {"unit": None, "parts": json.dumps(parts, ensure_ascii=False)}


def _texts(row: Mapping[str, Any], key: str) -> list[str | None]:
    """A column that holds a text, a list of texts and nulls, or nothing."""
    value = row.get(key)
    found = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str | None) for text in found):
        raise ValueError(f"`{key}` is neither text nor a list of texts")
    return found if value is not None else []


def load_table(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    *,
    optional_answers: bool = False,
    optional_solutions: bool = False,
) -> pl.DataFrame:
    """Any table of problems.

    Args:
        columns: column of the file for each of `question`, `answer` and, where there is one, `id`,
            `solution`, `level`, `subject`, `source`; those not named are looked up by these names.
            `answer_type`, `unit`, `parts` and `context` are read if they are named.
        optional_answers: the file may lack the answers' column, even one that is named.
        optional_solutions: the same of the solutions' column.
    """
    columns = dict(columns or {})
    if unknown := sorted(set(columns) - set(PROBLEMS)):
        raise ValueError(f"columns: unknown names {unknown}; known: {list(PROBLEMS)}")
    wanted = {**{name: name for name in PROBLEMS}, **columns}
    rows = read_columns(path, [], wanted.values())
    optional = {"answer": optional_answers, "solution": optional_solutions}
    due = {"question": "question", "answer": "answer", **columns}
    require_columns(rows, path, [due[name] for name in due if not optional.get(name)])
    names = {name: columns.get(name, name) for name in PROBLEMS}
    for name in ("answer_type", "unit", "parts", "context"):  # may well hold something else
        if name not in columns:
            del names[name]
    return build_problems(
        ({name: row.get(column) for name, column in names.items()} for row in rows),
        path,
        optional_answers,
    )


def generate_embedded(
    templates: Collection[int], seed: int, sizes: Mapping[str, int], form: str = "gsm8k"
) -> dict[str, pl.DataFrame]:
    """Splits of the embedded task, with no question twice, cut from one stream in `DRAW_ORDER`.

    Ids are row numbers in the split. `form`: see `embedded_forms.restate`; in each form the same
    word problems stand in the same rows.
    """
    stream = generate_problems(templates, seed)
    splits = {}
    for split in (name for name in DRAW_ORDER if name in sizes):
        rows = [
            {**restate(problem, form, seed), "source": "gsm_symbolic"}
            for problem in islice(stream, sizes[split])
        ]
        splits[split] = build_problems(rows, "gsm_symbolic")
    return splits


def load_task(
    settings: Mapping[str, Any],
    paths: Sequence[str | Path],
    *,
    optional_answers: bool = False,
    optional_solutions: bool = False,
) -> pl.DataFrame:
    """Read the files of one split, one after the other, as a task's config says.

    Args:
        settings: a task of the config; `loader`, `ids`, `columns` and `subjects` count here.
        paths: raw files in order.
        optional_answers: allow a split without any answer (train_2 needs none to be trained on);
            answers that only some rows lack are refused all the same.
        optional_solutions: allow a file without the solutions' column that `columns` names (only
            what teaches gold needs them).

    Raises:
        ValueError: an unreadable or empty file, missing columns, rows without a question or
            answer, ids that repeat; names the file and the first such rows.
    """
    loader, keywords = settings["loader"], {}
    if loader == "table":
        keywords["columns"] = settings.get("columns")
        keywords["optional_solutions"] = optional_solutions
    elif loader == "olympicarena":
        keywords["subjects"] = settings.get("subjects")
    loaders: dict[str, Callable[..., pl.DataFrame]] = {
        "gsm8k": load_gsm8k,
        "math": load_math,
        "olympicarena": load_olympicarena,
        "table": load_table,
    }
    if loader not in loaders:
        raise ValueError(f"loader: {loader!r} reads no files; known readers: {sorted(loaders)}")
    frame = pl.concat(
        loaders[loader](path, optional_answers=optional_answers, **keywords) for path in paths
    )
    if settings.get("ids", "row") == "row":
        return number_rows(frame)
    twice = frame["id"].filter(frame["id"].is_duplicated()).unique(maintain_order=True)
    if len(twice):
        files = ", ".join(str(path) for path in paths)
        raise ValueError(
            f"{files}: ids {twice[:3].to_list()} repeat; set `ids: row` to number the rows"
        )
    return frame


def number_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` with the row number, from 0, as id: how the released GSM8K and MATH files count."""
    return frame.with_columns(id=pl.int_range(pl.len()).cast(pl.String))


def check_suffix(name: str) -> None:
    """Check that a raw file of this name can be read.

    Raises:
        ValueError: says how to convert it.
    """
    kind, packed = _file_kind(Path(name))
    if kind not in SUFFIXES or (packed and kind == ".parquet"):
        ending = Path(name).suffix.lower()
        fix = CONVERSIONS.get(ending, "unpack or convert it, and name it so")
        raise ValueError(f"its name ends in none of {', '.join(SUFFIXES)}; {fix}")


def _file_kind(path: Path) -> tuple[str, bool]:
    """The ending of a raw file in small letters, without `.gz`, and whether `.gz` is there."""
    packed = path.suffix.lower() == ".gz"
    return Path(path.stem if packed else path.name).suffix.lower(), packed


def read_rows(path: str | Path) -> list[dict]:
    """Rows of a file of one of the `SUFFIXES`, in order.

    A .json file is a list of objects, or has one object on each line. All values of .csv and .tsv
    files are texts, and empty fields are missing.

    Raises:
        ValueError: not readable, or empty; names the file (and the line).
    """
    path = Path(path)
    try:
        check_suffix(path.name)
        kind, packed = _file_kind(path)
        if kind == ".parquet":
            rows = pl.read_parquet(path).to_dicts()
        else:
            with (gzip.open if packed else open)(
                path, "rt", encoding="utf-8-sig", newline=""
            ) as file:
                rows = _READERS[kind](file)
    except (*UNREADABLE, ValueError, RecursionError, EOFError, csv.Error) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: cannot read it ({reason})") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path}: not a list of objects")
    if not rows:
        raise ValueError(f"{path}: the file has no rows; put problems into it or name another")
    return rows


def _read_lines(lines: Iterable[str]) -> list:
    rows = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number}: {error}") from error
    return rows


def _read_json(file: TextIO) -> Any:
    """A list of objects, or objects line by line, as some files named .json hold them."""
    text = file.read()
    try:
        return json.loads(text)
    except ValueError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) > 1 and all(line.lstrip().startswith("{") for line in lines):
            return _read_lines(lines)
        raise error


def _read_table(file: TextIO, separator: str) -> list[dict]:
    reader = csv.reader(file, delimiter=separator, strict=True)
    names = next(reader, [])
    if len(set(names)) < len(names):
        raise ValueError(f"line 1: a column's name stands twice in {names}")
    rows = []
    for values in reader:
        if len(values) not in (0, len(names)):
            raise ValueError(
                f"line {reader.line_num}: {len(values)} fields, the first line has {len(names)}"
            )
        if values:
            rows.append({name: value or None for name, value in zip(names, values, strict=True)})
    return rows


_READERS: dict[str, Callable[[TextIO], Any]] = {
    ".jsonl": _read_lines,
    ".ndjson": _read_lines,
    ".json": _read_json,
    ".csv": partial(_read_table, separator=","),
    ".tsv": partial(_read_table, separator="\t"),
}


def read_columns(
    path: str | Path, required: Iterable[str], optional: Iterable[str] = ()
) -> list[dict]:
    """`read_rows` with the columns of these names, that the file may write in other capitals.

    Raises:
        ValueError: as for `read_rows`; a required column is missing, or stands there in two
            spellings.
    """
    rows = read_rows(path)
    columns, required = set().union(*rows), list(required)
    renamed = {}
    for name in dict.fromkeys([*required, *optional]):
        others = sorted(column for column in columns if column.lower() == name.lower())
        if name in columns or not others:
            continue
        if len(others) > 1:
            raise ValueError(f"{path}: columns {others} differ in capitals alone; rename one")
        if others[0] not in renamed:
            renamed[others[0]] = name
            logger.info("%s: column %r is read as %r", path, others[0], name)
    if renamed:
        rows = [{renamed.get(name, name): value for name, value in row.items()} for row in rows]
    require_columns(rows, path, required)
    return rows


def require_columns(rows: list[dict], path: str | Path, required: Iterable[str]) -> set[str]:
    """All columns of `rows`; raises ValueError where a required one is in none of them."""
    columns = set().union(*rows)
    if missing := [name for name in required if name not in columns]:
        raise ValueError(f"{path}: no column {missing}; the file has {sorted(columns)}")
    return columns


def write_value(value: str | int | float | Decimal) -> str:
    """A value as a person writes it: `0.00001` for `1e-05`, `0.3` for `0.30000000000000004`."""
    if not isinstance(value, float | Decimal):
        return str(value)
    number = Decimal(f"{value:.15g}") if isinstance(value, float) else value
    number = number.normalize() if number else Decimal(0)
    if abs(number.adjusted()) >= LONGEST_NUMBER:
        return f"{number:E}".replace("E+", "e").replace("E", "e")
    return f"{number:f}"


def build_problems(
    rows: Iterable[dict], path: str | Path, optional_answers: bool = False
) -> pl.DataFrame:
    """PROBLEMS table of rows with its column names; further keys are ignored.

    A missing id becomes the row number, a missing source the file's name. Questions and solutions
    stay as they are to the letter; answers are stripped.

    Raises:
        ValueError: rows without question or answer, a value that is no text or number, or `parts`
            that `olympicarena_prompts.read_parts` cannot read.
    """
    path = Path(path)
    values: dict[str, list[str | None]] = {name: [] for name in PROBLEMS}
    for number, row in enumerate(rows):
        row = {"source": path.name, **{k: v for k, v in row.items() if v is not None}}
        row.setdefault("id", number)
        for name, column in values.items():
            value = row.get(name)
            if not isinstance(value, (str, int, float, Decimal, type(None))):
                kind = type(value).__name__
                raise ValueError(f"{path}: row {number + 1}: `{name}` is a {kind}, text is due")
            if isinstance(value, float | Decimal) and not math.isfinite(value):
                raise ValueError(f"{path}: row {number + 1}: `{name}` is {value}, no number")
            if name == "parts" and value is not None:
                try:
                    read_parts(str(value))
                except ValueError as error:
                    raise ValueError(f"{path}: row {number + 1}: `parts` is {error}") from None
            column.append(None if value is None else write_value(value))
    try:
        frame = pl.DataFrame(values, schema=PROBLEMS)
    except UnicodeEncodeError as error:
        raise ValueError(f"{path}: text that is not valid Unicode ({error.reason})") from error
    frame = frame.with_columns(pl.col("answer").str.strip_chars())
    for name in ("question", "answer"):
        blank = (frame[name].fill_null("").str.strip_chars() == "").arg_true()
        if name == "answer" and optional_answers and len(blank) == frame.height:
            frame = frame.with_columns(answer=pl.lit(None, pl.String))
        elif len(blank):
            first = ", ".join(str(row + 1) for row in blank[:5])
            raise ValueError(
                f"{path}: {len(blank)} of {frame.height} problems have no {name}; the first are "
                f"rows {first} of those read (from 1); complete these rows or remove them"
            )
    return frame
