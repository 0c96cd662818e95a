"""Readers of the raw files of a task. Each gives a PROBLEMS table (see `tables`)."""

from __future__ import annotations

import csv
import gzip
import json
import logging
import math
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from itertools import islice
from pathlib import Path
from string import ascii_uppercase
from types import MappingProxyType
from typing import Any, TextIO

import polars as pl

from weak_to_strong.data.embedded_forms import restate
from weak_to_strong.data.embedded_task import generate_problems
from weak_to_strong.data.split_names import held_out_first
from weak_to_strong.method.answer_keys import last_boxed
from weak_to_strong.method.flexible_answers import last_box
from weak_to_strong.method.olympicarena_prompts import read_parts, split_prompt
from weak_to_strong.method.prompts import answer_line
from weak_to_strong.tables.files import LFS_POINTER
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
#: Whole numbers up to this one are exact as a float.
LARGEST_EXACT = 2**53
#: Columns that are read where a file has them. Nothing needs them, so one that holds anything but
#: text is left out.
FOUND_BY_NAME = ("id", "level", "subject", "source")
#: Columns that are read only where `columns` names them: others' files mean something else by them.
NAMED_ONLY = ("answer_type", "unit", "parts", "context")


def load_gsm8k(
    path: str | Path,
    *,
    optional_answers: bool = False,
    unneeded: Collection[str] = FOUND_BY_NAME,
) -> pl.DataFrame:
    """GSM8K: rows {question, answer ending in `#### n`}, or {question, solution, answer}.

    The answer is what follows the last `####` on its line. The solution keeps its `<<...>>`
    calculator marks and its last line. A row whose `solution` is null is read in the first form.

    Args:
        path: as for `load_task`.
        optional_answers: as for `load_task`.
        unneeded: as for `build_problems`.

    Raises:
        ValueError: as for `load_task`; no answer has a line `#### ...`.
    """
    rows = read_columns(path, ["question", "answer"], ["solution"])

    def convert(row: dict) -> dict:
        row = {name: value for name, value in row.items() if name not in NAMED_ONLY}
        if row.get("solution") is not None:
            return row
        text = row.get("answer")
        answer = answer_line(text) if isinstance(text, str) else None
        return {**row, "solution": text, "answer": answer}

    converted = [convert(row) for row in rows]
    if not any(row["answer"] for row in converted) and any(row.get("answer") for row in rows):
        raise ValueError(
            f"{path}: no answer has a line `#### ...`; use `loader: table` for answers alone"
        )
    return build_problems(converted, path, optional_answers, unneeded)


def load_math(
    path: str | Path,
    *,
    optional_answers: bool = False,
    unneeded: Collection[str] = FOUND_BY_NAME,
) -> pl.DataFrame:
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
            **{name: value for name, value in row.items() if name not in NAMED_ONLY},
            "id": row.get("unique_id", row.get("id")),
            "question": row.get("problem"),
            "answer": answer,
            "subject": row.get("subject", row.get("type")),
            "level": level.removeprefix("Level ") if isinstance(level, str) else level,
        }

    return build_problems(map(convert, rows), path, optional_answers, unneeded)


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
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str | None) for text in texts):
        raise ValueError(f"`{key}` is neither text nor a list of texts")
    return texts if value is not None else []


def load_table(
    path: str | Path,
    columns: Mapping[str, str | None] | None = None,
    *,
    optional_answers: bool = False,
    optional_solutions: bool = False,
    unneeded: Collection[str] = FOUND_BY_NAME,
) -> pl.DataFrame:
    """Any table of problems.

    Args:
        columns: column of the file for each of `question`, `answer` and, where there is one, `id`,
            `solution`, `level`, `subject`, `source`; those not named are looked up by these names,
            and left out if they hold no text. null leaves one out. `answer_type`, `unit`, `parts`
            and `context` are read if they are named.
        optional_answers: the file may lack the answers' column, even one that is named.
        optional_solutions: the same of the solutions' column.
        unneeded: as for `build_problems`; without those that `columns` names.

    Raises:
        ValueError: as for `load_task`; `columns` leaves out what the split needs.
    """
    columns = dict(columns or {})
    if unknown := sorted(set(columns) - set(PROBLEMS)):
        raise ValueError(f"columns: unknown names {unknown}; known: {list(PROBLEMS)}")
    names = {name: name for name in PROBLEMS if name not in NAMED_ONLY} | columns
    names = {name: column for name, column in names.items() if column is not None}
    rows = read_columns(path, [], names.values())
    optional = {"answer": optional_answers, "solution": optional_solutions}
    needed = [name for name in {"question": "", "answer": "", **columns} if not optional.get(name)]
    for name in ("question", "answer"):
        if name in needed and name not in names:
            raise ValueError(f"{path}: `columns` leaves out `{name}`; name its column")
    require_columns(rows, path, [names[name] for name in needed if name in names])
    unneeded = {*unneeded, *(name for name, may_lack in optional.items() if may_lack)}
    return build_problems(
        ({name: row.get(column) for name, column in names.items()} for row in rows),
        path,
        optional_answers,
        unneeded - columns.keys(),
    )


