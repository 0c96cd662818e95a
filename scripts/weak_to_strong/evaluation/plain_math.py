r"""Verdicts on plainly written answers, without a computer algebra system.

Most answers are numbers, tuples of them or polynomials. Reading one here takes microseconds, with a
LaTeX parser milliseconds. Numbers are compared exactly. Expressions are evaluated at one arbitrary
point: different values prove that they differ, equal ones prove nothing. What is not plain or has
two readings (`1/2\pi`) has no value here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from string import ascii_lowercase

from weak_to_strong.evaluation.quantities import written_verdict

_DECIMAL = re.compile(r"[+-]?(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)?(?:\.\d*)?")
_FRACTION = re.compile(
    r"(-?)(?:\\[dt]?frac(?:\{(-?\d{1,99})\}\{(\d{1,99})\}|(\d)(\d))|(\d{1,99})/(\d{1,99}))",
    re.ASCII,
)
_TOKEN = re.compile(r"\d+(?:\.\d+)?|\\[a-zA-Z]+|[-+/*^(){}\[\]a-zA-Z]", re.ASCII)
#: Words and products of variables look alike, and so do a last variable and a unit (`5m`).
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z] ?[A-Za-z]|[\d}) ][tohclsdgm]$|\d \d")
_GREEK = ("alpha", "beta", "gamma", "delta", "theta", "lambda", "phi", "omega")
#: Where variables are evaluated: arbitrary numbers above 1, on which no identity depends. Capitals
#: are small letters, as for math-verify.
_POINT = {
    **{letter: 1.1 + math.sqrt(ord(letter)) % 1 for letter in ascii_lowercase},
    "e": math.e,
    "i": 1j,
    **{f"\\{name}": 2.2 + math.sqrt(3 + 7 * rank) % 1 for rank, name in enumerate(_GREEK)},
    r"\pi": math.pi,
}
#: A name before a value, a text without formulas, and words that are formulas.
_NAMED = re.compile(r"[A-Za-z](?:\([A-Za-z]\))? ?= ?([^=<>]*)")
_TEXT = re.compile(r"\\(?:text(?:bf|it|rm)?|mathrm|mbox) ?\{([^{}\\$]*)\}")
#: A number and what it counts: in \\text{}, which math-verify drops, or in bare words.
_UNIT = re.compile(
    r"(.*[\d})]) ?(?:"
    r"(\\(?:text|mbox|mathrm) ?\{ ?[A-Za-z]+\.? ?\}(?:\^\{?[23]\}?)?)|([A-Za-z]{2,}))"
)
#: A set of several, and a tuple or an open interval.
_SET = re.compile(r"(?:\\left ?)?\\\{[^{}]*,[^{}]*\}")
_TUPLE = re.compile(r"(?:\\left ?)?\([^()]*,[^()]*\)")
_CHOICE = re.compile(r"\(?[A-Za-z]\)?")
#: `Yes, it is.`
_SAID_FIRST = re.compile(
    r"(yes|no|true|false)[,.;:!] (?!.*(?:\b(?:yes|no|not|true|false|but|if|unless)\b|n't)).*", re.I
)
_WORDS = re.compile(r"[A-Za-z][A-Za-z '-]{2,}[A-Za-z]")
_NO_SOLUTIONS = re.compile(r"\A(?:there(?:is|are))?(no(?:real)?solution)s?(?:exists?)?\Z")
_TRUTH = {"yes", "no", "true", "false"}
_FORMULA = re.compile(
    r"\b(?:and|or)\b|inf|pi|sqrt|percent|pct|dozen|hundred|thousand|illion", re.IGNORECASE
)
_BRACKETS = re.compile(r"(?:\\\{|[(\[])(.*?)(?:\\\}|[)\]])")
_BRACKET = re.compile(r"[()\[\]]|\\[{}]")
_FUNCTIONS = {
    r"\sin": math.sin,
    r"\cos": math.cos,
    r"\tan": math.tan,
    r"\cot": lambda value: 1 / math.tan(value),
    r"\sec": lambda value: 1 / math.cos(value),
    r"\csc": lambda value: 1 / math.sin(value),
    r"\ln": math.log,
}
_INFINITY = re.compile(r"([-+]?)\\infty")
#: Larger numbers may cancel to any difference in floating point.
_LARGEST = 1e9
#: math-verify rounds decimals to six places. Farther apart than this, numbers differ all the same.
_APART = 1e-5


def parse_decimal(text: str) -> Decimal | None:
    """The exact value of a plain decimal such as "1,250.50" or "-3", or None for other text."""
    text = text.strip()
    if not _DECIMAL.fullmatch(text) or not any(map(str.isdigit, text)) or not text.isascii():
        return None
    return Decimal(text.replace(",", ""))


def parse_fraction(text: str) -> Fraction | None:
    r"""The exact value of `-2/3`, `\frac{2}{3}` or `\frac23`, or None for other text."""
    match = _FRACTION.fullmatch(text.strip())
    if not match:
        return None
    sign, *parts = match.groups()
    above, below = (int(part) for part in parts if part is not None)
    return Fraction(-above if sign else above, below) if below else None


def plain_verdict(prediction: str, gold: str) -> str | None:
    r"""The verdict of math mode on two lines of LaTeX where both are plain, else None.

    Numbers with their units, times and lists are compared by `quantities.written_verdict`. Other
    expressions are never "right" here: they are "wrong" if `certainly_differ` says so.
    """
    lines = [_TEXT.sub(r"\1", line).strip() for line in (prediction, gold)]
    lines = [match[1] if (match := _SAID_FIRST.fullmatch(line)) else line for line in lines]
    said = [line.rstrip(". ").lower() for line in lines]
    if _TRUTH.issuperset(said):
        return "right" if said[0] == said[1] else "wrong"
    if all(map(_is_words, lines)):
        one, other = (_NO_SOLUTIONS.sub(r"\1", "".join(line.split()).casefold()) for line in lines)
        return "right" if one == other else "wrong"
    lines = [
        text if _CHOICE.fullmatch(text) else line
        for text, line in zip(lines, (prediction, gold), strict=True)
    ]
    if sum("=" in line for line in lines) == 1:
        lines = [match[1] if (match := _NAMED.fullmatch(line)) else line for line in lines]
    if sorted(bool(_SET.fullmatch(line)) for line in lines) == [False, True] and any(
        map(_TUPLE.fullmatch, lines)
    ):
        return "wrong"
    if verdict := written_verdict(*lines):
        return verdict
    return "wrong" if certainly_differ(*map(_without_unit, lines)) else None


def _without_unit(line: str) -> str:
    line = line.removesuffix(r"^\circ").removesuffix(r"^{\circ}")
    match = _UNIT.fullmatch(line)
    return match[1] if match and not _FORMULA.search(match[2] or match[3]) else line


def _is_words(text: str) -> bool:
    return bool(_WORDS.fullmatch(text)) and not _FORMULA.search(text)


def approximate(latex: str) -> complex | None:
    r"""The value of an expression of numbers, `\pi`, variables, roots, fractions and powers.

    Variables have fixed, arbitrary values. None for other text, for large numbers, and where a
    reader could take it two ways.
    """
    if (decimal := parse_decimal(latex)) is not None:
        return float(decimal) if abs(decimal) <= _LARGEST else None
    if match := _INFINITY.fullmatch(latex.strip()):
        return -math.inf if match[1] == "-" else math.inf
    tokens = _TOKEN.findall(latex)
    if "".join(tokens) != latex.replace(" ", "") or _WORD.search(latex):
        return None
    reader = _Reader([token for token in tokens if token not in (r"\left", r"\right")])
    try:
        value = reader.read_sum()
    except (ValueError, TypeError, ArithmeticError, IndexError, RecursionError):
        return None
    return value if not reader.tokens else None


def certainly_differ(one: str, other: str) -> bool:
    r"""Whether two answers certainly differ: one has an element that is none of the other's.

    Elements are what stands between commas, brackets around all of it aside, so that this holds
    for numbers, tuples, intervals, lists and sets alike.
    """
    sides = [[approximate(element) for element in _elements(text)] for text in (one, other)]
    if None in sides[0] or None in sides[1]:
        return False
    return any(
        all(_differ(element, other_element) for other_element in side)
        for elements, side in (sides, reversed(sides))
        for element in elements
    )


def _elements(latex: str) -> list[str]:
    latex = re.sub(r"\\(?:left|right)(?![A-Za-z.])", "", latex).strip()
    if parse_decimal(latex) is not None:
        return [latex]
    if r"\cup" in latex:
        return _ends(latex)
    inner = _BRACKETS.fullmatch(latex)
    latex = inner[1] if inner and not _BRACKET.search(inner[1]) else latex
    return latex.split(",")


def _ends(latex: str) -> list[str]:
    """Ends of intervals that neither meet nor overlap: another such list is another set."""
    pieces = [_BRACKETS.fullmatch(piece.strip()) for piece in latex.split(r"\cup")]
    if not all(pieces) or any(_BRACKET.search(piece[1]) for piece in pieces):
        return [""]
    ends = [piece[1].split(",") for piece in pieces]
    values = [[approximate(end) for end in pair] for pair in ends]
    if any(not isinstance(value, float) for pair in values for value in pair):
        return [""]
    ordered = [value for pair in sorted(values) for value in dict.fromkeys(pair)]
    rising = all(one < other for one, other in pairwise(ordered))
    return [end for pair in ends for end in pair] if rising else [""]


def _differ(one: complex, other: complex) -> bool:
    if math.inf in (abs(one), abs(other)):
        return one != other
    return abs(one - other) > _APART * max(1, abs(one), abs(other))


class _Reader:
    """Recursive descent over tokens; an error where they are not plain."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens[::-1]

    def _next(self) -> str:
        return self.tokens[-1] if self.tokens else ""

    def _take(self, *wanted: str) -> bool:
        matches = self._next() in wanted
        if matches:
            self.tokens.pop()
        return matches

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise ValueError(f"{token} is missing")

    def read_sum(self) -> complex:
        sign = -1 if self._take("-") else 1
        total = sign * self._read_product()
        while self._next() in ("+", "-"):
            sign = -1 if self.tokens.pop() == "-" else 1
            total += sign * self._read_product()
        return _check(total)

    def _read_product(self) -> complex:
        value, mixed = self._read_power(), False
        while self._next() and self._next() not in ("+", "-", ")", "}", "]"):
            if mixed:  # of 1/2\pi
                raise ValueError("what stands below the line is open")
            if self._take("*", r"\cdot", r"\times"):
                value *= self._read_power()
            elif self._take("/"):
                value, mixed = value / self._read_power(), True
            elif self._next()[0].isdigit() or "frac" in self._next():  # 2\frac14
                raise ValueError("a mixed number or a product")
            else:
                value *= self._read_power()
        return _check(value)

    def _read_power(self) -> complex:
        base = self._read_atom()
        if self._take("^"):
            exponent = self._read_argument()
            real = isinstance(base, complex) or base > 0 or exponent == int(exponent)
            if abs(exponent) > 64 or not real:
                raise ValueError("no plain power")
            base = _check(base) ** exponent
        if self._next() == "^":
            raise ValueError("a power of a power")
        return _check(base)

    def _read_atom(self) -> complex:
        token = self.tokens.pop()
        if token[0].isdigit():
            return float(token)
        if token.lower() in _POINT:
            return _POINT[token.lower()]
        if token in _FUNCTIONS:
            return self._read_function(_FUNCTIONS[token])
        if token in (r"\frac", r"\dfrac", r"\tfrac"):
            return self._read_fraction()
        if token == r"\sqrt":
            return self._read_root()
        if token == "(":
            value = self.read_sum()
            self._expect(")")
            return value
        if token == "{":
            value = self.read_sum()
            self._expect("}")
            return value
        raise ValueError(f"{token} is no plain number")

    def _read_function(self, function: Callable[[float], float]) -> float:
        """Of a variable or brackets, and with nothing behind that could belong to it too."""
        power = self._read_argument() if self._take("^") else 1
        if power != int(power) or power < 1 or self._next()[0].isdigit():
            raise ValueError("no plain function")
        value = function(self._read_atom()) ** power
        if self._next() not in ("", "+", "-", ")", "}", "*", r"\cdot", *_FUNCTIONS):
            raise ValueError("what the function is of is open")
        return value

    def _read_fraction(self) -> complex:
        if len(self._next()) == 2 and self._next().isdigit():  # \frac12
            above, below = self.tokens.pop()
            return float(above) / float(below)
        return self._read_argument() / self._read_argument()

    def _read_root(self) -> complex:
        degree = 2.0
        if self._take("["):
            degree = self.read_sum()
            self._expect("]")
        radicand = self._read_argument()
        if radicand < 0:
            raise ValueError("no real root")
        return radicand ** (1 / degree)

    def _read_argument(self) -> complex:
        """One digit or a group in braces."""
        if len(self._next()) > 1 or not (self._next().isdigit() or self._next() == "{"):
            raise ValueError("an argument without braces")
        return self._read_atom()


def _check(value: complex) -> complex:
    if not abs(value) <= _LARGEST:
        raise ValueError("too large to compare")
    return value
