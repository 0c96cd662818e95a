"""What jobs take: real child processes, and GPUs in the shape of a small stub."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from rule_scripts import rule_job

from weak_to_strong.jobs import meter as ledger
from weak_to_strong.jobs.meter import Gpus, Meter, process_age
from weak_to_strong.jobs.script import run_script
from weak_to_strong.tables.files import read_json

SCRIPTS = Path(__file__).parents[2] / "scripts"
#: Says "ready" when it holds 200 MB, and goes when its input ends.
HOLD = "import sys; memory = b'x' * (200 * 2**20); print('ready', flush=True); sys.stdin.read()"
#: Says "ready" after a second of CPU time.
BURN = """import sys, time
while time.process_time() < 1:
    pass
print('ready', flush=True); sys.stdin.read()"""
#: What the kernel's counts of user and of system time, in ticks of a second, may leave out of it.
TICKS = 2 / ledger.CLOCK_TICKS
#: The same in a child of its own, for which it does not wait.
BURN_BELOW = f"""import subprocess, sys
subprocess.Popen([sys.executable, "-c", {BURN!r}]); sys.stdin.read()"""


def start(code: str) -> subprocess.Popen:
    """A process that has said that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen) -> None:
    """End it and what it started, as an engine's process is ended."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Watched(Meter):
    """One that samples often, and whose samples can be waited for."""

    def __init__(self, **options):
        super().__init__(0.02, **options)
        self.times: list[float] = []

    def _sample(self, seconds):
        super()._sample(seconds)
        self.times.append(seconds)

    def wait(self):
        """Until a sample that began after this call is done."""
        count, end = len(self.times), time.monotonic() + 60
        while len(self.times) < count + 2:
            assert time.monotonic() < end, "no sample"
            time.sleep(0.01)


def cpu_before() -> float:
    """CPU seconds of this process and its children until now, running ones included."""
    with Meter() as meter:
        meter._sample(0.0)  # an earlier test may have left a child, such as a worker of math-verify
    return meter.cost()["cpu_seconds"]


def test_a_job_shorter_than_a_sample_has_its_figures():
    age = process_age()
    with Meter() as meter:
        pass
    cost = meter.cost()
    assert cost["wall_seconds"] >= round(age, 3) > 0
    assert cost["cpu_seconds"] > 0
    assert cost["peak_memory_mb"] > 20
    assert [name for name, value in cost.items() if value is None] == [
        *("gpu_seconds", "gpu_utilisation", "peak_gpu_memory_mb")
    ]


def test_wall_time_begins_with_the_process():
    # psutil knows the start of the machine to a second.
    started = psutil.Process().create_time()
    assert time.time() - process_age() == pytest.approx(started, abs=2)


def test_memory_is_that_of_all_processes_at_one_time():
    with Watched() as meter:
        both = [start(HOLD), start(HOLD)]
        meter.wait()
        for process in both:
            kill(process)
    assert meter.cost()["peak_memory_mb"] > 400 + 20


def test_memory_of_a_child_that_no_sample_saw():
    with Meter(seconds=3600) as meter:
        kill(start(HOLD))
    assert meter.cost()["peak_memory_mb"] > 200


def test_memory_is_not_that_of_the_process_which_started_the_job():
    memory = b"x" * (300 * 2**20)
    code = "from weak_to_strong.jobs.meter import peak_resident; print(peak_resident())"
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    peak = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert len(memory) > 0
    assert 5 < float(peak) < 200


@pytest.mark.slow
@pytest.mark.parametrize("code", [BURN, BURN_BELOW], ids=["child", "grandchild"])
def test_cpu_time_of_what_is_killed_counts_once(code):
    """For the grandchild nobody waits: only the samples have it."""
    before = cpu_before()
    with Watched() as meter:
        process = start(code)
        below = psutil.Process(process.pid).children()
        meter.wait()
        kill(process)
        _, left = psutil.wait_procs(below, timeout=60)
        assert not left
    assert 1 - TICKS <= meter.cost()["cpu_seconds"] - before < 1.9


@pytest.mark.slow
def test_cpu_time_of_an_ended_and_of_a_running_child_add_up():
    """The first was never sampled, the second is not in the kernel's account."""
    before = cpu_before()
    with Meter(seconds=3600) as meter:
        kill(start(BURN))
        process = start(BURN)
        meter._sample(1.0)
    kill(process)
    assert 2 - TICKS <= meter.cost()["cpu_seconds"] - before < 2.9


@pytest.mark.slow
def test_cpu_time_of_what_still_runs_counts_once():
    before = cpu_before()
    with Watched() as meter:
        process = start(BURN)
        meter.wait()
    kill(process)
    assert 1 - TICKS <= meter.cost()["cpu_seconds"] - before < 1.9


class NvmlError(Exception):
    pass


def refuse(*_):
    raise NvmlError


def machine(processes: dict[int, list[tuple[int, int | None]]], **changes):
    """What acts like `pynvml`: GPU -> (process, bytes there). The second tells not how busy it is.

    Args:
        processes: on each GPU.
        changes: functions in place of those here.
    """

    def busy(device):
        return SimpleNamespace(gpu=50) if device != 1 else refuse()

    functions = {
        "NVMLError": NvmlError,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: len(processes),
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetComputeRunningProcesses": lambda device: [
            SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in processes[device]
        ],
        "nvmlDeviceGetUtilizationRates": busy,
        "nvmlDeviceGetMemoryInfo": lambda device: SimpleNamespace(used=3000 * 2**20),
    }
    return SimpleNamespace(**{**functions, **changes})


