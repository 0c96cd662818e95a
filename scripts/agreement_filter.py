"""Keep the questions on which the weak and the ICL side agree.

input.weak, input.icl: LABELS of train_2; params.keep_empty: keep questions that neither side
answers. output.kept: KEPT; output.summary: JSON {questions, kept, empty_weak, empty_icl}.
"""

from weak_to_strong.agreement import agreement_filter, count_empty
from weak_to_strong.logs import logger, run_script
from weak_to_strong.tables import KEPT, LABELS, read_table, write_json, write_table


def main(snakemake) -> None:
    weak = read_table(snakemake.input.weak, LABELS)
    icl = read_table(snakemake.input.icl, LABELS)
    kept = agreement_filter(weak, icl, keep_empty=snakemake.params.keep_empty)
    summary = {
        "questions": len(weak),
        "kept": len(kept),
        "empty_weak": count_empty(weak),
        "empty_icl": count_empty(icl),
    }
    write_table(kept, KEPT, snakemake.output.kept)
    write_json(summary, snakemake.output.summary)
    logger.info("%(kept)d of %(questions)d questions kept", summary)


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
