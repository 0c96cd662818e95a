"""What a run cost: a ledger with one row for each job, from the jobs' records; sums by rule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from weak_to_strong.jobs.records import read_job_records
from weak_to_strong.tables.files import AGAIN

#: ledger.csv: one row for each job, named by its log. Units are seconds, megabytes (2**20 bytes)
#: and tokens. A value is null where it was not measured, or where a job has no tokens. Figures
#: cover each job's last run; a resumed job counts only the work after it resumed.
LEDGER = pl.Schema(
    {
        "job": pl.String,
        "rule": pl.String,
        # Time since the start of the job's process. CPU time is user and system time.
        "wall_seconds": pl.Float64,
        "cpu_seconds": pl.Float64,
        # Sum over the GPUs that the job used, and their mean utilisation in [0, 1].
        "gpu_seconds": pl.Float64,
        "gpu_utilisation": pl.Float64,
        # Largest sum over its processes, and over its GPUs.
        "peak_memory_mb": pl.Float64,
        "peak_gpu_memory_mb": pl.Float64,
        "prompt_tokens": pl.Int64,
        # The part of the prompt tokens that engines had in their prefix cache.
        "cached_prompt_tokens": pl.Int64,
        # Tokens of answers: of a generation round, or those that a training by reward samples.
        "response_tokens": pl.Int64,
        "trained_tokens": pl.Int64,
        # Price of the tokens of a model behind an endpoint, where the configuration has prices.
        "price": pl.Float64,
        # Starts of engines in a generation round, one for each process and set of weights; the sum
        # of their times, which may overlap; the time from reading the requests to the last text.
        "engine_loads": pl.Int64,
        "engine_start_seconds": pl.Float64,
        "engine_seconds": pl.Float64,
        # Response tokens / engine seconds, or trained tokens / wall time.
        "tokens_per_second": pl.Float64,
    }
)
#: costs.csv: one row for each rule, with the number of its jobs, sums over them, and peaks.
COSTS = pl.Schema(
    {
        "rule": pl.String,
        "jobs": pl.Int64,
        **{
            name: LEDGER[name]
            for name in LEDGER
            if name not in ("job", "rule", "gpu_utilisation", "engine_seconds")
        },
    }
)
#: Endings of the names of columns that are summed.
SUMMED = ("_seconds", "_tokens", "_loads", "price")
#: Columns that do not come from a job's record.
COMPUTED = ("job", "rule", "price", "tokens_per_second")
RECORDED = tuple(name for name in LEDGER if name not in COMPUTED)
_RATE = (
    # A training by reward has response tokens too, but no engine.
    pl.when(pl.col("response_tokens") > 0, pl.col("engine_seconds").is_not_null())
    .then(pl.col("response_tokens") / pl.col("engine_seconds"))
    .when(pl.col("trained_tokens") > 0)
    .then(pl.col("trained_tokens") / pl.col("wall_seconds"))
    .alias("tokens_per_second")
)


def sum_or_null(column: str) -> pl.Expr:
    """Sum of a column, null where all of it is null."""
    return pl.when(pl.col(column).is_not_null().any()).then(pl.col(column).sum()).alias(column)


def _fits(name: str, value: Any) -> bool:
    """Whether a record may have this value: time is always there, and tokens are whole numbers."""
    if value is None:
        return name not in ("wall_seconds", "cpu_seconds")
    kinds = (int,) if LEDGER[name] == pl.Int64 else (int, float)
    return type(value) in kinds and math.isfinite(value) and value >= 0


def _as(frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    return frame.select(pl.col(name).cast(kind) for name, kind in schema.items())


def read_ledger(
    logs: str | Path, prices: Mapping[str, Mapping[str, float]] | None = None
) -> pl.DataFrame:
    """The ledger of a run: LEDGER, jobs in order of their names.

    Args:
        logs: folder of the jobs' logs and, beside them, of their records (`records.py`).
        prices: price of a million tokens, `input` of prompts and `output` of responses, by job.

    Raises:
        ValueError: a record is damaged; names the file.
    """
    rows = []
    for job, record in read_job_records(Path(logs)).items():
        cost = {name: record["cost"].get(name) for name in RECORDED}
        if not all(_fits(name, value) for name, value in cost.items()):
            raise ValueError(
                f"{Path(logs, job)}.json: its `cost` is not what a job measures; {AGAIN}"
            )
        price = _price(cost, (prices or {}).get(job))
        rows.append({"job": job, "rule": record["rule"], **cost, "price": price})
    schema = {name: LEDGER[name] for name in ("job", "rule", *RECORDED, "price")}
    frame = pl.DataFrame(rows, schema=schema, strict=False)
    return _as(frame.with_columns(_RATE), LEDGER)


def _price(cost: Mapping[str, Any], price: Mapping[str, float] | None) -> float | None:
    """Price of a job's tokens; None for a job without a price."""
    if price is None:
        return None
    prompts, responses = cost["prompt_tokens"] or 0, cost["response_tokens"] or 0
    return (prompts * price["input"] + responses * price["output"]) / 1e6


def sum_costs(ledger: pl.DataFrame) -> pl.DataFrame:
    """COSTS from a ledger (LEDGER): rules in order of wall time, the rates of the sums."""
    summed = [name for name in (*RECORDED, "price") if name.endswith(SUMMED)]
    largest = [name for name in RECORDED if name.startswith("peak_")]
    table = ledger.group_by("rule").agg(
        pl.len().alias("jobs"), *map(sum_or_null, summed), pl.col(largest).max()
    )
    return _as(table.with_columns(_RATE), COSTS).sort(
        "wall_seconds", "rule", descending=[True, False]
    )


def total_costs(costs: pl.DataFrame) -> dict[str, Any]:
    """The row "all rules" from COSTS: sums over rules and the largest memory, without a rate."""
    summed = costs.select(
        pl.col("jobs").sum(),
        *(sum_or_null(name) for name in COSTS if name.endswith(SUMMED)),
        pl.col("peak_memory_mb", "peak_gpu_memory_mb").max(),
    )
    return {"rule": "all rules", **summed.row(0, named=True), "tokens_per_second": None}
