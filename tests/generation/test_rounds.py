"""Requests, their store and the sharing of work, with a worker process that needs no vLLM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import deque
from contextlib import nullcontext, suppress
from pathlib import Path
from random import Random
from uuid import uuid4

import polars as pl
import pytest

from weak_to_strong.generation import engine_pool, engine_settings, rounds
from weak_to_strong.generation.engine_pool import EnginePool, EngineWork, Shard, temporary_place
from weak_to_strong.generation.engine_settings import (
    EngineSettings,
    engine_arguments,
    worker_environments,
)
from weak_to_strong.generation.engine_worker import TEMPORARY, serve
from weak_to_strong.generation.requests import Request, find_model, request_facts, sample_seed
from weak_to_strong.generation.rounds import generate_round, generation_figures
from weak_to_strong.jobs.allocation import Allocation
from weak_to_strong.tables.files import hash_file, write_json
from weak_to_strong.tables.frames import write_table
from weak_to_strong.tables.schemas import DEMONSTRATIONS, GENERATIONS, PROBLEMS

SCRIPTS = Path(__file__).parents[2] / "scripts"

# The text tells the model, the adapter, the prompt and the seed, and samples end in any order.
FAKE_WORKER = """
import os, random, sys
from weak_to_strong.generation.engine_worker import run_worker

def name_of(view):
    "Name of the folder whose files a view has."
    return os.path.basename(os.path.dirname(os.path.realpath(next(os.scandir(view)))))

class Fake:
    cached = 0
    def __init__(self, arguments):
        self.model, self.waiting = name_of(arguments["model"]), []
        print("noise that must not reach the answers", sorted(os.listdir(arguments["model"])))
    def add(self, name, prompt, seed, sampling, adapter):
        if sum(prompt) == 13 * 97:
            print("cannot do that prompt", file=sys.stderr)
            os._exit(7)
        if len(prompt) == 12:
            raise TypeError("twelve")
        text = f"{self.model} {adapter and adapter[0]} {sum(prompt)} {seed}"
        self.waiting.append((name, text, "stop", len(prompt)))
    def step(self):
        random.shuffle(self.waiting)
        yield self.waiting.pop()
    def close(self):
        assert not self.waiting

def tokenise(weights, prompts):
    questions = [prompt.removeprefix("Question: ").split("\\n")[0] for prompt in prompts]
    if "refuse me" in questions:
        raise ValueError("a prompt of " + name_of(weights) + " is refused")
    return [list(question.encode()) for question in questions]

run_worker(Fake, tokenise)
"""


class Project:
    """A folder with models, problems and a fake worker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.worker = folder / "worker.py"
        self.worker.write_text(FAKE_WORKER)
        self.base = self.manifest("base", {"model.safetensors": "b0"}, source="test")
        self.ids = [f"p{index}" for index in range(7)]
        self.problems = self.write_problems("problems", self.ids)

    def write_problems(self, name: str, ids: list[str], questions: list[str] | None = None) -> str:
        path = self.folder / f"{name}.parquet"
        rows = {key: [""] * len(ids) for key in PROBLEMS.names()}
        write_table(pl.DataFrame({**rows, "id": ids, "question": questions or ids}), PROBLEMS, path)
        return str(path)

    def manifest(self, name: str, files: dict[str, str], **facts: object) -> str:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        for file, text in files.items():
            (folder / file).write_text(text)
        path = self.folder / f"{name}.json"
        hashes = {file: hash_file(folder / file) for file in files}
        write_json({"name": name, "path": str(folder), "files": hashes, **facts}, path)
        return str(path)

    def adapter(self, name: str, rank: int = 4, base: str = "base") -> str:
        files = {"adapter_model.safetensors": name, "adapter_config.json": f'{{"r": {rank}}}'}
        return self.manifest(name, files, kind="lora", base=base)

    def request(self, name: str, **changes: object) -> dict:
        return {
            "name": name,
            "model": None,
            "base": self.base,
            "problems": self.problems,
            "demonstrations": None,
            "n": 1,
            "temperature": 0.0,
            "top_p": 1.0,
            "max_tokens": 16,
            "seed": 0,
            "stop": ["Question"],
            "prompt": "question_answer",
        } | changes

    def round(self, requests: list[dict], **settings: object) -> tuple[pl.DataFrame, dict, dict]:
        engine = {"max_model_len": 64, "device": "cpu", "shard_size": 2} | settings
        command = [sys.executable, str(self.worker)]
        batches, *facts = generate_round(requests, engine, self.store, command=command, threads=2)
        return pl.concat(batches), *facts


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_rows_come_by_request_problem_and_sample(project: Project) -> None:
    requests = [
        project.request("sampled", n=3, temperature=1.0),
        project.request("greedy", model=project.adapter("one")),
    ]
    frame, stats, cost = project.round(requests)

    assert frame.schema == GENERATIONS
    assert frame["request"].to_list() == ["sampled"] * 21 + ["greedy"] * 7
    assert frame["id"].to_list() == [name for name in project.ids for _ in range(3)] + project.ids
    assert frame["sample"].to_list() == [0, 1, 2] * 7 + [0] * 7
    sums = [sum(name.encode()) for name in project.ids]
    seeds = [sample_seed(0, name, sample) for name in project.ids for sample in range(3)]
    expected = [f"base None {sums[row // 3]} {seed}" for row, seed in enumerate(seeds)]
    assert frame["response"].to_list()[:21] == expected
    assert all(text.split()[1] not in ("None", "") for text in frame["response"].to_list()[21:])
    assert cost["engine_loads"] == 1
    assert cost["samples"] == 28
    assert stats["sampled"]["prompt_tokens"] == 14
    assert stats["sampled"]["samples"] == 21


