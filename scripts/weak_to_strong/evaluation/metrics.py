"""Metrics of every evaluated model, by both scorers, with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from weak_to_strong.evaluation.stats import (
    IntervalEstimate,
    bootstrap_mean_interval,
    interval_detectable,
    mcnemar_detectable,
    mcnemar_exact,
    paired_bootstrap_difference,
    pass_at_k,
    pgr,
    sign_flip_exact,
    wilson_interval,
)
from weak_to_strong.tables.schemas import ALL_SEEDS, METRICS, SCORERS

FLOOR, CEILING, BASELINE = "weak", "ceiling", "full_weak"
#: The model that another one should improve on: see `graph.Graph.predecessor`.
PREDECESSOR = "predecessor"
#: The model from which another one differs in one thing: see `graph.Graph.counterpart`.
COUNTERPART = "counterpart"
#: The paper's Stage I: see `graph.Graph.last_hybrid`.
HYBRID = "hybrid_ft"
#: In the column `scorer`: a row about both scorers together.
BOTH = "both"
#: Columns that identify a node, a model over all seeds.
NODE_COLUMNS = ("task", "weak", "strong", "method", "stage", "iteration")
#: Metrics of `headline_results`.
HEADLINE_METRICS = (
    *("accuracy", "difference_vs_full_weak", "mcnemar_p_vs_full_weak"),
    *("sign_flip_p_vs_full_weak", "pgr"),
)


def majority_right(scores: pl.DataFrame, k: int, scorer: str) -> pl.DataFrame:
    """Whether the majority answer of the first k samples of a question is right.

    The vote is the paper's (section 3.2): it is taken over normalised predictions, an empty
    prediction is a vote for no answer, and of equally frequent predictions the first wins. The
    verdict is that of the first sample with the winning prediction.

    Args:
        scores: SCORES of requests with at least k samples for each question.
        k: number of samples that vote.
        scorer: "paper" or "math".

    Returns:
        Columns request, id, right (Boolean); one row for each question, in the order of `scores`.
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
    """Results of requests to one test set for each question, as arrays in one order of questions.

    Attributes:
        levels: level of each question, or None.
    """

    def __init__(self, scores: pl.DataFrame, nodes: Mapping[str, Mapping[str, Any]]) -> None:
        self.nodes = nodes
        self.tables = scores.partition_by("request", as_dict=True, maintain_order=True)
        first = next(iter(self.tables.values()))
        questions = first.unique("id", maintain_order=True)
        self.ids = questions["id"]
        self.levels = questions["level"].to_numpy()
        self.cache: dict[tuple[str, str], NDArray] = {}

    def table(self, request: str) -> pl.DataFrame:
        """SCORES of a request."""
        return self.tables[(request,)]

    def samples(self, request: str) -> int:
        """Number of samples of each question."""
        return self.table(request)["sample"].n_unique()

    def _per_question(self, values: pl.DataFrame, request: str) -> NDArray:
        """The second column of [id, value] in the common order of questions."""
        ordered = self.ids.to_frame().join(values, on="id", how="left", maintain_order="left")
        column = ordered.to_series(1)
        if column.null_count() or values.height != len(self.ids):
            raise ValueError(
                f"request {request}: its questions differ from those of the task's other requests; "
                "score them again"
            )
        return column.to_numpy()

    def right_counts(self, request: str, scorer: str) -> NDArray:
        """Number of right samples of each question. Shape: (questions,)."""
        key = request, scorer
        if key not in self.cache:
            counts = self.table(request).group_by("id").agg((pl.col(scorer) == "right").sum())
            self.cache[key] = self._per_question(counts, request).astype(np.float64)
        return self.cache[key]

    def majority(self, request: str, k: int, scorer: str) -> NDArray:
        """1 where the majority of the first k samples is right, else 0. Shape: (questions,)."""
        voted = majority_right(self.table(request), k, scorer).select("id", "right")
        return self._per_question(voted, request).astype(np.float64)

    def named(self, request: str, reference: str) -> str | None:
        """The greedy request that the facts of a request name as its `reference`."""
        name = self.nodes[request].get(reference)
        return name if (name,) in self.tables else None

    def partner(self, request: str, method: str, columns: Sequence[str]) -> str | None:
        """The greedy request of `method` with the same values in `columns` and the same seed."""
        facts = self.nodes[request]
        matching = [
            candidate
            for (candidate,) in self.tables
            if self.nodes[candidate]["method"] == method
            and self.nodes[candidate]["decoding"] == "greedy"
            and all(self.nodes[candidate][column] == facts[column] for column in (*columns, "seed"))
        ]
        if len(matching) > 1:
            raise ValueError(
                f"request {request}: {len(matching)} models of method {method}: {matching}"
            )
        return matching[0] if matching else None

    def partners(self, requests: list[str]) -> dict[str, list[str | None]]:
        """The models that each request's model is compared with; None where there is none."""
        chain = ("task", "weak", "strong")
        return {
            FLOOR: [self.partner(request, FLOOR, ("task", "weak")) for request in requests],
            CEILING: [self.partner(request, CEILING, ("task", "strong")) for request in requests],
            BASELINE: [self.partner(request, BASELINE, chain) for request in requests],
            **{
                reference: [self.named(request, reference) for request in requests]
                for reference in (PREDECESSOR, COUNTERPART, HYBRID)
            },
        }


