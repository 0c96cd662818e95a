"""The splits of a task: train_1, train_2, validation and test."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import polars as pl

from weak_to_strong.data.contamination import normalised_question, remove_overlap
from weak_to_strong.data.readers import DRAW_ORDER, generate_embedded, load_task, number_rows
from weak_to_strong.data.sources import SPLITS, source_entries
from weak_to_strong.tables.files import AGAIN, hash_file
from weak_to_strong.tables.schemas import GOLD, PROBLEMS, QUESTIONS


def make_splits(
    settings: Mapping[str, Any], paths: Sequence[str | Path], task: str = "task"
) -> dict[str, pl.DataFrame]:
    """Read, draw or generate the splits of a task.

    Args:
        settings: the task's config. Each of `splits` is a source entry (or a list of them), a
            size, or `{from, count}`: the first rows of another split, which that one then lacks.
            Sizes are drawn with `data_seed` from `pool`, or from the embedded generator; no
            question (by normalised text) is drawn twice, or where a file names it for a split.
        paths: the raw files, one for each of `source_entries(settings)`, in that order.
        task: name of the task, for messages.

    Returns:
        A PROBLEMS table for each of `SPLITS`; one that the config does not name has no rows.

    Raises:
        ValueError: see `tasks.load_task`; a file is not the pinned one; sizes without a pool or
            larger than it.
    """
    key = f"tasks.{task}"
    entries = source_entries(settings)
    if len(entries) != len(paths):
        raise ValueError(f"{key}: {len(entries)} sources but {len(paths)} files")
    wanted = {name: split for name, split in settings["splits"].items() if split is not None}
    if unknown := sorted(set(wanted) - set(SPLITS)):
        raise ValueError(f"{key}.splits: unknown splits {unknown}; known: {list(SPLITS)}")
    files: dict[str, list] = {}
    for (split, entry), path in zip(entries, paths, strict=True):
        if "sha256" in entry and hash_file(path) != entry["sha256"]:
            raise ValueError(
                f"{path}: is damaged or was changed (its sha256 is not the pinned one); {AGAIN}"
            )
        files.setdefault(split, []).append(path)
    sizes = {name: split for name, split in wanted.items() if isinstance(split, int)}
    seed = settings.get("data_seed", 0)

    if settings["loader"] == "embedded":
        if files:
            raise ValueError(f"{key}: the embedded loader generates its problems; name no files")
        if not settings.get("templates"):
            raise ValueError(f"{key}.templates: name the templates of the embedded loader")
        form = settings.get("form", "gsm8k")
        frames = generate_embedded(settings["templates"], seed, sizes, form)
    else:
        frames = {
            split: load_task(
                settings,
                files[split],
                optional_answers=split == "train_2",
                optional_solutions=split != "train_1",
            )
            for split in SPLITS
            if split in files
        }
        if sizes:
            if "pool" not in files:
                raise ValueError(
                    f"{key}.splits.{min(sizes)}: a size needs `{key}.pool` to draw from"
                )
            pool = load_task(settings, files["pool"])
            frames |= draw_splits(pool, sizes, seed, frames.values(), f"{key}.pool")
            if settings.get("ids", "row") == "row":
                frames |= {name: number_rows(frames[name]) for name in sizes}

    for name in (name for name in DRAW_ORDER if isinstance(wanted.get(name), Mapping)):
        if "from" in wanted[name]:
            place = f"{key}.splits.{name}"
            origin, count = wanted[name]["from"], wanted[name]["count"]
            if origin not in frames:
                raise ValueError(f"{place}.from: {origin} is no split with rows of its own")
            if count >= frames[origin].height:
                raise ValueError(
                    f"{place}.count: {count} leaves nothing of the {frames[origin].height} rows of "
                    f"{origin}"
                )
            frames[name] = frames[origin].head(count)
            frames[origin] = frames[origin].slice(count)
    return {name: frames.get(name, pl.DataFrame(schema=PROBLEMS)) for name in SPLITS}


def narrow_settings(settings: Mapping[str, Any], split: str) -> dict[str, Any]:
    """The part of a task's config on which one split depends.

    So a changed row or size of another split does not touch it, unless rows are drawn from a
    common stream before it, taken from it, or removed as overlap.
    """
    splits = settings["splits"]
    if settings.get("remove_overlap", "none") != "none":
        return dict(settings)
    kept: set[str] = set()
    todo = [split]
    while todo:
        name = todo.pop()
        if name in kept or splits.get(name) is None:
            continue
        kept.add(name)
        entry = splits[name]
        if isinstance(entry, int):
            before = DRAW_ORDER[: DRAW_ORDER.index(name)]
            todo += [each for each in before if isinstance(splits.get(each), int)]
            # What a file names for a split is not drawn.
            todo += [each for each in splits if isinstance(splits[each], Mapping | list)]
        elif "from" in entry:
            todo.append(entry["from"])
        todo += [
            each
            for each in splits
            if isinstance(splits[each], Mapping) and splits[each].get("from") == name
        ]
    narrow = {key: value for key, value in settings.items() if key != "pool"}
    narrow["splits"] = {name: splits[name] for name in splits if name in kept}
    if any(isinstance(splits[name], int) for name in kept) and settings.get("pool"):
        narrow["pool"] = settings["pool"]
    return narrow


def make_split(
    settings: Mapping[str, Any], paths: Sequence[str | Path], split: str, task: str = "task"
) -> pl.DataFrame:
    """One split of `make_splits`, after removal of overlap.

    Args:
        settings: of the task, or only `narrow_settings` of them.
        paths: raw files for these settings.
        split: its name.
        task: name of the task, for messages.
    """
    splits = make_splits(settings, paths, task)
    return remove_overlap(splits, settings.get("remove_overlap", "none"))[split]


def draw_splits(
    pool: pl.DataFrame,
    sizes: Mapping[str, int],
    seed: int,
    taken: Collection[pl.DataFrame] = (),
    key: str = "pool",
) -> dict[str, pl.DataFrame]:
    """Draw splits without a common question from one PROBLEMS table.

    Args:
        pool: of questions with the same normalised text, the first counts.
        sizes: rows by split. Held-out splits are cut first, so that their rows do not depend on
            the size of the training splits.
        seed: of the one shuffle.
        taken: tables whose questions must not be drawn.
        key: config key of the pool, for messages.

    Raises:
        ValueError: fewer questions than asked for.
    """
    text = normalised_question()
    distinct = pool.filter(text.is_first_distinct())
    for frame in taken:
        used = frame.select(text).to_series()
        distinct = distinct.filter(~text.is_in(used.implode()))
    if (due := sum(sizes.values())) > distinct.height:
        raise ValueError(
            f"{key}: the splits ask for {due} problems, it has {distinct.height} distinct ones "
            "that stand in no other split"
        )
    order = list(range(distinct.height))
    Random(seed).shuffle(order)
    splits, begin = {}, 0
    for name in (name for name in DRAW_ORDER if name in sizes):
        splits[name] = distinct[order[begin : begin + sizes[name]]]
        begin += sizes[name]
    return splits


def withhold_gold(train_2: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Part a PROBLEMS table into what the strong model may see (QUESTIONS) and the GOLD rest."""
    return train_2.select(QUESTIONS.names()), train_2.select(GOLD.names())
