"""Stop signals that come together, or to a process that is ending: it ends once, in order."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
#: `install` sets the handlers. Both signals are there before a handler runs.
CODE = """
import os, signal, sys
# First of all, so that no thread of a library can take the signals.
signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGINT, signal.SIGTERM}})
{install}
os.kill(os.getpid(), signal.SIGINT)
os.kill(os.getpid(), signal.SIGTERM)
try:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {{signal.SIGINT, signal.SIGTERM}})
finally:
    os.kill(os.getpid(), signal.SIGTERM)
    print("cleaned up", flush=True)
"""
SCRIPT = """
from weak_to_strong.jobs import script
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, script._end)
"""
TRAINING = """
from weak_to_strong.training import processes
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, processes._end)
"""


@pytest.mark.parametrize("install", [SCRIPT, TRAINING], ids=["script", "training"])
def test_signals_that_come_together_end_a_process_once_and_in_order(install):
    ended = subprocess.run(
        [sys.executable, "-c", CODE.format(install=install)],
        env={"PYTHONPATH": str(SCRIPTS)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in ended.stderr
    assert "race" not in ended.stderr
    assert ended.stdout == "cleaned up\n"
    assert ended.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM)
