"""What introduces a final answer: the answer keys, and boxes."""

from __future__ import annotations

import re

BOXED = r"\boxed"
ANSWER_KEYS = ("####", "The answer is:", BOXED)

_BRACE = re.compile(r"(?P<box>\\(?:boxed|fbox)\{)|\\.|[{}]", re.DOTALL)


def check_answer_key(answer_key: str) -> None:
    """Raise ValueError for an answer key that is not one of `ANSWER_KEYS`."""
    if answer_key not in ANSWER_KEYS:
        raise ValueError(f"answer_key {answer_key!r} is not one of {', '.join(ANSWER_KEYS)}")


def last_boxed(text: str) -> str | None:
    r"""Contents of the last `\boxed{...}` or `\fbox{...}` with balanced braces, or null."""
    opened: list[re.Match] = []
    last: tuple[int, int] | None = None
    for match in _BRACE.finditer(text):
        if match["box"] or match[0] == "{":
            opened.append(match)
        elif match[0] == "}" and opened:
            begun = opened.pop()
            # Of nested boxes the inner one closes first and began last.
            if begun["box"] and (last is None or begun.end() > last[0]):
                last = begun.end(), match.start()
    return text[slice(*last)] if last else None
