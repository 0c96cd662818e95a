"""Worker process that compares answers with math-verify, one JSON line in, one out.

`scoring.math_verify_many` runs
`python -m weak_to_strong.evaluation.math_verify_worker SECONDS MEGABYTES`.
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
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NoReturn, TextIO
from zlib import crc32

from weak_to_strong.evaluation.answer_text import mark_unit, strip_words, tidy
from weak_to_strong.evaluation.plain_math import parse_fraction
from weak_to_strong.evaluation.real_sets import SET_SIGNS, read_set, same_sets

READY = "ready"
UNDECIDED = "undecided"
#: Signals of a process that fails by itself, as at its limits of memory and stack.
CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)
VALUE = "value"
#: Numbers that are not both exact are equal if they differ by no more than this share,
RELATIVE_TOLERANCE = 1e-5
#: and those above this are not approximated.
LARGEST = 1e300

_UNICODE = str.maketrans(
    {
        "\N{MINUS SIGN}": "-",
        "\N{EN DASH}": "-",
        "\N{MULTIPLICATION SIGN}": r"\times ",
        "·": r"\cdot ",
        "÷": r"\div ",
        "π": r"\pi ",
        "∞": r"\infty ",
        "≈": r"\approx ",
        "≠": r"\neq ",
        "≤": r"\leq ",
        "≥": r"\geq ",
        "±": r"\pm ",
        "\N{UNION}": r"\cup ",
        "∩": r"\cap ",
        "∈": r"\in ",
        "°": r"^\circ ",
        "½": r"\frac{1}{2}",
        "¼": r"\frac{1}{4}",
        "¾": r"\frac{3}{4}",
        "…": r"\ldots ",
        # Nothing is seen of these.
        **dict.fromkeys("\N{ZERO WIDTH SPACE}\N{WORD JOINER}\N{ZERO WIDTH NO-BREAK SPACE}", ""),
    }
)
_RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_POWER = re.compile(f"[{_RAISED}]+")
_NUMERALS = str.maketrans(_RAISED, "0123456789")
_ROOT = re.compile(r"√\s*(?:(\d+(?:\.\d+)?)|([A-Za-z])|\{([^{}]*)\}|\(([^()]*)\))")
#: Dollar signs and \( \) \[ \], but neither `\$` nor the `\\[2pt]` of a matrix.
_MATH_MARKS = re.compile(r"(?<!\\)(?:\$|\\[()\[\]])")
_ROW_SPACE = re.compile(r"(\\\\)\[[\d.]+\s*[a-z]{2}\]")
_SIZES = re.compile(r"\\(?:left|right)(?![A-Za-z.])|\\[!,;]")
#: A space that does not keep words, numbers or commands apart.
_IDLE_SPACE = re.compile(r"(?<![A-Za-z0-9\\]) | (?![A-Za-z0-9])")
#: `\left` and `\infty` without their "ft", which the paper's normalisation takes for feet: gold
#: answers of the released data are so.
_LOST_LEFT = re.compile(r"\\le(?=\s*(?:[(\[|.]|\\\{))")
_LOST_INFINITY = re.compile(r"\\iny(?![A-Za-z])")
#: What follows the answer where a response gives it in a box and then says it once more.
_SAID_AGAIN = re.compile(
    r"(\\boxed ?\{[^{}]*(?:\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}[^{}]*)*\})\.? ?The answer is\b.*"
)
_MIXED = re.compile(r"(-?\d+) (\d+)/(\d+)")
_ORDINAL = re.compile(r"\^ ?\{? ?\\(?:text|mathrm|mbox) ?\{ ?(?:st|nd|rd|th) ?\}(?: ?\})?")
#: `pi`, as programs write it.
_PI = re.compile(r"(?<![\\A-Za-z])[Pp]i(?![A-Za-z])")
#: An "and" between two solutions, of which each may be a list.
_SPACED_AND = re.compile(r"\\q?quad\s*\\text\s*\{\s*(?:and|or)\s*\}\s*\\q?quad")
#: Letters of constants that are set upright.
_UPRIGHT = re.compile(r"\\(?:mathrm|operatorname) ?\{ ?([ei]) ?\}")
#: Functions, as programs and plain texts write them.
_FUNCTION = re.compile(
    r"(?<![\\A-Za-z])((?:arc)?(?:sin|cos|tan)|cot|sec|csc|ln|log|exp)_?(\d{0,2})"
    r"(?=\s*[({\\^]|\s*\d|\s+[a-z](?![A-Za-z]))"
)
_PLAIN_ROOT = re.compile(r"(?<![\\A-Za-z])sqrt(?=\{)")
_REPEATING = re.compile(
    r"(\d*)\.(\d{,9})(?:\\(?:overline|bar|dot) ?\{(\d{1,9})\}|\((\d{1,9})\)(?=[ $%]*\Z))"
)
#: `0.1666...`: the last digits stand there three times, or two times where they are several.
_REPEATED = re.compile(
    r"(\d*\.\d{,9}?)(?:(\d)\2{2,9}|(\d{2,9})\3{1,9})(?:\.{2,}|…|\\l?dots(?![A-Za-z]))"
)
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SUBSCRIPT = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
#: Intervals whose open ends have the bracket turned, and their ends.
_TURNED = re.compile(r"([\[\]])([^\[\]()]*,[^\[\]()]*)([\[\]])")
_DECIMAL_POWER = re.compile(r"\^ ?\{? ?-?\d*\.\d")
_PLAIN_SET = re.compile(r"\{[^{}\\]*[,|:][^{}\\]*\}")
_PLAIN_MATRIX = re.compile(r"\[ ?\[[^\[\]]*\](?:,? ?\[[^\[\]]*\])* ?\]")
_NAME = re.compile(r"[A-Za-z](?:_\{?\w+\}?)?|\\[a-z]+")
_BASE = re.compile(r"\d_\{?(\d+)\}?\s*$")
_PREFIXES = {"": "", "centi": "c", "milli": "m", "kilo": "k"}
#: Endings that math-verify drops as units and that an algebraic term may end in.
_LETTERS = re.compile(r"[a-z]|ab|bc")
_UNIT_LETTERS = frozenset("mgshl")
_INTEGER = re.compile(r"-?\d{1,99}", re.ASCII)
_COUNT = re.compile(r"-?[\d.,{} ]+")
#: Signs that math-verify drops; a list that goes on is not the list, nor a derivative its function.
_DOTS = re.compile(r"\\[lc]?dots[cbmio]?(?![A-Za-z])|\.\.\.")
_PRIME = re.compile(r"(?<=[A-Za-z)}])'")
#: A number inside a text that is dropped, such as `5\text{ and 3}`; not the 2 of `cm2`.
_COUNTED = re.compile(r"(?<![A-Za-z^\d{])\d")
_UNITS = {
    **{f"{prefix}meter": f"{short}m" for prefix, short in _PREFIXES.items()},
    **{f"{short}m": f"{short}m" for short in _PREFIXES.values()},
    **{"gram": "g", "kilogram": "kg", "g": "g", "kg": "kg", "foot": "ft", "feet": "ft", "ft": "ft"},
    **{"hour": "h", "hr": "h", "minute": "min", "min": "min", "second": "s", "sec": "s"},
    **{"inch": "in", "inche": "in", "in": "in", "mile": "mi", "mi": "mi"},
    **{name: name for name in ("year", "day", "dollar", "cent", "degree")},
}
_SPELLING = re.compile(r"\\(?:text|mbox)|[^A-Za-z/^2-9]")


def to_latex(text: str) -> str:
    """One line of LaTeX: the answer alone, without maths delimiters or common Unicode signs.

    Words around it, an outer \\boxed, Markdown's emphasis and what follows `\\approx` are left out.
    """
    text = strip_words(_restore_ft(tidy(text)))
    text = _MATH_MARKS.sub("", _ROW_SPACE.sub(r"\1", text))
    text = _PI.sub(r"\\pi ", text).replace(r"\varnothing", r"\emptyset")
    text = _FUNCTION.sub(_to_command, _PLAIN_ROOT.sub(r"\\sqrt", text))
    text = _SUBSCRIPT.sub(lambda match: f"_{{{match[0].translate(_SUBSCRIPTS)}}}", text)
    text = _SPACED_AND.sub("; ", text)
    text = _UPRIGHT.sub(r"\1", text)
    text = _ROOT.sub(lambda match: rf"\sqrt{{{''.join(filter(None, match.groups()))}}}", text)
    text = _POWER.sub(lambda match: f"^{{{match[0].translate(_NUMERALS)}}}", text)
    text = " ".join(text.translate(_UNICODE).split())
    if text[-1:] in (".", ",") and text[-2:-1] != text[-1:]:
        text = text[:-1].rstrip()
    if (len(text) - len(text.rstrip("\\"))) % 2:  # a space that stood last
        text = text[:-1].rstrip()
    text = _MIXED.sub(r"\1\\frac{\2}{\3}", text) if _MIXED.fullmatch(text) else text
    text = _REPEATED.sub(lambda match: rf"{match[1]}\overline{{{match[2] or match[3]}}}", text)
    text = _REPEATING.sub(_to_fraction, text)
    if _PLAIN_SET.fullmatch(text):
        text = rf"\{text[:-1]}\}}"
    if "][" not in text and _TURNED.fullmatch(text) and text[0] + text[-1] != "[]":
        text = _turn_brackets(_TURNED.fullmatch(text))
    if _PLAIN_MATRIX.fullmatch(text):
        rows = re.findall(r"\[([^\[\]]*)\]", text)
        text = r"\begin{pmatrix}" + r"\\".join(rows).replace(",", "&") + r"\end{pmatrix}"
    text = _ORDINAL.sub("", _DOTS.sub(r"\\ldots ", text).rstrip())
    text = mark_unit(_drop_rounded(text))
    text = _SAID_AGAIN.sub(r"\1", text)
    boxed = re.fullmatch(r"\\(?:boxed|fbox)\s*\{(.*)\}", text)
    if boxed and is_balanced(boxed[1]):
        return boxed[1]
    # math-verify would read an inner box alone.
    return text.replace(r"\boxed", "").replace(r"\fbox", "")


def _restore_ft(text: str) -> str:
    r"""`\le(0,\iny\right)` -> `\left(0,\infty\right)`."""
    lost = len(re.findall(r"\\right\b", text)) - len(re.findall(r"\\left\b", text))
    text = _LOST_LEFT.sub(r"\\left", text, count=lost) if lost > 0 else text
    return _LOST_INFINITY.sub(r"\\infty", text)


def _drop_rounded(text: str) -> str:
    r"""`x \approx 11` -> `x = 11`, and `x = 1/3 \approx 0.33` -> `x = 1/3`."""
    exact, about, rounded = text.partition(r"\approx")
    if not about:
        return text
    return f"{exact}={rounded}" if _NAME.fullmatch(exact.strip()) else exact.rstrip() or rounded


def _to_command(name: re.Match) -> str:
    r"""`log2` -> `\log_{2}`."""
    base = f"_{{{name[2]}}}" if name[1] == "log" and name[2] else name[2]
    return rf"\{name[1]}{base}"


def _turn_brackets(interval: re.Match) -> str:
    """`]0,1[` -> `(0,1)`."""
    left, ends, right = interval.groups()
    return f"{'[' if left == '[' else '('}{ends}{']' if right == ']' else ')'}"


def _to_fraction(decimal: re.Match) -> str:
    whole, once, *repeated = decimal.groups()
    again = next(filter(None, repeated))
    above = int(whole + once + again or 0) - int(whole + once or 0)
    return rf"\frac{{{above}}}{{{(10 ** len(again) - 1) * 10 ** len(once)}}}"


def squeeze(latex: str) -> str:
    """A line of LaTeX without what changes only how it looks; equal results mean equal answers."""
    latex = _SIZES.sub("", latex).replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac")
    return _IDLE_SPACE.sub("", latex)


def is_balanced(text: str) -> bool:
    """Whether braces and brackets close, though `(1,2]` may, and every \\left has its \\right."""
    if len(re.findall(r"[(\[]", text)) != len(re.findall(r"[)\]]", text)):
        return False
    depth = 0
    for sign in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if sign == "{" else -1
        if depth < 0:
            return False
    return depth == 0 and len(re.findall(r"\\left\b", text)) == len(re.findall(r"\\right\b", text))


def compare(gold: str, prediction: str) -> str:
    """The verdict of math-verify 0.9 on one pair: "right", "wrong" or "undecided".

    Either answer is read as one whole expression or not at all; math-verify's default falls back
    to the first number it finds, so that `0,≠0` counts as `0`. A "right" stands only if what
    math-verify leaves out (`_refute`) does not tell the answers apart, and, where an ending may be
    a unit or a variable (`5m`), if both readings agree.

    "undecided": the prediction is malformed LaTeX, or neither answer is an expression, or the
    comparison fails inside the library, or a reading is open.
    """
    gold, prediction = to_latex(gold), to_latex(prediction)
    bases = [match[1] for text in (gold, prediction) if (match := _BASE.search(text))]
    if len(bases) == 2 and bases[0] != bases[1]:
        return "wrong"
    if not _BASE.search(gold) and bases not in ([], ["10"]):  # gold may be of that base, or not
        return UNDECIDED
    if (verdict := _compare_sets(gold, prediction)) is not None:
        return verdict
    verdict = _compare_readings(gold, prediction, units=True)
    if any(_ending(text)[1] == "either" for text in (gold, prediction)):
        without_units = _compare_readings(gold, prediction, units=False)
        return verdict if without_units == verdict else UNDECIDED
    return verdict


def _compare_sets(gold: str, prediction: str) -> str | None:
    """The verdict on intervals and inequalities; None for other answers."""
    if not SET_SIGNS.search(gold + prediction):  # reading sets takes a millisecond
        return None
    sets = [read_set(text, partial(read_value, units=False)) for text in (gold, prediction)]
    if None in sets:
        return None
    same = same_sets(*sets, _numbers_are_apart)
    return None if same is None else "right" if same else "wrong"


def _numbers_are_apart(one: Any, other: Any) -> bool:
    from math_verify import verify

    apart = values_differ(one, other)
    return apart or not verify(one, other, timeout_seconds=None, raise_on_error=True)


def _compare_readings(gold: str, prediction: str, units: bool) -> str:
    from math_verify import verify

    values = [read_value(text, units) for text in (gold, prediction)]
    unread = [text for text, value in zip((gold, prediction), values, strict=True) if value is None]
    if unread:
        plain = all(is_balanced(text) and text.isascii() and text.isprintable() for text in unread)
        return "wrong" if plain and len(unread) == 1 else UNDECIDED
    if values_differ(*values) or not verify(*values, timeout_seconds=None, raise_on_error=True):
        return "wrong"
    return _refute(gold, prediction, values) or "right"


@lru_cache(maxsize=4096)
def read_value(latex: str, units: bool = True) -> Any:
    """The sympy value of a whole line of LaTeX as math-verify reads it, or None.

    Args:
        units: leave out an ending that may be a unit.
    """
    from math_verify.parser import parse_latex_cached
    from sympy import Integer, Rational

    if _INTEGER.fullmatch(latex):
        return Integer(latex)
    if (fraction := parse_fraction(latex)) is not None:
        return Rational(fraction)
    drop = units and _ending(latex)[1] in ("unit", "either")
    try:
        value = parse_latex_cached(_normalise(latex, units=drop))
        return _with_exact_powers(value) if _DECIMAL_POWER.search(latex) else value
    except (MemoryError, RecursionError):
        raise
    except Exception:  # the parser and sympy raise of all kinds: it cannot be read
        return None


def _with_exact_powers(value: Any) -> Any:
    """`2^{0.5}` is a root, which math-verify finds equal to no decimal."""
    from sympy import Pow, Rational

    return value.replace(
        lambda part: part.is_Pow and part.exp.is_Float,
        lambda part: Pow(part.base, Rational(str(part.exp))),
    )


def _normalise(latex: str, **changes: bool) -> str:
    from latex2sympy2_extended.math_normalization import normalize_latex
    from math_verify.parser import LatexExtractionConfig

    return normalize_latex(latex, replace(LatexExtractionConfig().normalization_config, **changes))


@lru_cache(maxsize=4096)
def _ending(latex: str) -> tuple[str, str]:
    """What math-verify takes for a unit at the end of a line, and what it can be.

    "unit", "variable" (`3t`), "either" (`5m`), or "" where there is none.
    """
    plain = {"malformed_operators": False, "nits": False}
    whole = _normalise(latex, units=False, **plain)
    kept = _normalise(latex, units=True, **plain)
    ending = whole[len(kept) :]
    if not ending or not whole.startswith(kept):
        return "", ""
    if not _LETTERS.fullmatch(ending.strip()):
        return ending.strip(), "unit"
    if ending.strip() not in _UNIT_LETTERS or not _COUNT.fullmatch(kept):
        return ending.strip(), "variable"
    return ending.strip(), "unit" if ending[0].isspace() else "either"


def values_differ(one: Any, other: Any) -> bool:
    """Whether two values differ: exact numbers at all, others by a share of 1e-5.

    Expressions differ if they do where each variable is a certain number. This says in a fraction
    of the time what `simplify` would find out about their difference. math-verify rounds to six
    decimals, so that for it all small numbers are equal.
    """
    from sympy import Expr, MatrixExpr, UnevaluatedExpr

    for value in (one, other):
        # math-verify has a rule of its own for names, and a percentage equals its number.
        if not isinstance(value, Expr) or isinstance(value, MatrixExpr) or value.is_Symbol:
            return False
        if value.has(UnevaluatedExpr):
            return False
    if one.is_Rational and other.is_Rational:
        return bool(one != other)
    try:
        # Strict: what is left of a difference that is nothing raises, and is no small number.
        numbers = [_at_a_point(value).evalf(20, strict=True) for value in (one, other)]
        sizes = [abs(number) for number in numbers]
        if not all(size.is_Float or size.is_Rational for size in sizes):
            return False
        scale = max(sizes)
        return scale < LARGEST and bool(abs(numbers[0] - numbers[1]) > RELATIVE_TOLERANCE * scale)
    except MemoryError:
        raise
    except Exception:  # sympy raises of all kinds; then nothing is sure, and the rest decides
        return False


def _at_a_point(value: Any) -> Any:
    """The value with a number between 1 and 2 for each variable, which its name decides."""
    from sympy import Rational

    return value.subs(
        {name: 1 + Rational(crc32(name.name.encode()), 2**32) for name in value.free_symbols}
    )


def _refute(gold: str, prediction: str, values: list) -> str | None:
    """Another verdict than "right" where the part that math-verify does not read differs."""
    for sign in (_DOTS, _PRIME):
        if len(sign.findall(gold)) != len(sign.findall(prediction)):
            return "wrong"
    if _is_form(values[1]) and not getattr(values[0], "is_Relational", False):
        return "wrong"
    endings = [_ending(text)[0] for text in (gold, prediction)]
    if any(map(_COUNTED.search, endings)):
        return None if endings[0] == endings[1] else UNDECIDED
    names = {_unit_name(ending) for ending in endings if ending}
    if len(names) > 1:
        return "wrong" if names <= set(_UNITS.values()) else UNDECIDED
    return None


def _unit_name(ending: str) -> str:
    name = _SPELLING.sub("", ending).lower()
    name = name.removesuffix("s") if len(name) > 2 else name
    return _UNITS.get(name.replace("metre", "meter"), name)


def _is_form(value: Any) -> bool:
    """Whether a value is an equation in the form `... = 0`, which is not `0`."""
    from sympy import Eq

    return isinstance(value, Eq) and value.rhs == 0 and value.lhs.is_Add and value.lhs.free_symbols


def compare_expressions(gold: str, prediction: str) -> str:
    """`compare` for answers without units: the letters of `m g h` are all variables."""
    from math_verify import verify

    texts = [to_latex(text) for text in (gold, prediction)]
    if any(len(sign.findall(texts[0])) != len(sign.findall(texts[1])) for sign in (_DOTS, _PRIME)):
        return "wrong"
    values = [read_value(text, units=False) for text in texts]
    if None in values:
        return compare(gold, prediction)
    apart = values_differ(*values)
    equal = not apart and verify(*values, timeout_seconds=None, raise_on_error=True)
    return "right" if equal else "wrong"


def compare_equations(gold: str, prediction: str) -> str:
    """`compare` for equations: "right" also where one is a multiple of the other."""
    from sympy import simplify

    sides = [to_latex(text).split("=") for text in (gold, prediction)]
    if any(len(parts) != 2 for parts in sides):
        return compare(gold, prediction)
    differences = [read_value(f"({left})-({right})", units=False) for left, right in sides]
    if None in differences or 0 in differences:
        return compare(gold, prediction)
    factor = simplify(differences[1] / differences[0])
    return "right" if factor.is_number and factor.is_finite and factor != 0 else "wrong"


def evaluate(text: str, _: str = "") -> str:
    """A real number as "value 1.414...", other text as "value"."""
    from sympy import Eq, Expr

    value = read_value(to_latex(text), units=False)
    if isinstance(value, Eq):
        value = value.rhs
    if not isinstance(value, Expr) or value.free_symbols:
        return VALUE
    number = value.evalf(20)
    return f"{VALUE} {number}" if number.is_Float or number.is_Rational else VALUE


#: What a worker can be asked for, by the third item of a line; a line of two asks for `compare`.
OPERATIONS = {
    "compare": compare,
    "expression": compare_expressions,
    "equation": compare_equations,
    "value": evaluate,
}


def judge_pairs(replies: TextIO, seconds: float) -> NoReturn:
    """Answer lines of standard input until it ends; any failure ends the process unanswered."""
    status = 1
    try:
        for line in sys.stdin:
            gold, prediction, *operation = json.loads(line)
            signal.setitimer(signal.ITIMER_PROF, seconds)
            try:
                verdict = OPERATIONS["".join(operation) or "compare"](gold, prediction)
            except MemoryError:  # leaves libraries in an unknown state
                raise
            except Exception:  # of math-verify, of any kind: a verdict of its own, which is counted
                verdict = UNDECIDED
            signal.setitimer(signal.ITIMER_PROF, 0)
            print(verdict, file=replies, flush=True)
        status = 0
    finally:
        os._exit(status)


def main() -> None:
    """Serve through a forked child, and through a fresh one whenever a comparison ends it.

    A child that a signal from outside ends takes this process with it: that is no verdict.
    """
    seconds, megabytes = float(sys.argv[1]), int(sys.argv[2])
    # Nothing that a library prints may enter the protocol.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    for number in (signal.SIGPROF, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    import logging

    from math_verify import parse

    logging.disable(logging.CRITICAL)
    parse("$1$", parsing_timeout=None)
    resource.setrlimit(resource.RLIMIT_AS, (megabytes * 2**20, megabytes * 2**20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print(READY, file=replies, flush=True)
    # At most one line is in flight, so a dead child leaves none unread in its buffer.
    while (child := os.fork()) or judge_pairs(replies, seconds):
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == 0:
            return
        if code < 0 and -code not in (signal.SIGPROF, *CRASHES):
            os.kill(os.getpid(), -code)
        print("timeout" if code == -signal.SIGPROF else UNDECIDED, file=replies, flush=True)


if __name__ == "__main__":
    main()
