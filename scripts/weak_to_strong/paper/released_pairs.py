"""Checks of a released file of preference pairs.

Rows are {id, instruction, input, output: [chosen, rejected]}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import groupby, pairwise

import polars as pl

from weak_to_strong.evaluation.judges import question_judge
from weak_to_strong.method.answers import predict_column, string_judge
from weak_to_strong.method.majority_vote import majority_vote
from weak_to_strong.method.pairs import PairSettings, build_pairs
from weak_to_strong.method.training_sets import export_llama_factory_pairs
from weak_to_strong.paper.released import (
    Release,
    ReleasedChain,
    find_answer_key,
    prompt_style,
    row_ids,
)
from weak_to_strong.paper.released_outcomes import (
    AbsentError,
    Golden,
    Outcome,
    all_hold,
    compare_rows,
    run_check,
)
from weak_to_strong.paper.released_sets import check_prompts, places_in_train_2

#: Most pairs of a question (paper, Stage II); other tasks have 3.
PAIRS_PER_QUESTION = {"gsm8k": 1}
#: Count of pairs in GOLDEN, before the name of the weak model whose responses they have.
_MADE_WITH = "made with "


def check_pairs(
    release: Release, golden: Golden, chain: ReleasedChain, path: str
) -> list[tuple[str, ...]]:
    """Rows of CHECKS of the file `path`, which is named for the weak model of `chain`."""
    pairs = _Pairs(release, golden, chain, path)
    checks = {
        "order of train_2": pairs.order,
        "answers differ": pairs.answers_differ,
        "majority rule": pairs.majority_rule,
        "weak model": pairs.weak_model,
        "weak side": pairs.weak_side,
        "from samples": pairs.from_samples,
    }
    rows = [run_check(release, path, name, [path], check) for name, check in checks.items()]
    return [check_prompts(release, chain, path), *rows]


class _Pairs:
    """One file of pairs, and each check of it as a method that gives its Outcome."""

    def __init__(self, release: Release, golden: Golden, chain: ReleasedChain, path: str) -> None:
        self.release, self.golden, self.chain, self.path = release, golden, chain, path
        self.limit = PAIRS_PER_QUESTION.get(chain.task, 3)

    @property
    def rows(self) -> list[dict]:
        return self.release.rows(self.path)

    @cached_property
    def answers(self) -> list[tuple[str, str]]:
        """Chosen and rejected answer of each pair."""
        texts = [text for row in self.rows for text in row["output"]]
        answers = predict_column(pl.Series(texts), find_answer_key(texts)).to_list()
        return list(zip(answers[::2], answers[1::2], strict=True))

    @cached_property
    def tallies(self) -> dict[ReleasedChain, tuple[int, int]]:
        """Weak model of the task -> pairs whose weak response is known, and pairs that have it."""
        chains = (chain for chain in self.release.chains() if chain.task == self.chain.task)
        return {chain: _tally_sides(self.rows, self.release.weak_texts(chain)) for chain in chains}

    @cached_property
    def maker(self) -> ReleasedChain | None:
        """The weak model whose responses most of the pairs have, if its files are here."""
        likely = [chain for chain, (known, hits) in self.tallies.items() if 2 * hits > known]
        best = max(
            likely, key=lambda chain: (self.tallies[chain][1], chain == self.chain), default=None
        )
        # A model of which little is known must not win by a few chance hits.
        if best and self.tallies[best][1] < self.tallies[self.chain][1]:
            return None
        return best

    def answers_differ(self) -> Outcome:
        flags = [chosen != rejected and chosen != "" for chosen, rejected in self.answers]
        return all_hold(flags, row_ids(self.rows))

    def order(self) -> Outcome:
        ids = row_ids(self.rows)
        places = places_in_train_2(self.release, self.chain, ids)
        flags = [places.get(a, -1) <= places.get(b, -1) for a, b in pairwise(ids)]
        return all_hold(flags, ids[1:])

    def majority_rule(self) -> Outcome:
        rows = zip(self.rows, self.answers, strict=True)
        questions = [(name, list(group)) for name, group in groupby(rows, lambda row: _id(row[0]))]
        return all_hold(
            [_fits_majority_rule(group, self.limit) for _, group in questions],
            [name for name, _ in questions],
            f"at most {self.limit} pairs of a question",
        )

    def weak_model(self) -> Outcome:
        """Of the file's own weak model, or of another one that is recorded or found."""
        known, hits = self.tallies[self.chain]
        own_note = f"{hits} of {known} pairs have a response of {self.chain.weak}"
        recorded = self.golden.get((self.path, "own texts"))
        recorded_maker = self._recorded_maker()
        if self.maker:
            maker_known, maker_hits = self.tallies[self.maker]
            theirs = f"{maker_hits} of {maker_known} have one of {self.maker.weak}, {own_note}"
            note = own_note if self.maker == self.chain else theirs
            as_recorded = recorded_maker in (None, self.maker.weak)
            expected = self.chain.weak if as_recorded else recorded_maker
            return Outcome(expected, self.maker.weak, note, finding=expected == self.chain.weak)
        if not known:
            raise AbsentError(self.chain.path("full_weak"))
        if recorded:
            note = f"{own_note}, {recorded[0]} are recorded: {recorded[1]}"
            return Outcome(self.chain.weak, "another", note, finding=hits == recorded[0])
        if recorded_maker:
            raise AbsentError(f"the responses of {recorded_maker}; {own_note}")
        return Outcome(self.chain.weak, "another", f"{own_note}; no other model's files fit")

    def weak_side(self) -> Outcome:
        """One side of each pair is the weak model's response, the other is not."""
        if not self.maker:
            raise AbsentError(f"the responses of the weak model of {self.path}")
        known, hits = self.tallies[self.maker]
        if known < len(self.rows) and hits == known:
            full = self.maker.path("full_weak")
            raise AbsentError(f"{full}; without it {known} of {len(self.rows)} pairs fit")
        note = f"one side is the response of {self.maker.weak}"
        return Outcome(f"{known}", f"{hits}", note)

    def from_samples(self) -> Outcome:
        """The file made anew by majority vote from recorded samples."""
        release = self.release
        files = self._matching_samples()
        if not self.maker or not files:
            raise AbsentError(
                f"outputs/{self.chain.task}_train_2/zero_shot/*/zero-shot/direct/*/seed*/"
                "results.jsonl of the model that the pairs were sampled from"
            )
        source, questions = release.weak_source(self.maker), release.questions_path(self.chain)
        if not release.has(source, questions):
            raise AbsentError(f"{source}, {questions}")
        samples = release.samples(files)
        table = release.questions(self.chain)
        style = prompt_style(table)
        judge = string_judge if style == "question_answer" else question_judge(table)
        pairs = build_pairs(
            release.labels(source),
            samples,
            majority_vote(samples, judge=judge),
            table,
            PairSettings(pairs_per_question=self.limit),
            prompt=style,
            judge=judge,
        )
        return compare_rows(release, self.path, export_llama_factory_pairs(pairs))

    def _recorded_maker(self) -> str | None:
        """The other weak model that the file is known to be made with."""
        counts = (count for file, count in self.golden if file == self.path)
        makers = (
            count.removeprefix(_MADE_WITH) for count in counts if count.startswith(_MADE_WITH)
        )
        return next(makers, None)

    def _matching_samples(self) -> list[str]:
        """Files of the recorded samples from which most pairs have a text."""
        for files in self.release.sample_folders(self.chain.task).values():
            texts: dict[str, set[str]] = {}
            for name, text in self.release.samples(files).select("id", "response").iter_rows():
                texts.setdefault(name, set()).add(text)
            hits = sum(bool(texts.get(_id(row), set()) & set(row["output"])) for row in self.rows)
            if 2 * hits > len(self.rows):
                return files
        return []


def _id(row: dict) -> str:
    return str(row["id"])


def _tally_sides(rows: Sequence[dict], texts: Mapping[str, str]) -> tuple[int, int]:
    """Pairs whose question a model's texts cover, and those with its text on just one side."""
    known = [row for row in rows if _id(row) in texts]
    hits = sum(row["output"].count(texts[_id(row)]) == 1 for row in known)
    return len(known), hits


def _fits_majority_rule(group: Sequence[tuple[dict, tuple[str, str]]], limit: int) -> bool:
    """Whether a question's pairs can come from one vote and one weak response.

    All chosen answers are the majority's. The weak response is the same text in all pairs, on the
    same side. Where it is the rejected one, each further positive differs from the first.
    """
    chosen = [row["output"][0] for row, _ in group]
    rejected = [row["output"][1] for row, _ in group]
    if len(group) > limit or len({answer for _, (answer, _) in group}) > 1:
        return False
    if len(set(chosen)) == 1:
        return True
    return len(set(rejected)) == 1 and chosen[0] not in chosen[1:]
