r"""The judges of a task: they decide when two answers are the same.

The judge `string` compares normalised strings. `math` asks the math scorer. `olympicarena` goes by
answer type: exact text first, math-verify for the rest.

Types and tolerances of `olympicarena` are those of the benchmark's own judge (Huang et al. 2024,
arXiv 2406.12753; `code/judge.py` of GAIR-NLP/OlympicArena). There are four differences. An answer
that the rules cannot compare is "undecided" and not wrong. Small numbers are not all equal. A
spelled-out unit is no error if it is the one asked for. An equation may be any multiple of another.

A judge compares an answer with gold (scores, diagnostics) and two answers with each other
(agreement, votes, pairs).

The quirk `released_judge` adds what the paper's authors accepted too, as their released training
rows show: a single choice whose letter stands anywhere in the other answer, a multiple choice with
other letters, and tiny numbers that differ by less than the absolute tolerance.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, InvalidOperation
from typing import Any, NamedTuple

import polars as pl

from weak_to_strong.evaluation.math_verify_worker import VALUE
from weak_to_strong.evaluation.scoring import (
    MAX_CHARACTERS,
    VERDICTS,
    ask_workers,
    fast_verdict,
    math_verify_many,
    parse_decimal,
)
from weak_to_strong.method.answers import Judge, string_judge
from weak_to_strong.method.olympicarena_prompts import read_parts

JUDGES = ("string", "math", "olympicarena")
#: Numbers that differ by no more than this are equal.
NUMBER_TOLERANCE = Decimal("1e-5")
#: They may also differ by no more than this share of the larger one. This is our addition: without
#: it all numbers below 1e-5 are equal (`released_judge`).
SMALL_NUMBER_TOLERANCE = Decimal("1e-2")
#: Largest difference of the leading factors if one number is in scientific notation.
FACTOR_TOLERANCE = Decimal("0.1")
#: Longer lists and sets are not compared: each element is compared with each other one.
MAX_ELEMENTS = 20

_PENDING = "pending"


class Case(NamedTuple):
    """Two answers to one question.

    Attributes:
        prediction, gold: raw answers; for agreement, those of the weak and the ICL side.
        answer_type: SC, MC, TF, NV, SET, IN, EX, EQ, TUP, MPV or MA. Null compares by math-verify
            alone. Any other type can be judged by a model only.
        unit: the unit asked for.
        parts: of MPV and MA, see `olympicarena_prompts.read_parts`.
    """

    prediction: str
    gold: str
    answer_type: str | None
    unit: str | None = None
    parts: str | None = None


class _Ask:
    """The questions of one `judge_many` to math-verify's worker processes, and their replies.

    Attributes:
        released_judge: whether answers are compared as the authors' judge does.
        waiting: questions without a reply, in the order in which they were asked.
    """

    def __init__(self, released_judge: bool) -> None:
        self.released_judge = released_judge
        self.waiting: dict[tuple[str, str, str], None] = {}
        self._replies: dict[tuple[str, str, str], str] = {}

    def __call__(self, *question: str) -> str:
        """The reply to (prediction, gold, operation), or "pending" where there is none yet."""
        if question not in self._replies:
            self.waiting[question] = None
        return self._replies.get(question, _PENDING)

    def send(self, timeout_seconds: float, workers: int) -> None:
        """Let the workers answer all waiting questions, each once."""
        self._replies.update(ask_workers(list(self.waiting), timeout_seconds, workers))
        self.waiting.clear()


def judge_many(
    cases: Iterable[Case],
    timeout_seconds: float = 5.0,
    workers: int = 1,
    *,
    released_judge: bool = False,
) -> list[str]:
    """Verdicts of `cases`, in their order.

    Letters, truth values, plain numbers and equal texts are settled here. All other comparisons go
    to math-verify's worker processes together, each one once.

    Args:
        cases: pairs of answers.
        timeout_seconds: processor time of one comparison.
        workers: most worker processes at once.
        released_judge: also accept what the authors' judge accepts, see the head of this file.

    Returns:
        "right", "wrong", "timeout" or "undecided" for each. "undecided": a type that only a model
        could judge, other units than the one asked for, or mathematics that cannot be read.
    """
    cases = list(cases)
    ask = _Ask(released_judge)
    verdicts = {case: _judge(case, ask) for case in dict.fromkeys(cases)}
    while pending := [case for case, verdict in verdicts.items() if verdict == _PENDING]:
        # A reply may raise a new question: an answer that is not a number is compared as an
        # expression.
        ask.send(timeout_seconds, workers)
        verdicts.update((case, _judge(case, ask)) for case in pending)
    return [verdicts[case] for case in cases]


def question_judge(
    questions: pl.DataFrame,
    timeout_seconds: float = 5.0,
    workers: int = 1,
    *,
    released_judge: bool = False,
) -> Judge:
    """`judge_many` for answers to the questions of a PROBLEMS or QUESTIONS table."""
    rows = questions.select("id", "answer_type", "unit", "parts").iter_rows()
    forms = {name: form for name, *form in rows}

    def judge(answers: Sequence[tuple[str, str, str]]) -> list[str]:
        cases = (Case(answer, other, *forms[name]) for name, answer, other in answers)
        return judge_many(cases, timeout_seconds, workers, released_judge=released_judge)

    return judge


def math_judge(timeout_seconds: float = 5.0, workers: int = 1) -> Judge:
    """The math scorer as a judge of raw answers: `$1,234.00` and `1234` are the same."""

    def judge(rows: Sequence[tuple[str, str, str]]) -> list[str]:
        verdicts = math_verify_many(
            [(one, other) for _, one, other in rows], timeout_seconds, workers
        )
        # Two texts without an answer are the same, as for the other judges.
        return [
            "right" if one == other else verdict
            for (_, one, other), verdict in zip(rows, verdicts, strict=True)
        ]

    return judge


def choose_judge(settings: Mapping[str, Any], questions: pl.DataFrame, workers: int = 1) -> Judge:
    """The judge of a task.

    Args:
        settings: `name`, one of `JUDGES`; for all but `string` also `timeout_seconds`; for
            `olympicarena` optionally `released_judge`, see `judge_many`.
        questions: PROBLEMS or QUESTIONS with the questions that are answered.
        workers: most comparison processes at once.

    Raises:
        ValueError: there is no judge of this name.
    """
    if settings["name"] == "string":
        return string_judge
    if settings["name"] == "math":
        return math_judge(settings["timeout_seconds"], workers)
    if settings["name"] != "olympicarena":
        raise ValueError(f"judge {settings['name']!r} is not one of {', '.join(JUDGES)}")
    return question_judge(
        questions,
        settings["timeout_seconds"],
        workers,
        released_judge=settings.get("released_judge", False),
    )


def verdicts_by_type(scores: pl.DataFrame, problems: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Answer type -> math verdict -> rows of SCORES; empty where no problem has an answer type."""
    typed = problems.filter(pl.col("answer_type").is_not_null()).select("id", "answer_type")
    counts = scores.join(typed, on="id").group_by("answer_type", "math").len().sort("answer_type")
    by_type: dict[str, dict[str, int]] = {}
    for kind, verdict, rows in counts.iter_rows():
        by_type.setdefault(kind, dict.fromkeys(VERDICTS, 0))[verdict] = rows
    return by_type


