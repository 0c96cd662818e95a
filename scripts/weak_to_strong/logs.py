"""Logging of a rule's script, and its one-line end on bad input."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from weak_to_strong.runs import join_run

logger = logging.getLogger("weak_to_strong")

#: Variables of the environment whose values are shown in no message.
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|API_?KEY|CREDENTIAL", re.I)
HIDDEN = "[hidden]"


def hide_secrets(text: str) -> str:
    """`text` without the values of environment variables that are named like secrets.

    A value of fewer than 8 characters stays: `TOKENIZERS_PARALLELISM=false` is no secret.
    """
    secrets = (v for k, v in os.environ.items() if _SECRET_NAME.search(k) and len(v) >= 8)
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return hide_secrets(super().format(record))


def configure_logging(log_file: str | Path | None, label: str) -> None:
    """Send the package's messages to `log_file` and, marked with `label`, to standard error."""
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers.clear()
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(_Formatter(f"[{label}] %(message)s"))
    logger.addHandler(console)
    if log_file:
        Path(log_file).parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(log_file, mode="w", encoding="utf-8")
        file.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(file)


def _end(number: int, _frame: Any) -> None:
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)  # once: cleaning up must not be interrupted
    logger.warning("ended from outside; what is finished stays, and the next run goes on from it")
    sys.exit(128 + number)


def run_script(main: Callable[[Any], None], snakemake: Any) -> None:
    """Run a rule's `main(snakemake)`.

    A ValueError (bad input) becomes one line and exit status 1; anything else keeps its traceback,
    which also goes to the log. SIGTERM - a cluster's time limit, a cancelled job - and Ctrl-C
    end the script like an exception, so that the processes that it started end with it. It also
    ends with the run of Snakemake that started it.
    """
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    join_run(Path(".snakemake"))
    # Native libraries read these when they are first loaded, which is inside main().
    os.environ.setdefault("OMP_NUM_THREADS", str(snakemake.threads))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    label = "/".join([snakemake.rule, *(str(value) for value in snakemake.wildcards)])
    configure_logging(snakemake.log[0] if snakemake.log else None, label)
    try:
        main(snakemake)
    except ValueError as error:
        logger.debug("bad input", exc_info=True)
        logger.error("%s", error)
        sys.exit(1)
    except Exception:
        logger.exception("%s failed", snakemake.rule)
        sys.exit(1)
