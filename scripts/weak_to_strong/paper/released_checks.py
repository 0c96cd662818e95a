"""Checks of the authors' released data against what this project's own functions make of it.

Verdicts, column `ok`:

- `ok`: actual equals expected.
- `FAIL`: actual differs from expected.
- `absent`: a file that the check needs is not there.
- `finding`: the released data themselves deviate from the method, and the check knows how. The
  deviation has the size recorded in `resources/golden_counts.csv`. Where none is recorded, the
  deviating rows are exactly those of a named cause: a question that also stands in train_1, an
  answer that both sides leave empty, padding after the agreeing rows, the responses of another weak
  model, or answers that only the authors' judge accepts. Any other difference is a FAIL.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from weak_to_strong.paper.released import Release, ReleasedChain
from weak_to_strong.paper.released_counts import check_counts
from weak_to_strong.paper.released_outcomes import CHECK_VERDICTS, CHECKS, Golden
from weak_to_strong.paper.released_pairs import check_pairs
from weak_to_strong.paper.released_sets import check_full_weak, check_kept
from weak_to_strong.paper.released_splits import check_outputs, check_splits, find_tasks
from weak_to_strong.tables.aligned_text import align_columns


def check_release(release: Release, golden: Golden) -> pl.DataFrame:
    """Every check of every released file, as CHECKS, sorted by file."""
    rows = [
        (path, "readable", "readable", "broken", "FAIL", reason)
        for path, reason in release.broken.items()
    ]
    for task in find_tasks(release, golden):
        rows += check_splits(release, golden, task)
    for match in release.matches("outputs"):
        rows += check_outputs(release, match[0], match["set"])
    for chain in release.chains():
        rows += _check_chain(release, golden, chain)
    rows += check_counts(release, golden)
    return pl.DataFrame(rows, schema=CHECKS, orient="row").sort("file", maintain_order=True)


def read_checks(path: str | Path) -> pl.DataFrame:
    """Read CHECKS as CSV; numbers stay text."""
    return pl.read_csv(path, schema=CHECKS).fill_null("")


def require_no_failure(checks: pl.DataFrame, path: str | Path) -> None:
    """Refuse checks of which one failed.

    Raises:
        ValueError: one line about the first failed check; names `path`, the file with all checks.
    """
    failed = checks.filter(ok="FAIL")
    if failed.height:
        file, name, expected, actual, _, note = failed.row(0)
        detail = f"expected {expected or '-'}, actual {actual or '-'}{f' ({note})' if note else ''}"
        raise ValueError(
            f"{failed.height} of {checks.height} checks failed, all in {path}; the first is "
            f"`{name}` of {file}: {detail}"
        )


def summarise_checks(checks: pl.DataFrame) -> str:
    """A text: a table of the number of files by check and verdict, then all findings."""
    groups = checks.group_by("check", "ok").len()
    counts = {(check, verdict): count for check, verdict, count in groups.iter_rows()}
    names = sorted(checks["check"].unique())
    lines = [["check", *CHECK_VERDICTS]]
    for name in names:
        lines.append([name, *(str(counts.get((name, verdict), 0)) for verdict in CHECK_VERDICTS)])
    total = [str(checks.filter(ok=verdict).height) for verdict in CHECK_VERDICTS]
    lines.append(["all", *total])
    text = align_columns(lines, left_columns=1)
    for file, name, expected, actual, _, note in checks.filter(ok="finding").iter_rows():
        text += ["", f"{file}", f"  {name}: expected {expected}, actual {actual}", f"  {note}"]
    return "\n".join(text) + "\n"


def _check_chain(release: Release, golden: Golden, chain: ReleasedChain) -> list[tuple[str, ...]]:
    """Training files of one weak model on one task."""
    counted = {file for file, _ in golden}
    known = {*release.paths, *release.broken, *counted}
    last = release.iterations(chain, counted)
    rows = check_full_weak(release, chain)
    for iteration in range(1, last + 1):
        rows += check_kept(release, golden, chain, iteration)
        pairs = chain.path("hybrid_paired", iteration)
        if pairs in known or iteration == last:
            rows += check_pairs(release, golden, chain, pairs)
    return rows
