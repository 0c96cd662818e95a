"""Requests of a round: their checks, model files, prompts, seeds, and the key of their texts.

Prompts and decoding are the paper's (section 4 and the released code): zero-shot or few-shot
prompts, greedy decoding, or sampling at temperature 1. The seed of each sample is our choice: it is
derived from the request's seed and the question (`sample_seed`). Prompts are plain text, or with
`chat` the messages that the model's chat template makes a text of.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import polars as pl

from weak_to_strong.generation.engine_settings import EngineSettings
from weak_to_strong.models.chat_format import ChatFormat, load_chat_format
from weak_to_strong.models.manifests import check_files, read_manifest
from weak_to_strong.tables.files import hash_value, read_json
from weak_to_strong.tables.frames import has_column, read_table, scan_table
from weak_to_strong.tables.schemas import DEMONSTRATIONS, PROBLEMS, QUESTIONS

#: Rows of a table, and prompts, that are in memory at once.
QUESTIONS_AT_ONCE, PROMPTS_AT_ONCE = 10_000, 500

#: A prompt: plain text, or the messages of a chat.
Prompt = str | list[dict[str, str]]


@dataclass(frozen=True)
class Request:
    """One model, one set of prompts and one way of decoding.

    Attributes:
        name: unique name in the round, the `request` of the output rows.
        model: manifest of a trained model, or None for the base model itself.
        base: manifest of the base model.
        problems: PROBLEMS or QUESTIONS table.
        demonstrations: DEMONSTRATIONS table for few-shot prompts, or None for zero-shot prompts.
        n: samples for each question.
        temperature: temperature of sampling; 0 is greedy decoding.
        top_p: probability mass of nucleus sampling; 1 is all of the distribution.
        max_tokens: most tokens of a response.
        seed: seed from which the samples' seeds are derived. Greedy decoding does not use it.
        stop: strings that end a response and are not part of it.
        prompt: style of the prompts, see `prompts.problem_prompt`.
        chat: settings of a chat, see `chat_format.load_chat_format`; None for plain text.
    """

    name: str
    model: str | None
    base: str
    problems: str
    demonstrations: str | None
    n: int
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    stop: tuple[str, ...]
    prompt: str
    chat: Mapping[str, Any] | None = None

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> Request:
        """Check a request given as a mapping with these keys; `chat` may be left out.

        Raises:
            ValueError: a missing or unknown key, or a value out of range; names request and key.
        """
        label = f"request {entry.get('name', '?')!r}"
        names = {item.name for item in fields(cls)}
        needed = {item.name for item in fields(cls) if item.default is MISSING}
        if wrong := (needed - set(entry)) | (set(entry) - names):
            problem = "missing" if wrong <= names else "unknown"
            raise ValueError(f"{label}: {problem} key(s) {', '.join(sorted(wrong))}")
        request = cls(**{**entry, "stop": tuple(entry["stop"])})
        checks = {
            "n": request.n >= 1 and (request.n == 1 or request.temperature > 0),
            "temperature": request.temperature >= 0,
            "top_p": 0 < request.top_p <= 1,
            "max_tokens": request.max_tokens >= 1,
            "stop": not isinstance(entry["stop"], str) and all(request.stop),
        }
        for key, is_valid in checks.items():
            if not is_valid:
                raise ValueError(
                    f"{label}: `{key}` is {entry[key]!r}; want n >= 1 (1 when greedy), "
                    "temperature >= 0, 0 < top_p <= 1, max_tokens >= 1, stop a list of strings"
                )
        return request

    @property
    def greedy(self) -> bool:
        """Whether decoding is greedy."""
        return self.temperature == 0

    def sampling(self) -> dict[str, Any]:
        """The decoding that all samples share, as keyword arguments of `vllm.SamplingParams`."""
        # A mark of the reasoning may be a special token, which vLLM leaves out of the text.
        keeps_marks = self.chat is not None and self.chat["answer_after"] is not None
        return {
            "temperature": float(self.temperature),
            "top_p": float(self.top_p),
            "max_tokens": self.max_tokens,
            "stop": list(self.stop),
            **({"skip_special_tokens": False} if keeps_marks else {}),
        }

    def seeds(self, identifier: str) -> list[int | None]:
        """The seed of each sample of a question; None for greedy decoding.

        Args:
            identifier: id of the question.
        """
        if self.greedy:
            return [None] * self.n
        return [sample_seed(self.seed, identifier, sample) for sample in range(self.n)]


@dataclass(frozen=True)
class ModelFiles:
    """The files that a request's texts come from.

    Attributes:
        folder: folder of the weights that an engine loads, with their tokenizer.
        weights: manifest of these weights. An engine reads their view (`view.model_view`).
        weights_hash: hash of the sha256 of those files.
        adapter: manifest of a LoRA adapter on the weights, or None.
        adapter_hash: hash of the sha256 of the adapter's files, or None.
        rank: largest rank in the adapter, 0 without one.
        chat: how messages become text; None for plain text.
    """

    folder: str
    weights: str
    weights_hash: str
    adapter: str | None = None
    adapter_hash: str | None = None
    rank: int = 0
    chat: ChatFormat | None = None

    @property
    def manifests(self) -> tuple[str, ...]:
        """Manifests of all models whose files an engine reads."""
        return (self.weights, self.adapter) if self.adapter else (self.weights,)


def find_model(request: Request) -> ModelFiles:
    """Read the manifests of a request.

    Raises:
        ValueError: a damaged manifest, a missing file, an adapter of another base, or a chat with
            a model that has no chat template.
    """
    base = read_manifest(request.base)
    chat = request.chat and load_chat_format(base["name"], request.chat, base["path"])
    if request.model is None:
        return ModelFiles(base["path"], request.base, hash_value(base["files"]), chat=chat)
    trained = read_manifest(request.model)
    if trained["kind"] == "full":
        files = hash_value(trained["files"])
        return ModelFiles(trained["path"], request.model, files, chat=chat)
    if trained["base"] != base["name"]:
        raise ValueError(
            f"{request.model}: an adapter of {trained['base']!r}, "
            f"but request {request.name!r} has the base {base['name']!r}"
        )
    check_files(request.model, ["adapter_config.json"])
    adapter = read_json(Path(trained["path"]) / "adapter_config.json")
    return ModelFiles(
        folder=base["path"],
        weights=request.base,
        weights_hash=hash_value(base["files"]),
        adapter=request.model,
        adapter_hash=hash_value(trained["files"]),
        rank=max([adapter["r"], *adapter.get("rank_pattern", {}).values()]),
        chat=chat,
    )


def read_ids(path: str) -> pl.Series:
    """The ids of a PROBLEMS or QUESTIONS table.

    Raises:
        ValueError: another table, or an id that occurs twice.
    """
    ids = _scan_questions(path).select("id").collect().to_series()
    if twice := ids.filter(ids.is_duplicated()).head(1).to_list():
        raise ValueError(f"{path}: the id {twice[0]!r} occurs twice")
    return ids


def _scan_questions(path: str) -> pl.LazyFrame:
    """The columns of QUESTIONS of a PROBLEMS or QUESTIONS table."""
    has_gold = has_column(path, "answer")
    return scan_table(path, PROBLEMS if has_gold else QUESTIONS).select(QUESTIONS.names())


def prompt_batches(request: Request) -> Iterator[list[Prompt]]:
    """The prompts of a request in the order of its problems, PROMPTS_AT_ONCE at a time.

    With `chat` a prompt is the messages up to the question, as `chat.chat_messages` makes them.

    Raises:
        ValueError: a damaged table, or a problem for which the prompt style has no prompt.
    """
    from weak_to_strong.method.chat import chat_messages
    from weak_to_strong.method.prompts import few_shot_prompt, prompt_column

    shots = None
    if request.demonstrations is not None:
        shots = read_table(request.demonstrations, DEMONSTRATIONS).to_dicts()
    questions = _scan_questions(request.problems)
    for first in range(0, questions.select(pl.len()).collect().item(), QUESTIONS_AT_ONCE):
        rows = questions.slice(first, QUESTIONS_AT_ONCE).collect()
        for batch in rows.iter_slices(PROMPTS_AT_ONCE):
            prompts = prompt_column(batch, request.prompt).to_list()
            if request.chat is not None:
                system = request.chat["system"]
                prompts = [chat_messages(prompt, system, shots or ()) for prompt in prompts]
            elif shots is not None:
                prompts = [few_shot_prompt(prompt, shots) for prompt in prompts]
            yield prompts


def hash_prompts(ids: Iterable[str], prompts: Iterable[Prompt]) -> str:
    """`hash_value([ids, prompts])` of two lists, with neither in memory."""
    digest = hashlib.sha256(b"[")
    for separator, texts in (("[", ids), (",[", prompts)):
        for text in texts:
            digest.update((separator + json.dumps(text, ensure_ascii=False)).encode())
            separator = ","
        digest.update(b"]" if separator == "," else f"{separator}]".encode())
    digest.update(b"]")
    return digest.hexdigest()


def request_facts(
    request: Request,
    model: ModelFiles,
    settings: EngineSettings,
    prompts: str,
    library: str,
    code: str,
) -> dict[str, Any]:
    """Everything that the texts of a request depend on. Its hash is the request's key in the store.

    Args:
        request: the request.
        model: its model files.
        settings: settings of the engine.
        prompts: `hash_prompts` of its ids and prompts.
        library: name and version of the engine, see `gpus.vllm_version`.
        code: digest of the code that makes texts, see `code_digest`.
    """
    return {
        "code": code,
        "weights": model.weights_hash,
        "adapter": model.adapter_hash,
        "prompts": prompts,
        "decoding": {
            **request.sampling(),
            "n": request.n,
            "seed": None if request.greedy else request.seed,
        },
        "engine": {
            "library": library,
            "device": settings.device,
            "dtype": settings.dtype,
            "max_model_len": settings.max_model_len,
            # Absent unless it is on, so that all other texts keep their keys.
            **({"batch_invariant": True} if settings.batch_invariant else {}),
        },
        **({"chat": model.chat.facts()} if model.chat else {}),
    }


def sample_seed(seed: int, identifier: str, sample: int) -> int:
    """Seed of one sample, in [0, 2**48).

    Args:
        seed: seed of the request.
        identifier: id of the question.
        sample: number of the sample.
    """
    digest = hashlib.sha256(f"{seed}\n{sample}\n{identifier}".encode()).digest()
    return int.from_bytes(digest[:6], "big")