# --- reading ---------------------------------------------------------------------------------

_SIGNS = str.maketrans(
    {
        "\N{FULLWIDTH COMMA}": ",",
        "\N{RATIO}": ":",
        "\N{MINUS SIGN}": "-",
        "\N{EN DASH}": "-",
        "\N{MULTIPLICATION SIGN}": r"\times ",
        "\N{MIDDLE DOT}": r"\cdot ",
        "\N{UNION}": r"\cup ",
    }
)
_SPACES = re.compile(r"\\(?:[,;:! ]|q?quad(?![A-Za-z]))|~|\s+")
_DROPPED = re.compile(
    r"\\(?:left|right)(?![A-Za-z])\.?|\\(?:displaystyle|limits)(?![A-Za-z])|\\[()\[\]]|(?<!\\)\$"
)
_WRAPPED = re.compile(
    r"\\(?:text|mathrm|mathbf|mathit|textbf|textit|textrm|mbox|operatorname|boxed)\s*\{([^{}]*)\}"
)
_LETTER = re.compile(r"(?:[(\[]\s*(?=[A-Z]\s*[)\]]))?([A-Z])\s*(?:[)\]:.].*)?", re.DOTALL)
_LETTERS = re.compile(r"[A-Z](?:\s*[A-Z])*")
_AND = re.compile(r"(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|;")
_EQUALS = re.compile(r"[(\[{]|(?P<close>[)\]}])|(?P<equals>=|≈|\\(?:approx|simeq|sim)(?![A-Za-z]))")
#: `%` and degrees count as no unit, as in the benchmark's judge.
_MARKS = re.compile(r"\\?%|\^\s*\{?\s*\\circ\s*\}?|°")
_DECIMAL = r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?"
_SCIENTIFIC = re.compile(
    rf"(?:({_DECIMAL})\s*(?:\\times|\\cdot|\*)\s*)?10\s*\^\s*(?:\{{\s*([+-]?\d{{1,6}})\s*\}}|(\d))"
    rf"|({_DECIMAL})[eE]([+-]?\d{{1,6}})"
)
_FRACTION = re.compile(r"([+-]?)\\[dt]?frac\{\s*(-?\d+)\s*\}\{\s*(\d+)\s*\}|([+-]?\d+)\s*/\s*(\d+)")
_HEAD = re.compile(
    rf"((?:{_SCIENTIFIC.pattern}|[+-]?\\[dt]?frac\{{[^{{}}]*\}}\{{[^{{}}]*\}}|{_DECIMAL}))(.*)",
    re.DOTALL,
)
_UNIT_NAME = re.compile(r"[A-Za-zµΩÅ\\]")
_NO_UNIT = re.compile(
    r"(?:e|i|\\(?:times|cdot|pi|sqrt|frac|log|ln|sin|cos|tan|exp|pm))(?![A-Za-z])"
)
_UNION = re.compile(r"\\cup(?![A-Za-z])|(?<![A-Za-z])(?:U|or)(?![A-Za-z])")
_MEMBER = re.compile(r"\\in(?![A-Za-z])|∈")
_INTERVAL = re.compile(r"([\[\]()])(.*)([\[\]()])", re.DOTALL)
_INFINITY = re.compile(r"([+-]?)(?:\\infty|∞|infinity|inf)")


