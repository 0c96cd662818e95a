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
- Words that change a number (`at least 5`, `5 or 6`, `not 5`) leave it unread.
- Exact numbers are compared exactly. A decimal is right for a fraction without end (`1/3`) if it is
  that fraction, rounded to at least `ROUNDED_DIGITS` digits.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

#: Fewest significant digits of a decimal that stands for a fraction without end.
ROUNDED_DIGITS = 4
#: A larger power of ten is not written out.
MAX_EXPONENT = 5_000
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

_WRAPPED = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|normal)?|math(?:rm|bf|it)|mbox|operatorname) ?\{([^{}]*)\}"
)
_BOXED = re.compile(r"\\(?:boxed|fbox) ?\{(.*)\}\.?")
_SUPERSCRIPT = re.compile("[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_LOWERED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_THIN = re.compile(r"\\!|\\displaystyle|\s?\{, ?\}|\\[()\[\]]")
_SPACES = re.compile(r"(?:\\[,;: ]|~|\\q?quad(?![A-Za-z])|\s)+")
_DEGREES = re.compile(r" ?(?:\^ ?(?:\{ ?\\circ ?\}|\\circ)|°|\\degree)")
_UNIT_FRACTION = re.compile(
    r"\\[dtc]?frac ?\{ ?([A-Za-z]+) ?\} ?\{ ?([A-Za-z]+(?:\^\{?\d\}?)?) ?\}"
)
_FRACTION_SIGNS = {"½": " 1/2", "¼": " 1/4", "¾": " 3/4", "⅓": " 1/3", "⅔": " 2/3"}

_PLAIN = r"\d+(?:\.\d+)?"
_GROUPED = rf"(?:\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?|{_PLAIN})"
_DECIMAL = (
    r"(?:[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?(?![,\d])"
    r"|[1-9]\d?(?:,\d{2})+,\d{3}(?:\.\d+)?(?![,\d])"
    r"|[1-9]\d{0,2}(?P<gap>[ '_])\d{3}(?:(?P=gap)\d{3})*(?:[.,]\d+)?(?!\d|[ ',]\d)"
    r"|[1-9]\d{0,2}(?:(?:\.\d{3})+,\d+|(?:\.\d{3}){2,})(?![.,]?\d)"
    r"|\d+(?:[.,]\d+)?|\.\d+)"
)
_TEN = r"10 ?\^ ?(?:\{ ?(?P<%s>[+-]?\d+) ?\}|(?P<%s>[+-]?\d+))"
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)}])[+-] ?|(?<![\w-])(?:negative|minus) )?"
    r"(?P<currency>(?:(?<![A-Za-z])(?:US|CA|AU|C|A))?\$ ?|[€£¥₹₩¢] ?"
    r"|(?<![A-Za-z])(?:USD|EUR|GBP|INR|Rs\.?) ?)?(?P<inner>[+-])?"
    r"(?:(?P<whole>\d+)(?: |-)(?P<over>\d+)/(?P<under>\d+)"
    r"|(?P<entire>\d+)? ?\\[dtc]?frac ?(?:"
    rf"\{{ ?(?P<minus>-?) ?(?P<above>{_PLAIN}) ?\}} ?\{{ ?(?P<below>{_PLAIN}) ?\}}"
    r"|(?P<one>\d) ?(?P<other>\d))"
    rf"|(?P<left>{_GROUPED}) ?/ ?(?P<right>{_GROUPED})"
    rf"|{_TEN % ('power', 'bare_power')}"
    rf"|(?P<decimal>{_DECIMAL})(?:[eE](?P<exponent>[+-]?\d{{1,5}})(?!\w)"
    rf"| ?(?:\\times|\\cdot|[*x·]) ?{_TEN % ('times', 'bare_times')})?)"
    r"(?P<ordinal>(?:st|nd|rd|th)(?![A-Za-z]))?"
    r"(?P<behind> ?(?:\$|[€£¥₹₩¢])(?!\d))?"
    r"(?P<percent> ?(?:%|(?:percentage(?: points?)?|percent|per cent|pct)(?![A-Za-z])))?"
)
#: A digit that belongs to a unit: of `m^2`, `cm2` or `s^{-1}`.
_RAISED = re.compile(r"(?:\^ ?\{? ?-?|(?<![A-Za-z])(?:[mck]?m|ft|in|s))\Z")

