"""The final answer of a response by the paper's rules, and its normalisation.

The paper's extraction follows the released outputs; its normalisation is that of Minerva (Lewkowycz
et al. 2022, appendix D.1) with the additions that the released predictions show. The paper's
agreement, majority vote and accuracy are equality of these strings. Flexible extraction, which is
ours, is in `flexible_answers`.

All functions take time linear in the length of their input, whatever it holds: a model may repeat
`\\text{` until its token limit, on which the obvious lazy patterns need quadratic time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import polars as pl

from weak_to_strong.method.answer_keys import BOXED, check_answer_key, last_boxed
from weak_to_strong.method.flexible_answers import (
    find_answers,
    find_answers_column,
    find_letter,
)

#: Ways to read the final answer of a response.
EXTRACTIONS = ("paper", "flexible", "letter")
#: Strings at which a response ends by default. "Question" and "Answer" are the released code's; the
#: other one is the line with which a base model goes on to a question of its own.
DEFAULT_STOPS = {
    "paper": ["Question", "Answer"],
    "flexible": ["\nQuestion:"],
    "letter": ["\nQuestion:"],
}
#: Compares answers to questions: rows (id of the question, answer, other answer) -> verdicts, of
#: which "right" says that the two are the same answer.
Judge = Callable[[Sequence[tuple[str, str, str]]], list[str]]

#: What `str.strip` takes away; polars' own idea of white space lacks the separators \x1c to \x1f.
WHITESPACE = (
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006"
    "\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)

_SPOKEN_KEY = "The answer is "
_NUMBER = re.compile(r"-?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)")
_WHOLE_NUMBER = r"\A-?[0-9]*\z"
_NAME_BEFORE_LAST_EQUALS = r"\A[\t-\r\x1c-\x1f ]*(\$?)[A-Za-z]\w{0,15}[\t-\r\x1c-\x1f ]*=([^=]*)\Z"
_OPENED = r"\\(?:boxed|fbox)\{"
#: Two backslashes are a line break, behind which a box may or may not open.
_UNCLEAR = rf"\\{_OPENED}"


def _balanced(depth: int) -> str:
    """Pattern of a text whose braces are balanced and at most `depth` deep."""
    inner = rf"|\{{{_balanced(depth - 1)}\}}" if depth else ""
    return rf"(?:[^{{}}\\]|\\.{inner})*"


_CONTENTS = rf"(?s)\A({_balanced(3)})\}}"


@dataclass(frozen=True)
class PaperQuirks:
    r"""Known flaws of the paper's normalisation, each on (as released) or off (as intended).

    Attributes:
        ft_units: delete `ft` anywhere, so `\infty` becomes `\iny` and `\left` `\le`; off: only
            as a word of its own.
        article_words: delete `a ` and `an ` anywhere, so `\tan x` becomes `\tx`; off: only as
            words of their own.
        last_equals: keep what follows the last `=`, so each equation of a plane becomes `0`; off:
            drop only the name in `name=value`.
        dfrac_distinct: `\dfrac` and `\tfrac` differ from `\frac`; off: they become `\frac`.
        joined_lists: drop all commas between digits, so `1,2` becomes `12` while `-1,000` keeps
            its comma; off: drop thousands separators only, of negative numbers too.
        root_index: brace the bracket of `\sqrt[3]{2}`, giving `\sqrt{[}3]{2}`; off: leave it.
        row_breaks: halve the row break `\\` of matrices when a space follows; off: leave it.
        released_judge: compare answers to OlympicArena as leniently as the authors did. It changes
            no normalisation: `judges.choose_judge` reads it.
    """

    ft_units: bool = True
    article_words: bool = True
    last_equals: bool = True
    dfrac_distinct: bool = True
    joined_lists: bool = True
    root_index: bool = True
    row_breaks: bool = True
    released_judge: bool = False


PAPER = PaperQuirks()

_SUBSTITUTIONS = (
    (".$", "$"),
    ("\\$", ""),
    ("\\ ", ""),
    (" ", ""),
    ("mbox", "text"),
    (",\\text{and}", ","),
    ("\\text{and}", ","),
    ("\\text{m}", "\\text{}"),
)
_UNITS = (
    *("square", "ways", "integers", "dollars", "mph", "inches", "ft", "hours", "km", "units"),
    *("\\ldots", "sue", "points", "feet", "minutes", "digits", "cents", "degrees", "cm", "gm"),
    *("pounds", "meters", "meals", "edges", "students", "childrentickets", "multiples"),
)
_MARKS = (
    "\\text{s}",
    "\\text{.}",
    "\\text{\ns}",
    "\\text{}^2",
    "\\text{}^3",
    "\\text{\n}",
    "\\text{}",
    "\\mathrm{th}",
    "^\\circ",
    "^{\\circ}",
    "\\;",
    ",\\!",
    "{,}",
    '"',
    "\\dots",
)


def extract_answer(response: str, answer_key: str, extraction: str = "paper") -> str:
    """The raw final answer of a response, "" where there is none.

    Flexible extraction is the filter `flexible` of `find_answers`, and that of letters is
    `find_letter`. The rest is of the paper's.
    The response counts up to the word `Question`. With key `\\boxed` the answer is what stands in
    its last box. With another it is what follows the first `answer_key` and a space on its *last*
    line; without one, the first number after the first `The answer is `, thousands separators
    dropped.

    Raises:
        ValueError: an answer key that is not one of `ANSWER_KEYS`.
    """
    check_answer_key(answer_key)
    if extraction == "flexible":
        return find_answers(response, answer_key).flexible
    if extraction == "letter":
        return find_letter(response, answer_key)
    text = response.partition("Question")[0].strip()
    if answer_key == BOXED:
        return (last_boxed(text) or "").strip()
    _, separator, answer = text.rpartition("\n")[2].partition(f"{answer_key} ")
    if separator:
        return answer
    _, _, spoken = text.partition(_SPOKEN_KEY)
    number = _NUMBER.search(spoken.replace(",", ""))
    return number.group() if number else ""


def extract_column(responses: pl.Series, answer_key: str, extraction: str = "paper") -> pl.Series:
    """`extract_answer` of each string of a column.

    Raises:
        ValueError: an answer key that is not one of `ANSWER_KEYS`.
    """
    check_answer_key(answer_key)
    if extraction == "flexible":
        return find_answers_column(responses, answer_key)["flexible"].alias(responses.name)
    if extraction == "letter":
        known = {text: find_letter(text, answer_key) for text in responses.drop_nulls().unique()}
        letters = [None if text is None else known[text] for text in responses]
        return pl.Series(responses.name, letters, pl.String)
    text = pl.col("text").str.replace(r"(?s)Question.*", "").str.strip_chars(WHITESPACE)
    if answer_key == BOXED:
        table = responses.alias("text").to_frame().select(text)
        return _boxed_column(table["text"]).alias(responses.name)
    keyed = pl.col("text").str.extract(pl.escape_regex(answer_key) + r" ([^\n]*)\z")
    spoken = (
        pl.when(pl.col("keyed").is_null())
        .then("text")
        .str.extract(rf"(?s){_SPOKEN_KEY}(.*)")
        .str.replace_all(",", "", literal=True)
        .str.extract(f"({_NUMBER.pattern})")
    )
    return (
        responses.alias("text")
        .to_frame()
        .lazy()
        .with_columns(text)
        .with_columns(keyed=keyed)
        .select(
            pl.coalesce("keyed", spoken, pl.when(pl.col("text").is_not_null()).then(pl.lit("")))
        )
        .collect()
        .to_series()
        .alias(responses.name)
    )


def _boxed_column(texts: pl.Series) -> pl.Series:
    """`last_boxed` of each string, stripped, "" where there is none.

    Where the box that opens last is closed, its contents are the answer. What is left is read one
    text at a time: last boxes that never close or have braces more than three deep.
    """
    text = pl.col("text")
    # Not `extract`: the engine finds groups in a long text ten times as slowly as its match.
    tail = text.str.replace(rf"(?s)\A.*{_OPENED}", "")
    table = texts.alias("text").to_frame().with_columns(opened=text.str.contains(_OPENED))
    table = table.with_columns(
        answer=pl.when("opened", ~text.str.contains(_UNCLEAR)).then(tail.str.extract(_CONTENTS))
    )
    left = table.filter(pl.col("answer").is_null(), pl.col("opened"))["text"].unique()
    read = pl.Series("read", [last_boxed(response) or "" for response in left], pl.String)
    none = pl.when(text.is_not_null()).then(pl.lit(""))
    return (
        table.join(pl.DataFrame([left, read]), on="text", how="left", maintain_order="left")
        .select(pl.coalesce("answer", "read", none))
        .to_series()
        .str.strip_chars(WHITESPACE)
    )


def string_judge(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    """The paper's judge: answers are the same if their normalised strings are."""
    return ["right" if answer == other else "wrong" for _, answer, other in rows]