class _Run(NamedTuple):
    """Requests of one node and decoding: those of one seed, or of all seeds (ALL_SEEDS).

    Attributes:
        node: values of NODE_COLUMNS.
        seed: the seed, or ALL_SEEDS.
        decoding: "greedy" or "samples".
        requests: one for each seed.
    """

    node: tuple
    seed: int
    decoding: str
    requests: list[str]


class _Rows:
    """Maker of the METRICS rows of one test set."""

    def __init__(
        self, results: _Results, experiment: str, split: str, bootstrap: Mapping[str, int]
    ) -> None:
        self.results, self.experiment, self.split = results, experiment, split
        self.bootstrap = bootstrap

    def _row(
        self,
        run: _Run,
        scorer: str,
        metric: str,
        estimate: IntervalEstimate,
        n: int,
        **more: Any,
    ) -> dict:
        """One row; `more` replaces the values of further columns."""
        value, low, high = (None if math.isnan(number) else number for number in estimate)
        return {
            "experiment": self.experiment,
            **dict(zip(NODE_COLUMNS, run.node, strict=True)),
            "seed": run.seed,
            "split": self.split,
            "scorer": scorer,
            "metric": metric,
            "k": 1,
            "n": n,
            "value": value,
            "ci_low": low,
            "ci_high": high,
            "reference": None,
            "detectable": None,
            **more,
        }

    def _accuracy(self, right: NDArray) -> IntervalEstimate:
        """Wilson interval for one seed, bootstrap over seeds and questions for several."""
        if len(right) > 1:
            return bootstrap_mean_interval(right, **self.bootstrap)
        successes, n = int(right.sum()), right.size
        return IntervalEstimate(successes / n, *wilson_interval(successes, n))

    def greedy(self, run: _Run, scorer: str) -> Iterator[dict]:
        """Accuracy, also by level, and comparisons with other models, of greedy answers."""
        results = self.results
        right = np.stack([results.right_counts(request, scorer) for request in run.requests])
        yield self._row(run, scorer, "accuracy", self._accuracy(right), right.size)
        for level in sorted({level for level in results.levels if level is not None}):
            part = right[:, results.levels == level]
            split = f"{self.split}/level={level}"
            yield self._row(run, scorer, "accuracy", self._accuracy(part), part.size, split=split)
        # A node is compared only where its partner was run with the same seeds.
        partners = {
            reference: requests
            for reference, requests in results.partners(run.requests).items()
            if all(requests)
        }
        paired = {
            reference: np.stack([results.right_counts(request, scorer) for request in requests])
            for reference, requests in partners.items()
        }
        method = run.node[NODE_COLUMNS.index("method")]
        for reference in (BASELINE, PREDECESSOR, COUNTERPART, HYBRID):
            if reference in paired and method != reference:
                name = node_text(results.nodes[partners[reference][0]])
                yield from self._difference(run, scorer, right, reference, paired[reference], name)
        if FLOOR in paired and CEILING in paired and method not in (FLOOR, CEILING):
            gap = pgr(right, paired[FLOOR], paired[CEILING], **self.bootstrap)
            yield self._row(run, scorer, "pgr", gap, right.size)

    def _difference(
        self, run: _Run, scorer: str, right: NDArray, reference: str, base: NDArray, name: str
    ) -> Iterator[dict]:
        """Difference to a reference of some name, and the exact test of it."""
        difference = paired_bootstrap_difference(right, base, **self.bootstrap)
        wins, losses = int((right > base).sum()), int((right < base).sum())
        single = len(right) == 1
        detectable = (
            mcnemar_detectable(right.size, wins + losses)
            if single
            else interval_detectable(difference.low, difference.high)
        )
        more = {"reference": name, "detectable": None if math.isnan(detectable) else detectable}
        yield self._row(run, scorer, f"difference_vs_{reference}", difference, right.size, **more)
        if single:
            test, p = "mcnemar", mcnemar_exact(wins, losses)
        else:
            test, p = "sign_flip", sign_flip_exact((right - base).sum(axis=0))
        estimate = IntervalEstimate(p, math.nan, math.nan)
        yield self._row(run, scorer, f"{test}_p_vs_{reference}", estimate, right.size)

    def sampled(self, run: _Run, scorer: str, ks: Sequence[int]) -> Iterator[dict]:
        """pass@k and maj@k of sampled answers."""
        results = self.results
        samples = min(results.samples(request) for request in run.requests)
        for k in (k for k in ks if k <= samples):
            for metric in ("pass_at_k", "maj_at_k"):
                values = [
                    pass_at_k(results.samples(request), results.right_counts(request, scorer), k)
                    if metric == "pass_at_k"
                    else results.majority(request, k, scorer)
                    for request in run.requests
                ]
                estimate = bootstrap_mean_interval(values, **self.bootstrap)
                yield self._row(run, scorer, metric, estimate, np.size(values), k=k)

    def scorers(self, run: _Run) -> Iterator[dict]:
        """How far the scorers agree on the greedy answers of one seed, and what was not decided."""
        table = self.results.table(run.requests[0])
        equal, n = (table["paper"] == table["math"]).sum(), table.height
        estimate = IntervalEstimate(equal / n, *wilson_interval(equal, n))
        yield self._row(run, BOTH, "scorer_agreement", estimate, n)
        for verdict in ("undecided", "timeout"):
            count = float((table["math"] == verdict).sum())
            estimate = IntervalEstimate(count, math.nan, math.nan)
            yield self._row(run, "math", verdict, estimate, n)


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
    """METRICS of every request in `scores` (paper section 4).

    Metrics and their intervals (95 %; null where undefined):
        accuracy: share of right greedy answers, over all questions and by level (Wilson).
        pass_at_k, maj_at_k: see `stats.pass_at_k` and `majority_right` (bootstrap over questions).
        pgr: performance gap recovered between the weak model and the strong ceiling of the same
            task and seed (`stats.pgr`).
        difference_vs_full_weak, mcnemar_p_vs_full_weak: difference of accuracies to full weak
            fine-tuning of the same chain and seed, paired by question (bootstrap), and its exact
            test, not corrected for the number of comparisons.
        difference_vs_predecessor, mcnemar_p_vs_predecessor: the same against the model that this
            one should improve on: of full weak fine-tuning the weak model, of the first iteration
            of Stage I weak ICL, of a later one the iteration before it, of Stage II the model that
            it starts from.
        difference_vs_counterpart, mcnemar_p_vs_counterpart: the same against the model from which
            this one differs in one thing: what a control controls; of a variant the same method of
            its chain.
        difference_vs_hybrid_ft, mcnemar_p_vs_hybrid_ft: the same against the paper's Stage I, the
            last iteration of hybrid_ft.
    A difference has the columns `reference`, the name of the other model, and `detectable`: the
    minimum detectable difference at 80 % power, of the exact test for one seed
    (`stats.mcnemar_detectable`), of the interval for several (`stats.interval_detectable`).
        scorer_agreement: share of answers with equal verdicts (Wilson).
        undecided, timeout: numbers of such verdicts of the math scorer.
    A node with several seeds also has rows with seed -1: the mean over the seeds, with a bootstrap
    over seeds and questions; `n` is then seeds x questions. In place of McNemar's test these have
    that of `stats.sign_flip_exact`: sign_flip_p_vs_<the other model>.

    Args:
        scores: SCORES of any number of tasks.
        nodes: request -> {task, weak, strong, method, stage, iteration, seed, decoding,
            predecessor, counterpart, hybrid_ft}. `decoding` is "greedy" or "samples"; the last
            three are the greedy request of another node, or None. Where a task has several test
            sets, `test_set` names the request's.
        experiment: its name.
        ks: k of pass@k and maj@k; a k above the number of samples is left out.
        split: name of the evaluated split; of several test sets each is `<split>-<test_set>`.
            Models are compared within a test set only.
        bootstrap_draws: number of resamples.
        seed: of the resampling.

    Raises:
        ValueError: requests and nodes do not match, two requests have the same node, seed and
            decoding, or requests of a task have different questions.
    """
    scored = scores["request"].unique(maintain_order=True).to_list()
    if unmatched := sorted({*scored} ^ {*nodes}):
        raise ValueError(
            f"metrics: {len(unmatched)} requests lack scores or a node, first {unmatched[0]}"
        )
    bootstrap = {"seed": seed, "draws": bootstrap_draws}
    rows: list[dict] = []
    by_set: dict[tuple[str, str | None], list[str]] = {}
    for request, facts in nodes.items():
        by_set.setdefault((facts["task"], facts.get("test_set")), []).append(request)
    for (_, test_set), requests in by_set.items():
        of_set = scores.filter(pl.col("request").is_in(requests))
        name = f"{split}-{test_set}" if test_set else split
        maker = _Rows(_Results(of_set, nodes), experiment, name, bootstrap)
        for run in _runs(requests, nodes):
            for scorer in SCORERS:
                if run.decoding == "greedy":
                    rows += maker.greedy(run, scorer)
                else:
                    rows += maker.sampled(run, scorer, ks)
            if run.decoding == "greedy" and run.seed != ALL_SEEDS:
                rows += maker.scorers(run)
    table = pl.DataFrame(rows, schema=METRICS)
    # The last digits may depend on the order in which the BLAS library adds.
    return table.with_columns(
        pl.col("value", "ci_low", "ci_high").round_sig_figs(10), pl.col("detectable").round(6)
    )