_SCALES = {
    **{"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9},
    **{"trillion": 10**12, "dozen": 12},
}
_SCALE = re.compile(r" (hundred|thousand|million|billion|trillion|dozen)s?(?![A-Za-z])", re.I)
_UNITS_SPELLED = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
_TENS_SPELLED = "twenty thirty forty fifty sixty seventy eighty ninety"
_SPELLED = {
    **{word: number for number, word in enumerate(_UNITS_SPELLED.split())},
    **{word: 10 * number for number, word in enumerate(_TENS_SPELLED.split(), 2)},
}
_SPELLED_NUMBER = re.compile(
    rf"(?<![A-Za-z-])(?:{'|'.join(_SPELLED)})"
    rf"(?:(?: and | |-)(?:{'|'.join([*_SPELLED, *_SCALES])}))*(?![A-Za-z]|-[a-z])",
    re.I,
)
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "eighth": 8}
_SPELLED_PART = re.compile(
    rf"(?:(?:({'|'.join([*_SPELLED, 'an?'])})[ -])({'|'.join(_PARTS)})|half)s?(?![A-Za-z-])", re.I
)
#: Words that change a number, make it one of several, or are themselves mathematics.
_CHANGING_WORDS = (
    "and or not no than least most over under above below between beyond half third thirds quarter "
    "quarters fourth fourths fifth fifths plus minus negative twice double triple except "
    "without never none neither nor cannot if unless squared cubed factorial root roots mod modulo "
    "base remainder ago exceeds within versus vs every other either both but inf infinity infinite "
    "pi sqrt frac sin cos tan cot sec csc log ln exp lim max min gcd lcm theta alpha beta gamma "
    "undefined impossible wrong false isn't doesn't don't didn't aren't wasn't instead rather up "
    "down until past"
)
_CHANGING = frozenset([*_CHANGING_WORDS.split(), *_SPELLED, *_SCALES])
#: Words of two letters or fewer that may stand behind a number, and words that are no unit.
_SHORT_WORDS = (
    "a an of in is it at to by on he we my i so as be the for she her his are was has had do"
)
_SHORT = frozenset(_SHORT_WORDS.split())
_FILLING_WORDS = "a an of in is the for are was there them their total altogether left"
_FILLING = frozenset(_FILLING_WORDS.split())
_NEARLY = re.compile(
    r"\\approx(?![A-Za-z])|\\sim(?![A-Za-z])|[≈~]"
    r"|(?<![A-Za-z])(?:approximately|approx\.?|about|around|roughly|nearly|almost|exactly)(?![A-Za-z])"
)
_BEFORE = re.compile(r"[A-Za-z' ,:;.\"-]*(?:[=:])? ?")
_AFTER = re.compile(r"[A-Za-z0-9' ,;.\"/^{}*()-]*")
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_VOWEL = re.compile(r"[aeiouy]", re.I)

_MONEY = {
    **{"$": "dollar", "€": "euro", "£": "pound", "¥": "yen", "₹": "rupee", "₩": "won", "¢": "cent"},
    **{"usd": "dollar", "us$": "dollar", "eur": "euro", "gbp": "pound", "inr": "rupee"},
    **{"rs": "rupee", "rs.": "rupee"},
}
#: Unit in the singular -> (its kind, its size in that kind).
_UNITS: dict[str, tuple[str, Fraction]] = {
    name: (kind, Fraction(size))
    for kind, sizes in {
        "length": {
            **{"1": "m meter metre", "1/100": "cm centimeter centimetre"},
            **{"1000": "km kilometer kilometre", "1/1000": "mm millimeter millimetre"},
            **{"127/5000": "inch inche", "381/1250": "ft foot feet", "1143/1250": "yd yard"},
            "201168/125": "mi mile",
        },
        "mass": {"1": "g gram gm", "1000": "kg kilogram kilo", "1/1000": "mg milligram"},
        "pound": {"1": "pound lb gbp", "1/16": "oz ounce"},
        "time": {
            **{"1": "s sec second", "60": "min minute", "3600": "h hr hour", "86400": "day"},
            **{"604800": "week", "1/1000": "ms millisecond"},
        },
        "months": {"1": "month", "12": "year yr"},
        "volume": {"1": "L l liter litre", "1/1000": "ml mL milliliter millilitre"},
        "dollars": {"1": "dollar buck usd", "1/100": "cent"},
        **{"euro": {"1": "euro eur"}, "yen": {"1": "yen"}, "rupee": {"1": "rupee inr"}},
        **{"won": {"1": "won"}, "degree": {"1": "degree deg"}, "radian": {"1": "radian rad"}},
        **{"celsius": {"1": "celsius"}, "fahrenheit": {"1": "fahrenheit"}},
        **{"newton": {"1": "N newton"}, "joule": {"1": "J joule", "1000": "kJ"}},
        **{"watt": {"1": "W watt", "1000": "kW"}, "volt": {"1": "V volt"}, "hertz": {"1": "Hz"}},
    }.items()
    for size, names in sizes.items()
    for name in names.split()
}
_COMPOUND = {
    **{"mph": "mi/h", "kph": "km/h", "kmh": "km/h", "kmph": "km/h", "fps": "ft/s", "sqft": "ft^2"}
}
_POWERS_BEFORE = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_POWERS_BEHIND = {"squared": 2, "cubed": 3}
_TEMPERATURES = {"c": "celsius", "f": "fahrenheit"}
_TEMPERATURE = re.compile(r"(?<![a-z])degrees? (c|f)(?:elsius|entigrade|ahrenheit)?(?![a-z])", re.I)
_PER = re.compile(r" per (?=[a-z])|(?<=[a-z]) an? (?=hour|day|week|month|year|minute)")
_PART = re.compile(
    r"([A-Za-z][A-Za-z'-]*)\.?(?: ?\^ ?\{? ?(-?[1-9]) ?\}?|(?<=[mtns])([23])(?!\d))?"
)


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
        comma: whether its decimal comma may also part a list.
    """

    value: Fraction
    places: int | None = None
    digits: int = 0
    percent: bool = False
    kind: str = ""
    size: Fraction = Fraction(1)
    known: bool = True
    comma: bool = False


def tidy(text: str) -> str:
    """Text with ASCII signs for full-width ones, without Markdown's emphasis and outer quotes."""
    text = text.translate(_SIGNS).strip()
    if len(text) <= MAX_SENTENCE:
        text = _EMPHASIS.sub(r"\2", text)
        quoted = _QUOTED.fullmatch(text)
        text = quoted[2].strip() if quoted else text
    return _STRAY_MARKS.sub("", text).strip()


