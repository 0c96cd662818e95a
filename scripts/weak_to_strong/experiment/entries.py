"""The checked configuration as typed, read-only entries.

Groups of hyper-parameters (training, pairs, sampling, ...) stay mappings: a script gets such a
group as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

#: Keys of a task that decide its tables.
DATA_KEYS = (
    *("loader", "templates", "form", "data_seed", "splits", "pool"),
    *("columns", "ids", "subjects", "remove_overlap"),
)
#: Keys that describe a model or a task to tables and estimates. They change no job of a run.
DESCRIPTIVE_KEYS = frozenset({"paper", "parameters"})

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Method:
    """An entry of `methods` as it holds for one task: what is trained, from what, on which rows.

    Attributes:
        training, pairs: overrides of the common settings.
    """

    name: str
    stage: str
    start: str
    trainer: str
    data: str
    per_iteration: bool
    few_shot: bool
    training: Settings
    pairs: Settings

    @classmethod
    def read(cls, name: str, entry: Settings) -> Method:
        keys = ("stage", "start", "trainer", "data", "per_iteration", "few_shot")
        values = {key: entry[key] for key in keys}
        return cls(name, **values, training=entry.get("training", {}), pairs=entry.get("pairs", {}))

    @property
    def is_trained(self) -> bool:
        return self.trainer != "none"


@dataclass(frozen=True)
class Task:
    """An entry of `tasks`.

    Attributes:
        data: the settings that decide its tables (`DATA_KEYS`).
        extraction: how a final answer is read, one of `answers.EXTRACTIONS`.
        gold_unread: largest share of gold answers that may not be read back.
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

    @classmethod
    def read(cls, name: str, entry: Settings) -> Task:
        keys = ("prompt", "answer_key", "extraction", "judge", "gold_unread")
        keys += ("quirks", "stop", "max_tokens")
        return cls(
            name,
            data={key: entry[key] for key in DATA_KEYS if key in entry},
            **{key: entry[key] for key in keys},
            training=entry.get("training", {}),
            engine=entry.get("engine", {}),
            methods={key: Method.read(key, value) for key, value in entry["methods"].items()},
        )


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
        return cls(tuple(entry.get("methods", ())), entry.get("training", {}), _changes(entry))


#: Of a chain itself, which is no variant.
NO_VARIANT = Variant((), {}, {})


def _changes(entry: Settings) -> Settings:
    return {item.name: entry[item.name] for item in fields(ChainSettings) if item.name in entry}


@dataclass(frozen=True)
class Evaluation:
    """The section `evaluation`."""

    split: str
    samples: int
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
            settings=ChainSettings(**_changes(config)),
            training=config["training"],
            evaluation=Evaluation(**config["evaluation"]),
            engine=config["engine"],
        )

    def base_entry(self, name: str) -> dict[str, Any]:
        """What decides the files of a base model, and whether it may name code of its own."""
        entry = {
            key: value for key, value in self.models[name].items() if key not in DESCRIPTIVE_KEYS
        }
        return {**entry, "trust_remote_code": True} if self.trust_remote_code else entry