@pytest.mark.parametrize(
    "settings",
    [{"shard_size": 1}, {"shard_size": 50}, {"processes": 2}, {"max_num_seqs": 1}],
    ids=str,
)
def test_texts_do_not_depend_on_the_sharing_of_work(project: Project, settings: dict) -> None:
    models = [None, project.adapter("one"), project.manifest("full", {"w": "f"}, kind="full")]
    requests = [
        project.request(f"r{index}", model=model, n=2, temperature=1.0)
        for index, model in enumerate(models)
    ]
    expected, stats, _ = project.round(requests)
    project.store = project.folder / "other store"
    frame, again, cost = project.round(requests, **settings)

    assert frame.equals(expected)
    assert again == stats
    assert cost["engine_loads"] >= 2


def test_messages_are_made_when_they_are_sent(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of forty shards, some are with the worker, and only their prompts are in memory."""
    ids = [f"p{index}" for index in range(80)]
    under_way = most = 0
    make_message, make_rows = rounds._message, rounds._rows

    def message(*arguments: object) -> dict:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        return make_message(*arguments)

    def note_rows(*arguments: object) -> pl.DataFrame:
        nonlocal under_way
        under_way -= 1
        return make_rows(*arguments)

    monkeypatch.setattr(rounds, "_message", message)
    monkeypatch.setattr(rounds, "_rows", note_rows)
    monkeypatch.setattr("weak_to_strong.generation.requests.PROMPTS_AT_ONCE", 3)
    request = project.request("a", problems=project.write_problems("many", ids))
    frame, _, _ = project.round([request], max_num_seqs=4)
    assert frame["id"].to_list() == ids
    assert 2 <= most <= 10


def test_complete_round_starts_no_worker(project: Project) -> None:
    requests = [project.request("a"), project.request("b", seed=5)]
    first, _, cost = project.round(requests)
    assert cost["requests_generated"] == 1  # greedy: the seed is nothing, both are one text
    project.worker.unlink()
    again, _, cost = project.round(requests, shard_size=3, processes=2)
    assert again.equals(first)
    assert cost["engine_loads"] == cost["samples"] == 0


def test_lost_shard_is_all_that_is_generated_again(project: Project) -> None:
    request = project.request("a", n=2, temperature=1.0)
    first, stats, _ = project.round([request])
    (project.store / stats["a"]["key"] / "shard-000002.parquet").unlink()
    again, _, cost = project.round([request], shard_size=1)
    assert again.equals(first)
    assert cost["samples"] == 4


def test_texts_of_other_code_are_not_used(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as of code that was edited for a time and put back."""
    request = project.request("a")
    with monkeypatch.context() as edited:
        edited.setattr(rounds, "code_digest", lambda script: "of edited code")
        passes = "from weak_to_strong.generation import engine_worker\nengine_worker.has_digest = "
        project.worker.write_text(f"{passes}lambda *_: True\n{FAKE_WORKER}")
        _, edited_stats, _ = project.round([request])
    _, stats, cost = project.round([request])
    assert stats["a"]["key"] != edited_stats["a"]["key"]
    assert cost["requests_generated"] == 1


def test_a_worker_with_other_code_than_its_round_makes_no_text(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "code_digest", lambda script: "of the round")
    with pytest.raises(RuntimeError, match=r"code was edited while the round started; run again"):
        project.round([project.request("a")])
    assert not list(project.store.rglob("shard-*"))


def test_worker_that_dies_leaves_the_finished_shards(project: Project) -> None:
    questions = [*project.ids[:6], "a" * 13]
    bad = project.request("a", problems=project.write_problems("bad", project.ids, questions))
    message = r"status 7: cannot do that prompt.*engine-0\.log"
    with pytest.raises(RuntimeError, match=message) as raised:
        project.round([bad], max_num_seqs=1)
    assert "tensor_parallel_size" not in str(raised.value)
    project.worker.write_text(FAKE_WORKER.replace("os._exit(7)", "pass"))
    frame, _, cost = project.round([bad])
    assert len(frame) == 7
    assert 0 < cost["samples"] < 7


def test_error_in_a_worker_is_named(project: Project) -> None:
    problems = project.write_problems("bad", ["x"], ["b" * 12])
    with pytest.raises(RuntimeError, match=r"TypeError: twelve \(see .*engine-0\.log"):
        project.round([project.request("a", problems=problems)])


@pytest.mark.parametrize(
    ("length", "old", "new", "message"),
    [
        (13, "cannot do that prompt", "OutOfMemoryError: CUDA out of memory. Tried", "status 7: "),
        # The worker of an engine that is a process of its own knows no more than that it ended.
        (
            12,
            'raise TypeError("twelve")',
            'print("CUDA out of memory", file=sys.stderr); raise RuntimeError("see above")',
            "RuntimeError: see above",
        ),
    ],
    ids=["dead", "alive"],
)
def test_an_engine_too_large_for_its_gpus_is_told_what_helps(
    project: Project, length: int, old: str, new: str, message: str
) -> None:
    assert old in FAKE_WORKER
    project.worker.write_text(FAKE_WORKER.replace(old, new))
    problems = project.write_problems("bad", ["x"], ["a" * length])
    with pytest.raises(
        RuntimeError, match=f"{message}.*tensor_parallel_size=2.*engine-0"
    ) as raised:
        project.round([project.request("a", problems=problems)])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "regenerated"),
    [
        ({"seed": 1}, True),
        ({"n": 3}, True),
        ({"top_p": 0.9}, True),
        ({"max_tokens": 17}, True),
        ({"stop": []}, True),
        ({"name": "renamed"}, False),
        ({"temperature": 1}, False),
    ],
    ids=str,
)
def test_key_covers_what_the_text_depends_on(
    project: Project, change: dict, regenerated: bool
) -> None:
    request = project.request("a", n=2, temperature=1.0)
    project.round([request])
    _, _, cost = project.round([request | change, project.request("b", n=2, temperature=1.0)])
    assert cost["requests_generated"] == regenerated


