"""One check of a released file: what it expects, what it finds, and its verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from weak_to_strong.paper.released import Release, dump_json

#: check.csv: one row for each check of a file.
CHECKS = pl.Schema(
    dict.fromkeys(("file", "check", "expected", "actual", "ok", "note"), pl.String())
)
CHECK_VERDICTS = ("ok", "FAIL", "absent", "finding")
#: resources/golden_counts.csv: a figure of a released file, and where it is from.
GOLDEN = pl.Schema(
    {"file": pl.String, "count": pl.String, "expected": pl.Int64, "source": pl.String}
)

#: (file, count) -> (figure, source)
Golden = Mapping[tuple[str, str], tuple[int, str]]


@dataclass(frozen=True)
class Outcome:
    """Result of a check.

    Attributes:
        expected, actual: equal if the file is as expected.
        note: what a reader needs to know.
        finding: where the two differ, the deviation is a known one and no failure.
    """

    expected: str
    actual: str
    note: str = ""
    finding: bool = False


class AbsentError(Exception):
    """A check that cannot be made; says what it needs."""


def read_golden(path: str | Path) -> Golden:
    """Read GOLDEN.

    Raises:
        ValueError: other columns, or a figure that stands twice; names the file.
    """
    try:
        frame = pl.read_csv(path, schema=GOLDEN)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{path}: needs the columns {', '.join(GOLDEN)} ({error})") from error
    if frame.select("file", "count").is_duplicated().any():
        raise ValueError(f"{path}: a count of a file stands twice")
    return {row[:2]: row[2:] for row in frame.iter_rows()}


def run_check(
    release: Release,
    file: str,
    name: str,
    needs: Iterable[str],
    compute: Callable[[], Outcome],
) -> tuple[str, ...]:
    """A row of CHECKS: absent if a needed file is, FAIL if our functions refuse the data.

    Args:
        release: the files that there are.
        file, name: file and name of the check.
        needs: files without which the check cannot be made.
        compute: makes the check; may raise AbsentError for a further file.
    """
    missing = sorted({path for path in needs if not release.has(path)})
    try:
        if missing:
            raise AbsentError(", ".join(missing))
        outcome = compute()
    except AbsentError as error:
        return file, name, "", "", "absent", f"needs {error}"
    except ValueError as error:
        return file, name, "", "", "FAIL", str(error).replace("\n", " ")
    verdict = "FAIL"
    if outcome.actual == outcome.expected:
        verdict = "ok"
    elif outcome.finding:
        verdict = "finding"
    return file, name, outcome.expected, outcome.actual, verdict, outcome.note


def compare_rows(
    release: Release,
    path: str,
    expected: list[dict],
    dump: Callable[[list[dict]], str] = dump_json,
) -> Outcome:
    """Rows of a file against the expected ones, in order, by the columns of the expected ones."""
    columns = list(expected[0])
    actual = [{name: row.get(name) for name in columns} for row in release.rows(path)]
    pairs = enumerate(zip(expected, actual, strict=False))
    places = [place for place, (one, other) in pairs if one != other]
    equal = min(len(expected), len(actual)) - len(places)
    if actual == expected:
        exact = dump(expected) == release.text(path)
        return Outcome(f"{len(expected)}", f"{equal}", "byte for byte" if exact else "row for row")
    note = f"{len(actual)} rows where {len(expected)} are expected"
    if places:
        one, other = expected[places[0]], actual[places[0]]
        differing = ", ".join(name for name in columns if one[name] != other[name])
        note = f"first difference: row {places[0]}, {differing}; {note}"
    count = f"{equal}" if equal < len(expected) else f"{equal} of {len(actual)}"
    return Outcome(f"{len(expected)}", count, note)


def all_hold(flags: Sequence[bool], names: Sequence[str], note: str = "") -> Outcome:
    """Expect that all of `flags` hold; the note names the first that does not."""
    failed = [name for name, flag in zip(names, flags, strict=True) if not flag]
    return Outcome(f"{len(flags)}", f"{sum(flags)}", f"not id {failed[0]}" if failed else note)


def deviation(actual: int, recorded: tuple[int, str] | None, note: str) -> Outcome:
    """A count that is 0 by the method: a finding if it is the recorded one or none is recorded."""
    if recorded and actual != recorded[0]:
        return Outcome(f"{recorded[0]}", f"{actual}", f"recorded: {recorded[1]}")
    return Outcome("0", f"{actual}", note if actual else "", finding=actual > 0)
