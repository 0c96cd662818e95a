"""What a run cost: one table over Snakemake's benchmark files, generation and training records."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import polars as pl

from weak_to_strong.tables import read_json

#: costs.csv, one row a rule. Seconds, megabytes (2**20 bytes) and tokens; null where not measured.
COSTS = pl.Schema(
    {
        "rule": pl.String,
        "jobs": pl.Int64,
        "wall_seconds": pl.Float64,
        "cpu_seconds": pl.Float64,
        "peak_memory_mb": pl.Float64,
        "prompt_tokens": pl.Int64,
        "response_tokens": pl.Int64,
        "trained_tokens": pl.Int64,
        "tokens_per_second": pl.Float64,
    }
)


def _number(text: str | None) -> float | None:
    """A benchmark cell; Snakemake writes "NA" or "-" for what it could not sample."""
    return None if text in (None, "", "NA", "-") else float(text)


def read_benchmark(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a Snakemake (9.27) benchmark file, one a repetition.

    Returns:
        wall_seconds (column `s`), cpu_seconds (`cpu_time`: user and system) and peak_memory_mb
        (`max_rss`); the last two are None for jobs too short to be sampled.

    Raises:
        ValueError: the file has not these columns, or a cell is no number; names the file.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            return [
                {
                    "wall_seconds": float(row["s"]),
                    "cpu_seconds": _number(row["cpu_time"]),
                    "peak_memory_mb": _number(row["max_rss"]),
                }
                for row in csv.DictReader(file, delimiter="\t")
            ]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a Snakemake benchmark file ({error!r})") from error


def _sum(column: str) -> pl.Expr:
    """Sum that stays null where nothing was measured."""
    return pl.when(pl.col(column).is_not_null().any()).then(pl.col(column).sum()).alias(column)


def collect_costs(
    benchmarks: str | Path, models: str | Path | None = None, *, training_rule: str = "train"
) -> pl.DataFrame:
    """Sum what the jobs of each rule took, rules in order of wall time.

    Args:
        benchmarks: folder with `<rule>.tsv` or `<rule>/**/*.tsv`, and beside those of a generating
            rule `*.cost.json` (prompt_tokens, response_tokens, seconds).
        models: folder with the manifests of trained models; facts.tokens are those trained on.
        training_rule: rule that trained them.

    Returns:
        COSTS. `tokens_per_second` is response tokens over the seconds of generation, or trained
        tokens over wall time. Peak memory is the largest of all jobs.

    Raises:
        ValueError: a file is not what its name says; names the file.
    """
    folder = Path(benchmarks)

    def rule_of(path: Path) -> str:
        return path.relative_to(folder).parts[0].removesuffix(".tsv")

    rows = [
        {"rule": rule_of(path), **row}
        for path in sorted(folder.rglob("*.tsv"))
        for row in read_benchmark(path)
    ]
    generated: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.rglob("*.cost.json")):
        generated.setdefault(rule_of(path), []).append(read_json(path))
    manifests = sorted(Path(models).rglob("manifest.json")) if models else []
    trained = [
        facts["tokens"]
        for path in manifests
        if "tokens" in (facts := read_json(path).get("facts") or {})
    ]
    schema = {k: COSTS[k] for k in ("rule", "wall_seconds", "cpu_seconds", "peak_memory_mb")}
    table = (
        pl.DataFrame(rows, schema=schema)
        .group_by("rule")
        .agg(
            pl.len().alias("jobs"),
            _sum("wall_seconds"),
            _sum("cpu_seconds"),
            pl.col("peak_memory_mb").max(),
        )
    )
    tokens = []
    for rule, records in generated.items():
        response = sum(record.get("response_tokens", 0) for record in records)
        seconds = sum(record.get("seconds", 0.0) for record in records)
        tokens.append(
            {
                "rule": rule,
                "prompt_tokens": sum(record.get("prompt_tokens", 0) for record in records),
                "response_tokens": response,
                "tokens_per_second": response / seconds if seconds else None,
            }
        )
    if trained:
        wall = table.filter(pl.col("rule") == training_rule)["wall_seconds"].sum()
        tokens.append(
            {
                "rule": training_rule,
                "trained_tokens": sum(trained),
                "tokens_per_second": sum(trained) / wall if wall else None,
            }
        )
    counted = ("prompt_tokens", "response_tokens", "trained_tokens", "tokens_per_second")
    extra = pl.DataFrame(tokens, schema={k: COSTS[k] for k in ("rule", *counted)})
    return (
        table.join(extra, on="rule", how="full", coalesce=True)
        .with_columns(pl.col("jobs").fill_null(0))
        .select(pl.col(name).cast(kind) for name, kind in COSTS.items())
        .sort(pl.col("wall_seconds").fill_null(0), "rule", descending=[True, False])
    )


def total_costs(costs: pl.DataFrame) -> dict[str, Any]:
    """The last line of the table: sums over rules, the largest memory; no rate."""
    summed = costs.select(
        pl.col("jobs").sum(),
        *(_sum(name) for name in COSTS if name.endswith(("_seconds", "_tokens"))),
        pl.col("peak_memory_mb").max(),
    )
    return {"rule": "all rules", **summed.row(0, named=True), "tokens_per_second": None}
