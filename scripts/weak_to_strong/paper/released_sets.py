"""Checks of the released training sets of one weak model: all weak labels, and kept rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import pairwise

import polars as pl

from weak_to_strong.evaluation.judges import question_judge
from weak_to_strong.method.agreement import agreement_filter
from weak_to_strong.method.answers import Judge, normalise_answer, string_judge
from weak_to_strong.method.olympicarena_prompts import WORDINGS
from weak_to_strong.method.training_sets import export_llama_factory_sft, sft_rows
from weak_to_strong.paper.released import Release, ReleasedChain, all_prompts, prompt_style, row_ids
from weak_to_strong.paper.released_outcomes import (
    AbsentError,
    Golden,
    Outcome,
    all_hold,
    compare_rows,
    deviation,
    run_check,
)
from weak_to_strong.paper.released_splits import check_recorded
from weak_to_strong.tables.schemas import KEPT, QUESTIONS

#: Columns of a training file that are compared; padded MATH files have more.
_ROW = ("id", "content", "output")


def check_full_weak(release: Release, chain: ReleasedChain) -> list[tuple[str, ...]]:
    """Rows of CHECKS of the file with all weak labels of train_2."""
    path, questions = chain.path("full_weak"), release.questions_path(chain)
    outputs = release.outputs_path(chain)

    def compare(labels: pl.DataFrame) -> Outcome:
        return compare_rows(
            release, path, _export(release, chain, "weak_labels", weak_labels=labels)
        )

    def from_outputs() -> Outcome:
        return compare(release.labels(outputs))

    def all_questions() -> Outcome:
        table, labels = release.questions(chain), release.labels(path)
        if labels["id"].to_list() != table["id"].to_list():
            note = "not the questions of train_2 in their order"
            return Outcome(f"{table.height}", f"{labels.height} others", note)
        return compare(labels)

    rows = [
        run_check(release, path, "from weak outputs", [path, outputs, questions], from_outputs),
        run_check(release, path, "prompts", [path, questions], all_questions),
    ]
    if not release.has(outputs):  # outputs that are here have checks of their own
        for name in ("recorded predictions", "recorded results", "prompts", "gold"):
            rows.append(run_check(release, outputs, name, [outputs], lambda: Outcome("", "")))
    return rows


def _export(
    release: Release, chain: ReleasedChain, kind: str, **tables: pl.DataFrame
) -> list[dict]:
    """Rows of a training file that `sft_rows` makes of `tables` and the questions of train_2."""
    questions = release.questions(chain)
    rows = sft_rows(kind, prompt=prompt_style(questions), questions=questions, **tables)
    return export_llama_factory_sft(rows)


def check_kept(
    release: Release, golden: Golden, chain: ReleasedChain, iteration: int
) -> list[tuple[str, ...]]:
    """Rows of CHECKS of the weak, ICL and hybrid file of one Stage I iteration."""
    kept = _KeptFiles(release, golden, chain, iteration)
    weak, icl, hybrid = kept.files
    rows = []
    # In later iterations the weak side is a strong model, whose other answers are not released.
    if iteration == 1:
        for side, path in (("weak", weak), ("icl", icl)):
            needs = [path, icl, kept.source, release.questions_path(chain)]
            check = partial(kept.from_weak_outputs, side, path)
            rows.append(run_check(release, path, "from weak outputs", needs, check))
    first = kept.source if iteration == 1 and release.has(kept.source) else weak
    interleaved = partial(_compare_hybrid, release, chain, (first, icl, hybrid))
    rows += [
        run_check(release, icl, "agrees with weak rows", [icl, weak], kept.agreement),
        run_check(release, weak, "no empty answers", [weak, icl], kept.no_empty_answers),
        run_check(release, hybrid, "from weak and ICL rows", [first, icl, hybrid], interleaved),
    ]
    if release.has(icl) and release.questions_asked(icl).height:
        rows.append(run_check(release, icl, "released judge", [icl, weak], kept.released_judge))
    rows += [check_prompts(release, chain, path) for path in kept.files]
    rows.append(run_check(release, weak, "order of train_2", [weak], kept.order))
    rows += _check_padding(release, chain, iteration)
    for path in kept.files:
        if release.has(path) and any("pred" in row for row in release.rows(path)):
            rows += check_recorded(release, path)
    return rows


class _KeptFiles:
    """The files of one Stage I iteration, and checks of them as methods that give their Outcome."""

    def __init__(
        self, release: Release, golden: Golden, chain: ReleasedChain, iteration: int
    ) -> None:
        self.release, self.golden, self.chain = release, golden, chain
        self.files = [chain.path(side, iteration) for side in ("weak", "icl", "hybrid")]
        self.weak, self.icl, _ = self.files
        self.source = release.weak_source(chain)

    @property
    def sides(self) -> _KeptSet:
        return _filter(self.release, self.chain, self.weak, self.icl)

    def from_weak_outputs(self, side: str, path: str) -> Outcome:
        kept = _filter(self.release, self.chain, self.source, self.icl).kept
        expected = _export(self.release, self.chain, f"kept_{side}", kept=kept)
        outcome = compare_rows(self.release, path, expected)
        return replace(outcome, note=f"{outcome.note}; from {self.source}")

    def agreement(self) -> Outcome:
        sides = self.sides
        weak, icl = (self.release.labels(path)["id"].to_list() for path in (self.weak, self.icl))
        actual = f"{sides.agreeing}" if weak == icl else f"{sides.agreeing}, in another order"
        if weak == icl and sides.padded:
            note = f"padded: the last {sides.rows - sides.agreeing} rows all disagree"
            return Outcome(f"{sides.rows}", actual, note, finding=True)
        return Outcome(f"{sides.rows}", actual)

    def released_judge(self) -> Outcome:
        lenient = self.sides.lenient
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(lenient.items()))
        note = f"only the quirk `released_judge` accepts these: {kinds}"
        recorded = self.golden.get((self.icl, "released judge"))
        return deviation(sum(lenient.values()), recorded, note)

    def no_empty_answers(self) -> Outcome:
        count = self.sides.kept.filter(prediction="").height
        note = "kept although neither side gives an answer"
        return deviation(count, self.golden.get((self.weak, "kept empty")), note)

    def order(self) -> Outcome:
        ids = row_ids(self.release.rows(self.weak))
        places = places_in_train_2(self.release, self.chain, ids)
        try:
            if self.release.has(self.icl) and self.sides.padded:
                ids = ids[: self.sides.agreeing]  # padding has no order
        except ValueError:  # the sides do not fit; that has a check of its own
            pass
        flags = [places.get(a, -1) < places.get(b, -1) for a, b in pairwise(ids)]
        return all_hold(flags, ids[1:])


@dataclass(frozen=True)
class _KeptSet:
    """What the filter makes of a weak and an ICL side.

    Attributes:
        kept: KEPT; rows of padding follow, their `prediction` null.
        agreeing: number of rows before the padding.
        rows: number of rows of the ICL side.
        lenient: kind of answer -> agreeing rows that only the authors' judge accepts
            (`_judge_as_released`).
    """

    kept: pl.DataFrame
    agreeing: int
    rows: int
    lenient: Mapping[str, int]

    @property
    def padded(self) -> bool:
        return self.kept.height > self.agreeing


@lru_cache(maxsize=8)
def _filter(release: Release, chain: ReleasedChain, weak_path: str, icl_path: str) -> _KeptSet:
    """Run the agreement filter on the questions of the ICL side.

    Rows on which the sides disagree are padding if they follow all agreeing rows and leave the
    order of train_2, as drawn rows do: a changed answer of a kept row does not look like that.
    """
    icl, weak = release.labels(icl_path), release.labels(weak_path)
    weak = weak.filter(pl.col("id").is_in(icl["id"].to_list()))
    lenient: Counter[str] = Counter()
    judge = _judge_as_released(release.questions_asked(icl_path), lenient)
    kept = agreement_filter(weak, icl, keep_empty=True, judge=judge)
    unpadded = _KeptSet(kept, kept.height, icl.height, lenient)
    try:
        places = places_in_train_2(release, chain, icl["id"].to_list())
    except AbsentError:  # without an order, padding cannot be told from other rows
        return unpadded
    order = [places.get(name, -1) for name in icl["id"]]
    if icl["id"].head(kept.height).to_list() != kept["id"].to_list() or order == sorted(order):
        return unpadded
    padding = icl.slice(kept.height).select("id", icl_response="response")
    padding = padding.join(
        weak.select("id", weak_response="response"), on="id", maintain_order="left"
    )
    padding = padding.with_columns(pl.lit(None, pl.String).alias("prediction"))
    return replace(unpadded, kept=pl.concat([kept, padding.select(KEPT.names())]))


def _judge_as_released(questions: pl.DataFrame, lenient: Counter[str]) -> Judge:
    """The judge by which the released rows of a task agree.

    For GSM8K and MATH it is string equality. For OlympicArena it is the task's own judge. What this
    judge does not accept goes to the judge with the quirk `released_judge`, and then to string
    equality; the rows that these accept are counted in `lenient`, by kind of answer.
    """
    if questions.is_empty():
        return string_judge
    kinds = dict(questions.select("id", "answer_type").iter_rows())
    strict, released = question_judge(questions), question_judge(questions, released_judge=True)

    def compare(rows: Sequence[tuple[str, str, str]]) -> list[str]:
        verdicts = strict(rows)
        places = [place for place, verdict in enumerate(verdicts) if verdict != "right"]
        for place, verdict in zip(places, released([rows[i] for i in places]), strict=True):
            name, weak, icl = rows[place]
            if verdict == "right":
                lenient[WORDINGS[kinds[name]].name] += 1
            elif normalise_answer(weak) == normalise_answer(icl):
                lenient["equal text"] += 1
            else:
                continue
            verdicts[place] = "right"
        return verdicts

    return compare


def places_in_train_2(release: Release, chain: ReleasedChain, ids: Sequence[str]) -> dict[str, int]:
    """Id -> place in train_2; GSM8K's and MATH's ids say it themselves.

    Raises:
        AbsentError: the release has no questions of this chain, and the ids are no numbers.
    """
    if release.has(path := release.questions_path(chain)):
        return {name: i for i, name in enumerate(release.problems(path)["id"])}
    if all(name.isdecimal() for name in ids):
        return {name: int(name) for name in ids}
    raise AbsentError(path)


def _compare_hybrid(release: Release, chain: ReleasedChain, files: Sequence[str]) -> Outcome:
    """The hybrid file of `files` against the rows that its weak and its ICL file give in turn."""
    weak, icl, hybrid = files
    kept = _filter(release, chain, weak, icl).kept
    if release.has(release.questions_path(chain)):
        return compare_rows(release, hybrid, _export(release, chain, "kept_hybrid", kept=kept))
    # Without the questions, prompts are compared with those of the ICL rows.
    contents = {str(row["id"]): row["content"] for row in release.rows(icl)}
    table = pl.DataFrame([{"id": name, "question": "?"} for name in contents], schema=QUESTIONS)
    rows = export_llama_factory_sft(sft_rows("kept_hybrid", questions=table, kept=kept))
    rows = [{**row, "content": contents[str(row["id"])]} for row in rows]
    return compare_rows(release, hybrid, rows)


def check_prompts(release: Release, chain: ReleasedChain, path: str) -> tuple[str, ...]:
    """Each row asks the question of train_2 that its id names."""
    questions = release.questions_path(chain)

    def prompts() -> Outcome:
        expected, rows = all_prompts(release.questions(chain)), release.rows(path)
        flags = [
            row.get("content", row.get("instruction")) == expected.get(str(row["id"]))
            for row in rows
        ]
        return all_hold(flags, row_ids(rows))

    return run_check(release, path, "prompts", [path, questions], prompts)


def _check_padding(release: Release, chain: ReleasedChain, iteration: int) -> list[tuple[str, ...]]:
    """A padded file starts with the rows of the file that has no padding (`_wo_aug`)."""
    sides = ("weak", "icl", "hybrid")
    files = [chain.path(side, iteration, unpadded=True) for side in sides]
    if not any(map(release.has, files)):
        return []
    rows = []
    for side, unpadded in zip(sides, files, strict=True):
        padded = chain.path(side, iteration)
        head = partial(_compare_head, release, unpadded, padded)
        rows.append(run_check(release, unpadded, "head of padded file", [unpadded, padded], head))
    interleaved = partial(_compare_hybrid, release, chain, files)
    rows.append(run_check(release, files[-1], "from weak and ICL rows", files, interleaved))
    return rows


def _compare_head(release: Release, unpadded: str, padded: str) -> Outcome:
    short, long = release.rows(unpadded), release.rows(padded)
    if len(short) > len(long):
        return Outcome(f"{len(short)}", f"{len(long)}", "the padded file is shorter")
    flags = [
        all(row[name] == head[name] for name in _ROW)
        for row, head in zip(short, long, strict=False)
    ]
    return all_hold(flags, row_ids(short))
