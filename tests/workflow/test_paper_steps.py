"""The paper's method in named entries, on the tables of a real run: rows are the built-in ones.

The entries are those of config/methods/paper_steps.yaml, and others for the further kinds of rows.

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
FILTER = {"keep_empty": True, "pad_to": 60, "pad_seed": 7}
SFT = {"stage": "stage1", "start": "strong", "trainer": "sft"}


def selections_of(**kinds: dict) -> dict:
    """Selections `<kind>_<side>` of kinds of rows, each with the answers of its side."""
    labels = ["weak_labels", "icl_labels"]
    sides = {
        "weak": {"answers": labels},
        "icl": {"answers": labels[::-1]},
        "hybrid": {"answers": labels, "take": "each"},
    }
    return {
        f"{kind}_{side}": {**sides[side], **entry}
        for kind, entry in kinds.items()
        for side in sides
    }


#: A filter with other settings, in a variant of the chain, and the same in selections.
VARIANT = {"wide": {"filter": FILTER}}
SELECTIONS = {
    **selections_of(wide=FILTER, drawn={"keep": "random", "as_many_as": "wide_hybrid"}),
    "all_weak": {"answers": ["weak_labels"], "keep": "all", "keep_empty": True},
    "all_icl": {"answers": ["icl_labels"], "keep": "all", "keep_empty": True},
}
#: Method on a selection -> the built-in method.
TWINS = {
    **{f"on_wide_{side}": f"{side}_ft" for side in SIDES},
    **{f"on_drawn_{side}": f"random_{side}" for side in SIDES},
    **{"on_all_weak": "full_weak", "on_all_icl": "full_icl"},
}
METHODS = {
    **{name: {**SFT, "data": name.removeprefix("on_")} for name in TWINS},
    **{f"random_{side}": {**SFT, "data": f"random_{side}"} for side in SIDES},
    "full_icl": {**SFT, "data": "icl_labels"},
    "on_chosen": {**SFT, "stage": "stage2", "start": "m_plus", "data": "steps_pairs"},
    "sft_chosen": {**SFT, "stage": "stage2", "start": "m_plus", "data": "chosen"},
}


class Steps:
    """The tables of the preset, in a folder with a copy of a run."""

    def __init__(self, folder: Path, config: dict) -> None:
        self.folder, self.graph = folder, Graph(complete(config))
        self.chain, self.variant = self.graph.chains
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

    def filter(self) -> None:
        """Run the built-in filter of iteration 1 of the variant."""
        labels = {side: self.graph.labels(self.variant, side, 1) for side in ("weak", "icl")}
        outputs = {"kept": self.graph.kept(self.variant, 1), "summary": "kept.json"}
        settings = self.graph.settings(self.variant).filter
        self.run("agreement_filter", labels, outputs, settings=settings)

    def rows(self, method: str, iteration: int = 0, variant: bool = False) -> list[bytes]:
        """Table and export of the rows of a method, made here by the script of their rule."""
        chain, export = self.variant if variant else self.chain, "rows.json"
        node = self.graph.node(chain, method, iteration)
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
    (chain,) = project.config["chains"]
    config = {
        **project.config,
        **PRESET,
        "preferences": {"steps_pairs": pairs},
        "selections": PRESET["selections"] | SELECTIONS,
        "methods": PRESET["methods"] | METHODS,
        "variants": VARIANT,
        "chains": [{**chain, "variants": [*VARIANT]}],
    }
    steps = Steps(folder, config)
    for side in ("weak", "icl"):
        texts = steps.graph.label_generations(steps.chain, side, 2)
        steps.answer(f"steps_{side}_labels_2", texts, f"{side}-2")
    steps.answer("steps_samples", SampleRound(steps.chain).path(steps.graph.paths), "samples")
    for name in config["selections"]:
        steps.select(name)
    steps.filter()
    return steps


@pytest.mark.parametrize("iteration", [1, 2])
@pytest.mark.parametrize("side", SIDES)
def test_rows_of_stage_1_are_the_built_in_ones(steps, project, side, iteration):
    ours = steps.rows(f"steps_{side}_ft_{iteration}")
    folder = project.result(f"models/{steps.chain.key}/{side}_ft-{iteration}")
    assert ours == [(folder / f"rows.{form}").read_bytes() for form in ("parquet", "json")]


@pytest.mark.parametrize("method", TWINS)
def test_other_rows_of_labels_are_the_built_in_ones(steps, method):
    twin = TWINS[method]
    iteration = 1 if twin.endswith("_ft") else 0
    assert steps.rows(method) == steps.rows(twin, iteration, variant=True)


def test_the_filter_is_one_that_pads(steps):
    kept = pl.read_parquet(steps.folder / steps.graph.kept(steps.variant, 1))
    assert kept.height == FILTER["pad_to"] > kept["prediction"].count() > 0


@pytest.fixture(scope="module")
def preferred(steps):
    """The pairs of the preset: table and export."""
    graph, entry = steps.graph, steps.graph.experiment.preferences["steps_pairs"]
    files = {
        "pairs": graph.rows(graph.node(steps.chain, "steps_dpo")),
        "export": "pairs.json",
    }
    params = {
        name: getattr(entry, name) for name in ("function", "settings", "shuffled", "weighted")
    }
    steps.run("preferences", graph.preference_inputs(steps.chain, "steps_pairs"), files, **params)
    return [(steps.folder / path).read_bytes() for path in files.values()]


@pytest.mark.parametrize("method", ["dpo", "orpo"])
def test_pairs_are_the_built_in_ones(steps, project, preferred, method):
    graph = steps.graph
    assert graph.rows(graph.node(steps.chain, f"steps_{method}")) == graph.rows(
        graph.node(steps.chain, "steps_dpo")
    )
    folder = project.result(f"models/{steps.chain.key}/{method}-0")
    sides = pl.read_parquet(folder / "rows.parquet")["weak_side"]
    assert {*sides} == {"chosen", "rejected"}
    assert preferred == [(folder / f"rows.{form}").read_bytes() for form in ("parquet", "json")]


@pytest.mark.usefixtures("preferred")
def test_chosen_answers_are_the_built_in_ones(steps):
    node = steps.graph.node(steps.chain, "sft_chosen")
    files = {"rows": "chosen.parquet", "export": "chosen.json"}
    inputs, settings = steps.graph.training_inputs(node), steps.graph.pair_settings(node)
    steps.run("pairs", inputs, files, kind="chosen", settings=settings)
    built_in = [(steps.folder / path).read_bytes() for path in files.values()]
    assert steps.rows("on_chosen") == built_in