def _runs(requests: Sequence[str], nodes: Mapping[str, Mapping[str, Any]]) -> Iterator[_Run]:
    """Runs on a test set, node by node: each seed, then all seeds together if there are several."""
    groups: dict[tuple, dict[str, dict[int, str]]] = {}
    for request in requests:
        facts = nodes[request]
        by_seed = groups.setdefault(node_of(facts), {}).setdefault(facts["decoding"], {})
        if facts["seed"] in by_seed:
            raise ValueError(f"metrics: request {request} repeats {by_seed[facts['seed']]}")
        by_seed[facts["seed"]] = request
    for node, decodings in groups.items():
        for decoding, by_seed in decodings.items():
            seeds = sorted(by_seed)
            for seed in seeds:
                yield _Run(node, seed, decoding, [by_seed[seed]])
            if len(seeds) > 1:
                yield _Run(node, ALL_SEEDS, decoding, [by_seed[seed] for seed in seeds])


def node_of(facts: Mapping[str, Any]) -> tuple:
    """Values of NODE_COLUMNS."""
    return tuple(facts[column] for column in NODE_COLUMNS)


def node_text(facts: Mapping[str, Any]) -> str:
    """A method with its iteration, where it has one: `hybrid_ft 2`."""
    return facts["method"] + (f" {facts['iteration']}" if facts["iteration"] else "")


