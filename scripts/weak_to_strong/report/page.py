"""The report: one HTML page that makes no outside request, built from the tables of a run.

The template escapes everything that comes from models, data or the configuration. Control and
direction-changing characters are shown as text. `page.html.j2` lays the page out;
`results_section`, `sections` and `sample_answers` prepare what its sections show.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from weak_to_strong.data.split_names import TEST
from weak_to_strong.report.display_text import show_controls
from weak_to_strong.report.names import list_chains, list_evaluations, list_seeds
from weak_to_strong.report.page_table import PageTable
from weak_to_strong.report.results_section import chain_results
from weak_to_strong.report.sample_answers import sample_answers
from weak_to_strong.report.sections import (
    agreement_tables,
    calibration_tables,
    contamination_tables,
    costs_table,
    diagnostics_tables,
    filter_tables,
    length_tables,
)
from weak_to_strong.tables.schemas import GENERATIONS, SCORES

#: Figure -> its caption.
_CAPTIONS = {
    "accuracy": "Greedy accuracy of each model with 95% intervals, by both scorers. "
    "Shaded: between floor and ceiling.",
    "iterations": "Stage I over its iterations, paper scorer. Shaded: between floor and ceiling.",
    "stage2": "Stage II: M_plus, the models that start from it, and their controls. "
    "Shaded: between floor and ceiling.",
    "filter": "What the agreement filter keeps of train_2: share of correct answers, number kept.",
    "pass_at_k": "Share of questions that at least one of k samples (pass@k) or their majority "
    "(maj@k) gets right, paper scorer, with 95% intervals; the last iteration of each method.",
    "calibration": "How often the majority answer of M_plus on train_2 is right, by its share of "
    "the samples. Larger points stand for more questions.",
    "selection": "How right the questions of train_2 are that a selection keeps, by how many it "
    "keeps: the agreement filter of each iteration, the majority answers of M_plus with at least "
    "some share of the samples, and each selection with the least shares within it.",
}


@dataclass
class ReportInputs:
    """What the page is made from.

    Attributes:
        experiment: its name.
        metrics: METRICS.
        diagnostics: diagnostics.DIAGNOSTICS.
        costs: costs.COSTS.
        plots: figure -> its SVG text.
        scores: SCORES of all tasks and test sets.
        generations: GENERATIONS of the same requests; rows with `sample` 0 suffice.
        problems: PROBLEMS of the evaluated questions by `names.evaluated_set`, never those of
            train_2.
        nodes: request -> {task, weak, strong, method, stage, iteration, seed, decoding}, of several
            test sets also {test_set}.
        contamination: contamination.CONTAMINATION by task.
        config: the completed configuration.
        versions: library -> version.
        filters: scoring.FILTER_COUNTS by `names.evaluated_set`, as rows.
        lengths: scoring.LENGTHS by `names.evaluated_set` of a task with chats, as rows.
    """

    experiment: str
    metrics: pl.DataFrame
    diagnostics: pl.DataFrame
    costs: pl.DataFrame
    plots: Mapping[str, str] = field(default_factory=dict)
    scores: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SCORES))
    generations: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=GENERATIONS))
    problems: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    nodes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    contamination: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    filters: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    lengths: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


def build_report(inputs: ReportInputs) -> str:
    """The page as HTML.

    Raises:
        ValueError: the metrics have no rows.
    """
    if inputs.metrics.is_empty():
        raise ValueError("metrics.csv has no rows; evaluate at least one model")
    chains, evaluations = list_chains(inputs.metrics), list_evaluations(inputs.metrics)
    splits = list(dict.fromkeys(evaluation.split for evaluation in evaluations)) or [TEST]
    asked = _asked_models(inputs.config)
    about = ", ".join(map(str, chains))
    return render_page(
        "page.html.j2",
        {
            "experiment": inputs.experiment,
            "description": (
                "How far can a strong model learn to reason from the answers of a weaker one, "
                f"with no gold answers and no stronger teacher? Chains of this run: {about}."
            ),
            "facts": [*_facts(inputs, splits), *asked.items()],
            "asks": bool(asked),
            "many_seeds": len(list_seeds(inputs.metrics)) > 1,
            "chains": [
                chain_results(inputs.metrics, evaluation, asked) for evaluation in evaluations
            ],
            "figures": [_figure(name, svg) for name, svg in inputs.plots.items()],
            "diagnostics": [
                *diagnostics_tables(inputs.diagnostics),
                *calibration_tables(inputs.diagnostics),
            ],
            "agreement": [
                *agreement_tables(inputs.scores, inputs.nodes, inputs.problems),
                *filter_tables(inputs.filters, inputs.nodes),
                *length_tables(inputs.lengths, inputs.nodes),
            ],
            "contamination": contamination_tables(inputs.contamination),
            "browser": sample_answers(
                inputs.metrics, inputs.problems, inputs.nodes, inputs.scores, inputs.generations
            ),
            "costs": costs_table(inputs.costs),
            "config": _config_text(inputs.config),
            "versions": PageTable(
                "Versions",
                "Versions in the environment that made this page; the configuration's other "
                "environments may hold others.",
                ["Library", "Version"],
                list(inputs.versions.items()),
            ),
        },
    )


def render_page(template: str, context: Mapping[str, Any]) -> str:
    """A template of this folder filled with `context`, with every value escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def finalize(value: Any) -> Any:
        is_plain_text = isinstance(value, str) and not isinstance(value, Markup)
        return show_controls(value) if is_plain_text else value

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
    )
    environment.filters["csp"] = _content_hash
    return environment.get_template(template).render(context).lstrip()


def _content_hash(text: str) -> str:
    """Hash of a style or script, as a Content-Security-Policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()


def _facts(inputs: ReportInputs, splits: Sequence[str]) -> list[tuple[str, str]]:
    """Names and values at the top of the page."""
    chains = list_chains(inputs.metrics)
    facts = [
        ("Tasks", ", ".join(dict.fromkeys(chain.task for chain in chains))),
        ("Weak models", ", ".join(dict.fromkeys(chain.weak for chain in chains))),
        ("Strong models", ", ".join(dict.fromkeys(chain.strong for chain in chains))),
        ("Seeds", ", ".join(map(str, list_seeds(inputs.metrics)))),
        ("Evaluated on", ", ".join(splits)),
    ]
    if "iterations" in inputs.config:
        facts.append(("Stage I iterations", str(inputs.config["iterations"])))
    return [(name, value) for name, value in facts if value]


def _asked_models(config: Mapping[str, Any]) -> dict[str, str]:
    """Models behind an endpoint, by their names in the configuration: what is known of them."""
    models = config.get("models", {}).items()
    endpoints = {name: entry["endpoint"] for name, entry in models if "endpoint" in entry}
    return {
        name: f"{endpoint['model']} at {endpoint['url']}, as it answered during the run; nothing "
        "pins its weights"
        for name, endpoint in endpoints.items()
    }


def _figure(name: str, svg: str) -> dict[str, str]:
    """A figure as an image: names of elements in several SVGs cannot clash, and no script runs."""
    caption = _CAPTIONS.get(name, name)
    return {
        "uri": "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode(),
        "caption": caption,
        "alt": f"Figure: {caption} The tables hold the numbers.",
    }


def _config_text(config: Mapping[str, Any]) -> str:
    import yaml

    plain = json.loads(json.dumps(config))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=96)
