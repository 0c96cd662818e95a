"""Checks of the authors' released data against what this project's own functions make of it.

Verdicts, column `ok`:

- `ok`: actual equals expected.
- `FAIL`: it does not.
- `absent`: a file that the check needs is not there; nothing is said.
- `finding`: the released data themselves deviate from the method, and the check knows how. The
  deviation has the size recorded in `resources/golden_counts.csv`. Where none is recorded, the
  deviating rows are exactly those of a named cause: a question that also stands in train_1, an
  answer that both sides leave empty, padding after the agreeing rows, the responses of another weak
  model, or answers that only the authors' judge accepts. Any other difference is a FAIL.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import groupby, pairwise
from pathlib import Path

import polars as pl

from weak_to_strong.data.contamination import find_matches
from weak_to_strong.data.splits import withhold_gold
from weak_to_strong.evaluation.judges import question_judge
from weak_to_strong.method.agreement import agreement_filter
from weak_to_strong.method.answers import Judge, normalise_answer, predict_column, string_judge
from weak_to_strong.method.majority_vote import majority_vote
from weak_to_strong.method.olympicarena_prompts import WORDINGS
from weak_to_strong.method.pairs import build_pairs
from weak_to_strong.method.prompts import problem_prompts
from weak_to_strong.method.training_sets import (
    export_llama_factory_pairs,
    export_llama_factory_sft,
    sft_rows,
)
from weak_to_strong.paper.released import (
    Chain,
    Release,
    dump_json,
    dump_json_lines,
    export_test_rows,
    find_answer_key,
    read_set_name,
    row_ids,
)
from weak_to_strong.tables.schemas import KEPT, QUESTIONS

#: check.csv: one row a check of a file.
CHECKS = pl.Schema(
    dict.fromkeys(("file", "check", "expected", "actual", "ok", "note"), pl.String())
)
VERDICTS = ("ok", "FAIL", "absent", "finding")
#: resources/golden_counts.csv: a figure of a released file, and where it is from.
GOLDEN = pl.Schema(
    {"file": pl.String, "count": pl.String, "expected": pl.Int64, "source": pl.String}
)
#: Most pairs of a question (paper, Stage II); other tasks have 3.
PAIRS_PER_QUESTION = {"gsm8k": 1}
#: Columns of a training file that are compared; padded MATH files have more.
_ROW = ("id", "content", "output")

#: Count of pairs in GOLDEN, before the name of the weak model whose responses they have.
_MADE_WITH = "made with "
#: Count of questions in GOLDEN, before the name of their subject.
_OF_SUBJECT = "of "

#: (file, count) -> (figure, source)
Golden = Mapping[tuple[str, str], tuple[int, str]]


@dataclass(frozen=True)
class _Outcome:
    expected: str
    actual: str
    note: str = ""
    finding: bool = False


class _AbsentError(Exception):
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


def check_release(release: Release, golden: Golden) -> pl.DataFrame:
    """Every check of every released file, as CHECKS, sorted by file."""
    rows = [
        (path, "readable", "readable", "broken", "FAIL", reason)
        for path, reason in release.broken.items()
    ]
    for task in _tasks(release, golden):
        rows += _check_splits(release, golden, task)
    for found in release.matches("outputs"):
        rows += _check_outputs(release, found[0], found["set"])
    for chain in release.chains():
        rows += _check_chain(release, golden, chain)
    rows += _check_counts(release, golden)
    return pl.DataFrame(rows, schema=CHECKS, orient="row").sort("file", maintain_order=True)


def read_checks(path: str | Path) -> pl.DataFrame:
    """Read CHECKS as CSV; numbers stay text."""
    return pl.read_csv(path, schema=CHECKS).fill_null("")


def require_no_failure(checks: pl.DataFrame, path: str | Path) -> None:
    """Raise ValueError, one line, where a check failed; `path` is where all of them are."""
    failed = checks.filter(ok="FAIL")
    if failed.height:
        file, name, expected, actual, _, note = failed.row(0)
        detail = f"expected {expected or '-'}, actual {actual or '-'}{f' ({note})' if note else ''}"
        raise ValueError(
            f"{failed.height} of {checks.height} checks failed, all in {path}; the first is "
            f"`{name}` of {file}: {detail}"
        )


def summarise_checks(checks: pl.DataFrame) -> str:
    """A text table: how many files each check found ok, FAIL, absent or finding; the findings."""
    counts = checks.group_by("check", "ok").len()
    found = {(check, verdict): count for check, verdict, count in counts.iter_rows()}
    names = sorted(checks["check"].unique())
    lines = [["check", *VERDICTS]]
    for name in names:
        lines.append([name, *(str(found.get((name, verdict), 0)) for verdict in VERDICTS)])
    total = [str(checks.filter(ok=verdict).height) for verdict in VERDICTS]
    lines.append(["all", *total])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = []
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        text.append("  ".join(cells))
    for file, name, expected, actual, _, note in checks.filter(ok="finding").iter_rows():
        text += ["", f"{file}", f"  {name}: expected {expected}, actual {actual}", f"  {note}"]
    return "\n".join(text) + "\n"


# --- one check -----------------------------------------------------------------------------


def _check(
    release: Release,
    file: str,
    name: str,
    needs: Iterable[str],
    compute: Callable[[], _Outcome],
) -> tuple[str, ...]:
    """A row of CHECKS: absent where a needed file is, FAIL where our functions refuse the data."""
    missing = sorted({path for path in needs if not release.has(path)})
    try:
        if missing:
            raise _AbsentError(", ".join(missing))
        outcome = compute()
    except _AbsentError as error:
        return file, name, "", "", "absent", f"needs {error}"
    except ValueError as error:
        return file, name, "", "", "FAIL", str(error).replace("\n", " ")
    verdict = "FAIL"
    if outcome.actual == outcome.expected:
        verdict = "ok"
    elif outcome.finding:
        verdict = "finding"
    return file, name, outcome.expected, outcome.actual, verdict, outcome.note


def _compare(
    release: Release,
    path: str,
    due: list[dict],
    dump: Callable[[list[dict]], str] = dump_json,
) -> _Outcome:
    """Rows of a file against those due, place by place."""
    columns = list(due[0])
    found = [{name: row.get(name) for name in columns} for row in release.rows(path)]
    places = [i for i, pair in enumerate(zip(due, found, strict=False)) if pair[0] != pair[1]]
    equal = min(len(due), len(found)) - len(places)
    if found == due:
        exact = dump(due) == release.text(path)
        return _Outcome(f"{len(due)}", f"{equal}", "byte for byte" if exact else "row for row")
    note = f"{len(found)} rows where {len(due)} are due"
    if places:
        odd = [name for name in columns if due[places[0]][name] != found[places[0]][name]]
        note = f"first difference: row {places[0]}, {', '.join(odd)}; {note}"
    actual = f"{equal}" if equal < len(due) else f"{equal} of {len(found)}"
    return _Outcome(f"{len(due)}", actual, note)


def _tally(flags: Sequence[bool], names: Sequence[str], note: str = "") -> _Outcome:
    """All of `flags` are due to hold; the note names the first that does not."""
    odd = [name for name, flag in zip(names, flags, strict=True) if not flag]
    return _Outcome(f"{len(flags)}", f"{sum(flags)}", f"not id {odd[0]}" if odd else note)


def _deviation(actual: int, recorded: tuple[int, str] | None, note: str) -> _Outcome:
    """A count that the method has at 0: a finding with the recorded figure, or none recorded."""
    if recorded and actual != recorded[0]:
        return _Outcome(f"{recorded[0]}", f"{actual}", f"recorded: {recorded[1]}")
    return _Outcome("0", f"{actual}", note if actual else "", finding=actual > 0)


# --- splits and recorded outputs -------------------------------------------------------------


def _tasks(release: Release, golden: Golden) -> list[str]:
    """Tasks that some split, or a figure of one, is known of."""
    found = {match["task"] for kind in ("splits", "gold") for match in release.matches(kind)}
    found |= {read_set_name(match["name"])[0] for match in release.matches("tests")}
    trained = {chain.task for chain in release.chains()}
    return sorted(
        found | {task for task in trained if any(f"/raw/{task}/" in k[0] for k in golden)}
    )


def _check_splits(release: Release, golden: Golden, task: str) -> list[tuple[str, ...]]:
    rows = []

    def raw(split: str) -> str:
        return f"data/raw/{task}/{split}.jsonl"

    for split in ("train_1", "train_2"):
        path = f"data/llama_factory/{task}/{task}_{split}.json"

        def gold_rows(path: str = path, split: str = split) -> _Outcome:
            problems = release.problems(raw(split))
            key = find_answer_key(row["output"] for row in release.rows(path))
            questions, gold = withhold_gold(problems)
            tables = {"problems": problems} if split == "train_1" else {}
            tables |= {"questions": questions, "gold": gold} if split == "train_2" else {}
            due = sft_rows(f"gold_{split}", answer_key=key, **tables)
            return _compare(release, path, export_llama_factory_sft(due))

        rows.append(_check(release, path, "from raw", [path, raw(split)], gold_rows))

    for name, split in ((task, "test"), (f"{task}_train_2", "train_2")):
        path = f"data/test/{name}.jsonl"

        def test_rows(path: str = path, name: str = name, split: str = split) -> _Outcome:
            columns = set().union(*release.rows(raw(split)))
            ids = "given" if "unique_id" in columns else "row"
            due = export_test_rows(release.problems(raw(split), ids=ids), name)
            return _compare(release, path, due, dump_json_lines)

        rows.append(_check(release, path, "from raw", [path, raw(split)], test_rows))

    def overlap() -> _Outcome:
        splits = {name: release.problems(raw(name)) for name in ("train_1", "train_2")}
        found = find_matches(splits, "exact")
        found = found.filter(pl.col("split") > pl.col("other"))["row"].unique().sort()
        first = ", ".join(splits["train_2"]["id"].gather(found.head(3)))
        note = f"these questions also stand in train_1, the first are ids {first}"
        return _deviation(len(found), golden.get((raw("train_2"), "overlap")), note)

    needs = [raw("train_1"), raw("train_2")]
    rows.append(_check(release, raw("train_2"), "not in train_1", needs, overlap))
    return rows


def _check_outputs(release: Release, path: str, name: str) -> list[tuple[str, ...]]:
    """Recorded outputs: what our extraction makes of the responses, and what they answer."""
    task, split = read_set_name(name)
    problems = release.problems_path(task, split) or f"data/raw/{task}/{split}.jsonl"

    def prompts() -> _Outcome:
        due, rows = _prompts(release.problems(problems)), release.rows(path)
        ids = row_ids(rows)
        if ids != list(due):
            return _Outcome(f"{len(due)} questions", f"{len(ids)} others", "ids differ")
        # Demonstrations may stand before it.
        flags = [row["prompt"].endswith(due[str(row["id"])]) for row in rows]
        return _tally(flags, ids)

    def gold() -> _Outcome:
        answers = release.problems(problems).select("id", "answer")
        due = {name: normalise_answer(answer) for name, answer in answers.iter_rows()}
        rows = release.rows(path)
        flags = [normalise_answer(row["gold"]) == due.get(str(row["id"])) for row in rows]
        return _tally(flags, row_ids(rows))

    return [
        *_check_recorded(release, path),
        _check(release, path, "prompts", [path, problems], prompts),
        _check(release, path, "gold", [path, problems], gold),
    ]


def _check_recorded(release: Release, path: str) -> list[tuple[str, ...]]:
    """Recorded `pred` and `result` of a file, from its responses and its recorded gold."""

    def predictions() -> _Outcome:
        rows, found = release.rows(path), release.labels(path)["prediction"]
        flags = [ours == row.get("pred") for ours, row in zip(found, rows, strict=True)]
        return _tally(flags, row_ids(rows))

    def results() -> _Outcome:
        rows, found = release.rows(path), release.labels(path)["prediction"]
        flags = [
            (ours == normalise_answer(row.get("gold") or "")) == row.get("result")
            for ours, row in zip(found, rows, strict=True)
        ]
        return _tally(flags, row_ids(rows))

    return [
        _check(release, path, "recorded predictions", [path], predictions),
        _check(release, path, "recorded results", [path], results),
    ]


# --- training sets ---------------------------------------------------------------------------


def _check_chain(release: Release, golden: Golden, chain: Chain) -> list[tuple[str, ...]]:
    """Training files of one weak model on one task."""
    known = {*release.paths, *release.broken, *(file for file, _ in golden)}
    iterations = [
        k for k in range(1, 10) if any(f"{chain.stem}_iter{k}_" in path for path in known)
    ]
    rows = _check_full_weak(release, chain)
    for iteration in range(1, max(iterations, default=1) + 1):
        rows += _check_kept(release, golden, chain, iteration)
        pairs = chain.path("hybrid_paired", iteration)
        if pairs in known or iteration == max(iterations, default=1):
            rows += _check_pairs(release, golden, chain, pairs)
    return rows


def _questions_path(release: Release, chain: Chain) -> str:
    path = release.problems_path(chain.task, "train_2")
    return path or f"data/raw/{chain.task}/train_2.jsonl"


def _questions(release: Release, chain: Chain) -> pl.DataFrame:
    return withhold_gold(release.problems(_questions_path(release, chain)))[0]


def _style(problems: pl.DataFrame) -> str:
    return "question_answer" if problems["answer_type"].is_null().all() else "olympicarena"


def _prompts(problems: pl.DataFrame) -> dict[str, str]:
    return problem_prompts(problems, _style(problems))


def _outputs_path(release: Release, chain: Chain) -> str:
    missing = f"outputs/{chain.task}_train_2/zero_shot/{chain.weak}*/*/*/results.jsonl"
    return release.weak_outputs(chain) or missing


def _check_full_weak(release: Release, chain: Chain) -> list[tuple[str, ...]]:
    path, questions = chain.path("full_weak"), _questions_path(release, chain)
    outputs = _outputs_path(release, chain)

    def compare(labels: pl.DataFrame) -> _Outcome:
        table = _questions(release, chain)
        due = sft_rows("weak_labels", prompt=_style(table), questions=table, weak_labels=labels)
        return _compare(release, path, export_llama_factory_sft(due))

    def from_outputs() -> _Outcome:
        return compare(release.labels(outputs))

    def all_questions() -> _Outcome:
        table, labels = _questions(release, chain), release.labels(path)
        if labels["id"].to_list() != table["id"].to_list():
            note = "not the questions of train_2 in their order"
            return _Outcome(f"{table.height}", f"{labels.height} others", note)
        return compare(labels)

    rows = [
        _check(release, path, "from weak outputs", [path, outputs, questions], from_outputs),
        _check(release, path, "prompts", [path, questions], all_questions),
    ]
    if not release.has(outputs):  # else they have checks of their own
        for name in ("recorded predictions", "recorded results", "prompts", "gold"):
            rows.append(_check(release, outputs, name, [outputs], lambda: _Outcome("", "")))
    return rows


def _weak_source(release: Release, chain: Chain, iteration: int) -> str:
    """Where the weak side's answers to all of train_2 are."""
    outputs, full = _outputs_path(release, chain), chain.path("full_weak")
    return full if release.has(full) and not release.has(outputs) else outputs


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
def _filter(release: Release, chain: Chain, weak_path: str, icl_path: str) -> _KeptSet:
    """Run the agreement filter on the questions of the ICL side.

    Rows on which the sides disagree are padding if they follow all agreeing rows and leave the
    order of train_2, as drawn rows do: a changed answer of a kept row does not look like that.
    """
    icl, weak = release.labels(icl_path), release.labels(weak_path)
    weak = weak.filter(pl.col("id").is_in(icl["id"].to_list()))
    lenient: Counter[str] = Counter()
    judge = _judge_as_released(release.questions_asked(icl_path), lenient)
    kept = agreement_filter(weak, icl, keep_empty=True, judge=judge)
    found = _KeptSet(kept, kept.height, icl.height, lenient)
    try:
        places = _places(release, chain, icl["id"].to_list())
    except _AbsentError:  # without an order there is no telling
        return found
    at = [places.get(name, -1) for name in icl["id"]]
    if icl["id"].head(kept.height).to_list() != kept["id"].to_list() or at == sorted(at):
        return found
    padding = icl.slice(kept.height).select("id", icl_response="response")
    padding = padding.join(
        weak.select("id", weak_response="response"), on="id", maintain_order="left"
    )
    padding = padding.with_columns(pl.lit(None, pl.String).alias("prediction"))
    return replace(found, kept=pl.concat([kept, padding.select(KEPT.names())]))


