"""Metrics of every evaluated model, by both scorers, with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from weak_to_strong.evaluation.stats import (
    Estimate,
    bootstrap_mean_interval,
    mcnemar_exact,
    paired_bootstrap_difference,
    pass_at_k,
    pgr,
    wilson_interval,
)
from weak_to_strong.tables.schemas import ALL_SEEDS, METRICS, NONE

SCORERS = ("paper", "math")
FLOOR, CEILING, BASELINE = "weak", "ceiling", "full_weak"
#: What differences are taken to, beside BASELINE: see `graph.Graph.predecessor`.
PREDECESSOR = "predecessor"
#: In the column `scorer`, for a row about the two scorers together.
BOTH = "both"

_NODE = ("task", "weak", "strong", "method", "stage", "iteration")
_WIDE = ("accuracy", "difference_vs_full_weak", "mcnemar_p_vs_full_weak", "pgr")


def majority_right(scores: pl.DataFrame, k: int, scorer: str) -> pl.DataFrame:
    """Whether the majority answer of the first k samples of a question is right.

    The vote is as in the paper: over normalised predictions, the one seen first winning a tie,
    an empty prediction being a vote for no answer. Under either scorer the verdict is that of the
    first sample with the winning prediction.

    Args:
        scores: SCORES of requests with at least k samples a question.

    Returns:
        [request, id, right (Boolean)], in the order of the table.
    """
    return (
        scores.filter(pl.col("sample") < k)
        .sort("sample", maintain_order=True)
        .group_by("request", "id", "prediction", maintain_order=True)
        .agg(
            votes=pl.len(),
            first=pl.col("sample").first(),
            right=(pl.col(scorer) == "right").first(),
        )
        .sort(["votes", "first"], descending=[True, False], maintain_order=True)
        .group_by("request", "id", maintain_order=True)
        .agg(pl.col("right").first())
        .join(
            scores.select("request", "id").unique(maintain_order=True),
            on=["request", "id"],
            how="right",
            maintain_order="right",
        )
        .select("request", "id", "right")
    )


class _Results:
    """Per-question results of one task's requests, as arrays in one order of questions."""

    def __init__(self, scores: pl.DataFrame, nodes: Mapping[str, Mapping[str, Any]]) -> None:
        self.nodes = nodes
        self.tables = scores.partition_by("request", as_dict=True, maintain_order=True)
        first = next(iter(self.tables.values()))
        questions = first.unique("id", maintain_order=True)
        self.ids = questions["id"]
        self.levels = questions["level"].to_numpy()
        self.cache: dict[tuple, NDArray] = {}

    def table(self, request: str) -> pl.DataFrame:
        return self.tables[(request,)]

    def samples(self, request: str) -> int:
        return self.table(request)["sample"].n_unique()

    def _per_question(self, values: pl.DataFrame, request: str) -> NDArray:
        """The one column beside `id`, in the common order of questions."""
        ordered = self.ids.to_frame().join(values, on="id", how="left", maintain_order="left")
        column = ordered.to_series(1)
        if column.null_count() or values.height != len(self.ids):
            raise ValueError(
                f"request {request}: its questions differ from those of the task's other requests; "
                "score them again"
            )
        return column.to_numpy()

    def right_counts(self, request: str, scorer: str) -> NDArray:
        """Right samples of each question."""
        key = ("right", request, scorer)
        if key not in self.cache:
            counts = self.table(request).group_by("id").agg((pl.col(scorer) == "right").sum())
            self.cache[key] = self._per_question(counts, request).astype(np.float64)
        return self.cache[key]

    def majority(self, request: str, k: int, scorer: str) -> NDArray:
        voted = majority_right(self.table(request), k, scorer).select("id", "right")
        return self._per_question(voted, request).astype(np.float64)

    def predecessor(self, request: str) -> str | None:
        """The greedy request of the model that this one is to improve on."""
        name = self.nodes[request].get(PREDECESSOR)
        return name if (name,) in self.tables else None

    def partner(self, request: str, method: str, keys: Sequence[str]) -> str | None:
        """The greedy request of `method` that agrees with `request` in `keys` and the seed."""
        facts = self.nodes[request]
        found = [
            other
            for (other,) in self.tables
            if self.nodes[other]["method"] == method
            and self.nodes[other]["decoding"] == "greedy"
            and all(self.nodes[other][key] == facts[key] for key in (*keys, "seed"))
        ]
        if len(found) > 1:
            raise ValueError(f"request {request}: {len(found)} models of method {method}: {found}")
        return found[0] if found else None


