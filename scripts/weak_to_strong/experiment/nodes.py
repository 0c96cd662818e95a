"""What an experiment consists of: chains, models, tables and generation rounds, each with a key.

A node is named by what it was trained on. The rules know only nodes and rounds, so that a new
method or baseline is an entry of `methods` in the configuration, not a new chain of rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weak_to_strong.experiment.paths import Paths
from weak_to_strong.tables.schemas import NONE


@dataclass(frozen=True, order=True)
class Chain:
    """A task, a weak and a strong model, and a seed. `weak` or `strong` may be "none".

    `variant` names an ablation of the chain; "" is the chain itself.
    """

    task: str
    weak: str
    strong: str
    seed: int
    variant: str = ""

    @property
    def key(self) -> str:
        models = [self.task, self.weak, self.strong, *filter(None, [self.variant])]
        return "/".join([*models, f"seed-{self.seed}"])

    @property
    def plain(self) -> Chain:
        """The chain of which this is a variant."""
        return Chain(self.task, self.weak, self.strong, self.seed)

    @property
    def weak_side(self) -> Chain:
        """The part that no strong model has touched. All strong models share it."""
        return Chain(self.task, self.weak, NONE, self.seed)

    @property
    def strong_side(self) -> Chain:
        """The part that no weak model has touched. All weak models share it."""
        return Chain(self.task, NONE, self.strong, self.seed)


@dataclass(frozen=True, order=True)
class Node:
    """A model: a method on a chain, at a Stage I iteration (0 where there are none)."""

    chain: Chain
    method: str
    iteration: int

    @property
    def key(self) -> str:
        return f"{self.chain.key}/{self.method}-{self.iteration}"

    def fill(self, pattern: str) -> str:
        """A path pattern with this node's wildcards filled in."""
        return pattern.format(chain=self.chain.key, method=self.method, iteration=self.iteration)

    def path(self, paths: Paths) -> str:
        """The manifest of the trained model."""
        return self.fill(paths.manifest)


# --- tables ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Split:
    """A split of a task as a table: its problems, or of train_2 the questions alone."""

    task: str
    name: str

    def path(self, paths: Paths) -> str:
        return paths.split.format(task=self.task, split=self.name)


@dataclass(frozen=True)
class EvaluatedSet:
    """The questions on which a task's models are evaluated.

    Attributes:
        task: name of the task.
        name: that of one of several test sets; "" where the task has one evaluated split.
    """

    task: str
    name: str = ""

    @property
    def key(self) -> str:
        """The task's name, with that of one of several test sets behind it."""
        return "/".join(filter(None, [self.task, self.name]))


@dataclass(frozen=True)
class Gold:
    """The withheld gold answers of train_2."""

    task: str

    def path(self, paths: Paths) -> str:
        return paths.gold.format(task=self.task)


@dataclass(frozen=True)
class Labels:
    """Answers of one side (weak or icl) to train_2 in an iteration."""

    chain: Chain
    side: str
    iteration: int

    def path(self, paths: Paths) -> str:
        return paths.labels.format(chain=self.chain.key, side=self.side, iteration=self.iteration)


@dataclass(frozen=True)
class Demonstrations:
    """Few-shot demonstrations of a chain."""

    chain: Chain

    def path(self, paths: Paths) -> str:
        return paths.demonstrations.format(chain=self.chain.key)


@dataclass(frozen=True)
class Kept:
    """Questions that the agreement filter keeps in an iteration."""

    chain: Chain
    iteration: int

    def path(self, paths: Paths) -> str:
        return paths.kept.format(chain=self.chain.key, iteration=self.iteration)


@dataclass(frozen=True)
class Votes:
    """Majority votes over the samples of M_plus."""

    chain: Chain

    def path(self, paths: Paths) -> str:
        return paths.votes.format(chain=self.chain.key)


@dataclass(frozen=True)
class VotedSamples:
    """The samples of M_plus with their answers read, which `majority_vote` writes beside votes."""

    chain: Chain

    def path(self, paths: Paths) -> str:
        return paths.voted_samples.format(chain=self.chain.key)


@dataclass(frozen=True)
class NamedAnswers:
    """Answers to train_2 that an entry of `answers` asks for."""

    chain: Chain
    name: str

    def path(self, paths: Paths) -> str:
        return paths.answers.format(chain=self.chain.key, answers=self.name)


@dataclass(frozen=True)
class Selected:
    """Questions that a selection keeps, with their answers."""

    chain: Chain
    name: str

    def path(self, paths: Paths) -> str:
        return paths.selected.format(chain=self.chain.key, selection=self.name)


@dataclass(frozen=True)
class Preferred:
    """Preference pairs that an entry of `preferences` asks for."""

    chain: Chain
    name: str

    def path(self, paths: Paths) -> str:
        return paths.preferred.format(chain=self.chain.key, preferences=self.name)


# --- generation rounds -----------------------------------------------------------------------


class Round:
    """Requests that are served together. A subclass has `key` and `task`.

    All requests of a label round feed the same next step, and evaluation has rounds of its own, so
    that no request makes a step run again that does not depend on it.
    """

    key: str
    task: str

    def path(self, paths: Paths) -> str:
        """The generated texts."""
        return paths.generations.format(round=self.key)


@dataclass(frozen=True)
class LabelRound(Round):
    """Answers to train_2 in a Stage I iteration: of one side in the first, later of both."""

    chain: Chain
    iteration: int
    sides: tuple[str, ...]

    @property
    def key(self) -> str:
        name = "-".join(self.sides) if self.iteration == 1 else "iteration"
        return f"{self.chain.key}/{name}-{self.iteration}"

    @property
    def task(self) -> str:
        return self.chain.task


@dataclass(frozen=True)
class SampleRound(Round):
    """Samples of M_plus on train_2 (Stage II)."""

    chain: Chain

    @property
    def key(self) -> str:
        return f"{self.chain.key}/samples"

    @property
    def task(self) -> str:
        return self.chain.task


@dataclass(frozen=True)
class AnswerRound(Round):
    """Answers to train_2 that an entry of `answers` asks for."""

    chain: Chain
    name: str

    @property
    def key(self) -> str:
        return f"{self.chain.key}/answers-{self.name}"

    @property
    def task(self) -> str:
        return self.chain.task


@dataclass(frozen=True)
class EvaluationRound(Round):
    """Answers to evaluated questions, of every model of a task that stands on one base model.

    Each of several test sets has rounds of its own, so that a further one reruns nothing.
    """

    task: str
    base: str
    test_set: str = ""

    @property
    def key(self) -> str:
        return "/".join(filter(None, ["evaluation", self.task, self.base, self.test_set]))

    @property
    def evaluated(self) -> EvaluatedSet:
        return EvaluatedSet(self.task, self.test_set)


@dataclass(frozen=True)
class RoundRequest:
    """One request of a round: who answers which questions, and how.

    Attributes:
        name: unique in its round.
        node: the trained model that answers; None for the base model as it is.
        base: name of the base model.
        questions: the split that is answered.
        demonstrations: of a few-shot prompt.
        decoding: what differs from one greedy answer: n, temperature, top_p, seed.
    """

    name: str
    node: Node | None
    base: str
    questions: Split
    demonstrations: Demonstrations | None
    decoding: dict[str, Any]