def judge_table(rows: pl.DataFrame, judge: Judge) -> pl.Series:
    """Verdicts of a judge on a table of id, answer and other answer, in these columns' order."""
    if judge is not string_judge:
        return pl.Series("verdict", judge(rows.rows()), pl.String)
    _, answer, other = rows.columns
    same = pl.col(answer) == pl.col(other)
    verdicts = pl.when(same).then(pl.lit("right")).otherwise(pl.lit("wrong"))
    return rows.select(verdict=verdicts).to_series()


def normalise_answer(text: str, *, quirks: PaperQuirks = PAPER) -> str:
    """Canonical form of a raw answer or a gold answer."""
    for step in _steps(quirks):
        text = step.rewrite(text)
    return text


def normalise_column(answers: pl.Series, quirks: PaperQuirks = PAPER) -> pl.Series:
    """`normalise_answer` of each string of a column; nulls stay.

    The same table of steps, each over a whole column. A whole number is its own canonical form,
    and other texts are rewritten once for each distinct one. Those outside ASCII go one by one:
    Python and polars differ in what is a letter or a digit there.
    """
    plain = answers.str.contains(_WHOLE_NUMBER)
    if plain.all():
        return answers
    known = answers.filter(~plain).unique()
    ascii_only = known.str.len_bytes() == known.str.len_chars()
    texts, others = known.filter(ascii_only), known.filter(~ascii_only)
    rewritten = texts
    for step in _steps(quirks):
        rewritten = step.rewrite_column(rewritten)
    one_by_one = [normalise_answer(text, quirks=quirks) for text in others]
    forms = pl.DataFrame(
        {
            "raw": pl.concat([texts, others]),
            "form": pl.concat([rewritten, pl.Series(one_by_one, dtype=pl.String)]),
        }
    )
    rows = pl.DataFrame({"answer": answers, "plain": plain}).with_columns(
        raw=pl.when(~pl.col("plain")).then("answer")
    )
    joined = rows.join(forms, on="raw", how="left", maintain_order="left")
    return joined.select(pl.coalesce("form", "answer")).to_series().alias(answers.name)


