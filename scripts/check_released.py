"""Check the authors' released files against what this workflow's own functions make of them.

Input:
    released: the released files. The script finds them again below `published_dir`.
    golden: CSV with the columns `released_outcomes.GOLDEN`.
Params:
    published_dir: folder with the released files under their original paths.
Output:
    checks: CSV with the columns `released_outcomes.CHECKS`.
"""

from typing import Any

from weak_to_strong.jobs.logs import logger
from weak_to_strong.jobs.script import run_script
from weak_to_strong.paper.released import Release
from weak_to_strong.paper.released_checks import check_release
from weak_to_strong.paper.released_outcomes import CHECK_VERDICTS, read_golden
from weak_to_strong.tables.files import publish


def main(snakemake: Any) -> None:
    """Check all files that there are."""
    release = Release(snakemake.params.published_dir)
    checks = check_release(release, read_golden(snakemake.input.golden))
    with publish(snakemake.output.checks) as part:
        checks.write_csv(part)
    counts = ", ".join(f"{checks.filter(ok=name).height} {name}" for name in CHECK_VERDICTS)
    logger.info("%d files, %d checks: %s", len(release.paths), checks.height, counts)


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