#: Names of the columns of multiple-choice sets on the Hub: MMLU-Pro, MMLU, ARC, OpenBookQA and
#: the like. The first that a file has counts.
_CHOICE_COLUMNS = {
    "question": ("question", "question_stem"),
    "options": ("options", "choices"),
    "answer": ("answerKey", "answer", "answer_index"),
    "solution": ("cot_content", "solution"),
    "subject": ("category", "subject"),
    "id": ("question_id", "id"),
}


def load_multiple_choice(path: str | Path, *, optional_answers: bool = False) -> pl.DataFrame:
    """Multiple choice: rows {question, options, answer[, solution][, subject]}.

    The options become lines `A: ...` below the question, and the answer a letter. The file's column
    of options holds lists of texts, or mappings {text, label} of lists. Its answer is a letter, a
    label, or the number of an option, counted from 0. Known names of the columns are those of
    MMLU-Pro, MMLU, ARC and OpenBookQA. Without a solution, training on gold teaches the answer
    alone.

    Raises:
        ValueError: as for `load_task`; options that are no list of 2 to 26 texts, or an answer that
            is none of them.
    """
    rows = read_columns(path, [], [name for names in _CHOICE_COLUMNS.values() for name in names])
    columns = set().union(*rows)
    names = {}
    for name, known in _CHOICE_COLUMNS.items():
        found = [column for column in known if column in columns]
        needed = name in ("question", "options") or (name == "answer" and not optional_answers)
        if not found and needed:
            raise ValueError(
                f"{path}: no column of the {name}; the file has {sorted(columns)}; call it "
                f"`{known[0]}`"
            )
        names[name] = found[0] if found else None

    def convert(number: int, row: dict) -> dict:
        value = {name: row.get(column) for name, column in names.items() if column}
        try:
            options, labels = _read_options(value["options"])
            answer = _read_choice(value.get("answer"), labels)
        except ValueError as error:
            raise ValueError(f"{path}: row {number}: {error}") from None
        lines = [
            f"{letter}: {text}" for letter, text in zip(ascii_uppercase, options, strict=False)
        ]
        question = str(value["question"] or "").strip()
        return {
            **{name: value[name] for name in ("id", "subject") if name in value},
            "question": "\n".join([question, *lines]) if question else None,
            "solution": str(value.get("solution") or "").strip().removeprefix("A: "),
            "answer": answer,
        }

    converted = [convert(number, row) for number, row in enumerate(rows, 1)]
    return build_problems(converted, path, optional_answers, FOUND_BY_NAME)


def _read_options(value: Any) -> tuple[list[str], list[str]]:
    """Texts and labels of a question's options."""
    texts, labels = value, None
    if isinstance(value, dict):
        texts, labels = value.get("text"), value.get("label")
    if not isinstance(texts, list) or not all(_is_text(text) for text in texts):
        raise ValueError("its options are no list of texts; write them as a list")
    if not 2 <= len(texts) <= len(ascii_uppercase):
        raise ValueError(f"has {len(texts)} options; give 2 to {len(ascii_uppercase)}")
    if labels is None:
        labels = list(ascii_uppercase[: len(texts)])
    if not isinstance(labels, list) or len(labels) != len(texts):
        raise ValueError("has other labels than options; give one for each")
    return [str(text).strip() for text in texts], [str(label).strip() for label in labels]


