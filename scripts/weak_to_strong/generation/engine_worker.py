"""The process that holds a vLLM engine: `python -m weak_to_strong.generation.engine_worker`.

It reads one JSON message a line on standard input and answers on standard output:

- `{"tokenise": {"weights": folder, "prompts": [text]}}`: answer `{"tokens": [[token]]}`, or
  `{"refused": reason}` where `tokenise` raises ValueError;
- `{"chat": {"weights": folder, "chats": [[message]], "chat": {...}}}`: the same for the messages
  of chats, see `tokenise_chats`; answer `{"tokens": [[token]], "end": token}`, or `{"refused":
  reason}`;
- `{"meeting": node}`: where the other processes of an engine on several nodes find this one; answer
  `{"meeting": [address, port]}`. `node` is one of theirs, or null where all are on one machine;
- `{"engine": {...}}`: close the present engine, start one with these `EngineArgs`; answer
  `{"ready": seconds}`. With a `node_rank` above 0 this process serves the layers of its node, as
  part of another process's engine, and answers no more;
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
removes (a vLLM engine leaves a file `vllm_dist_*`). The variable W2S_ENGINE_CODE has the digest of
the code under which texts are stored; a worker that has imported other code ends at once. vLLM and
other large libraries are imported only when they are needed.
"""

from __future__ import annotations

import gc
import json
import math
import os
import queue
import shutil
import signal
import socket
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

from weak_to_strong.jobs.allocation import own_address
from weak_to_strong.jobs.code_digest import has_digest
from weak_to_strong.jobs.imports import collection_paused
from weak_to_strong.jobs.temporary_folders import hold_folder

DEVICES, TEMPORARY, CODE = "W2S_ENGINE_DEVICES", "W2S_ENGINE_TMP", "W2S_ENGINE_CODE"
#: The script whose code, with all that it reaches, the texts depend on.
SERVING_SCRIPT = Path(__file__).parents[2] / "generate.py"

#: The files of an adapter.
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
#: Where an adapter is tried: most tokens of the prompt, and number of likeliest tokens after it.
TRIED_TOKENS, TRIED_LOGPROBS = 64, 20
#: Added to the number of an adapter for its larger copy.
LARGER = 10**6

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

    An adapter is tried before its first sample: what the engine writes with it must differ from
    what it writes without (`_check_adapter`).

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
        self._checked: set[str] = set()
        #: Samples that ended while an adapter was tried.
        self._ended: list[tuple[str, str, str, int]] = []

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

        if adapter and adapter[0] not in self._checked:
            self._check_adapter(adapter, prompt)
            self._checked.add(adapter[0])
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
        if self._ended:
            ended, self._ended = self._ended, []
            yield from ended
            return
        yield from map(self._count, self._finished())

    def _finished(self) -> Iterator[Any]:
        """Outputs of the samples that end in the next step."""
        return (output for output in self._engine.step() if output.finished)

    def _count(self, output: Any) -> tuple[str, str, str, int]:
        """A sample as `step` returns it."""
        sample = output.outputs[0]
        self.cached += output.num_cached_tokens or 0
        return output.request_id, sample.text, sample.finish_reason, len(sample.token_ids)

    def _check_adapter(self, adapter: list[Any], prompt: list[int]) -> None:
        """Check that an adapter acts: that the engine writes other text with it than without.

        vLLM loads an adapter whose layers it does not find in its model, and ignores it (vLLM issue
        48019). An adapter of zeros, as of a training whose only update had a learning rate of 0,
        changes nothing. One of tiny numbers may change nothing that can be seen; then it is tried
        once more, made larger.

        Args:
            adapter: name, number and folder.
            prompt: tokens of any prompt.

        Raises:
            ValueError: it does not; names the folder of the adapter.
        """
        name, number, folder = adapter
        largest = largest_weight(Path(folder))
        if not largest or self._acts([name, number, folder], prompt):
            return
        place = Path(folder, ADAPTER_CONFIG).resolve().parent
        # Beside the view of the adapter, which all nodes of an engine see.
        view = Path(folder)
        part = {"prefix": f".{view.name}.", "suffix": ".part", "dir": view.parent}
        with tempfile.TemporaryDirectory(**part) as larger:
            enlarge_adapter(view, Path(larger), 1 / largest)
            acts = self._acts([f"{name}-larger", LARGER + number, larger], prompt)
            self._engine.remove_lora(LARGER + number)
        if acts:
            print(f"{place}: this adapter changes too little to be seen", file=sys.stderr)
            return
        raise ValueError(
            f"{place}: vLLM ignores this adapter, so that its texts would be those of the base "
            "model; vLLM does not find the adapter's layers in its own model. Train with `adapter: "
            "full`, or use a base model of another architecture"
        )

    def _acts(self, adapter: list[Any], prompt: list[int]) -> bool:
        """Whether the likelihoods of the tokens after a prompt change with the adapter.

        On a GPU the likelihoods of two equal samples may differ by rounding. So what the adapter
        changes must be clearly more.
        """
        from vllm import SamplingParams
        from vllm.lora.request import LoRARequest
        from vllm.sampling_params import RequestOutputKind

        tries = {"with": LoRARequest(*adapter), "without": None, "once more": None}
        seen: dict[str, dict[int, float]] = {}
        for kind, lora in tries.items():
            self._engine.add_request(
                kind,
                # With a salt of its own, so that it takes and leaves nothing in the prefix cache.
                {"prompt_token_ids": prompt[:TRIED_TOKENS], "cache_salt": f"{adapter[0]}-{kind}"},
                SamplingParams(
                    temperature=0,
                    max_tokens=1,
                    logprobs=TRIED_LOGPROBS,
                    output_kind=RequestOutputKind.FINAL_ONLY,
                ),
                lora_request=lora,
            )
        while len(seen) < len(tries):
            for output in self._finished():
                if output.request_id in tries:
                    likelihoods = output.outputs[0].logprobs[0].items()
                    seen[output.request_id] = {token: entry.logprob for token, entry in likelihoods}
                else:
                    self._ended.append(self._count(output))
        rounding = largest_difference(seen["without"], seen["once more"])
        return largest_difference(seen["with"], seen["without"]) > 10 * rounding

    def close(self) -> None:
        from vllm.distributed import cleanup_dist_env_and_memory

        self._engine.engine_core.shutdown()
        del self._engine
        # It also unfreezes objects. Frozen ones would keep the weights and the cache in memory.
        cleanup_dist_env_and_memory()