def _tidy(text: str) -> str:
    """Without maths delimiters, sizes of brackets, kinds of space and a full stop at the end."""
    text = text.translate(_SIGNS)
    text = _DROPPED.sub("", text.replace("{,}", ",").replace("\\!", ""))
    text = re.sub(r"(?<=\d)\\[,;](?=\d{3}(?!\d))", "", text)
    text = re.sub(r"\\[dt]frac(?![A-Za-z])", r"\\frac", _SPACES.sub(" ", text))
    return text.strip().removesuffix(".").strip()


def _unwrap(text: str) -> str:
    """Without `\\text{...}` and the like around its content."""
    return _WRAPPED.sub(r"\1", text).strip()


def _split(text: str, expected: int = 0) -> list[str]:
    """Parts between commas, `;`, "and" and "or" outside brackets.

    If there are not `expected` parts, commas before three digits are read as separators of
    thousands.
    """
    text = _AND.sub(",", _unwrap(text) if "\\text" in text else text)

    def cut(text: str) -> list[str]:
        parts, depth, begin = [], 0, 0
        for position, character in enumerate(text):
            if character in "([{":
                depth += 1
            elif character in ")]}":
                depth -= 1
            elif character == "," and depth == 0:
                parts.append(text[begin:position])
                begin = position + 1
        return [part.strip() for part in [*parts, text[begin:]] if part.strip()]

    parts = cut(text)
    if expected and len(parts) != expected:
        joined = cut(re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text))
        return joined if len(joined) == expected else parts
    return parts


def _strip_name(text: str) -> str:
    """What follows the last equals sign outside brackets: `v=5` is the answer 5."""
    depth = begin = 0
    for match in _EQUALS.finditer(text):
        if match["equals"]:
            begin = match.end() if depth == 0 else begin
        else:
            depth += -1 if match["close"] else 1
    return text[begin:].strip()


def _unit_key(unit: str | None) -> str:
    """A unit without markup: `\\mathrm{~m} / \\mathrm{s}` is `m/s`."""
    plain = _MARKS.sub("", _unwrap(_tidy(unit or "")))
    return re.sub(r"[\s{}\\$]|cdot", "", plain)


def _split_unit(text: str) -> tuple[str, str]:
    """A number and the key of the unit behind it, "" if there is none.

    Letters of a formula (`2\\pi`, `3e`) are no unit.
    """
    text = _MARKS.sub("", text).strip()
    head, *_, rest = _HEAD.fullmatch(text).groups()
    rest = rest.strip()
    if not head.strip("+-.") or not _UNIT_NAME.match(rest) or _NO_UNIT.match(rest):
        return text, ""
    return head.strip(), _unit_key(rest)


class _Number(NamedTuple):
    value: Decimal
    scientific: bool = False


