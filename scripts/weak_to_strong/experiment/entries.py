"""The checked configuration as typed, read-only entries.

Groups of hyper-parameters (training, pairs, sampling, ...) stay mappings: a script gets such a
group as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from weak_to_strong.data.split_names import flatten_splits
from weak_to_strong.models.endpoints import deciding_part

#: Keys of a task that decide its tables.
DATA_KEYS = (
    *("loader", "templates", "train_1_templates", "form", "reasoning_gym", "data_seed"),
    *("splits", "pool"),
    *("columns", "ids", "subjects", "remove_overlap"),
)
#: Starts of a training that are no method.
STARTS = ("weak", "strong", "m_plus")
#: Kinds of rows that are made from the pairs of Stage II, and those of them that are pairs.
PAIR_KINDS = ("pairs", "shuffled_pairs")
KINDS_FROM_PAIRS = (*PAIR_KINDS, "chosen")
#: Kind of rows that are questions to answer, for training by reward.
QUESTIONS_KIND = "questions"
#: `broken` of a variant -> the settings that break the stage. No other key has these settings.
BROKEN_SETTINGS = {
    "filter_inverted": {"filter": {"keep": "disagreeing"}},
    "filter_off": {"filter": {"keep": "all"}},
    "pairs_swapped": {"pairs": {"swapped": True}},
    "gold_demonstrations": {"demonstrations": {"gold": True}},
}
#: Keys that describe a model or a task to tables and estimates. They change no job of a run.
DESCRIPTIVE_KEYS = frozenset({"paper", "parameters"})
#: Keys of a model that do not decide its files.
BESIDE_FILES = DESCRIPTIVE_KEYS | {"chat_template"}
#: The method that trains the weak model, whose answers are the weak labels.
WEAK_METHOD = "weak"

Settings = Mapping[str, Any]


#: Answers that every chain has, by the side that gives them.
LABELS_BY_SIDE = {"weak_labels": "weak", "icl_labels": "icl"}


@dataclass(frozen=True)
class AnswersEntry:
    """An entry of `answers`.

    Attributes:
        model: "weak", "strong", "m_plus" or the name of a method.
        iteration: of the method's model; None for the last one.
        weak: base of a further teacher; None for the chain's own weak model.
        decoding: what differs from one greedy answer: n, temperature, top_p.
        blind_spots_of: name of the answers where the diagnostics measure these, if they do.
    """

    model: str
    iteration: int | None
    weak: str | None
    few_shot: bool
    decoding: Settings
    blind_spots_of: str | None

    @classmethod
    def read(cls, entry: Settings) -> AnswersEntry:
        """From a completed entry of `answers`; greedy answers have no decoding settings."""
        keys = ("n", "temperature", "top_p")
        decoding = {key: entry[key] for key in keys} if entry["n"] > 1 else {}
        names = ("model", "iteration", "weak", "few_shot", "blind_spots_of")
        return cls(**{name: entry[name] for name in names}, decoding=decoding)


@dataclass(frozen=True)
class SelectionEntry:
    """An entry of `selections`.

    Attributes:
        answers: names of the answers.
        without: name of the selection whose questions are left out, if any.
        settings: of `selections.select_answers`, those that count.
        weighted: whether rows weigh in proportion to the share of their answer.
    """

    answers: tuple[str, ...]
    without: str | None
    settings: Settings
    weighted: bool

    @classmethod
    def read(cls, entry: Settings) -> SelectionEntry:
        """From a completed entry of `selections`."""
        keep = entry["keep"]
        # Only what counts: a change of another key selects nothing again.
        size = "as_many_as" if entry["as_many_as"] else "fraction"
        used = {"share": ["min_share"], "entropy": ["fraction"], "random": [size]}
        keys = [*used.get(keep, []), *([] if ":" in keep else ["take"])]
        keys += ["keep_empty"] if entry["keep_empty"] else []
        keys += ["pad_to", "pad_seed"] if entry["pad_to"] else []
        settings = {"keep": keep, **{key: entry[key] for key in keys}}
        if entry["vote"] != "majority":
            settings["vote"] = entry["vote"]
        weighted = entry["weights"] == "share"
        return cls(tuple(entry["answers"]), entry["without"], settings, weighted)

    @property
    def function(self) -> str | None:
        """The user's function that selects, as `file.py:name`."""
        return self.settings["keep"] if ":" in self.settings["keep"] else None

    @property
    def as_many_as(self) -> str | None:
        """Name of the selection that keeps as many questions, if a draw stands in for it."""
        return self.settings.get("as_many_as")