def _judge_as_released(asked: pl.DataFrame, lenient: Counter[str]) -> Judge:
    """The judge by which the released rows of a task agree.

    For GSM8K and MATH it is string equality. For OlympicArena it is the task's own judge. What this
    judge does not accept goes to the judge with the quirk `released_judge`, and then to string
    equality; the rows that these accept are counted in `lenient`, by kind of answer.
    """
    if asked.is_empty():
        return string_judge
    kinds = dict(asked.select("id", "answer_type").iter_rows())
    strict, released = question_judge(asked), question_judge(asked, released_judge=True)

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


def _places(release: Release, chain: Chain, ids: Sequence[str]) -> dict[str, int]:
    """Id -> place in train_2; GSM8K's and MATH's ids say it themselves."""
    if release.has(path := _questions_path(release, chain)):
        return {name: i for i, name in enumerate(release.problems(path)["id"])}
    if all(name.isdecimal() for name in ids):
        return {name: int(name) for name in ids}
    raise _AbsentError(path)


def _check_kept(
    release: Release, golden: Golden, chain: Chain, iteration: int
) -> list[tuple[str, ...]]:
    """The three files of one Stage I iteration."""
    weak, icl, hybrid = (chain.path(side, iteration) for side in ("weak", "icl", "hybrid"))
    questions = _questions_path(release, chain)
    source = _weak_source(release, chain, iteration)
    rows = []

    def sides() -> _KeptSet:
        return _filter(release, chain, weak, icl)

    for side, path in (("weak", weak), ("icl", icl)):
        if iteration > 1:  # its weak side is a strong model, whose other answers are not released
            continue

        def from_outputs(side: str = side, path: str = path) -> _Outcome:
            found = _filter(release, chain, source, icl)
            table = _questions(release, chain)
            due = sft_rows(f"kept_{side}", prompt=_style(table), questions=table, kept=found.kept)
            outcome = _compare(release, path, export_llama_factory_sft(due))
            return replace(outcome, note=f"{outcome.note}; from {source}")

        needs = [path, icl, source, questions]
        rows.append(_check(release, path, "from weak outputs", needs, from_outputs))

    def agreement() -> _Outcome:
        found = sides()
        same = release.labels(weak)["id"].to_list() == release.labels(icl)["id"].to_list()
        actual = f"{found.agreeing}" if same else f"{found.agreeing}, in another order"
        if same and found.padded:
            note = f"padded: the last {found.rows - found.agreeing} rows all disagree"
            return _Outcome(f"{found.rows}", actual, note, finding=True)
        return _Outcome(f"{found.rows}", actual)

    def released_judge() -> _Outcome:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(sides().lenient.items()))
        note = f"only the quirk `released_judge` accepts these: {kinds}"
        recorded = golden.get((icl, "released judge"))
        return _deviation(sum(sides().lenient.values()), recorded, note)

    def empty() -> _Outcome:
        count = sides().kept.filter(prediction="").height
        note = "kept although neither side gives an answer"
        return _deviation(count, golden.get((weak, "kept empty")), note)

    side = source if iteration == 1 and release.has(source) else weak

    def interleaved() -> _Outcome:
        return _compare_hybrid(release, chain, (side, icl, hybrid))

    rows += [
        _check(release, icl, "agrees with weak rows", [icl, weak], agreement),
        _check(release, weak, "no empty answers", [weak, icl], empty),
        _check(release, hybrid, "from weak and ICL rows", [side, icl, hybrid], interleaved),
    ]
    if release.has(icl) and release.questions_asked(icl).height:
        rows.append(_check(release, icl, "released judge", [icl, weak], released_judge))
    for path in (weak, icl, hybrid):
        rows.append(_check_prompts(release, chain, path))

    def order() -> _Outcome:
        ids = row_ids(release.rows(weak))
        at = _places(release, chain, ids)
        try:
            if release.has(icl) and sides().padded:
                ids = ids[: sides().agreeing]  # padding has no order
        except ValueError:  # the sides do not fit; that has a check of its own
            pass
        flags = [at.get(a, -1) < at.get(b, -1) for a, b in pairwise(ids)]
        return _tally(flags, ids[1:])

    rows.append(_check(release, weak, "order of train_2", [weak], order))
    rows += _check_padding(release, chain, iteration)
    for path in (weak, icl, hybrid):
        if release.has(path) and any("pred" in row for row in release.rows(path)):
            rows += _check_recorded(release, path)
    return rows