def _node(facts: Mapping[str, Any]) -> tuple:
    return tuple(facts[key] for key in _NODE)


class _Rows:
    """The METRICS rows of one task."""

    def __init__(
        self, results: _Results, experiment: str, split: str, draws: int, seed: int
    ) -> None:
        self.results, self.experiment, self.split = results, experiment, split
        self.bootstrap = {"seed": seed, "draws": draws}

    def row(
        self,
        node: tuple,
        seed: int,
        scorer: str,
        metric: str,
        estimate: Estimate,
        n: int,
        **more: Any,
    ) -> dict:
        value, low, high = (None if math.isnan(number) else number for number in estimate)
        return {
            "experiment": self.experiment,
            **dict(zip(_NODE, node, strict=True)),
            "seed": seed,
            "split": self.split,
            "scorer": scorer,
            "metric": metric,
            "k": 1,
            "n": n,
            "value": value,
            "ci_low": low,
            "ci_high": high,
            **more,
        }

    def _accuracy(self, right: NDArray) -> Estimate:
        """Wilson interval for one seed, bootstrap over seeds and questions for several."""
        if len(right) > 1:
            return bootstrap_mean_interval(right, **self.bootstrap)
        successes, n = int(right.sum()), right.size
        return Estimate(successes / n, *wilson_interval(successes, n))

    def greedy(self, node: tuple, seed: int, requests: list[str], scorer: str) -> Iterator[dict]:
        """Rows from the greedy answers of a node's requests, one a seed."""
        results = self.results
        right = np.stack([results.right_counts(request, scorer) for request in requests])
        yield self.row(node, seed, scorer, "accuracy", self._accuracy(right), right.size)
        for level in sorted({level for level in results.levels if level is not None}):
            part = right[:, results.levels == level]
            split = f"{self.split}/level={level}"
            accuracy = self._accuracy(part)
            yield self.row(node, seed, scorer, "accuracy", accuracy, part.size, split=split)
        partners = {
            FLOOR: [results.partner(request, FLOOR, ("task", "weak")) for request in requests],
            CEILING: [
                results.partner(request, CEILING, ("task", "strong")) for request in requests
            ],
            BASELINE: [
                results.partner(request, BASELINE, ("task", "weak", "strong"))
                for request in requests
            ],
            PREDECESSOR: [results.predecessor(request) for request in requests],
        }
        # A node is compared only where its partner was run with the same seeds.
        paired = {
            method: np.stack([results.right_counts(other, scorer) for other in others])
            for method, others in partners.items()
            if all(others)
        }
        method = node[_NODE.index("method")]
        for reference in (BASELINE, PREDECESSOR):
            if reference not in paired or method == reference:
                continue
            base = paired[reference]
            difference = paired_bootstrap_difference(right, base, **self.bootstrap)
            yield self.row(node, seed, scorer, f"difference_vs_{reference}", difference, right.size)
            if len(right) == 1:
                p = mcnemar_exact(int((right > base).sum()), int((right < base).sum()))
                estimate = Estimate(p, math.nan, math.nan)
                metric = f"mcnemar_p_vs_{reference}"
                yield self.row(node, seed, scorer, metric, estimate, right.size)
        if FLOOR in paired and CEILING in paired and method not in (FLOOR, CEILING):
            gap = pgr(right, paired[FLOOR], paired[CEILING], **self.bootstrap)
            yield self.row(node, seed, scorer, "pgr", gap, right.size)

    def sampled(
        self, node: tuple, seed: int, requests: list[str], scorer: str, ks: Sequence[int]
    ) -> Iterator[dict]:
        """pass@k and maj@k from the sampled answers of a node's requests, one a seed."""
        results = self.results
        samples = min(results.samples(request) for request in requests)
        for k in (k for k in ks if k <= samples):
            for metric in ("pass_at_k", "maj_at_k"):
                values = [
                    pass_at_k(results.samples(request), results.right_counts(request, scorer), k)
                    if metric == "pass_at_k"
                    else results.majority(request, k, scorer)
                    for request in requests
                ]
                estimate = bootstrap_mean_interval(values, **self.bootstrap)
                yield self.row(node, seed, scorer, metric, estimate, np.size(values), k=k)

    def scorers(self, node: tuple, seed: int, request: str) -> Iterator[dict]:
        """How far the scorers agree, and what could not be compared, over greedy answers."""
        table = self.results.table(request)
        same, n = (table["paper"] == table["math"]).sum(), table.height
        estimate = Estimate(same / n, *wilson_interval(same, n))
        yield self.row(node, seed, BOTH, "scorer_agreement", estimate, n)
        for verdict in ("undecided", "timeout"):
            count = Estimate(float((table["math"] == verdict).sum()), math.nan, math.nan)
            yield self.row(node, seed, "math", verdict, count, n)


