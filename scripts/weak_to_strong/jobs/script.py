"""How each rule's script runs: logging, its record, and its one-line end on bad input."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from weak_to_strong.jobs.code_digest import PACKAGE, has_digest
from weak_to_strong.jobs.errors import explain
from weak_to_strong.jobs.locks import join_run
from weak_to_strong.jobs.logs import configure_logging, logger
from weak_to_strong.jobs.meter import Meter
from weak_to_strong.jobs.records import COMMAND, leave_record, start_record
from weak_to_strong.jobs.secret_values import hide_secrets
from weak_to_strong.jobs.stop_signals import STOP_SIGNALS, ignore_stop_signals
from weak_to_strong.jobs.work_notes import begin_note, end_note


def _end(number: int, _frame: Any) -> None:
    ignore_stop_signals()
    logger.warning("ended from outside; what is finished stays, and the next run goes on from it")
    sys.exit(128 + number)


def check_code(snakemake: Any, main: Callable[..., Any]) -> None:
    """Check that a rule's code is the code that the run was planned with.

    Called before and after a job's work. The second call also covers what the job imported late,
    and the processes that it started.

    Args:
        snakemake: what Snakemake gives a script.
        main: of the rule's script. Its file tells the script: a rule has another name where the
            workflow is a module of another one. Snakemake runs a copy, `tmp....<script>.py`.

    Raises:
        ValueError: the code has changed.
    """
    planned = snakemake.params.get("code")
    if planned is None:
        return
    script = Path(main.__code__.co_filename).stem.rpartition(".")[2]
    if not has_digest(PACKAGE.parent / f"{script}.py", planned):
        raise ValueError(
            f"the code of rule {snakemake.rule} has changed since this run was planned; run again"
        )


def run_script(main: Callable[[Any], Mapping[str, Any] | None], snakemake: Any) -> None:
    """Run a rule's `main(snakemake)`, and leave the record of the job (`records.py`).

    The job ends before its work if an input is not as its job made it. It ends without a record if
    the code of the rule is not the code that the run was planned with.

    `main` may return counts of its work, such as tokens. They are recorded beside the measured
    cost (`meter.py`).

    Some errors become one line and exit status 1: a ValueError (bad input), a full disk, lack of
    memory, the death of a process that the job started. Any other error keeps its traceback, which
    also goes to the log.

    SIGTERM (a cluster's time limit, a cancelled job) and Ctrl-C end the script like an exception,
    so that the processes that it started end too. The script also ends with its run of Snakemake.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, _end)
    join_run()
    # Native libraries read these when they are first loaded, which is inside main().
    os.environ.setdefault("OMP_NUM_THREADS", str(snakemake.threads))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    label = "/".join([snakemake.rule, *(str(value) for value in snakemake.wildcards)])
    try:
        configure_logging(snakemake.log[0] if snakemake.log else None, label)
        if snakemake.log:
            begin_note(snakemake.log[0])
        with Meter() as meter:
            check_code(snakemake, main)
            start = start_record(snakemake)
            counts = main(snakemake) or {}
            check_code(snakemake, main)
        command = hide_secrets(os.environ.get(COMMAND, ""))
        leave_record(snakemake, command, start, {**meter.cost(), **counts})
    except Exception as error:
        if line := explain(error):
            logger.debug("%s failed", snakemake.rule, exc_info=True)
            logger.error("%s", line)
        else:
            logger.exception("%s failed", snakemake.rule)
        sys.exit(1)
    finally:
        end_note()