def _compare_hybrid(release: Release, chain: Chain, files: tuple[str, str, str]) -> _Outcome:
    """The hybrid file of `files` against the rows that its weak and its ICL file give in turn."""
    weak, icl, hybrid = files
    kept = _filter(release, chain, weak, icl).kept
    if release.has(_questions_path(release, chain)):
        table = _questions(release, chain)
        due = sft_rows("kept_hybrid", prompt=_style(table), questions=table, kept=kept)
        return _compare(release, hybrid, export_llama_factory_sft(due))
    # Without the questions, prompts are compared with those of the ICL rows.
    contents = {str(row["id"]): row["content"] for row in release.rows(icl)}
    table = pl.DataFrame([{"id": name, "question": "?"} for name in contents], schema=QUESTIONS)
    rows = export_llama_factory_sft(sft_rows("kept_hybrid", questions=table, kept=kept))
    return _compare(release, hybrid, [{**row, "content": contents[str(row["id"])]} for row in rows])


def _check_prompts(release: Release, chain: Chain, path: str) -> tuple[str, ...]:
    """Each row asks the question of train_2 that its id names."""
    questions = _questions_path(release, chain)

    def prompts() -> _Outcome:
        due, rows = _prompts(_questions(release, chain)), release.rows(path)
        flags = [
            row.get("content", row.get("instruction")) == due.get(str(row["id"])) for row in rows
        ]
        return _tally(flags, row_ids(rows))

    return _check(release, path, "prompts", [path, questions], prompts)


