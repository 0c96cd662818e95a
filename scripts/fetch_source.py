"""Download one raw file and verify it.

Params:
    source: source entry of the config (`url` or `hub`; see weak_to_strong/data/sources.py).
Output:
    file: the file, its sha256 checked where the entry has one.
"""

from typing import Any

from weak_to_strong.data.sources import fetch_source
from weak_to_strong.jobs.script import run_script


def main(snakemake: Any) -> None:
    """Download and check."""
    fetch_source(snakemake.params.source, snakemake.output.file)


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