def _read_number(text: str) -> _Number | None:
    """A number in plain, scientific or fraction notation, or null for anything else."""
    text = text.strip()
    plain = parse_decimal(text)
    if plain is not None:
        return _Number(plain)
    if match := _SCIENTIFIC.fullmatch(text):
        factor, power, digit, mantissa, exponent = match.groups()
        first = parse_decimal(mantissa if mantissa is not None else factor or "1")
        if first is not None:
            return _Number(first.scaleb(int(exponent or power or digit), _CONTEXT), True)
    if match := _FRACTION.fullmatch(text):
        sign, above, below, over, under = match.groups()
        if int(below or under):
            value = _CONTEXT.divide(Decimal(above or over), Decimal(below or under))
            return _Number(-value if sign == "-" else value)
    return None


#: Wide enough for every number of a benchmark, so that only impossible input raises an error.
_CONTEXT = Context(prec=2 * MAX_CHARACTERS + 100, Emax=MAX_EMAX, Emin=MIN_EMIN)


def _close(one: _Number, other: _Number, *, released_judge: bool = False) -> bool:
    """Whether two numbers are equal within the tolerances at the head of this file."""
    if one.value == other.value:
        return True
    difference = _CONTEXT.subtract(one.value, other.value).copy_abs()
    if released_judge and difference <= NUMBER_TOLERANCE:
        return True
    if one.value == 0 or other.value == 0:
        return False
    sizes = [one.value.copy_abs(), other.value.copy_abs()]
    limit = min(NUMBER_TOLERANCE, _CONTEXT.multiply(SMALL_NUMBER_TOLERANCE, max(sizes)))
    if one.scientific or other.scientific:
        power = min(size.adjusted() for size in sizes)
        limit = max(limit, FACTOR_TOLERANCE.scaleb(power, _CONTEXT))
    return difference <= limit


# --- verdicts --------------------------------------------------------------------------------


def _all(verdicts: Iterable[str]) -> str:
    """ "right" if all are right, "wrong" if one is wrong."""
    return _first(verdicts, ("wrong", _PENDING, "timeout", "undecided"), "right")


def _any(verdicts: Iterable[str]) -> str:
    """ "right" if one is right; an open verdict counts before "wrong"."""
    return _first(verdicts, ("right", _PENDING, "timeout", "undecided"), "wrong")


def _first(verdicts: Iterable[str], order: Sequence[str], otherwise: str) -> str:
    present = set(verdicts)
    return next((verdict for verdict in order if verdict in present), otherwise)


def _judge(case: Case, ask: _Ask) -> str:
    prediction, gold = case.prediction.strip(), case.gold.strip()
    if prediction == gold:
        return "right"
    if not prediction or not gold:
        return "wrong"
    if max(len(prediction), len(gold)) > MAX_CHARACTERS:
        return "undecided"
    if case.answer_type is None:
        return fast_verdict(prediction, gold) or ask(prediction, gold, "compare")
    prediction, gold = _tidy(prediction), _tidy(gold)
    if prediction == gold and prediction:
        return "right"
    if case.answer_type in ("MPV", "MA"):
        parts = [(part["type"], part["unit"]) for part in read_parts(case.parts)]
        several = _judge_in_order if case.answer_type == "MPV" else _judge_in_any_order
        return several(prediction, gold, parts, ask)
    return _judge_one(prediction, gold, case.answer_type, case.unit, ask)


def _judge_one(prediction: str, gold: str, kind: str, unit: str | None, ask: _Ask) -> str:
    judge = _BY_TYPE.get(kind)
    return judge(prediction, gold, unit, ask) if judge else "undecided"


def _judge_choice(prediction: str, gold: str, _unit: str | None, ask: _Ask) -> str:
    """One letter, perhaps in brackets or before the option's text.

    The authors' judge also accepts the letter anywhere in an answer that names no option.
    """
    texts = [_unwrap(text) for text in (prediction, gold)]
    chosen = [_LETTER.fullmatch(text) for text in texts]
    if all(chosen):
        return "right" if chosen[0][1] == chosen[1][1] else "wrong"
    if ask.released_judge and any(
        match and match[1] in other for match, other in zip(chosen, reversed(texts), strict=True)
    ):
        return "right"
    return "wrong" if any(chosen) else "undecided"