def headline_results(metrics: pl.DataFrame) -> list[dict]:
    """One record for each node, seed and evaluated split.

    It is {columns of the node, seed, split, paper, math}.

    `paper` and `math` hold the HEADLINE_METRICS of a scorer, each {value, ci_low, ci_high, n,
    detectable} or None where it does not apply.

    Args:
        metrics: METRICS.
    """
    over_all_levels = ~pl.col("split").str.contains("/level=")
    chosen = metrics.filter(over_all_levels & pl.col("metric").is_in(HEADLINE_METRICS))
    records: dict[tuple, dict] = {}
    for row in chosen.iter_rows(named=True):
        facts = {column: row[column] for column in (*NODE_COLUMNS, "seed", "split")}
        record = records.setdefault(
            tuple(facts.values()),
            {**facts, **{scorer: dict.fromkeys(HEADLINE_METRICS) for scorer in SCORERS}},
        )
        record[row["scorer"]][row["metric"]] = {
            column: row[column] for column in ("value", "ci_low", "ci_high", "n", "detectable")
        }
    return list(records.values())


def metrics_json(metrics: pl.DataFrame) -> dict:
    """{"experiment", "models": `headline_results`, "metrics": every row without nulls}.

    The models name their split where several test sets were evaluated.
    """
    models = headline_results(metrics)
    if len({record["split"] for record in models}) == 1:
        models = [{key: v for key, v in record.items() if key != "split"} for record in models]
    return {
        "experiment": metrics["experiment"][0] if metrics.height else None,
        "models": models,
        "metrics": [
            {key: value for key, value in row.items() if key != "experiment" and value is not None}
            for row in metrics.iter_rows(named=True)
        ],
    }