def test_changed_model_problems_demonstrations_or_engine_change_the_key(project: Project) -> None:
    def key(request: dict, **settings: object) -> str:
        return project.round([request], **settings)[1]["a"]["key"]

    shots = project.folder / "shots.parquet"
    row = {"id": ["s"], "prompt": ["Question: 1+1\nAnswer:"], "response": ["2"]}
    write_table(pl.DataFrame(row), DEMONSTRATIONS, shots)
    request = project.request("a")
    keys = [
        key(request),
        key(request | {"model": project.adapter("one")}),
        key(request | {"model": project.adapter("two")}),
        key(request | {"problems": project.write_problems("fewer", project.ids[:3])}),
        key(request | {"demonstrations": str(shots)}),
        key(request, max_model_len=65),
        key(request, dtype="bfloat16"),
    ]
    assert key(request, batch_invariant=True) == keys[0]  # on a CPU no text depends on the batch
    project.manifest("base", {"model.safetensors": "b1"})
    keys.append(key(request))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 2}, "'a': `n` is 2"),
        ({"temperature": -1.0}, "`temperature` is -1"),
        ({"top_p": 0}, "`top_p` is 0"),
        ({"stop": "Question"}, "`stop` is 'Question'"),
        ({"colour": 1}, "unknown key.*colour"),
    ],
    ids=str,
)
def test_bad_request_names_its_key(project: Project, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Request.parse(project.request("a", **change))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_model_len": 0}, "`max_model_len` is 0"),
        ({"shard_size": "8"}, "`shard_size` is '8'"),
        ({"device": "tpu"}, "`device` is 'tpu'"),
        ({"batch": 1}, "unknown key.*batch"),
    ],
    ids=str,
)
def test_bad_setting_names_its_key(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EngineSettings.parse({"max_model_len": 8, "device": "cpu"} | settings)


def test_bad_round_ends_before_any_engine(project: Project) -> None:
    request = project.request("a")
    cases = {
        "two requests have the name 'a'": [request, request],
        r"'a', id 'p0': 2 prompt tokens and max_tokens 63 exceed `engine.max_model_len` 64": [
            request | {"max_tokens": 63}
        ],
        "the id 'x' occurs twice": [
            request | {"problems": project.write_problems("twice", ["x", "x"])}
        ],
        "an adapter of 'other'": [request | {"model": project.adapter("one", base="other")}],
        "lacks model.safetensors": [request],
    }
    for message, requests in cases.items():
        if "lacks" in message:
            (project.folder / "base" / "model.safetensors").unlink()
        with pytest.raises(ValueError, match=message):
            project.round(requests)
    assert not list(project.store.glob("*/shard-*"))


def test_prompt_that_the_tokeniser_refuses_ends_the_round(project: Project) -> None:
    problems = project.write_problems("bad", ["x"], ["refuse me"])
    with pytest.raises(ValueError, match="a prompt of base is refused"):
        project.round([project.request("a", problems=problems)])


def test_prompt_that_demonstrations_make_too_long_ends_before_any_engine(project: Project) -> None:
    shots = project.folder / "shots.parquet"
    row = {"id": "s", "prompt": f"Question: {'1+' * 25}\nAnswer:", "response": "2"}
    write_table(pl.DataFrame([row]), DEMONSTRATIONS, shots)
    request = project.request("shown", demonstrations=str(shots))
    with pytest.raises(
        ValueError, match=r"'shown', id 'p0': 50 prompt tokens .* or show fewer demonstrations"
    ):
        project.round([project.request("bare"), request])
    assert not list(project.store.glob("*/shard-*"))


def test_engine_longer_than_the_model_is_refused_before_it_starts(project: Project) -> None:
    write_json({"max_position_embeddings": 63}, project.folder / "base" / "config.json")
    with pytest.raises(ValueError, match=r"`engine.max_model_len` 64 exceeds the 63 tokens .*base"):
        project.round([project.request("a")])
    assert not list(project.store.glob("*/shard-*"))


@pytest.mark.parametrize("damage", ["torn", "flipped", "empty"])
def test_damaged_shard_is_generated_again(project: Project, damage: str) -> None:
    rows, stats, _ = project.round([project.request("a")])
    shard = project.store / stats["a"]["key"] / "shard-000000.parquet"
    intact = shard.read_bytes()
    flipped = intact[:20] + bytes([intact[20] ^ 1]) + intact[21:]
    shard.write_bytes({"torn": intact[:-9], "flipped": flipped, "empty": b""}[damage])
    again, _, cost = project.round([project.request("a")])
    assert again.equals(rows)
    assert cost["samples"] == 2
    assert shard.read_bytes() == intact


def test_weights_that_differ_from_their_manifest_serve_nothing(project: Project) -> None:
    model = project.adapter("one")
    weights = project.folder / "one/adapter_model.safetensors"
    weights.write_text("onf")
    with pytest.raises(ValueError, match=r"one/adapter_model\.safetensors: is damaged"):
        project.round([project.request("a", model=model)])
    assert list(project.store.rglob("shard-*")) == []


def test_an_engine_sees_the_files_of_the_manifest_alone(project: Project) -> None:
    first, stats, _ = project.round([project.request("a")])
    (project.folder / "base/model_backup.safetensors").write_text("others")
    (project.folder / "base/consolidated.safetensors").write_text("others")
    project.round([project.request("b", seed=1, n=2, temperature=1.0)])
    logs = [path.read_text() for path in project.store.glob("logs/*/engine-0.log")]
    assert len(logs) == 2
    assert all("answers ['model.safetensors']" in log for log in logs)
    # The same model in another folder has another view, and the same texts.
    project.base = project.manifest("base2", {"model.safetensors": "b0"}, source="test")
    again, moved, cost = project.round([project.request("a")])
    assert (again.equals(first), moved == stats, cost["samples"]) == (True, True, 0)


def test_code_of_a_models_own_is_never_run() -> None:
    for device in ("cpu", "cuda"):
        settings = EngineSettings.parse({"max_model_len": 64, "device": device})
        assert engine_arguments(settings, "view", [])["trust_remote_code"] is False


def test_engine_makes_room_for_its_adapters() -> None:
    settings = EngineSettings.parse({"max_model_len": 64, "device": "cuda", "max_loras": 2})
    arguments = engine_arguments(settings, "base", [4, 12, 8])
    assert (arguments["max_loras"], arguments["max_cpu_loras"]) == (2, 3)
    assert arguments["max_lora_rank"] == 16
    assert "enable_lora" not in engine_arguments(settings, "base", [])


def test_batch_invariant_texts_of_gpus_have_a_key_of_their_own(project: Project) -> None:
    request = Request.parse(project.request("a"))
    model = find_model(request)
    facts = [
        request_facts(
            request,
            model,
            EngineSettings.parse({"max_model_len": 64, "device": "cuda"} | change),
            "prompts",
            "vllm 0",
            "code",
        )
        for change in ({}, {"batch_invariant": True}, {"tensor_parallel_size": 2})
    ]
    assert facts[0] == facts[2] != facts[1]


def test_gpu_processes_get_their_own_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"max_model_len": 64, "device": "cuda", "processes": 2, "tensor_parallel_size": 2}
    settings = EngineSettings.parse(entry)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4,5,6")
    devices = [
        environment["CUDA_VISIBLE_DEVICES"] for environment in worker_environments(settings, 8)
    ]
    assert devices == ["3,4", "5,6"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4,5")
    with pytest.raises(ValueError, match=r"is 4, but 3 GPU\(s\) are visible"):
        worker_environments(settings, 8)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(engine_settings, "count_gpus", lambda: 2)
    with pytest.raises(ValueError, match=r"is 4, but 2 GPU\(s\) are visible"):
        worker_environments(settings, 8)


@pytest.mark.parametrize("length", [10, 49, 50, 300])
def test_a_socket_in_an_engines_folder_has_a_path_that_the_system_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    folder = "/" + "x" * (length - 1)
    monkeypatch.setattr("tempfile.tempdir", folder)
    place = temporary_place()
    assert place.parent == Path(folder if length <= 49 else "/tmp")
    assert len(f"{place}/{uuid4()}") <= 107


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_an_engines_processes_speak_over_loopback(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    """Else they listen at the address of the machine's name."""
    settings = EngineSettings.parse({"max_model_len": 64, "device": device})
    monkeypatch.setattr(engine_settings, "count_gpus", lambda: 1)
    (given,) = worker_environments(settings, 2)
    assert given["GLOO_SOCKET_IFNAME"] == given["NCCL_SOCKET_IFNAME"] == "lo"
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib0")
    assert worker_environments(settings, 2)[0]["GLOO_SOCKET_IFNAME"] == "ib0"


def test_worker_changes_engines_and_keeps_shards_apart() -> None:
    log = []

    class Fake:
        cached = 0

        def __init__(self, arguments: dict) -> None:
            self.name, self.waiting = arguments["model"], []

        def add(self, name: str, prompt: list, seed: int, sampling: dict, adapter: list) -> None:
            self.waiting.append((name, f"{self.name}{prompt}{seed}", "stop", 1))

        def step(self) -> list:
            Random(len(self.waiting)).shuffle(self.waiting)
            return [self.waiting.pop()]

        def close(self) -> None:
            log.append(f"closed {self.name}")

    def shard(number: int) -> dict:
        prompts, seeds = [[number], [number + 1]], [[0, 1], [2, 3]]
        message = {"shard": number, "prompts": prompts, "seeds": seeds}
        return json.loads(json.dumps(message | {"sampling": {}, "adapter": None}))

    script = [{"engine": {"model": "A"}}, shard(1), shard(2), None, None, None, None, None, None]
    script += [None, None, {"engine": {"model": "B"}}, shard(3), *[None] * 4, {"stop": True}]
    messages = iter(script)
    answers: list[dict] = []
    serve(lambda _wait: next(messages), answers.append, Fake, lambda _weights, _prompts: [])

    texts = {
        answer["shard"]: [row[0] for row in answer["rows"]]
        for answer in answers
        if "shard" in answer
    }
    assert texts[1] == ["A[1]0", "A[1]1", "A[2]2", "A[2]3"]
    assert texts[2] == ["A[2]0", "A[2]1", "A[3]2", "A[3]3"]
    assert texts[3] == ["B[3]0", "B[3]1", "B[4]2", "B[4]3"]
    assert log == ["closed A", "closed B"]


# Its first sample ends when all others have.
WORKER_WITH_A_STRAGGLER = """
import time
from weak_to_strong.generation.engine_worker import run_worker

class Fake:
    cached = 0
    def __init__(self, arguments):
        self.total, self.ended, self.idle, self.waiting = arguments["total"], 0, 0, []
    def add(self, name, *_):
        self.waiting.append(name)
    def step(self):
        name = next((name for name in self.waiting if name != "0-0"), "0-0")
        if name == "0-0" and self.ended < self.total - 1:
            self.idle += 1
            if self.idle > 500:
                raise ValueError(f"nothing to do after {self.ended} samples")
            time.sleep(0.01)
            return
        self.waiting.remove(name)
        self.ended += 1
        self.cached += 3
        yield name, "", "stop", 1
    def close(self):
        pass

run_worker(Fake, lambda weights, prompts: [])
"""


@pytest.mark.parametrize("samples", [1, 10])
def test_a_long_answer_does_not_hold_up_the_engine(tmp_path: Path, samples: int) -> None:
    shards = []
    for number in range(8):
        message = {"adapter": None, "sampling": {}, "prompts": [[1]], "seeds": [[None] * samples]}
        shards.append(Shard(number, message.copy, samples))
    work = [EngineWork({"total": 8 * samples}, deque(shards))]
    worker = (sys.executable, "-c", WORKER_WITH_A_STRAGGLER)
    pool = EnginePool(1, [{}], tmp_path, fresh=False, max_num_seqs=2, command=worker)
    finished = []
    with pool:
        pool.run(work, lambda number, rows: finished.append((number, len(rows))))
    assert sorted(finished) == [(number, samples) for number in range(8)]
    assert finished[-1][0] == 0
    assert pool.cached_tokens == 3 * 8 * samples


# Its engine is a process of its own, as vLLM's is on a GPU.
WORKER_WITH_A_CHILD = """
import os, signal, subprocess, sys
from pathlib import Path
from weak_to_strong.generation.engine_worker import run_worker

class Fake:
    cached = 0
    def __init__(self, arguments):
        child = subprocess.Popen(["sleep", "600"])
        Path(arguments["pid_file"]).write_text(str(child.pid))
    def add(self, *_):
        if "dies" in sys.argv:
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError("a bad adapter")
    def close(self):
        pass

run_worker(Fake, lambda weights, prompts: [])
"""
SAMPLE = {"adapter": None, "sampling": {}, "prompts": [[1]], "seeds": [[None]]}


def wait_until_gone(pid_file: Path) -> None:
    """Until the process has ended, or is a zombie that nobody waits for."""
    status = Path("/proc", pid_file.read_text(), "status")
    for _ in range(100):
        try:
            if "State:\tZ" in status.read_text():
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.05)
    raise AssertionError("the engine's process outlives its worker")


@pytest.mark.parametrize(
    ("way", "message"), [("dies", "killed, which mostly means out of memory"), ("fails", "adapter")]
)
def test_an_engine_in_another_process_ends_with_its_worker(tmp_path, way, message):
    worker, pid_file = tmp_path / "worker.py", tmp_path / "pid"
    worker.write_text(WORKER_WITH_A_CHILD)
    work = [EngineWork({"pid_file": str(pid_file)}, deque([Shard(0, SAMPLE.copy, 1)]))]
    command = (sys.executable, str(worker), way)
    pool = EnginePool(1, [{}], tmp_path, fresh=False, max_num_seqs=4, command=command)
    with pytest.raises(RuntimeError, match=message), pool:
        pool.run(work, lambda *_: None)
    wait_until_gone(pid_file)


def test_an_engine_in_another_process_ends_when_the_parent_is_gone(tmp_path):
    worker, pid_file = tmp_path / "worker.py", tmp_path / "pid"
    temporary = tmp_path / "temporary"
    worker.write_text(WORKER_WITH_A_CHILD)
    process = subprocess.Popen(
        [sys.executable, str(worker)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS), TEMPORARY: str(temporary)},
        start_new_session=True,
        text=True,
    )
    process.stdin.write(json.dumps({"engine": {"pid_file": str(pid_file)}}) + "\n")
    process.stdin.flush()
    assert "ready" in process.stdout.readline()
    assert temporary.is_dir()
    process.stdin.close()
    process.wait(20)
    wait_until_gone(pid_file)
    process.stdout.close()
    assert not temporary.exists()


