"""Download one raw file and check it.

Params:
    source: entry of the file in the configuration, with `url` or `hub` (see data/sources.py).
Output:
    file: the file. Its sha256 is checked where the entry has one.
"""

from typing import Any

from weak_to_strong.data.sources import fetch_source
from weak_to_strong.jobs.script import run_script


def main(snakemake: Any) -> None:
    """Download and check."""
    fetch_source(snakemake.params.source, snakemake.output.file)


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