def _read_choice(value: Any, labels: list[str]) -> str | None:
    """The letter of the option that an answer names."""
    if value is None or value == "":
        return None
    text = write_value(value).strip()
    if text in labels:
        return ascii_uppercase[labels.index(text)]
    if text.isdecimal() and int(text) < len(labels):
        return ascii_uppercase[int(text)]
    raise ValueError(f"the answer {text!r} is none of its options {', '.join(labels)}; correct it")


def generate_splits(
    stream: Iterator[dict],
    sizes: Mapping[str, int],
    source: str,
    templates: Mapping[str, Collection[int]] = MappingProxyType({}),
) -> dict[str, pl.DataFrame]:
    """Splits cut from a stream of problems, in the order of `split_names.held_out_first`.

    Ids are row numbers in the split.

    Args:
        stream: problems, no question twice.
        sizes: number of rows by split.
        source: where they come from.
        templates: those whose problems a split may have, by split. It leaves out the others.
    """
    splits = {}
    for split in (name for name in held_out_first(sizes) if name in sizes):
        allowed = templates.get(split)
        fitting = (row for row in stream if allowed is None or row["template"] in allowed)
        rows = ({**row, "source": source} for row in islice(fitting, sizes[split]))
        splits[split] = build_problems(rows, source)
    return splits


def generate_embedded(
    templates: Collection[int],
    seed: int,
    sizes: Mapping[str, int],
    form: str = "gsm8k",
    taught: Collection[int] | None = None,
) -> dict[str, pl.DataFrame]:
    """Splits of the embedded task, with no question twice, see `generate_splits`.

    Args:
        templates: numbers of `gsm_symbolic` templates.
        seed: seed of the stream.
        sizes: split -> number of rows.
        form: see `embedded_forms.restate`. In each form the same word problems stand in the same
            rows.
        taught: the templates of train_1; None for all. Other problems of the stream are left out
            there.
    """
    stream = (
        {**restate(problem, form, seed), "template": problem["template"]}
        for problem in generate_problems(templates, seed)
    )
    allowed = {"train_1": taught} if taught else {}
    return generate_splits(stream, sizes, "gsm_symbolic", allowed)


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
    if loader not in ("olympicarena", "multiple_choice") and settings.get("ids") == "given":
        keywords["unneeded"] = [name for name in FOUND_BY_NAME if name != "id"]
    if loader == "table":
        keywords["columns"] = settings.get("columns")
        keywords["optional_solutions"] = optional_solutions
    elif loader == "olympicarena":
        keywords["subjects"] = settings.get("subjects")
    loaders: dict[str, Callable[..., pl.DataFrame]] = {
        "gsm8k": load_gsm8k,
        "math": load_math,
        "multiple_choice": load_multiple_choice,
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
            # A number of 32 bits as it is written, and not as the nearest one of 64 bits.
            single = pl.col(pl.Float32).cast(pl.String).cast(pl.Float64)
            rows = pl.read_parquet(path).with_columns(single).to_dicts()
        else:
            with (gzip.open if packed else open)(
                path, "rt", encoding="utf-8-sig", newline=""
            ) as file:
                rows = _READERS[kind](file)
    except (*UNREADABLE, ValueError, RecursionError, EOFError, zlib.error, csv.Error) as error:
        reason, fix = " ".join(str(error).split()), _fix_contents(path, error)
        if isinstance(error, csv.Error):
            fix = fix or "; close its double quotes"
        raise ValueError(f"{path}: cannot read it ({reason}){fix}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path}: not a list of objects; write one object on each line (.jsonl)")
    if not rows:
        raise ValueError(f"{path}: the file has no rows; put problems into it or name another")
    return rows


def _fix_contents(path: Path, error: BaseException) -> str:
    """What to do with a file that is not what its name says; "" where it is."""
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError:
        return ""
    kind, packed = _file_kind(path)
    if start.startswith(LFS_POINTER):
        return "; it is a pointer of Git LFS, run `git lfs pull` in its repository"
    if packed != start.startswith(b"\x1f\x8b"):
        return "; it is not packed, take .gz from its name" if packed else "; it is packed, add .gz"
    if packed or kind not in SUFFIXES or kind == ".parquet":
        return ""
    if start.startswith(b"PAR1"):
        return "; it is a Parquet file, let its name end in .parquet"
    if start.startswith(b"PK"):
        return "; it is an Excel file or an archive, save its sheet as CSV or unpack it"
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in start[:2]:
        return "; write it as UTF-8 (`iconv -f UTF-16 -t UTF-8 FILE`)"
    if isinstance(error, UnicodeDecodeError):
        return "; write it as UTF-8 (`iconv -f ENCODING -t UTF-8 FILE`)"
    return ""


def _read_lines(lines: Iterable[str]) -> list:
    rows = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                rows.append(json.loads(line, object_pairs_hook=_unique_keys))
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number}: {error}") from error
    return rows


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict:
    """An object of JSON, of which Python would keep the last of two equal keys."""
    read = dict(pairs)
    if len(read) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one row; remove one of them")
    return read


