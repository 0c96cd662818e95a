"""What an experiment cost on a SLURM cluster: one table, from SLURM's own accounting records.

    python -m weak_to_strong.cluster.slurm_costs EXPERIMENT [--runs ID ...] [--output FILE]

SLURM records what the jobs themselves cannot: the wait in the queue, all nodes of a job, and jobs
that failed or were cut, which cost as much as others. Snakemake's SLURM executor names each job
after its run and writes the rule into the job's comment. The logs in `.snakemake/log` say which
runs worked on an experiment. Rules that ran beside Snakemake are in `report/costs.csv` only.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from weak_to_strong.jobs.costs import read_ledger, sum_costs, sum_or_null
from weak_to_strong.tables.aligned_text import align_columns

#: Columns of sacct that `parse_sacct` reads, in this order.
#:
#: `sacct --json` does not replace them. The JSON of SLURM 22.05 (Debian 12;
#: `src/plugins/openapi/dbv0.0.38/parse.c`) has no submit line, which alone names the rule where a
#: site stores no comments. Its early releases print the eligible time as the start. Later versions
#: arrange the same facts in other ways, and a SLURM built without a JSON library prints no JSON.
FIELDS = (
    *("JobIDRaw", "State", "Partition", "NodeList"),
    *("Submit", "Start", "End", "ElapsedRaw", "CPUTimeRAW", "TotalCPU"),
    *("AllocTRES", "ReqMem", "MaxRSS", "Comment", "SubmitLine"),
)
#: One row for each allocation. Times are the cluster's local times, null before the start or the
#: end. A megabyte has 2**20 bytes. `peak_memory_mb` is the largest of the job's steps.
ALLOCATIONS = pl.Schema(
    {
        "job": pl.String,
        "rule": pl.String,
        "comment": pl.String,
        "state": pl.String,
        "partition": pl.String,
        "nodes": pl.String,
        "submitted": pl.Datetime("ms"),
        "started": pl.Datetime("ms"),
        "ended": pl.Datetime("ms"),
        "wall_seconds": pl.Int64,
        "gpus": pl.Int64,
        "core_seconds": pl.Int64,
        "cpu_seconds": pl.Float64,
        "requested_memory_mb": pl.Float64,
        "peak_memory_mb": pl.Float64,
    }
)
#: One row for each rule. `failed` counts the jobs that did not complete. Waits and wall times are
#: sums over jobs. GPU-hours and CPU-hours are what SLURM allocated; `cpu_used` is the share of the
#: CPU-hours in use, in [0, 1]. Memory is the largest of the jobs. Tokens are those of `costs.csv`:
#: of each training, and of the last job of each round.
SLURM_COSTS = pl.Schema(
    {
        "rule": pl.String,
        "jobs": pl.Int64,
        "failed": pl.Int64,
        "wait_seconds": pl.Int64,
        "wall_seconds": pl.Int64,
        "gpu_hours": pl.Float64,
        "cpu_hours": pl.Float64,
        "cpu_used": pl.Float64,
        "requested_memory_mb": pl.Float64,
        "peak_memory_mb": pl.Float64,
        "prompt_tokens": pl.Int64,
        "response_tokens": pl.Int64,
        "trained_tokens": pl.Int64,
        "tokens_per_gpu_hour": pl.Float64,
    }
)
_SEPARATOR = "\x1f"
_UNITS = {"": 2.0**-20, "K": 2.0**-10, "M": 1.0, "G": 2.0**10, "T": 2.0**20}


def memory_mb(text: str) -> float | None:
    """Megabytes (2**20 bytes) of sacct's "1239376K" or "1000M"; None where SLURM took no sample.

    Raises:
        ValueError: it is not an amount of memory.
    """
    if not text:
        return None
    match = re.fullmatch(r"([0-9.]+)([KMGT]?)[nc]?", text)
    if not match:
        raise ValueError(f"sacct: {text!r} is not an amount of memory, such as 1000M")
    return float(match[1]) * _UNITS[match[2]]


def cpu_seconds(text: str) -> float:
    """Seconds of sacct's "[days-][hours:]minutes:seconds[.thousandths]".

    Raises:
        ValueError: it is not a duration.
    """
    match = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+(?:\.\d+)?)", text)
    if not match:
        raise ValueError(f"sacct: {text!r} is not a duration, such as 1-02:03:04")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def resources(text: str) -> dict[str, str]:
    """Allocated resources by name, of sacct's "cpu=1,gres/gpu=2,mem=8G"."""
    return dict(item.split("=", 1) for item in text.split(",") if item)