@lru_cache(maxsize=8192)
def read_quantity(text: str) -> Quantity | None:
    r"""The one number of an answer, with its unit; None where there is none or several.

    Args:
        text: as `tidy` gives it: plain text or LaTeX, perhaps with `$` around formulas.
    """
    if len(text) > MAX_SENTENCE or "\n" in text.strip():
        return None
    text = _spell_out(_simplify(text))
    numbers = [
        match for match in _NUMBER.finditer(text) if not _RAISED.search(text[: match.start()])
    ]
    if len(numbers) != 1:
        return None
    number = numbers[0]
    read = _read_number(number)
    before, after = _NEARLY.sub("", text[: number.start()]), text[number.end() :]
    if read is None or not _are_words(before):
        return None
    if scale := _SCALE.match(after):
        after = after[scale.end() :]
        read = read._replace(value=read.value * _SCALES[scale[1].lower()], places=None)
    unit = _read_unit(after, (number["currency"] or number["behind"] or "").strip().lower())
    if unit is None:
        return None
    percent = bool(number["percent"])
    # A list has no unit behind it, so the comma is that of a decimal.
    comma = read.comma and not percent and not unit.kind
    return read._replace(percent=percent, comma=comma, **unit._asdict())


def written_verdict(prediction: str, gold: str) -> str | None:
    """The verdict on two quantities, times of the day or lists; None where neither is for sure."""
    if "=" in prediction and "=" in gold:  # two names, or two equations
        return None
    quantities = read_quantity(prediction), read_quantity(gold)
    if None not in quantities:
        return quantity_verdict(*quantities)
    return clock_verdict(prediction, gold) or list_verdict(prediction, gold)


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
    if not one.kind or not other.kind or one.kind == other.kind:
        return "fit"
    if one.known and other.known:
        return "differ"
    words = [set(side.kind.split()) for side in (one, other)]
    return "fit" if words[0] <= words[1] or words[1] <= words[0] else "open"


_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?: ?([ap])\.?m\.?)?", re.I)
_MARKED = re.compile(r"([^$]*)\$+([^$]+)\$+([^$]*)")
_PLAIN_WORDS = re.compile(r"[A-Za-z' ,.:;\"-]*")
_LEAD = re.compile(
    r"(?:[A-Za-z' ,]*?(?<![A-Za-z])(?:answers?|results?|solutions?)(?![A-Za-z])"
    r"(?: (?:is|are|was|to|of|the|this|problem|equals|therefore|thus|given|by))* ?[:=]?"
    r"|(?:so|thus|hence|therefore|then|finally)(?![A-Za-z]),?"
    r"|(?:it|this|that|we|which) (?:is|are|equals|get|have|find)(?![A-Za-z])(?: that)?) ?:? ?",
    re.I,
)


