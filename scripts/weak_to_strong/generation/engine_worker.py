"""The process that holds a vLLM engine: `python -m weak_to_strong.generation.engine_worker`.

It reads one JSON message a line on standard input and answers on standard output:

- `{"tokenise": {"weights": folder, "prompts": [text]}}`: answer `{"tokens": [[token]]}`, or
  `{"refused": reason}` where `tokenise` raises ValueError;
- `{"engine": {...}}`: close the present engine, start one with these `EngineArgs`; answer
  `{"ready": seconds}`;
- `{"shard": id, "adapter": [name, number, path] | null, "sampling": {...}, "prompts": [[token]],
  "seeds": [[seed of each sample] of each prompt]}`: generate; several shards may be under way;
  answer `{"shard": id, "rows": [[text, finish reason, tokens]]}`, sample after sample of prompt
  after prompt;
- after each step in which samples ended, `{"progress": [samples, tokens, cached]}`, counted since
  the engine's start: tokens of responses, and tokens of prompts found in the prefix cache;
- on an error `{"error": one line}`, the traceback on standard error.

It exits at once at the end of standard input, so a worker never outlives its parent. The variable
W2S_ENGINE_DEVICES, `first:end`, narrows the visible GPUs: the parent does not see those of another
node. The variable W2S_ENGINE_TMP names a folder for temporary files, which the worker makes and
removes (a vLLM engine leaves a file `vllm_dist_*`). vLLM and other large libraries are imported
only when they are needed.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from weak_to_strong.jobs.imports import collection_paused

DEVICES, TEMPORARY = "W2S_ENGINE_DEVICES", "W2S_ENGINE_TMP"

Message = dict[str, Any]
#: Folder of weights and prompts -> token ids.
Tokeniser = Callable[[str, Sequence[str]], list[list[int]]]


class Engine(Protocol):
    """What `serve` needs of an engine.

    Attributes:
        cached: tokens of prompts found in the prefix cache, since the engine's start.
    """

    cached: int

    def add(
        self,
        name: str,
        prompt: list[int],
        seed: int | None,
        sampling: dict[str, Any],
        adapter: list[Any] | None,
    ) -> None:
        """Queue one sample."""

    def step(self) -> Iterable[tuple[str, str, str, int]]:
        """Run one step; return the samples that ended: (name, text, finish reason, tokens)."""

    def close(self) -> None:
        """Free the memory."""


class VllmEngine:
    """A vLLM engine that takes new samples while others run.

    `LLM.generate` would wait for the slowest sample of a batch before it took the next batch.

    Args:
        arguments: keyword arguments of `vllm.EngineArgs`.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        from vllm import EngineArgs, LLMEngine

        # Imports leave a million objects that are never garbage. vLLM collects garbage four times.
        gc.collect()
        gc.freeze()
        self.cached = 0
        self._engine = LLMEngine.from_engine_args(EngineArgs(**arguments))

    def add(
        self,
        name: str,
        prompt: list[int],
        seed: int | None,
        sampling: dict[str, Any],
        adapter: list[Any] | None,
    ) -> None:
        from vllm import SamplingParams
        from vllm.lora.request import LoRARequest
        from vllm.sampling_params import RequestOutputKind

        self._engine.add_request(
            name,
            {"prompt_token_ids": prompt},
            SamplingParams(
                seed=seed,
                include_stop_str_in_output=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
                **sampling,
            ),
            lora_request=LoRARequest(*adapter) if adapter else None,
        )

    def step(self) -> Iterable[tuple[str, str, str, int]]:
        for output in self._engine.step():
            if output.finished:
                sample = output.outputs[0]
                self.cached += output.num_cached_tokens or 0
                yield output.request_id, sample.text, sample.finish_reason, len(sample.token_ids)

    def close(self) -> None:
        from vllm.distributed import cleanup_dist_env_and_memory

        self._engine.engine_core.shutdown()
        del self._engine
        # It also unfreezes objects. Frozen ones would keep the weights and the cache in memory.
        cleanup_dist_env_and_memory()


@dataclass
class _Shard:
    samples: int
    rows: dict[int, list[Any]] = field(default_factory=dict)


def serve(
    receive: Callable[[bool], Message | None],
    send: Callable[[Message], None],
    start: Callable[[dict[str, Any]], Engine],
    tokenise: Tokeniser,
) -> None:
    """Answer messages until `{"stop": true}`.

    Args:
        receive: returns the next message. It waits for one if its argument is true, else it may
            return None.
        send: sends an answer.
        start: makes an engine from its arguments.
        tokenise: see the function of this name.
    """
    engine: Engine | None = None
    pending: dict[int, _Shard] = {}
    samples = tokens = 0
    while True:
        message = receive(not pending)
        if message and "stop" in message:
            break
        if message and "tokenise" in message:
            send(_tokenise_answer(tokenise, message["tokenise"]))
            continue
        if message and "engine" in message:
            if engine:
                engine.close()
            began = time.monotonic()
            engine = start(message["engine"])
            samples = tokens = 0
            send({"ready": round(time.monotonic() - began, 3)})
        elif message:
            _submit(engine, message, pending)
            continue  # queue all waiting shards before the next step
        if pending:
            ended = list(engine.step())
            samples, tokens = samples + len(ended), tokens + sum(row[3] for row in ended)
            if ended:
                send({"progress": [samples, tokens, engine.cached]})
            for answer in _finish_shards(ended, pending):
                send(answer)
    if engine:
        engine.close()


