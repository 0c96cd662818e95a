"""Numbers and foreign text as readers see them."""

from __future__ import annotations

import re

from weak_to_strong.report.names import MetricValue

MINUS, DASH = "\u2212", "\u2013"
#: Most characters of a question or a response on the page.
MAX_SHOWN_CHARACTERS = 3000
#: Control, invisible and direction-changing characters; tab and newline are not among them.
#: The invisible ones are those with Unicode's property Default_Ignorable_Code_Point, and fillers
#: that look like a space: a text can hide a message in them.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def show_controls(text: str) -> str:
    """`text` with each control, invisible and direction-changing character as its code.

    The code is `\\u202e`, or `\\U000e0041` for one that needs more digits. Tab and newline stay.
    """
    return _UNSAFE.sub(lambda match: _code(ord(match[0])), text)


def _code(number: int) -> str:
    return f"\\u{number:04x}" if number < 2**16 else f"\\U{number:08x}"


def shorten(text: str, limit: int = MAX_SHOWN_CHARACTERS) -> str:
    """The first `limit` characters, and a note on how many more there are."""
    omitted = len(text) - limit
    return text if omitted <= 0 else f"{text[:limit]}\n[... {omitted:,} more characters]"


def fixed_decimals(number: float, digits: int, *, signed: bool = False) -> str:
    """A number with `digits` decimals and a real minus sign, never a negative zero."""
    rounded = round(number, digits) + 0.0
    sign = "+" if signed and rounded else ""
    return f"{rounded:{sign}.{digits}f}".replace("-", MINUS)


def percent(share: float, *, signed: bool = False) -> str:
    """A share in [0, 1] as per cent with one decimal."""
    return fixed_decimals(100 * share, 1, signed=signed)


def share_cell(value: MetricValue | None, *, signed: bool = False) -> dict[str, str | None] | None:
    """A share and its interval for the template: {text, range}, both in per cent.

    `range` is None without an interval; None stays None.
    """
    if value is None:
        return None
    interval = None
    if value.low is not None and value.high is not None:
        interval = f"{percent(value.low, signed=signed)} to {percent(value.high, signed=signed)}"
    return {"text": percent(value.value, signed=signed), "range": interval}


def p_text(p: float) -> str:
    """A p-value: three decimals below 0.1, else two; "<0.001" below that."""
    if p < 0.001:
        return "<0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def duration(seconds: float | None) -> str | None:
    """Seconds as "4.2 s", "3 min 05 s" or "2 h 07 min"; None stays None."""
    if seconds is None:
        return None
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def price_text(value: float | None) -> str | None:
    """A price, with more digits where it is below 1; None stays None."""
    if value is None:
        return None
    return f"{value:,.2f}" if value >= 1 else f"{value:.2g}"


def count_text(value: float | None) -> str | None:
    """A whole number with thousands separators; None stays None."""
    return None if value is None else f"{value:,.0f}"
