"""What a job takes: time, processors, memory and GPUs, measured by a thread of the job itself.

`Meter` is put around a job's work. Its thread looks once a second at the process and all its
descendants, and through NVML (where `pynvml` is installed and a device is there) at their GPUs.

Wall time and CPU time begin with the process, imports included. CPU time comes from two sources.
The larger sum is taken, as neither counts too much:

- The kernel counts this process, children that it has waited for (killed ones too), and children
  that still run. It does not count grandchildren whose parent was killed, such as an engine's own
  processes, because nobody waits for them.
- The samples count those grandchildren, each up to its last sample. They do not count processes
  that lived between two samples.

Memory is the largest sum of resident sets. Pages that processes share count for each of them. A job
that ends before the first sample has the kernel's peak of a single process, which is smaller.

A GPU counts from sample to sample while a process of the job is on it.

A SLURM job on several nodes works in steps. Their processes descend from SLURM's daemons and not
from this process, on its own node too. For such a job only the wall time covers everything, and the
figures of GPUs are None. SLURM's records cover the rest (`cluster.slurm_costs`).
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

#: Seconds from one sample to the next. The time is longer where samples would take more than SHARE
#: of a core, as on a machine with very many processes.
SECONDS, SHARE = 1.0, 0.01
#: Seconds that the end of a job waits for a sample, such as one in a driver that hangs.
LAST_SECONDS = 2.0
#: SLURM's command that starts processes of a step.
STEP = "srun"
MEGABYTE = 2**20
#: Ticks of the kernel's clock in a second.
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class Gpus:
    """The GPUs of this machine.

    Args:
        nvml: `pynvml` or a stand-in; None imports `pynvml` where it is installed.
    """

    def __init__(self, nvml: Any | None = None) -> None:
        self._nvml = nvml
        self._devices: list[Any] = []
        #: Whether a GPU has had a process whose id this machine does not know.
        self.unknown_processes = False
        if nvml is None:
            with suppress(ImportError):  # machines without GPUs need not have it
                self._nvml = importlib.import_module("pynvml")
        if self._nvml is None:
            return
        with suppress(self._nvml.NVMLError):
            self._nvml.nvmlInit()
            for index in range(self._nvml.nvmlDeviceGetCount()):
                self._devices.append(self._nvml.nvmlDeviceGetHandleByIndex(index))

    def __bool__(self) -> bool:
        return bool(self._devices)

    def used_by(self, pids: set[int]) -> list[tuple[float, float | None]]:
        """Memory (MB) of these processes, and utilisation, of each GPU that one of them uses.

        Utilisation is the share in [0, 1] of the driver's last period, of up to a second, in which
        anything ran on the GPU. It is None where the driver does not report it, as for parts of a
        GPU.
        """
        used = []
        for device in self._devices:
            with suppress(self._nvml.NVMLError):
                processes = self._nvml.nvmlDeviceGetComputeRunningProcesses(device)
                ours = [process for process in processes if process.pid in pids]
                if not all(Path(f"/proc/{process.pid}").exists() for process in processes):
                    self.unknown_processes = True
                if ours:
                    used.append((self._memory(device, ours), self._utilisation(device)))
        return used

    def _memory(self, device: Any, processes: list[Any]) -> float:
        used = [process.usedGpuMemory for process in processes]
        if None in used:  # the driver does not report it for single processes
            return self._nvml.nvmlDeviceGetMemoryInfo(device).used / MEGABYTE
        return sum(used) / MEGABYTE

    def _utilisation(self, device: Any) -> float | None:
        with suppress(self._nvml.NVMLError):
            return self._nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100
        return None


class Meter:
    """Measures a job from entry to exit. It fails no job: what it cannot measure is None.

    Args:
        seconds: time between samples.
        nvml: see `Gpus`.
    """

    def __init__(self, seconds: float = SECONDS, nvml: Any | None = None) -> None:
        self._seconds, self._nvml = seconds, nvml
        self._over = threading.Event()
        # A daemon: a driver that hangs must not hold up the end of the process.
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._gpus: Gpus | None = None
        self._peak = self._gpu_peak = 0.0
        #: GPU-seconds in use; of these, GPU-seconds with a reported utilisation; and busy ones.
        self._used = self._reported = self._busy = 0.0
        #: CPU seconds of each descendant that a sample has met.
        self._cpu_of: dict[Any, float] = {}
        #: Descendants in the last sample.
        self._descendants: list[Any] = []
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
        """What the job took, after the exit: wall_seconds, cpu_seconds, gpu_seconds (sum over
        GPUs), gpu_utilisation (mean over GPU-seconds, in [0, 1]), peak_memory_mb and
        peak_gpu_memory_mb (largest sum over GPUs). A megabyte has 2**20 bytes.

        Figures of GPUs are None where the machine has none, or where it is unknown whose processes
        are on them (SLURM's steps; a container with process ids of its own). The utilisation is
        None too where the job used no GPU, or the driver does not report it.
        """
        gpus = bool(self._gpus) and not self._in_steps
        gpus &= self._used > 0 or not (self._gpus and self._gpus.unknown_processes)
        return {
            "wall_seconds": round(self._wall, 3),
            "cpu_seconds": round(self._cpu, 3),
            "gpu_seconds": round(self._used, 3) if gpus else None,
            "gpu_utilisation": round(self._busy / self._reported, 4) if self._reported else None,
            "peak_memory_mb": round(self._peak, 1),
            "peak_gpu_memory_mb": round(self._gpu_peak, 1) if gpus else None,
        }

    def _run(self) -> None:
        """Sample until the exit. Most jobs end before the first sample."""
        last, wait = time.monotonic(), self._seconds
        try:
            while not self._over.wait(wait):
                spent = time.thread_time()
                now = time.monotonic()
                self._sample(now - last)
                last = now
                wait = max(self._seconds, (time.thread_time() - spent) / SHARE)
        except Exception as error:
            logger.warning("the cost of this job is not measured in full: %r", error)

    def _sample(self, seconds: float) -> None:
        import psutil

        if self._gpus is None:
            self._gpus = Gpus(self._nvml)
        own_process = psutil.Process()
        descendants = own_process.children(recursive=True)
        memory = own_process.memory_info().rss
        for process in descendants:
            with suppress(psutil.Error), process.oneshot():
                memory += process.memory_info().rss
                times = process.cpu_times()
                self._cpu_of[process] = times.user + times.system
                self._in_steps |= process.name() == STEP
        self._descendants = descendants
        self._peak = max(self._peak, memory / MEGABYTE)
        if self._gpus:
            used = self._gpus.used_by({own_process.pid, *(process.pid for process in descendants)})
            self._used += seconds * len(used)
            self._gpu_peak = max(self._gpu_peak, sum(memory for memory, _ in used))
            shares = [share for _, share in used if share is not None]
            self._reported += seconds * len(shares)
            self._busy += seconds * sum(shares)

    def _cpu_seconds(self) -> float:
        own = cpu_time(resource.RUSAGE_SELF) + self._waited
        kernel = cpu_time(resource.RUSAGE_CHILDREN) - self._waited
        for process in self._descendants:
            # The kernel's count has a process that has ended meanwhile; psutil does not find it.
            with suppress(Exception):
                times = process.cpu_times()
                self._cpu_of[process] = times.user + times.system
                kernel += sum(times[:4])  # with the children that it has waited for itself
        return own + max(kernel, sum(list(self._cpu_of.values())))


def cpu_time(who: int) -> float:
    """CPU seconds, user and system, from `resource.getrusage`."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def process_age() -> float:
    """Seconds since this process started."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started = int(fields[19]) / CLOCK_TICKS
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)


def peak_resident() -> float:
    """Largest resident set (MB) ever of this process, or of one that it has waited for."""
    status = Path("/proc/self/status").read_text()
    # `ru_maxrss` of this process would begin with the peak of the process that started it.
    own = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.M)
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return max(int(own[1]) if own else 0, children) / 1024
