"""Worker processes that hold the engines of a generation round, and how they share the work.

An engine serves one set of base weights. A worker process (`engine_worker`) holds one engine at a
time. Workers exit when their parent exits. On a GPU a worker also exits with its engine: only that
surely frees the GPU's memory. srun starts a worker on another node of a SLURM job, with the same
pipes.
"""

from __future__ import annotations

import json
import logging
import math
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weak_to_strong.generation.engine_worker import TEMPORARY
from weak_to_strong.jobs.allocation import Allocation, step_command
from weak_to_strong.jobs.child_processes import start_child
from weak_to_strong.jobs.errors import ProcessDied
from weak_to_strong.jobs.secret_values import hide_secrets
from weak_to_strong.jobs.work_notes import WorkNote, note_work

logger = logging.getLogger("weak_to_strong")

WORKER = (sys.executable, "-m", "weak_to_strong.generation.engine_worker")
#: Seconds between two lines of progress.
LOG_SECONDS = 5.0
#: Seconds that srun has to end its task on another node. A killed srun would leave the task there.
STEP_SECONDS = 10.0
#: Most bytes of a folder's path in which a worker's folder may be: of 107 for a socket, 21 are for
#: the worker's folder and 37 for the socket's name.
LONGEST_FOLDER = 49
#: Advice where an engine's log has CUDA's message. By default an engine has one GPU.
OUT_OF_GPU_MEMORY = (
    ": raise the resource `tensor_parallel_size` of `generate` (--set-resources "
    "generate:tensor_parallel_size=2) or lower its `max_num_seqs`"
)


@dataclass(frozen=True)
class Shard:
    """Prompts of one request that are generated together.

    Attributes:
        number: unique number of the shard in the round.
        message: makes the worker's message without `shard` (see `engine_worker`). It is called when
            the message is sent, so that only shards under way have their prompts in memory.
        samples: number of samples in the shard.
    """

    number: int
    message: Callable[[], dict[str, Any]]
    samples: int


@dataclass
class EngineWork:
    """All shards that one engine can serve.

    Attributes:
        arguments: keyword arguments of `vllm.EngineArgs`.
        shards: shards that no worker has yet.
        claimed: whether a worker serves it.
        samples: number of samples in all shards at the start.
    """

    arguments: dict[str, Any]
    shards: deque[Shard]
    claimed: bool = False
    samples: int = field(init=False)

    def __post_init__(self) -> None:
        self.samples = sum(shard.samples for shard in self.shards)


def temporary_place() -> Path:
    """Where a worker's folder for temporary files will be.

    vLLM's sockets are in the folder, and the system limits the length of their paths. So a long
    TMPDIR, as some clusters have, is left for `/tmp`.
    """
    folder = tempfile.gettempdir()
    if len(os.fsencode(folder)) > LONGEST_FOLDER:
        folder = "/tmp"
    return Path(folder, f"w2s-{secrets.token_hex(8)}")


