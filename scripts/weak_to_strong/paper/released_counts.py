"""Counts of the released files against those in `resources/golden_counts.csv`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from weak_to_strong.method.agreement import agreement_filter
from weak_to_strong.method.answers import normalise_answer
from weak_to_strong.paper.released import Release, ReleasedChain, row_ids
from weak_to_strong.paper.released_outcomes import AbsentError, Golden, Outcome, run_check

#: Count of questions in GOLDEN, before the name of their subject.
_OF_SUBJECT = "of "


def check_counts(release: Release, golden: Golden) -> list[tuple[str, ...]]:
    """The figures of `golden` that are no deviations; those stand with the check of their cause."""
    rows = []
    for (path, name), (expected, source) in golden.items():
        counting = _COUNTS.get(name)
        if name.startswith(_OF_SUBJECT):
            counting = partial(_count_subject, subject=name.removeprefix(_OF_SUBJECT))
        if counting is None:
            continue

        recorded = Outcome(f"{expected}", "", source)

        def count(
            path: str = path, counting: _Count = counting, recorded: Outcome = recorded
        ) -> Outcome:
            return replace(recorded, actual=f"{counting(release, path)}")

        rows.append(run_check(release, path, f"count: {name}", [path], count))
    return rows


def _count_subject(release: Release, path: str, subject: str) -> int:
    """OlympicArena's ids begin with their subject."""
    return sum(name.startswith(f"{subject}_") for name in row_ids(release.rows(path)))


def _count_weak_chosen(release: Release, path: str) -> int:
    chain = _chain_of(release, path)
    texts, rows = release.weak_texts(chain), release.rows(path)
    if not set(row_ids(rows)) <= texts.keys():
        raise AbsentError(chain.path("full_weak"))
    return sum(row["output"][0] == texts[str(row["id"])] for row in rows)


def _chain_of(release: Release, path: str) -> ReleasedChain:
    return next(chain for chain in release.chains() if path.startswith(f"{chain.stem}_"))


def _count_correct(release: Release, path: str) -> int:
    chain = _chain_of(release, path)
    problems_file = release.questions_path(chain)
    if not release.has(problems_file):
        raise AbsentError(problems_file)
    answers = release.problems(problems_file).select("id", "answer")
    gold = {name: normalise_answer(answer) for name, answer in answers.iter_rows()}
    labels = release.labels(path).select("id", "prediction")
    return sum(gold.get(name) == answer for name, answer in labels.iter_rows())


def _count_agreeing(release: Release, path: str) -> int:
    icl = path.replace("_weak.json", "_icl.json")
    if not release.has(icl):
        raise AbsentError(icl)
    weak = release.labels(path)
    return agreement_filter(weak, release.labels(icl), keep_empty=True).height


#: (release, path of a file) -> a figure of the file
_Count = Callable[[Release, str], int]
_COUNTS: dict[str, _Count] = {
    "rows": lambda release, path: len(release.rows(path)),
    "questions": lambda release, path: len(set(row_ids(release.rows(path)))),
    "empty": lambda release, path: release.labels(path).filter(prediction="").height,
    "correct": _count_correct,
    "agreeing": _count_agreeing,
    "weak chosen": _count_weak_chosen,
}