def _check_padding(release: Release, chain: Chain, iteration: int) -> list[tuple[str, ...]]:
    """A padded file starts with the rows of the file that has no padding (`_wo_aug`)."""
    rows = []
    pairs = [
        (chain.path(side, iteration), chain.path(side, iteration, unpadded=True))
        for side in ("weak", "icl", "hybrid")
    ]
    if not any(release.has(unpadded) for _, unpadded in pairs):
        return rows
    for padded, unpadded in pairs:

        def head(padded: str = padded, unpadded: str = unpadded) -> _Outcome:
            short, long = release.rows(unpadded), release.rows(padded)
            flags = [
                all(row[name] == due[name] for name in _ROW)
                for row, due in zip(short, long, strict=False)
            ]
            if len(short) > len(long):
                return _Outcome(f"{len(short)}", f"{len(long)}", "the padded file is shorter")
            return _tally(flags, row_ids(short))

        rows.append(_check(release, unpadded, "head of padded file", [unpadded, padded], head))
    weak, icl, hybrid = files = tuple(unpadded for _, unpadded in pairs)

    def interleaved() -> _Outcome:
        return _compare_hybrid(release, chain, files)

    needs = [weak, icl, hybrid]
    rows.append(_check(release, hybrid, "from weak and ICL rows", needs, interleaved))
    return rows