class Worker:
    """One worker process and its two pipes, and the processes of its engine on further nodes.

    Args:
        command: how to start it.
        environment: variables to set for it, see `child_environment`.
        log: file of its standard error, overwritten.
        step: beginning of a command that starts it as a SLURM step. Empty: on this machine.
        followers: processes of the engine on further nodes. They end with this one.
        next_node: name of a further node; None where all are on this machine.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        step: Sequence[str] = (),
        followers: Sequence[Worker] = (),
        next_node: str | None = None,
    ) -> None:
        self._is_step = bool(step)
        self._followers = followers
        self._next_node = next_node
        self._ended_follower: str | None = None
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        self._temporary = temporary_place()
        with log.open("wb") as stderr:
            self._process = start_child(
                [*step, *command],
                {**environment, TEMPORARY: str(self._temporary)},
                stdin=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,  # so that kill() reaches the engine's own children
            )

    def send(self, message: dict[str, Any]) -> None:
        """Send a message.

        Raises:
            ProcessDied: the worker has ended; names its log file.
        """
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise self._death() from None

    def start_engine(self, arguments: dict[str, Any]) -> float:
        """Start an engine, with the further nodes if it has any; return the seconds that it took.

        Raises:
            ProcessDied: a process has ended; names its log file.
            RuntimeError: the worker failed; names its log file.
        """
        if self._followers:
            self.send({"meeting": self._next_node})
            host, port = self.receive()["meeting"]
            arguments = {
                **arguments,
                "nnodes": len(self._followers) + 1,
                "node_rank": 0,
                "master_addr": host,
                "master_port": port,
            }
        for rank, follower in enumerate(self._followers, 1):
            follower.send({"engine": {**arguments, "node_rank": rank}})
            threading.Thread(target=self._watch, args=(follower,), daemon=True).start()
        self.send({"engine": arguments})
        return self.receive()["ready"]

    def _watch(self, follower: Worker) -> None:
        """End the engine when a process of it on another node ends. It would wait for ever."""
        try:
            follower.receive()
        except (RuntimeError, OSError) as error:
            self._ended_follower = str(error)
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def receive(self) -> dict[str, Any]:
        """Wait for the next answer.

        Raises:
            ProcessDied: the worker has ended; names its log file.
            RuntimeError: the worker failed; names its log file.
        """
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise self._death()
        answer = json.loads(line)
        if "error" in answer:
            reason = hide_secrets(answer["error"]) + self._advice(self._read_log())
            raise RuntimeError(f"generation failed: {reason} (see {self._log})")
        return answer

    def stop(self) -> None:
        """Ask the worker to end, and wait until it has."""
        self.send({"stop": True})
        self._process.wait()
        for follower in self._followers:
            follower.kill()

    def kill(self) -> None:
        """End the worker and its children now, on all of its nodes."""
        for follower in self._followers:
            follower.kill()
        if self._is_step and self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STEP_SECONDS)
        self._end_group()

    def _end_group(self) -> int:
        """Kill all processes of the worker's group; return the worker's exit status.

        On a GPU the engine is a process of its own, which outlives a dead worker and keeps the GPU.
        Until this process waits for the worker, no other process can get the worker's number.
        """
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        status = self._process.wait()
        # A worker that was killed could not do it.
        shutil.rmtree(self._temporary, ignore_errors=True)
        return status

    def _death(self) -> ProcessDied:
        if self._ended_follower:
            return ProcessDied(f"a further node of the engine: {self._ended_follower}")
        if self._process.returncode is None:
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        status = self._end_group()
        log = self._read_log()
        lines = reversed(log.split("\n"))
        last = next((line.strip() for line in lines if line.strip()), "no message")
        reason = (
            "killed, which mostly means out of memory: lower the resource `max_num_seqs` or "
            "`engine_processes` of `generate`"
            if status == -signal.SIGKILL
            else f"exit status {status}: {hide_secrets(last)}{self._advice(log)}"
        )
        return ProcessDied(f"the engine's process ended ({reason}; see {self._log})")

    def _read_log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    @staticmethod
    def _advice(log: str) -> str:
        # On a GPU the engine is a process of its own, and the worker only says that it ended.
        return OUT_OF_GPU_MEMORY if "CUDA out of memory" in log else ""


class EnginePool:
    """Workers that serve a round, as a context manager: leaving it kills what still runs.

    The processes start on entry, so that they import vLLM while the caller prepares the prompts.

    Args:
        processes: number of worker processes.
        environments: variables to set for each worker.
        logs: folder for the workers' log files.
        fresh: start a new process for every engine.
        max_num_seqs: samples that an engine runs at once.
        command: how to start a worker.
        allocation: GPUs of the SLURM job, or None. On several nodes the workers are spread evenly.
        engine_nodes: nodes of each engine. Above 1 an engine has them alone, and new processes.

    Attributes:
        engine_loads: engines started so far.
        start_seconds: seconds that their starts took, summed.
    """

    def __init__(
        self,
        processes: int,
        environments: Sequence[Mapping[str, str]],
        logs: Path,
        *,
        fresh: bool,
        max_num_seqs: int,
        command: Sequence[str] = WORKER,
        allocation: Allocation | None = None,
        engine_nodes: int = 1,
    ) -> None:
        self._allocation = allocation
        self._engine_nodes = engine_nodes
        self._processes = processes
        self._environments = environments
        self._logs = logs
        self._fresh = fresh or engine_nodes > 1
        self._max_num_seqs = max_num_seqs
        self._command = command
        self._workers: list[Worker] = []
        #: For each worker: samples, their tokens, and prompts' tokens found in the prefix cache.
        self._progress = [(0, 0, 0)] * processes
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self.engine_loads = 0
        self.start_seconds = 0.0

    def __enter__(self) -> EnginePool:
        self._workers = [self._start(index) for index in range(self._processes)]
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.kill()

    def tokenise(self, weights: str, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of `prompts` from the first worker, before `run`; see `engine_worker.tokenise`.

        Raises:
            ValueError: the tokenizer does not suit a prompt.
            RuntimeError: the worker failed or died.
        """
        return self._ask({"tokenise": {"weights": weights, "prompts": list(prompts)}})["tokens"]

    def tokenise_chats(
        self, weights: str, chats: Sequence[Any], chat: Mapping[str, Any]
    ) -> tuple[list[list[int]], int]:
        """The same for the messages of chats, and the id that ends an answer.

        See `engine_worker.tokenise_chats`.
        """
        answer = self._ask({"chat": {"weights": weights, "chats": chats, "chat": chat}})
        return answer["tokens"], answer["end"]

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """The first worker's answer to a message about tokens."""
        worker = self._workers[0]
        worker.send(message)
        answer = worker.receive()
        if "refused" in answer:
            raise ValueError(answer["refused"])
        return answer

    def run(
        self, work: Sequence[EngineWork], finish: Callable[[int, list[list[Any]]], None]
    ) -> None:
        """Generate all shards of `work`, and call `finish(number, rows)` as each of them ends.

        Other threads call `finish`, one call at a time.

        Raises:
            RuntimeError: a worker failed or died.
        """
        total = sum(engine.samples for engine in work)
        threads = [
            threading.Thread(target=self._drive, args=(index, work, finish), daemon=True)
            for index in range(self._processes)
        ]
        began = time.monotonic()
        logged = began
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) and not self._failure:
            threads[0].join(0.2) if threads[0].is_alive() else time.sleep(0.2)
            if time.monotonic() - logged >= LOG_SECONDS:
                logged = time.monotonic()
                self._log(total, logged - began)
        if self._failure:
            raise self._failure

    @property
    def cached_tokens(self) -> int:
        """Tokens of prompts that the prefix cache had, so that they needed no computation."""
        return sum(cached for _, _, cached in self._progress)

    def _log(self, total: int, seconds: float) -> None:
        samples, tokens, _ = (sum(column) for column in zip(*self._progress, strict=True))
        logger.info(
            "generated %d of %d samples, %d tokens, %.0f tokens/s with the engine's start",
            samples,
            total,
            tokens,
            tokens / seconds,
        )
        note_work(WorkNote(done=samples, total=total, tokens=tokens))

    def _start(self, index: int) -> Worker:
        nodes = self._allocation.nodes if self._allocation else ()
        first = index * len(nodes) // self._processes
        followers = [
            self._start_process(index, f"engine-{index}-node-{rank}.log", nodes, first + rank)
            for rank in range(1, self._engine_nodes)
        ]
        next_node = nodes[first + 1] if nodes and followers else None
        log = f"engine-{index}.log"
        return self._start_process(index, log, nodes, first, followers, next_node)

    def _start_process(
        self, index: int, log: str, nodes: Sequence[str], place: int, *further: Any
    ) -> Worker:
        """A process of an engine, on the node of this place in `nodes` if there are any."""
        step = step_command(self._allocation, [nodes[place]]) if nodes else []
        return Worker(self._command, self._environments[index], self._logs / log, step, *further)

    def _claim(self, work: Sequence[EngineWork]) -> EngineWork | None:
        """The largest engine that no worker serves, else the one with the most shards left."""
        with self._lock:
            free = [engine for engine in work if not engine.claimed and engine.shards]
            best = max(free, key=lambda engine: engine.samples, default=None)
            if best is None:
                # One shard is too little work to load the weights a second time.
                shared = [engine for engine in work if len(engine.shards) > 1]
                best = max(shared, key=lambda engine: len(engine.shards), default=None)
            if best is not None:
                best.claimed = True
            return best

    def _drive(
        self,
        index: int,
        work: Sequence[EngineWork],
        finish: Callable[[int, list[list[Any]]], None],
    ) -> None:
        try:
            first = True
            while not self._failure and (engine := self._claim(work)):
                if self._fresh and not first:
                    self._workers[index].stop()
                    self._workers[index] = self._start(index)
                first = False
                self._serve(index, engine, finish)
        except BaseException as error:
            self._failure = self._failure or error

    def _serve(
        self, index: int, engine: EngineWork, finish: Callable[[int, list[list[Any]]], None]
    ) -> None:
        shard = self._next(engine)
        if shard is None:
            return
        worker = self._workers[index]
        seconds = worker.start_engine(engine.arguments)
        with self._lock:
            self.engine_loads += 1
            self.start_seconds += seconds
        # Send enough to keep the engine full, and leave shards for other workers. The window counts
        # samples, not shards: one long answer delays its shard, and must not delay the engine.
        share = math.ceil(engine.samples / self._processes)
        window = min(2 * self._max_num_seqs, share)
        before = self._progress[index]
        sent = ended = 0
        under_way: set[int] = set()
        while shard or under_way:
            if shard:
                worker.send({**shard.message(), "shard": shard.number})
                under_way.add(shard.number)
                sent += shard.samples
            else:
                answer = worker.receive()
                if "progress" in answer:
                    ended = answer["progress"][0]
                    sums = zip(before, answer["progress"], strict=True)
                    self._progress[index] = tuple(map(sum, sums))
                else:
                    under_way.remove(answer["shard"])
                    with self._lock:
                        finish(answer["shard"], answer["rows"])
            shard = self._next(engine) if sent - ended < window else None

    def _next(self, engine: EngineWork) -> Shard | None:
        with self._lock:
            return engine.shards.popleft() if engine.shards else None
