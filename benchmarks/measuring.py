"""What benchmarks share: the project's folder, its package, and the cost of a process."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))


def measure_process(command: Sequence[str]) -> tuple[dict[str, float], str]:
    """Run a command; its cost and its standard output.

    Returns:
        {seconds, cpu_seconds, peak_gb}: wall time, CPU time, and peak memory (resident set) in GB.
        A child's peak counts what its parent held when it started: start it from a small process.

    Raises:
        SystemExit: the command failed.
    """
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: exit status {status}")
    cost = {
        "seconds": time.monotonic() - began,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_gb": usage.ru_maxrss * 1024 / 1e9,
    }
    return cost, output
