"""Vote and pairs as plain loops over rows: the readable reference that the tables must equal."""

from __future__ import annotations

from collections import Counter
from random import Random

import polars as pl

from weak_to_strong.method.prompts import zero_shot_prompt
from weak_to_strong.tables.schemas import PAIRS, VOTES


def plain_vote(samples: pl.DataFrame) -> pl.DataFrame:
    """`majority_vote` with the paper's judge."""
    votes: dict[str, Counter[str]] = {name: Counter() for name in samples["id"]}
    ordered = samples.sort("sample", maintain_order=True)
    for name, prediction in ordered.select("id", "prediction").iter_rows():
        votes[name][prediction] += 1
    rows = []
    for name, counts in votes.items():
        # most_common keeps the order of first insertion among equals.
        (majority, share), total = counts.most_common(1)[0], counts.total()
        rows.append((name, majority, share / total, total))
    return pl.DataFrame(rows, schema=VOTES, orient="row")


def plain_pairs(
    weak: pl.DataFrame,
    samples: pl.DataFrame,
    votes: pl.DataFrame,
    questions: pl.DataFrame,
    *,
    min_confidence: float = 0.6,
    weak_rejected_confidence: float = 0.8,
    pairs_per_question: int = 1,
    weak_side: bool = True,
) -> pl.DataFrame:
    """`build_pairs` with the paper's judge and seed; an empty table where there is no pair."""
    labels = {name: (text, answer) for name, text, answer in weak.iter_rows()}
    majorities = {name: (answer, share) for name, answer, share, _ in votes.iter_rows()}
    drawn: dict[str, list[tuple[str, str]]] = {}
    ordered = samples.sort("sample", maintain_order=True)
    for name, text, answer in ordered.select("id", "response", "prediction").iter_rows():
        drawn.setdefault(name, []).append((text, answer))
    rng, rows = Random(42), []
    for name, question in questions.select("id", "question").iter_rows():
        majority, share = majorities[name]
        if not majority or share < min_confidence:
            continue
        right = [text for text, answer in drawn[name] if answer == majority]
        wrong = [text for text, answer in drawn[name] if answer != majority]
        weak_text, weak_answer = labels[name]
        if not weak_side:
            if not wrong:
                continue
            rejected = _negatives(rng, wrong, pairs_per_question)
            chosen = _positives(rng, right, pairs_per_question)
            texts, side = list(zip(chosen, rejected, strict=False)), "none"
        elif weak_answer == majority:
            rejected = _negatives(rng, wrong, pairs_per_question) if wrong else []
            texts, side = [(weak_text, text) for text in rejected], "chosen"
        elif share >= weak_rejected_confidence:
            chosen = _positives(rng, right, pairs_per_question)
            texts, side = [(text, weak_text) for text in chosen], "rejected"
        else:
            continue
        prompt = zero_shot_prompt(question)
        rows += [(name, prompt, f" {yes}", f" {no}", side, share) for yes, no in texts]
    return pl.DataFrame(rows, schema=PAIRS, orient="row")


def _negatives(rng: Random, texts: list[str], count: int) -> list[str]:
    if count == 1:
        return [rng.choice(texts)]
    return rng.sample(texts, count) if len(texts) > count else texts


def _positives(rng: Random, texts: list[str], count: int) -> list[str]:
    first = rng.choice(texts)
    return [first, *(text for text in texts if text != first)][:count]
