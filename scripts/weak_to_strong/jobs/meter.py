"""What a job takes: time, processors, memory and GPUs, measured by one sampler in its own process.

`Meter` is put around a job's work. Its thread looks once a second at the process and all below it,
and through NVML (where `pynvml` is installed and there is a device) at the GPUs that these hold.

Wall and CPU time begin with the process, imports included. CPU time is the kernel's account: of
this process, of the children that it has waited for - the killed ones too - and of those that still
run. It lacks grandchildren whose parent was killed, as an engine's own processes are, for nobody
waits for those. The samples have them, up to a second each, but not what lived between two samples.
Neither counts too much, so the larger sum is taken.

Memory is the largest sum of resident sets, in which pages that processes share count for each. The
kernel's peak of single processes is below it, so a job without a sample has a figure too.

A GPU counts from sample to sample while a process of the job is on it.

In a SLURM job on several nodes the work is done in steps, which are below SLURM's daemons and not
this process, on its own node too. There only the wall time is the whole job's, and GPUs are not
told; SLURM's records have everything (`slurm_costs.py`).
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import resource
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

logger = logging.getLogger("weak_to_strong")

#: Time (seconds) from one sample to the next; longer where samples would take more than SHARE of
#: a core, as on a machine with very many processes.
SECONDS, SHARE = 1.0, 0.01
#: How long (seconds) the end of a job waits for a sample, such as one in a driver that hangs.
LAST_SECONDS = 2.0
#: Command that starts processes elsewhere.
STEP = "srun"
MEGABYTE = 2**20
#: Of the kernel, a second.
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class Gpus:
    """The GPUs of this machine.

    Args:
        nvml: `pynvml`, or what acts like it; None: look whether it is there.
    """

    def __init__(self, nvml: Any | None = None) -> None:
        self._nvml = nvml
        self._devices: list[Any] = []
        #: Whether a process was on a GPU that has no such number here.
        self.strangers = False
        if nvml is None:
            with suppress(ImportError):  # by name, as machines without GPUs need not have it
                self._nvml = importlib.import_module("pynvml")
        if self._nvml is None:
            return
        with suppress(self._nvml.NVMLError):
            self._nvml.nvmlInit()
            for index in range(self._nvml.nvmlDeviceGetCount()):
                self._devices.append(self._nvml.nvmlDeviceGetHandleByIndex(index))

    def __bool__(self) -> bool:
        return bool(self._devices)

    def held_by(self, pids: set[int]) -> list[tuple[float, float | None]]:
        """Each GPU on which one of the processes is: their memory there (MB), and how busy it is.

        How busy is the share in [0, 1] of the driver's last period, of up to a second, in which
        anything ran on it; None where it does not tell, as for parts of a GPU.
        """
        found = []
        for device in self._devices:
            with suppress(self._nvml.NVMLError):
                there = self._nvml.nvmlDeviceGetComputeRunningProcesses(device)
                ours = [process for process in there if process.pid in pids]
                if not all(Path(f"/proc/{process.pid}").exists() for process in there):
                    self.strangers = True
                if ours:
                    found.append((self._memory(device, ours), self._busy(device)))
        return found

    def _memory(self, device: Any, processes: list[Any]) -> float:
        used = [process.usedGpuMemory for process in processes]
        if None in used:  # the driver does not tell it of single processes
            return self._nvml.nvmlDeviceGetMemoryInfo(device).used / MEGABYTE
        return sum(used) / MEGABYTE

    def _busy(self, device: Any) -> float | None:
        with suppress(self._nvml.NVMLError):
            return self._nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100
        return None


class Meter:
    """Measures a job from entry to exit, and fails none: what cannot be measured is None.

    Args:
        seconds: between samples.
        nvml: see `Gpus`.
    """

    def __init__(self, seconds: float = SECONDS, nvml: Any | None = None) -> None:
        self._seconds, self._nvml = seconds, nvml
        self._over = threading.Event()
        # A daemon: a driver that hangs must not hold up the end of the process.
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._gpus: Gpus | None = None
        self._peak = self._gpu_peak = 0.0
        self._held = self._told = self._busy = 0.0
        #: CPU seconds of each process seen below this one.
        self._seen: dict[Any, float] = {}
        self._below: list[Any] = []
        self._in_steps = False
        self._wall = self._cpu = 0.0

    def __enter__(self) -> Meter:
        self._age, self._began = process_age(), time.monotonic()
        self._waited = cpu_time(resource.RUSAGE_CHILDREN)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(LAST_SECONDS)
        self._wall = self._age + time.monotonic() - self._began
        self._cpu = self._cpu_seconds()
        self._peak = max(self._peak, peak_resident())

    def cost(self) -> dict[str, float | None]:
        """After the exit: wall_seconds, cpu_seconds, gpu_seconds (of all GPUs), gpu_utilisation
        (mean over these, in [0, 1]), peak_memory_mb, peak_gpu_memory_mb (largest sum over GPUs).

        Megabytes are 2**20 bytes. The figures of GPUs are None where none was seen to be there, or
        where it cannot be told whose processes are on them (SLURM's steps; a container with process
        ids of its own); the utilisation also where no GPU was held, or none tells it.
        """
        gpus = bool(self._gpus) and not self._in_steps
        gpus &= self._held > 0 or not (self._gpus and self._gpus.strangers)
        return {
            "wall_seconds": round(self._wall, 3),
            "cpu_seconds": round(self._cpu, 3),
            "gpu_seconds": round(self._held, 3) if gpus else None,
            "gpu_utilisation": round(self._busy / self._told, 4) if self._told else None,
            "peak_memory_mb": round(self._peak, 1),
            "peak_gpu_memory_mb": round(self._gpu_peak, 1) if gpus else None,
        }

    def _run(self) -> None:
        """Sample until the exit. The first one comes late: most jobs are done before it."""
        last, wait = time.monotonic(), self._seconds
        try:
            while not self._over.wait(wait):
                spent = time.thread_time()
                now = time.monotonic()
                self._sample(now - last)
                last = now
                wait = max(self._seconds, (time.thread_time() - spent) / SHARE)
        except Exception as error:
            logger.warning("not all that this job takes is measured: %r", error)

    def _sample(self, seconds: float) -> None:
        import psutil

        if self._gpus is None:
            self._gpus = Gpus(self._nvml)
        this = psutil.Process()
        below = this.children(recursive=True)
        memory = this.memory_info().rss
        for process in below:
            with suppress(psutil.Error), process.oneshot():
                memory += process.memory_info().rss
                times = process.cpu_times()
                self._seen[process] = times.user + times.system
                self._in_steps |= process.name() == STEP
        self._below = below
        self._peak = max(self._peak, memory / MEGABYTE)
        if self._gpus:
            held = self._gpus.held_by({this.pid, *(process.pid for process in below)})
            self._held += seconds * len(held)
            self._gpu_peak = max(self._gpu_peak, sum(memory for memory, _ in held))
            told = [busy for _, busy in held if busy is not None]
            self._told += seconds * len(told)
            self._busy += seconds * sum(told)

    def _cpu_seconds(self) -> float:
        own = cpu_time(resource.RUSAGE_SELF) + self._waited
        kernel = cpu_time(resource.RUSAGE_CHILDREN) - self._waited
        for process in self._below:
            # One that has ended meanwhile is not found, and in the kernel's account already.
            with suppress(Exception):
                times = process.cpu_times()
                self._seen[process] = times.user + times.system
                kernel += sum(times[:4])  # with those that it has waited for itself
        return own + max(kernel, sum(list(self._seen.values())))


def cpu_time(who: int) -> float:
    """CPU seconds, of user and system, as `resource.getrusage` has them."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def process_age() -> float:
    """Seconds since this process was started."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started = int(fields[19]) / CLOCK_TICKS
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)


def peak_resident() -> float:
    """Largest resident set (MB) that this process, or one that it has waited for, ever had."""
    status = Path("/proc/self/status").read_text()
    # Not `ru_maxrss` of this process, which begins with that of the process that started it.
    own = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.M)
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return max(int(own[1]) if own else 0, children) / 1024