def _judge_choices(prediction: str, gold: str, unit: str | None, ask: _Ask) -> str:
    """The same letters in any order: `A, C`, `AC`, `[C, A]`, `A and C`.

    The authors' judge reads only the first capital letter between two commas of one of the answers,
    so `AC` is `A`; and it accepts a single letter as for a single choice.
    """

    def letters(text: str) -> frozenset[str]:
        options = set()
        for item in _split(_unwrap(text).strip("[](){}\\ ")):
            if _LETTERS.fullmatch(item):
                options |= set(item) - {" "}
            elif match := _LETTER.fullmatch(item):
                options.add(match[1])
            else:
                return frozenset()
        return frozenset(options)

    def first_letters(text: str) -> frozenset[str]:
        capitals = (re.search("[A-Z]", item) for item in _split(_unwrap(text)))
        return frozenset(match[0] for match in capitals if match)

    texts = prediction, gold
    chosen = [letters(text) for text in texts]
    if all(chosen) and chosen[0] == chosen[1]:
        return "right"
    if ask.released_judge and any(
        option and (option == first_letters(other) or (len(option) == 1 and option <= set(other)))
        for option, other in zip(chosen, reversed(texts), strict=True)
    ):
        return "right"
    return "wrong" if any(chosen) else "undecided"


def _judge_truth(prediction: str, gold: str, _unit: str | None, _ask: _Ask) -> str:
    values = [_unwrap(text).strip("\"'. ").lower() for text in (prediction, gold)]
    known = [value in ("true", "false") for value in values]
    if all(known):
        return "right" if values[0] == values[1] else "wrong"
    return "wrong" if any(known) else "undecided"


def _judge_number(prediction: str, gold: str, unit: str | None, ask: _Ask) -> str:
    """Numbers within the tolerance; both in the unit asked for, or without one."""
    unit_asked_for = _unit_key(unit)
    values, units = [], set()
    for text in (prediction, gold):
        value, key = _split_unit(_strip_name(text))
        values.append(value)
        units.add("" if key == unit_asked_for else key)
    if len(units) > 1:  # these rules convert no units
        return "undecided"
    return _judge_values(values, "compare", ask)


def _judge_expression(prediction: str, gold: str, unit: str | None, ask: _Ask) -> str:
    texts = [_drop_unit(_strip_name(text), unit) for text in (prediction, gold)]
    return _judge_values(texts, "expression", ask)


def _judge_values(texts: Sequence[str], operation: str, ask: _Ask) -> str:
    """Numbers within the tolerance, other expressions by math-verify's `operation`."""
    if texts[0] == texts[1]:
        return "right"
    numbers = [_read_number(_MARKS.sub("", text)) for text in texts]
    if None in numbers:
        replies = [
            ask("", text, "value") if number is None else ""
            for text, number in zip(texts, numbers, strict=True)
        ]
        for reply in (_PENDING, "timeout"):
            if reply in replies:
                return reply
        numbers = [
            number or _parse_reply(reply) for number, reply in zip(numbers, replies, strict=True)
        ]
    if None not in numbers:
        same = _close(*numbers, released_judge=ask.released_judge)
        return "right" if same else "wrong"
    return ask(*texts, operation)


def _parse_reply(reply: str) -> _Number | None:
    """The number in a worker's reply to "value", or null."""
    try:
        return _Number(Decimal(reply.removeprefix(VALUE).strip()))
    except InvalidOperation:
        return None


def _drop_unit(text: str, unit: str | None) -> str:
    """An expression without the unit asked for; no other letters are taken for a unit."""
    key = _unit_key(unit)
    # A unit has few factors, so only the last wrapped texts can be part of it.
    for match in list(_WRAPPED.finditer(text))[-6:] if key else ():
        if _unit_key(text[match.start() :]) == key:
            return text[: match.start()].strip()
    return text


def _judge_equation(prediction: str, gold: str, unit: str | None, ask: _Ask) -> str:
    texts = [_drop_unit(text, unit) for text in (prediction, gold)]
    return "right" if texts[0] == texts[1] else ask(*texts, "equation")


def _judge_tuple(prediction: str, gold: str, unit: str | None, ask: _Ask) -> str:
    """Number by number."""
    lists = [_split(_open_brackets(_strip_name(text))) for text in (prediction, gold)]
    if len(lists[0]) != len(lists[1]):
        return "wrong"
    if len(lists[0]) > MAX_ELEMENTS:
        return "undecided"
    return _all([_judge_number(*pair, unit, ask) for pair in zip(*lists, strict=True)])


_BRACKETS = ((r"\{", r"\}"), ("(", ")"), ("[", "]"), ("{", "}"), (r"\langle", r"\rangle"))


def _open_brackets(text: str) -> str:
    """`text` without the brackets around all of it."""
    for begin, end in _BRACKETS:
        if text.startswith(begin) and text.endswith(end):
            return text[len(begin) : -len(end)].strip()
    return text