def rule_of(comment: str, submit_line: str) -> str | None:
    """The rule that Snakemake submitted a job for; None for a job of something else.

    Args:
        comment: the job's comment, as the executor sets it; empty where the site stores none.
        submit_line: the command that submitted the job, which has the same comment.
    """
    for text in (comment, submit_line.partition(" --comment ")[2]):
        if match := re.match(r"['\"]?rule_(.+?)(?:_wildcards_.*|['\"]?(?:\s.*)?)$", text, re.S):
            return match[1]
    return None


def _allocation(record: dict[str, str]) -> dict[str, Any]:
    """A row of ALLOCATIONS, times still as text, from sacct's line for a whole job."""
    rule = rule_of(record["Comment"], record["SubmitLine"])
    if rule is None:
        job = record["JobIDRaw"]
        raise ValueError(f"sacct: job {job} names no rule; pass run ids of Snakemake to --runs")
    return {
        "job": record["JobIDRaw"],
        "rule": rule,
        "comment": record["Comment"],
        # "CANCELLED by 0" names the user.
        "state": record["State"].split(" ")[0],
        "partition": record["Partition"],
        "nodes": record["NodeList"],
        "submitted": record["Submit"],
        "started": record["Start"],
        "ended": record["End"],
        "wall_seconds": int(record["ElapsedRaw"] or 0),
        "gpus": int(resources(record["AllocTRES"]).get("gres/gpu", 0)),
        "core_seconds": int(record["CPUTimeRAW"] or 0),
        "cpu_seconds": cpu_seconds(record["TotalCPU"]),
        "requested_memory_mb": memory_mb(record["ReqMem"]),
        "peak_memory_mb": None,
    }


def parse_sacct(output: str) -> pl.DataFrame:
    """ALLOCATIONS from the output of `sacct_command`, in order of submission.

    A job that SLURM put back into the queue has one row for each time it ran.

    Raises:
        ValueError: the output has other columns, or a job that Snakemake did not submit.
    """
    rows: list[dict[str, Any]] = []
    for line in filter(None, output.split("\n")):
        cells = line.split(_SEPARATOR)
        if len(cells) != len(FIELDS):
            raise ValueError(f"sacct: {len(cells)} columns, not {len(FIELDS)}: {line[:80]!r}")
        record = dict(zip(FIELDS, cells, strict=True))
        job, _, step = record["JobIDRaw"].partition(".")
        if not step:
            rows.append(_allocation(record))
            continue
        # The steps of a job follow its line. SLURM samples the memory of steps only.
        peak = memory_mb(record["MaxRSS"])
        if rows and rows[-1]["job"] == job and peak is not None:
            rows[-1]["peak_memory_mb"] = max(peak, rows[-1]["peak_memory_mb"] or 0.0)
    times = [name for name, kind in ALLOCATIONS.items() if kind == pl.Datetime("ms")]
    return pl.DataFrame(
        rows, schema={**ALLOCATIONS, **dict.fromkeys(times, pl.String)}
    ).with_columns(
        # Before the start or the end, sacct prints "Unknown" or "None".
        pl.col(name).str.to_datetime("%Y-%m-%dT%H:%M:%S", strict=False, time_unit="ms")
        for name in times
    )


def sacct_command(runs: Sequence[str], since: str) -> list[str]:
    """The command whose output `parse_sacct` reads.

    Args:
        runs: run ids of Snakemake's SLURM executor.
        since: day or time of the oldest records to look for; sacct's own default is midnight.
    """
    return [
        *("sacct", "--parsable2", "--noheader", "--duplicates", f"--delimiter={_SEPARATOR}"),
        *("--allusers", f"--starttime={since}", f"--name={','.join(runs)}"),
        f"--format={','.join(FIELDS)}",
    ]


def find_runs(experiment: str, logs: str | Path = ".snakemake/log") -> tuple[list[str], str]:
    """Ids of the runs that worked on an experiment, and the day of the first one.

    Args:
        experiment: name of the experiment.
        logs: folder of Snakemake's logs, whose names begin with the time of their start.

    Raises:
        ValueError: no log names such a run.
    """
    runs, days = [], []
    for log in sorted(Path(logs).glob("*.snakemake.log")):
        text = log.read_text(encoding="utf-8", errors="replace")
        run = re.search(r"^SLURM run ID: (\S+)$", text, re.M)
        # Written by rules/run.smk.
        name = re.search(r"^Experiment: (\S+)$", text, re.M)
        if run and name and name[1] == experiment:
            runs.append(run[1])
            days.append(log.name[:10])
    if not runs:
        raise ValueError(
            f"{logs}: no run on SLURM of experiment {experiment!r}; call this in the folder where "
            "Snakemake ran, or pass run ids to --runs"
        )
    return runs, days[0]


