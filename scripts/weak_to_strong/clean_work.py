"""Remove what finished experiments need no more: `make clean-work`.

In `results/store/` lie generated shards by request, and checkpoints of trainings that have not
ended (a training removes its own when it ends). The shards of a finished experiment serve only to
spare a changed one the generation of what has not changed; its texts are in its results.
"""

from __future__ import annotations

import argparse
import fcntl
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from weak_to_strong.tables import read_json

REPORT = "report/index.html"


def finished_requests(results: Path) -> set[str]:
    """Keys of all requests of the experiments in `results` that have their report."""
    keys = set()
    for report in results.glob(f"*/{REPORT}"):
        for stats in (report.parents[1] / "generations").rglob("*.json"):
            keys |= {request["key"] for request in read_json(stats).values()}
    return keys


def clean(results: Path, *, everything: bool) -> tuple[int, int]:
    """Remove shards of finished experiments, or all that is in the store.

    Args:
        results: folder of all experiments.
        everything: also shards and checkpoints of what has not finished.

    Returns:
        Number of removed folders and their bytes.
    """
    store = results / "store"
    folders = [store / "requests" / key for key in sorted(finished_requests(results))]
    if everything:
        folders = [*(store / "requests").glob("*"), *(store / "training").glob("*")]
    removed = size = 0
    for folder in filter(Path.is_dir, folders):
        size += sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        shutil.rmtree(folder)
        removed += 1
    return removed, size


def main(argv: Sequence[str]) -> int:
    """Clean the project folder in which this is called; 1 where a run is at work there."""
    parser = argparse.ArgumentParser(prog="clean_work", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--all", action="store_true", help="also what experiments that have not finished go on from"
    )
    arguments = parser.parse_args(argv)
    lock = Path(".snakemake/running.flock")
    lock.parent.mkdir(exist_ok=True)
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("a run is at work in this folder; clean when it has ended", file=sys.stderr)
            return 1
        removed, size = clean(Path("results"), everything=arguments.all)
    print(f"{removed} work folders removed, {size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