def _judge_set(prediction: str, gold: str, unit: str | None, ask: _Ask) -> str:
    """Each element of one is in the other."""
    lists = [_split(_open_brackets(_strip_name(text))) for text in (prediction, gold)]
    return _cover(*lists, lambda one, other: _judge_number(one, other, unit, ask))


def _cover(elements: Sequence[Any], others: Sequence[Any], same: Callable[[Any, Any], str]) -> str:
    """Whether each element has its like among the others, and each of the others among them."""
    if not elements or not others:
        return "wrong"
    if max(len(elements), len(others)) > MAX_ELEMENTS:
        return "undecided"
    table = [[same(one, other) for other in others] for one in elements]
    return _all([*map(_any, table), *map(_any, zip(*table, strict=True))])


def _judge_interval(prediction: str, gold: str, unit: str | None, ask: _Ask) -> str:
    """Interval by interval, or as sets by math-verify if they are written in another way."""
    texts = [_drop_unit(text, unit) for text in (prediction, gold)]
    unions = [_read_union(text) for text in texts]
    if None in unions:
        return ask(*texts, "compare")

    def same_end(one: str, other: str) -> str:
        ends = [_INFINITY.fullmatch(end.replace(" ", "")) for end in (one, other)]
        if any(ends):
            alike = all(ends) and (ends[0][1] == "-") == (ends[1][1] == "-")
            return "right" if alike else "wrong"
        return _judge_number(one, other, unit, ask)

    def same(one: tuple, other: tuple) -> str:
        if one[2:] != other[2:]:
            return "wrong"
        return _all([same_end(one[0], other[0]), same_end(one[1], other[1])])

    verdict = _cover(*unions, same)
    if verdict == "wrong" and len(unions[0]) != len(unions[1]):
        return _any([verdict, ask(*texts, "compare")])  # [1, 3] may be written [1, 2] \cup [2, 3]
    return verdict


def _read_union(text: str) -> list[tuple[str, str, bool, bool]] | None:
    """Intervals as (low, high, low belongs to it, high belongs to it); null for another form."""
    intervals = []
    for piece in _UNION.split(_MEMBER.split(_unwrap(text))[-1]):
        match = _INTERVAL.fullmatch(piece.strip())
        ends = _split(match[2], 2) if match else []
        if len(ends) != 2:
            return None
        infinite = [_INFINITY.fullmatch(end.replace(" ", "")) for end in ends]
        closed = match[1] == "[" and not infinite[0], match[3] == "]" and not infinite[1]
        intervals.append((*ends, *closed))
    return intervals


def _judge_in_order(
    prediction: str, gold: str, parts: Sequence[tuple[str, str | None]], ask: _Ask
) -> str:
    """Several quantities: each by its own type and unit."""
    lists = [_split(_open_list(text), len(parts)) for text in (prediction, gold)]
    kinds = parts or [("EX", None)] * len(lists[1])
    if len(lists[1]) != len(kinds):  # gold of other length than its types
        return "undecided"
    if len(lists[0]) != len(kinds):
        return "wrong"
    return _all(
        [
            _judge_one(one, other, kind, unit, ask)
            for one, other, (kind, unit) in zip(*lists, kinds, strict=True)
        ]
    )


def _judge_in_any_order(
    prediction: str, gold: str, parts: Sequence[tuple[str, str | None]], ask: _Ask
) -> str:
    """Several answers in any order, equal if they are by the type of one of them."""
    lists = [_split(_open_list(text), len(parts)) for text in (prediction, gold)]
    kinds = list(dict.fromkeys(parts)) or [("EX", None)]

    def same(one: str, other: str) -> str:
        if one == other:
            return "right"
        return _any([_judge_one(one, other, kind, unit, ask) for kind, unit in kinds])

    return _cover(*lists, same)


def _open_list(text: str) -> str:
    """A list of answers without brackets around all of it."""
    inner = _open_brackets(text)
    return inner if len(_split(inner)) > 1 and len(_split(text)) == 1 else text


_BY_TYPE: dict[str, Callable[[str, str, str | None, _Ask], str]] = {
    "SC": _judge_choice,
    "MC": _judge_choices,
    "TF": _judge_truth,
    "NV": _judge_number,
    "SET": _judge_set,
    "IN": _judge_interval,
    "EX": _judge_expression,
    "EQ": _judge_equation,
    "TUP": _judge_tuple,
}