#: A process of another.
INIT = 1
#: More than Linux gives.
NOBODY = 2**22 + 1


def test_gpus_are_those_on_which_the_job_is():
    pid = os.getpid()
    both = [(pid, 1000 * 2**20), (INIT, 5 * 2**20)]
    gpus = Gpus(machine({0: both, 1: [(pid, None)], 2: [(INIT, 2**20)], 3: []}))
    assert gpus
    assert gpus.used_by({pid}) == [(1000.0, 0.5), (3000.0, None)]
    assert not gpus.unknown_processes


def test_gpu_seconds_and_memory_are_summed_over_gpus():
    child, megabyte = start(HOLD), 2**20
    on = {
        0: [(child.pid, 1000 * megabyte)],
        1: [(os.getpid(), 500 * megabyte)],
        2: [(INIT, 9 * megabyte)],
    }
    with Watched(nvml=machine(on)) as meter:
        meter.wait()
    kill(child)
    cost = meter.cost()
    assert cost["gpu_seconds"] == pytest.approx(2 * sum(meter.times), abs=0.001)
    assert cost["gpu_utilisation"] == 0.5  # of the GPU that tells it
    assert cost["peak_gpu_memory_mb"] == 1500


@pytest.mark.parametrize(
    ("processes", "seconds"), [([(INIT, 2**20)], 0.0), ([(NOBODY, 2**20)], None), ([], 0.0)]
)
def test_a_job_without_a_gpu(processes, seconds):
    """No GPU was held; or the numbers of processes are not those of here, and nobody knows."""
    with Watched(nvml=machine({0: processes})) as meter:
        meter.wait()
    cost = meter.cost()
    assert (cost["gpu_seconds"], cost["peak_gpu_memory_mb"]) == (seconds, seconds)
    assert cost["gpu_utilisation"] is None


def test_gpus_of_steps_are_not_told(tmp_path):
    """What srun starts is not below the job, so that no GPU seems to be held."""
    step = shutil.copy(shutil.which("sleep"), tmp_path / "srun")
    with subprocess.Popen([step, "600"]) as process, Watched(nvml=machine({0: []})) as meter:
        meter.wait()
        process.kill()
    assert meter.cost()["gpu_seconds"] is None


@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetCount"])
def test_a_machine_without_a_driver_has_no_gpu(function):
    with Watched(nvml=machine({0: []}, **{function: refuse})) as meter:
        meter.wait()
    assert meter.cost()["gpu_seconds"] is None
    assert meter.cost()["peak_memory_mb"] > 20


def test_a_sampler_that_fails_says_so_and_fails_no_job(caplog, monkeypatch):
    monkeypatch.setattr(ledger.logger, "propagate", True)
    with Meter(0.01, nvml=machine({0: []}, nvmlInit=lambda: 1 / 0)) as meter:
        meter._thread.join(60)
    assert not meter._thread.is_alive()
    assert "the cost of this job is not measured in full: ZeroDivisionError" in caplog.text
    cost = meter.cost()
    assert cost["cpu_seconds"] > 0
    assert cost["peak_memory_mb"] > 20
    assert cost["gpu_seconds"] is None


def test_a_driver_that_hangs_holds_up_no_job(monkeypatch):
    monkeypatch.setattr(ledger, "LAST_SECONDS", 0.01)
    hangs, freed = threading.Event(), threading.Event()

    def hang():
        hangs.set()
        freed.wait()

    with Meter(0.01, nvml=machine({0: []}, nvmlInit=hang)) as meter:
        assert hangs.wait(60)
    assert meter._thread.is_alive()
    assert meter.cost()["peak_memory_mb"] > 20
    freed.set()
    meter._thread.join(60)


def test_samples_are_rarer_where_they_take_long(monkeypatch):
    """By a clock of CPU time that gives each sample three hundredths of a second."""
    clock = iter(range(1000))
    monkeypatch.setattr(ledger.time, "thread_time", lambda: 0.03 * next(clock))
    waits = []

    def wait(seconds):
        waits.append(seconds)
        return len(waits) > 2

    meter = Meter()
    meter._over = SimpleNamespace(wait=wait)
    meter._run()
    assert waits == pytest.approx([1, 3, 3])


def job(folder: Path) -> SimpleNamespace:
    """A job with one output, `made`."""
    return rule_job("generate", outputs={"made": "made"}, folder=folder, log="logs/round.log")


def test_the_record_of_a_job_has_its_cost(tmp_path):
    made = tmp_path / "made"

    def main(_):
        made.touch()
        return {"response_tokens": 7}

    run_script(main, job(tmp_path))
    cost = read_json(tmp_path / "logs/round.json")["cost"]
    assert cost["response_tokens"] == 7
    assert cost["wall_seconds"] > 0
    assert cost["peak_memory_mb"] > 20


def test_a_failed_job_leaves_no_record_and_no_thread(tmp_path):
    def main(_):
        raise ValueError("wrong")

    with pytest.raises(SystemExit):
        run_script(main, job(tmp_path))
    assert not list(tmp_path.rglob("*.json"))
    assert "ledger" not in {thread.name for thread in threading.enumerate()}