def metrics_table(
    scores: pl.DataFrame,
    nodes: Mapping[str, Mapping[str, Any]],
    experiment: str,
    ks: Sequence[int],
    *,
    split: str = "test",
    bootstrap_draws: int = 10_000,
    seed: int = 0,
) -> pl.DataFrame:
    """METRICS of every request in `scores`.

    Metrics (`ci_low`, `ci_high`: 95 %; null where undefined):
        accuracy: right greedy answers, over all questions and by level (Wilson interval).
        pass_at_k, maj_at_k: see `stats.pass_at_k` and `majority_right` (bootstrap over questions).
        pgr: performance gap recovered between the weak model and the strong ceiling of the same
            task and seed (`stats.pgr`).
        difference_vs_full_weak, mcnemar_p_vs_full_weak: against full weak fine-tuning of the same
            chain and seed, paired by question (bootstrap; exact test, not corrected for the number
            of comparisons).
        difference_vs_predecessor, mcnemar_p_vs_predecessor: the same against the model that this
            one is to improve on: the one it starts from in Stage II, its own method one iteration
            earlier in Stage I.
        scorer_agreement, undecided, timeout: share of answers with equal verdicts; counts.
    Where a node was run with several seeds, rows with seed -1 give the mean over them, with a
    bootstrap over seeds and questions; `n` is then seeds x questions.

    Args:
        scores: SCORES of any number of tasks.
        nodes: request -> {task, weak, strong, method, stage, iteration, seed, decoding,
            predecessor}, where decoding is "greedy" or "samples", and predecessor the name of
            another node's greedy request, or None.
        ks: k of pass@k and maj@k; those above the number of samples are left out.
        split: name of the evaluated split.

    Raises:
        ValueError: requests and nodes do not match, or requests of a task differ in questions.
    """
    scored = scores["request"].unique(maintain_order=True).to_list()
    if apart := sorted({*scored} ^ {*nodes}):
        raise ValueError(f"metrics: {len(apart)} requests lack scores or a node, first {apart[0]}")
    rows: list[dict] = []
    for task in dict.fromkeys(facts["task"] for facts in nodes.values()):
        requests = [request for request, facts in nodes.items() if facts["task"] == task]
        own = scores.filter(pl.col("request").is_in(requests))
        maker = _Rows(_Results(own, nodes), experiment, split, bootstrap_draws, seed)
        groups: dict[tuple, dict[str, dict[int, str]]] = {}
        for request in requests:
            facts = nodes[request]
            by_seed = groups.setdefault(_node(facts), {}).setdefault(facts["decoding"], {})
            if facts["seed"] in by_seed:
                raise ValueError(f"metrics: request {request} repeats {by_seed[facts['seed']]}")
            by_seed[facts["seed"]] = request
        for node, decodings in groups.items():
            for decoding, by_seed in decodings.items():
                cells = [(number, [by_seed[number]]) for number in sorted(by_seed)]
                if len(cells) > 1:
                    cells.append((ALL_SEEDS, [by_seed[number] for number in sorted(by_seed)]))
                for number, group in cells:
                    for scorer in SCORERS:
                        if decoding == "greedy":
                            rows += maker.greedy(node, number, group, scorer)
                        else:
                            rows += maker.sampled(node, number, group, scorer, ks)
                    if decoding == "greedy" and number != ALL_SEEDS:
                        rows += maker.scorers(node, number, group[0])
    table = pl.DataFrame(rows, schema=METRICS)
    # The last digits may depend on the order in which a BLAS adds.
    return table.with_columns(pl.col("value", "ci_low", "ci_high").round_sig_figs(10))