def predict(
    response: str, answer_key: str, quirks: PaperQuirks = PAPER, *, extraction: str = "paper"
) -> str:
    """Normalised final answer of a response, "" where there is none."""
    return normalise_answer(extract_answer(response, answer_key, extraction), quirks=quirks)


def predict_column(
    responses: pl.Series,
    answer_key: str,
    quirks: PaperQuirks = PAPER,
    *,
    raw: bool = False,
    extraction: str = "paper",
) -> pl.Series:
    """`predict` of each string of a column, without a Python loop where polars can do it.

    With `raw` the answers are not normalised: for a judge that reads mathematics.
    """
    answers = extract_column(responses, answer_key, extraction)
    return (answers if raw else normalise_column(answers, quirks)).alias("prediction")


def _keep_first_formula(line: str) -> str:
    """`x $1$ y $2$` -> `$1$`; a line without a closed formula stays."""
    _, opened, rest = line.partition("$")
    formula, closed, _ = rest.partition("$")
    return f"${formula}$" if opened and closed else line


def _unwrap(text: str, command: str) -> str:
    """Replace each `command...}` by its content, up to the nearest brace on the same line."""
    pieces, start = [], 0
    while (opened := text.find(command, start)) >= 0:
        inner = opened + len(command)
        closed = text.find("}", inner)
        if closed < 0:
            break
        broken = text.rfind("\n", inner, closed)
        if broken >= 0:  # no brace on this line: look for the next command
            pieces.append(text[start:broken])
            start = broken
            continue
        pieces += [text[start:opened], text[inner:closed]]
        start = closed + 1
    return "".join([*pieces, text[start:]])


def _unwrap_boxed(line: str) -> str:
    """Drop the first `\\boxed{` of a line and the last brace after it."""
    before, _, rest = line.partition("\\boxed{")
    inner, closed, after = rest.rpartition("}")
    return f"{before}{inner}{after}" if closed else line


