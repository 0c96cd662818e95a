"""Scoring of generations by two scorers side by side.

Paper mode is string equality after the paper's normalisation; math mode is mathematical equality by
math-verify. A verdict is "right", "wrong", "timeout" or "undecided": an answer that could not be
compared is never counted as wrong in silence.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import select
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import polars as pl

from weak_to_strong.evaluation.answer_text import tidy
from weak_to_strong.evaluation.math_verify_worker import READY, UNDECIDED, squeeze, to_latex
from weak_to_strong.evaluation.plain_math import parse_decimal, plain_verdict
from weak_to_strong.evaluation.quantities import written_verdict
from weak_to_strong.jobs.child_processes import start_child
from weak_to_strong.jobs.errors import ProcessDied
from weak_to_strong.method.answers import (
    PAPER,
    Judge,
    PaperQuirks,
    extract_column,
    normalise_column,
)
from weak_to_strong.method.chat import complete_reasoning, final_part
from weak_to_strong.method.flexible_answers import find_answers_column
from weak_to_strong.method.prompts import clean_column
from weak_to_strong.tables.schemas import SCORERS, SCORES

logger = logging.getLogger("weak_to_strong")

VERDICTS = ("right", "wrong", "timeout", "undecided")
#: No answer of a benchmark is near this long; a longer one is a model that repeats itself.
MAX_CHARACTERS = 2_000
#: A single sign that opens a formula at a line's end, which may as well be the price of something;
#: and an answer that is struck out, which is not surely a wrong one.
_UNCLEAR = re.compile(r"(?<![$\\])\$(?!\$)[ \t]*\n|(?<!\\)\\\([ \t]*\n|\A~~.*~~\Z")
#: Below this many pairs for each, a further worker costs more to start than it saves.
PAIRS_PER_WORKER = 50
MEMORY_MEGABYTES = 2_048
WORKER_START_SECONDS = 300
SILENT_SECONDS = 600


def fast_verdict(prediction: str, gold: str) -> str | None:
    """The verdict where equal text, plain numbers or length settle it, else None."""
    texts = prediction.strip(), gold.strip()
    if not texts[0]:
        return "wrong"
    if texts[0] == texts[1]:
        return "right"
    decimals = [parse_decimal(text) for text in texts]
    if None not in decimals:
        return "right" if decimals[0] == decimals[1] else "wrong"
    if max(map(len, texts)) > MAX_CHARACTERS:
        return UNDECIDED
    if any(map(_UNCLEAR.search, texts)):
        return UNDECIDED
    if verdict := written_verdict(*map(tidy, texts)):
        return verdict
    lines = [to_latex(text) for text in texts]
    if squeeze(lines[0]) == squeeze(lines[1]):
        return "right"
    return plain_verdict(*lines)


class _Worker:
    """One process of `math_verify_worker`, started at the first question."""

    def __init__(self, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        self.process: subprocess.Popen | None = None

    def _start(self) -> None:
        command = [
            *(sys.executable, "-m", "weak_to_strong.evaluation.math_verify_worker"),
            *(str(self.timeout_seconds), str(MEMORY_MEGABYTES)),
        ]
        self.process = start_child(command, stdin=subprocess.PIPE, start_new_session=True)
        if self._read(WORKER_START_SECONDS) != READY:
            raise RuntimeError("math-verify's worker does not start; its error stands above")

    def _read(self, seconds: float) -> str:
        """The next line.

        Raises:
            ProcessDied: the worker has ended, or is silent for `seconds`; nothing is left of it.
        """
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        if line := self.process.stdout.readline() if ready else "":
            return line.rstrip("\n")
        status = self.stop()
        reason = (
            f"ended with status {status}; if no error stands above, mostly for want of memory"
            if ready
            else f"was silent for {seconds:.0f} s; mostly the machine is overloaded"
        )
        raise ProcessDied(
            f"math-verify's worker {reason}: use fewer cores (--cores) or give the job more "
            "memory, and run again"
        )

    def ask(self, *question: str) -> str:
        """The reply to (prediction, gold) or (prediction, gold, operation).

        What ends the worker from outside, as want of memory does, says nothing about the answers,
        so that a fresh one is asked once more.

        Raises:
            ProcessDied: that one has ended, too, or does not answer.
        """
        try:
            return self._ask(*question)
        except ProcessDied as death:
            logger.warning("%s (it is asked once more)", death)
            return self._ask(*question)

    def _ask(self, prediction: str, gold: str, *operation: str) -> str:
        if self.process is None:
            self._start()
        with contextlib.suppress(BrokenPipeError):  # a dead worker, as reading tells
            self.process.stdin.write(json.dumps([gold, prediction, *operation]) + "\n")
            self.process.stdin.flush()
        # The worker limits its CPU time; the wall clock is for one that does not run at all.
        return self._read(SILENT_SECONDS + 20 * self.timeout_seconds)

    def stop(self) -> int:
        """End it and its children; its exit status, 0 if there is none."""
        process, self.process = self.process, None
        if process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):  # a line that the dead worker never took
            process.stdin.close()
        return status


def _drain(pending: deque, timeout_seconds: float) -> dict[tuple[str, ...], str]:
    """Replies to the questions that one worker takes off the shared queue."""
    worker, verdicts = _Worker(timeout_seconds), {}
    try:
        while True:
            try:
                question = pending.popleft()
            except IndexError:
                return verdicts
            verdicts[question] = worker.ask(*question)
    finally:
        worker.stop()


def ask_workers(
    questions: Sequence[tuple[str, ...]], timeout_seconds: float, workers: int
) -> dict[tuple[str, ...], str]:
    """Replies of math-verify's worker processes to distinct questions.

    Args:
        questions: (prediction, gold), or with one of `math_verify_worker.OPERATIONS` behind them.
        timeout_seconds: CPU time of one, after which its reply is "timeout".
        workers: most processes at once; none is started without a question.

    Raises:
        ProcessDied: a worker was killed, or did not answer, twice at one question.
    """
    pending = deque(questions)
    replies: dict[tuple[str, ...], str] = {}
    count = min(workers, math.ceil(len(questions) / PAIRS_PER_WORKER))
    if count:
        with ThreadPoolExecutor(count) as pool:
            shares = [pool.submit(_drain, pending, timeout_seconds) for _ in range(count)]
            try:
                for share in as_completed(shares):
                    replies.update(share.result())
            finally:
                pending.clear()  # after a failure the other workers must not go on to the end
    return replies


def math_verify_many(
    pairs: Iterable[tuple[str, str]], timeout_seconds: float = 5.0, workers: int = 1
) -> list[str]:
    """Verdicts of math mode for (prediction, gold) pairs, in their order.

    Equal text and plain decimals (compared exactly) are settled here; each distinct pair that is
    left is compared once, in a worker process that is killed after `timeout_seconds` of CPU time
    ("timeout") and limited in memory. No process is started when none is left.

    Returns:
        One of `VERDICTS` for each pair. An empty prediction is "wrong"; an answer longer than
        `MAX_CHARACTERS` that is neither number nor equal text is "undecided".

    Raises:
        ValueError: `timeout_seconds` or `workers` is not positive.
        ProcessDied: a worker was killed, or did not answer, twice at one pair.
    """
    if not (timeout_seconds > 0 and workers > 0):
        raise ValueError(
            f"scoring: timeout_seconds ({timeout_seconds}) and workers ({workers}) must be positive"
        )
    pairs = list(pairs)
    verdicts = {pair: fast_verdict(*pair) for pair in dict.fromkeys(pairs)}
    left = [pair for pair, verdict in verdicts.items() if verdict is None]
    verdicts |= ask_workers(left, timeout_seconds, workers)
    timeouts = sum(verdict == "timeout" for verdict in verdicts.values())
    logger.info(
        "math-verify: %d answers, %d distinct, %d compared by expression, %d timeouts",
        *(len(pairs), len(verdicts), len(left), timeouts),
    )
    return [verdicts[pair] for pair in pairs]


def check_complete(generations: pl.DataFrame, problems: pl.DataFrame) -> None:
    """Check that each request answers every problem, and each with the same samples.

    Raises:
        ValueError: an id is unknown, missing or repeated; names the request and the id.
    """
    repeated = generations.filter(pl.struct("request", "id", "sample").is_duplicated())
    if repeated.height:
        request, id_, sample = repeated.row(0)[:3]
        raise ValueError(f"request {request!r}: id {id_!r}, sample {sample} stands more than once")
    known = problems.select("id")
    unknown = generations.join(known, on="id", how="anti", maintain_order="left")
    if unknown.height:
        request, id_ = unknown.select("request", "id").row(0)
        raise ValueError(
            f"request {request!r}: {unknown.height} answers to unknown questions, first id "
            f"{id_!r}; score against the problems that were asked"
        )
    asked = generations.select("request", "sample").unique(maintain_order=True)
    missing = asked.join(known, how="cross").join(
        generations, on=["request", "sample", "id"], how="anti", maintain_order="left"
    )
    if missing.height:
        request, sample, id_ = missing.row(0)
        raise ValueError(
            f"request {request!r}: {missing.height} answers are missing, first sample {sample} of "
            f"id {id_!r}; generate again"
        )


def paper_verdict(prediction: pl.Expr, gold: pl.Expr) -> pl.Expr:
    """The paper's verdict on normalised answers: "right" if they are equal and not empty."""
    right = (prediction != "") & (prediction == gold)
    return pl.when(right).then(pl.lit("right")).otherwise(pl.lit("wrong"))


