"""The graph of an experiment: models as nodes, what each is trained on, and generation rounds.

A node is named by what it was trained on. The rules know only nodes and rounds, so that a new
method or baseline is an entry of `methods` in the configuration, not a new chain of rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from weak_to_strong.tables.schemas import NONE

#: Settings that a variant may change, by the first table that each reaches: a variant has its own
#: of what lies on that path, and shares the rest with its chain.
_ICL = frozenset({"demonstrations"})
_STAGE_1 = _ICL | {"filter"}
_SAMPLES = _STAGE_1 | {"iterations", "m_plus", "sampling"}
_STAGE_2 = _SAMPLES | {"pairs"}  # and `training`, of the trainer that is changed


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

    @classmethod
    def parse(cls, key: str) -> Chain:
        task, weak, strong, *variant, seed = key.split("/")
        return cls(task, weak, strong, int(seed.removeprefix("seed-")), *variant)

    @property
    def plain(self) -> Chain:
        """The chain of which this is a variant."""
        return Chain(self.task, self.weak, self.strong, self.seed)

    @property
    def weak_side(self) -> Chain:
        """The part that no strong model has touched: shared by all strong models."""
        return Chain(self.task, self.weak, NONE, self.seed)

    @property
    def strong_side(self) -> Chain:
        """The part that no weak model has touched: shared by all weak models."""
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

    @classmethod
    def parse(cls, key: str) -> Node:
        chain, _, name = key.rpartition("/")
        method, _, iteration = name.rpartition("-")
        return cls(Chain.parse(chain), method, int(iteration))


class Graph:
    """Names, paths and dependencies of one experiment.

    Args:
        config: a completed configuration (`configuration.load_configuration`).
    """

    def __init__(self, config: dict) -> None:
        self.config = config
        self.root = f"results/{config['experiment']}"

    # --- names -----------------------------------------------------------------------------

    @cached_property
    def chains(self) -> list[Chain]:
        """Every configured chain with every seed, each before its variants."""
        return [
            Chain(entry["task"], entry["weak"], entry["strong"], seed, variant)
            for entry in self.config["chains"]
            for seed in self.config["seeds"]
            for variant in ("", *entry.get("variants", ()))
        ]

    @cached_property
    def _chain_entries(self) -> dict[tuple[str, str, str], dict]:
        return {
            (entry["task"], entry["weak"], entry["strong"]): entry
            for entry in self.config["chains"]
        }

    def variant(self, chain: Chain) -> dict:
        """What a chain's variant changes; nothing for the chain itself."""
        return self.config["variants"][chain.variant] if chain.variant else {}

    def setting(self, chain: Chain, key: str) -> Any:
        """A top-level setting as it holds for a chain: its own, its variant's, over the common one.

        Args:
            key: demonstrations, filter, iterations, m_plus, pairs or sampling.
        """
        entry = self._chain_entries[chain.task, chain.weak, chain.strong]
        value = self.config[key]
        for own in (entry.get(key), self.variant(chain).get(key)):
            if own is not None:
                value = {**value, **own} if isinstance(value, dict) else own
        return value

    def _narrow(self, chain: Chain, reach: frozenset[str]) -> Chain:
        """The variant where it changes one of the settings in `reach`, else its plain chain."""
        return chain if reach & self.variant(chain).keys() else chain.plain

    @cached_property
    def tasks(self) -> list[str]:
        """Tasks that a chain uses, in order."""
        return list(dict.fromkeys(chain.task for chain in self.chains))

    def methods(self, task: str) -> dict[str, dict]:
        """Methods of a task, by name: the common ones under the task's own."""
        return self.config["tasks"][task]["methods"]

    def method(self, node: Node) -> dict:
        return self.methods(node.chain.task)[node.method]

    def node(self, chain: Chain, method: str, iteration: int = 0) -> Node:
        """The node of a method on a chain, under the narrowest name that fits it."""
        entry = self.methods(chain.task)[method]
        data, reach = entry["data"], frozenset()
        if entry["start"] == "weak":
            chain = chain.weak_side
        elif data in ("gold_train_1", "gold_train_2") or (
            data == "none" and not entry["few_shot"] and entry["start"] == "strong"
        ):
            chain = chain.strong_side
        elif data == "pairs":
            reach = _STAGE_2
            if entry["trainer"] in self.variant(chain).get("training", {}):
                reach |= {"training"}
        elif entry["start"] == "m_plus":
            reach = _SAMPLES
        elif data.startswith("kept_"):
            reach = _STAGE_1
        if entry["few_shot"]:
            reach |= _ICL
        return Node(self._narrow(chain, reach), method, iteration)

    @cached_property
    def nodes(self) -> list[Node]:
        """Every model that is evaluated, each once."""
        found: dict[Node, None] = {}
        for chain in self.chains:
            wanted = self.variant(chain).get("methods") or self.methods(chain.task)
            for name in wanted:
                per_iteration = self.methods(chain.task)[name]["per_iteration"]
                last = self.setting(chain, "iterations")
                for iteration in range(1, last + 1) if per_iteration else (0,):
                    node = self.node(chain, name, iteration)
                    # What a variant shares with its chain is evaluated there.
                    if node.chain.variant == chain.variant:
                        found[node] = None
        return list(found)

    def m_plus(self, chain: Chain) -> Node:
        """The strong model after Stage I (paper section 3.1), by default the last hybrid_ft."""
        return self.node(chain, self.setting(chain, "m_plus"), self.setting(chain, "iterations"))

    def predecessor(self, node: Node) -> Node | None:
        """The model that a node is to improve on: M_plus, or its method one iteration earlier."""
        if node.iteration > 1:
            return self.node(node.chain, node.method, node.iteration - 1)
        return self.init_of(node)

    def facts(self, node: Node, decoding: str) -> dict:
        """What metrics and report say of a node; of its predecessor the greedy request's name."""
        before = self.predecessor(node)
        return {
            "task": node.chain.task,
            "weak": node.chain.weak,
            "strong": node.chain.strong,
            "method": "@".join(filter(None, [node.method, node.chain.variant])),
            "stage": self.method(node)["stage"],
            "iteration": node.iteration,
            "seed": node.chain.seed,
            "decoding": decoding,
            "predecessor": f"{before.key}#greedy" if before else None,
        }

    # --- paths -----------------------------------------------------------------------------

    def data(self, task: str, split: str) -> str:
        return f"{self.root}/data/{task}/{split}.parquet"

    def base_manifest(self, model: str) -> str:
        return f"{self.root}/bases/{model}.json"

    def manifest(self, node: Node) -> str:
        return f"{self.root}/models/{node.key}/manifest.json"

    def rows(self, node: Node) -> str:
        return f"{self.root}/models/{node.key}/rows.parquet"

    def generations(self, round_key: str) -> str:
        return f"{self.root}/generations/{round_key}.parquet"

    def labels(self, chain: Chain, side: str, iteration: int) -> str:
        if (side, iteration) == ("weak", 1):
            chain = chain.weak_side
        else:
            chain = self._narrow(chain, _STAGE_1 if iteration > 1 else _ICL)
        return f"{self.root}/labels/{chain.key}/{side}-{iteration}.parquet"

    def demonstrations(self, chain: Chain) -> str:
        chain = self._narrow(chain, _ICL)
        return f"{self.root}/labels/{chain.key}/demonstrations.parquet"

    def kept(self, chain: Chain, iteration: int) -> str:
        chain = self._narrow(chain, _STAGE_1)
        return f"{self.root}/filter/{chain.key}/kept-{iteration}.parquet"

    def votes(self, chain: Chain, name: str = "votes") -> str:
        chain = self._narrow(chain, _SAMPLES)
        return f"{self.root}/votes/{chain.key}/{name}.parquet"

    # --- training --------------------------------------------------------------------------

    def base_of(self, node: Node) -> str:
        """Name of the base model whose weights (or adapter host) a node has."""
        weak = self.method(node)["start"] == "weak"
        return node.chain.weak if weak else node.chain.strong

    def init_of(self, node: Node) -> Node | None:
        """The trained node from which a node's training starts; None for its base model."""
        if self.method(node)["start"] == "m_plus":
            return self.m_plus(node.chain)
        return None

    def _trained(self, node: Node) -> Node | None:
        """The node whose training made a node's weights; None for its base model as it is."""
        return node if self.method(node)["trainer"] != "none" else self.init_of(node)

    def training_inputs(self, node: Node) -> dict[str, str]:
        """Tables from which a node's training rows are made, by the name its rule knows."""
        chain, data = node.chain, self.method(node)["data"]
        questions = self.data(chain.task, "train_2")
        if data == "gold_train_1":
            return {"problems": self.data(chain.task, "train_1")}
        if data == "gold_train_2":
            return {"questions": questions, "gold": self.data(chain.task, "train_2_gold")}
        if data == "weak_labels":
            return {"questions": questions, "weak_labels": self.labels(chain, "weak", 1)}
        if data == "pairs":
            return {
                "questions": questions,
                "weak_labels": self.labels(chain, "weak", 1),
                "samples": self.votes(chain, "samples"),
                "votes": self.votes(chain),
            }
        return {"questions": questions, "kept": self.kept(chain, node.iteration)}

    def training_settings(self, node: Node) -> dict[str, Any]:
        """Hyper-parameters of a node: its trainer's under those of task, method and variant."""
        entry, trainer = self.method(node), self.method(node)["trainer"]
        return {
            **self.config["training"][trainer],
            **self.config["tasks"][node.chain.task].get("training", {}).get(trainer, {}),
            **entry.get("training", {}),
            **self.variant(node.chain).get("training", {}).get(trainer, {}),
            "seed": node.chain.seed,
        }

    def pair_settings(self, node: Node) -> dict[str, Any]:
        """Settings of Stage II pairs of a node: its chain's under those of method and variant."""
        own = self.method(node).get("pairs", {})
        changed = self.variant(node.chain).get("pairs", {})
        return {**self.setting(node.chain, "pairs"), **own, **changed}

    # --- generation ------------------------------------------------------------------------

    def _request(
        self, name: str, node: Node | None, base: str, problems: str, **decoding: Any
    ) -> dict:
        task = self.config["tasks"][problems.split("/")[3]]
        return {
            "name": name,
            "model": self.manifest(node) if node else None,
            "base": self.base_manifest(base),
            "problems": problems,
            "demonstrations": None,
            "n": 1,
            "temperature": 0.0,
            "top_p": 1.0,
            "seed": 0,
            "max_tokens": task["max_tokens"],
            "stop": task["stop"],
            "prompt": task["prompt"],
            **decoding,
        }

    def label_round(self, chain: Chain, side: str, iteration: int) -> str:
        """Key of the round that answers train_2 for one side of an iteration."""
        if iteration > 1:
            return f"{self._narrow(chain, _STAGE_1).key}/iteration-{iteration}"
        if side == "weak":
            return f"{chain.weak_side.key}/weak-1"
        return f"{self._narrow(chain, _ICL).key}/icl-1"

    def label_request(self, chain: Chain, side: str, iteration: int) -> dict:
        """The request for one side's answers to train_2 (paper section 3.1).

        Iteration 1: the weak model zero-shot, and the strong base with demonstrations. Later:
        weak_ft and icl_ft of the iteration before, both zero-shot.
        """
        questions, name = self.data(chain.task, "train_2"), f"{side}-{iteration}"
        if iteration > 1:
            node = self.node(chain, f"{side}_ft", iteration - 1)
            return self._request(name, node, chain.strong, questions)
        if side == "weak":
            node = self._trained(self.node(chain, "weak"))
            return self._request(name, node, chain.weak, questions)
        shown = self.demonstrations(chain)
        return self._request(name, None, chain.strong, questions, demonstrations=shown)

    def evaluation_requests(self, task: str, base: str) -> dict[str, tuple[dict, dict]]:
        """Requests that evaluate every node on a base: name -> (request, facts of the node)."""
        settings = self.config["evaluation"]
        problems = self.data(task, settings["split"])
        found = {}
        for node in self.nodes:
            if node.chain.task != task or self.base_of(node) != base:
                continue
            entry, model = self.method(node), self._trained(node)
            shown = self.demonstrations(node.chain) if entry["few_shot"] else None
            decodings = {"greedy": {}}
            if settings["samples"]:
                decodings["samples"] = {
                    "n": settings["samples"],
                    "temperature": settings["temperature"],
                    "seed": node.chain.seed,
                }
            for decoding, how in decodings.items():
                name = f"{node.key}#{decoding}"
                request = self._request(name, model, base, problems, demonstrations=shown, **how)
                found[name] = (request, self.facts(node, decoding))
        return found

    def evaluation_bases(self, task: str) -> list[str]:
        """Bases on which a task's nodes stand: one round each."""
        bases = (self.base_of(node) for node in self.nodes if node.chain.task == task)
        return list(dict.fromkeys(bases))

    def round_requests(self, round_key: str) -> list[dict]:
        """Requests of a generation round, which are served together.

        All requests of a label round feed the same next step, and evaluation has rounds of its
        own, so that no request makes a step run again that does not depend on it.
        """
        if round_key.startswith("evaluation/"):
            _, task, base = round_key.split("/")
            requests = self.evaluation_requests(task, base)
            return [request for request, _ in requests.values()]
        key, _, name = round_key.rpartition("/")
        chain = Chain.parse(key)
        if name == "samples":
            settings = self.setting(chain, "sampling")
            questions = self.data(chain.task, "train_2")
            return [
                self._request(
                    name,
                    self.m_plus(chain),
                    chain.strong,
                    questions,
                    **settings,
                    seed=chain.seed,
                )
            ]
        side, _, iteration = name.rpartition("-")
        sides = ("weak", "icl") if side == "iteration" else (side,)
        return [self.label_request(chain, side, int(iteration)) for side in sides]

    def judge(self, task: str) -> dict[str, Any]:
        """Settings of `olympicarena.choose_judge` for a task."""
        name = self.config["tasks"][task]["judge"]
        if name == "string":
            return {"name": name}
        return {"name": name, "timeout_seconds": self.config["evaluation"]["math_timeout"]}

    def round_inputs(self, round_key: str) -> list[str]:
        """Every file that a round's requests read, each once."""
        keys = ("base", "model", "problems", "demonstrations")
        files = (request[key] for request in self.round_requests(round_key) for key in keys)
        return list(dict.fromkeys(file for file in files if file))

    def evaluation_nodes(self) -> dict[str, dict]:
        """Request name -> facts, of all evaluation requests."""
        return {
            name: facts
            for task in self.tasks
            for base in self.evaluation_bases(task)
            for name, (_, facts) in self.evaluation_requests(task, base).items()
        }

    def engine(self, round_key: str) -> dict:
        """Settings of the engine that serves a round: the common ones under the task's own."""
        if round_key.startswith("evaluation/"):
            task = round_key.split("/")[1]
        else:
            task = round_key.split("/")[0]
        return {**self.config["engine"], **self.config["tasks"][task].get("engine", {})}

    # --- plan ------------------------------------------------------------------------------

    def made_from(self, path: str) -> list[str]:
        """Files of the experiment from which one of them is made; none for data and base models."""
        folder, _, name = path.removeprefix(f"{self.root}/").partition("/")
        name = name.rpartition(".")[0]
        key, _, last = name.rpartition("/")
        if folder == "generations":
            return self.round_inputs(name)
        if folder == "models":
            node = Node.parse(key)
            if last == "rows":
                return list(self.training_inputs(node).values())
            init = self.init_of(node)
            return [self.rows(node), *([self.manifest(init)] if init else [])]
        if folder not in ("labels", "filter", "votes"):
            return []
        chain = Chain.parse(key)
        if folder == "votes":
            return [self.generations(f"{chain.key}/samples")]
        if last == "demonstrations":
            return [self.labels(chain, "weak", 1)]
        kind, _, iteration = last.rpartition("-")
        if folder == "filter":
            return [self.labels(chain, side, int(iteration)) for side in ("weak", "icl")]
        return [self.generations(self.label_round(chain, kind, int(iteration)))]

    @cached_property
    def _needed(self) -> list[str]:
        """Every file behind the report, each once, sorted."""
        waiting = [
            self.generations(f"evaluation/{task}/{base}")
            for task in self.tasks
            for base in self.evaluation_bases(task)
        ]
        for chain in self.diagnostics():
            waiting += [*chain["weak_labels"], *chain["icl_labels"], *chain["kept"]]
            waiting += [*filter(None, [chain["votes"]]), *chain["pairs"].values()]
        found: set[str] = set()
        while waiting:
            path = waiting.pop()
            if path not in found:
                found.add(path)
                waiting += self.made_from(path)
        return sorted(found)

    def rounds(self) -> list[str]:
        """Key of every generation round that the experiment needs, each once."""
        folder = f"{self.root}/generations/"
        files = (path for path in self._needed if path.startswith(folder))
        return [path.removeprefix(folder).removesuffix(".parquet") for path in files]

    def trained_nodes(self) -> list[Node]:
        """Every node that the experiment trains, each once, whether it is evaluated or not."""
        folder, file = f"{self.root}/models/", "/manifest.json"
        files = (path for path in self._needed if path.endswith(file))
        return [Node.parse(path.removeprefix(folder).removesuffix(file)) for path in files]

    # --- diagnostics -----------------------------------------------------------------------

    def diagnostics(self) -> list[dict]:
        """Per chain, the tables whose quality is measured against the withheld gold.

        A variant has only those that it does not share with its chain.
        """
        return [self._chain_diagnostics(chain) for chain in self.chains]

    def _chain_diagnostics(self, chain: Chain) -> dict:
        task = self.config["tasks"][chain.task]
        iterations = range(1, self.setting(chain, "iterations") + 1)
        if self._narrow(chain, _STAGE_1) != chain:
            iterations = range(0)
        own_votes = self._narrow(chain, _SAMPLES) == chain
        return {
            "task": chain.task,
            "weak": chain.weak,
            "strong": chain.strong,
            "seed": chain.seed,
            "variant": chain.variant,
            "answer_key": task["answer_key"],
            "extraction": task["extraction"],
            "quirks": task["quirks"],
            "judge": self.judge(chain.task),
            "questions": self.data(chain.task, "train_2"),
            "gold": self.data(chain.task, "train_2_gold"),
            "weak_labels": [self.labels(chain, "weak", i) for i in iterations],
            "icl_labels": [self.labels(chain, "icl", i) for i in iterations],
            "kept": [self.kept(chain, i) for i in iterations],
            "votes": self.votes(chain) if own_votes and self._votes_used(chain) else None,
            "pairs": {node.method: self.rows(node) for node in self._pair_nodes.get(chain, ())},
        }

    def _votes_used(self, chain: Chain) -> bool:
        """Whether a preference model of a chain is evaluated, so that its votes exist anyway."""
        return self.votes(chain) in self._used_votes

    @cached_property
    def _pair_nodes(self) -> dict[Chain, list[Node]]:
        """Preference models that are evaluated, by their chain."""
        found: dict[Chain, list[Node]] = {}
        for node in self.nodes:
            if self.method(node)["data"] == "pairs":
                found.setdefault(node.chain, []).append(node)
        return found

    @cached_property
    def _used_votes(self) -> set[str]:
        return {self.votes(chain) for chain in self._pair_nodes}