WORKER_WITH_A_FILE = """
import os, signal, sys, tempfile
from weak_to_strong.generation.engine_worker import run_worker

class Fake:
    cached = 0
    def __init__(self, arguments):
        self.name = None
        self.file = tempfile.mkstemp(prefix="vllm_dist_")
        print(self.file[1], os.environ["TMPDIR"], file=sys.stderr, flush=True)
    def add(self, name, *_):
        if "dies" in sys.argv:
            os.kill(os.getpid(), signal.SIGKILL)
        if "fails" in sys.argv:
            raise ValueError("a bad adapter")
        self.name = name
    def step(self):
        yield self.name, "", "stop", 1
    def close(self):
        pass

run_worker(Fake, lambda weights, prompts: [])
"""


@pytest.mark.parametrize("way", ["ends", "is replaced", "fails", "dies"])
def test_the_temporary_files_of_an_engine_go_with_it(tmp_path, monkeypatch, way):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr("weak_to_strong.generation.engine_pool.LONGEST_FOLDER", 1000)
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER_WITH_A_FILE)
    work = [EngineWork({}, deque([Shard(number, SAMPLE.copy, 1)])) for number in range(2)]
    command, fresh = (sys.executable, str(worker), way), way == "is replaced"
    pool = EnginePool(1, [{}], tmp_path, fresh=fresh, max_num_seqs=4, command=command)
    failure = pytest.raises(RuntimeError) if way in ("fails", "dies") else nullcontext()
    with failure, pool:
        pool.run(work, lambda *_: None)
    file, folder = (tmp_path / "engine-0.log").read_text().splitlines()[0].split()
    assert Path(file).parent == Path(folder)
    assert Path(folder).parent == temporary
    assert list(temporary.iterdir()) == []