def largest_difference(first: Mapping[int, float], second: Mapping[int, float]) -> float:
    """Largest difference of the log-likelihoods of tokens that both have; infinite without any."""
    differences = [abs(first[token] - second[token]) for token in first.keys() & second.keys()]
    finite = differences and all(map(math.isfinite, differences))
    return max(differences) if finite else math.inf


def largest_weight(adapter: Path) -> float:
    """Largest absolute number in the second factors of an adapter; 0 where it changes nothing.

    A new adapter of peft has zeros there and random numbers in the first factors.
    """
    from safetensors import safe_open

    with safe_open(adapter / ADAPTER_WEIGHTS, framework="pt") as file:
        names = [name for name in file.keys() if ".lora_B." in name]  # noqa: SIM118 - no mapping
        return max((file.get_tensor(name).abs().max().item() for name in names), default=0.0)


def enlarge_adapter(adapter: Path, folder: Path, factor: float) -> None:
    """Write the adapter to another folder with its scale multiplied by `factor`."""
    (folder / ADAPTER_WEIGHTS).symlink_to((adapter / ADAPTER_WEIGHTS).resolve())
    config = json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    config["lora_alpha"] *= factor
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config), encoding="utf-8")


def start_engine(arguments: dict[str, Any]) -> Engine:
    """A vLLM engine in this process, or this node's part of another process's engine.

    Args:
        arguments: keyword arguments of `vllm.EngineArgs`. With `nnodes` the engine is on several
            nodes, and `node_rank` is the number of this one.

    Raises:
        RuntimeError: this node's part of an engine has ended.
    """
    if "nnodes" in arguments:
        # vLLM's message queues listen at this address. Its default depends on a route to the world.
        leader = arguments["master_addr"]
        address = leader if not arguments["node_rank"] else own_address(leader)
        os.environ["VLLM_HOST_IP"] = address
    if arguments.get("node_rank"):
        from vllm import EngineArgs
        from vllm.v1.executor.multiproc_executor import MultiprocExecutor

        # As `vllm serve --headless` does on the further nodes of an engine.
        config = EngineArgs(**arguments).create_engine_config(headless=True)
        MultiprocExecutor(config, monitor_workers=False).start_worker_monitor(inline=True)
        raise RuntimeError("the engine's processes on this node have ended")
    return VllmEngine(arguments)


def meeting_place(other_node: str | None) -> list[Any]:
    """Address of this machine as another node reaches it, and a free port.

    Args:
        other_node: name of the other node; None for processes on this machine.
    """
    address = own_address(other_node) if other_node else "127.0.0.1"
    with socket.socket() as probe:
        probe.bind((address, 0))
        return list(probe.getsockname())


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
        if message and "chat" in message:
            send(_chats_answer(message["chat"]))
            continue
        if message and "meeting" in message:
            send({"meeting": meeting_place(message["meeting"])})
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


def _chats_answer(request: Mapping[str, Any]) -> Message:
    try:
        tokens, end = tokenise_chats(**request)
        return {"tokens": tokens, "end": end}
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


def tokenise_chats(
    weights: str, chats: Sequence[Sequence[dict[str, str]]], chat: Mapping[str, Any]
) -> tuple[list[list[int]], int]:
    """Token ids of chats with the beginning of the assistant's turn, and the id that ends it.

    Args:
        weights: folder of weights.
        chats: messages of each chat.
        chat: fields of `ChatFormat`.

    Raises:
        ValueError: see `chat_tokens.ChatTokens`.
    """
    maker = _chat_tokens(weights, json.dumps(chat, sort_keys=True))
    return maker.prompts(chats), maker.end


@cache
def _chat_tokens(weights: str, chat: str) -> Any:
    from weak_to_strong.models.chat_format import ChatFormat
    from weak_to_strong.models.chat_tokens import ChatTokens

    return ChatTokens(_load_tokenizer(weights), ChatFormat(**json.loads(chat)))


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
    hold_folder(Path(folder))
    environment["TMPDIR"] = tempfile.tempdir = folder


def remove_temporary_folder(environment: Mapping[str, str]) -> None:
    """Remove the folder that `make_temporary_folder` made."""
    if folder := environment.get(TEMPORARY):
        shutil.rmtree(folder, ignore_errors=True)


def run_worker(
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
    if CODE in os.environ and not has_digest(SERVING_SCRIPT, os.environ[CODE]):
        print("the code was edited while the round started; run again", file=sys.stderr)
        sys.exit(1)
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
    run_worker(start_engine, tokenise, import_vllm)