@dataclass(frozen=True)
class PreferencesEntry:
    """An entry of `preferences`.

    Attributes:
        selection: name of the selection whose texts are chosen; None where a function builds pairs.
        function: the user's function that builds the pairs, as `file.py:name`, or None.
        answers: names of the answers; None for those of the selection.
        one_side: name of the answers of which each pair has one; None for none.
        settings: of `preferences.pairs_of_selection`; none for a function.
        shuffled: whether a coin exchanges the sides of each pair.
        weighted: whether pairs weigh in proportion to their confidence.
    """

    selection: str | None
    function: str | None
    answers: tuple[str, ...] | None
    one_side: str | None
    settings: Settings
    shuffled: bool
    weighted: bool

    @classmethod
    def read(cls, entry: Settings) -> PreferencesEntry:
        """From a completed entry of `preferences`."""
        by_function = ":" in entry["chosen"]
        # Only what counts: a change of another key builds nothing again.
        keys = () if by_function else ("min_confidence", "pairs_per_question", "rng_seed")
        settings = {key: entry[key] for key in keys}
        if entry["one_side"] is not None:
            settings["weak_rejected_confidence"] = entry["min_confidence_rejected"]
        return cls(
            selection=None if by_function else entry["chosen"],
            function=entry["chosen"] if by_function else None,
            answers=None if entry["answers"] is None else tuple(entry["answers"]),
            one_side=entry["one_side"],
            settings=settings,
            shuffled=entry["shuffled"],
            weighted=entry["weights"] == "share",
        )


@dataclass(frozen=True)
class Method:
    """An entry of `methods` as it holds for one task: what is trained, from what, on which rows.

    Attributes:
        control_of: of a control the method that it is compared with.
        reward: of a method that is trained by reward, one of `rewards.TABLES_OF_REWARD` or a
            user's function as `file.py:name`.
        training, pairs: overrides of the common settings.
    """

    name: str
    stage: str
    control_of: str | None
    start: str
    trainer: str
    data: str
    per_iteration: bool
    few_shot: bool
    reward: str | None
    training: Settings
    pairs: Settings

    @classmethod
    def read(cls, name: str, entry: Settings) -> Method:
        """From the name and the completed entry of a method."""
        keys = ("stage", "control_of", "start", "trainer", "data", "per_iteration", "few_shot")
        values = {key: entry[key] for key in keys}
        changes = {key: entry.get(key, {}) for key in ("training", "pairs")}
        return cls(name, **values, reward=entry.get("reward"), **changes)

    @property
    def is_trained(self) -> bool:
        return self.trainer != "none"

    @property
    def reward_function(self) -> str | None:
        """The user's function that rewards, as `file.py:name`."""
        return self.reward if self.reward and ":" in self.reward else None

    @property
    def untrained(self) -> Method:
        """The method without its training: the model as it is."""
        return replace(self, trainer="none", data="none", training={}, pairs={})


@dataclass(frozen=True)
class Task:
    """An entry of `tasks`.

    Attributes:
        data: the settings that decide its tables (`DATA_KEYS`); splits as `flatten_splits` does.
        extraction: how a final answer is read, one of `answers.EXTRACTIONS`.
        gold_unread: largest share of gold answers that may not be read back.
        chat: settings of `prompt: chat`, None for other prompts.
        training: overrides of `training`, by trainer.
        engine: overrides of `engine`.
        methods: the common methods under the task's own, by name.
    """

    name: str
    data: Settings
    prompt: str
    answer_key: str
    extraction: str
    judge: str
    gold_unread: float
    quirks: Settings
    stop: list[str]
    max_tokens: int
    training: Mapping[str, Settings]
    engine: Settings
    methods: Mapping[str, Method]
    chat: Settings | None = None

    @classmethod
    def read(cls, name: str, entry: Settings) -> Task:
        """From the name and the completed entry of a task."""
        keys = ("prompt", "answer_key", "extraction", "judge", "gold_unread")
        keys += ("quirks", "stop", "max_tokens")
        return cls(
            name,
            data={
                **{key: entry[key] for key in DATA_KEYS if key in entry},
                "splits": flatten_splits(entry["splits"]),
            },
            **{key: entry[key] for key in keys},
            training=entry.get("training", {}),
            engine=entry.get("engine", {}),
            methods={key: Method.read(key, value) for key, value in entry["methods"].items()},
            chat=entry.get("chat"),
        )

    @property
    def answer_after(self) -> str | None:
        """Mark after which the answer of a reasoning model stands."""
        return self.chat["answer_after"] if self.chat else None

    @property
    def reasoning(self) -> dict[str, str] | None:
        """What training rows have of the reasoning, see `chat.settle_reasoning`; None for none."""
        if self.answer_after is None:
            return None
        return {key: self.chat[key] for key in ("answer_after", "reasoning")}


