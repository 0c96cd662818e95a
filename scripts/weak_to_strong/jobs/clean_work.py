"""Remove files that finished experiments no longer need: `make clean-work`.

`results/store/` has the generated shards of each request, the checkpoints of unfinished trainings
(a training removes its own when it ends), a note of each trained model, from which an equal
training copies it, and the views of models: folders of links, which the next job makes again. A job
that is killed while it writes leaves a hidden `.part` or `.old` beside the file that it would have
made. The texts of a finished experiment are in its results. Its shards serve only a changed
experiment, which then generates less anew.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from weak_to_strong.jobs.errors import explain
from weak_to_strong.jobs.locks import claim_folder
from weak_to_strong.jobs.snakemake_adapter import FOLDER
from weak_to_strong.tables.files import AGAIN, has_writer, published_name, read_json

REPORT = "report/index.html"
#: The key of a request is the name of its folder in the store.
KEY = re.compile(r"[0-9a-f]{64}")


def finished_requests(results: Path) -> set[str]:
    """Keys of all requests of finished experiments: those with a report in `results`.

    Raises:
        ValueError: a file about requests cannot be read, or has no valid key; names the file.
    """
    keys = set()
    for report in results.glob(f"*/{REPORT}"):
        for stats in filter(Path.is_file, (report.parents[1] / "generations").rglob("*.json")):
            try:
                named = {request["key"] for request in read_json(stats).values()}
                # Checked before anything is removed: a key becomes the path of a folder.
                invalid = [key for key in named if not KEY.fullmatch(key)]
            except (AttributeError, KeyError, TypeError) as error:
                raise ValueError(f"{stats}: lists no requests ({error!r}); {AGAIN}") from error
            if invalid:
                raise ValueError(f"{stats}: {invalid[0]!r} is not the key of a request; {AGAIN}")
            keys |= named
    return keys


def find_leftovers(results: Path) -> list[Path]:
    """Unfinished files and folders of killed jobs, anywhere in `results`."""
    leftovers = []
    for folder, folders, files in os.walk(results):
        paths = [Path(folder, name) for name in (*folders, *files)]
        unfinished = [path for path in paths if published_name(path)]
        leftovers += [path for path in unfinished if not has_writer(path)]
        folders[:] = [name for name in folders if Path(folder, name) not in unfinished]
    return leftovers


def clean(results: Path, *, everything: bool) -> tuple[int, int]:
    """Remove shards of finished experiments, views of models, and files of killed jobs.

    Args:
        results: folder of all experiments.
        everything: remove shards and checkpoints of unfinished experiments too, and all notes.

    Returns:
        Number of the removed files and folders, and their bytes.

    Raises:
        ValueError: see `finished_requests`; nothing is removed then.
    """
    store = results / "store"
    if everything:
        folders = [*store.glob("requests/*"), *store.glob("training/*"), *store.glob("models/*")]
    else:
        folders = [store / "requests" / key for key in sorted(finished_requests(results))]
    removed = size = 0
    # A folder of the store takes the unfinished files in it along.
    for path in [*folders, *find_leftovers(results)]:
        if not os.path.lexists(path):
            continue
        if path.is_dir() and not path.is_symlink():
            size += sum(_size(file) for file in path.rglob("*"))
            shutil.rmtree(path)
        else:  # of a link, only the link goes: what it leads to may be anywhere
            size += _size(path)
            path.unlink()
        removed += 1
    # No run is at work, so no job reads a view. Links take no room, so they are not counted.
    shutil.rmtree(store / "views", ignore_errors=True)
    return removed, size


def _size(path: Path) -> int:
    """Bytes of a file; 0 for a folder, a link, or what has no size."""
    status = path.lstat()
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def main(argv: Sequence[str]) -> int:
    """Clean the project folder in which this is called.

    Returns:
        1 where a run is at work there, a file about requests is damaged, or a file cannot be
        removed; else 0.
    """
    parser = argparse.ArgumentParser(prog="clean_work", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--all", action="store_true", help="remove the work of unfinished experiments too"
    )
    arguments = parser.parse_args(argv)
    try:
        with claim_folder(FOLDER) as is_free:
            if not is_free:
                raise ValueError("a run is at work in this folder; clean up after it has ended")
            removed, size = clean(Path("results"), everything=arguments.all)
    except (ValueError, OSError) as error:
        print(explain(error) or error, file=sys.stderr)
        return 1
    print(f"{removed} work folders and torn files removed, {size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
