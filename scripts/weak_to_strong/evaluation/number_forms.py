"""Numbers in digits, in the forms in which people and models write them.

Values are exact fractions. `NUMBER` finds a number in a text, and `read_number` gives its value.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

#: A larger power of ten is not written out.
MAX_EXPONENT = 5_000

_PLAIN = r"\d+(?:\.\d+)?"
_GROUPED = rf"(?:\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?|{_PLAIN})"

_SIGN = r"(?P<sign>(?<![\w)}])[+-] ?|(?<![\w-])(?:negative|minus) )?"
_CURRENCY = (
    r"(?P<currency>(?:(?<![A-Za-z])(?:US|CA|AU|HK|NT|NZ|MX|C|A|R|S))?\$ ?|[€£¥₹₩¢₽₫₺₱] ?"
    r"|(?<![A-Za-z])(?:USD|EUR|GBP|INR|Rs\.?) ?)?(?P<inner>[+-])?"
)
#: `2 1/4`, or `2-1/4`.
_MIXED = r"(?P<whole>\d+)(?: |-)(?P<over>\d+)/(?P<under>\d+)"
#: `\frac{9}{4}`, `\frac94`, or `2\frac14`.
_LATEX_FRACTION = (
    r"(?P<entire>\d+)? ?\\[dtc]?frac ?(?:"
    rf"\{{ ?(?P<minus>-?) ?(?P<above>{_PLAIN}) ?\}} ?\{{ ?(?P<below>{_PLAIN}) ?\}}"
    r"|(?P<one>\d) ?(?P<other>\d))"
)
#: `9/4`.
_FRACTION = rf"(?P<left>{_GROUPED}) ?/ ?(?P<right>{_GROUPED})"
#: `10^{3}` or `10^3`, with the names of two groups to fill in.
_TEN = r"10 ?\^ ?(?:\{ ?(?P<%s>[+-]?\d+) ?\}|(?P<%s>[+-]?\d+))"
#: In this order: `1,234.5`; `1,00,000`; `1 234,5`; `1.234,5` or `1.234.567`; `12.5` or `12,5`;
#: `.5`.
_DECIMAL = (
    r"(?:[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?(?![,\d])"
    r"|[1-9]\d?(?:,\d{2})+,\d{3}(?:\.\d+)?(?![,\d])"
    r"|[1-9]\d{0,2}(?P<gap>[ '_])\d{3}(?:(?P=gap)\d{3})*(?:[.,]\d+)?(?!\d|[ ',]\d)"
    r"|[1-9]\d{0,2}(?:(?:\.\d{3})+,\d+|(?:\.\d{3}){2,})(?![.,]?\d)"
    r"|\d+(?:[.,]\d+)?|\.\d+)"
)
#: `12.5`, `1.25e1`, or `1.25 \times 10^1`.
_SCIENTIFIC = (
    rf"(?P<decimal>{_DECIMAL})(?:[eE](?P<exponent>[+-]?\d{{1,5}})(?!\w)"
    rf"| ?(?:\\times|\\cdot|[*x·]) ?{_TEN % ('times', 'bare_times')})?"
)
#: `3rd`; `5 €`; `50 percent`.
_BEHIND = (
    r"(?P<ordinal>(?:st|nd|rd|th)(?![A-Za-z]))?"
    r"(?P<behind> ?(?:\$|[€£¥₹₩¢₽₫₺₱])(?!\d))?"
    r"(?P<percent> ?(?:%|(?:percentage(?: points?)?|percent|per cent|pct)(?![A-Za-z])))?"
)
_VALUES = (_MIXED, _LATEX_FRACTION, _FRACTION, _TEN % ("power", "bare_power"), _SCIENTIFIC)
NUMBER = re.compile(f"{_SIGN}{_CURRENCY}(?:{'|'.join(_VALUES)}){_BEHIND}")
#: Groups of `NUMBER` that hold a power of ten.
_EXPONENTS = ("exponent", "times", "bare_times", "power", "bare_power")


class Number(NamedTuple):
    """A number without what stands beside it.

    Attributes:
        value: exact; of a percentage the number before the sign.
        places: decimals that it is written with; null for a fraction or a power of ten.
        digits: significant digits of a decimal.
        comma: whether its decimal comma may also separate a list.
    """

    value: Fraction
    places: int | None = None
    digits: int = 0
    comma: bool = False


def read_number(match: re.Match) -> Number | None:
    """The value of a match of `NUMBER`, with its sign; None where it has no single value."""
    part = match.groupdict()
    sign = -1 if (part["sign"] or "").strip() in ("-", "negative", "minus") else 1
    sign = -sign if part["inner"] == "-" else sign
    if part["whole"] or part["above"] or part["one"]:
        above, below = (
            Fraction(next(filter(None, (part[name] for name in names))))
            for names in (("over", "above", "one"), ("under", "below", "other"))
        )
        entire = part["whole"] or part["entire"]
        if not below or (entire and above >= below):  # of `4 7/6` two readings differ
            return None
        value = Fraction(entire or 0) + above / below
        return Number(sign * (-value if part["minus"] else value))
    if part["left"]:
        above, below = (Fraction(part[name].replace(",", "")) for name in ("left", "right"))
        return Number(sign * above / below) if below else None
    exponent = next((part[name] for name in _EXPONENTS if part[name] is not None), None)
    if exponent and (len(exponent) > 6 or abs(int(exponent)) > MAX_EXPONENT):
        return None
    power = int(exponent or 0)
    if part["decimal"] is None:
        return Number(sign * Fraction(10) ** power)
    plain, comma = _plain_decimal(part["decimal"])
    places = len(plain.partition(".")[2]) - power
    digits = len(plain.replace(".", "").lstrip("0"))
    value = Fraction(plain) * Fraction(10) ** power
    return Number(sign * value, places, digits, comma=comma)


def _plain_decimal(text: str) -> tuple[str, bool]:
    """A decimal with a point and no groups, and whether its comma may also separate a list."""
    grouped = bool(re.search("[ '_]", text))
    text = re.sub("[ '_]", "", text)
    if "," not in text:
        return (text.replace(".", "") if text.count(".") > 1 else text), False
    if "." in text:
        point = max(text.rfind("."), text.rfind(","))
        if text[point] == ",":  # 1.234,56
            text = text.replace(".", "")
            return text.replace(",", "."), False
        return text.replace(",", ""), False
    groups = text.split(",")
    if len(groups[-1]) == 3 and text[0] != "0" and len(groups[0]) <= 3:
        return "".join(groups), False
    return text.replace(",", "."), not grouped