def clock_verdict(one: str, other: str) -> str | None:
    """The verdict on two times of the day, "undecided" where one lacks `am` or `pm`."""
    times = [_CLOCK.fullmatch(text.strip(" $.")) for text in (one, other)]
    if not all(times):
        return None
    hours, minutes = ([int(time[place]) for time in times] for place in (1, 2))
    halves = [time[3] for time in times]
    if hours[0] != hours[1] or minutes[0] != minutes[1]:
        shifted = minutes[0] == minutes[1] and (hours[0] - hours[1]) % 12 == 0
        return "undecided" if shifted and not all(halves) else "wrong"
    if None in halves:
        return "right"
    return "right" if halves[0].lower() == halves[1].lower() else "wrong"


def list_verdict(one: str, other: str) -> str | None:
    """The verdict on lists, tuples and intervals, element by element; None where it is open.

    "right" if the same stands in each place, "wrong" if all are numbers and one is in one of the
    two alone.
    """
    sides = [_elements(text) for text in (one, other)]
    if None in sides:
        return None
    (brackets, ones), (other_brackets, others) = sides
    pairs = zip(ones, others, strict=False)
    if brackets == other_brackets and len(ones) == len(others):
        verdicts = {_same_element(*pair) for pair in pairs}
        if verdicts == {"right"}:
            return "right"
    table = [[_same_element(first, second) for second in others] for first in ones]
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
        if not rest or _changes(lead[0]) or rest.split()[0].lower() in _CHANGING:
            break
        text = rest
    marked = re.sub(r"\\[()\[\]]", "$", text)
    match = _MARKED.fullmatch(marked)
    if not match or not (match[1] + match[3]).strip(" .,"):
        return text
    before, formula, after = match.groups()
    if any(_changes(part) or not _PLAIN_WORDS.fullmatch(part) for part in (before, after)):
        return text
    unit = _read_unit(after, "") if after.strip(" .,") else None
    return (
        rf"{formula.strip()}\text{{ {after.strip(' .')}}}"
        if unit and unit.known
        else formula.strip()
    )


def _changes(text: str) -> bool:
    """Whether words change the answer beside them."""
    return any(word.lower() in _CHANGING for word in _WORD.findall(text))


def mark_unit(latex: str) -> str:
    r"""A line whose last bare words are a unit, as `2\sqrt{3} cm`, with them in `\text{}`."""
    match = _BARE_UNIT.fullmatch(latex)
    if not match or _read_unit(f" {match[2]}", "") is None:
        return latex
    return rf"{match[1]}\text{{ {match[2]}}}"


_BARE_UNIT = re.compile(r"(.*[\d})]) ([A-Za-z]{2,}[A-Za-z /.'-]*)", re.DOTALL)


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
    boxed = _BOXED.fullmatch(text.strip("$ "))
    text = boxed[1] if boxed else text
    text = _THIN.sub(lambda match: "," if "," in match[0] else "", text)
    text = text.replace(r"\$", "\0")
    if text.count("$") % 2 == 0:
        text = text.replace("$", "")
    text = text.replace("\0", "$").replace(r"\%", "%")
    text = _SUPERSCRIPT.sub(lambda match: f"^{{{match[0].translate(_LOWERED)}}}", text)
    text = _UNIT_FRACTION.sub(r" \1/\2", _WRAPPED.sub(r" \1 ", text))
    text = _DEGREES.sub(" degrees ", text)
    return _SPACES.sub(" ", text).strip().rstrip(".,;: ").strip()


def _spell_out(text: str) -> str:
    """Text with its number in words as digits, where it has no digits."""
    if any(map(str.isdigit, text)):
        return text

    if part := _SPELLED_PART.match(text):
        above = _SPELLED.get((part[1] or "one").lower(), 1)
        return f"{above}/{_PARTS[(part[2] or 'half').lower()]}{text[part.end() :]}"

    def digits(match: re.Match) -> str:
        total = group = 0
        for word in re.split(r"[ -]", match[0].lower()):
            if word in ("hundred", "dozen"):
                group *= _SCALES[word]
            elif word in _SCALES:
                total, group = total + group * _SCALES[word], 0
            else:
                group += _SPELLED.get(word, 0)
        return str(total + group)

    return _SPELLED_NUMBER.sub(digits, text)


def _read_number(match: re.Match) -> Quantity | None:
    """The value of a match of `_NUMBER`, sign included, without what stands beside it."""
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
        return Quantity(sign * (-value if part["minus"] else value))
    if part["left"]:
        above, below = (Fraction(part[name].replace(",", "")) for name in ("left", "right"))
        return Quantity(sign * above / below) if below else None
    exponent = next((part[name] for name in _EXPONENTS if part[name] is not None), None)
    if exponent and (len(exponent) > 6 or abs(int(exponent)) > MAX_EXPONENT):
        return None
    power = int(exponent or 0)
    if part["decimal"] is None:
        return Quantity(sign * Fraction(10) ** power)
    plain, comma = _plain_decimal(part["decimal"])
    places = len(plain.partition(".")[2]) - power
    digits = len(plain.replace(".", "").lstrip("0"))
    value = Fraction(plain) * Fraction(10) ** power
    return Quantity(sign * value, places, digits, comma=comma)