# Its engine has a further process, as one on two nodes: that one serves until it is ended.
WORKER_OF_TWO_NODES = """
import json, os, sys, time
from pathlib import Path
from weak_to_strong.generation.engine_worker import run_worker

class Fake:
    cached = 0
    def __init__(self, arguments):
        rank, folder = arguments["node_rank"], Path(arguments["folder"])
        facts = {**arguments, "pid": os.getpid()}
        with (folder / f"rank-{rank}").open("a") as file:
            file.write(json.dumps(facts) + "\\n")
        if rank and "follower fails" in sys.argv:
            raise RuntimeError("no memory on this node")
        if "leader fails" in sys.argv and not rank:
            raise RuntimeError("no such model")
        if rank or "follower fails" in sys.argv:
            time.sleep(600)
        # A real engine starts only when all its processes have met.
        lines = lambda rank: (folder / f"rank-{rank}").read_text().count("\\n")
        while not (folder / "rank-1").exists() or lines(1) < lines(0):
            time.sleep(0.05)
    def add(self, name, *_):
        self.name = name
    def step(self):
        yield self.name, "", "stop", 1
    def close(self):
        pass

run_worker(Fake, lambda weights, prompts: [])
"""


def run_on_two_nodes(folder: Path, way: str, engines: int = 1) -> list[list[dict]]:
    """Arguments and process number of each engine of each of two nodes, in order."""
    worker = folder / "worker.py"
    worker.write_text(WORKER_OF_TWO_NODES)
    work = [
        EngineWork({"folder": str(folder), "pipeline_parallel_size": 2}, deque([shard]))
        for shard in [Shard(number, SAMPLE.copy, 1) for number in range(engines)]
    ]
    command = (sys.executable, str(worker), way)
    pool = EnginePool(1, [{}], folder, fresh=False, max_num_seqs=4, command=command, engine_nodes=2)
    with pool:
        pool.run(work, lambda *_: None)
    files = [folder / f"rank-{rank}" for rank in range(2)]
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]


