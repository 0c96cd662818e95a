"""An answer without Markdown's marks, without full-width signs and without the words around it."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

from weak_to_strong.evaluation.number_words import changes_answer, is_changing
from weak_to_strong.evaluation.units import read_unit

#: A longer text is reasoning and no answer of a few words.
MAX_SENTENCE = 200
#: Boxes with more words between them are no list.
MAX_WORDS_BETWEEN = 5

#: ASCII signs for full-width ones and other spellings. None of these breaks a line.
_SIGNS = str.maketrans(
    {
        **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)},
        **dict.fromkeys("\u00a0\u1680\u202f\u205f\u3000", " "),
        **dict.fromkeys(map(chr, range(0x2000, 0x200B)), " "),
        **dict.fromkeys("\u200b\u2060\ufeff", ""),
        # Units in one sign, as of degrees Celsius and square metres.
        **{code: unicodedata.normalize("NFKC", chr(code)) for code in range(0x3371, 0x33E0)},
        **{code: unicodedata.normalize("NFKC", chr(code)) for code in (0x2103, 0x2109)},
        **dict.fromkeys("。｡", "."),
        **dict.fromkeys("、､", ","),
        **dict.fromkeys("\N{MINUS SIGN}\N{EN DASH}\N{HYPHEN}\N{NON-BREAKING HYPHEN}", "-"),
        **{
            "٪": "%",
            "\u066c": ",",
            "\u066b": ".",
            "\N{FRACTION SLASH}": "/",
            **dict.fromkeys("“”«»「」『』【】", '"'),
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

#: `x**2`, as programs write it.
_STARRED_POWER = re.compile(r"(?<=[\w)}])(?: \*\* |\*\*)\(?(-?\w+(?:\.\d+)?)\)?(?!\w|\*)")
#: Commands and tags of HTML that change only how an answer looks.
_LOOKS = re.compile(
    r"\\(?:text)?color ?\{[\w!]{1,20}\}"
    r"|\\(?:bf|it|rm|sf|bfseries|boldmath|large|Large|huge|Huge|normalsize)(?![A-Za-z])"
    r"|</?(?:b|i|u|em|strong|mark|span|p|code|answer)(?: [^<>]*)?>"
    r"|\s*\\\\\s*\Z"
)
#: All of an answer in braces, as they are left of `\textcolor{red}{5}`.
_GROUP = re.compile(r"\A(\$?)\{ ?([^{}]*)\}(\$?)\Z")
#: A box or plain number in a command for looks.
_DRESSED = re.compile(
    r"(\$?)\\(?:underline|mathbf|boldsymbol|bm|emph|pmb) ?"
    r"\{((?:\\boxed|\\[dt]?frac|[^{}\\]|\{[^{}\\]*\})+)\}(\$?)"
)
#: Pictures before or behind an answer, of which none says that it is wrong.
_PICTURE = "[\u2705\u2713\u2714\u2728\ufe0f\U0001f300-\U0001faff ]+"
_PICTURES = re.compile(rf"\A{_PICTURE}|{_PICTURE}\Z")

_MARKED = re.compile(r"([^$]*)\$+([^$]+)\$+([^$]*)")
_PLAIN_WORDS = re.compile(r"[A-Za-z' ,.:;\"-]*")
_LEAD = re.compile(
    r"(?:[A-Za-z' ,]*?(?<![A-Za-z])(?:answers?|results?|solutions?)(?![A-Za-z])"
    r"(?: (?:is|are|was|to|of|the|this|problem|equals|therefore|thus|given|by))* ?[:=]?"
    r"|(?:so|thus|hence|therefore|then|finally)(?![A-Za-z]),?"
    r"|(?:option|choice)(?= \(?[A-Z]\)?\.?\Z)"
    r"|(?:it|this|that|we|which) (?:is|are|equals|get|have|find)(?![A-Za-z])(?: that)?) ?:? ?",
    re.I,
)
_BOX = re.compile(r"\\(?:boxed|fbox) ?\{((?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})*)\}")
#: What may stand before a box that is the answer: a sign, or a word.
_BEFORE_BOX = re.compile(
    r"(?:(?:\A|[=:]|\\in|(?<![\\A-Za-z])[A-Za-z']{2,},?\s)[\s$]*(?:\\[(\[])?\s*)\Z"
)
_AFTER_BOX = re.compile(r"[\s$.,;:!]*(?:\\[)\]])?[\s$.,;:!]*")
_BARE_WORD = re.compile(r"(?<!\\)\b[A-Za-z]{2,}")
#: Words that deny what follows.
_DENYING = re.compile(r"\b(?:not|no|never|neither|nor|except|isn't|wrong|instead)\b", re.I)
#: What stands between boxes that are one list, and a name before the next one.
_BETWEEN_BOXES = re.compile(
    r"(?=[^A-Za-z]*\Z|.*(?:,|\b(?:and|or)\b))[\s$,;A-Za-z()\[\]\\{}]{0,40}"
    r"(?:\b[A-Za-z]_?\{?\d?\}? ?= ?\$*)?",
    re.DOTALL,
)
#: A line break that a program has written out. LaTeX has no such command.
_WRITTEN_BREAK = re.compile(r"\\n(?![A-Za-z])")
#: Backslashes that a program has doubled.
_DOUBLED = re.compile(r"\\\\(?=[A-Za-z]{2}|[()\[\]{}%$])")
_BARE_UNIT = re.compile(r"(.*[\d})]) ([A-Za-z]{2,}[A-Za-z /.'-]*)", re.DOTALL)


def tidy(text: str) -> str:
    """Text with ASCII signs for full-width ones, without Markdown's emphasis and outer quotes.

    Of a sentence with a box the contents of the box are left, see `unbox`.
    """
    text = text.translate(_SIGNS).strip()
    text = _WRITTEN_BREAK.sub(" ", _PICTURES.sub("", text))
    if _DOUBLED.search(text) and not re.search(r"(?<!\\)\\(?:\\\\)*(?!\\)", text):
        text = text.replace("\\\\", "\\")
    if len(text) <= MAX_SENTENCE:
        plain = _LOOKS.sub("", text).strip()
        text = _GROUP.sub(r"\1\2\3", plain) if plain != text else plain
        text = _DRESSED.sub(r"\1\2\3", text) if _DRESSED.fullmatch(text) else text
        text = unbox(text)
        text = _EMPHASIS.sub(r"\2", text)
        quoted = _QUOTED.fullmatch(text)
        text = quoted[2].strip() if quoted else text
    return _STARRED_POWER.sub(r"^{\1}", _STRAY_MARKS.sub("", text)).strip()


def unbox(text: str) -> str:
    r"""The contents of the box that ends a text; of several boxes in a row those of all, as a list.

    `so $x = \boxed{5}$.` is `5`, and `\boxed{1} and \boxed{2}` is `1, 2`. Other text stays.
    """
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return text
    first, last = boxes[0], boxes[-1]
    before, after = text[: first.start()], text[last.end() :]
    if not _BEFORE_BOX.search(before) or _DENYING.search(" ".join(before.split()[-4:])):
        return text
    if len(boxes) == 1:
        return first[1].strip() if _AFTER_BOX.fullmatch(after) else text
    if len({box[1].strip() for box in boxes}) == 1 and _AFTER_BOX.fullmatch(after):
        return first[1].strip()
    between = [text[one.end() : other.start()] for one, other in pairwise(boxes)]
    joined = all(
        _BETWEEN_BOXES.fullmatch(part)
        and len(_BARE_WORD.findall(part)) <= MAX_WORDS_BETWEEN
        and not _DENYING.search(part)
        for part in between
    )
    if not joined or not _PLAIN_WORDS.fullmatch(_AFTER_BOX.sub("", after, count=1)):
        return text
    return ", ".join(box[1].strip() for box in boxes)


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
        if not rest or changes_answer(lead[0]) or is_changing(rest.split()[0]):
            break
        text = rest
    marked = re.sub(r"\\[()\[\]]", "$", text)
    match = _MARKED.fullmatch(marked)
    if not match or not (match[1] + match[3]).strip(" .,"):
        return text
    before, formula, after = match.groups()
    if not all(map(_PLAIN_WORDS.fullmatch, (before, after))):
        return text
    # `Here is a zero matrix: $...$` says what the formula is.
    changes = _DENYING.search if before.rstrip().endswith(":") else changes_answer
    if changes(before) or changes_answer(after):
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