def _read_json(file: TextIO) -> Any:
    """A list of objects, or objects line by line, as some files named .json hold them."""
    text = file.read()
    try:
        return json.loads(text, object_pairs_hook=_unique_keys)
    except ValueError as error:
        # Texts of JSON may hold other signs at which Python ends a line.
        lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
        if len(lines) > 1 and all(line.lstrip().startswith("{") for line in lines):
            return _read_lines(lines)
        raise error


def _read_table(file: TextIO, separator: str) -> list[dict]:
    first = csv.reader(file, delimiter=separator, strict=True)
    header = next(filter(None, first), [])
    # With a space behind each separator, as in `question, "answer"`.
    spaced = any(name.startswith(" ") for name in header)
    names = [name.strip(' "' if spaced else None) for name in header]
    reader = csv.reader(file, delimiter=separator, strict=True, skipinitialspace=spaced)
    fix = "put a field that holds a separator in double quotes"
    if len(names) == 1 and any(sign in names[0] for sign in ";\t|"):
        fix = "separate its fields with commas"
    if len(set(names)) < len(names):
        raise ValueError(f"line 1: a column's name stands twice in {names}")
    rows = []
    for values in reader:
        if len(values) not in (0, len(names)):
            raise ValueError(
                f"line {first.line_num + reader.line_num}: {len(values)} fields, the first line "
                f"has {len(names)}; {fix}"
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
        fix = "name the file's own in `columns` (`loader: table`)"
        if len(columns) == 1 and any(sign in min(columns) for sign in ";\t|"):
            fix = "separate its fields with commas"
        raise ValueError(f"{path}: no column {missing}; the file has {sorted(columns)}; {fix}")
    return columns


def write_value(value: str | int | float | Decimal) -> str:
    """A value as a person writes it: `0.00001` for `1e-05`, `0.3` for `0.30000000000000004`."""
    if not isinstance(value, float | Decimal):
        return str(value)
    if isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST_EXACT:
        return str(int(value))
    number = Decimal(f"{value:.15g}") if isinstance(value, float) else value
    number = number.normalize() if number else Decimal(0)
    if abs(number.adjusted()) >= LONGEST_NUMBER:
        return f"{number:E}".replace("E+", "e").replace("E", "e")
    return f"{number:f}"


#: Types of values that have a text.
_TEXT = (str, int, float, Decimal, type(None))


def _is_text(value: Any) -> bool:
    finite = not isinstance(value, float | Decimal) or math.isfinite(value)
    return isinstance(value, _TEXT) and finite


def build_problems(
    rows: Iterable[dict],
    path: str | Path,
    optional_answers: bool = False,
    unneeded: Collection[str] = (),
) -> pl.DataFrame:
    """PROBLEMS table of rows with its column names; further keys are ignored.

    A missing id becomes the row number, a missing source the file's name. Questions and solutions
    stay as they are to the letter; answers are stripped. Of the columns `unneeded` those that hold
    anything but text and numbers are left out, with a note.

    Raises:
        ValueError: rows without question or answer, a value that is no text or number, or `parts`
            that `olympicarena_prompts.read_parts` cannot read.
    """
    path, rows = Path(path), list(rows)
    dropped = {name for name in unneeded for row in rows if not _is_text(row.get(name))}
    for name in sorted(dropped):
        logger.info("%s: `%s` is left out, as it is neither text nor a number", path, name)
    values: dict[str, list[str | None]] = {name: [] for name in PROBLEMS}
    for number, row in enumerate(rows):
        kept = {k: v for k, v in row.items() if v is not None and k not in dropped}
        row = {"source": path.name, **kept}
        row.setdefault("id", number)
        for name, column in values.items():
            value = row.get(name)
            if not isinstance(value, _TEXT):
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
