"""Words that are numbers, such as `twenty-five` or `half`, and words that change a number."""

from __future__ import annotations

import re
from fractions import Fraction

SCALES = {
    **{"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9},
    **{"trillion": 10**12, "dozen": 12, "lakh": 10**5, "crore": 10**7},
}
_SMALL_SCALES = {
    name: Fraction(1, size)
    for name, size in (("tenth", 10), ("hundredth", 100), ("thousandth", 1000))
}
_SCALE = re.compile(
    rf" ({'|'.join([*_SMALL_SCALES, *SCALES])})s?(?![A-Za-z])| (tens)(?![A-Za-z])", re.I
)
#: The article of `a dozen`.
_ONE_SCALE = re.compile(rf"(?<![A-Za-z'-])an? (?=(?:{'|'.join(SCALES)})(?![A-Za-z]))", re.I)
#: `1.5k` is a number of thousands. `K`, `M` and `B` may be units, so they need a currency.
_SHORT_SCALE = re.compile(r"([kKmMbB]| ?(?:mn|bn))(?![\w^'])")
_SHORT_SCALES = {"k": 10**3, "m": 10**6, "b": 10**9, "mn": 10**6, "bn": 10**9}
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
    rf"(?:(?: and | |-)(?:{'|'.join([*_SPELLED, *SCALES])}))*(?![A-Za-z]|-[a-z])",
    re.I,
)
_PARTS = {
    **{"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7},
    **{"eighth": 8, "ninth": 9, "tenth": 10, "twelfth": 12, "hundredth": 100, "thousandth": 1000},
}
_SPELLED_PART = re.compile(
    rf"(?:(?:({'|'.join([*_SPELLED, 'an?'])})[ -])({'|'.join(_PARTS)})|half)s?(?![A-Za-z-])", re.I
)
_ORDINAL_WORDS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
_ORDINALS = _ORDINAL_WORDS.split()
#: Words that change a number, make it one of several, or are themselves mathematics.
_CHANGING_WORDS = (
    "and or not no than least most over under above below between beyond half third thirds quarter "
    "quarters fourth fourths fifth fifths plus minus negative twice double triple except "
    "without never none neither nor cannot if unless squared cubed factorial root roots mod modulo "
    "base remainder ago exceeds within versus vs every other either both but inf infinity infinite "
    "pi sqrt frac sin cos tan cot sec csc log ln exp lim max min gcd lcm theta alpha beta gamma "
    "undefined impossible wrong false hardly barely scarcely instead rather up down until past"
)
_CHANGING = frozenset([*_CHANGING_WORDS.split(), *_SPELLED, *SCALES, *_SMALL_SCALES])
WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")


def spell_out(text: str) -> str:
    """Text with its number in words as digits, where it has no digits."""
    if any(map(str.isdigit, text)):
        return text
    if text.lower() in _ORDINALS:
        return str(1 + _ORDINALS.index(text.lower()))
    text = _ONE_SCALE.sub("one ", text)
    if part := _SPELLED_PART.match(text):
        above = _SPELLED.get((part[1] or "one").lower(), 1)
        return f"{above}/{_PARTS[(part[2] or 'half').lower()]}{text[part.end() :]}"

    def digits(match: re.Match) -> str:
        total = group = 0
        for word in re.split(r"[ -]", match[0].lower()):
            if word in ("hundred", "dozen"):
                group *= SCALES[word]
            elif word in SCALES:
                total, group = total + group * SCALES[word], 0
            else:
                group += _SPELLED.get(word, 0)
        return str(total + group)

    return _SPELLED_NUMBER.sub(digits, text)


def read_scale(text: str, money: bool) -> tuple[int | Fraction, str]:
    """The factor of ` million`, `k` or ` tenths` at the start of a text, or 1, and its rest.

    Args:
        text: what stands behind a number in digits.
        money: whether the number is an amount of money.
    """
    if scale := _SCALE.match(text):
        factor = _SMALL_SCALES | SCALES | {"tens": 10}
        return factor[(scale[1] or scale[2]).lower()], text[scale.end() :]
    short = _SHORT_SCALE.match(text)
    name = short[1].strip() if short else ""
    if name and (money or name in ("k", "mn", "bn")):
        return _SHORT_SCALES[name.lower()], text[short.end() :]
    return 1, text


def is_changing(word: str) -> bool:
    """Whether a word changes the answer beside it."""
    return word.lower() in _CHANGING or word.lower().endswith("n't")


def changes_answer(text: str) -> bool:
    """Whether words change the answer beside them."""
    return any(map(is_changing, WORD.findall(text)))
