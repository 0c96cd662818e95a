"""Worker processes that hold the engines of a generation round, and the sharing of work among them.

An engine serves one set of base weights. Worker processes (`engine_worker`) keep the memory of
engines apart, survive nothing that the parent does not, and on a GPU end with their engine, which
is the only sure way to get its memory back. A worker on another node of a SLURM job is the same
process with the same pipes, which srun brings there.
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weak_to_strong.jobs.allocation import Allocation, step_command
from weak_to_strong.jobs.child_processes import start_child
from weak_to_strong.jobs.errors import ProcessDied
from weak_to_strong.jobs.secret_values import hide_secrets

logger = logging.getLogger("weak_to_strong")

WORKER = (sys.executable, "-m", "weak_to_strong.generation.engine_worker")
LOG_SECONDS = 5.0
#: Time that srun has to end its task on another node; killed at once, it would leave it there.
STEP_SECONDS = 10.0
#: What to do where an engine's log has CUDA's message; an engine on one GPU is the default.
OUT_OF_GPU_MEMORY = (
    ": raise the resource `tensor_parallel_size` of `generate` (--set-resources "
    "generate:tensor_parallel_size=2) or lower its `max_num_seqs`"
)


@dataclass(frozen=True)
class Shard:
    """Prompts of one request to be generated together.

    Attributes:
        number: unique number of the shard in the round.
        message: makes the worker's message without `shard` (see `engine_worker`), when it is sent.
        samples: number of samples in it.
    """

    number: int
    message: Callable[[], dict[str, Any]]
    samples: int


@dataclass
class EngineWork:
    """All shards that one engine can serve.

    Attributes:
        arguments: keywords of `vllm.EngineArgs`.
        shards: what is still to be sent.
    """

    arguments: dict[str, Any]
    shards: deque[Shard]
    claimed: bool = False
    samples: int = field(init=False)

    def __post_init__(self) -> None:
        self.samples = sum(shard.samples for shard in self.shards)


class Worker:
    """One worker process and its two pipes.

    Args:
        command: how to start it.
        environment: variables to add to those of this process, of which secrets are left out: it
            needs no network, and what it prints goes to its log as it is.
        log: file for its standard error, overwritten.
        step: front of the command that starts it as a SLURM step; none: it runs on this machine.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        step: Sequence[str] = (),
    ) -> None:
        self._is_step = bool(step)
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        with log.open("wb") as stderr:
            self._process = start_child(
                [*step, *command],
                environment,
                stdin=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,  # so that kill() reaches the engine's own children
            )

    def send(self, message: dict[str, Any]) -> None:
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise self._death() from None

    def receive(self) -> dict[str, Any]:
        """Next answer.

        Raises:
            ProcessDied: the worker is gone; names its log file.
            RuntimeError: it failed; names its log file.
        """
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise self._death()
        answer = json.loads(line)
        if "error" in answer:
            said = hide_secrets(answer["error"]) + self._advice(self._read_log())
            raise RuntimeError(f"generation failed: {said} (see {self._log})")
        return answer

    def stop(self) -> None:
        """Let it end in order and wait for it."""
        self.send({"stop": True})
        self._process.wait()

    def kill(self) -> None:
        """End it and its children now."""
        if self._is_step and self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STEP_SECONDS)
        self._end_group()

    def _end_group(self) -> int:
        """End what is left of the worker's processes; its own exit status.

        A dead worker's engine lives on where it is a process of its own, and keeps its GPU. While
        the worker is not waited for, nobody else can have its number.
        """
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait()

    def _death(self) -> ProcessDied:
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
        # On GPUs the engine is a process of its own, and the worker's error only names that.
        return OUT_OF_GPU_MEMORY if "CUDA out of memory" in log else ""


class EnginePool:
    """Workers that serve a round. Use as a context manager: leaving it kills what still runs.

    The processes start on entry, so that their imports overlap with the caller's preparation.

    Args:
        processes: number of worker processes.
        environments: variables of each worker.
        logs: folder for the workers' log files.
        fresh: start a new process for every engine.
        max_num_seqs: samples that an engine runs at once.
        command: how to start a worker.
        allocation: of the SLURM job; where it has several nodes, the workers are spread evenly over
            them. Without one, all run here.
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
    ) -> None:
        self._allocation = allocation
        self._processes = processes
        self._environments = environments
        self._logs = logs
        self._fresh = fresh
        self._max_num_seqs = max_num_seqs
        self._command = command
        self._workers: list[Worker] = []
        #: Of each worker: samples, their tokens, and prompts' tokens that were in the prefix cache.
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
        """Token ids of `prompts` by the first worker, see `engine_worker.tokenise`; before `run`.

        Raises:
            ValueError: a prompt is refused.
            RuntimeError: the worker failed or died.
        """
        worker = self._workers[0]
        worker.send({"tokenise": {"weights": weights, "prompts": list(prompts)}})
        answer = worker.receive()
        if "refused" in answer:
            raise ValueError(answer["refused"])
        return answer["tokens"]

    def run(
        self, work: Sequence[EngineWork], finish: Callable[[int, list[list[Any]]], None]
    ) -> None:
        """Generate all shards of `work`; `finish(number, rows)` is called as each ends.

        `finish` is called from other threads, one call at a time.

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
        """Tokens of prompts that needed no computation, as their beginning had been seen before."""
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

    def _start(self, index: int) -> Worker:
        log = self._logs / f"engine-{index}.log"
        step: list[str] = []
        if self._allocation and (nodes := self._allocation.nodes):
            step = step_command(self._allocation, [nodes[index * len(nodes) // self._processes]])
        return Worker(self._command, self._environments[index], log, step)

    def _claim(self, work: Sequence[EngineWork]) -> EngineWork | None:
        """The largest engine that nobody serves, else the one with the most shards left."""
        with self._lock:
            free = [engine for engine in work if not engine.claimed and engine.shards]
            best = max(free, key=lambda engine: engine.samples, default=None)
            if best is None:
                # Loading a second copy of the weights for a single shard does not pay.
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
        worker.send({"engine": engine.arguments})
        seconds = worker.receive()["ready"]
        with self._lock:
            self.engine_loads += 1
            self.start_seconds += seconds
        # Enough to keep the engine full, not so much that other processes find nothing. Samples
        # count, not shards: one long answer holds up its shard, and must not hold up the engine.
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
