"""Keep the questions of train_2 on which the weak and the ICL answers agree (Stage I).

Input:
    weak, icl: LABELS of train_2, from the weak and from the ICL side.
    questions: QUESTIONS of train_2.
Params:
    settings: `filter` of the configuration: `keep_empty`, `pad_to` and `pad_seed`; `keep` where a
        variant breaks the filter on purpose.
    judge: settings of `choose_judge`.
Output:
    kept: KEPT.
    summary: JSON {questions, kept, padded, undecided, empty_weak, empty_icl}. `undecided` counts
        the questions whose two answers the judge could not compare.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from weak_to_strong.evaluation.judges import choose_judge
from weak_to_strong.jobs.logs import logger
from weak_to_strong.jobs.script import run_script
from weak_to_strong.method.agreement import agreement_filter, count_empty
from weak_to_strong.method.answers import string_judge
from weak_to_strong.method.training_sets import pad_disagreeing
from weak_to_strong.tables.files import write_json
from weak_to_strong.tables.frames import read_table, write_table
from weak_to_strong.tables.schemas import KEPT, LABELS, QUESTIONS


def main(snakemake: Any) -> None:
    """Filter and count."""
    weak = read_table(snakemake.input.weak, LABELS)
    icl = read_table(snakemake.input.icl, LABELS)
    settings = snakemake.params.settings
    questions = read_table(snakemake.input.questions, QUESTIONS)
    judge = choose_judge(snakemake.params.judge, questions, snakemake.threads)
    verdicts: Counter[str] = Counter()

    def count(answers: Sequence[tuple[str, str, str]]) -> list[str]:
        answer_verdicts = judge(answers)
        verdicts.update(answer_verdicts)
        return answer_verdicts

    counting = judge if judge is string_judge else count  # strings are always decided
    agreeing = kept = agreement_filter(
        weak,
        icl,
        keep_empty=settings["keep_empty"],
        keep=settings.get("keep", "agreeing"),
        judge=counting,
    )
    if settings["pad_to"] is not None:
        kept = pad_disagreeing(agreeing, weak, icl, settings["pad_to"], settings["pad_seed"])
    summary = {
        "questions": len(weak),
        "kept": len(agreeing),
        "padded": len(kept) - len(agreeing),
        "undecided": verdicts["undecided"] + verdicts["timeout"],
        "empty_weak": count_empty(weak),
        "empty_icl": count_empty(icl),
    }
    write_table(kept, KEPT, snakemake.output.kept)
    write_json(summary, snakemake.output.summary)
    logger.info("%(kept)d of %(questions)d questions kept, %(padded)d added as padding", summary)


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
