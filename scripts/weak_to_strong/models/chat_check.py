"""Are chat templates fit for a study? Tried before the first job, in a child process.

`python -P -m weak_to_strong.models.chat_check` reads the checks as JSON on standard input. It
prints one line for the first that fails, and ends with status 1 then. Snakemake's own process does
not import transformers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from weak_to_strong.jobs.child_processes import start_child
from weak_to_strong.models.chat_format import load_chat_format
from weak_to_strong.models.chat_tokens import ChatTokens
from weak_to_strong.models.loading import can_check


def check_chats(checks: Sequence[Mapping[str, Any]]) -> None:
    """Try the chat templates of local models.

    Where transformers is not installed nothing is tried. Then the jobs do it.

    Args:
        checks: mappings with `name` of a model, its `folder`, `chat` (see `load_chat_format`),
            whether the model is `trained`, and whether its rows have reasoning (`reasons`).

    Raises:
        ValueError: the line of the first template that does not fit.
    """
    if not checks or not can_check():
        return
    command = [sys.executable, "-P", "-m", "weak_to_strong.models.chat_check"]
    child = start_child(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, errors="replace")
    output, messages = child.communicate(json.dumps(list(checks)))
    if child.returncode:
        if output:
            raise ValueError(output.splitlines()[0])
        last = (messages.splitlines() or [f"status {child.returncode}"])[-1]
        raise ValueError(f"chat templates: the check of them failed ({last}); repair transformers")


def try_chat(check: Mapping[str, Any]) -> None:
    """Try one template with its model's tokenizer.

    Raises:
        ValueError: it does not fit.
    """
    from transformers import AutoTokenizer

    folder = Path(check["folder"])
    chat = load_chat_format(check["name"], check["chat"], folder)
    tokenizer = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    maker = ChatTokens(tokenizer, chat)
    if check["trained"]:
        maker.check_answers(with_reasoning=check["reasons"])


def main() -> int:
    """Try the checks of standard input; 1 where one fails, else 0."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    for check in json.load(sys.stdin):
        try:
            try_chat(check)
        except ValueError as error:
            print(str(error).replace("\n", " "))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