def is_running(process: int) -> bool:
    status = Path("/proc", str(process), "status")
    try:
        return "State:\tZ" not in status.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_processes_of_an_engine_on_two_nodes_meet_and_end_together(tmp_path):
    first, second = run_on_two_nodes(tmp_path, "ends", engines=2)
    assert len(first) == len(second) == 2
    for leader, follower in zip(first, second, strict=True):
        assert (leader["node_rank"], follower["node_rank"]) == (0, 1)
        keys = ("nnodes", "master_addr", "master_port", "pipeline_parallel_size")
        assert [leader[key] for key in keys] == [follower[key] for key in keys]
        assert (leader["nnodes"], leader["master_addr"]) == (2, "127.0.0.1")
        assert 1024 <= leader["master_port"] < 65536
    # Each engine has processes of its own: vLLM cannot end one on another node.
    assert len({facts["pid"] for facts in first + second}) == 4
    assert not any(is_running(facts["pid"]) for facts in first + second)


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("follower fails", r"a further node .*no memory on this node \(see .*engine-0-node-1\.log"),
        ("leader fails", r"generation failed: RuntimeError: no such model \(see .*engine-0\.log"),
    ],
)
def test_an_engine_on_two_nodes_ends_when_one_of_them_does(tmp_path, way, message):
    with pytest.raises(RuntimeError, match=message) as raised:
        run_on_two_nodes(tmp_path, way)
    assert "\n" not in str(raised.value)
    # One of them may have been ended before its engine began.
    started = [json.loads(file.read_text())["pid"] for file in tmp_path.glob("rank-*")]
    assert started
    assert not any(map(is_running, started))


