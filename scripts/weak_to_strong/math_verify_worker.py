"""Worker process that compares answers with math-verify, one JSON line in, one out.

`scoring.math_verify_many` runs `python -m weak_to_strong.math_verify_worker SECONDS MEGABYTES`.
math-verify's own time limit is a Python signal handler, which long arithmetic in C never reaches
(`9^{9^{9}}`, `10000000!`), and it turns a timeout into "not equal". Here the kernel ends a process
after SECONDS of CPU time, so that the outcome does not depend on how busy the machine is. The
process is a fork of one that has the library loaded, so that its successor is there at once.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
import warnings
from typing import NoReturn, TextIO

READY = "ready"

_UNICODE = str.maketrans(
    {
        "\N{MINUS SIGN}": "-",
        "\N{EN DASH}": "-",
        "\N{MULTIPLICATION SIGN}": r"\times ",
        "·": r"\cdot ",
        "÷": r"\div ",
        "π": r"\pi ",
        "∞": r"\infty ",
        "≠": r"\neq ",
        "≤": r"\leq ",
        "≥": r"\geq ",
        "±": r"\pm ",
        "\N{UNION}": r"\cup ",
        "∩": r"\cap ",
        "∈": r"\in ",
        "°": r"^\circ ",
        "²": "^{2}",
        "³": "^{3}",
    }
)
_ROOT = re.compile(r"√\s*(?:(\d+(?:\.\d+)?)|([A-Za-z])|\{([^{}]*)\}|\(([^()]*)\))")
#: Dollar signs and \( \) \[ \], but neither `\$` nor the `\\[2pt]` of a matrix.
_MATH_MARKS = re.compile(r"(?<!\\)(?:\$|\\[()\[\]])")
_ROW_SPACE = re.compile(r"(\\\\)\[[\d.]+\s*[a-z]{2}\]")
_BASE = re.compile(r"\d_\{?(\d+)\}?\s*$")


def to_latex(text: str) -> str:
    """One line of LaTeX without maths delimiters, an outer \\boxed or common Unicode signs."""
    text = _MATH_MARKS.sub("", _ROW_SPACE.sub(r"\1", text))
    text = _ROOT.sub(lambda match: rf"\sqrt{{{''.join(filter(None, match.groups()))}}}", text)
    text = " ".join(text.translate(_UNICODE).split()).removesuffix(".")
    boxed = re.fullmatch(r"\\(?:boxed|fbox)\s*\{(.*)\}", text)
    if boxed and is_balanced(boxed[1]):
        return boxed[1]
    # math-verify would read an inner box alone.
    return text.replace(r"\boxed", "").replace(r"\fbox", "")


def is_balanced(text: str) -> bool:
    """Whether every brace closes and every \\left has its \\right."""
    depth = 0
    for sign in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if sign == "{" else -1
        if depth < 0:
            return False
    return depth == 0 and len(re.findall(r"\\left\b", text)) == len(re.findall(r"\\right\b", text))


def compare(gold: str, prediction: str) -> str:
    """The verdict of math-verify 0.9 on one pair: "right", "wrong" or "undecided".

    Either answer is read as one whole expression or not at all. math-verify's default falls back
    to the first number it finds, so that `0,≠0` counts as `0`; and it drops a number's base, so
    that `52_8` equals `52_9`. Both are "wrong" here.

    "undecided": the prediction is malformed LaTeX, or neither answer is an expression, or the
    comparison fails inside the library.
    """
    from math_verify import parse, verify
    from math_verify.parser import LatexExtractionConfig

    gold, prediction = to_latex(gold), to_latex(prediction)
    bases = [match[1] for text in (gold, prediction) if (match := _BASE.search(text))]
    if len(bases) == 2 and bases[0] != bases[1]:
        return "wrong"
    parsed = [
        [
            value
            for value in parse(
                f"${text}$",
                extraction_config=[LatexExtractionConfig(boxed_match_priority=-1)],
                parsing_timeout=None,
                raise_on_error=True,
            )
            if not isinstance(value, str)
        ]
        for text in (gold, prediction)
    ]
    if not parsed[1] and not is_balanced(prediction):
        return "undecided"
    if not all(parsed):
        return "wrong" if any(parsed) else "undecided"
    equal = verify(*parsed, timeout_seconds=None, raise_on_error=True)
    return "right" if equal else "wrong"


def serve(replies: TextIO, seconds: float) -> NoReturn:
    """Answer lines of standard input until it ends; any failure ends the process unanswered."""
    status = 1
    try:
        for line in sys.stdin:
            gold, prediction = json.loads(line)
            signal.setitimer(signal.ITIMER_PROF, seconds)
            try:
                verdict = compare(gold, prediction)
            except MemoryError:  # leaves libraries in an unknown state
                raise
            except Exception:
                verdict = "undecided"
            signal.setitimer(signal.ITIMER_PROF, 0)
            print(verdict, file=replies, flush=True)
        status = 0
    finally:
        os._exit(status)


def main() -> None:
    """Serve through a forked child, and through a fresh one whenever it dies."""
    seconds, megabytes = float(sys.argv[1]), int(sys.argv[2])
    # Nothing that a library prints may enter the protocol.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    import logging

    from math_verify import parse

    logging.disable(logging.CRITICAL)
    parse("$1$", parsing_timeout=None)
    resource.setrlimit(resource.RLIMIT_AS, (megabytes * 2**20, megabytes * 2**20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print(READY, file=replies, flush=True)
    # At most one line is in flight, so a dead child leaves none unread in its buffer.
    while (child := os.fork()) or serve(replies, seconds):
        _, status = os.waitpid(child, 0)
        if status == 0:
            return
        timed_out = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF
        print("timeout" if timed_out else "undecided", file=replies, flush=True)


if __name__ == "__main__":
    main()