def read_allocations(runs: Sequence[str], since: str) -> pl.DataFrame:
    """ALLOCATIONS from SLURM's records of some runs.

    Args:
        runs: as of `sacct_command`.
        since: as of `sacct_command`.

    Raises:
        ValueError: this machine has no sacct, SLURM no accounting, or no record of these runs.
    """
    try:
        sacct = subprocess.run(sacct_command(runs, since), capture_output=True, text=True)
    except OSError as error:
        raise ValueError(
            f"sacct: {error.strerror}; call this where SLURM's commands are"
        ) from error
    if sacct.returncode:
        last = (sacct.stderr.strip() or f"status {sacct.returncode}").splitlines()[-1]
        raise ValueError(f"sacct: {last}; the cluster may have no accounting database")
    table = parse_sacct(sacct.stdout)
    if table.is_empty():
        raise ValueError(
            f"sacct: no record of {', '.join(runs)} since {since}; set --since earlier"
        )
    return table


def slurm_costs(allocations: pl.DataFrame, tokens: pl.DataFrame) -> pl.DataFrame:
    """Costs by rule, the most expensive first, with a last row for all rules.

    Args:
        allocations: ALLOCATIONS.
        tokens: `costs.COSTS` of the experiment.

    Returns:
        SLURM_COSTS.
    """
    counted = ("prompt_tokens", "response_tokens", "trained_tokens")
    summed = (
        pl.len().alias("jobs"),
        pl.col("state").ne("COMPLETED").sum().alias("failed"),
        (pl.col("started") - pl.col("submitted")).dt.total_seconds().sum().alias("wait_seconds"),
        pl.col("wall_seconds").sum(),
        (pl.col("wall_seconds") * pl.col("gpus")).sum().truediv(3600).alias("gpu_hours"),
        pl.col("core_seconds").sum().truediv(3600).alias("cpu_hours"),
        pl.when(pl.col("core_seconds").sum() > 0)
        .then(pl.col("cpu_seconds").sum() / pl.col("core_seconds").sum())
        .alias("cpu_used"),
        pl.col("requested_memory_mb").max(),
        pl.col("peak_memory_mb").max(),
    )
    rules = allocations.group_by("rule").agg(summed)
    rules = rules.join(tokens.select("rule", *counted), on="rule", how="left")
    rules = rules.sort("gpu_hours", "cpu_hours", "rule", descending=[True, True, False])
    rules = rules.with_columns(
        pl.when(pl.col("gpu_hours") > 0)
        .then(pl.coalesce("trained_tokens", "response_tokens") / pl.col("gpu_hours"))
        .alias("tokens_per_gpu_hour")
    )
    total = allocations.select(pl.lit("all rules").alias("rule"), *summed)
    total = pl.concat([total, rules.select(map(sum_or_null, counted))], how="horizontal")
    return pl.concat([rules, total], how="diagonal_relaxed").select(
        pl.col(name).cast(kind) for name, kind in SLURM_COSTS.items()
    )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}" if value < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def render_costs(table: pl.DataFrame) -> str:
    """A table as aligned text, with "-" for null."""
    rows = [table.columns, *([*map(_cell, row)] for row in table.iter_rows())]
    return "\n".join(align_columns(rows, left_columns=1))


def main(argv: Iterable[str]) -> int:
    """Print the costs of an experiment and, with --output, write them as CSV; 1 on bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m weak_to_strong.cluster.slurm_costs",
        description="Print what an experiment cost on a SLURM cluster, by rule.",
    )
    parser.add_argument("experiment", help="name of the experiment, as in results/<name>")
    parser.add_argument(
        "--runs", nargs="+", metavar="ID", help="run ids; default: those in the logs"
    )
    parser.add_argument(
        "--since", metavar="DAY", help="with --runs: day of the first run, YYYY-MM-DD"
    )
    parser.add_argument("--output", metavar="FILE", help="CSV file to write")
    arguments = parser.parse_args(list(argv))
    try:
        if arguments.runs:
            if not arguments.since:
                raise ValueError("--since: is missing; give the day of the first run, YYYY-MM-DD")
            runs, since = arguments.runs, arguments.since
        else:
            runs, since = find_runs(arguments.experiment)
        results = Path("results") / arguments.experiment
        table = slurm_costs(
            read_allocations(runs, since),
            sum_costs(read_ledger(results / "logs")),
        )
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(render_costs(table))
    if arguments.output:
        table.write_csv(arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