def wide_results(metrics: pl.DataFrame) -> list[dict]:
    """One record a node and seed: its facts and, by scorer, its headline metrics.

    A metric is {"value", "ci_low", "ci_high", "n"}, or None where it does not apply.
    """
    split = pl.col("split").str.contains("/level=").not_()
    chosen = metrics.filter(split & pl.col("metric").is_in(_WIDE))
    records: dict[tuple, dict] = {}
    for row in chosen.iter_rows(named=True):
        facts = {key: row[key] for key in (*_NODE, "seed")}
        record = records.setdefault(
            tuple(facts.values()),
            {**facts, **{scorer: dict.fromkeys(_WIDE) for scorer in SCORERS}},
        )
        record[row["scorer"]][row["metric"]] = {
            key: row[key] for key in ("value", "ci_low", "ci_high", "n")
        }
    return list(records.values())


def metrics_json(metrics: pl.DataFrame) -> dict:
    """{"experiment", "models": `wide_results`, "metrics": every row without nulls}."""
    return {
        "experiment": metrics["experiment"][0] if metrics.height else None,
        "models": wide_results(metrics),
        "metrics": [
            {key: value for key, value in row.items() if key != "experiment" and value is not None}
            for row in metrics.iter_rows(named=True)
        ],
    }


def _cell(metric: Mapping[str, Any] | None, scale: float, digits: int, sign: str = "") -> str:
    """`12.3 [10.1, 14.5]`, without brackets where there is no interval, "-" without a value."""
    if not metric or metric["value"] is None:
        return "-"
    text = [
        f"{metric[key] * scale:{sign}.{digits}f}"
        for key in ("value", "ci_low", "ci_high")
        if metric[key] is not None
    ]
    return text[0] if len(text) == 1 else f"{text[0]} [{', '.join(text[1:])}]"


def results_table(metrics: pl.DataFrame) -> str:
    """A text table for the console: accuracies in %, differences in points, 95 % intervals.

    One block a task and pair of models, with the weak floor and the strong ceiling of the pair
    where they were run; a node with several seeds is one row over all of them.
    """
    records = wide_results(metrics)
    pooled = {_node(record) for record in records if record["seed"] == ALL_SEEDS}
    shown = [
        record for record in records if record["seed"] == ALL_SEEDS or _node(record) not in pooled
    ]
    pairs = list(dict.fromkeys(tuple(record[key] for key in _NODE[:3]) for record in shown))
    whole = [pair for pair in pairs if NONE not in pair]
    lines: list[str] = []
    for task, weak, strong in whole or pairs:
        body = [
            _line(record)
            for record in shown
            if record["task"] == task
            and record["weak"] in (weak, NONE)
            and record["strong"] in (strong, NONE)
        ]
        widths = [max(map(len, column)) for column in zip(_HEADS, *body, strict=True)]
        title = f"{task}: weak {weak}, strong {strong}"
        lines += ["", title] if lines else [title]
        for cells in (_HEADS, *body):
            padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
            lines.append("  " + "  ".join(padded).rstrip())
    return "\n".join(lines) + "\n"


_HEADS = ("method", "seed", "n", "paper %", "math %", "vs full_weak", "p", "PGR")


def _line(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Cells of one model under `_HEADS`; "-" for a metric that does not apply."""
    paper = record["paper"]
    p = (paper["mcnemar_p_vs_full_weak"] or {}).get("value")
    return (
        record["method"] + (f" {record['iteration']}" if record["iteration"] else ""),
        "all" if record["seed"] == ALL_SEEDS else str(record["seed"]),
        str(paper["accuracy"]["n"]),
        _cell(paper["accuracy"], 100, 1),
        _cell(record["math"]["accuracy"], 100, 1),
        _cell(paper["difference_vs_full_weak"], 100, 1, "+"),
        "-" if p is None else f"{p:.2g}",
        _cell(paper["pgr"], 1, 2),
    )
