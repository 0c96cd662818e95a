"""Remove what finished experiments need no more: `make clean-work`.

In `results/store/` lie generated shards by request, and checkpoints of trainings that have not
ended (a training removes its own when it ends). A job that was killed as it wrote leaves a hidden
`.part` or `.old` beside what it would have made. The shards of a finished experiment serve only to
spare a changed one the generation of what has not changed; its texts are in its results.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from weak_to_strong.tables.files import AGAIN, has_writer, published_name, read_json

REPORT = "report/index.html"
#: Key of a request, the name of its folder in the store.
KEY = re.compile(r"[0-9a-f]{64}")


def finished_requests(results: Path) -> set[str]:
    """Keys of all requests of the experiments in `results` that have their report.

    Raises:
        ValueError: a file of theirs cannot be read or has something else for a key; names it.
    """
    keys = set()
    for report in results.glob(f"*/{REPORT}"):
        for stats in (report.parents[1] / "generations").rglob("*.json"):
            try:
                found = {request["key"] for request in read_json(stats).values()}
                # What is removed has such a name.
                odd = [key for key in found if not KEY.fullmatch(key)]
            except (AttributeError, KeyError, TypeError) as error:
                raise ValueError(f"{stats}: no facts of requests ({error!r}); {AGAIN}") from error
            if odd:
                raise ValueError(f"{stats}: {odd[0]!r} is no key of a request; {AGAIN}")
            keys |= found
    return keys


def find_leftovers(results: Path) -> list[Path]:
    """What killed jobs did not come to rename, anywhere in `results`."""
    left = []
    for folder, folders, files in os.walk(results):
        found = [Path(folder, name) for name in (*folders, *files)]
        found = [path for path in found if published_name(path)]
        left += [path for path in found if not has_writer(path)]
        folders[:] = [name for name in folders if Path(folder, name) not in found]
    return left


def clean(results: Path, *, everything: bool) -> tuple[int, int]:
    """Remove shards of finished experiments, or all that is in the store; torn files everywhere.

    Args:
        results: folder of all experiments.
        everything: also shards and checkpoints of what has not finished.

    Returns:
        Number of what was removed and its bytes.

    Raises:
        ValueError: as for `finished_requests`; nothing is removed then.
    """
    store = results / "store"
    if everything:
        folders = [*(store / "requests").glob("*"), *(store / "training").glob("*")]
    else:
        folders = [store / "requests" / key for key in sorted(finished_requests(results))]
    removed = size = 0
    # What was torn in a folder of these goes with it.
    for path in filter(Path.exists, [*filter(Path.is_dir, folders), *find_leftovers(results)]):
        files = [file for file in (path, *path.rglob("*")) if file.is_file()]
        size += sum(file.stat().st_size for file in files)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        removed += 1
    return removed, size


def main(argv: Sequence[str]) -> int:
    """Clean the project folder in which this is called.

    Returns:
        1 where a run is at work there, or a file that says what is finished cannot be read.
    """
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
        try:
            removed, size = clean(Path("results"), everything=arguments.all)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 1
    print(f"{removed} work folders and torn files removed, {size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
