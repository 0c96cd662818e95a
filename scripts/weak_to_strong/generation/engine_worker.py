"""The process that holds a vLLM engine: `python -m weak_to_strong.generation.engine_worker`.

It reads one JSON message a line on standard input and answers on standard output:

- `{"tokenise": {"weights": folder, "prompts": [text]}}`: answer `{"tokens": [[token]]}`, or
  `{"refused": reason}` where `tokenise` raises ValueError;
- `{"engine": {...}}`: end the present engine, start one with these `EngineArgs`;
  answer `{"ready": seconds}`;
- `{"shard": id, "adapter": [name, number, path] | null, "sampling": {...}, "prompts": [[token]],
  "seeds": [[seed of each sample] of each prompt]}`: generate; several shards may be under way;
  answer `{"shard": id, "rows": [[text, finish reason, tokens]]}`, sample after sample of prompt
  after prompt;
- after each step in which samples ended, `{"progress": [samples, tokens, cached]}` since the
  engine's start: responses' tokens, and those of prompts that were in the prefix cache;
- on an error `{"error": one line}`, the traceback on standard error.

The end of standard input ends it at once, so a worker never outlives its parent. The variable
W2S_ENGINE_DEVICES, `first:end`, narrows the GPUs in sight: those of another node only it sees.
The module imports neither vLLM nor anything else heavy until it is needed.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

from weak_to_strong.jobs.imports import collection_paused

DEVICES = "W2S_ENGINE_DEVICES"

Message = dict[str, Any]
#: Folder of weights and prompts -> token ids.
Tokeniser = Callable[[str, Sequence[str]], list[list[int]]]


class Engine(Protocol):
    """What `serve` asks of an engine.

    Attributes:
        cached: tokens of prompts that the prefix cache spared, since its start.
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
        """Advance; return the samples that ended: (name, text, finish reason, tokens)."""

    def close(self) -> None:
        """Release the memory."""


class VllmEngine:
    """A vLLM engine that is fed continuously.

    `LLM.generate` would wait for the slowest sample of a batch before it took the next batch.

    Args:
        arguments: keywords of `vllm.EngineArgs`.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        from vllm import EngineArgs, LLMEngine

        # Imports leave a million objects that are never garbage, and vLLM collects four times.
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
        # It also thaws what was frozen, without which the weights and the cache would stay.
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
        receive: next message; waits for one if its argument is true, else may return None.
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
            try:
                send({"tokens": tokenise(**message["tokenise"])})
            except ValueError as error:
                send({"refused": str(error)})
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
            continue  # queue all that is there before the next step
        if not pending:
            continue
        touched: dict[int, _Shard] = {}
        for name, text, reason, length in engine.step():
            shard_id, index = map(int, name.split("-"))
            touched[shard_id] = pending[shard_id]
            touched[shard_id].rows[index] = [text, reason, length]
            samples, tokens = samples + 1, tokens + length
        if touched:
            send({"progress": [samples, tokens, engine.cached]})
        for shard_id, shard in touched.items():
            if len(shard.rows) == shard.samples:
                rows = [shard.rows[index] for index in range(shard.samples)]
                send({"shard": shard_id, "rows": rows})
                del pending[shard_id]
    if engine:
        engine.close()


def _submit(engine: Engine, message: Message, pending: dict[int, _Shard]) -> None:
    index = 0
    for prompt, seeds in zip(message["prompts"], message["seeds"], strict=True):
        for seed in seeds:
            name = f"{message['shard']}-{index}"
            engine.add(name, prompt, seed, message["sampling"], message["adapter"])
            index += 1
    pending[message["shard"]] = _Shard(index)


def tokenise(weights: str, prompts: Sequence[str]) -> list[list[int]]:
    """Token ids of `prompts`, with the special tokens that the tokenizer adds itself.

    The name of a special token in a prompt, such as `</s>`, is text like any other. It runs here
    since its library is loaded here anyway: seconds for a process of its own.

    Raises:
        ValueError: a prompt has its begin-of-text token twice or elsewhere than in front.
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

    return AutoTokenizer.from_pretrained(weights, local_files_only=True)


def import_vllm() -> None:
    """Import what an engine needs, while the parent still reads its tables."""
    with collection_paused():
        import vllm
        from vllm.lora.request import LoRARequest  # noqa: F401

        _ = vllm.EngineArgs, vllm.LLMEngine, vllm.SamplingParams


def choose_devices(environment: MutableMapping[str, str]) -> None:
    """Narrow CUDA_VISIBLE_DEVICES to the part that DEVICES names; before CUDA is first used.

    Raises:
        ValueError: fewer are in sight.
    """
    if DEVICES not in environment:
        return
    first, end = map(int, environment[DEVICES].split(":"))
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else [str(index) for index in range(end)]
    if len(devices) < end:
        raise ValueError(f"{len(devices)} GPU(s) are visible, the engine's end with number {end}")
    environment["CUDA_VISIBLE_DEVICES"] = ",".join(devices[first:end])


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
    # Ctrl-C reaches a terminal's whole group; the parent ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    messages: queue.Queue[Message] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            messages.put(json.loads(line))
        # The parent is gone: nobody wants the rest, of which an engine may be another process.
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
        prepare()
        serve(receive, send, start, tokenise)
    except Exception as error:
        traceback.print_exc()
        send({"error": f"{type(error).__name__}: {error}".splitlines()[0]})
        sys.stderr.flush()
        os._exit(1)
    # Ending by the interpreter's own tear-down takes vLLM seconds.
    answers.flush()
    os._exit(0)


if __name__ == "__main__":
    run(VllmEngine, tokenise, import_vllm)