_EXPONENTS = ("exponent", "times", "bare_times", "power", "bare_power")


def _plain_decimal(text: str) -> tuple[str, bool]:
    """A decimal with a point and no groups, and whether its comma may also part a list."""
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


def _are_words(text: str) -> bool:
    """Whether what stands before a number is a name and `=`, or words that leave it as it is."""
    if not text.strip():
        return True
    if not _BEFORE.fullmatch(text) or (text[-1].isalpha() or text[-1] == "-"):
        return False
    words = _WORD.findall(text)
    if text.rstrip().endswith("=") and len(words) == 1:
        return True
    long_words = [word for word in words if len(word) > 1]
    return bool(long_words) and not any(word.lower() in _CHANGING for word in words)


class _Unit(NamedTuple):
    """What stands beside a number: as the fields of the same names of `Quantity`."""

    kind: str = ""
    size: Fraction = Fraction(1)
    known: bool = True


def _read_unit(text: str, currency: str) -> _Unit | None:
    """The unit or the words behind a number; None where they are neither."""
    money = _MONEY.get(currency, _MONEY.get(currency[-1:], ""))
    paid = _Unit(*_UNITS[money]) if money else _Unit()
    if not text.strip(' .,;"'):
        return paid
    if not _AFTER.fullmatch(text) or text.count("(") != text.count(")"):
        return None
    spaced = not text[0].isalpha()
    text = _TEMPERATURE.sub(lambda match: f" {_TEMPERATURES[match[1].lower()]} ", text)
    above, *below = _PER.sub("/", text).split("/")
    first = _read_factors(above, spaced)
    others = [_read_factors(part, spaced=True) for part in below]
    if first is None or None in others:
        return None
    if money and (not first.known or not first.kind):  # `$5 each` is five dollars
        first = paid
    units = [first, *others]
    if not all(unit.known for unit in units):
        return _Unit(" ".join(filter(None, (unit.kind for unit in units))), known=False)
    size = first.size
    for unit in others:
        size /= unit.size
    return _Unit("/".join(unit.kind for unit in units), size)


def _read_factors(text: str, spaced: bool) -> _Unit | None:
    """A product of units, or words; None for other text."""
    if _PART.sub("", text).strip(' .,;"()*'):
        return None
    units: list[tuple[str, Fraction, int]] = []
    words, known, next_power = [], True, 1
    for name, power, squeezed in _PART.findall(text):
        lower = name.lower()
        if lower in _POWERS_BEFORE:
            next_power = _POWERS_BEFORE[lower]
        elif lower in _COMPOUND:
            return _read_unit(f" {_COMPOUND[lower]}", "")
        elif lower in _POWERS_BEHIND and units:
            kind, size, _ = units.pop()
            units.append((kind, size, _POWERS_BEHIND[lower]))
        elif unit := _find_unit(name, spaced):
            units.append((*unit, int(power or squeezed or next_power)))
            next_power = 1
        elif not _is_word(name, spaced):
            return None
        elif lower not in _FILLING:
            known = False
        words.append(lower.removesuffix("s") if len(lower) > 3 else lower)
    if not known:
        return _Unit(" ".join(word for word in words if word not in _FILLING), known=False)
    size = Fraction(1)
    for _, factor, power in units:
        size *= factor**power
    kinds = (f"{kind}^{power}" if power != 1 else kind for kind, _, power in units)
    return _Unit(" ".join(kinds), size)


def _find_unit(name: str, spaced: bool) -> tuple[str, Fraction] | None:
    """A known unit. One letter is a unit only behind a space: `5m` may be a product."""
    if len(name) == 1:
        return _UNITS.get(name) if spaced else None
    for spelling in (name, name.lower(), name.lower().removesuffix("s")):
        if spelling in _UNITS and len(spelling) > 1:
            return _UNITS[spelling]
    return None


def _is_word(name: str, spaced: bool) -> bool:
    """Whether letters behind a number are a word, and none that changes the number."""
    lower = name.lower()
    if lower in _CHANGING:
        return False
    if spaced and lower in _SHORT:
        return True
    return len(name) >= (3 if spaced else 4) and bool(_VOWEL.search(name))