def _tokenise_answer(tokenise: Tokeniser, request: Mapping[str, Any]) -> Message:
    try:
        return {"tokens": tokenise(**request)}
    except ValueError as error:
        return {"refused": str(error)}


def _submit(engine: Engine, message: Message, pending: dict[int, _Shard]) -> None:
    index = 0
    for prompt, seeds in zip(message["prompts"], message["seeds"], strict=True):
        for seed in seeds:
            name = f"{message['shard']}-{index}"
            engine.add(name, prompt, seed, message["sampling"], message["adapter"])
            index += 1
    pending[message["shard"]] = _Shard(index)


def _finish_shards(
    ended: Iterable[tuple[str, str, str, int]], pending: dict[int, _Shard]
) -> Iterator[Message]:
    """Store ended samples in their shards; the answers of shards that are complete then."""
    touched = []
    for name, text, reason, length in ended:
        shard_id, index = map(int, name.split("-"))
        pending[shard_id].rows[index] = [text, reason, length]
        touched.append(shard_id)
    for shard_id in dict.fromkeys(touched):
        shard = pending[shard_id]
        if len(shard.rows) == shard.samples:
            del pending[shard_id]
            yield {"shard": shard_id, "rows": [shard.rows[i] for i in range(shard.samples)]}


def tokenise(weights: str, prompts: Sequence[str]) -> list[list[int]]:
    """Token ids of `prompts`, with the special tokens that the tokenizer adds itself.

    The name of a special token in a prompt, such as `</s>`, is text like any other. The worker
    tokenises because it loads the library anyway, which would cost another process seconds.

    Raises:
        ValueError: a prompt has a begin-of-text token after its first token.
    """
    tokenizer = _load_tokenizer(weights)
    encoded = tokenizer(list(prompts), split_special_tokens=True)["input_ids"]
    begin = tokenizer.bos_token_id
    for prompt, tokens in zip(prompts, encoded, strict=True):
        if begin is not None and begin in tokens[1:]:
            raise ValueError(
                f"prompt {prompt[:60]!r}...: the token {tokenizer.bos_token!r} stands after its "
                "begin; correct the tokenizer of the model"
            )
    return encoded


@cache
def _load_tokenizer(weights: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(weights, local_files_only=True, trust_remote_code=False)


def import_vllm() -> None:
    """Import what an engine needs, while the parent still reads tables."""
    with collection_paused():
        import vllm
        from vllm.lora.request import LoRARequest  # noqa: F401

        _ = vllm.EngineArgs, vllm.LLMEngine, vllm.SamplingParams


def choose_devices(environment: MutableMapping[str, str]) -> None:
    """Narrow CUDA_VISIBLE_DEVICES to the part that DEVICES names, before CUDA is first used.

    Raises:
        ValueError: fewer GPUs are visible.
    """
    if DEVICES not in environment:
        return
    first, end = map(int, environment[DEVICES].split(":"))
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else [str(index) for index in range(end)]
    if len(devices) < end:
        raise ValueError(f"{len(devices)} GPU(s) are visible, the engine's end with number {end}")
    environment["CUDA_VISIBLE_DEVICES"] = ",".join(devices[first:end])


def make_temporary_folder(environment: MutableMapping[str, str]) -> None:
    """Make the folder that TEMPORARY names, for all temporary files of this process.

    Raises:
        FileExistsError: it is there already.
    """
    if not (folder := environment.get(TEMPORARY)):
        return
    # torch compiles kernels into a temporary folder, and other engines use them too.
    kernels = Path(tempfile.gettempdir(), f"torchinductor_{os.getuid()}")
    environment.setdefault("TORCHINDUCTOR_CACHE_DIR", str(kernels))
    os.makedirs(folder, 0o700)
    environment["TMPDIR"] = tempfile.tempdir = folder


def remove_temporary_folder(environment: Mapping[str, str]) -> None:
    """Remove the folder that `make_temporary_folder` made."""
    if folder := environment.get(TEMPORARY):
        shutil.rmtree(folder, ignore_errors=True)


def run(
    start: Callable[[dict[str, Any]], Engine],
    tokenise: Tokeniser,
    prepare: Callable[[], None] = lambda: None,
) -> None:
    """Serve the messages of standard input, one JSON value a line.

    Args:
        start: makes an engine from its arguments.
        tokenise: see the function of this name.
        prepare: called once before the first message is answered.
    """
    # Ctrl-C reaches all processes of a terminal's group; the parent ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # output of libraries must not mix with the answers
    messages: queue.Queue[Message] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            messages.put(json.loads(line))
        remove_temporary_folder(os.environ)
        # The parent is gone. An engine may be another process of this group, so end them all.
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    def receive(wait: bool) -> Message | None:
        try:
            return messages.get(block=wait)
        except queue.Empty:
            return None

    def send(answer: Message) -> None:
        answers.write(json.dumps(answer) + "\n")

    threading.Thread(target=read, daemon=True).start()
    try:
        choose_devices(os.environ)
        make_temporary_folder(os.environ)
        prepare()
        serve(receive, send, start, tokenise)
    except Exception as error:
        traceback.print_exc()
        send({"error": f"{type(error).__name__}: {error}".splitlines()[0]})
        sys.stderr.flush()
        remove_temporary_folder(os.environ)
        os._exit(1)
    remove_temporary_folder(os.environ)
    # With vLLM loaded, the interpreter takes seconds to shut down.
    answers.flush()
    os._exit(0)


if __name__ == "__main__":
    run(VllmEngine, tokenise, import_vllm)
