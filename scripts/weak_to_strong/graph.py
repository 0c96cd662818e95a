"""The graph of an experiment: models as nodes, what each is trained on, and generation rounds.

A node is named by what it was trained on. The rules know only nodes and rounds, so that a new
method or baseline is an entry of `methods` in the configuration, not a new chain of rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

#: In a node's name, for the model that has no part in it (the ceiling has no weak model, say).
NONE = "none"


@dataclass(frozen=True, order=True)
class Chain:
    """A task, a weak and a strong model, and a seed. `weak` or `strong` may be "none"."""

    task: str
    weak: str
    strong: str
    seed: int

    @property
    def key(self) -> str:
        return f"{self.task}/{self.weak}/{self.strong}/seed-{self.seed}"

    @classmethod
    def parse(cls, key: str) -> Chain:
        task, weak, strong, seed = key.split("/")
        return cls(task, weak, strong, int(seed.removeprefix("seed-")))

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
        """Every configured chain with every seed."""
        return [
            Chain(entry["task"], entry["weak"], entry["strong"], seed)
            for entry in self.config["chains"]
            for seed in self.config["seeds"]
        ]

    @cached_property
    def tasks(self) -> list[str]:
        """Tasks that a chain uses, in order."""
        return list(dict.fromkeys(chain.task for chain in self.chains))

    def method(self, name: str) -> dict:
        return self.config["methods"][name]

    def node(self, chain: Chain, method: str, iteration: int = 0) -> Node:
        """The node of a method on a chain, under the narrowest name that fits it."""
        entry = self.method(method)
        data = entry.get("data", "none")
        if entry["start"] == "weak":
            chain = chain.weak_side
        elif data in ("gold_train_1", "gold_train_2") or (
            data == "none" and not entry["few_shot"] and entry["start"] == "strong"
        ):
            chain = chain.strong_side
        return Node(chain, method, iteration)

    @cached_property
    def nodes(self) -> list[Node]:
        """Every model that is evaluated, each once."""
        found: dict[Node, None] = {}
        for chain in self.chains:
            for name, entry in self.config["methods"].items():
                steps = range(1, self.config["iterations"] + 1) if entry["per_iteration"] else (0,)
                for iteration in steps:
                    found[self.node(chain, name, iteration)] = None
        return list(found)

    def m_plus(self, chain: Chain) -> Node:
        """The strong model after Stage I (paper section 3.1): the last hybrid_ft."""
        return self.node(chain, "hybrid_ft", self.config["iterations"])

    def facts(self, node: Node, decoding: str) -> dict:
        """What metrics and report say of a node."""
        return {
            "task": node.chain.task,
            "weak": node.chain.weak,
            "strong": node.chain.strong,
            "method": node.method,
            "stage": self.method(node.method)["stage"],
            "iteration": node.iteration,
            "seed": node.chain.seed,
            "decoding": decoding,
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
        return f"{self.root}/labels/{chain.key}/{side}-{iteration}.parquet"

    def demonstrations(self, chain: Chain) -> str:
        return f"{self.root}/labels/{chain.key}/demonstrations.parquet"

    def kept(self, chain: Chain, iteration: int) -> str:
        return f"{self.root}/filter/{chain.key}/kept-{iteration}.parquet"

    def votes(self, chain: Chain, name: str = "votes") -> str:
        return f"{self.root}/votes/{chain.key}/{name}.parquet"

    # --- training --------------------------------------------------------------------------

    def base_of(self, node: Node) -> str:
        """Name of the base model whose weights (or adapter host) a node has."""
        weak = self.method(node.method)["start"] == "weak"
        return node.chain.weak if weak else node.chain.strong

    def init_of(self, node: Node) -> Node | None:
        """The trained node from which a node's training starts; None for its base model."""
        if self.method(node.method)["start"] == "m_plus":
            return self.m_plus(node.chain)
        return None

    def training_inputs(self, node: Node) -> dict[str, str]:
        """Tables from which a node's training rows are made, by the name its rule knows."""
        chain, data = node.chain, self.method(node.method)["data"]
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
        """Hyper-parameters of a node: those of its trainer under the method's own."""
        entry = self.method(node.method)
        own = entry.get("training", {})
        return {**self.config["training"][entry["trainer"]], **own, "seed": node.chain.seed}

    def pair_settings(self, node: Node) -> dict[str, Any]:
        """Settings of Stage II pairs of a node: `pairs` under the method's own."""
        return {**self.config["pairs"], **self.method(node.method).get("pairs", {})}

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
            **decoding,
        }

    def label_round(self, chain: Chain, side: str, iteration: int) -> str:
        """Key of the round that answers train_2 for one side of an iteration."""
        if iteration > 1:
            return f"{chain.key}/iteration-{iteration}"
        return f"{chain.weak_side.key}/weak-1" if side == "weak" else f"{chain.key}/icl-1"

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
            node = self.node(chain, "weak")
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
            entry = self.method(node.method)
            model = node
            if entry["trainer"] == "none":
                model = self.init_of(node)
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
        """Bases on which a task's nodes stand: one engine load and one round each."""
        bases = (self.base_of(node) for node in self.nodes if node.chain.task == task)
        return list(dict.fromkeys(bases))

    def round_requests(self, round_key: str) -> list[dict]:
        """Requests of a generation round, which are served together by one engine.

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
            settings = self.config["sampling"]
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

    # --- diagnostics -----------------------------------------------------------------------

    def diagnostics(self) -> list[dict]:
        """Per chain, the tables whose quality is measured against the withheld gold."""
        iterations = range(1, self.config["iterations"] + 1)
        return [
            {
                "task": chain.task,
                "weak": chain.weak,
                "strong": chain.strong,
                "seed": chain.seed,
                "answer_key": self.config["tasks"][chain.task]["answer_key"],
                "gold": self.data(chain.task, "train_2_gold"),
                "weak_labels": [self.labels(chain, "weak", i) for i in iterations],
                "icl_labels": [self.labels(chain, "icl", i) for i in iterations],
                "kept": [self.kept(chain, i) for i in iterations],
                "votes": self.votes(chain),
                "pairs": {
                    node.method: self.rows(node)
                    for node in self.nodes
                    if node.chain == chain and self.method(node.method).get("data") == "pairs"
                },
            }
            for chain in self.chains
        ]