def score_generations(
    generations: pl.DataFrame,
    problems: pl.DataFrame,
    answer_key: str,
    stops: Sequence[str],
    *,
    quirks: PaperQuirks = PAPER,
    judge: Judge | None = None,
    timeout_seconds: float = 5.0,
    workers: int = 1,
    extraction: str = "paper",
    answer_after: str | None = None,
) -> pl.DataFrame:
    """Score every generation by both scorers.

    Args:
        generations: GENERATIONS rows of any number of requests to the same problems.
        problems: their questions with `id`, `answer` and `level` (PROBLEMS).
        answer_key: what precedes a final answer, e.g. "####".
        stops: strings at which a response ends.
        quirks: flaws of the paper's normalisation that paper mode keeps.
        judge: compares answers with gold in math mode; by default math-verify alone.
        timeout_seconds, workers: as for `math_verify_many`; a judge has its own.
        extraction: one of `answers.EXTRACTIONS`.
        answer_after: mark after which the answer of a reasoning model stands, or None.

    Returns:
        SCORES, in the order of `generations`. `prediction` is normalised as in the paper; math
        mode compares the extracted text before that normalisation, which damages some LaTeX
        (`\\infty`, `\\left`).

    Raises:
        ValueError: ids are unknown, missing or repeated.
    """
    check_complete(generations, problems)
    gold = problems.select("id", "answer", "level").with_columns(
        normalised=normalise_column(problems["answer"], quirks)
    )
    responses = _final_texts(generations, stops, answer_after)
    extracted = extract_column(responses, answer_key, extraction)
    table = generations.with_columns(
        prediction=normalise_column(extracted, quirks), extracted=extracted
    ).join(gold, on="id", how="left", maintain_order="left")
    if judge:
        verdicts = judge(table.select("id", "extracted", "answer").rows())
    else:
        verdicts = math_verify_many(
            table.select("extracted", "answer").iter_rows(), timeout_seconds, workers
        )
    return table.with_columns(
        paper=paper_verdict(pl.col("prediction"), pl.col("normalised")),
        math=pl.Series(verdicts, dtype=pl.String),
    ).select(pl.col(name).cast(kind) for name, kind in SCORES.items())


