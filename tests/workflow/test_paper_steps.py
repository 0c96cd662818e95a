"""config/methods/paper_steps.yaml on the tables of a real run: its rows are the built-in ones.

The scripts of the rules make its answers, selections, pairs and rows. The texts that its own models
would write are those of the built-in models: these learn from the same rows, as is shown here, with
the same settings (tests/experiment/test_check_selections.py).
"""

import shutil
from pathlib import Path

import polars as pl
import pytest
import yaml
from project import ROOT
from rule_scripts import rule_job, script_main

from weak_to_strong.experiment.configuration import complete
from weak_to_strong.experiment.graph import Graph
from weak_to_strong.experiment.nodes import SampleRound
from weak_to_strong.tables.frames import write_table
from weak_to_strong.tables.schemas import GENERATIONS

pytestmark = pytest.mark.slow

PRESET = yaml.safe_load((ROOT / "config/methods/paper_steps.yaml").read_text())
SIDES = ("weak", "icl", "hybrid")


class Steps:
    """The tables of the preset, in a folder with a copy of a run."""

    def __init__(self, folder: Path, config: dict) -> None:
        self.folder, self.graph = folder, Graph(complete(config))
        (self.chain,) = self.graph.chains
        self.task = self.graph.task(self.chain.task)

    def run(self, rule: str, inputs: dict, outputs: dict, **params: object) -> None:
        inputs = {"questions": self.graph.data(self.task.name, "train_2"), **inputs}
        params |= {"judge": self.graph.judge(self.task.name), "seed": self.chain.seed}
        params |= {"prompt": self.task.prompt, "reasoning": self.task.reasoning}
        for path in outputs.values():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        script_main(rule)(rule_job(rule, inputs, outputs, params, folder=self.folder))

    def answer(self, name: str, generations: str, request: str) -> None:
        """Read the answers of a name in the texts of a built-in request."""
        texts = pl.read_parquet(self.folder / generations).filter(request=request)
        texts = texts.with_columns(request=pl.lit("answers"))
        write_table(texts, GENERATIONS, self.folder / f"{name}.parquet")
        answers = self.graph._answers(self.chain, name).path(self.graph.paths)
        keys = ("answer_key", "stop", "extraction", "quirks", "answer_after")
        reading = {key: getattr(self.task, key) for key in keys}
        self.run("answers", {"generations": f"{name}.parquet"}, {"answers": answers}, **reading)

    def select(self, name: str) -> None:
        selected = self.graph._selected(self.chain, name).path(self.graph.paths)
        inputs = self.graph.selection_inputs(self.chain, name)
        settings = self.graph.experiment.selections[name].settings
        outputs = {"selected": selected, "summary": f"{selected}.json"}
        self.run("selection", inputs, outputs, settings=settings)

    def rows(self, method: str, iteration: int = 0) -> list[bytes]:
        """Table and export of the rows of a method, made here by the script of their rule."""
        node, export = self.graph.node(self.chain, method, iteration), "rows.json"
        rows = self.graph.rows(node)
        params = {"kind": self.graph.kind_of_rows(node), "answer_key": self.task.answer_key}
        outputs = {"rows": rows, "export": export}
        self.run("sft_set", self.graph.training_inputs(node), outputs, **params)
        return [(self.folder / path).read_bytes() for path in (rows, export)]


@pytest.fixture(scope="module")
def steps(project, tmp_path_factory):
    folder = tmp_path_factory.mktemp("steps")
    shutil.copytree(project.folder / "results", folder / "results")
    built_in = project.config["pairs"]
    pairs = {
        **PRESET["preferences"]["steps_pairs"],
        "min_confidence": built_in["min_confidence"],
        "min_confidence_rejected": built_in["weak_rejected_confidence"],
    }
    config = {**project.config, **PRESET, "preferences": {"steps_pairs": pairs}}
    steps = Steps(folder, config)
    for side in ("weak", "icl"):
        texts = steps.graph.label_generations(steps.chain, side, 2)
        steps.answer(f"steps_{side}_labels_2", texts, f"{side}-2")
    steps.answer("steps_samples", SampleRound(steps.chain).path(steps.graph.paths), "samples")
    for name in PRESET["selections"]:
        steps.select(name)
    return steps


@pytest.mark.parametrize("iteration", [1, 2])
@pytest.mark.parametrize("side", SIDES)
def test_rows_of_stage_1_are_the_built_in_ones(steps, project, side, iteration):
    ours = steps.rows(f"steps_{side}_ft_{iteration}")
    folder = project.result(f"models/{steps.chain.key}/{side}_ft-{iteration}")
    assert ours == [(folder / f"rows.{form}").read_bytes() for form in ("parquet", "json")]


@pytest.mark.parametrize("method", ["dpo", "orpo"])
def test_pairs_are_the_built_in_ones(steps, project, method):
    graph, entry = steps.graph, steps.graph.experiment.preferences["steps_pairs"]
    files = {
        "pairs": graph.rows(graph.node(steps.chain, f"steps_{method}")),
        "export": "pairs.json",
    }
    params = {
        name: getattr(entry, name) for name in ("function", "settings", "shuffled", "weighted")
    }
    steps.run("preferences", graph.preference_inputs(steps.chain, "steps_pairs"), files, **params)
    folder = project.result(f"models/{steps.chain.key}/{method}-0")
    sides = pl.read_parquet(folder / "rows.parquet")["weak_side"]
    assert {*sides} == {"chosen", "rejected"}
    ours = [(steps.folder / path).read_bytes() for path in files.values()]
    assert ours == [(folder / f"rows.{form}").read_bytes() for form in ("parquet", "json")]
