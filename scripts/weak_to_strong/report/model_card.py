"""The README.md of what is uploaded to the Hub: of a trained model, or of the result tables.

Cards are those of `huggingface_hub`. They name no licence. The base model's licence holds, and only
the user knows what else does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from weak_to_strong.evaluation.metrics import NODE_COLUMNS
from weak_to_strong.tables.files import hash_value

#: What is reproduced.
_STUDY = "*Weak-to-Strong Reasoning* ([arXiv 2407.13647](https://arxiv.org/abs/2407.13647))"
#: Tags of all cards.
TAGS = ("weak-to-strong", "arxiv:2407.13647")
#: Settings of a manifest that a card does not list: they stand elsewhere in it, or name no choice.
_NOT_SETTINGS = ("versions", "init_files", "rows_sha256", "trainer", "processes")
_LICENCE = (
    "No licence is stated here. The licence of the base model holds for everything that is made "
    "from it, and that of the training data may as well. State the licence before others use this."
)


@dataclass(frozen=True)
class ModelFacts:
    """What a card says of a model beside its manifests.

    Attributes:
        key: key of the model in its experiment.
        experiment: name of the experiment.
        data: kind of rows that it was trained on, such as "kept_hybrid".
        init: key of the model from which its training started; None for the base model.
        node: facts of the model as `metrics.csv` has them; None where it was not evaluated.
    """

    key: str
    experiment: str
    data: str
    init: str | None
    node: Mapping[str, Any] | None


def base_name(base: Mapping[str, Any]) -> tuple[str, str | None]:
    """The name by which others find a base model, and its commit where it is on the Hub.

    Args:
        base: manifest of the base model.
    """
    source = base["source"]
    if isinstance(source, Mapping) and "hub" in source:
        return source["hub"], source["revision"]
    return base["name"], None


def own_metrics(metrics: pl.DataFrame, facts: ModelFacts) -> pl.DataFrame:
    """The rows of METRICS on a model."""
    if facts.node is None:
        return metrics.clear()
    return metrics.filter(
        *(pl.col(column) == facts.node[column] for column in (*NODE_COLUMNS, "seed"))
    )


def describe_model(
    manifest: Mapping[str, Any],
    base: Mapping[str, Any],
    metrics: pl.DataFrame,
    facts: ModelFacts,
) -> str:
    """The card of a trained model.

    Args:
        manifest: of the model (`training.saving.publish_model`).
        base: manifest of its base model.
        metrics: METRICS of the experiment.
        facts: the rest.
    """
    from huggingface_hub import EvalResult, ModelCardData

    name, revision = base_name(base)
    is_adapter = manifest["kind"] == "lora"
    rows = own_metrics(metrics, facts)
    accuracies = rows.filter(pl.col("metric") == "accuracy", ~pl.col("split").str.contains("/"))
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=row["task"],
            dataset_name=row["task"],
            dataset_split=row["split"],
            metric_type="accuracy",
            metric_name=f"accuracy, scorer {row['scorer']}",
            metric_value=round(row["value"], 4),
        )
        for row in accuracies.iter_rows(named=True)
    ]
    data = ModelCardData(
        base_model=name if revision else None,
        library_name="peft" if is_adapter else "transformers",
        pipeline_tag="text-generation",
        model_name=facts.key.replace("/", "-") if results else None,
        eval_results=results or None,
        tags=list(TAGS),
        **({"base_model_relation": "adapter" if is_adapter else "finetune"} if revision else {}),
    )
    training, counts = manifest["training"], manifest["facts"]
    method = training["trainer"].upper()
    kind = "LoRA adapter" if is_adapter else "model with full weights"
    start = f"the model `{facts.init}` of the same experiment" if facts.init else "the base model"
    files = hash_value(base["files"])
    where = f"`{name}` of the Hub, commit `{revision}`" if revision else f"`{name}`, a local model"
    lines = [
        f"# {facts.key}",
        f"A {kind}, trained in the experiment `{facts.experiment}` of a reproduction of {_STUDY}.",
        "## Base model",
        f"{where[0].upper()}{where[1:]}. The sha256 over the list of its files is `{files}`."
        + ("" if revision or not is_adapter else " The adapter needs exactly these weights."),
        "## Training",
        f"- Method: {method} on rows of the kind `{facts.data}`, from {start}.\n"
        f"- Data: {counts['examples']} rows, {counts['tokens']} tokens in all passes. The sha256 "
        f"of the table of rows is `{training['rows_sha256']}`.\n"
        f"- Loss: {counts['first_loss']:.4f} at the first of {counts['steps']} updates, "
        f"{counts['last_loss']:.4f} at the last.",
        _table(("setting", "value"), _settings(training)),
        "## Results",
        _results(rows),
        "## Made with",
        _table(("package", "version"), sorted(training["versions"].items())),
        "## Licence",
        _LICENCE,
    ]
    return _card(data, lines)


def describe_tables(files: Sequence[str], table: str, experiment: str) -> str:
    """The card of an experiment's result tables.

    Args:
        files: names of the files.
        table: the headline results as text.
        experiment: name of the experiment.
    """
    from huggingface_hub import DatasetCardData

    data = DatasetCardData(
        pretty_name=f"Weak-to-strong reasoning: results of {experiment}",
        tags=list(TAGS),
        # Tables have unlike columns, and the Hub would put all files into one.
        configs=[
            {"config_name": file.rpartition(".")[0], "data_files": file}
            for file in files
            if file.endswith(".csv")
        ],
    )
    lines = [
        f"# Results of the experiment {experiment}",
        f"Metrics, diagnostics and costs of a reproduction of {_STUDY}. Intervals are in "
        "`metrics.csv` (`ci_low`, `ci_high`).",
        f"```text\n{table.rstrip()}\n```",
        "## Licence",
        _LICENCE,
    ]
    return _card(data, lines)


def _card(data: Any, lines: Sequence[str]) -> str:
    """A card's text, read back by `huggingface_hub`, which checks its metadata.

    Raises:
        ValueError: the metadata cannot be read back.
    """
    from huggingface_hub import RepoCard

    body = "\n\n".join(lines)
    return str(RepoCard(f"---\n{data.to_yaml()}\n---\n\n{body}\n"))


def _settings(training: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Settings that the weights depend on, those of a LoRA adapter under names of their own."""
    shown = []
    for name, value in sorted(training.items()):
        if name == "lora" and isinstance(value, Mapping):
            shown += [(f"lora.{key}", _value(entry)) for key, entry in sorted(value.items())]
        elif name == "deepspeed" and value:
            shown.append((name, str(value).rpartition("/")[2]))  # not where it lies on a machine
        elif name not in _NOT_SETTINGS and value is not None:
            shown.append((name, _value(value)))
    return shown


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _results(rows: pl.DataFrame) -> str:
    """The metrics of a model with their intervals."""
    if rows.is_empty():
        return "The model was not evaluated."
    shown = [
        (
            row["split"],
            row["metric"] + (f"@{row['k']}" if (row["k"] or 1) > 1 else ""),
            row["scorer"],
            f"{row['value']:.4f}",
            "" if row["ci_low"] is None else f"{row['ci_low']:.4f} to {row['ci_high']:.4f}",
            str(row["n"]),
        )
        for row in rows.iter_rows(named=True)
        if row["value"] is not None
    ]
    return _table(("split", "metric", "scorer", "value", "95% interval", "questions"), shown)


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