# --- pairs -----------------------------------------------------------------------------------


def _check_pairs(
    release: Release, golden: Golden, chain: Chain, path: str
) -> list[tuple[str, ...]]:
    """A file of contrastive pairs, rows {id, instruction, input, output: [chosen, rejected]}."""
    limit = PAIRS_PER_QUESTION.get(chain.task, 3)
    full, questions = chain.path("full_weak"), _questions_path(release, chain)

    def answers() -> list[tuple[str, str]]:
        texts = [text for row in release.rows(path) for text in row["output"]]
        found = predict_column(pl.Series(texts), find_answer_key(texts)).to_list()
        return list(zip(found[::2], found[1::2], strict=True))

    def differ() -> _Outcome:
        flags = [chosen != rejected and chosen != "" for chosen, rejected in answers()]
        return _tally(flags, row_ids(release.rows(path)))

    def order() -> _Outcome:
        ids = row_ids(release.rows(path))
        at = _places(release, chain, ids)
        flags = [at.get(a, -1) <= at.get(b, -1) for a, b in pairwise(ids)]
        return _tally(flags, ids[1:])

    def majority() -> _Outcome:
        rows = zip(release.rows(path), answers(), strict=True)
        groups = [
            (name, list(group)) for name, group in groupby(rows, lambda each: str(each[0]["id"]))
        ]
        return _tally(
            [_fits_majority_rule(group, limit) for _, group in groups],
            [name for name, _ in groups],
            f"at most {limit} pairs of a question",
        )

    def find_source() -> tuple[Chain | None, dict[Chain, tuple[int, int]]]:
        rows = release.rows(path)
        models = [each for each in release.chains() if each.task == chain.task]
        tallies = {each: _tally_sides(rows, release.weak_texts(each)) for each in models}
        likely = [each for each, (known, hits) in tallies.items() if 2 * hits > known]
        best = max(likely, key=lambda each: (tallies[each][1], each == chain), default=None)
        # A model of which little is known must not win by a few chance hits.
        if best and tallies[best][1] < tallies[chain][1]:
            best = None
        return best, tallies

    def weak_model() -> _Outcome:
        best, tallies = find_source()
        known, hits = tallies[chain]
        own = f"{hits} of {known} pairs have a response of {chain.weak}"
        recorded, maker = golden.get((path, "own texts")), _recorded_maker(golden, path)
        if best:
            theirs = f"{tallies[best][1]} of {tallies[best][0]} have one of {best.weak}"
            note = own if best == chain else f"{theirs}, {own}"
            expected = chain.weak if maker in (None, best.weak) else maker
            return _Outcome(expected, best.weak, note, finding=expected == chain.weak)
        if not known:
            raise _AbsentError(full)
        if recorded:
            note = f"{own}, {recorded[0]} are recorded: {recorded[1]}"
            return _Outcome(chain.weak, "another", note, finding=hits == recorded[0])
        if maker:
            raise _AbsentError(f"the responses of {maker}; {own}")
        return _Outcome(chain.weak, "another", f"{own}; no other model's files fit")

    def weak_side() -> _Outcome:
        best, tallies = find_source()
        if not best:
            raise _AbsentError(f"the responses of the weak model of {path}")
        known, hits = tallies[best]
        count = len(release.rows(path))
        note = f"one side is the response of {best.weak}"
        if known < count and hits == known:
            raise _AbsentError(f"{best.path('full_weak')}; without it {known} of {count} pairs fit")
        return _Outcome(f"{known}", f"{hits}", note)

    def from_samples() -> _Outcome:
        best, _ = find_source()
        files = _matching_samples(release, chain.task, path)
        if not best or not files:
            raise _AbsentError(
                f"outputs/{chain.task}_train_2/zero_shot/*/zero-shot/direct/*/seed*/results.jsonl"
                " of the model that the pairs were sampled from"
            )
        source = _weak_source(release, best, 1)
        if not release.has(source, questions):
            raise _AbsentError(f"{source}, {questions}")
        samples = release.samples(files)
        table = _questions(release, chain)
        plain = _style(table) == "question_answer"
        judge = string_judge if plain else question_judge(table)
        due = build_pairs(
            release.labels(source),
            samples,
            majority_vote(samples, judge=judge),
            table,
            pairs_per_question=limit,
            prompt=_style(table),
            judge=judge,
        )
        return _compare(release, path, export_llama_factory_pairs(due))

    return [
        _check_prompts(release, chain, path),
        _check(release, path, "order of train_2", [path], order),
        _check(release, path, "answers differ", [path], differ),
        _check(release, path, "majority rule", [path], majority),
        _check(release, path, "weak model", [path], weak_model),
        _check(release, path, "weak side", [path], weak_side),
        _check(release, path, "from samples", [path], from_samples),
    ]


