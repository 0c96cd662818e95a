"""Download one raw file and verify it.

Params:
    source: source entry of the config (`url` or `hub`; see weak_to_strong/sources.py).
Output:
    file: the file, its sha256 checked where the entry has one.
"""

from typing import Any

from weak_to_strong.logs import run_script
from weak_to_strong.sources import fetch_source


def main(snakemake: Any) -> None:
    """Download and check."""
    fetch_source(snakemake.params.source, snakemake.output.file)


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
