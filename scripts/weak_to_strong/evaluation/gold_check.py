"""Gold answers graded against themselves, before anything is trained.

Each gold solution is read as a response is. Where the answer that is read is not the gold answer,
not even a perfect model would be right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from weak_to_strong.data.split_names import split_key
from weak_to_strong.evaluation.judges import choose_judge
from weak_to_strong.method.answer_keys import BOXED
from weak_to_strong.method.answers import PaperQuirks, extract_column, judge_table, normalise_column
from weak_to_strong.method.prompts import clean_column, sft_target

#: No answer has more characters than this: a longer gold answer is a whole solution.
LONGEST_GOLD = 300

#: A gold answer that is not read back: its text, what is read in its place, and the fix.
UNREAD_GOLD = pl.Schema({"id": pl.String, "answer": pl.String, "read": pl.String, "fix": pl.String})


def find_unread_gold(
    problems: pl.DataFrame, reading: Mapping[str, Any], workers: int = 1
) -> pl.DataFrame:
    """UNREAD_GOLD of the rows whose gold target does not give the gold answer.

    Args:
        problems: PROBLEMS of one split. Rows without an answer are left out.
        reading: how the task's answers are read: `answer_key`, `stop`, `extraction`, `quirks` and
            `judge` (settings of `choose_judge`).
        workers: most comparison processes at once.
    """
    rows = problems.filter(pl.col("answer").is_not_null())
    key, stops = reading["answer_key"], reading["stop"]
    targets = pl.Series(
        [_target(*row, key) for row in rows.select("solution", "answer").iter_rows()],
        dtype=pl.String,
    )
    read = extract_column(clean_column(targets, stops), key, reading["extraction"])
    gold = rows["answer"]
    table = pl.DataFrame({"id": rows["id"], "read": read, "gold": gold})
    if reading["judge"]["name"] == "string":
        quirks = PaperQuirks(**reading["quirks"])
        table = table.with_columns(
            normalise_column(table[name], quirks) for name in ("read", "gold")
        )
    judge = choose_judge(reading["judge"], problems, workers)
    same = (judge_table(table, judge) == "right") & (table["read"] != "")
    plausible = ~gold.str.contains(key, literal=True) & (gold.str.len_chars() <= LONGEST_GOLD)
    bad = (~(same & plausible)).arg_true()
    unread = [
        (rows["id"][row], gold[row], read[row], _fix(gold[row], targets[row], key, stops))
        for row in bad
    ]
    return pl.DataFrame(unread, schema=UNREAD_GOLD, orient="row")


def check_gold(
    splits: Mapping[str, pl.DataFrame],
    reading: Mapping[str, Any],
    allowed: float,
    task: str,
    workers: int = 1,
) -> dict[str, int]:
    """Rows of each split whose gold is not read back, where there are such rows.

    Args:
        splits: PROBLEMS by name.
        reading: as for `find_unread_gold`.
        allowed: share of a split's rows that may fail, in [0, 1].
        task: its name, for messages.

    Raises:
        ValueError: a larger share fails; the message names the first ids and the fix.
    """
    counts = {}
    for name, problems in splits.items():
        unread = find_unread_gold(problems, reading, workers)
        if unread.height:
            counts[name] = unread.height
        if unread.height > allowed * problems.height:
            row = unread.row(0, named=True)
            ids = ", ".join(unread["id"][:3])
            example = f"{_quote(row['answer'])} is read as {_quote(row['read'])}"
            raise ValueError(
                f"tasks.{task}.splits.{split_key(name)}: {unread.height} of {problems.height} gold "
                f"answers are not read back from their own text (first ids {ids}; {example}): "
                f"{row['fix']}, or allow a share of such rows with tasks.{task}.gold_unread"
            )
    return counts


def count_stops(splits: Mapping[str, pl.DataFrame], stops: list[str]) -> dict[str, int]:
    """Stop string -> gold solutions of all splits in which it occurs; none without a solution.

    Args:
        splits: name of a split -> table with the column `solution`, null where there is none.
        stops: stop strings of the task.
    """
    solutions = pl.concat([frame["solution"] for frame in splits.values()]).drop_nulls()
    counts = {stop: int(solutions.str.contains(stop, literal=True).sum()) for stop in stops}
    return {stop: count for stop, count in counts.items() if count}


def _target(solution: str | None, answer: str, key: str) -> str:
    """What a model that knows the gold answers by itself."""
    if solution is not None:
        try:
            return sft_target(solution, answer, key)
        except ValueError:  # no line with the answer: only what is trained on needs one
            pass
    return rf"\boxed{{{answer}}}" if key == BOXED else f"{key} {answer}"


def _fix(answer: str, target: str, key: str, stops: list[str]) -> str:
    """What to change so that a gold answer is read back."""
    if key in answer:
        reader = {"####": "use `loader: gsm8k`, or ", BOXED: "use `loader: math`, or "}.get(key, "")
        return f"the answer holds {key!r}: {reader}name its own column in `columns`"
    if "\n" in answer or len(answer) > LONGEST_GOLD:
        return "the answer is a whole text: name the column of the answer alone in `columns`"
    if inside := next((stop for stop in stops if stop in target), None):
        return f"the stop string {inside!r} is in the text: set other `stop` strings"
    return "check `answer_key`, `extraction` and `columns`"


def _quote(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
