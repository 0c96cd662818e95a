"""Checks of a device, with a report to send along with an issue.

    python -m weak_to_strong.cluster.gpu_test --device cuda

Ten minutes on one GPU. Each of `gpu_checks.GPU_CHECKS` runs in a process of its own, so that a
crash or a hang of one ends no other. The report has versions, checks and figures. It has no secret
and no name of a user, a machine or a folder of theirs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from getpass import getuser
from pathlib import Path
from typing import Any

from weak_to_strong.cluster.gpu_checks import GPU_CHECKS, Bench, try_check
from weak_to_strong.cluster.machine_checks import NAMED_PACKAGES, driver_cuda, parse_gpus
from weak_to_strong.cluster.machine_facts import (
    GPU_FIELDS,
    PROJECT,
    ask_command,
    installed_versions,
)
from weak_to_strong.jobs.errors import explain
from weak_to_strong.jobs.logs import configure_logging
from weak_to_strong.jobs.secret_values import hide_secrets
from weak_to_strong.tables.files import read_json, write_json

#: Version of the report's form.
FORM = 1
#: Seconds that one check may take, and number of its questions, by device. A CPU may be busy.
CHECK_SECONDS = {"cuda": 300.0, "cpu": 1800.0}
CHECK_QUESTIONS = {"cuda": 32, "cpu": 8}
#: The report, unless the user names another file.
GPU_REPORT = Path("results/gpu-test/report.json")


def private_words() -> dict[str, str]:
    """Words of this machine and user that no report may have, and what stands for them."""
    words = {str(Path.cwd()): "[folder]", tempfile.gettempdir(): "[temporary]"}
    words |= {str(PROJECT): "[project]", sys.prefix: "[environment]"}
    with suppress(RuntimeError):
        words[str(Path.home())] = "[home]"
    with suppress(OSError, KeyError):
        words[getuser()] = "[user]"
    host = socket.gethostname()
    words |= {host: "[host]", host.partition(".")[0]: "[host]"}
    # Whole paths before parts of them.
    return {word: words[word] for word in sorted(words, key=len, reverse=True) if len(word) > 1}


def without_private(value: Any, words: Mapping[str, str]) -> Any:
    """A JSON value whose texts have no secrets, and none of `private_words`."""
    if isinstance(value, Mapping):
        return {key: without_private(part, words) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_private(part, words) for part in value]
    if isinstance(value, str):
        value = hide_secrets(value)
        for word, shown in words.items():
            # Whole words: a user may be called `al`.
            pattern = rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])"
            value = re.sub(pattern, lambda _, shown=shown: shown, value)
    return value


def describe_machine(device: str) -> dict[str, Any]:
    """Versions and GPUs for the report; what cannot be read is null."""
    versions = installed_versions()
    facts: dict[str, Any] = {
        "device": device,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, glibc {platform.libc_ver()[1]}",
        "packages": {name: versions[name] for name in NAMED_PACKAGES if name in versions},
        "torch": None,
        "gpus": [],
        "driver_cuda": None,
    }
    with suppress(ValueError):
        command = [sys.executable, "-P", "-m", "weak_to_strong.cluster.torch_facts"]
        facts["torch"] = json.loads(ask_command(command, CHECK_SECONDS[device]))
    if device == "cuda" and shutil.which("nvidia-smi"):
        with suppress(ValueError):
            query = ["nvidia-smi", f"--query-gpu={GPU_FIELDS}", "--format=csv,noheader,nounits"]
            facts["gpus"] = [asdict(gpu) for gpu in parse_gpus(ask_command(query))]
            facts["driver_cuda"] = driver_cuda(ask_command(["nvidia-smi"]))
    return facts


def run_apart(name: str, bench: Bench, seconds: float) -> dict[str, Any]:
    """Run a check in a process of its own.

    Returns:
        name, state ("passed", "failed" or "skipped"), seconds, reason and figures.
    """
    began = time.monotonic()
    answer = bench.folder / f"{name}.json"
    answer.unlink(missing_ok=True)
    command = [sys.executable, "-P", "-m", "weak_to_strong.cluster.gpu_test"]
    command += ["--device", bench.device, "--questions", str(bench.questions)]
    command += ["--work", str(bench.folder), "--check", name]
    outcome = {"passed": False, "figures": {}, "reason": "left no answer"}
    try:
        ask_command(command, seconds)
        outcome = read_json(answer)
    except (OSError, ValueError) as error:
        # Its answer says more than the status of its process.
        with suppress(OSError, ValueError):
            outcome = read_json(answer)
        if not answer.exists():
            outcome["reason"] = str(error).replace(command[0], "the check")
    states = {True: "passed", False: "failed", None: "skipped"}
    return {
        "name": name,
        "state": states[outcome["passed"]],
        "seconds": round(time.monotonic() - began, 1),
        "reason": outcome["reason"],
        "figures": outcome["figures"],
    }


def check_here(name: str, bench: Bench) -> int:
    """Run a check in this process and write its outcome; 1 where it did not pass."""
    configure_logging(None, name)
    try:
        outcome = asdict(try_check(name, bench))
    except Exception as error:
        line = explain(error) or f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        write_json({"passed": False, "figures": {}, "reason": line}, bench.folder / f"{name}.json")
        raise
    write_json(outcome, bench.folder / f"{name}.json")
    return int(outcome["passed"] is False)


def line_of(check: Mapping[str, Any]) -> str:
    """A check of the report as a line."""
    figures = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in check["figures"].items()
    )
    words = "; ".join(filter(None, [check["reason"], figures]))
    return f"{check['state']:8}{check['name']:10}{check['seconds']:5.0f} s  {words}"


def main(argv: Iterable[str]) -> int:
    """Run the checks, write the report and print a line for each; 1 if one failed."""
    parser = argparse.ArgumentParser(
        prog="python -m weak_to_strong.cluster.gpu_test",
        description="Check generation and training on a device, with the embedded models.",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--only", nargs="+", choices=list(GPU_CHECKS), default=list(GPU_CHECKS))
    parser.add_argument("--questions", type=int, help="number of questions")
    parser.add_argument("--seconds", type=float, help="limit of one check")
    parser.add_argument(
        "--output", type=Path, default=GPU_REPORT, metavar="FILE", help="the report"
    )
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--check", choices=list(GPU_CHECKS), help=argparse.SUPPRESS)
    arguments = parser.parse_args(list(argv))
    questions = arguments.questions or CHECK_QUESTIONS[arguments.device]
    seconds = arguments.seconds or CHECK_SECONDS[arguments.device]
    if arguments.check:
        bench = Bench(arguments.device, arguments.work, questions)
        return check_here(arguments.check, bench)
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    words = private_words()
    report = {"form": FORM, **describe_machine(arguments.device), "checks": []}
    with tempfile.TemporaryDirectory(prefix="gpu-test-") as folder:
        bench = Bench(arguments.device, Path(folder), questions)
        for name in arguments.only:
            check = without_private(run_apart(name, bench, seconds), words)
            report["checks"].append(check)
            print(line_of(check), flush=True)
            # After each check, so that a report is there whatever happens next.
            write_json(without_private(report, words), arguments.output)
    print(f"Report: {arguments.output}")
    return int(any(check["state"] == "failed" for check in report["checks"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
