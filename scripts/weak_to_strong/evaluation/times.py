"""Times of the day and dates, as people write them."""

from __future__ import annotations

import re
from typing import NamedTuple

_CLOCK = re.compile(
    r"(\d{1,2})(?::([0-5]\d))?(?::([0-5]\d))? ?(?:([ap])\.?m\.?|(o'clock))?", re.IGNORECASE
)
_NAMED_HOURS = {"noon": "12 pm", "midday": "12 pm", "midnight": "12 am"}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY = r"(?:the )?(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_DATES = tuple(
    re.compile(rf"(?:(?:on )?(?:[a-z]{{3,6}}day,? )?)?{form}", re.IGNORECASE)
    for form in (
        r"(?P<year>\d{4})-(?P<number>\d{2})-(?P<day>\d{2})",
        rf"{_MONTH} {_DAY}(?:,? (?P<year>\d{{4}}))?",
        rf"{_DAY}(?: of)? {_MONTH}(?:,? (?P<year>\d{{4}}))?",
        rf"{_MONTH},? (?P<year>\d{{4}})",
    )
)
#: Of these the country decides which number is the month.
_NUMBERS = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4})")


class Clock(NamedTuple):
    """A time of the day.

    Attributes:
        seconds: since midnight, or since the last noon or midnight where `half` is open.
        half: "a", "p", or "" where it is open.
        hour: as written.
    """

    seconds: int
    half: str
    hour: int


def time_verdict(one: str, other: str) -> str | None:
    """The verdict on two times of the day or two dates; None where one is neither.

    "undecided" where one lacks what tells it from the other: `am` or `pm`, or which number of
    `1/2/2024` is the month.
    """
    texts = [text.strip(" $.,") for text in (one, other)]
    clocks = [_read_clock(text) for text in texts]
    if all(clocks):
        return _clock_verdict(*clocks)
    dates = [_read_dates(text) for text in texts]
    if not all(dates):  # `2024-01-15` is no difference
        return "wrong" if any(map(_DATES[0].fullmatch, texts)) else None
    if dates[0] == dates[1] and (texts[0] == texts[1] or len(dates[0]) == 1):
        return "right"
    fits = any(_same_date(first, second) for first in dates[0] for second in dates[1])
    if not fits:
        return "wrong"
    return "right" if len(dates[0]) == len(dates[1]) == 1 else "undecided"


def _clock_verdict(one: Clock, other: Clock) -> str:
    if one.half and other.half:
        return "right" if one[:2] == other[:2] else "wrong"
    if one.seconds != other.seconds:
        return "wrong"
    # `9:30` and `9:30 pm` are written alike; `9:30` may be half a day before `21:30`.
    return "right" if one.hour == other.hour else "undecided"


def _read_clock(text: str) -> Clock | None:
    match = _CLOCK.fullmatch(_NAMED_HOURS.get(text.lower(), text))
    if not match or not (match[2] or match[4] or match[5]) or int(match[1]) > 24:
        return None
    hour, minute, second = (int(match[place] or 0) for place in (1, 2, 3))
    half = (match[4] or "").lower()
    if hour > 12 or (hour == 0 and not half):
        half = "p" if 12 < hour < 24 else "a"
    return Clock(hour % 12 * 3600 + minute * 60 + second, half, hour)


def _read_dates(text: str) -> set[tuple[int, int, int]]:
    """The dates (year, month, day) that a text may mean; 0 for what it does not say."""
    for form in _DATES:
        if match := form.fullmatch(text):
            part = {"day": 0, "year": 0, **match.groupdict()}
            month = (
                part["number"]
                if part.get("number")
                else 1 + _MONTHS.index(part["month"][:3].lower())
            )
            return {(int(part["year"] or 0), int(month), int(part["day"] or 0))}
    if match := _NUMBERS.fullmatch(text):
        first, _, second, year = match.groups()
        orders = ((int(first), int(second)), (int(second), int(first)))
        return {(int(year), month, day) for month, day in orders if 1 <= month <= 12 and day <= 31}
    return set()


def _same_date(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    """Whether two dates agree in their day and month, and in the year where both have one."""
    return one[1:] == other[1:] and (one[0] == other[0] or 0 in (one[0], other[0]))
