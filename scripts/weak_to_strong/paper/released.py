"""The authors' released files: which of them a folder has, and their rows as our tables.

Files are found by the patterns of their paths in the released repository. So any part of it is
enough, and files of further models and tasks are found too.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl

from weak_to_strong.data.readers import load_task, read_rows
from weak_to_strong.data.splits import withhold_gold
from weak_to_strong.method.answer_keys import ANSWER_KEYS, BOXED
from weak_to_strong.method.answers import predict_column
from weak_to_strong.method.labels import labels_from_generations, read_answers
from weak_to_strong.method.majority_vote import SAMPLES
from weak_to_strong.method.olympicarena_prompts import WORDINGS
from weak_to_strong.method.prompts import problem_prompts
from weak_to_strong.tables.files import with_folder
from weak_to_strong.tables.schemas import GENERATIONS, LABELS, QUESTIONS

#: Strings at which the released responses end (released run scripts).
STOPS = ("Question", "Answer")

_SPLIT = re.compile(r"data/raw/(?P<task>[^/]+)/(?P<split>\w+)\.jsonl")
_TEST = re.compile(r"data/test/(?P<name>[^/]+)\.jsonl")
_GOLD = re.compile(r"data/llama_factory/(?P<task>[^/]+)/(?P=task)_(?P<split>train_\d+)\.json")
_TRAINING = re.compile(
    r"(?P<stem>data/llama_factory/(?P<folder>[^/]+)/train_(?P<name>[^/]+))_"
    r"(?P<kind>full_weak|iter(?P<iteration>\d+)_"
    r"(?:(?:weak|icl|hybrid)(?:_wo_aug)?|hybrid_paired))\.json"
)
_OUTPUTS = re.compile(
    r"(?P<folder>outputs/(?P<set>[^/]+)/(?P<template>[^/]+)/(?P<model>[^/]+)/[^/]+/[^/]+)/"
    r"(?:[^/]+/seed(?P<seed>\d+)/)?results\.jsonl"
)
_PATTERNS = {
    "splits": _SPLIT,
    "tests": _TEST,
    "gold": _GOLD,
    "training": _TRAINING,
    "outputs": _OUTPUTS,
}
_SET = re.compile(r"(?P<task>.+?)(?:_(?P<split>train_\d+))?")

#: Columns that each row of a file must have, and the type of their values.
_COLUMNS = {
    _TRAINING: {"id": (int, str), "content": str, "output": str},
    _OUTPUTS: {
        **{"id": (int, str), "prompt": str, "response": str, "pred": str, "gold": str},
        "result": bool,
    },
}
_PAIR_COLUMNS = {"id": (int, str), "instruction": str, "input": str, "output": list}


@dataclass(frozen=True, order=True)
class ReleasedChain:
    """One weak model on one task; its training files are `{stem}_{kind}.json`."""

    stem: str
    task: str
    weak: str
    prefix: str

    def path(self, kind: str, iteration: int = 0, *, unpadded: bool = False) -> str:
        """Path of a training file: `full_weak`, or weak, icl, hybrid, hybrid_paired of an
        iteration.
        """
        step = f"iter{iteration}_" if iteration else ""
        return f"{self.stem}_{step}{kind}{'_wo_aug' if unpadded else ''}.json"


def find_released(folder: str | Path | None) -> list[str]:
    """Paths, relative to `folder`, of the released files in it, sorted.

    Raises:
        ValueError: no folder named, no such folder, or no such file in it; names the config key and
            the fix.
    """
    fix = (
        "name the folder of a copy of the released repository: --config published_dir=DIR "
        "(docs/released_data.md)"
    )
    if folder is None:
        raise ValueError(f"config key `published_dir`: is not set; {fix}")
    folder = Path(folder)
    if not os.path.isdir(folder):  # unlike Path.is_dir, it raises no error for a name too long
        raise ValueError(
            f"config key `published_dir`: no such folder: {with_folder(folder)}; {fix}"
        )
    places = [folder / name for name in ("data", "outputs")]
    paths = (path for place in places for path in place.rglob("*.json*") if path.is_file())
    names = (path.relative_to(folder).as_posix() for path in paths)
    released = sorted(
        name for name in names if any(pattern.fullmatch(name) for pattern in _PATTERNS.values())
    )
    if not released:
        raise ValueError(
            f"config key `published_dir`: {with_folder(folder)} holds no released file; {fix}"
        )
    return released


class Release:
    """The readable released files of a folder, and their contents.

    Attributes:
        paths: relative paths of the readable files, sorted.
        broken: relative path -> why a file cannot be used.
    """

    def __init__(self, folder: str | Path) -> None:
        """Find all files and read each one.

        Raises:
            ValueError: see `find_released`.
        """
        self.folder = Path(folder)
        self.broken: dict[str, str] = {}
        self._rows = lru_cache(maxsize=12)(self._read)
        self._tables = lru_cache(maxsize=12)(self._load_problems)
        self._labels = lru_cache(maxsize=24)(self._load_labels)
        self.paths = []
        for path in find_released(self.folder):
            try:
                self._check(path)
                self.paths.append(path)
            except ValueError as error:
                self.broken[path] = str(error).replace(f"{self.folder}/", "").replace("\n", " ")

    # --- which files there are -------------------------------------------------------------

    def has(self, *paths: str) -> bool:
        """Whether all these files are there."""
        return all(path in self.paths for path in paths)

    def matches(self, kind: str) -> list[re.Match]:
        """Readable files of a kind, a key of `_PATTERNS`."""
        pattern = _PATTERNS[kind]
        return [match for path in self.paths if (match := pattern.fullmatch(path))]

    def chains(self) -> list[ReleasedChain]:
        """Every weak model and task that a training file names, broken ones included."""
        names = [*self.paths, *self.broken]
        return sorted({_chain(match) for name in names if (match := _TRAINING.fullmatch(name))})

    def iterations(self, chain: ReleasedChain, further: Iterable[str] = ()) -> int:
        """Number of Stage I iterations that the files of a chain, or `further` paths, name."""
        names = [*self.paths, *self.broken, *further]
        matches = (_TRAINING.fullmatch(name) for name in names if name.startswith(f"{chain.stem}_"))
        return max((int(match["iteration"] or 1) for match in matches if match), default=1)

    def weak_outputs(self, chain: ReleasedChain) -> str | None:
        """File of a weak model's recorded greedy answers to train_2."""
        models = {chain.weak, *(f"{chain.weak}_{name}_1" for name in (chain.task, chain.prefix))}
        for match in self.matches("outputs"):
            if (
                match["set"] in (f"{chain.task}_train_2", f"{chain.prefix}_train_2")
                and match["model"] in models
                and match["template"] == "zero_shot"
                and match["seed"] is None
            ):
                return match[0]
        return None

    def sample_folders(self, task: str) -> dict[str, list[str]]:
        """Folders of recorded samples of train_2 -> their files in the order of seeds."""
        folders: dict[str, list[tuple[int, str]]] = {}
        for match in self.matches("outputs"):
            if match["set"] == f"{task}_train_2" and match["seed"] is not None:
                folders.setdefault(match["folder"], []).append((int(match["seed"]), match[0]))
        return {name: [path for _, path in sorted(files)] for name, files in folders.items()}

    def problems_path(self, task: str, split: str) -> str | None:
        """The raw file of a split, or else its form under data/test."""
        name = task if split == "test" else f"{task}_{split}"
        for path in (f"data/raw/{task}/{split}.jsonl", f"data/test/{name}.jsonl"):
            if self.has(path):
                return path
        return None

    def questions_path(self, chain: ReleasedChain) -> str:
        """File of the questions of train_2, or its path under data/raw if there is none."""
        return self.problems_path(chain.task, "train_2") or f"data/raw/{chain.task}/train_2.jsonl"

    def outputs_path(self, chain: ReleasedChain) -> str:
        """`weak_outputs`, or the pattern of its path if there is none."""
        missing = f"outputs/{chain.task}_train_2/zero_shot/{chain.weak}*/*/*/results.jsonl"
        return self.weak_outputs(chain) or missing

    def weak_source(self, chain: ReleasedChain) -> str:
        """File with the weak model's answers to all of train_2: its outputs, or else full_weak."""
        outputs, full = self.outputs_path(chain), chain.path("full_weak")
        return full if self.has(full) and not self.has(outputs) else outputs

    # --- what is in them -------------------------------------------------------------------

    def text(self, path: str) -> str:
        """The contents of a file."""
        return (self.folder / path).read_text(encoding="utf-8")

    def rows(self, path: str) -> list[dict]:
        """The rows of a file, see `readers.read_rows`."""
        return self._rows(path)

    def problems(self, path: str, *, ids: str = "row") -> pl.DataFrame:
        """PROBLEMS of a file under data/raw or data/test; ids are row numbers or the file's."""
        return self._tables(path, ids)

    def questions(self, chain: ReleasedChain) -> pl.DataFrame:
        """QUESTIONS of train_2."""
        return withhold_gold(self.problems(self.questions_path(chain)))[0]

    def labels(self, path: str) -> pl.DataFrame:
        """LABELS of the rows of a training file or of recorded outputs."""
        return self._labels(path)

    def questions_asked(self, path: str) -> pl.DataFrame:
        """QUESTIONS with id and answer type of the rows of a training file of OlympicArena.

        Another task's rows have no answer type in their prompt, and give no rows.
        """
        types = {wording.described: kind for kind, wording in WORDINGS.items()}
        rows = []
        for row in self.rows(path):
            lines = row["content"].split("\n", 2)
            if len(lines) > 1 and lines[1] in types:
                rows.append({"id": str(row["id"]), "answer_type": types[lines[1]]})
        return pl.DataFrame(rows, schema=QUESTIONS)

    def samples(self, paths: Sequence[str]) -> pl.DataFrame:
        """SAMPLES of recorded outputs, one file a sample."""
        generations = pl.concat(
            _generations(self.rows(path), number) for number, path in enumerate(paths)
        )
        key = find_answer_key(generations["response"])
        answers = read_answers(generations, key, STOPS, raw=key == BOXED)
        return answers.select(SAMPLES.names())

    def weak_texts(self, chain: ReleasedChain) -> dict[str, str]:
        """Id -> response of the weak model, from all files that have one."""
        texts: dict[str, str] = {}
        files = [chain.path("weak", 1, unpadded=True), chain.path("weak", 1)]
        for path in [*files, chain.path("full_weak"), self.weak_outputs(chain)]:
            if path and self.has(path):
                texts.update(self.labels(path).select("id", "response").iter_rows())
        return texts

    # --- reading ---------------------------------------------------------------------------

    def _read(self, path: str) -> list[dict]:
        return read_rows(self.folder / path)

    def _load_problems(self, path: str, ids: str) -> pl.DataFrame:
        columns = set().union(*self.rows(path))
        loader = "math" if "problem" in columns else "gsm8k"
        if "answer_type" in columns:
            loader = "olympicarena"
        return load_task({"loader": loader, "ids": ids}, [self.folder / path])

    def _load_labels(self, path: str) -> pl.DataFrame:
        rows = self.rows(path)
        column = "response" if _OUTPUTS.fullmatch(path) else "output"
        responses = pl.Series("response", [row[column] for row in rows], pl.String)
        key = find_answer_key(responses)
        raw = key == BOXED  # a judge compares boxed answers, so they are not normalised
        if column == "response":  # recorded outputs are read like generated text
            return labels_from_generations(_generations(rows, 0), key, STOPS, raw=raw)
        ids = pl.Series("id", row_ids(rows), pl.String)
        predictions = predict_column(responses, key, raw=raw)
        return pl.DataFrame([ids, responses, predictions], schema=LABELS)

    def _check(self, path: str) -> None:
        """Raise ValueError unless the file has the columns of its kind."""
        if _SPLIT.fullmatch(path) or _TEST.fullmatch(path):
            self.problems(path)
            return
        columns = _COLUMNS[_OUTPUTS if _OUTPUTS.fullmatch(path) else _TRAINING]
        if path.endswith("_paired.json"):
            columns = _PAIR_COLUMNS
        for number, row in enumerate(self.rows(path)):
            for name, kind in columns.items():
                if not isinstance(row.get(name), kind):
                    raise ValueError(f"{path}: row {number} has no usable `{name}`")
            if columns is _PAIR_COLUMNS and not (
                len(row["output"]) == 2 and all(isinstance(text, str) for text in row["output"])
            ):
                raise ValueError(f"{path}: row {number} has no two texts in `output`")


