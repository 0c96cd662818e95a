r"""Sets of real numbers as answers write them: intervals, inequalities, unions.

`x \in [-2,7]`, `-2 \leq x \leq 7`, `[-2,7]` and `\{x \mid -2 \le x \le 7\}` are one set.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

#: What one of two answers holds where they are compared as sets.
SET_SIGNS = re.compile(r"[<>]|\\(?:le|ge|lt|gt|ne|in|cup|lor|mathbb|R)|\bU\b|\breals?\b")
#: Spellings, and the signs that stand for them here.
_PLAIN = (
    (re.compile(r"\\(?:left|right|big|Big|displaystyle)(?![A-Za-z])\.?|\\[,;:!]|\\q?quad"), " "),
    (re.compile(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\leq?(?:slant)?(?![A-Za-z])|\\leqq(?![A-Za-z])|<=|=<"), " ≤ "),
    (re.compile(r"\\geq?(?:slant)?(?![A-Za-z])|\\geqq(?![A-Za-z])|>=|=>"), " ≥ "),
    (re.compile(r"\\lt(?![A-Za-z])"), " < "),
    (re.compile(r"\\gt(?![A-Za-z])"), " > "),
    (re.compile(r"\\neq?(?![A-Za-z])|\\not\s*=|!="), " ≠ "),
    (re.compile(r"\\in(?![A-Za-z])"), " ∈ "),
    (re.compile(r"\\(?:cup|lor|vee)(?![A-Za-z])|\bor\b|(?<=[\])}])\s*U\s*(?=[\[({])"), " UNION "),
    (re.compile(r",(?=[^,<>]*≠)"), " ∩ "),
    (re.compile(r"\\(?:cap|land|wedge)(?![A-Za-z])|\band\b"), " ∩ "),
    (re.compile(r"\\(?:setminus|backslash)(?![A-Za-z])"), " MINUS "),
    (
        re.compile(
            "\\\\mathbb\\s*\\{?\\s*R\\s*\\}?|\\\\R(?![A-Za-z])|\u211d|\\ball reals?(?: numbers)?\\b"
        ),
        " REALS ",
    ),
    (re.compile(r"\\(?:emptyset|varnothing)(?![A-Za-z])"), " ∅ "),
    (re.compile(r"\\[lr]vert(?![A-Za-z])"), "|"),
    (re.compile(r"\+\s*\\infty"), r"\\infty"),
    (re.compile(r"\s+"), " "),
)
#: What a set is of: `x`, `x_1`, `\theta`, `f(x)`, or `|z|`.
_NAME = r"(?:[A-Za-z](?:_\{?\w+\}?)?|\\(?!infty|pi)[a-z]+)(?: ?\( ?[A-Za-z] ?\))?"
_NAMED = re.compile(rf"(?P<bar>\| ?)?(?P<name>{_NAME})(?(bar) ?\|)")
_MEMBER = re.compile(rf"({_NAME}) ∈ (?![^∈]*∈)(.*)")
_BUILDER = re.compile(rf"\\\{{ ?({_NAME})(?: ∈ REALS)? ?(?:\\mid|:|\|) ?(.*)\\\}}")
_INTERVAL = re.compile(r"([\[\]()])([^,;]*)[,;]([^,;]*)([\[\]()])")
_FINITE = re.compile(r"\\\{(.*)\\\}")
_SIGN = re.compile(r" ?([<>≤≥≠=]) ?")


class RealSet(NamedTuple):
    """A set of real numbers.

    Attributes:
        name: what it is a set of, "" where the answer does not say.
        values: sympy's set.
        is_range: whether it has an interval in it.
        is_plain: whether it is written as one interval, which may also mean a point `(2, 5)`.
    """

    name: str
    values: Any
    is_range: bool
    is_plain: bool


class _UnreadError(ValueError):
    """A text is no set of real numbers."""


def read_set(latex: str, read_number: Callable[[str], Any]) -> RealSet | None:
    """The set that a line of LaTeX writes; None for other text, and for ends that are no numbers.

    Args:
        read_number: sympy's value of a piece of LaTeX, or None.
    """
    text = latex
    for pattern, plain in _PLAIN:
        text = pattern.sub(plain, text)
    try:
        return _Reader(read_number).read(text.strip(" .,$"))
    except _UnreadError:
        return None


def same_sets(one: RealSet, other: RealSet, differ: Callable[[Any, Any], bool]) -> bool | None:
    """Whether two sets are the same; None where they are of different things, or no ranges.

    Args:
        differ: whether two numbers do.
    """
    if one.name and other.name and one.name != other.name:
        return None
    if (one.is_plain and other.is_plain) or not (one.is_range or other.is_range):
        return None
    ends = [_ends(side.values) for side in (one, other)]
    if len(ends[0]) != len(ends[1]):
        return False
    pairs = zip(*ends, strict=True)
    return all(
        ours[1:] == theirs[1:] and _same(ours[0], theirs[0], differ) for ours, theirs in pairs
    )


def _same(one: Any, other: Any, differ: Callable[[Any, Any], bool]) -> bool:
    if one.is_infinite or other.is_infinite:
        return bool(one == other)
    return not differ(one, other)


def _ends(values: Any) -> list[tuple[Any, bool, bool]]:
    """(end, whether it is outside, whether it is a left end) in their order."""
    from sympy import FiniteSet, Interval, Union

    ends = []
    for part in values.args if isinstance(values, Union) else [values]:
        if isinstance(part, Interval):
            ends += [
                (part.start, bool(part.left_open), True),
                (part.end, bool(part.right_open), False),
            ]
        elif isinstance(part, FiniteSet):
            ends += [(point, False, left) for point in part.args for left in (True, False)]
        elif not part.is_empty:
            raise _UnreadError
    return sorted(ends, key=lambda end: (float(end[0]), not end[2]))


def _with_mirror(values: Any) -> Any:
    """Numbers whose size is in a set."""
    from sympy import FiniteSet, Interval, Union

    mirrored = []
    for part in values.args if isinstance(values, Union) else [values]:
        if isinstance(part, Interval):
            mirrored.append(Interval(-part.end, -part.start, part.right_open, part.left_open))
        elif isinstance(part, FiniteSet):
            mirrored.append(FiniteSet(*(-point for point in part.args)))
    return Union(values, *mirrored)


class _Reader:
    def __init__(self, read_number: Callable[[str], Any]) -> None:
        self._read_number = read_number
        self.names: set[str] = set()

    def read(self, text: str) -> RealSet:
        values = self._union(text)
        _ends(values)  # raises where it is no plain set
        if len(self.names) > 1:
            raise _UnreadError
        is_plain = not self.names and _INTERVAL.fullmatch(text) is not None
        return RealSet("".join(self.names), values, values.measure != 0, is_plain)

    def _union(self, text: str) -> Any:
        from sympy import Union

        if match := _BUILDER.fullmatch(text):
            self.names.add(match[1])
            text = match[2].strip()
        if match := _MEMBER.fullmatch(text):
            self.names.add(match[1])
            text = match[2].strip()
        return Union(*map(self._intersection, text.split("UNION")))

    def _intersection(self, text: str) -> Any:
        from sympy import Intersection

        return Intersection(*map(self._difference, text.split("∩")))

    def _difference(self, text: str) -> Any:
        whole, *without = (self._atom(part.strip()) for part in text.split("MINUS"))
        for part in without:
            whole -= part
        return whole

    def _atom(self, text: str) -> Any:
        from sympy import FiniteSet, Interval, S

        if text in ("REALS", "∅"):
            return S.Reals if text == "REALS" else S.EmptySet
        if match := _MEMBER.fullmatch(text):
            self.names.add(match[1])
            return self._atom(match[2].strip())
        if match := _INTERVAL.fullmatch(text):
            left, start, end, right = match.groups()
            return Interval(self._number(start), self._number(end), left != "[", right != "]")
        if match := _FINITE.fullmatch(text):
            return FiniteSet(*map(self._number, match[1].split(",")))
        return self._relation(text)

    def _relation(self, text: str) -> Any:
        """`2 < x`, `x \\ge 2`, `2 < x < 5` and `x = 2`, also of `|x|`."""
        from sympy import FiniteSet, Interval, S, oo

        parts = _SIGN.split(text)
        if len(parts) == 5:
            first, sign, name, other, last = parts
            if {sign, other} <= {"<", "≤"}:
                values = Interval(
                    self._number(first), self._number(last), sign == "<", other == "<"
                )
            elif {sign, other} <= {">", "≥"}:
                values = Interval(
                    self._number(last), self._number(first), other == ">", sign == ">"
                )
            else:
                raise _UnreadError
        elif len(parts) == 3:
            name, sign, value = parts
            if not _NAMED.fullmatch(name.strip()):
                name, value, sign = value, name, sign.translate(str.maketrans("<>≤≥", "><≥≤"))
            number = self._number(value)
            values = {
                "<": lambda: Interval.open(-oo, number),
                ">": lambda: Interval.open(number, oo),
                "≤": lambda: Interval(-oo, number),
                "≥": lambda: Interval(number, oo),
                "=": lambda: FiniteSet(number),
                "≠": lambda: S.Reals - FiniteSet(number),
            }[sign]()
        else:
            raise _UnreadError
        match = _NAMED.fullmatch(name.strip())
        if not match:
            raise _UnreadError
        self.names.add(match["name"].replace(" ", ""))
        if match["bar"]:
            return _with_mirror(values & Interval(0, oo))
        return values

    def _number(self, text: str) -> Any:
        value = self._read_number(text.strip())
        if value is None or getattr(value, "free_symbols", True) or not value.is_extended_real:
            raise _UnreadError
        # `\sin(\infty)` and `\infty-\infty` have no place in the order.
        size = value.evalf(2)
        if not size.is_Number or not size.is_extended_real:
            raise _UnreadError
        return value