def _recorded_maker(golden: Golden, path: str) -> str | None:
    """The other weak model that a file of pairs is known to be made with."""
    names = (name for file, name in golden if file == path)
    found = [name.removeprefix(_MADE_WITH) for name in names if name.startswith(_MADE_WITH)]
    return found[0] if found else None


def _tally_sides(rows: Sequence[dict], texts: Mapping[str, str]) -> tuple[int, int]:
    """Pairs whose question a model's texts cover, and those with its text on just one side."""
    known = [row for row in rows if str(row["id"]) in texts]
    hits = sum(row["output"].count(texts[str(row["id"])]) == 1 for row in known)
    return len(known), hits


def _fits_majority_rule(group: Sequence[tuple[dict, tuple[str, str]]], limit: int) -> bool:
    """Whether a question's pairs can come from one vote and one weak response.

    All chosen answers are the majority's. The weak response is the same text in all pairs, on the
    same side; where it is the rejected one, each further positive differs from the first.
    """
    chosen = [row["output"][0] for row, _ in group]
    rejected = [row["output"][1] for row, _ in group]
    if len(group) > limit or len({answer for _, (answer, _) in group}) > 1:
        return False
    if len(set(chosen)) == 1:
        return True
    return len(set(rejected)) == 1 and chosen[0] not in chosen[1:]


