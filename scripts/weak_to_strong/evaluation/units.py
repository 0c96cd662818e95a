"""Units, currencies and words beside a number."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from weak_to_strong.evaluation.number_words import is_changing

#: Words of two letters or fewer that may stand behind a number, and words that are no unit.
_SHORT_WORDS = (
    "a an of in is it at to by on he we my so as be the for she her his are was has had do us"
)
_SHORT = frozenset(_SHORT_WORDS.split())
_FILLING_WORDS = "a an of in is the for are was there them their total altogether left us"
_FILLING = frozenset(_FILLING_WORDS.split())
_AFTER = re.compile(r"[A-Za-z0-9' ,;.\"/^{}*()-]*")
_VOWEL = re.compile(r"[aeiouy]", re.I)

_MONEY = {
    **{"$": "dollar", "€": "euro", "£": "pound", "¥": "yen", "₹": "rupee", "₩": "won", "¢": "cent"},
    **{"usd": "dollar", "us$": "dollar", "eur": "euro", "gbp": "pound", "inr": "rupee"},
    **{"rs": "rupee", "rs.": "rupee", "₽": "ruble", "₫": "dong", "₺": "lira", "₱": "peso"},
    **{"r$": "real", "hk$": "hkd", "s$": "sgd", "nt$": "twd", "nz$": "nzd", "mx$": "peso"},
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
        "months": {"1": "month", "12": "year yr", "120": "decade", "1200": "century"},
        "volume": {"1": "L l liter litre", "1/1000": "ml mL milliliter millilitre"},
        "dollars": {"1": "dollar buck usd", "1/100": "cent"},
        **{"euro": {"1": "euro eur"}, "yen": {"1": "yen"}, "rupee": {"1": "rupee inr"}},
        **{"won": {"1": "won"}, "degree": {"1": "degree deg"}, "radian": {"1": "radian rad"}},
        **{"celsius": {"1": "celsius"}, "fahrenheit": {"1": "fahrenheit"}},
        **{name: {"1": name} for name in ("ruble", "dong", "lira", "peso", "real", "krone")},
        **{name: {"1": name} for name in ("hkd", "sgd", "twd", "nzd")},
        **{"gallon": {"1": "gallon gal", "1/4": "quart", "1/8": "pint", "1/16": "cup"}},
        **{"acre": {"1": "acre"}, "hectare": {"1": "hectare ha"}, "byte": {"1": "byte"}},
        **{"tonne": {"1": "tonne"}, "ton": {"1": "ton"}},
    }.items()
    for size, names in sizes.items()
    for name in names.split()
}
#: Units that a letter may stand before: `mV` is not `MV`.
_PREFIXED = {
    **{"N": "newton", "J": "joule", "W": "watt", "V": "volt", "A": "ampere", "Hz": "hertz"},
    **{"Pa": "pascal", "K": "kelvin", "eV": "electronvolt", "ohm": "ohm", "mol": "mole"},
    **{"B": "byte"},
}
_PREFIXES = {
    **{"": Fraction(1), "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000)},
    **{"k": Fraction(1000), "M": Fraction(10**6), "G": Fraction(10**9), "T": Fraction(10**12)},
}
_UNITS |= {
    prefix + symbol: (kind, size)
    for symbol, kind in _PREFIXED.items()
    for prefix, size in _PREFIXES.items()
} | {kind: (kind, Fraction(1)) for kind in [*_PREFIXED.values(), "amp"]}
_UNITS |= {
    **{"amp": ("ampere", Fraction(1)), "KB": ("byte", Fraction(1000))},
    **{name: ("length", Fraction(1, 10**6)) for name in ("um", "micrometer", "micron")},
    **{name: ("length", Fraction(1, 10**9)) for name in ("nm", "nanometer")},
}
_COMPOUND = {
    **{"mph": "mi/h", "kph": "km/h", "kmh": "km/h", "kmph": "km/h", "fps": "ft/s", "sqft": "ft^2"}
}
_POWERS_BEFORE = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_POWERS_BEHIND = {"squared": 2, "cubed": 3}
_TEMPERATURES = {"c": "celsius", "f": "fahrenheit"}
_TEMPERATURE = re.compile(r"(?<![a-z])degrees? (c|f)(?:elsius|entigrade|ahrenheit)?(?![a-z])", re.I)
_PER = re.compile(
    r" per (?=[a-z])|(?:(?<=[a-z]) an?| every) (?=(?:hour|day|week|month|year|minute)(?![a-z]))"
)
_PART = re.compile(
    r"([A-Za-z][A-Za-z'-]*)\.?(?: ?\^ ?\{? ?(-?[1-9]) ?\}?|(?<=[mtns])([23])(?!\d))?"
)


class Unit(NamedTuple):
    """What stands beside a number.

    Attributes:
        kind: kind of the unit; words that are no known unit; "" for none.
        size: of the unit, in the first unit of its kind.
        known: whether all of it is known.
    """

    kind: str = ""
    size: Fraction = Fraction(1)
    known: bool = True


def read_unit(text: str, currency: str) -> Unit | None:
    """The unit or the words behind a number; None where they are neither.

    Args:
        text: what stands behind the number.
        currency: the currency beside the number, in small letters, or "".
    """
    money = _MONEY.get(currency, _MONEY.get(currency[-1:], ""))
    paid = Unit(*_UNITS[money]) if money else Unit()
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
        return Unit(" ".join(filter(None, (unit.kind for unit in units))), known=False)
    size = first.size
    for unit in others:
        size /= unit.size
    return Unit("/".join(unit.kind for unit in units), size)


def _read_factors(text: str, spaced: bool) -> Unit | None:
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
            return read_unit(f" {_COMPOUND[lower]}", "")
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
    if len(text.strip()) == 1 and not units:  # a variable
        return None
    if not known:
        return Unit(" ".join(word for word in words if word not in _FILLING), known=False)
    size = Fraction(1)
    for _, factor, power in units:
        size *= factor**power
    kinds = (f"{kind}^{power}" if power != 1 else kind for kind, _, power in units)
    return Unit(" ".join(kinds), size)


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
    if is_changing(name):
        return False
    if spaced and lower in _SHORT:
        return True
    return len(name) >= (3 if spaced else 4) and bool(_VOWEL.search(name))
