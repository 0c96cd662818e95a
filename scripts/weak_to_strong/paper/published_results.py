"""The paper's published figures, and the names under which a configuration refers to them.

A task or a model of the configuration that is one of the paper's has the key `paper`. Without this
key, nothing of an experiment is compared with a published figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

PUBLISHED_FILE = Path(__file__).parents[3] / "resources" / "published_results.csv"
#: One published figure a row; the columns are explained in resources/README.md.
PUBLISHED = pl.Schema(
    {
        "table": pl.String,
        "task": pl.String,
        "weak": pl.String,
        "strong": pl.String,
        "method": pl.String,
        "stage": pl.String,
        "iteration": pl.Int32,
        "metric": pl.String,
        "k": pl.Int32,
        "level": pl.String,
        "value": pl.Float64,
        "unit": pl.String,
        "n": pl.Int32,
        "source": pl.String,
        "confidence": pl.String,
    }
)
#: Columns that name a figure: no two rows have the same values in all of them.
PUBLISHED_KEY = ("task", "weak", "strong", "method", "iteration", "metric", "k", "level")
#: Allowed values of the columns that have few.
ENUMERATIONS = {
    "table": (
        "main",
        "stage1",
        "stage2",
        "levels",
        "pass_at_k",
        "olympicarena",
        "ablations",
        "data",
    ),
    "stage": ("baseline", "stage1", "stage2", "data"),
    "unit": ("percent", "count", "points"),
    "confidence": ("primary", "measured", "read by eye", "secondary"),
}
#: Model of a figure whose source does not say which it was.
NOT_STATED = "not stated"


def read_published(path: str | Path = PUBLISHED_FILE) -> pl.DataFrame:
    """PUBLISHED, as checked by `check_published`.

    Raises:
        ValueError: one line that names the file and what is wrong with it.
    """
    from weak_to_strong.tables.frames import read_csv

    frame = read_csv(path, PUBLISHED)
    check_published(frame, str(path))
    return frame


def check_published(frame: pl.DataFrame, name: str = "published figures") -> None:
    """Check allowed values, ranges, and that no figure stands there twice.

    Raises:
        ValueError: names the first wrong line; the column titles are line 1.
    """
    wrong = {
        column: ~pl.col(column).is_in(values).fill_null(False)
        for column, values in ENUMERATIONS.items()
    }
    count = (pl.col("value") >= 0) & (pl.col("n").is_null() | (pl.col("value") <= pl.col("n")))
    in_range = (
        pl.when(unit="percent").then(pl.col("value").is_between(0, 100))
        .when(unit="count").then(count)
        .otherwise(pl.col("value").is_between(-100, 100))
    )  # fmt: skip
    empty = [name for name in PUBLISHED if name not in ("level", "n")]
    wrong |= {
        "value": ~in_range.fill_null(False),
        "n": (pl.col("n") < 1).fill_null(False),
        "empty cell": pl.any_horizontal(pl.col(empty).is_null()),
        "repeated figure": pl.struct(PUBLISHED_KEY).is_duplicated(),
    }
    for what, condition in wrong.items():
        lines = frame.with_row_index("line", offset=2).filter(condition)["line"]
        if len(lines):
            raise ValueError(f"{name}: line {lines[0]}: {what}; see resources/README.md")


def names_of(config: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The keys `paper` of a configuration: {"tasks": {own name: the paper's}, "models": ...}."""
    return {
        section: {
            name: entry["paper"] for name, entry in config[section].items() if "paper" in entry
        }
        for section in ("tasks", "models")
    }


def known_names(published: pl.DataFrame) -> dict[str, list[str]]:
    """Section of the configuration -> values that its keys `paper` may have."""
    models = pl.concat([published["weak"], published["strong"]]).unique(maintain_order=True)
    return {
        "tasks": published["task"].unique(maintain_order=True).to_list(),
        "models": [name for name in models if name not in ("none", NOT_STATED)],
    }


def check_names(names: Mapping[str, Mapping[str, str]], published: pl.DataFrame) -> None:
    """Check that every key `paper` names a task or model of the paper, and no two the same one.

    Args:
        names: as `names_of` gives them.

    Raises:
        ValueError: one line that begins with the key.
    """
    for section, known in known_names(published).items():
        seen: dict[str, str] = {}
        for name, paper in names[section].items():
            key = f"`{section}.{name}.paper`"
            if paper not in known:
                raise ValueError(
                    f"{key}: no published figure is about `{paper}`; known: {', '.join(known)}"
                )
            if paper in seen:
                raise ValueError(
                    f"{key}: `{section}.{seen[paper]}` is `{paper}` already; remove one of the two"
                )
            seen[paper] = name


def check_configured_names(config: Mapping[str, Any]) -> None:
    """`check_names` of a configuration against the shipped figures."""
    names = names_of(config)
    if any(names.values()):
        check_names(names, read_published())