def _matching_samples(release: Release, task: str, path: str) -> list[str]:
    """Files of the recorded samples from which most pairs of a file have a text."""
    rows = release.rows(path)
    for files in release.sample_folders(task).values():
        texts: dict[str, set[str]] = {}
        for name, text in release.samples(files).select("id", "response").iter_rows():
            texts.setdefault(name, set()).add(text)
        hits = sum(bool(texts.get(str(row["id"]), set()) & set(row["output"])) for row in rows)
        if 2 * hits > len(rows):
            return files
    return []


# --- recorded figures ------------------------------------------------------------------------


def _check_counts(release: Release, golden: Golden) -> list[tuple[str, ...]]:
    """The figures of `golden` that are no deviations; those stand with the check of their cause."""
    rows = []
    for (path, name), (expected, source) in golden.items():
        counting = _COUNTS.get(name)
        if name.startswith(_OF_SUBJECT):
            counting = partial(_count_subject, subject=name.removeprefix(_OF_SUBJECT))
        if counting is None:
            continue

        recorded = _Outcome(f"{expected}", "", source)

        def count(
            path: str = path, counting: _Count = counting, recorded: _Outcome = recorded
        ) -> _Outcome:
            return replace(recorded, actual=f"{counting(release, path)}")

        rows.append(_check(release, path, f"count: {name}", [path], count))
    return rows