def _final_texts(
    generations: pl.DataFrame, stops: Sequence[str], answer_after: str | None
) -> pl.Series:
    """The cleaned texts of GENERATIONS in which answers are looked for."""
    texts = clean_column(generations["response"], stops)
    if answer_after is None:
        return texts
    whole = complete_reasoning(pl.col("response"), pl.col("finish_reason"), answer_after)
    final = generations.with_columns(texts).select(final_part(whole, answer_after))
    return final.to_series().alias("response")


#: What the filters of `flexible_answers.find_answers` found in the answers to one request.
FILTER_COUNTS = pl.Schema(
    {
        "request": pl.String,
        "answers": pl.Int64,
        "used": pl.Int64,
        "strict": pl.Int64,
        "flexible": pl.Int64,
        "last_number": pl.Int64,
        "cut": pl.Int64,
        "ended": pl.Int64,
        "too_long": pl.Int64,
    }
)


def count_filters(
    generations: pl.DataFrame,
    answer_key: str,
    stops: Sequence[str],
    extraction: str,
    answer_after: str | None = None,
) -> pl.DataFrame:
    """FILTER_COUNTS of each request, in the order of their first rows.

    Columns: `answers` of the request; those in which the task's own extraction (`used`) and each
    filter find an answer; texts with a stop string, or for the paper's extraction `Question`, in
    them (`cut`); and texts without an answer that the model ended or a stop string did (`ended`),
    or that reached `max_tokens` (`too_long`).
    """
    marks = [*stops, "Question"] if extraction == "paper" else list(stops)
    responses = _final_texts(generations, stops, answer_after)
    used = extract_column(responses, answer_key, extraction).alias("used")
    inside = [pl.col("response").str.contains(mark, literal=True) for mark in marks]
    cut = pl.any_horizontal(pl.lit(False), *inside)
    table = generations.select("request", "finish_reason", cut=cut).with_columns(
        used != "",
        *(answers != "" for answers in find_answers_column(responses, answer_key)),
    )
    empty = ~pl.col("used")
    counts = table.group_by("request", maintain_order=True).agg(
        pl.len().alias("answers"),
        pl.col("used", "strict", "flexible", "last_number", "cut").sum(),
        ended=(empty & (pl.col("finish_reason") == "stop")).sum(),
        too_long=(empty & (pl.col("finish_reason") == "length")).sum(),
    )
    return counts.select(pl.col(name).cast(kind) for name, kind in FILTER_COUNTS.items())


