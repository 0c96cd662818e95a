"""Columns of every table that one step hands to another."""

from __future__ import annotations

import polars as pl

#: One problem of a task. `level` and `subject` are null where a task has none, and so are the last
#: four, which are OlympicArena's: what kind of answer is asked for, its unit, JSON on the several
#: answers to one question (`olympicarena_prompts.read_parts`), and text that a question refers to.
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

#: What the strong model may see of train_2: no solution, no answer.
QUESTIONS = pl.Schema({k: v for k, v in PROBLEMS.items() if k not in ("solution", "answer")})

#: The withheld half of train_2, for diagnostics and the strong ceiling only.
GOLD = pl.Schema({k: PROBLEMS[k] for k in ("id", "solution", "answer")})

#: Few-shot demonstrations in prompt order; `prompt` is the zero-shot prompt of its question.
DEMONSTRATIONS = pl.Schema({"id": pl.String, "prompt": pl.String, "response": pl.String})

#: Raw generations: one row a (request, id, sample); `response` is untouched model text.
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

#: One side's answer to each train_2 question: cleaned text and final answer ("" = none), normalised
#: as in the paper; with judge `olympicarena` as it stands in the text.
LABELS = pl.Schema({"id": pl.String, "response": pl.String, "prediction": pl.String})

#: Questions on which the weak and the ICL side agree (Stage I).
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

#: The majority answer over the samples of one question; `confidence` is its share in [0, 1].
VOTES = pl.Schema(
    {"id": pl.String, "majority": pl.String, "confidence": pl.Float64, "samples": pl.Int32}
)

#: Contrastive pairs (Stage II); `weak_side` says which text is the weak model's: "chosen",
#: "rejected", or "none" where both are samples of the strong model.
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

#: metrics.csv. `k` is 1 for greedy accuracy; `split` may carry a level as "test/level=3".
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
    }
)

#: In the columns `weak` and `strong` and in paths: an unused model. The ceiling has no weak model.
NONE = "none"
#: In the column `seed`: a row over all seeds.
ALL_SEEDS = -1