def _count_subject(release: Release, path: str, subject: str) -> int:
    """OlympicArena's ids begin with their subject."""
    return sum(name.startswith(f"{subject}_") for name in row_ids(release.rows(path)))


def _count_weak_chosen(release: Release, path: str) -> int:
    chain = _chain_of(release, path)
    texts, rows = release.weak_texts(chain), release.rows(path)
    if not set(row_ids(rows)) <= texts.keys():
        raise _AbsentError(chain.path("full_weak"))
    return sum(row["output"][0] == texts[str(row["id"])] for row in rows)


def _chain_of(release: Release, path: str) -> Chain:
    return next(chain for chain in release.chains() if path.startswith(f"{chain.stem}_"))


def _count_correct(release: Release, path: str) -> int:
    chain = _chain_of(release, path)
    problems = _questions_path(release, chain)
    if not release.has(problems):
        raise _AbsentError(problems)
    answers = release.problems(problems).select("id", "answer")
    gold = {name: normalise_answer(answer) for name, answer in answers.iter_rows()}
    labels = release.labels(path).select("id", "prediction")
    return sum(gold.get(name) == answer for name, answer in labels.iter_rows())


def _count_agreeing(release: Release, path: str) -> int:
    icl = path.replace("_weak.json", "_icl.json")
    if not release.has(icl):
        raise _AbsentError(icl)
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