def prompt_style(problems: pl.DataFrame) -> str:
    """How PROBLEMS or QUESTIONS are asked: those with answer types as in OlympicArena."""
    return "question_answer" if problems["answer_type"].is_null().all() else "olympicarena"


def all_prompts(problems: pl.DataFrame) -> dict[str, str]:
    """Id -> zero-shot prompt of PROBLEMS or QUESTIONS."""
    return problem_prompts(problems, prompt_style(problems))


def row_ids(rows: Iterable[dict]) -> list[str]:
    """Ids of rows, as text."""
    return [str(row["id"]) for row in rows]


def read_set_name(name: str) -> tuple[str, str]:
    """Task and split of the name of an evaluated set: `gsm8k` or `gsm8k_train_2`."""
    match = _SET.fullmatch(name)
    return match["task"], match["split"] or "test"


def find_answer_key(texts: Iterable[str]) -> str:
    """The first of `ANSWER_KEYS` that at least half of the texts have on their last line.

    A box may stand on any line.

    Raises:
        ValueError: no key is so frequent.
    """
    texts = list(texts)
    last = [text.strip().rpartition("\n")[2] for text in texts]
    for key in ANSWER_KEYS:
        places = texts if key == BOXED else last
        if 2 * sum(key in text for text in places) >= len(texts):
            return key
    raise ValueError(f"few texts give an answer by one of {', '.join(ANSWER_KEYS)}")


