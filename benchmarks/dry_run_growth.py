"""Time of a dry run over the number of jobs: the paper's experiments with one to four seeds.

    python benchmarks/dry_run_growth.py [--seeds 1 2 3 4] [--repeats 1]

A dry run reads and checks the configuration, builds the graph and plans every job; nothing is run
and nothing is written but benchmarks/dry_run_growth.csv. The repeats go round, so that other load
hits all sizes; each time is the median. `ms_per_further_job` is CPU time over that of the smallest.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

import polars as pl
from measuring import ROOT


def dry_run(seeds: int) -> tuple[int, float, float]:
    """Jobs, wall seconds and CPU seconds (process and children) of one dry run."""
    names = ",".join(map(str, range(seeds)))
    command = [sys.executable, "-m", "snakemake", "-n", "--nolock", "--cores", "2"]
    command += ["--configfile", "config/paper/all.yaml"]
    command += ["--config", "experiment=dry_run_growth", f"seeds=[{names}]"]
    with tempfile.TemporaryFile("w+") as output:
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        output.seek(0)
        text = output.read()
    totals = re.findall(r"^total +(\d+)$", text, re.MULTILINE)
    if status or not totals:
        raise SystemExit(text[-2000:])
    return int(totals[-1]), seconds, usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    runs = [(seeds, *dry_run(seeds)) for _ in range(options.repeats) for seeds in options.seeds]
    rows = []
    for seeds in options.seeds:
        _, jobs, wall, cpu = zip(*(run for run in runs if run[0] == seeds), strict=True)
        row = (seeds, jobs[0], statistics.median(wall), statistics.median(cpu))
        further = row[1] - rows[0][1] if rows else 0
        rows.append((*row, 1000 * (row[3] - rows[0][3]) / further if further else None))
    columns = ["seeds", "jobs", "seconds", "cpu_seconds", "ms_per_further_job"]
    table = pl.DataFrame(rows, schema=columns, orient="row")
    table.write_csv(ROOT / "benchmarks/dry_run_growth.csv", float_precision=2)
    print(table)


if __name__ == "__main__":
    main()
