"""The graph of an experiment: models as nodes, what each is trained on, and generation rounds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from functools import cached_property
from typing import Any

from weak_to_strong.experiment.entries import (
    DESCRIPTIVE_KEYS,
    NO_VARIANT,
    ChainSettings,
    Experiment,
    Method,
    Task,
    Variant,
)
from weak_to_strong.experiment.nodes import (
    Chain,
    Demonstrations,
    EvaluationRound,
    Gold,
    Kept,
    LabelRound,
    Labels,
    Node,
    Round,
    RoundRequest,
    SampleRound,
    Split,
    VotedSamples,
    Votes,
)
from weak_to_strong.experiment.paths import Paths
from weak_to_strong.paper.published_results import names_of

#: Settings that a variant may change, by the first table that each reaches: a variant has its own
#: of what lies on that path, and shares the rest with its chain.
_ICL = frozenset({"demonstrations"})
_STAGE_1 = _ICL | {"filter"}
_SAMPLES = _STAGE_1 | {"iterations", "m_plus", "sampling"}
_STAGE_2 = _SAMPLES | {"pairs"}  # and `training`, of the trainer that is changed

#: What an experiment makes from other things that it makes.
Product = Round | Node | Labels | Demonstrations | Kept | Votes | VotedSamples | Split | Gold


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
        parts = (
            part for chain in self.chains for part in (chain, chain.weak_side, chain.strong_side)
        )
        return {chain.key: chain for chain in parts}

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
        return self.task(node.chain.task).methods[node.method]

    def methods_with(self, trainers: Iterable[str]) -> list[str]:
        """Names of the methods that one of the trainers trains on any used task, sorted."""
        methods = (method for task in self.tasks for method in self.task(task).methods.values())
        return sorted({method.name for method in methods if method.trainer in trainers})

    def node(self, chain: Chain, name: str, iteration: int = 0) -> Node:
        """The node of a method on a chain, under the narrowest name that fits it."""
        method, reach = self.task(chain.task).methods[name], frozenset()
        if method.start == "weak":
            chain = chain.weak_side
        elif method.data in ("gold_train_1", "gold_train_2") or (
            method.data == "none" and not method.few_shot and method.start == "strong"
        ):
            chain = chain.strong_side
        elif method.data == "pairs":
            reach = _STAGE_2 | {f"training.{method.trainer}"}
        elif method.start == "m_plus":
            reach = _SAMPLES
        elif method.data.startswith("kept_"):
            reach = _STAGE_1
        if method.few_shot:
            reach |= _ICL
        return Node(self._narrow(chain, reach), name, iteration)

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
        """The model that a node is to improve on: M_plus, or its method one iteration earlier."""
        if node.iteration > 1:
            return self.node(node.chain, node.method, node.iteration - 1)
        return self.init_of(node)

    # --- files -----------------------------------------------------------------------------

    def data(self, task: str, split: str) -> str:
        """Table of a split; of train_2 the questions alone."""
        return Split(task, split).path(self.paths)

    def base_manifest(self, base: str) -> str:
        return self.paths.base.format(base=base)

    def manifest(self, node: Node) -> str:
        return node.path(self.paths)

    def rows(self, node: Node) -> str:
        """Training rows of a node."""
        return node.fill(self.paths.rows)

    def labels(self, chain: Chain, side: str, iteration: int) -> str:
        return self._labels(chain, side, iteration).path(self.paths)

    def demonstrations(self, chain: Chain) -> str:
        return self._demonstrations(chain).path(self.paths)

    def kept(self, chain: Chain, iteration: int) -> str:
        return self._kept(chain, iteration).path(self.paths)

    def votes(self, chain: Chain) -> str:
        return self._votes(chain).path(self.paths)

    def _labels(self, chain: Chain, side: str, iteration: int) -> Labels:
        if (side, iteration) == ("weak", 1):
            return Labels(chain.weak_side, side, iteration)
        return Labels(self._narrow(chain, _STAGE_1 if iteration > 1 else _ICL), side, iteration)

    def _demonstrations(self, chain: Chain) -> Demonstrations:
        return Demonstrations(self._narrow(chain, _ICL))

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
        return self.m_plus(node.chain) if self.method(node).start == "m_plus" else None

    def _trained(self, node: Node) -> Node | None:
        """The node whose training made a node's weights; None for its base model as it is."""
        return node if self.method(node).is_trained else self.init_of(node)

    def _training_tables(self, node: Node) -> dict[str, Product]:
        chain, data = node.chain, self.method(node).data
        questions = Split(chain.task, "train_2")
        if data == "gold_train_1":
            return {"problems": Split(chain.task, "train_1")}
        if data == "gold_train_2":
            return {"questions": questions, "gold": Gold(chain.task)}
        weak_labels = self._labels(chain, "weak", 1)
        if data == "weak_labels":
            return {"questions": questions, "weak_labels": weak_labels}
        if data == "pairs":
            votes = self._votes(chain)
            return {
                "questions": questions,
                "weak_labels": weak_labels,
                "samples": VotedSamples(votes.chain),
                "votes": votes,
            }
        return {"questions": questions, "kept": self._kept(chain, node.iteration)}

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
        return files | {key: settings[key] for key in ("deepspeed",) if key in settings}

    def training_settings(self, node: Node) -> dict[str, Any]:
        """Hyper-parameters of a node: its trainer's under those of task, method and variant."""
        method = self.method(node)
        return {
            **self.experiment.training[method.trainer],
            **self.task(node.chain.task).training.get(method.trainer, {}),
            **method.training,
            **self.variant(node.chain).training.get(method.trainer, {}),
            "seed": node.chain.seed,
        }

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

    def _evaluation_requests(self, task: str, base: str) -> list[tuple[RoundRequest, dict]]:
        """Requests that evaluate every node on a base, each with the facts of its node."""
        settings = self.experiment.evaluation
        requests = []
        for node in self.nodes:
            if node.chain.task != task or self.base_of(node) != base:
                continue
            few_shot = self.method(node).few_shot
            demonstrations = self._demonstrations(node.chain) if few_shot else None
            decodings: dict[str, dict[str, Any]] = {"greedy": {}}
            if settings.samples:
                decodings["samples"] = {
                    "n": settings.samples,
                    "temperature": settings.temperature,
                    "seed": node.chain.seed,
                }
            for name, decoding in decodings.items():
                request = RoundRequest(
                    f"{node.key}#{name}",
                    self._trained(node),
                    base,
                    Split(task, settings.split),
                    demonstrations,
                    decoding,
                )
                requests.append((request, self._facts(node, name)))
        return requests

    def _facts(self, node: Node, decoding: str) -> dict[str, Any]:
        """What metrics and report say of a node; of its predecessor the greedy request's name."""
        before = self.predecessor(node)
        return {
            "task": node.chain.task,
            "weak": node.chain.weak,
            "strong": node.chain.strong,
            "method": "@".join(filter(None, [node.method, node.chain.variant])),
            "stage": self.method(node).stage,
            "iteration": node.iteration,
            "seed": node.chain.seed,
            "decoding": decoding,
            "predecessor": f"{before.key}#greedy" if before else None,
        }

    def evaluation_nodes(self) -> dict[str, dict[str, Any]]:
        """Request name -> facts of its node, of all evaluation requests."""
        return {
            request.name: facts
            for round_ in self.evaluation_rounds()
            for request, facts in self._evaluation_requests(round_.task, round_.base)
        }

    def evaluation_rounds(self, task: str | None = None) -> list[EvaluationRound]:
        """A round for each base on which models of a task stand; of all tasks without one."""
        nodes = [node for name in self.tasks for node in self.nodes if node.chain.task == name]
        rounds = (EvaluationRound(node.chain.task, self.base_of(node)) for node in nodes)
        return [round_ for round_ in dict.fromkeys(rounds) if task in (None, round_.task)]

    def requests(self, round_: Round) -> list[RoundRequest]:
        """Requests of a generation round."""
        match round_:
            case EvaluationRound(task=task, base=base):
                return [request for request, _ in self._evaluation_requests(task, base)]
            case SampleRound(chain=chain):
                return [self._sample_request(chain)]
            case LabelRound(chain=chain, iteration=iteration, sides=sides):
                return [self._label_request(chain, side, iteration) for side in sides]
        raise TypeError(round_)

    def label_generations(self, chain: Chain, side: str, iteration: int) -> str:
        """The texts from which the labels of one side of an iteration are read."""
        return self.label_round(chain, side, iteration).path(self.paths)

    def evaluation_generations(self, task: str | None = None) -> list[str]:
        """The texts that answer the evaluated split of a task; of all tasks without one."""
        return [round_.path(self.paths) for round_ in self.evaluation_rounds(task)]

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
            **request.decoding,
        }

    def round_inputs(self, round_: Round) -> list[str]:
        """Every file that a round's requests read, each once."""
        keys = ("base", "model", "problems", "demonstrations")
        files = (request[key] for request in self.round_requests(round_) for key in keys)
        return list(dict.fromkeys(file for file in files if file))

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
                return [self._labels(chain, "weak", 1)]
            case Kept(chain=chain, iteration=iteration):
                return [self._labels(chain, side, iteration) for side in ("weak", "icl")]
            case Votes(chain=chain) | VotedSamples(chain=chain):
                return [SampleRound(chain)]
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

    def trained_nodes(self) -> list[Node]:
        """Every node that the experiment trains, each once, whether it is evaluated or not."""
        return [product for product in self._needed if isinstance(product, Node)]

    @cached_property
    def _rounds_by_key(self) -> dict[str, Round]:
        """Every round that a target may name, needed or not."""
        rounds: list[Round] = [*self.evaluation_rounds()]
        for chain in self.chains:
            last = self.settings(chain).iterations
            rounds += [self.label_round(chain, side, 1) for side in ("weak", "icl")]
            rounds += [self.label_round(chain, "icl", i) for i in range(2, last + 1)]
            rounds += [SampleRound(self._votes(chain).chain)]
        return {round_.key: round_ for round_ in rounds}

    # --- what report and record show ---------------------------------------------------------

    @cached_property
    def _used_models(self) -> set[str]:
        return {model for chain in self.chains for model in (chain.weak, chain.strong)}

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
                    name: {k: v for k, v in entry.items() if k not in DESCRIPTIVE_KEYS}
                    for name, entry in value.items()
                    if name in used[key]
                }
            elif key not in ("methods", "published_dir"):
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

    # --- diagnostics -----------------------------------------------------------------------

    def diagnostics(self) -> list[dict[str, Any]]:
        """Per chain, the tables whose quality is measured against the withheld gold.

        A variant has only those that it does not share with its chain.
        """
        return [self._chain_diagnostics(chain) for chain in self.chains]

    def diagnostic_files(self) -> list[str]:
        """Every table that `diagnostics` names, each once."""
        files: list[str | None] = []
        for chain in self.diagnostics():
            files += [chain["gold"], chain["votes"], *chain["pairs"].values()]
            files += chain["weak_labels"] + chain["icl_labels"] + chain["kept"]
            files += [chain["questions"]]
        return [file for file in dict.fromkeys(files) if file]

    def _chain_diagnostics(self, chain: Chain) -> dict[str, Any]:
        task, iterations = self.task(chain.task), self._diagnosed_iterations(chain)
        return {
            **asdict(chain),
            "answer_key": task.answer_key,
            "extraction": task.extraction,
            "quirks": task.quirks,
            "judge": self.judge(chain.task),
            "questions": self.data(chain.task, "train_2"),
            "gold": Gold(chain.task).path(self.paths),
            "weak_labels": [self.labels(chain, "weak", i) for i in iterations],
            "icl_labels": [self.labels(chain, "icl", i) for i in iterations],
            "kept": [self.kept(chain, i) for i in iterations],
            "votes": self.votes(chain) if self._has_votes(chain) else None,
            "pairs": {node.method: self.rows(node) for node in self._pair_nodes.get(chain, ())},
        }

    def _diagnosed_iterations(self, chain: Chain) -> range:
        """Stage I iterations whose tables a chain does not share."""
        has_own = self._narrow(chain, _STAGE_1) == chain
        return range(1, self.settings(chain).iterations + 1) if has_own else range(0)

    def _has_votes(self, chain: Chain) -> bool:
        """Whether a chain has votes of its own, for a preference model that is evaluated."""
        return self._votes(chain).chain == chain and self._votes(chain) in self._used_votes

    @cached_property
    def _pair_nodes(self) -> dict[Chain, list[Node]]:
        """Preference models that are evaluated, by their chain."""
        nodes: dict[Chain, list[Node]] = {}
        for node in self.nodes:
            if self.method(node).data == "pairs":
                nodes.setdefault(node.chain, []).append(node)
        return nodes

    @cached_property
    def _used_votes(self) -> set[Votes]:
        return {self._votes(chain) for chain in self._pair_nodes}


def _look_up(registry: dict[str, Any], key: str, what: str) -> Any:
    if key not in registry:
        raise ValueError(
            f"{what} `{key}`: is not part of this experiment; correct the path, or add the chain "
            "to `chains`"
        )
    return registry[key]