def export_test_rows(problems: pl.DataFrame, name: str) -> list[dict[str, Any]]:
    """PROBLEMS with their own ids in the form of data/test/{name}.jsonl.

    Rows are {source, question, solution, answer, tag}; `tag` holds a MATH problem's facts.
    """
    rows = []
    for problem in problems.iter_rows(named=True):
        tag = {}
        if problem["subject"] is not None:
            level = problem["level"]
            tag = {
                "subject": problem["subject"],
                "level": int(level) if level and level.isdigit() else level,
                "unique_id": problem["id"],
            }
        texts = {key: problem[key] for key in ("question", "solution", "answer")}
        rows.append({"source": name.upper(), **texts, "tag": tag})
    return rows


def dump_json(rows: list[dict]) -> str:
    """The text of a released training file."""
    return json.dumps(rows, indent=4)


def dump_json_lines(rows: list[dict]) -> str:
    """The text of a released JSON Lines file."""
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def _chain(match: re.Match) -> ReleasedChain:
    folder, name = match["folder"], match["name"]
    prefix = folder if name.startswith(f"{folder}_") else name.partition("_")[0]
    # `train_olympic_...` lies in the folder olympicarena.
    task = folder if folder.startswith(prefix) else prefix
    return ReleasedChain(match["stem"], task, name.removeprefix(f"{prefix}_"), prefix)


def _generations(rows: list[dict], sample: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "request": "released",
            "id": row_ids(rows),
            "sample": sample,
            "response": [row["response"] for row in rows],
            "finish_reason": "stop",
            "prompt_tokens": None,
            "response_tokens": None,
        },
        schema=GENERATIONS,
    )
