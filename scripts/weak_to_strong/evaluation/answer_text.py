"""An answer without Markdown's marks, without full-width signs and without the words around it."""

from __future__ import annotations

import re

from weak_to_strong.evaluation.number_words import CHANGING, changes_answer
from weak_to_strong.evaluation.units import read_unit

#: A longer text is reasoning and no answer of a few words.
MAX_SENTENCE = 200

#: ASCII signs for full-width ones and other spellings. None of these breaks a line.
_SIGNS = str.maketrans(
    {
        **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)},
        **dict.fromkeys("\u00a0\u1680\u202f\u205f\u3000", " "),
        **dict.fromkeys(map(chr, range(0x2000, 0x200B)), " "),
        **dict.fromkeys("\u200b\u2060\ufeff", ""),
        **dict.fromkeys("。｡", "."),
        **dict.fromkeys("、､", ","),
        **dict.fromkeys("\N{MINUS SIGN}\N{EN DASH}\N{HYPHEN}\N{NON-BREAKING HYPHEN}", "-"),
        **{
            "٪": "%",
            "“": '"',
            "”": '"',
            "\N{MULTIPLICATION SIGN}": r"\times ",
            "\N{LEFT SINGLE QUOTATION MARK}": "'",
            "\N{RIGHT SINGLE QUOTATION MARK}": "'",
            "￥": "¥",
            "￡": "£",
            "￦": "₩",
        },
    }
)
#: Markdown's emphasis, and a mark of it that lost the other one.
_EMPHASIS = re.compile(r"(?<!\S)(\*{2,3})(?=\S)([^*]+)(?<=\S)\1(?!\w|\()")
_QUOTED = re.compile(r"(\*|__?|`+|\"|')(?=\S)([^\"'`_]+)(?<=\S)\1\.?")
_STRAY_MARKS = re.compile(r"\A(?:\*\*|__|`)+|(?:\*\*|__|`)+(?=\.?\Z)")

_MARKED = re.compile(r"([^$]*)\$+([^$]+)\$+([^$]*)")
_PLAIN_WORDS = re.compile(r"[A-Za-z' ,.:;\"-]*")
_LEAD = re.compile(
    r"(?:[A-Za-z' ,]*?(?<![A-Za-z])(?:answers?|results?|solutions?)(?![A-Za-z])"
    r"(?: (?:is|are|was|to|of|the|this|problem|equals|therefore|thus|given|by))* ?[:=]?"
    r"|(?:so|thus|hence|therefore|then|finally)(?![A-Za-z]),?"
    r"|(?:it|this|that|we|which) (?:is|are|equals|get|have|find)(?![A-Za-z])(?: that)?) ?:? ?",
    re.I,
)
_BARE_UNIT = re.compile(r"(.*[\d})]) ([A-Za-z]{2,}[A-Za-z /.'-]*)", re.DOTALL)


def tidy(text: str) -> str:
    """Text with ASCII signs for full-width ones, without Markdown's emphasis and outer quotes."""
    text = text.translate(_SIGNS).strip()
    if len(text) <= MAX_SENTENCE:
        text = _EMPHASIS.sub(r"\2", text)
        quoted = _QUOTED.fullmatch(text)
        text = quoted[2].strip() if quoted else text
    return _STRAY_MARKS.sub("", text).strip()


def strip_words(text: str) -> str:
    """An answer without the words around it: `Thus $x \\geq 5$ is the solution` -> `x \\geq 5`.

    Words go that say "the answer is", and words around the one formula of a text, unless one of
    them changes the answer (`not`, `or`). A unit behind the formula stays, as `\\text{ cm}`.
    """
    if len(text) > MAX_SENTENCE:
        return text
    text = re.sub(r"[ \t]*\n[ \t]*", " ", text)
    for _ in range(3):
        lead = _LEAD.match(text)
        rest = text[lead.end() :].strip() if lead else ""
        if not rest or changes_answer(lead[0]) or rest.split()[0].lower() in CHANGING:
            break
        text = rest
    marked = re.sub(r"\\[()\[\]]", "$", text)
    match = _MARKED.fullmatch(marked)
    if not match or not (match[1] + match[3]).strip(" .,"):
        return text
    before, formula, after = match.groups()
    if any(changes_answer(part) or not _PLAIN_WORDS.fullmatch(part) for part in (before, after)):
        return text
    unit = read_unit(after, "") if after.strip(" .,") else None
    return (
        rf"{formula.strip()}\text{{ {after.strip(' .')}}}"
        if unit and unit.known
        else formula.strip()
    )


def mark_unit(latex: str) -> str:
    r"""A line whose last bare words are a unit, as `2\sqrt{3} cm`, with them in `\text{}`."""
    match = _BARE_UNIT.fullmatch(latex)
    if not match or read_unit(f" {match[2]}", "") is None:
        return latex
    return rf"{match[1]}\text{{ {match[2]}}}"
