r"""Numbers as people write them: grouped digits, exponents, currencies, percentages, units, words.

One rule for each kind of writing. Values are exact fractions.

- Digits may be grouped by commas, spaces, apostrophes or `{,}`, in the Indian way (`1,00,000`), or
  by points before a decimal comma (`1.234,56`). `3,14` is a decimal where the other answer is a
  number; elsewhere it stays a list of two.
- `1.5e3`, `1.5 \times 10^{3}` and `1.5*10^3` are one number. So are `5 million` and `five million`.
- A percentage equals its number and its hundredth, however many decimals it has.
- A unit, a currency or words beside a number are left out where the other answer has none. Two
  units of one kind are converted (`100 cm` is `1 m`). Two other known units differ. Unknown words
  that differ cannot be compared.
- Several units of one kind are added: `5 ft 3 in` is `63 inches`. A bare number is right for it if
  it is the total in one of the units.
- `1.5k` is 1500. `$2M` is two million dollars. `No. 5` is 5. `5 tenths` is 0.5.
- Words that change a number (`at least 5`, `5 or 6`, `can't be 5`) leave it unread. Numbers behind
  other words (`room 5`, `gate 5`) cannot be compared.
- Ranges (`12-15`, `from 12 to 15`) are compared by their ends, times and dates as in `times`.
- Exact numbers are compared exactly. A decimal is right for a fraction without end (`1/3`) if it is
  that fraction, rounded to at least `ROUNDED_DIGITS` digits.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from weak_to_strong.evaluation.answer_text import MAX_SENTENCE
from weak_to_strong.evaluation.number_forms import NUMBER, read_number
from weak_to_strong.evaluation.number_words import WORD, is_changing, read_scale, spell_out
from weak_to_strong.evaluation.times import time_verdict
from weak_to_strong.evaluation.units import read_unit

#: Fewest significant digits of a decimal that stands for a fraction without end.
ROUNDED_DIGITS = 4

_WRAPPED = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|normal)?|math(?:rm|bf|it)|mbox|operatorname) ?\{([^{}]*)\}"
)
_BOXED = re.compile(r"\\(?:boxed|fbox) ?\{(.*)\}\.?")
_SUPERSCRIPT = re.compile("[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_LOWERED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_THIN = re.compile(r"\\!|\\displaystyle|\s?\{, ?\}|\\[()\[\]]")
#: More digits would follow.
_GOES_ON = re.compile(r"(?:\.\.|…|\\l?dots)[ $]*\Z")
_SPACES = re.compile(r"(?:\\[,;: ]|~|\\q?quad(?![A-Za-z])|\s)+")
_DEGREES = re.compile(r" ?(?:\^ ?(?:\{ ?\\circ ?\}|\\circ)|[°º˚]|\\degree)")
_OHM = re.compile(r"\\Omega(?![A-Za-z])|[\u03a9\u2126]")
_MICRO = re.compile(r"(?:\\mu(?![A-Za-z]) ?|[\u00b5\u03bc])(?=[A-Za-z])")
#: No cents, behind a price.
_NO_CENTS = re.compile(r"(?<=\d)[.,]-\Z")
#: Chinese, Japanese and Korean words behind a number, without which it is the same.
_COUNTERS = re.compile(
    "(?<=[0-9]) ?(?:美元|欧元|日元|人民币|块钱?|元|円|원|달러|ドル|个|個|개|명|名|人|只|本|枚|张|"
    "岁|天|小时|分钟|秒|公里|米|千米|公斤|克)\\Z"
)
_UNIT_FRACTION = re.compile(
    r"\\[dtc]?frac ?\{ ?([A-Za-z]+) ?\} ?\{ ?([A-Za-z]+(?:\^\{?\d\}?)?) ?\}"
)
_FRACTION_SIGNS = {"½": " 1/2", "¼": " 1/4", "¾": " 3/4", "⅓": " 1/3", "⅔": " 2/3"}

#: Before the number of an item, with nothing behind that number.
_ITEM = re.compile(r"\A(?:No\.|\N{NUMERO SIGN}|#) ?(?=\d+\Z)")
#: The only text of more than `MAX_SENTENCE` characters that is read.
_LONG_NUMBER = re.compile(r"[+-]?\d{1,2000}(?:\.\d{1,2000})?")
#: A digit that belongs to a unit: of `m^2`, `cm2` or `s^{-1}`.
_RAISED = re.compile(r"(?:\^ ?\{? ?-?|(?<![A-Za-z])(?:[mck]?m|ft|in|s))\Z")

_NEARLY = re.compile(
    r"\\approx(?![A-Za-z])|\\sim(?![A-Za-z])|≈|(?<!~)~(?!~)"
    r"|(?<![A-Za-z])(?:approximately|approx\.?|about|around|roughly|nearly|almost|exactly)(?![A-Za-z])"
)
_BEFORE = re.compile(r"[A-Za-z' ,:;.\"-]*(?:[=:])? ?")


#: A number in digits and once more in words.
_SAID_TWICE = (
    re.compile(r"(?P<digits>\d+) ?\((?P<words>[A-Za-z -]+)\)"),
    re.compile(r"(?P<words>[A-Za-z -]+) ?\((?P<digits>\d+)\)"),
)


#: `2 and a half`.
_AND_PART = re.compile(
    r"(?<![\d.,/])(\d+) and (?:(?:a|one)[ -](half|third|quarter)(?![A-Za-z])|(?=\d+/\d+))"
)
_PARTS = {"half": 2, "third": 3, "quarter": 4}


class Quantity(NamedTuple):
    """A number and what stands beside it.

    Attributes:
        value: exact; of a percentage the number before the sign.
        places: decimals that it is written with; null for a fraction or a power of ten.
        digits: significant digits of a decimal.
        percent: whether it is a percentage.
        kind: kind of its unit; words that are no known unit; "" for a bare number.
        size: of its unit.
        known: whether all of the unit is known.
        comma: whether its decimal comma may also separate a list.
        words: that stand before it, as `room` of `room 5`.
    """

    value: Fraction
    places: int | None = None
    digits: int = 0
    percent: bool = False
    kind: str = ""
    size: Fraction = Fraction(1)
    known: bool = True
    comma: bool = False
    words: frozenset[str] = frozenset()


@lru_cache(maxsize=8192)
def read_quantity(text: str) -> Quantity | None:
    r"""The one number of an answer, with its unit; None where there is none or several.

    Args:
        text: as `tidy` gives it: plain text or LaTeX, perhaps with `$` around formulas.
    """
    if (len(text) > MAX_SENTENCE and not _LONG_NUMBER.fullmatch(text)) or "\n" in text.strip():
        return None
    if _GOES_ON.search(text):
        return None
    text = spell_out(_drop_repetition(_simplify(text)))
    text = _AND_PART.sub(
        lambda match: f"{match[1]} " + (f"1/{_PARTS[match[2]]}" if match[2] else ""), text
    )
    numbers = [
        match for match in NUMBER.finditer(text) if not _RAISED.search(text[: match.start()])
    ]
    if len(numbers) != 1:
        return None
    number = numbers[0]
    read = read_number(number)
    before, after = _NEARLY.sub("", text[: number.start()]), text[number.end() :]
    if read is None or not _are_words(before):
        return None
    currency = (number["currency"] or number["behind"] or "").strip().lower()
    scale, after = read_scale(after, bool(currency)) if number["decimal"] else (1, after)
    unit = read_unit(after, currency)
    if unit is None:
        return None
    percent = bool(number["percent"])
    return Quantity(
        read.value * scale,
        read.places if scale == 1 else None,
        read.digits,
        percent=percent,
        **unit._asdict(),
        # A list has no unit behind it, so the comma is that of a decimal.
        comma=read.comma and not percent and not unit.kind,
        words=frozenset(word.lower() for word in WORD.findall(before)),
    )


def written_verdict(prediction: str, gold: str) -> str | None:
    """The verdict on two times, dates, quantities or lists; None where none is for sure."""
    if "=" in prediction and "=" in gold:  # two names, or two equations
        return None
    if verdict := time_verdict(prediction, gold):
        return verdict
    quantities = read_quantity(prediction), read_quantity(gold)
    if None not in quantities:
        return quantity_verdict(*quantities)
    return (
        sum_verdict(prediction, gold)
        or range_verdict(prediction, gold)
        or list_verdict(prediction, gold)
    )


def quantity_verdict(one: Quantity, other: Quantity) -> str | None:
    """ "right", "wrong" or "undecided" for two quantities; None where one may be a list."""
    if one.comma != other.comma:
        # A decimal comma only where the values agree: else the list is compared.
        return "right" if _equal_numbers(one, other) and _units_fit(one, other) == "fit" else None
    if one.comma:
        return None
    fit = _units_fit(one, other)
    if fit == "differ":
        return "wrong"
    if fit == "fit" and one.kind and other.kind:
        one, other = (side._replace(value=side.value * side.size) for side in (one, other))
    if not _equal_numbers(one, other):
        return "wrong"
    return "right" if fit == "fit" else "undecided"


def _units_fit(one: Quantity, other: Quantity) -> str:
    """Whether two units "fit", "differ", or cannot be compared: "open"."""
    if one.words and other.words and one.words.isdisjoint(other.words):  # `room 5`, `gate 5`
        return "open"
    if not one.kind or not other.kind or one.kind == other.kind:
        return "fit"
    if one.known and other.known:
        return "differ"
    words = [set(side.kind.split()) for side in (one, other)]
    return "fit" if words[0] <= words[1] or words[1] <= words[0] else "open"


#: `5 ft 3`, what stands between the two, and a last unit.
_SEVERAL_UNITS = re.compile(r"\d ?[A-Za-z]+\.?(?:,? and|,)? \d")
_BETWEEN_UNITS = re.compile(r"(?<=[A-Za-z.])(?:,? and|,)? (?=\d)")
_INCHES = re.compile(r"(?<=\d) ?in\.?\Z")


def sum_verdict(one: str, other: str) -> str | None:
    """The verdict on `5 ft 3 in` and another quantity; None where one is no such quantity.

    A bare number is right if it is the total in one of the units.
    """
    if not (_SEVERAL_UNITS.search(one) or _SEVERAL_UNITS.search(other)):
        return None
    sides = [_read_sum(text) for text in (one, other)]
    if None in sides:
        return None
    kinds = [kind for kind, _, _ in sides]
    (_, total, sizes), (_, other_total, _) = sides if kinds[0] else reversed(sides)
    if kinds[0] == kinds[1]:
        return "right" if total == other_total else "wrong"
    in_units = [total / size for size in sizes] if "" in kinds else []
    return "right" if other_total in in_units else "wrong"


def _read_sum(text: str) -> tuple[str, Fraction, list[Fraction]] | None:
    """Kind, total, and sizes of the units, of one quantity or several whose units go down."""
    # Elsewhere `in` may be a preposition.
    parts = [read_quantity(part) for part in _BETWEEN_UNITS.split(_INCHES.sub(" inches", text))]
    if any(part is None or part.percent or not part.known for part in parts):
        return None
    for larger, smaller in pairwise(parts):
        fits = larger.kind == smaller.kind and 0 <= smaller.value * smaller.size < larger.size
        if not fits or larger.value < 0 or larger.value.denominator != 1:
            return None
    total = sum(part.value * part.size for part in parts)
    return parts[0].kind, total, [part.size for part in parts]


_RANGE = re.compile(r"(?:from |between )?([^a-z-]+?) ?(?:-| to | and )(\$?\d.*)", re.IGNORECASE)


def range_verdict(one: str, other: str) -> str | None:
    """The verdict on `12-15` and `from 12 to 15`; None where one is no such range."""
    sides = []
    for text in (one, other):
        match = _RANGE.fullmatch(text.strip(" $."))
        ends = [read_quantity(end) for end in match.groups()] if match else [None]
        if None in ends or ends[0].value >= ends[1].value:
            return None
        sides.append(ends)
    verdicts = {quantity_verdict(*ends) for ends in zip(*sides, strict=True)}
    return next(
        (verdict for verdict in ("wrong", None, "undecided") if verdict in verdicts), "right"
    )


def list_verdict(one: str, other: str) -> str | None:
    """The verdict on lists, tuples and intervals, element by element; None where it is open.

    "right" if the same stands in each place, "wrong" if all are numbers and one is in one of the
    two alone.
    """
    sides = [_elements(text) for text in (one, other)]
    if None in sides:
        return None
    (brackets, elements), (other_brackets, others) = sides
    pairs = zip(elements, others, strict=False)
    if brackets == other_brackets and len(elements) == len(others):
        verdicts = {_same_element(*pair) for pair in pairs}
        if verdicts == {"right"}:
            return "right"
    table = [[_same_element(first, second) for second in others] for first in elements]
    lines = [*table, *map(list, zip(*table, strict=True))]
    return "wrong" if any(set(line) == {"wrong"} for line in lines) else None


def _same_element(one: str, other: str) -> str | None:
    if one == other:
        return "right"
    quantities = read_quantity(one), read_quantity(other)
    return None if None in quantities else quantity_verdict(*quantities)


def _elements(text: str) -> tuple[str, list[str]] | None:
    """Brackets and elements of a list of several; None for other text and lists in lists."""
    if len(text) > MAX_SENTENCE:
        return None
    match = _LIST.fullmatch(re.sub(r"\\(?:left|right)(?![A-Za-z])", "", text).strip("$. "))
    if not match or re.search(r"[()\[\]]|\\[{}]", match[2]):
        return None
    elements = re.split(r",(?: (?:and|or) )?| (?:and|or) ", match[2])
    elements = [element.strip(" $") for element in elements]
    return (match[1] + match[3], elements) if len(elements) > 1 and all(elements) else None


_LIST = re.compile(r"([(\[]|\\\{|)(.*?)([)\]]|\\\}|)", re.DOTALL)


def _equal_numbers(one: Quantity, other: Quantity) -> bool:
    if one.percent == other.percent:
        return _equal(one, other)
    percentage, number = (one, other) if one.percent else (other, one)
    places = None if percentage.places is None else percentage.places + 2
    hundredth = percentage._replace(value=percentage.value / 100, places=places)
    return _equal(percentage, number) or _equal(hundredth, number)


def _equal(one: Quantity, other: Quantity) -> bool:
    """Equal, or one a decimal and the other a fraction without end that it rounds."""
    if one.value == other.value:
        return True
    for decimal, fraction in ((one, other), (other, one)):
        if decimal.places is None or fraction.places is not None or _ends(fraction.value):
            continue
        if decimal.digits >= ROUNDED_DIGITS and decimal.places <= MAX_SENTENCE:
            return round(fraction.value, decimal.places) == decimal.value
    return False


def _ends(value: Fraction) -> bool:
    """Whether a fraction is a decimal with an end."""
    rest = value.denominator
    for factor in (2, 5):
        while rest % factor == 0:
            rest //= factor
    return rest == 1


def _simplify(text: str) -> str:
    """An answer without delimiters of formulas, a box and commands for spaces and text."""
    for sign, plain in _FRACTION_SIGNS.items():
        text = text.replace(sign, plain)
    text = _ITEM.sub("", text)
    boxed = _BOXED.fullmatch(text.strip("$ "))
    text = boxed[1] if boxed else text
    text = _THIN.sub(lambda match: "," if "," in match[0] else "", text)
    text = text.replace(r"\$", "\0")
    if text.count("$") % 2 == 0:
        text = text.replace("$", "")
    text = text.replace("\0", "$").replace(r"\%", "%")
    text = _SUPERSCRIPT.sub(lambda match: f"^{{{match[0].translate(_LOWERED)}}}", text)
    text = _UNIT_FRACTION.sub(r" \1/\2", _WRAPPED.sub(r" \1 ", text))
    text = _MICRO.sub("u", _OHM.sub("ohm", _DEGREES.sub(" degrees ", text)))
    text = _COUNTERS.sub("", _NO_CENTS.sub("", text.replace("‰", " thousandths")))
    return _SPACES.sub(" ", text).strip().rstrip(".,;: ").strip()


def _drop_repetition(text: str) -> str:
    """`5 (five)` and `five (5)` -> `5`; another number stays."""
    for pattern in _SAID_TWICE:
        match = pattern.fullmatch(text)
        if match and spell_out(match["words"].strip()) == match["digits"]:
            return match["digits"]
    return text


def _are_words(text: str) -> bool:
    """Whether what stands before a number is a name and `=`, or words that leave it as it is."""
    if not text.strip():
        return True
    if not _BEFORE.fullmatch(text) or (text[-1].isalpha() or text[-1] == "-"):
        return False
    words = WORD.findall(text)
    if text.rstrip().endswith(("=", ":")) and len(words) <= 1:
        return True
    long_words = [word for word in words if len(word) > 1]
    return bool(long_words) and not any(map(is_changing, words))
