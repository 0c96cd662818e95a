"""Rendering of chat templates in a process of its own, with limits of time, memory and size.

A chat template is a program of a stranger. transformers runs it in jinja's sandbox, which keeps it
from files and from Python's objects. The sandbox does not keep it from running for ever: nested
loops, huge powers and giant strings all pass. So templates run in a child process,
`python -m weak_to_strong.models.chat_renderer`, which the kernel ends at its limit of CPU time.

The child reads one JSON message a line, `{"template", "variables", "chats": [[messages, ask]],
"seconds"}`, and answers `{"texts": [text]}` or `{"refused": reason}`. `ask` adds the beginning of
the assistant's turn.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from weak_to_strong.jobs.child_processes import start_child
from weak_to_strong.jobs.errors import ProcessDied
from weak_to_strong.method.chat import Turn

#: CPU seconds of a call, and for each of its chats. Real templates need less than a millisecond.
CALL_SECONDS, CHAT_SECONDS = 5, 0.02
#: Bytes that the child may take beyond what it has with its libraries loaded.
MEMORY = 2**30
#: Characters that a template may add to a chat, beside twice those of its messages.
ADDED_CHARACTERS = 100_000
#: Chats of one message.
CHATS_AT_ONCE = 500
#: The day that templates are told, so that a text does not depend on the day of a run. It is the
#: one that Llama 3.1's template falls back to.
TODAY = datetime(2024, 7, 26)

#: Messages, and whether the assistant's turn begins after them.
Chat = tuple[Sequence[Turn], bool]


_child: subprocess.Popen[str] | None = None


def render_chats(template: str, variables: Mapping[str, Any], chats: Iterable[Chat]) -> list[str]:
    """The text of each chat. The child starts with the first call and serves all that follow.

    Args:
        template: text of the template.
        variables: what the template can read beside the messages, as JSON-like values.
        chats: the chats.

    Raises:
        ValueError: the template refuses a chat, fails, or reaches a limit; one line that says what
            happened.
        ProcessDied: the child was killed from outside.
    """
    chats, texts = list(chats), []
    for first in range(0, len(chats), CHATS_AT_ONCE):
        some = chats[first : first + CHATS_AT_ONCE]
        seconds = CALL_SECONDS + CHAT_SECONDS * len(some)
        message = {"template": template, "variables": dict(variables), "seconds": seconds}
        answer = _ask({**message, "chats": some})
        if "refused" in answer:
            raise ValueError(answer["refused"])
        texts += answer["texts"]
    return texts


def end_renderer() -> None:
    """End the child, if there is one; it takes some memory."""
    global _child
    if _child:
        _child.kill()
        _child.wait()
        _child.stdin.close()
        _child.stdout.close()
        _child = None


def _ask(message: Mapping[str, Any]) -> dict[str, Any]:
    """The child's answer to a message."""
    global _child
    if _child is None:
        command = [sys.executable, "-P", "-m", "weak_to_strong.models.chat_renderer"]
        _child = start_child(command, stdin=subprocess.PIPE)
    try:
        _child.stdin.write(json.dumps(message) + "\n")
        _child.stdin.flush()
        line = _child.stdout.readline()
    except BrokenPipeError:
        line = ""
    if line.endswith("\n"):
        return json.loads(line)
    with suppress(BrokenPipeError):  # what the child has not read
        _child.stdin.close()
    status = _child.wait()
    _child.stdout.close()
    _child = None
    if status == -signal.SIGXCPU:
        seconds, chats = message["seconds"], len(message["chats"])
        raise ValueError(f"takes more than {seconds:.0f} s of CPU time for {chats} chats")
    if status in (-signal.SIGSEGV, -signal.SIGABRT):
        raise ValueError("crashes the process that renders it")
    raise ProcessDied(
        f"the process that renders chat templates ended with status {status}; give the job more "
        "memory, and run again"
    )


def _answer(message: Mapping[str, Any]) -> dict[str, Any]:
    """The texts of a message's chats, or why there are none."""
    from transformers.utils.chat_template_utils import render_jinja_template

    def render(messages: list[Turn], ask: bool) -> str:
        texts, _ = render_jinja_template(
            conversations=[messages],
            chat_template=message["template"],
            add_generation_prompt=ask,
            strftime_now=TODAY.strftime,
            **message["variables"],
        )
        return texts[0]

    try:
        texts = []
        for messages, ask in message["chats"]:
            text = render(messages, ask)
            most = ADDED_CHARACTERS + 2 * sum(len(turn["content"]) for turn in messages)
            if len(text) > most:
                return {"refused": f"makes {len(text)} characters of a chat, the most are {most}"}
            text.encode()  # a text with half a surrogate pair is none
            texts.append(text)
    except MemoryError:
        return {"refused": f"needs more than {MEMORY >> 20} MiB of memory"}
    except Exception as error:  # whatever jinja or the template itself raises
        words = " ".join(str(error).split()) or type(error).__name__
        return {"refused": f"refuses a chat ({words[:200]})"}
    return {"texts": texts}


def _limit(kind: int, value: int) -> None:
    """Lower the soft limit of a resource; a lower hard limit stays."""
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _mapped_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def main() -> None:
    """Answer the messages of standard input until it ends."""
    import transformers.utils.chat_template_utils  # noqa: F401 - before memory is limited

    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, _mapped_bytes() + MEMORY)
    for line in sys.stdin:
        message = json.loads(line)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        used = usage.ru_utime + usage.ru_stime
        _limit(resource.RLIMIT_CPU, int(used + message["seconds"]) + 1)
        print(json.dumps(_answer(message)), flush=True)


if __name__ == "__main__":
    main()
