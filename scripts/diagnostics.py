"""Quality of labels, filters, votes and pairs against the withheld gold of train_2.

Input:
    files: every table that a chain names. The script finds them by the chains.
Params:
    chains: list of {task, weak, strong, seed, answer_key, extraction, quirks, judge, questions,
        gold, kept, weak_labels, icl_labels, votes, samples, selections,
        answers, blind_spots, pairs}; see `diagnostics.chain_diagnostics`.
    bins: of the calibration table.
Threads: most comparison processes at once.
Output:
    csv: DIAGNOSTICS.
    json: the same rows without nulls.
"""

from typing import Any

from weak_to_strong.evaluation.diagnostics import diagnostics_table
from weak_to_strong.jobs.script import run_script
from weak_to_strong.tables.files import publish, write_json


def main(snakemake: Any) -> None:
    """Measure and publish."""
    params = snakemake.params
    table = diagnostics_table(params.chains, params.bins, snakemake.threads)
    with publish(snakemake.output.csv) as part:
        table.write_csv(part)
    rows = (
        {key: value for key, value in row.items() if value is not None}
        for row in table.iter_rows(named=True)
    )
    write_json(list(rows), snakemake.output.json)


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