def test_the_processes_of_an_engine_are_steps_on_its_own_nodes(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(engine_pool, "Worker", lambda *arguments: started.append(arguments))
    pool = EnginePool(
        2,
        [{}, {}],
        tmp_path,
        fresh=True,
        max_num_seqs=4,
        allocation=Allocation(gpus=4, cpus=32, nodes=("a", "b", "c", "d")),
        engine_nodes=2,
    )
    with suppress(AttributeError), pool:  # there are no workers to end
        pass
    steps = [next(word for word in step if "nodelist" in word) for _, _, _, step, *_ in started]
    assert steps == [f"--nodelist={node}" for node in "badc"]
    assert [arguments[-1] for arguments in started if len(arguments) == 6] == ["b", "d"]
    logs = [log.name for _, _, log, *_ in started]
    assert logs == ["engine-0-node-1.log", "engine-0.log", "engine-1-node-1.log", "engine-1.log"]


def test_an_engine_over_nodes_divides_its_layers_among_them():
    cuda = {"max_model_len": 64, "device": "cuda"}
    sizes = {"tensor_parallel_size": 4, "pipeline_parallel_size": 2}
    arguments = engine_arguments(EngineSettings.parse({**cuda, **sizes}), "base", [])
    assert {key: arguments[key] for key in sizes} == sizes
    assert "pipeline_parallel_size" not in engine_arguments(EngineSettings.parse(cuda), "base", [])


def test_trackers_get_the_tokens_of_a_round_and_its_speed():
    counts = {"samples": 4, "prompt_tokens": 50, "cached_prompt_tokens": 20, "response_tokens": 30}
    figures = generation_figures({**counts, "requests": 2, "engine_seconds": 6.0})
    assert figures.pop("generation/tokens_per_second") == 5.0
    assert figures == {f"generation/{name}": count for name, count in counts.items()}
    assert generation_figures({**counts, "samples": 0, "engine_seconds": 6.0}) == {}
