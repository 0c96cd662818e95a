"""The graph of an experiment: models as nodes, what each is trained on, and generation rounds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from functools import cached_property
from typing import Any

from weak_to_strong.data.split_names import TEST, list_test_sets
from weak_to_strong.experiment.entries import (
    DESCRIPTIVE_KEYS,
    KINDS_FROM_PAIRS,
    LABELS_BY_SIDE,
    NO_VARIANT,
    PAIR_KINDS,
    QUESTIONS_KIND,
    STARTS,
    WEAK_METHOD,
    ChainSettings,
    Experiment,
    Method,
    Settings,
    Task,
    Variant,
    deciding_model,
)
from weak_to_strong.experiment.nodes import (
    AnswerRound,
    Chain,
    Demonstrations,
    EvaluatedSet,
    EvaluationRound,
    Gold,
    Kept,
    LabelRound,
    Labels,
    NamedAnswers,
    Node,
    Preferred,
    Round,
    RoundRequest,
    SampleRound,
    Selected,
    Split,
    VotedSamples,
    Votes,
)
from weak_to_strong.experiment.paths import Paths
from weak_to_strong.paper.published_results import names_of
from weak_to_strong.tables.schemas import NONE

#: Method that starts from the base model -> what it adds something to: training on the weak labels
#: to the weak model itself, training on the kept ones to asking with weak demonstrations.
IMPROVES_ON = {"full_weak": "weak", **dict.fromkeys(("weak_ft", "icl_ft", "hybrid_ft"), "weak_icl")}

#: Settings that a variant may change, by the first table that each reaches: a variant has its own
#: of what lies on that path, and shares the rest with its chain.
_ICL = frozenset({"demonstrations"})
_STAGE_1 = _ICL | {"filter"}
_SAMPLES = _STAGE_1 | {"iterations", "m_plus", "sampling"}
_M_PLUS = _SAMPLES - {"sampling"}
_STAGE_2 = _SAMPLES | {"pairs"}  # and `training`, of the trainer that is changed

#: What an experiment makes from other things that it makes.
Product = (
    Round
    | Node
    | Labels
    | Demonstrations
    | Kept
    | Votes
    | VotedSamples
    | NamedAnswers
    | Selected
    | Preferred
    | Split
    | Gold
)


class Graph:
    """Names and dependencies of one experiment; `paths` says where the files lie.

    Args:
        config: a completed configuration (`configuration.load_configuration`).
        prefix: text before every path of a result, see `paths.Paths`.
    """

    def __init__(self, config: dict, prefix: str = "") -> None:
        self.config = config
        self.experiment = Experiment.read(config)
        self.paths = Paths(self.experiment.name, prefix)
        self._settings: dict[Chain, ChainSettings] = {}

    # --- names -----------------------------------------------------------------------------

    @cached_property
    def chains(self) -> list[Chain]:
        """Every configured chain with every seed, each before its variants."""
        return [
            Chain(entry.task, entry.weak, entry.strong, seed, variant)
            for entry in self.experiment.chains
            for seed in self.experiment.seeds
            for variant in ("", *entry.variants)
        ]

    @cached_property
    def _chains_by_key(self) -> dict[str, Chain]:
        teachers = [entry.weak for entry in self.experiment.answers.values() if entry.weak]
        parts = (
            part
            for chain in self.chains
            for part in (
                *(chain, chain.weak_side, chain.strong_side),
                *(self._teacher_side(chain, teacher) for teacher in teachers),
            )
        )
        return {chain.key: chain for chain in parts}

    def _teacher_side(self, chain: Chain, teacher: str | None) -> Chain:
        """The part of a chain that no strong model has touched, with another weak model."""
        return Chain(chain.task, teacher or chain.weak, NONE, chain.seed)

    def chain(self, key: str) -> Chain:
        """The chain, or its weak or strong side, that the wildcard `chain` names.

        Raises:
            ValueError: the experiment has no such chain.
        """
        return _look_up(self._chains_by_key, key, "chain")

    def round(self, key: str) -> Round:
        """The generation round that the wildcard `round` names.

        Raises:
            ValueError: the experiment has no such round.
        """
        return _look_up(self._rounds_by_key, key, "generation round")

    def node_of(self, chain: str, method: str, iteration: str) -> Node:
        """The node that the wildcards `chain`, `method` and `iteration` name.

        Raises:
            ValueError: the experiment has no such chain.
        """
        return Node(self.chain(chain), method, int(iteration))

    def task(self, name: str) -> Task:
        """The settings of a task."""
        return self.experiment.tasks[name]

    def variant(self, chain: Chain) -> Variant:
        """What a chain's variant changes; nothing for the chain itself."""
        return self.experiment.variants[chain.variant] if chain.variant else NO_VARIANT

    @cached_property
    def _chain_changes(self) -> dict[tuple[str, str, str], Any]:
        return {
            (entry.task, entry.weak, entry.strong): entry.changes
            for entry in self.experiment.chains
        }

    def settings(self, chain: Chain) -> ChainSettings:
        """Settings as they hold for a chain: its variant's over its own over the common ones."""
        if chain not in self._settings:
            chain_changes = self._chain_changes[chain.task, chain.weak, chain.strong]
            common = self.experiment.settings
            self._settings[chain] = common.under(chain_changes).under(self.variant(chain).changes)
        return self._settings[chain]

    def _narrow(self, chain: Chain, reach: frozenset[str]) -> Chain:
        """The variant where it changes one of the settings in `reach`, else its plain chain."""
        variant = self.variant(chain)
        changed = variant.changes.keys() | {f"training.{name}" for name in variant.training}
        return chain if reach & changed else chain.plain

    @cached_property
    def tasks(self) -> list[str]:
        """Names of the tasks that a chain uses, in order."""
        return list(dict.fromkeys(chain.task for chain in self.chains))

    def method(self, node: Node) -> Method:
        """The method of a node. A weak model behind an endpoint answers as it is."""
        method = self.task(node.chain.task).methods[node.method]
        is_asked = node.method == WEAK_METHOD and self.is_endpoint(node.chain.weak)
        return method.untrained if is_asked else method

    def methods_with(self, trainers: Iterable[str]) -> list[str]:
        """Names of the methods that one of the trainers trains on any used task, sorted."""
        methods = (method for task in self.tasks for method in self.task(task).methods.values())
        return sorted({method.name for method in methods if method.trainer in trainers})

    def methods_on(self, kinds: Iterable[str]) -> list[str]:
        """Names of the methods that are trained on a kind of rows on any used task, sorted."""
        methods = (method for task in self.tasks for method in self.task(task).methods.values())
        return sorted({method.name for method in methods if self._kind_of_rows(method) in kinds})

    def _takes_chosen(self, method: Method) -> bool:
        """Whether a method is trained on the chosen answers of a name of `preferences` alone."""
        return method.trainer == "sft" and method.data in self.experiment.preferences

    def node(self, chain: Chain, name: str, iteration: int = 0) -> Node:
        """The node of a method on a chain, under the narrowest name that fits it."""
        method, reach = self.task(chain.task).methods[name], frozenset()
        if self._is_named(method.data) or method.start not in STARTS:
            return Node(self._chain_of_parts(chain, method), name, iteration)
        if method.start == "weak":
            chain = chain.weak_side
        elif self._without_weak(chain.task, method):
            chain = chain.strong_side
        elif method.data == QUESTIONS_KIND:
            reach = _M_PLUS if method.start == "m_plus" else frozenset()
            reach |= _STAGE_1 if method.reward == "agreement" else frozenset()
            reach |= {f"training.{method.trainer}"}
        elif method.data in KINDS_FROM_PAIRS:
            reach = _STAGE_2 | {f"training.{method.trainer}"}
        elif method.start == "m_plus":
            reach = _SAMPLES
        elif method.data.startswith(("kept_", "random_")):
            reach = _STAGE_1
        elif method.data == "icl_labels":
            reach = _STAGE_1 if iteration > 1 else _ICL
        if method.few_shot:
            reach |= _ICL
        return Node(self._narrow(chain, reach), name, iteration)

    def _is_named(self, data: str) -> bool:
        """Whether the rows of a method are an entry of `selections` or `preferences`."""
        return data in self.experiment.selections or data in self.experiment.preferences

    def _without_weak(self, task: str, method: Method) -> bool:
        """Whether no weak model has a part in a method, so that all weak models share its node.

        A control is then on the same side as the method that it is compared with.
        """
        if method.data in ("gold_train_1", "gold_train_2"):
            return True
        if method.few_shot or method.start != "strong":
            return False
        if method.control_of:
            controlled = self.task(task).methods[method.control_of]
            return method.data == QUESTIONS_KIND and self._without_weak(task, controlled)
        free = method.reward in ("majority", "random", "gold") or method.reward_function
        return method.data == "none" or bool(free)

    def _chain_of_parts(self, chain: Chain, method: Method) -> Chain:
        """The variant where one of the things that a method's model is made from belongs to it."""
        parts: list[NamedAnswers | Selected | Preferred | Labels | Kept | Node] = []
        if method.data in self.experiment.selections:
            parts.append(self._selected(chain, method.data))
        if method.data in self.experiment.preferences:
            parts.append(self._preferred(chain, method.data))
        if method.reward == "weak_label":
            parts.append(self._labels(chain, "weak", 1))
        if method.reward == "agreement":
            parts.append(self._kept(chain, 1))
        if method.trainer in self.variant(chain).training:
            return chain
        if method.start == "m_plus":
            parts.append(self.m_plus(chain))
        elif method.start not in STARTS:
            parts.append(self._last_node(chain, method.start))
        if method.few_shot:
            parts.append(self._labels(chain, "icl", 1))
        return chain if any(part.chain.variant for part in parts) else chain.plain

    def _last_node(self, chain: Chain, name: str, iteration: int | None = None) -> Node:
        """The model of a method, of its last iteration if none is given."""
        if not self.task(chain.task).methods[name].per_iteration:
            return self.node(chain, name)
        return self.node(chain, name, iteration or self.settings(chain).iterations)

    @cached_property
    def nodes(self) -> list[Node]:
        """Every model that is evaluated, each once."""
        evaluated: dict[Node, None] = {}
        for chain in self.chains:
            methods = self.task(chain.task).methods
            for name in self.variant(chain).methods or methods:
                last = self.settings(chain).iterations
                for iteration in range(1, last + 1) if methods[name].per_iteration else (0,):
                    node = self.node(chain, name, iteration)
                    # What a variant shares with its chain is evaluated there.
                    if node.chain.variant == chain.variant:
                        evaluated[node] = None
        return list(evaluated)

    def m_plus(self, chain: Chain) -> Node:
        """The strong model after Stage I (paper section 3.1), by default the last hybrid_ft."""
        settings = self.settings(chain)
        return self.node(chain, settings.m_plus, settings.iterations)

    def predecessor(self, node: Node) -> Node | None:
        """The model that a node is to improve on.

        It is the model from which the training starts. Of a later iteration it is the iteration
        before it. Of what starts from the base model, IMPROVES_ON says which one it is.
        """
        if node.iteration > 1 and self.method(node).control_of is None:
            return self.node(node.chain, node.method, node.iteration - 1)
        start, other = self.init_of(node), IMPROVES_ON.get(node.method)
        if start is None and other in self.task(node.chain.task).methods:
            return self.node(node.chain, other)
        return start

    def counterpart(self, node: Node) -> Node | None:
        """The model from which a node differs in one thing.

        Of a control it is the method that it controls, in the same iteration or, for a control
        without iterations, in the first. Of a variant it is the same method of its chain.
        """
        chain, name, iteration = node.chain, self.method(node).control_of, node.iteration
        if name is None:
            if not chain.variant:
                return None
            chain, name = chain.plain, node.method
        elif self.task(chain.task).methods[name].per_iteration:
            iteration = max(1, iteration)
        else:
            iteration = 0
        return self.node(chain, name, iteration)

    def last_hybrid(self, node: Node) -> Node | None:
        """The paper's Stage I on a node's chain, if it has it: the last iteration of hybrid_ft."""
        chain = node.chain.plain
        if NONE in (chain.weak, chain.strong) or "hybrid_ft" not in self.task(chain.task).methods:
            return None
        return self._last_node(chain, "hybrid_ft")

    # --- files -----------------------------------------------------------------------------

    def data(self, task: str, split: str) -> str:
        """Table of a split; of train_2 the questions alone."""
        return Split(task, split).path(self.paths)

    def base_manifest(self, base: str) -> str:
        """Manifest of a base model."""
        return self.paths.base.format(base=base)

    def manifest(self, node: Node) -> str:
        """Manifest of a node's model."""
        return node.path(self.paths)

    def rows(self, node: Node) -> str:
        """Training rows of a node. Pairs of a name are those of all methods that train on them."""
        method = self.method(node)
        if method.data in self.experiment.preferences and not self._takes_chosen(method):
            return self._preferred(node.chain, method.data).path(self.paths)
        return node.fill(self.paths.rows)

    def labels(self, chain: Chain, side: str, iteration: int) -> str:
        """Table LABELS of one side, weak or icl, in an iteration of Stage I (from 1)."""
        return self._labels(chain, side, iteration).path(self.paths)

    def demonstrations(self, chain: Chain) -> str:
        return self._demonstrations(chain).path(self.paths)

    def kept(self, chain: Chain, iteration: int) -> str:
        """Table KEPT of the agreement filter in an iteration of Stage I (from 1)."""
        return self._kept(chain, iteration).path(self.paths)

    def votes(self, chain: Chain) -> str:
        """Table VOTES of the samples of a chain's M_plus."""
        return self._votes(chain).path(self.paths)

    def _labels(self, chain: Chain, side: str, iteration: int) -> Labels:
        if (side, iteration) == ("weak", 1):
            return Labels(chain.weak_side, side, iteration)
        return Labels(self._narrow(chain, _STAGE_1 if iteration > 1 else _ICL), side, iteration)

    def _demonstrations(self, chain: Chain) -> Demonstrations:
        return Demonstrations(self._narrow(chain, _ICL))

    def _demonstration_tables(self, chain: Chain) -> dict[str, Product]:
        if self.settings(chain).demonstrations.get("gold"):
            return {"problems": Split(chain.task, "train_1")}
        questions = Split(chain.task, "train_2")
        return {"weak_labels": self._labels(chain, "weak", 1), "questions": questions}

    def demonstration_inputs(self, chain: Chain) -> dict[str, str]:
        """Tables from which a chain's demonstrations are drawn, by the name their rule knows."""
        tables = self._demonstration_tables(chain)
        return {name: table.path(self.paths) for name, table in tables.items()}

    def gold_answer_key(self, chain: Chain) -> str | None:
        """Text before the final answer in demonstrations made from gold; None for the others."""
        is_gold = self.settings(chain).demonstrations.get("gold")
        return self.task(chain.task).answer_key if is_gold else None

    def _answers(self, chain: Chain, name: str) -> NamedAnswers | Labels:
        """The answers of a name to the questions of a chain."""
        if name in LABELS_BY_SIDE:
            return self._labels(chain, LABELS_BY_SIDE[name], 1)
        entry = self.experiment.answers[name]
        if entry.model == "weak":
            return NamedAnswers(self._teacher_side(chain, entry.weak), name)
        node = self.answering(chain, name)
        own = [node.chain] if node else []
        own += [self._labels(chain, "icl", 1).chain] if entry.few_shot else []
        if not own:
            return NamedAnswers(chain.strong_side, name)
        return NamedAnswers(chain if any(part.variant for part in own) else chain.plain, name)

    def answering(self, chain: Chain, name: str) -> Node | None:
        """The trained model that gives the answers of a name; None for the base model as it is."""
        entry = self.experiment.answers[name]
        if entry.model == "weak":
            return self._trained(self.node(self._teacher_side(chain, entry.weak), "weak"))
        if entry.model == "strong":
            return None
        if entry.model == "m_plus":
            return self.m_plus(chain)
        return self._trained(self._last_node(chain, entry.model, entry.iteration))

    def _selected(self, chain: Chain, name: str) -> Selected:
        own = any(part.chain.variant for part in self._selection_parts(chain, name))
        return Selected(chain if own else chain.plain, name)

    def _selection_parts(self, chain: Chain, name: str) -> list[NamedAnswers | Labels | Selected]:
        """Everything that a selection is made from."""
        return [part for parts in self._selection_tables(chain, name).values() for part in parts]

    def _selection_tables(
        self, chain: Chain, name: str
    ) -> dict[str, list[NamedAnswers | Labels | Selected]]:
        """The answers to choose from, and the selections that it leaves out or is as large as."""
        entry = self.experiment.selections[name]
        others = {"without": entry.without, "as_many_as": entry.as_many_as}
        return {
            "answers": [self._answers(chain, part) for part in entry.answers],
            **{key: [self._selected(chain, other)] for key, other in others.items() if other},
        }

    def selection_inputs(self, chain: Chain, name: str) -> dict[str, list[str]]:
        """Tables that a selection is made from, by the name its rule knows."""
        return self._paths(self._selection_tables(chain, name))

    def _preferred(self, chain: Chain, name: str) -> Preferred:
        own = any(part.chain.variant for part in self._preference_parts(chain, name))
        return Preferred(chain if own else chain.plain, name)

    def preference_answers(self, name: str) -> tuple[str, ...]:
        """Names of the answers from which pairs are built, those of `one_side` last."""
        one_side = self.experiment.preferences[name].one_side
        return (*self._paired_answers(name), *([one_side] if one_side else []))

    def _paired_answers(self, name: str) -> tuple[str, ...]:
        entry = self.experiment.preferences[name]
        return entry.answers or self.experiment.selections[entry.selection].answers

    def _preference_parts(self, chain: Chain, name: str) -> list[NamedAnswers | Labels | Selected]:
        """Everything that pairs are built from."""
        return [part for parts in self._preference_tables(chain, name).values() for part in parts]

    def _preference_tables(
        self, chain: Chain, name: str
    ) -> dict[str, list[NamedAnswers | Labels | Selected]]:
        """The answers, the selection whose texts are chosen, and those of `one_side`."""
        entry = self.experiment.preferences[name]
        return {
            "answers": [self._answers(chain, part) for part in self._paired_answers(name)],
            "selected": [self._selected(chain, entry.selection)] if entry.selection else [],
            "one_side": [self._answers(chain, entry.one_side)] if entry.one_side else [],
        }

    def preference_inputs(self, chain: Chain, name: str) -> dict[str, list[str]]:
        """Tables that pairs are built from, by the name their rule knows."""
        return self._paths(self._preference_tables(chain, name))

    def _paths(
        self, tables: dict[str, list[NamedAnswers | Labels | Selected]]
    ) -> dict[str, list[str]]:
        return {key: [part.path(self.paths) for part in parts] for key, parts in tables.items()}

    def answer_generations(self, chain: Chain, name: str) -> str:
        """The texts from which the answers of a name are read."""
        return AnswerRound(chain, name).path(self.paths)

    def _kept(self, chain: Chain, iteration: int) -> Kept:
        return Kept(self._narrow(chain, _STAGE_1), iteration)

    def _votes(self, chain: Chain) -> Votes:
        return Votes(self._narrow(chain, _SAMPLES))

    # --- training --------------------------------------------------------------------------

    def base_of(self, node: Node) -> str:
        """Name of the base model whose weights (or adapter host) a node has."""
        return node.chain.weak if self.method(node).start == "weak" else node.chain.strong

    def init_of(self, node: Node) -> Node | None:
        """The trained node from which a node's training starts; None for its base model."""
        start = self.method(node).start
        if start == "m_plus":
            return self.m_plus(node.chain)
        return None if start in STARTS else self._last_node(node.chain, start)

    def _trained(self, node: Node) -> Node | None:
        """The node whose training made a node's weights; None for its base model as it is."""
        return node if self.method(node).is_trained else self.init_of(node)

    def _training_tables(self, node: Node) -> dict[str, Product]:
        chain, data = node.chain, self.method(node).data
        questions, iteration = Split(chain.task, "train_2"), max(1, node.iteration)
        if data == "gold_train_1":
            return {"problems": Split(chain.task, "train_1")}
        if data == "gold_train_2":
            return {"questions": questions, "gold": Gold(chain.task)}
        reward = self.method(node).reward
        if data == QUESTIONS_KIND and reward not in ("weak_label", "agreement"):
            gold = {"gold": Gold(chain.task)} if reward == "gold" else {}
            return {"questions": questions, **gold}
        if data in self.experiment.selections:
            return {"questions": questions, "selected": self._selected(chain, data)}
        if data in self.experiment.preferences:
            return {"pairs": self._preferred(chain, data)}
        weak_labels = self._labels(chain, "weak", 1)
        if data == "weak_labels" or reward == "weak_label":
            return {"questions": questions, "weak_labels": weak_labels}
        if data == "icl_labels":
            return {"questions": questions, "icl_labels": self._labels(chain, "icl", iteration)}
        if data in KINDS_FROM_PAIRS:
            votes = self._votes(chain)
            return {
                "questions": questions,
                "weak_labels": weak_labels,
                "samples": VotedSamples(votes.chain),
                "votes": votes,
            }
        kept = self._kept(chain, iteration)
        if data.startswith("random_"):
            sides = ("weak", "icl")
            labels = {f"{side}_labels": self._labels(chain, side, iteration) for side in sides}
            return {"questions": questions, "kept": kept, **labels}
        return {"questions": questions, "kept": kept}

    def kind_of_rows(self, node: Node) -> str:
        """Kind of a node's rows, as `training_sets.sft_rows` knows it."""
        return self._kind_of_rows(self.method(node))

    def _kind_of_rows(self, method: Method) -> str:
        if self._takes_chosen(method):
            return "preferred"
        selection = self.experiment.selections.get(method.data)
        if selection is None:
            return method.data
        return "weighted" if selection.weighted else "selected"

    def training_inputs(self, node: Node) -> dict[str, str]:
        """Tables from which a node's training rows are made, by the name its rule knows."""
        tables = self._training_tables(node)
        return {name: table.path(self.paths) for name, table in tables.items()}

    def training_files(self, node: Node) -> dict[str, str]:
        """What a training reads beside its rows: manifests of base and start, DeepSpeed file."""
        files = {"base": self.base_manifest(self.base_of(node))}
        if init := self.init_of(node):
            files["init"] = self.manifest(init)
        settings = self.training_settings(node)
        files |= {key: settings[key] for key in ("deepspeed",) if key in settings}
        chat = self.training_chat(node)
        return files | ({"chat_template": chat["template"]} if chat and chat["template"] else {})

    def training_settings(self, node: Node) -> dict[str, Any]:
        """Hyper-parameters of a node: its trainer's under those of task, method and variant.

        A training by reward also has how its answers are sampled, read and compared. One that
        starts from the base model makes an adapter of the shape that `sft` has there.
        """
        method, task = self.method(node), self.task(node.chain.task)
        settings = {
            **self.experiment.training[method.trainer],
            **task.training.get(method.trainer, {}),
            **method.training,
            **self.variant(node.chain).training.get(method.trainer, {}),
            "seed": node.chain.seed,
        }
        if not method.reward:
            return settings
        if method.start == "strong" and settings["adapter"] == "lora":
            sft = {**self.experiment.training["sft"], **task.training.get("sft", {})}
            settings = {"lora": sft.get("lora"), **settings}
        keys = ("max_tokens", "answer_key", "extraction", "stop", "quirks", "answer_after")
        reading = {key: getattr(task, key) for key in keys}
        return {**settings, "reward": method.reward, **reading, "judge": self.judge(task.name)}

    def training_chat(self, node: Node) -> dict[str, Any] | None:
        """How the rows of a node become the turns of a chat, see `chat`."""
        return self.chat(node.chain.task, self.base_of(node))

    def pair_settings(self, node: Node) -> dict[str, Any]:
        """Settings of Stage II pairs of a node: its chain's under those of method and variant."""
        changed = self.variant(node.chain).changes.get("pairs", {})
        return {**self.settings(node.chain).pairs, **self.method(node).pairs, **changed}

    # --- generation ------------------------------------------------------------------------

    def label_round(self, chain: Chain, side: str, iteration: int) -> LabelRound:
        """The round that answers train_2 for one side of an iteration."""
        if iteration > 1:
            return LabelRound(self._narrow(chain, _STAGE_1), iteration, ("weak", "icl"))
        chain = chain.weak_side if side == "weak" else self._narrow(chain, _ICL)
        return LabelRound(chain, iteration, (side,))

    def _label_request(self, chain: Chain, side: str, iteration: int) -> RoundRequest:
        """One side's answers to train_2 (paper section 3.1).

        Iteration 1: the weak model zero-shot, and the strong base with demonstrations. Later:
        weak_ft and icl_ft of the iteration before, both zero-shot.
        """
        node, base, demonstrations = None, chain.strong, None
        if iteration > 1:
            node = self.node(chain, f"{side}_ft", iteration - 1)
        elif side == "weak":
            node, base = self._trained(self.node(chain, "weak")), chain.weak
        else:
            demonstrations = self._demonstrations(chain)
        questions = Split(chain.task, "train_2")
        return RoundRequest(f"{side}-{iteration}", node, base, questions, demonstrations, {})

    def _sample_request(self, chain: Chain) -> RoundRequest:
        decoding = {**self.settings(chain).sampling, "seed": chain.seed}
        questions = Split(chain.task, "train_2")
        return RoundRequest("samples", self.m_plus(chain), chain.strong, questions, None, decoding)

    def _answer_request(self, chain: Chain, name: str) -> RoundRequest:
        """The answers of a name to train_2."""
        entry = self.experiment.answers[name]
        node = self.answering(chain, name)
        base = chain.weak if entry.model == "weak" else chain.strong
        if node:
            base = self.base_of(node)
        demonstrations = self._demonstrations(chain) if entry.few_shot else None
        decoding = {**entry.decoding, "seed": chain.seed} if entry.decoding else {}
        questions = Split(chain.task, "train_2")
        return RoundRequest("answers", node, base, questions, demonstrations, decoding)

    def evaluated_sets(self, task: str | None = None) -> list[EvaluatedSet]:
        """The evaluated questions of a task, several where it has several test sets.

        Without a task those of all tasks.
        """
        sets = []
        for name in self.tasks if task is None else [task]:
            splits = list_test_sets(self.task(name).data["splits"])
            if self.experiment.evaluation.split != TEST or splits == [TEST]:
                sets.append(EvaluatedSet(name))
            else:
                sets += [EvaluatedSet(name, split.removeprefix(f"{TEST}-")) for split in splits]
        return sets

    def evaluated_set(self, key: str) -> EvaluatedSet:
        """The questions that the wildcard `evaluated` names.

        Raises:
            ValueError: the experiment evaluates no such questions.
        """
        sets = {evaluated.key: evaluated for evaluated in self.evaluated_sets()}
        return _look_up(sets, key, "test set")

    def evaluated_split(self, evaluated: EvaluatedSet) -> Split:
        """The split that has these questions."""
        name = self.experiment.evaluation.split
        return Split(evaluated.task, f"{name}-{evaluated.name}" if evaluated.name else name)

    def _evaluation_requests(self, round_: EvaluationRound) -> list[tuple[RoundRequest, dict]]:
        """Requests that evaluate every node on a base, each with the facts of its node."""
        settings, evaluated = self.experiment.evaluation, round_.evaluated
        requests = []
        for node in self.nodes:
            if node.chain.task != round_.task or self.base_of(node) != round_.base:
                continue
            few_shot = self.method(node).few_shot
            demonstrations = self._demonstrations(node.chain) if few_shot else None
            decodings: dict[str, dict[str, Any]] = {"greedy": {}}
            # Of a control only the accuracy is compared.
            sampled = settings.sampled is None or node.method in settings.sampled
            if settings.samples and sampled and self.method(node).control_of is None:
                decodings["samples"] = {
                    "n": settings.samples,
                    "temperature": settings.temperature,
                    "seed": node.chain.seed,
                }
            for name, decoding in decodings.items():
                request = RoundRequest(
                    _request_name(node, name, evaluated),
                    self._trained(node),
                    round_.base,
                    self.evaluated_split(evaluated),
                    demonstrations,
                    decoding,
                )
                requests.append((request, self._facts(node, name, evaluated)))
        return requests

    def _facts(self, node: Node, decoding: str, evaluated: EvaluatedSet) -> dict[str, Any]:
        """What metrics and report say of a node; of other nodes the greedy request's name.

        `test_set` is there where the task has several.
        """
        others = {
            "predecessor": self.predecessor(node),
            "counterpart": self.counterpart(node),
            "hybrid_ft": self.last_hybrid(node),
        }
        return {
            "task": node.chain.task,
            "weak": node.chain.weak,
            "strong": node.chain.strong,
            "method": "@".join(filter(None, [node.method, node.chain.variant])),
            "stage": self.method(node).stage,
            "iteration": node.iteration,
            "seed": node.chain.seed,
            "decoding": decoding,
            **({"test_set": evaluated.name} if evaluated.name else {}),
            **{
                name: other and _request_name(other, "greedy", evaluated)
                for name, other in others.items()
            },
        }

    def evaluation_nodes(self) -> dict[str, dict[str, Any]]:
        """Request name -> facts of its node, of all evaluation requests."""
        return {
            request.name: facts
            for round_ in self.evaluation_rounds()
            for request, facts in self._evaluation_requests(round_)
        }

    def evaluation_rounds(self, task: str | None = None) -> list[EvaluationRound]:
        """A round for each test set and base on which models of a task stand.

        Without a task those of all tasks.
        """
        rounds = (
            EvaluationRound(evaluated.task, self.base_of(node), evaluated.name)
            for evaluated in self.evaluated_sets(task)
            for node in self.nodes
            if node.chain.task == evaluated.task
        )
        return list(dict.fromkeys(rounds))

    def requests(self, round_: Round) -> list[RoundRequest]:
        """Requests of a generation round.

        Raises:
            TypeError: no kind of round.
        """
        match round_:
            case EvaluationRound():
                return [request for request, _ in self._evaluation_requests(round_)]
            case SampleRound(chain=chain):
                return [self._sample_request(chain)]
            case AnswerRound(chain=chain, name=name):
                return [self._answer_request(chain, name)]
            case LabelRound(chain=chain, iteration=iteration, sides=sides):
                return [self._label_request(chain, side, iteration) for side in sides]
        raise TypeError(round_)

    def round_answers(self, round_: Round) -> int | None:
        """Answers that a round is to give; None where its questions come from files."""
        total = 0
        for request in self.requests(round_):
            questions = request.questions
            size = self.task(questions.task).data["splits"].get(questions.name)
            if not isinstance(size, int):
                return None
            total += size * request.decoding.get("n", 1)
        return total

    def label_generations(self, chain: Chain, side: str, iteration: int) -> str:
        """The texts from which the labels of one side of an iteration are read."""
        return self.label_round(chain, side, iteration).path(self.paths)

    def evaluation_generations(self, evaluated: EvaluatedSet | None = None) -> list[str]:
        """The texts that answer evaluated questions; all such texts without an argument."""
        return [
            round_.path(self.paths)
            for round_ in self.evaluation_rounds()
            if evaluated in (None, round_.evaluated)
        ]

    def bases(self, round_: Round) -> list[str]:
        """Names of the base models that a round's requests stand on, sorted."""
        return sorted({request.base for request in self.requests(round_)})

    def round_requests(self, round_: Round) -> list[dict[str, Any]]:
        """A round's requests as the mappings that `generation.rounds.Request.parse` reads.

        The request store hashes these, so that their contents decide what is generated anew.
        """
        return [self._mapping(request) for request in self.requests(round_)]

    def _mapping(self, request: RoundRequest) -> dict[str, Any]:
        task, demonstrations = self.task(request.questions.task), request.demonstrations
        chat = self.chat(task.name, request.base)
        return {
            "name": request.name,
            "model": self.manifest(request.node) if request.node else None,
            "base": self.base_manifest(request.base),
            "problems": request.questions.path(self.paths),
            "demonstrations": demonstrations.path(self.paths) if demonstrations else None,
            "n": 1,
            "temperature": 0.0,
            "top_p": 1.0,
            "seed": 0,
            "max_tokens": task.max_tokens,
            "stop": task.stop,
            "prompt": task.prompt,
            **({"chat": chat} if chat else {}),
            **request.decoding,
        }

    def chat(self, task: str, base: str) -> dict[str, Any] | None:
        """Settings of `chat_format.load_chat_format` for a model; None for plain prompts."""
        settings = self.task(task).chat
        if settings is None:
            return None
        thinking = settings["thinking"]
        told = {} if thinking is None else {"enable_thinking": thinking, "thinking": thinking}
        return {
            **{key: settings[key] for key in ("system", "thinking", "answer_after")},
            "options": {**told, **settings["options"]},
            "template": self.experiment.models[base].get("chat_template"),
        }

    def chat_checks(self) -> list[dict[str, Any]]:
        """Chats to try before the first job, see `chat_check.check_chats`.

        They are those of models in local folders.
        """
        checks: dict[tuple[str, str], dict[str, Any]] = {}
        for node in self.nodes:
            base, task = self.base_of(node), self.task(node.chain.task)
            chat, entry = self.chat(task.name, base), self.experiment.models[base]
            if chat is None or "path" not in entry:
                continue
            check = {"name": base, "folder": entry["path"], "chat": chat}
            check |= {"trained": False, "reasons": False}
            check = checks.setdefault((task.name, base), check)
            method = self.method(node)
            check["trained"] |= method.is_trained
            keeps = task.reasoning is not None and task.reasoning["reasoning"] == "keep"
            # Gold solutions have no reasoning.
            check["reasons"] |= keeps and method.is_trained and not method.data.startswith("gold_")
        return list(checks.values())

    def round_inputs(self, round_: Round) -> list[str]:
        """Every file that a round's requests read, each once."""
        keys = ("base", "model", "problems", "demonstrations")
        requests = self.round_requests(round_)
        files = [request[key] for request in requests for key in keys]
        files += [request["chat"]["template"] for request in requests if "chat" in request]
        return list(dict.fromkeys(file for file in files if file))

    def is_endpoint(self, model: str) -> bool:
        """Whether a model is behind an endpoint; false for the name of no model."""
        return "endpoint" in self.experiment.models.get(model, {})

    def asked_model(self, round_: Round) -> str | None:
        """Name of the model behind an endpoint that answers a round; None where an engine does."""
        if not any(map(self.is_endpoint, self._used_models)):
            return None
        (model, *others) = self.bases(round_)
        return model if not others and self.is_endpoint(model) else None

    def asked_rounds(self) -> list[Round]:
        """Every round that a target may name, and that a model behind an endpoint answers."""
        return [round_ for round_ in self._rounds_by_key.values() if self.asked_model(round_)]

    def endpoint_of(self, round_: Round) -> Settings:
        """The entry `endpoint` of the model that answers a round.

        Raises:
            KeyError: an engine answers it.
        """
        return self.experiment.models[self.asked_model(round_)]["endpoint"]

    def prices(self) -> dict[str, dict[str, float]]:
        """Prices of tokens of the asked rounds with a price, by the key of the round."""
        asked = {round_.key: self.endpoint_of(round_)["price"] for round_ in self.asked_rounds()}
        return {key: price for key, price in asked.items() if price}

    def engine(self, task: str) -> dict[str, Any]:
        """Settings of the engine that serves a task: the common ones under the task's own."""
        return {**self.experiment.engine, **self.task(task).engine}

    def judge(self, task: str) -> dict[str, Any]:
        """Settings of `judges.choose_judge` for a task."""
        settings = self.task(task)
        if settings.judge == "string":
            return {"name": "string"}
        return {
            "name": settings.judge,
            "timeout_seconds": self.experiment.evaluation.math_timeout,
            "released_judge": settings.quirks["released_judge"],
        }

    # --- plan ------------------------------------------------------------------------------

    def _made_from(self, product: Product) -> list[Product]:
        """What something is made from; nothing for data."""
        match product:
            case Round():
                parts = [
                    part
                    for request in self.requests(product)
                    for part in (request.node, request.demonstrations)
                ]
                return [part for part in parts if part]
            case Node():
                init = self.init_of(product)
                return [*self._training_tables(product).values(), *([init] if init else [])]
            case Labels(chain=chain, side=side, iteration=iteration):
                return [self.label_round(chain, side, iteration)]
            case Demonstrations(chain=chain):
                return list(self._demonstration_tables(chain).values())
            case Kept(chain=chain, iteration=iteration):
                return [self._labels(chain, side, iteration) for side in ("weak", "icl")]
            case Votes(chain=chain) | VotedSamples(chain=chain):
                return [SampleRound(chain)]
            case NamedAnswers(chain=chain, name=name):
                return [AnswerRound(chain, name)]
            case Selected(chain=chain, name=name):
                return list(self._selection_parts(chain, name))
            case Preferred(chain=chain, name=name):
                return list(self._preference_parts(chain, name))
        return []

    @cached_property
    def _needed(self) -> list[Product]:
        """Everything behind the report, each once, in the order of the paths."""
        waiting: list[Product] = list(self.evaluation_rounds())
        for chain in self.chains:
            iterations = self._diagnosed_iterations(chain)
            for side in ("weak", "icl"):
                waiting += [self._labels(chain, side, iteration) for iteration in iterations]
            waiting += [self._kept(chain, iteration) for iteration in iterations]
            waiting += [self._votes(chain)] if self._has_votes(chain) else []
            for node in self._pair_nodes.get(chain, ()):
                waiting += self._training_tables(node).values()
            waiting += [part for both in self._blind_spots(chain).values() for part in both]
        needed: set[Product] = set()
        while waiting:
            product = waiting.pop()
            if product not in needed:
                needed.add(product)
                waiting += self._made_from(product)
        return sorted(needed, key=lambda product: product.path(self.paths))

    def rounds(self) -> list[Round]:
        """Every generation round that the experiment needs, each once."""
        return [product for product in self._needed if isinstance(product, Round)]

    def engine_rounds(self) -> list[Round]:
        """Those of `rounds` that engines answer."""
        return [round_ for round_ in self.rounds() if not self.asked_model(round_)]

    def trained_nodes(self) -> list[Node]:
        """Every node that the experiment trains, each once, whether it is evaluated or not."""
        return [product for product in self._needed if isinstance(product, Node)]

    def trained_node(self, key: str) -> Node:
        """The trained node with a key that the configuration names (`upload.model`).

        Raises:
            ValueError: the experiment trains no such model; names some that it trains.
        """
        nodes = {node.key: node for node in self.trained_nodes()}
        if key not in nodes:
            some = ", ".join(list(nodes)[:3])
            raise ValueError(
                f"config key `upload.model`: the experiment trains no model {key!r}; use one of "
                f"its {len(nodes)} models, such as {some}"
            )
        return nodes[key]

    @cached_property
    def _rounds_by_key(self) -> dict[str, Round]:
        """Every round that a target may name, needed or not."""
        rounds: list[Round] = [*self.evaluation_rounds()]
        for chain in self.chains:
            last = self.settings(chain).iterations
            rounds += [self.label_round(chain, side, 1) for side in ("weak", "icl")]
            rounds += [self.label_round(chain, "icl", i) for i in range(2, last + 1)]
            rounds += [SampleRound(self._votes(chain).chain)]
            rounds += [
                AnswerRound(self._answers(chain, name).chain, name)
                for name, entry in self.experiment.answers.items()
                # A task may lack the method that answers in another one.
                if entry.model in (*STARTS, *self.task(chain.task).methods)
            ]
        return {round_.key: round_ for round_ in rounds}

    # --- what report and record show ---------------------------------------------------------

    @cached_property
    def _used_models(self) -> set[str]:
        teachers = {entry.weak for entry in self.experiment.answers.values() if entry.weak}
        return teachers | {model for chain in self.chains for model in (chain.weak, chain.strong)}

    def deciding_settings(self) -> dict[str, Any]:
        """The settings that decide the results, for the report and the record of `verify`.

        Left out are tasks, models and variants that no chain uses, the common `methods`, which each
        task has under its own, and keys that describe only. A change of them reruns nothing.
        """
        used = {
            "tasks": set(self.tasks),
            "models": self._used_models,
            "variants": {chain.variant for chain in self.chains},
        }
        settings = {}
        for key, value in self.config.items():
            if key in used:
                settings[key] = {
                    name: deciding_model(entry)
                    if key == "models"
                    else {k: v for k, v in entry.items() if k not in DESCRIPTIVE_KEYS}
                    for name, entry in value.items()
                    if name in used[key]
                }
            elif key not in ("methods", "published_dir", "experiments", "upload"):
                settings[key] = value
        return settings

    def published_names(self) -> dict[str, dict[str, str]]:
        """Names by which the paper's tables know the used tasks and models (keys `paper`)."""
        used = {"tasks": self.tasks, "models": self._used_models}
        return names_of(
            {
                section: {
                    name: entry for name, entry in self.config[section].items() if name in names
                }
                for section, names in used.items()
            }
        )

    def model_sources(self) -> dict[str, dict[str, Any]]:
        """Greedy request -> where the answers of its model lie, and what the model comes from.

        Keys: `generations`, `scores` and `problems`, files below the experiment's folder;
        `made_from`, the manifest of the model's training and the demonstrations of its prompt, as
        far as it has them; `labels`, the diagnostic of what it learned from, or None.
        """
        below = f"{self.paths.root}/"
        sources = {}
        for round_ in self.evaluation_rounds():
            evaluated = round_.evaluated
            nodes = {_request_name(node, "greedy", evaluated): node for node in self.nodes}
            files = {
                "generations": round_.path(self.paths),
                "scores": self.paths.scores.format(evaluated=evaluated.key),
                "problems": self.evaluated_split(evaluated).path(self.paths),
            }
            files = {name: path.removeprefix(below) for name, path in files.items()}
            for request in self.requests(round_):
                if request.name in nodes:
                    parts = filter(None, (request.node, request.demonstrations))
                    sources[request.name] = {
                        **files,
                        "made_from": [part.path(self.paths) for part in parts],
                        "labels": self._label_diagnostic(nodes[request.name]),
                    }
        return sources

    # --- diagnostics -----------------------------------------------------------------------

    def _label_diagnostic(self, node: Node) -> dict[str, Any] | None:
        """Columns that name the diagnostic of what a node learned from; None where there is none.

        Rows that are drawn at random, and gold answers, have none.
        """
        data, iteration = self.method(node).data, max(1, node.iteration)
        if data in self.experiment.selections:
            diagnostic, name, iteration = "kept", data, 0
            chain = self._selected(node.chain, data).chain
        elif data in self.experiment.preferences:
            diagnostic, name, iteration = "pairs", data, 0
            chain = self._preferred(node.chain, data).chain
        elif data.startswith("kept_"):
            diagnostic, name, chain = "filter", "agreement", self._kept(node.chain, iteration).chain
        elif data == "weak_labels":
            # Shared by all variants, so that its diagnostic is that of the chain itself.
            diagnostic, name, chain, iteration = "labels", "weak", node.chain.plain, 1
        elif data == "icl_labels":
            diagnostic, name = "labels", "icl"
            chain = self._labels(node.chain, "icl", iteration).chain
        elif data in PAIR_KINDS:
            diagnostic, name, chain, iteration = "pairs", node.method, node.chain, 0
        else:
            return None
        method = "@".join(filter(None, [name, chain.variant]))
        return {"diagnostic": diagnostic, "method": method, "iteration": iteration}

    def diagnostics(self) -> list[dict[str, Any]]:
        """Per chain, the tables whose quality is measured against the withheld gold.

        A variant has only those that it does not share with its chain.
        """
        return [self._chain_diagnostics(chain) for chain in self.chains]

    def diagnostic_files(self) -> list[str]:
        """Every table that `diagnostics` names, each once."""
        files: list[str | None] = []
        for chain in self.diagnostics():
            files += [chain["gold"], chain["votes"], chain["samples"], *chain["pairs"].values()]
            files += chain["weak_labels"] + chain["icl_labels"] + chain["kept"]
            files += [*chain["selections"].values(), *chain.get("answers", {}).values()]
            files += [path for paths in chain.get("blind_spots", {}).values() for path in paths]
            files += [chain["questions"]]
        return [file for file in dict.fromkeys(files) if file]

    def _chain_diagnostics(self, chain: Chain) -> dict[str, Any]:
        task, iterations = self.task(chain.task), self._diagnosed_iterations(chain)
        answers = {part.name: part.path(self.paths) for part in self._measured_answers(chain)}
        blind_spots = {
            name: [part.path(self.paths) for part in both]
            for name, both in self._blind_spots(chain).items()
        }
        return {
            **asdict(chain),
            "answer_key": task.answer_key,
            "extraction": task.extraction,
            "quirks": task.quirks,
            **({"answer_after": task.answer_after} if task.answer_after else {}),
            "judge": self.judge(chain.task),
            "questions": self.data(chain.task, "train_2"),
            "gold": Gold(chain.task).path(self.paths),
            "weak_labels": [self.labels(chain, "weak", i) for i in iterations],
            "icl_labels": [self.labels(chain, "icl", i) for i in iterations],
            "kept": [self.kept(chain, i) for i in iterations],
            "votes": self.votes(chain) if self._has_votes(chain) else None,
            "samples": self._voted_samples(chain) if self._has_votes(chain) else None,
            "selections": {
                selected.name: selected.path(self.paths)
                for selected in self._used_selections
                if selected.chain == chain
            },
            **({"answers": answers} if answers else {}),
            **({"blind_spots": blind_spots} if blind_spots else {}),
            "pairs": {
                **{node.method: self.rows(node) for node in self._pair_nodes.get(chain, ())},
                **{
                    preferred.name: preferred.path(self.paths)
                    for preferred in self._used_preferences
                    if preferred.chain == chain
                },
            },
        }

    def _measured_answers(self, chain: Chain) -> list[NamedAnswers]:
        """Named answers that something is made from; of a variant those that are its own."""
        return [
            part
            for part in self._needed
            if isinstance(part, NamedAnswers)
            and (part.chain.task, part.chain.seed) == (chain.task, chain.seed)
            and part == self._answers(chain, part.name)
            and (not chain.variant or part.chain == chain)
        ]

    def _blind_spots(self, chain: Chain) -> dict[str, tuple[NamedAnswers, NamedAnswers]]:
        """Answers that are measured where others are uncertain, with the others, by their name.

        A variant has only those that it does not share with its chain.
        """
        measured = {}
        for name, entry in self.experiment.answers.items():
            if entry.blind_spots_of:
                both = self._answers(chain, name), self._answers(chain, entry.blind_spots_of)
                if not chain.variant or any(part.chain == chain for part in both):
                    measured[name] = both
        return measured

    def _diagnosed_iterations(self, chain: Chain) -> range:
        """Stage I iterations whose tables a chain does not share."""
        has_own = self._narrow(chain, _STAGE_1) == chain
        return range(1, self.settings(chain).iterations + 1) if has_own else range(0)

    def _voted_samples(self, chain: Chain) -> str:
        return VotedSamples(self._votes(chain).chain).path(self.paths)

    def _has_votes(self, chain: Chain) -> bool:
        """Whether a chain has votes of its own, for a preference model that is evaluated."""
        return self._votes(chain).chain == chain and self._votes(chain) in self._used_votes

    @cached_property
    def _pair_nodes(self) -> dict[Chain, list[Node]]:
        """Preference models that are evaluated, by their chain."""
        nodes: dict[Chain, list[Node]] = {}
        for node in self.nodes:
            if self.method(node).data in PAIR_KINDS:
                nodes.setdefault(node.chain, []).append(node)
        return nodes

    @cached_property
    def _used_selections(self) -> list[Selected]:
        """Selections on which an evaluated model is trained, or from which its pairs are built."""
        used = [
            self._selected(node.chain, self.method(node).data)
            for node in self.nodes
            if self.method(node).data in self.experiment.selections
        ]
        for preferred in self._used_preferences:
            parts = self._preference_parts(preferred.chain, preferred.name)
            used += [part for part in parts if isinstance(part, Selected)]
        return list(dict.fromkeys(used))

    @cached_property
    def _used_preferences(self) -> list[Preferred]:
        """Pairs of a name on which an evaluated model is trained, each once."""
        used = (
            self._preferred(node.chain, self.method(node).data)
            for node in self.nodes
            if self.method(node).data in self.experiment.preferences
        )
        return list(dict.fromkeys(used))

    @cached_property
    def _used_votes(self) -> set[Votes]:
        return {self._votes(chain) for chain in self._pair_nodes}


def _request_name(node: Node, decoding: str, evaluated: EvaluatedSet) -> str:
    return f"{node.key}#{decoding}" + (f"@{evaluated.name}" if evaluated.name else "")


def _look_up(registry: dict[str, Any], key: str, what: str) -> Any:
    if key not in registry:
        raise ValueError(
            f"{what} `{key}`: is not part of this experiment; correct the path, or add the chain "
            "to `chains`"
        )
    return registry[key]