def accuracy_figures(
    metrics: pl.DataFrame, nodes: Mapping[str, Mapping[str, Any]], split: str
) -> dict[str, dict[str, float]]:
    """What trackers show of each model: its accuracy by both scorers, with the interval.

    Args:
        metrics: METRICS.
        nodes: request -> facts of its node, see `metrics_table`.
        split: name of the evaluated split.

    Returns:
        Figures by the key of the model, which is the name of its request before `#`. Each scorer
        has `evaluation/accuracy_<scorer>`, and the same with `_low` and `_high`. Of several test
        sets the name of the split comes before these.
    """
    columns = (*NODE_COLUMNS, "seed")
    # Rows of a level have a slash in the split.
    evaluated = pl.col("split").str.contains(f"^{split}(-[^/]+)?$")
    rows = metrics.filter(pl.col("metric") == "accuracy", evaluated)
    by_model: dict[tuple[Any, ...], dict[str, float]] = {}
    for row in rows.iter_rows(named=True):
        test_set = "" if row["split"] == split else f"_{row['split']}"
        name = f"evaluation/accuracy_{row['scorer']}{test_set}"
        figures = by_model.setdefault(tuple(row[column] for column in columns), {})
        figures |= {
            name: row["value"],
            f"{name}_low": row["ci_low"],
            f"{name}_high": row["ci_high"],
        }
    return {
        request.partition("#")[0]: by_model[key]
        for request, facts in nodes.items()
        if (key := tuple(facts[column] for column in columns)) in by_model
    }
