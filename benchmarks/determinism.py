"""Which artefacts differ when a study is run again: on the same machine, and as if on another.

    python benchmarks/determinism.py run [--variations again one_core ...]
    python benchmarks/determinism.py compare FOLDER OTHER [--name NAME]

`run` makes the demo study with smaller splits in a copy of the project, again for each variation,
and compares all artefacts (what `snakemake verify` records) with those of the first run:

- again: nothing changed;
- one_core: one job at a time, one engine instead of two;
- small_shards: generation in shards of 7 prompts;
- two_threads: sums in training are split over two threads;
- older_cpu: without AVX2, as on a CPU that lacks it (torch and oneDNN are told so).

`compare` does that for two results folders, such as those of `make demo` in two clones. Rows of
benchmarks/determinism.csv: a variation and a kind of artefact (top folder), files, how many are the
same to the last byte, and of metrics the largest difference of an accuracy. Rows of other
variations stay.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl
from measuring import ROOT

from weak_to_strong.jobs.verify import artefacts
from weak_to_strong.tables.files import hash_file

TABLE = ROOT / "benchmarks/determinism.csv"
PROJECT = ("Snakefile", "rules", "scripts", "config", "profiles", "resources", "envs")
SMALLER = """
tasks: {gsm_embedded: {splits: {train_1: 120, train_2: 80, validation: 20, test: 60}}}
sampling: {n: 4}
evaluation: {samples: 0}
"""
COMMAND = (
    *(sys.executable, "-m", "snakemake", "--quiet", "all"),
    *("--configfile", "config/config.yaml", "smaller.yaml"),
)
#: Columns of metrics.csv that hold values; all others identify the row.
VALUES = ("value", "ci_low", "ci_high")
#: Variation -> (arguments of snakemake, environment variables).
VARIATIONS: dict[str, tuple[list[str], dict[str, str]]] = {
    "again": ([], {}),
    "one_core": (["--cores", "1"], {}),
    "small_shards": (["--set-resources", "generate:shard_size=7"], {}),
    "two_threads": ([], {"OMP_NUM_THREADS": "2"}),
    "older_cpu": ([], {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}),
}


def run(folder: Path, arguments: list[str], environment: dict[str, str]) -> Path:
    """Run the study in a copy of the project, and return its results folder.

    Raises:
        RuntimeError: the run failed; has the end of its output.
    """
    for name in PROJECT:
        place = ROOT / name
        (shutil.copytree if place.is_dir() else shutil.copy)(place, folder / name)
    (folder / "smaller.yaml").write_text(SMALLER)
    cores = [] if "--cores" in arguments else ["--cores", "2"]
    completed = subprocess.run(
        [*COMMAND, *cores, *arguments],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if completed.returncode:
        raise RuntimeError(completed.stdout[-3000:])
    return folder / "results/demo"


def accuracies(root: Path) -> pl.DataFrame:
    """Rows of metrics.csv with accuracies."""
    table = pl.read_csv(root / "report/metrics.csv", infer_schema_length=None)
    return table.filter(pl.col("metric") == "accuracy")


def compare(first: Path, second: Path, variation: str) -> pl.DataFrame:
    """Rows of the table for two results folders."""
    names = [{path.relative_to(root) for path in artefacts(root)} for root in (first, second)]
    rows: dict[str, list[int]] = {}
    for name in sorted(names[0] | names[1]):
        in_both = name in names[0] and name in names[1]
        same = in_both and hash_file(first / name) == hash_file(second / name)
        counts = rows.setdefault(name.parts[0], [0, 0])
        counts[0] += 1
        counts[1] += same
        if not same:
            print(f"{variation}: {name} differs")
    keys = [name for name in accuracies(first).columns if name not in VALUES]
    joined = accuracies(first).join(
        accuracies(second), on=keys, how="full", nulls_equal=True, suffix="_other"
    )
    gap = (joined["value"] - joined["value_other"]).abs().max()
    return pl.DataFrame(
        [
            (variation, kind, files, same, gap if kind == "report" else None)
            for kind, (files, same) in rows.items()
        ],
        schema={
            "variation": pl.String,
            "kind": pl.String,
            "files": pl.Int64,
            "identical": pl.Int64,
            "largest_difference_of_accuracy": pl.Float64,
        },
        orient="row",
    )


def record(rows: pl.DataFrame) -> None:
    """Put rows into the table in place of those of the same variations."""
    if TABLE.exists():
        old = pl.read_csv(TABLE, schema=rows.schema)
        kept = old.filter(~pl.col("variation").is_in(rows["variation"].unique().implode()))
        rows = pl.concat([kept, rows])
    rows.write_csv(TABLE, float_precision=4)
    print(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("--variations", nargs="+", choices=VARIATIONS, default=list(VARIATIONS))
    comparing = commands.add_parser("compare")
    comparing.add_argument("folders", type=Path, nargs=2)
    comparing.add_argument("--name", default="demo")
    options = parser.parse_args()
    if options.command == "compare":
        record(compare(*options.folders, options.name))
        return
    with tempfile.TemporaryDirectory() as name:
        first = Path(name) / "first"
        first.mkdir()
        reference = run(first, [], {})
        for variation in options.variations:
            folder = Path(name) / variation
            folder.mkdir()
            record(compare(reference, run(folder, *VARIATIONS[variation]), variation))


if __name__ == "__main__":
    main()