@dataclass(frozen=True)
class _Step:
    r"""One step of the normalisation: `old` becomes `new` wherever it stands.

    Attributes:
        old: text, or with `is_pattern` a regular expression that Python and polars read alike.
        new: what it becomes; in a pattern's, `\1` is a group.
        is_pattern: whether `old` is a regular expression.
        where: regular expression that a text must match to be changed.
        linear: the same for one text, where Python would need quadratic time for the pattern, or
            other digits than those of ASCII count.
    """

    old: str
    new: str = ""
    is_pattern: bool = False
    where: str | None = None
    linear: Callable[[str], str] | None = None

    def rewrite(self, text: str) -> str:
        if self.linear:
            return self.linear(text)
        if self.where and not re.search(self.where, text):
            return text
        return (
            re.sub(self.old, self.new, text)
            if self.is_pattern
            else text.replace(self.old, self.new)
        )

    def rewrite_column(self, texts: pl.Series) -> pl.Series:
        if not self.is_pattern:
            changed = texts.str.replace_all(self.old, self.new, literal=True)
        else:
            new = re.sub(r"\\(\d)", r"${\1}", self.new.replace("$", "$$"))
            changed = texts.str.replace_all(_for_polars(self.old), new)
        if self.where is None:
            return changed
        return changed.zip_with(texts.str.contains(_for_polars(self.where)), texts)


def _for_polars(pattern: str) -> str:
    """A pattern of Python with the end of the text written as polars' engine wants it."""
    return pattern.replace(r"\Z", r"\z")


@cache
def _steps(quirks: PaperQuirks) -> tuple[_Step, ...]:
    """The normalisation, in its order; a later step sees the result of the earlier ones."""

    def pattern(old: str, new: str = "", **how) -> _Step:
        return _Step(old, new, is_pattern=True, **how)

    steps = []
    if quirks.last_equals:
        steps.append(pattern(r"(?s)\A.*=", linear=lambda text: text.rpartition("=")[2]))
    else:
        steps.append(pattern(_NAME_BEFORE_LAST_EQUALS, r"\1\2", linear=_drop_name))
    if quirks.article_words:
        steps += [_Step("an "), _Step("a ")]
    else:
        steps.append(pattern(r"(^|[^\w\\])(?:an? )+", r"\1"))
    if not quirks.row_breaks:
        steps.append(_Step("\\\\ ", "\\\\"))
    steps += [_Step(old, new) for old, new in _SUBSTITUTIONS]
    for unit in _UNITS:
        if unit == "ft" and not quirks.ft_units:
            # Twice: of neighbours, as in `ft,ft`, the first takes what stands before the second.
            steps += [pattern(r"(^|[^A-Za-z\\])ft($|[^A-Za-z])", r"\1\2")] * 2
        else:
            steps.append(_Step(unit))
    steps += map(_Step, _MARKS)
    steps.append(
        pattern(r"[^$\n]*\$([^$\n]*)\$[^\n]*", r"$\1$", linear=_by_line(_keep_first_formula))
    )
    for command in ("\\text{", "\\textbf{", "\\overline{"):
        lazy = re.escape(command) + r"([^\n}]*)\}"
        steps.append(pattern(lazy, r"\1", linear=partial(_unwrap, command=command)))
    steps.append(pattern(r"\\boxed\{([^\n]*)\}", r"\1", linear=_by_line(_unwrap_boxed)))
    if not quirks.dfrac_distinct:
        steps += [_Step("\\dfrac", "\\frac"), _Step("\\tfrac", "\\frac")]
    steps.append(pattern(r"frac([^{])(.)", r"frac{\1}{\2}"))
    steps.append(pattern(r"sqrt([^{])" if quirks.root_index else r"sqrt([^{\[])", r"sqrt{\1}"))
    steps += [_Step("$"), _Step("\\%", "%")]
    steps.append(pattern(r"\A(\d+)%\Z", r"\1", linear=_drop_percent))
    if quirks.joined_lists:
        steps.append(_Step(",", where=r"\A[\d,]*\d[\d,]*\Z", linear=_join_list))
    else:
        steps.append(_Step(",", where=r"\A-?\d{1,3}(,\d{3})+(\.\d+)?\Z"))
    steps.append(pattern(r"\A(-?\d+)\.0+(\n?)\Z", r"\1\2"))
    steps += [_Step(letter, letter.lower(), where=rf"\A{letter}\Z") for letter in "ABCDE"]
    return tuple(steps)


def _by_line(change: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: "\n".join(map(change, text.split("\n")))


def _drop_name(text: str) -> str:
    """`x=5` -> `5`, `$x=5$` -> `$5$`; another left side stays."""
    name, _, value = text.rpartition("=")
    if re.fullmatch(r"\$?[A-Za-z]\w{0,15}", name.strip()):
        return f"${value}" if "$" in name else value
    return text


def _drop_percent(text: str) -> str:
    return text[:-1] if text.endswith("%") and text[:-1].isdigit() else text


def _join_list(text: str) -> str:
    joined = text.replace(",", "")
    return joined if joined.isdigit() else text
