"""Columns of the tables that steps exchange, and special values in them."""

from __future__ import annotations

import polars as pl

#: Problems of a task, one row each. `level` and `subject` are null where a task has none.
#: OlympicArena has four more columns, null elsewhere: `answer_type` is the kind of answer, `unit`
#: its unit, `parts` JSON about several answers to one question (`olympicarena_prompts.read_parts`),
#: and `context` a text that the question refers to.
PROBLEMS = pl.Schema(
    {
        "id": pl.String,
        "question": pl.String,
        "solution": pl.String,
        "answer": pl.String,
        "level": pl.String,
        "subject": pl.String,
        "source": pl.String,
        "answer_type": pl.String,
        "unit": pl.String,
        "parts": pl.String,
        "context": pl.String,
    }
)

#: The part of train_2 that the strong model may see: all columns but solution and answer.
QUESTIONS = pl.Schema(
    {name: kind for name, kind in PROBLEMS.items() if name not in ("solution", "answer")}
)

#: The withheld part of train_2. Only diagnostics and ceilings read it.
GOLD = pl.Schema({name: PROBLEMS[name] for name in ("id", "solution", "answer")})

#: Few-shot demonstrations in prompt order; `prompt` is the zero-shot prompt of its question.
DEMONSTRATIONS = pl.Schema({"id": pl.String, "prompt": pl.String, "response": pl.String})

#: Generated texts, one row for each request, id and sample. `response` is the unchanged text.
GENERATIONS = pl.Schema(
    {
        "request": pl.String,
        "id": pl.String,
        "sample": pl.Int32,
        "response": pl.String,
        "finish_reason": pl.String,
        "prompt_tokens": pl.Int32,
        "response_tokens": pl.Int32,
    }
)

#: One side's answer to each question of train_2. `response` is the cleaned text. `prediction` is
#: its final answer, "" if there is none. With the judge `string` it is normalised as in the paper;
#: with the judges `math` and `olympicarena` it stays as it is in the text.
LABELS = pl.Schema({"id": pl.String, "response": pl.String, "prediction": pl.String})

#: Questions on which the weak and the ICL side agree (Stage I). `prediction` is null for padding.
KEPT = pl.Schema(
    {
        "id": pl.String,
        "weak_response": pl.String,
        "icl_response": pl.String,
        "prediction": pl.String,
    }
)

#: Rows for supervised fine-tuning. `completion` starts with one space.
SFT_ROWS = pl.Schema({"id": pl.String, "prompt": pl.String, "completion": pl.String})

#: The same with the weight of each row in the loss; the mean is 1.
WEIGHTED_ROWS = pl.Schema({**SFT_ROWS, "weight": pl.Float64})

#: Questions for training by reward. `answer` is the final answer that is rewarded, null where the
#: reward is known only from the samples. A judge reads the other columns, see PROBLEMS.
REWARD_ROWS = pl.Schema(
    {
        "id": pl.String,
        "prompt": pl.String,
        "answer": pl.String,
        "answer_type": pl.String,
        "unit": pl.String,
        "parts": pl.String,
    }
)

#: Majority answer over the samples of each question; `confidence` is its share, in [0, 1].
VOTES = pl.Schema(
    {"id": pl.String, "majority": pl.String, "confidence": pl.Float64, "samples": pl.Int32}
)

#: Answers of several tables to the same questions, as votes. `source` is the number of the table.
POOLED = pl.Schema(
    {
        "id": pl.String,
        "source": pl.Int32,
        "sample": pl.Int32,
        "response": pl.String,
        "prediction": pl.String,
    }
)

#: Kept questions with the answer that is trained on; several rows for a question with several
#: texts. `share` is that of the text's answer among the votes for the question, in [0, 1].
#: `prediction` is null for padding (`pad_to`).
SELECTED = pl.Schema(
    {"id": pl.String, "response": pl.String, "prediction": pl.String, "share": pl.Float64}
)

#: Contrastive pairs. `weak_side` says which text is the weak model's, or in named preferences that
#: of `one_side`: "chosen" or "rejected", "none" where neither is. `confidence` is the share of the
#: chosen text's answer among the votes, in [0, 1]. Both texts start with one space.
PAIRS = pl.Schema(
    {
        "id": pl.String,
        "prompt": pl.String,
        "chosen": pl.String,
        "rejected": pl.String,
        "weak_side": pl.String,
        "confidence": pl.Float64,
    }
)

#: The same with the weight of each pair in the loss; the mean is 1.
WEIGHTED_PAIRS = pl.Schema({**PAIRS, "weight": pl.Float64})

#: The scorers. Each has a column of verdicts in SCORES and its own rows in METRICS.
SCORERS = ("paper", "math")

#: Scored generations. `paper` and `math` are verdicts "right", "wrong", "timeout" or "undecided".
SCORES = pl.Schema(
    {
        "request": pl.String,
        "id": pl.String,
        "sample": pl.Int32,
        "prediction": pl.String,
        "answer": pl.String,
        "level": pl.String,
        "paper": pl.String,
        "math": pl.String,
    }
)

#: Rows of metrics.csv. `k` is 1 for greedy accuracy. `split` may name a level: "test/level=3".
#: A difference has two more values: `reference` is the model that it is taken to, such as
#: "hybrid_ft 1", and `detectable` the least difference that so many questions and seeds would show
#: with a power of 80%.
METRICS = pl.Schema(
    {
        "experiment": pl.String,
        "task": pl.String,
        "weak": pl.String,
        "strong": pl.String,
        "method": pl.String,
        "stage": pl.String,
        "iteration": pl.Int32,
        "seed": pl.Int32,
        "split": pl.String,
        "scorer": pl.String,
        "metric": pl.String,
        "k": pl.Int32,
        "n": pl.Int32,
        "value": pl.Float64,
        "ci_low": pl.Float64,
        "ci_high": pl.Float64,
        "reference": pl.String,
        "detectable": pl.Float64,
    }
)

#: In the column `stage`: a control, a method that differs in one thing from another one.
CONTROL = "control"
#: How the name of a variant begins in which a stage is broken on purpose.
BROKEN = "broken_"
#: How the name of a method begins that gold of train_2 rewards. No other method sees this reward.
CEILING_MARK = "ceiling"
#: In the columns `weak` and `strong` and in paths, an unused model: the ceiling has no weak model.
NONE = "none"
#: In the column `seed`, a row over all seeds.
ALL_SEEDS = -1
