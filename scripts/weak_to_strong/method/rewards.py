"""Rewards of sampled answers, and the questions to train on by them (GRPO).

Rewards without a label are those of test-time reinforcement learning (TTRL; Zuo et al., arXiv
2504.16084) and self-rewarded training (SRT; Shafayat et al., arXiv 2505.21444). A group is the
sampled answers to one question in one update; a reward is 1 or 0:

- majority: 1[answer = majority answer of the group];
- weak_label: 1[answer = answer of the weak label];
- agreement: the same, on the questions that the agreement filter keeps;
- random: a fair coin, the control of Shao et al. (arXiv 2506.10947);
- gold: 1[answer = gold answer], for a ceiling only;
- `file.py:name`: any number that a user's function gives.

A sample without a final answer gets 0, but for the coin and for a function. It votes for "no
answer", as in the paper's vote; where that wins, no sample of the group is rewarded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from numbers import Real
from random import Random
from typing import Any

import polars as pl

from weak_to_strong.method.answers import (
    PAPER,
    Judge,
    PaperQuirks,
    judge_table,
    normalise_column,
    string_judge,
)
from weak_to_strong.method.majority_vote import majority_vote
from weak_to_strong.method.prompts import prompt_column
from weak_to_strong.method.user_functions import load_function
from weak_to_strong.tables.schemas import REWARD_ROWS

#: Reward -> the tables that its questions are made from (arguments of `reward_rows`).
TABLES_OF_REWARD = {
    "majority": ("questions",),
    "weak_label": ("questions", "weak_labels"),
    "agreement": ("questions", "kept"),
    "random": ("questions",),
    "gold": ("questions", "gold"),
}
#: Rewards that compare with an answer of the rows. The others need the questions alone.
TARGETED_REWARDS = ("weak_label", "agreement", "gold")

#: Sampled answers of an update. `group` is the number of the question's place in the training,
#: `prompt` the text of its prompt, `response` that of the answer, `answer` the answer of its row.
GROUPED_ANSWERS = pl.Schema(
    {
        "group": pl.Int64,
        "sample": pl.Int32,
        "id": pl.String,
        "prompt": pl.String,
        "response": pl.String,
        "prediction": pl.String,
        "answer": pl.String,
    }
)
#: A file's code runs once in a training, which calls its function at each update.
_load_once = cache(load_function)
#: What a user's function sees of sampled answers.
SHOWN_ANSWERS = tuple(name for name in GROUPED_ANSWERS if name != "answer")


def tables_of_reward(reward: str) -> tuple[str, ...]:
    """The tables that a reward's questions are made from; of a user's function the questions.

    Raises:
        ValueError: an unknown reward.
    """
    if reward not in TABLES_OF_REWARD and ":" not in reward:
        raise ValueError(
            f"reward {reward!r} is not `file.py:name`, nor one of {', '.join(TABLES_OF_REWARD)}"
        )
    return TABLES_OF_REWARD.get(reward, ("questions",))


def reward_rows(
    reward: str,
    questions: pl.DataFrame,
    *,
    prompt: str = "question_answer",
    weak_labels: pl.DataFrame | None = None,
    kept: pl.DataFrame | None = None,
    gold: pl.DataFrame | None = None,
    quirks: PaperQuirks = PAPER,
    raw: bool = False,
) -> pl.DataFrame:
    """The questions to train on, each with the answer that is rewarded where it is known.

    Args:
        reward: one of `TABLES_OF_REWARD`, or a user's function as `file.py:name`.
        questions: QUESTIONS of train_2.
        prompt: style of the prompts, see `prompts.problem_prompt`.
        weak_labels: LABELS of the weak side; for `weak_label`.
        kept: KEPT of the agreement filter; for `agreement`. Its padding is left out.
        gold: GOLD of train_2; for `gold`.
        quirks: flaws of the paper's normalisation to keep, for gold answers.
        raw: leave gold answers as they are, for a judge that reads mathematics.

    Returns:
        REWARD_ROWS in the order of the questions. Questions without an answer to compare with are
        left out: no sample could be rewarded.

    Raises:
        ValueError: an unknown reward, a missing table, or no rows.
    """
    tables = {"questions": questions, "weak_labels": weak_labels, "kept": kept, "gold": gold}
    names = tables_of_reward(reward)
    if missing := [name for name in names if tables[name] is None]:
        raise ValueError(f"reward {reward!r} needs the table {missing[0]!r}")
    if reward in ("weak_label", "agreement"):
        table = weak_labels if reward == "weak_label" else kept
        answers = table.select("id", answer="prediction")
    elif reward == "gold":
        given = gold["answer"]
        answers = gold.select("id").with_columns(
            answer=given if raw else normalise_column(given, quirks)
        )
    else:
        answers = questions.select("id", answer=pl.lit(None, pl.String))
    rows = questions.with_columns(prompt=prompt_column(questions, prompt)).join(
        answers, on="id", how="left", maintain_order="left"
    )
    if reward in TARGETED_REWARDS:
        rows = rows.filter(pl.col("answer") != "")
    if rows.is_empty():
        raise ValueError(
            f"reward {reward!r}: no question has an answer to compare with; look at the table "
            f"{names[-1]!r}"
        )
    return rows.select(REWARD_ROWS.names())


def score_answers(
    reward: str, answers: pl.DataFrame, *, judge: Judge = string_judge, seed: int = 0
) -> list[float]:
    """The reward of each sampled answer, in row order: 1.0 or 0.0, or what a function gives.

    Args:
        reward: one of `TABLES_OF_REWARD`, or a user's function as `file.py:name`. It gets the
            columns SHOWN_ANSWERS and the seed, and returns one number for each row.
        answers: GROUPED_ANSWERS with all samples of each group.
        judge: compares the answers to a question.
        seed: of the coin of `random`, which is thrown anew for each group and sample; and of the
            function.

    Raises:
        ValueError: a sample of a group stands twice; or the function failed, or returned something
            else.
    """
    if ":" in reward:
        numbers = _load_once(reward)(answers.select(SHOWN_ANSWERS), seed)
        return _read_numbers(reward, numbers, answers.height)
    if reward == "random":
        coins = answers.select("group", "sample").rows()
        return [float(Random(f"{seed}/{group}/{sample}").random() < 0.5) for group, sample in coins]
    if reward == "majority":
        majorities = _majorities(answers, judge)
        answers = answers.drop("answer").join(
            majorities, on="group", how="left", maintain_order="left"
        )
    answers = answers.with_row_index("row")
    read = answers.filter(pl.col("prediction") != "", pl.col("answer") != "")
    verdicts = judge_table(read.select("id", "prediction", "answer"), judge)
    right = set(read["row"].filter(verdicts == "right"))
    return [float(row in right) for row in range(answers.height)]


def _read_numbers(reference: str, numbers: Any, height: int) -> list[float]:
    """Check what a user's function returned, and read it as numbers."""
    wanted = f"return {height} numbers, one for each row"
    if not isinstance(numbers, Iterable) or isinstance(numbers, str | dict | pl.DataFrame):
        raise ValueError(f"{reference}: returned {type(numbers).__name__}; {wanted}")
    values = list(numbers)
    if len(values) != height:
        raise ValueError(f"{reference}: returned {len(values)} values; {wanted}")
    for row, value in enumerate(values):
        if not isinstance(value, Real) or not math.isfinite(value):
            raise ValueError(f"{reference}: row {row} has the reward {value!r}; {wanted}")
    return [float(value) for value in values]


def _majorities(answers: pl.DataFrame, judge: Judge) -> pl.DataFrame:
    """Columns group, answer: the majority answer of each group.

    A question may have several groups, so the vote counts by group.
    """
    group = pl.col("group").cast(pl.String)
    question_of = dict(answers.select(group, "id").unique().rows())

    def judge_groups(rows: list[tuple[str, str, str]]) -> list[str]:
        return judge([(question_of[name], one, other) for name, one, other in rows])

    votes = majority_vote(
        answers.select("sample", "prediction", id=group),
        judge=judge if judge is string_judge else judge_groups,
    )
    return votes.select(group=pl.col("id").cast(pl.Int64), answer="majority")
