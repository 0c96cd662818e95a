"""Tables of the page's sections on data, scorers and cost; one function for each section."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from weak_to_strong.evaluation.judges import verdicts_by_type
from weak_to_strong.jobs.costs import total_costs
from weak_to_strong.report.display_text import (
    DASH,
    count_text,
    duration,
    percent,
    price_text,
    share_cell,
    shorten,
)
from weak_to_strong.report.names import (
    ChainName,
    MetricValue,
    NodeName,
    evaluated_set,
    list_chains,
    method_label,
    node_label,
    rows_of_chain,
)
from weak_to_strong.report.page_table import PageTable
from weak_to_strong.report.plots import calibration_bins

#: Verdicts of the scorers (`scoring.VERDICTS`) in the order of tables and menus.
VERDICT_ORDER = ("right", "wrong", "undecided", "timeout")
#: Titles of the diagnostics, in the order of their tables.
_DIAGNOSTIC_TITLES = {
    "filter": "Agreement filter",
    "kept": "Selections",
    "labels": "Label accuracy",
    "pairs": "Preference pairs",
    "calibration": "Calibration summary",
    "samples": "Answers on train_2",
    "blind_spots": "Confidently wrong where other answers are uncertain",
}
#: Diagnostics that are means and no shares.
_MEANS = ("answers", "texts", "characters")
#: The column `method` of label diagnostics names a side instead of a method.
_SIDES = {"weak": "weak side", "icl": "in-context side"}
#: Distinct disagreements of the scorers that are listed for each task.
_DISAGREEMENTS = 12
#: Columns of scoring.FILTER_COUNTS and their headings.
_FILTER_COLUMNS = {
    "answers": "Answers",
    "used": "Found",
    "strict": "Strict",
    "flexible": "Flexible",
    "last_number": "Last number",
    "cut": "Cut at a stop string",
    "ended": "Ended without answer",
    "too_long": "Too long",
}
_FILTER_CAPTION = (
    "number of responses in which each filter finds a final answer. Found is the task's own "
    "`extraction`. If many responses have a last number and few have a found answer, the answers "
    "have a form that is not understood, or a stop string ends the reasoning."
)
#: Columns of scoring.LENGTHS: heading, and how a value becomes text.
_LENGTH_COLUMNS = {
    "answers": ("Answers", count_text),
    "paper": ("Right, paper scorer (%)", percent),
    "math": ("Right, math scorer (%)", percent),
    "tokens": ("Mean tokens", count_text),
    "cut": ("Cut at the budget (%)", percent),
}
_LENGTH_CAPTION = (
    "accuracy beside the tokens of a response, reasoning included, and the share of responses that "
    "reached `max_tokens`. If many are cut, a longer budget may change the accuracy."
)
#: Columns of costs.COSTS: heading, and how a value becomes text.
_COST_COLUMNS = {
    "rule": ("Rule", str),
    "jobs": ("Jobs", count_text),
    "wall_seconds": ("Wall time", duration),
    "cpu_seconds": ("CPU time", duration),
    "gpu_seconds": ("GPU time", duration),
    "peak_memory_mb": ("Peak memory (MB)", count_text),
    "peak_gpu_memory_mb": ("Peak GPU memory (MB)", count_text),
    "engine_loads": ("Engine loads", count_text),
    "prompt_tokens": ("Prompt tokens", count_text),
    "cached_prompt_tokens": ("Of these cached", count_text),
    "response_tokens": ("Response tokens", count_text),
    "trained_tokens": ("Trained tokens", count_text),
    "price": ("Price", price_text),
    "tokens_per_second": ("Tokens a second", count_text),
}


def diagnostics_tables(diagnostics: pl.DataFrame) -> list[PageTable]:
    """One table for each diagnostic: rows are chain, seed, method and iteration; columns are names.

    Bins of the calibration are left to `calibration_tables`, and shares of the vote to the figure.

    Args:
        diagnostics: diagnostics.DIAGNOSTICS.
    """
    single = diagnostics.filter(~pl.col("name").str.contains("^(bin|share) "))
    names = sorted(single["diagnostic"].unique(), key=_diagnostic_order)
    return [_diagnostic_table(name, single.filter(pl.col("diagnostic") == name)) for name in names]


def _diagnostic_order(diagnostic: str) -> tuple[int, str]:
    known = list(_DIAGNOSTIC_TITLES)
    return (known.index(diagnostic) if diagnostic in known else len(known)), diagnostic


def _diagnostic_table(diagnostic: str, rows: pl.DataFrame) -> PageTable:
    names = rows["name"].unique(maintain_order=True).to_list()
    columns = ["Chain", "Seed"]
    columns += {
        "labels": ["Side", "Iteration"],
        "filter": ["Iteration"],
        "pairs": ["Method"],
        "kept": ["Selection"],
        "calibration": ["Votes"],
        "samples": ["Answers"],
        "blind_spots": ["Answers"],
    }.get(diagnostic, [])
    keys = ["task", "weak", "strong", "seed", "method", "iteration"]
    body = []
    for (*chain, seed, method, iteration), group in rows.group_by(keys, maintain_order=True):
        side = _SIDES.get(method) if diagnostic == "labels" else None
        texts = {
            "Chain": str(ChainName(*chain)),
            "Seed": str(seed),
            "Side": side or method_label(method),
            "Method": method_label(method),
            "Selection": method,
            "Answers": method,
            "Votes": method,
            "Iteration": str(iteration),
        }
        cells = {row["name"]: _diagnostic_cell(row) for row in group.iter_rows(named=True)}
        body.append([*(texts[column] for column in columns), *map(cells.get, names)])
    title = _DIAGNOSTIC_TITLES.get(diagnostic, diagnostic)
    caption = f"{title}. Shares in %, with 95% interval and the number they are taken of."
    headings = [*columns, *(name.replace("_", " ") for name in names)]
    return PageTable(title, caption, headings, body, text_columns=len(columns))


def _diagnostic_cell(row: Mapping[str, Any]) -> Any:
    """A count or a mean as it is; all other diagnostics are shares in [0, 1]."""
    if row["value"] is None:
        return None
    if row["name"] == "questions":
        return count_text(row["value"])
    if row["name"] in _MEANS:
        return f"{row['value']:.1f}"
    cell = share_cell(MetricValue(row["value"], row["ci_low"], row["ci_high"], row["n"] or 0))
    if row["n"]:
        cell["range"] = f"{cell['range'] or ''} of {row['n']:,}".strip()
    return cell


def calibration_tables(diagnostics: pl.DataFrame) -> list[PageTable]:
    """One table for each chain: the bins of the calibration figure."""
    tables = []
    for chain in list_chains(diagnostics):
        bins = calibration_bins(rows_of_chain(diagnostics, chain))
        body = [
            [
                row["method"],
                f"{row['bin']}",
                str(row["seed"]),
                percent(row["confidence"]),
                share_cell(MetricValue(row["accuracy"], row["ci_low"], row["ci_high"], row["n"])),
                count_text(row["n"]),
            ]
            for row in bins.iter_rows(named=True)
        ]
        if body:
            label = f"Calibration of the votes, {chain}"
            columns = ["Votes", "Share of the votes", "Seed", "Mean share (%)", "Right (%)"]
            columns.append("Questions")
            tables.append(PageTable(label, f"{label}.", columns, body, text_columns=2))
    return tables


def agreement_tables(
    scores: pl.DataFrame,
    nodes: Mapping[str, Mapping[str, Any]],
    problems: Mapping[str, pl.DataFrame],
) -> list[PageTable]:
    """How far the scorers agree, test set by test set.

    Args:
        scores: SCORES of all tasks.
        nodes: facts of each request; `task` and `test_set` are used.
        problems: PROBLEMS of the evaluated questions by `names.evaluated_set`.

    Returns:
        For each test set the counts of paper verdicts (rows) and math verdicts (columns), the math
        verdicts by answer type where the task has types, and the first distinct disagreements.
    """
    tables = []
    set_of = {request: evaluated_set(facts) for request, facts in nodes.items()}
    sets = scores["request"].replace_strict(set_of, default=None, return_dtype=pl.String)
    for (key,), frame in scores.with_columns(key=sets).group_by("key", maintain_order=True):
        name = key or "unknown task"
        tables.append(_verdicts_table(name, frame))
        if key in problems and (types := verdicts_by_type(frame, problems[key])):
            tables.append(_answer_types_table(name, types))
        tables += _disagreements_tables(name, frame)
    return tables


def _verdicts_table(name: str, scores: pl.DataFrame) -> PageTable:
    counts = {row[:2]: row[2] for row in scores.group_by("paper", "math").len().rows()}
    total = scores.height
    equal = sum(count for (paper, math), count in counts.items() if paper == math)
    columns = [verdict for verdict in VERDICT_ORDER if any(verdict in pair for pair in counts)]
    body = [
        [f"paper: {paper}", *(count_text(counts.get((paper, math), 0)) for math in columns)]
        for paper in VERDICT_ORDER
        if any(pair[0] == paper for pair in counts)
    ]
    caption = (
        f"{name}: verdicts of the two scorers on {total:,} answers; "
        f"they agree on {percent(equal / total)}%."
    )
    headings = ["", *(f"math: {verdict}" for verdict in columns)]
    return PageTable(f"Scorer agreement, {name}", caption, headings, body)


def _answer_types_table(name: str, types: Mapping[str, Mapping[str, int]]) -> PageTable:
    body = [
        [answer_type, *(count_text(counts[verdict]) for verdict in VERDICT_ORDER)]
        for answer_type, counts in types.items()
    ]
    caption = (
        f"{name}: verdicts of the math scorer by answer type. Undecided are the types that "
        "only a model could judge, and answers that its rules cannot read."
    )
    headings = ["Answer type", *VERDICT_ORDER]
    return PageTable(f"Verdicts by answer type, {name}", caption, headings, body)


def _disagreements_tables(name: str, scores: pl.DataFrame) -> list[PageTable]:
    rows = (
        scores.filter(pl.col("paper") != pl.col("math"))
        .select("id", "prediction", "answer", "paper", "math")
        .unique(maintain_order=True)
        .head(_DISAGREEMENTS)
    )
    if rows.is_empty():
        return []
    body = [[shorten(cell or "(none)", 120) for cell in row] for row in rows.rows()]
    label = f"First disagreements, {name}"
    columns = ["Question", "Prediction", "Gold answer", "Paper", "Math"]
    return [PageTable(label, f"{label}.", columns, body, text_columns=5)]


def filter_tables(
    filters: Mapping[str, Sequence[Mapping[str, Any]]], nodes: Mapping[str, Mapping[str, Any]]
) -> list[PageTable]:
    """One table for each test set: in how many answers each filter finds an answer.

    Args:
        filters: scoring.FILTER_COUNTS by `names.evaluated_set`, as rows.
        nodes: facts of each request. Other requests are left out.
    """
    cells = {name: (heading, count_text) for name, heading in _FILTER_COLUMNS.items()}
    return _request_tables("Answers found", _FILTER_CAPTION, cells, filters, nodes)


def length_tables(
    lengths: Mapping[str, Sequence[Mapping[str, Any]]], nodes: Mapping[str, Mapping[str, Any]]
) -> list[PageTable]:
    """One table for each task with chats: how long the answers of each model are.

    Args:
        lengths: scoring.LENGTHS by task, as rows.
        nodes: facts of each request. Other requests are left out.
    """
    return _request_tables("Lengths of answers", _LENGTH_CAPTION, _LENGTH_COLUMNS, lengths, nodes)


def _request_tables(
    title: str,
    caption: str,
    columns: Mapping[str, tuple[str, Callable[[Any], str]]],
    rows_of_task: Mapping[str, Sequence[Mapping[str, Any]]],
    nodes: Mapping[str, Mapping[str, Any]],
) -> list[PageTable]:
    """One table for each task, with a row for each request of a node.

    Args:
        title: title, before the task's name.
        caption: caption, after the task's name.
        columns: heading of each column by its name, and how a value becomes text.
        rows_of_task: rows with `request` and the columns, by task.
        nodes: facts of each request. Other requests are left out.
    """
    tables = []
    for task, rows in rows_of_task.items():
        body = []
        for row in rows:
            if facts := nodes.get(row["request"]):
                node = NodeName(facts["method"], facts["iteration"] or 0)
                label = f"{node_label(node)} ({facts['decoding']})"
                chain = f"{facts['weak']} \u2192 {facts['strong']}"
                cells = (as_text(row[name]) for name, (_, as_text) in columns.items())
                body.append([label, chain, str(facts["seed"]), *cells])
        if body:
            headings = ["Model", "Chain", "Seed", *(heading for heading, _ in columns.values())]
            tables.append(PageTable(f"{title}, {task}", f"{task}: {caption}", headings, body, 3))
    return tables


def contamination_tables(frames: Mapping[str, pl.DataFrame]) -> list[PageTable]:
    """The contamination report of each task, without rows that count nothing.

    Args:
        frames: contamination.CONTAMINATION by task.
    """
    tables = []
    for task, frame in frames.items():
        if "count" in frame.columns:
            frame = frame.filter(pl.col("count").cast(pl.Int64) > 0)
        body = [[DASH if cell is None else str(cell) for cell in row] for row in frame.rows()]
        columns = [name.replace("_", " ") for name in frame.columns]
        caption = (
            f"{task}: questions that stand twice in a split (duplicate) or in two splits: with the "
            "same text (exact), or with most word 8-grams in common (ngram), as problems made from "
            "one template often have."
        )
        text_columns = sum(kind == pl.String for kind in frame.dtypes[:3])
        tables.append(PageTable(task, caption, columns, body, text_columns))
    return tables


def costs_table(costs: pl.DataFrame) -> PageTable:
    """The cost of each rule, and the sum. Columns of GPUs appear only where GPUs were measured, and
    the price only where there is one.

    Args:
        costs: costs.COSTS.
    """
    columns = _COST_COLUMNS
    for mark, measured in (("gpu", "gpu_seconds"), ("price", "price")):
        if costs[measured].is_null().all():
            columns = {name: column for name, column in columns.items() if mark not in name}

    def cells(row: Mapping[str, Any]) -> list[Any]:
        return [as_text(row[name]) for name, (_, as_text) in columns.items()]

    caption = (
        "Sums over the last run of each job; jobs may have run side by side, and results reused "
        "from earlier runs cost nothing here. This page itself is not counted. Memory is the "
        f"largest of all jobs. {DASH} means not measured, or no tokens. ledger.csv has each job."
    )
    body = [cells(row) for row in costs.iter_rows(named=True)]
    total = cells(total_costs(costs)) if body else None
    headings = [heading for heading, _ in columns.values()]
    return PageTable("Cost of the run", caption, headings, body, total=total)