#: Length of the answers to one request: mean tokens, share cut at `max_tokens`, shares right.
LENGTHS = pl.Schema(
    {
        "request": pl.String,
        "answers": pl.Int64,
        "tokens": pl.Float64,
        "cut": pl.Float64,
        "paper": pl.Float64,
        "math": pl.Float64,
    }
)


def answer_lengths(generations: pl.DataFrame, scores: pl.DataFrame) -> pl.DataFrame:
    """LENGTHS of each request, in the order of their first rows.

    Args:
        generations: GENERATIONS.
        scores: SCORES of the same rows.
    """
    verdicts = scores.select("request", "id", "sample", *SCORERS)
    return (
        generations.join(verdicts, on=["request", "id", "sample"], maintain_order="left")
        .group_by("request", maintain_order=True)
        .agg(
            pl.len().alias("answers"),
            pl.col("response_tokens").mean().alias("tokens"),
            (pl.col("finish_reason") == "length").mean().alias("cut"),
            *((pl.col(scorer) == "right").mean() for scorer in SCORERS),
        )
        .select(pl.col(name).cast(kind) for name, kind in LENGTHS.items())
    )


def scorer_agreement(scores: pl.DataFrame, examples: int = 20) -> dict:
    """How the two scorers' verdicts fall together.

    Returns:
        {"rows": n, "counts": {paper verdict: {math verdict: rows}},
        "examples": the first distinct disagreements (id, prediction, answer, paper, math)}.
    """
    counts = {paper: dict.fromkeys(VERDICTS, 0) for paper in ("right", "wrong")}
    for paper, verdict, rows in scores.group_by("paper", "math").len().iter_rows():
        counts[paper][verdict] = rows
    apart = scores.filter(pl.col("paper") != pl.col("math")).select(
        "id", "prediction", "answer", "paper", "math"
    )
    return {
        "rows": scores.height,
        "counts": counts,
        "examples": apart.unique(maintain_order=True).head(examples).to_dicts(),
    }