@dataclass(frozen=True)
class ChainSettings:
    """The settings that a chain or a variant may change."""

    iterations: int
    m_plus: str
    demonstrations: Settings
    filter: Settings
    sampling: Settings
    pairs: Settings

    def under(self, changes: Settings) -> ChainSettings:
        """These settings with changes over them, key by key."""
        values = {}
        for item in fields(self):
            value, change = getattr(self, item.name), changes.get(item.name)
            if change is not None:
                value = {**value, **change} if isinstance(value, Mapping) else change
            values[item.name] = value
        return ChainSettings(**values)


@dataclass(frozen=True)
class ChainEntry:
    """An entry of `chains`.

    Attributes:
        variants: names of the variants that it lists.
        changes: settings of its own, by the names of `ChainSettings`.
    """

    task: str
    weak: str
    strong: str
    variants: tuple[str, ...]
    changes: Settings

    @classmethod
    def read(cls, entry: Settings) -> ChainEntry:
        """From a completed entry of `chains`."""
        names = (entry[key] for key in ("task", "weak", "strong"))
        return cls(*names, variants=tuple(entry.get("variants", ())), changes=_changes(entry))


@dataclass(frozen=True)
class Variant:
    """An entry of `variants`.

    Attributes:
        methods: names of those to evaluate; () for all that its changes reach.
        training: changes of `training`, by trainer.
        changes: changes of a chain's settings, by the names of `ChainSettings`.
    """

    methods: tuple[str, ...]
    training: Mapping[str, Settings]
    changes: Settings

    @classmethod
    def read(cls, entry: Settings) -> Variant:
        """From a completed entry of `variants`; a broken stage becomes changes of settings."""
        changes = _changes(entry)
        for name, settings in BROKEN_SETTINGS.get(entry.get("broken"), {}).items():
            changes[name] = {**changes.get(name, {}), **settings}
        return cls(tuple(entry.get("methods", ())), entry.get("training", {}), changes)


#: Of a chain itself, which is no variant.
NO_VARIANT = Variant((), {}, {})


def deciding_model(entry: Settings) -> dict[str, Any]:
    """The part of an entry of `models` that decides the model or its answers."""
    kept = {key: value for key, value in entry.items() if key not in DESCRIPTIVE_KEYS}
    return kept | {key: deciding_part(kept[key]) for key in ("endpoint",) if key in kept}


def _changes(entry: Settings) -> Settings:
    return {item.name: entry[item.name] for item in fields(ChainSettings) if item.name in entry}


@dataclass(frozen=True)
class Evaluation:
    """The section `evaluation`."""

    split: str
    samples: int
    sampled: list[str] | None
    ks: list[int]
    temperature: float
    bootstrap_draws: int
    math_timeout: float
    calibration_bins: int


@dataclass(frozen=True)
class Experiment:
    """A whole configuration.

    Attributes:
        models: entries of the base models, as the rule `base_model` takes them.
        training: hyper-parameters by trainer.
        settings: what holds for a chain that changes nothing.
    """

    name: str
    seeds: tuple[int, ...]
    trust_remote_code: bool
    tasks: Mapping[str, Task]
    models: Mapping[str, Settings]
    chains: tuple[ChainEntry, ...]
    variants: Mapping[str, Variant]
    answers: Mapping[str, AnswersEntry]
    selections: Mapping[str, SelectionEntry]
    preferences: Mapping[str, PreferencesEntry]
    settings: ChainSettings
    training: Mapping[str, Settings]
    evaluation: Evaluation
    engine: Settings

    @classmethod
    def read(cls, config: Settings) -> Experiment:
        """The entries of a completed configuration (`configuration.load_configuration`)."""
        return cls(
            name=config["experiment"],
            seeds=tuple(config["seeds"]),
            trust_remote_code=config["trust_remote_code"],
            tasks={name: Task.read(name, entry) for name, entry in config["tasks"].items()},
            models=config["models"],
            chains=tuple(map(ChainEntry.read, config["chains"])),
            variants={name: Variant.read(entry) for name, entry in config["variants"].items()},
            answers={name: AnswersEntry.read(e) for name, e in config["answers"].items()},
            selections={name: SelectionEntry.read(e) for name, e in config["selections"].items()},
            preferences={
                name: PreferencesEntry.read(e) for name, e in config["preferences"].items()
            },
            settings=ChainSettings(**_changes(config)),
            training=config["training"],
            evaluation=Evaluation(**config["evaluation"]),
            engine=config["engine"],
        )

    def base_entry(self, name: str) -> dict[str, Any]:
        """What decides the files of a base model, and whether it may name code of its own."""
        entry = deciding_model(self.models[name])
        entry = {key: value for key, value in entry.items() if key not in BESIDE_FILES}
        return {**entry, "trust_remote_code": True} if self.trust_remote_code else entry
