"""The final answer of a response in the forms in which models write it: flexible extraction.

It is ours. The paper's extraction is in `answers`. All functions take time linear in the length of
their input, whatever it holds: a model may repeat a key until its token limit.
"""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import polars as pl

from weak_to_strong.method.answer_keys import BOXED, check_answer_key, last_boxed

#: Characters: no line with an answer, and no gap between a key and its answer, is longer.
_LONGEST_LINE = 2_000
_LONGEST_GAP = 100
#: What may stand between a key and its answer.
_NO_ANSWER = " \t\n\u00a0*_$[]\\."
_BAR, _COLON = "[|\N{FULLWIDTH VERTICAL LINE}]", ":\N{FULLWIDTH COLON}"
_SPECIAL_TOKEN = re.compile(
    rf"(?i:</?s>|<{_BAR}[^|<>\n]{{1,40}}?{_BAR}>|<(?:eos|bos|pad|unk|end_of_turn|start_of_turn)>"
    r"|\[(?:/?INST|EOS)\])"
)
#: After these marks a reasoning model answers.
_THOUGHT_ENDS = ("</think>", "<|channel|>final<|message|>")
#: Text without tags.
_UNTAGGED = r"((?:[^<]|<(?![/a-zA-Z|]))*)"
#: An answer in tags or in JSON, as prompts ask for it.
_TAGGED = re.compile(
    rf"(?i)<((?:final[_-]?)?answer|solution)>{_UNTAGGED}</\1>"
    rf"|<\|begin_of_box\|>{_UNTAGGED}<\|end_of_box\|>"
    r'|"(?:final[_ ]?)?answer"\s{0,9}:\s{0,9}(?:"((?:[^"\\]|\\.)*)"|([^\s"{}\[\],][^"{}\[\],\n]*))'
)
#: Hash signs that close a heading.
_CLOSING_HASHES = re.compile(r"(?<=[^#\s])(?:[ \t]+#+|#{4,})\s*\Z")
#: A heading of Markdown, which an answer may also be where nothing follows.
_HEADING = re.compile(r"\d{1,2}[.)]\s+[*_]*[A-Za-z]|[*_]*[A-Za-z]{2,}")
_ANSWER_WORD = re.compile(r"(?i)[*_ ]*(?:the )?(?:final )?answer[*_: ]*")
#: The escapes are "answer" and "is" in Chinese, and an arrow.
_SPOKEN = re.compile(
    r"(?im)(?:(?<![a-z])(?:answers?(?:\(s\))?|ans\.?)|\u7b54\u6848)[*_]*"
    r"(?:[ \t]+to (?:the|this) (?:question|problem))?[*_ \t\u00a0]*"
    r"(?:(?:(?:is|are|['\u2019]s|was|would be|should be|equals)(?![a-z])|\u662f|\u4e3a"
    rf"|[={_COLON}\u2192])[*_ \t\u00a0]*)+"
    r"|^[#*_> \t]*(?:the )?(?:final )?answer[*_ \t]*"
    r"(?:$|[ \t][-\u2013\u2014][*_ \t]+|[ \t](?=[-$]*[0-9]|[$]*\\))"
)
#: What is said about an answer, and is none.
_ABOUT_ANSWER = re.compile(
    r"(?i)(?:(?:also|indeed|therefore|thus|still|now) )?(?:not [^\n]|in [a-z ]+[.!]?(?:\n|\Z)"
    r"|(?:in)?(?:correct|valid|consistent)(?![a-z])"
    r"|(?:right|wrong|reasonable|final|based|verified|confirmed|as expected|plausible)"
    r"(?=\W*(?:\Z|\n)|[.,;!]| (?:because|since|as|and|on|for|with)(?![a-z])))"
)
#: `\\b` that a program has read as a backspace, or that was lost, is part of a box too.
_ANY_BOX = re.compile(
    r"(?:\\+(?:[Bb]oxed|fbox|framebox)|\x08oxed|(?<![A-Za-z\\])boxed(?=\{))\s{0,9}"
    r"(?:\[[^\[\]{}]{0,40}\][ \t]*){0,2}\{"
)
_EMPTY_BOX = re.compile(r"\\boxed\{\s*\}")
_BARE_BOX = re.compile(
    r"\\(?:boxed|fbox|framebox)[ \t]+([^\s{}$\\]{1,100}?)(?=[.,;]?(?:\s|[$]|\Z))"
)
#: A sentence ends at its mark if another one begins, and an answer before a reason.
_SENTENCE_END = re.compile(
    "(?<=[^\\s.])[.?!\N{IDEOGRAPHIC FULL STOP}\N{FULLWIDTH QUESTION MARK}"
    "\N{FULLWIDTH EXCLAMATION MARK}][\"')*]*"
    r"(?:\s+(?=[A-Z\u4e00-\u9fff*\"'(])|(?=[\u4e00-\u9fff])|(?<!!)\Z)"
    r"|,? (?:because|since)(?![a-z])"
)
_SHORTENED = frozenset(("approx", "vs", "Mr", "Mrs", "Ms", "Dr", "St", "U.S", "e.g", "i.e", "No"))
_PAIRED_EMPHASIS = re.compile(r"(?<!\S)(\*{2,3}|__)(?=\S)([^*_]+)(?<=\S)\1(?!\w)")
_ANY_NUMBER = re.compile(
    r"(?<![\w.])-?[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?|(?<=[a-zA-Z_])[0-9]+(?:\.[0-9]+)?|\.[0-9]+"
)
#: A calculator mark of GSM8K.
_CALCULATION = re.compile(r"<<[^<>\n]{0,200}>>")
#: Characters of a response that is nothing but a letter.
_LONGEST_LETTER = 20
_MARKUP = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|boxed)(?=\{)|[${}*_`]")
_LETTER_ALONE = re.compile(
    r"(?:(?i:the )?(?i:correct )?(?i:option|choice|letter|answer) )?[(\[]? ?([A-Za-z]) ?[)\].:!]*"
)
#: `B is the answer`, and `option B is correct`.
_LETTER_CHOSEN = re.compile(
    r"(?<![A-Za-z\\])(?:[*(\[]{0,4}([A-Z])[*)\]]{0,4} is the (?:(?:correct|right|best|final) )?"
    r"(?:answer|option|choice)|[Oo]ption [*(\[]{0,4}([A-Z])[*)\]]{0,4} is (?:correct|right))"
    r"(?![a-z])"
)
#: Before the text of an option. Of `A, C` and `A dog` no letter is read.
_LETTER_FIRST = re.compile(
    r"(?:(?i:the )?(?i:correct )?(?i:option|choice|letter|answer) )?"
    r"(?:[(\[]([A-Z])[)\]][.:]?|([A-Z])(?:[.:)]| [-\u2013\u2014]|,(?!\s+[A-Z](?![A-Za-z]))))[ \n]"
    # More letters, and nothing else.
    r"(?!(?:(?:(?:and|or|&)\s+)?[(\[]?[A-Z][)\].:,]*\s*)+\Z)\S"
)


class Answers(NamedTuple):
    """What each filter finds in one response, "" where it finds nothing.

    Attributes:
        strict: the answer in the exact form of the task: on the last line behind the key and one
            space, or in a closed `\\boxed{}`.
        flexible: the answer behind the key in any of its writings, or else behind another key.
            `extraction: flexible` reads this one.
        last_number: the last number of the text. It is counted and never used: a text that has one
            but no flexible answer has a form that is not understood, or stopped early.
    """

    strict: str
    flexible: str
    last_number: str


def find_answers(response: str, answer_key: str) -> Answers:
    """What each filter finds in a response that was cut at its stop strings.

    Special tokens (`</s>`, `<|endoftext|>`) end the response, and what stands before `</think>` is
    left out. Of several answers in one form the last counts. The forms of the flexible filter:

    - `<answer>5</answer>` and `"answer": 5` in JSON, where the task's key does not follow.
    - `####`, with or without a space, anywhere: the rest of its line. A heading (`#### Step 2`) is
      none where one of the next forms follows it.
    - "answer is", "answer:" and the like, in any case, with Markdown or full-width signs: the rest
      of the line, or the next line where nothing follows.
    - `\\boxed{5}`, `\\boxed {5}`, `\\boxed 5`, `\\fbox` and `\\framebox`.

    The answer ends with its sentence. Emphasis and final punctuation are no part of it.

    Raises:
        ValueError: an answer key that is not one of `ANSWER_KEYS`.
    """
    check_answer_key(answer_key)
    text = _cut_turns(response)
    if answer_key == BOXED:
        strict = (last_boxed(text) or "").strip()
    else:
        strict = text.rpartition("\n")[2].partition(f"{answer_key} ")[2].strip()
    whole = _cut_thoughts(response)
    # Most texts have none of these signs, and a search for them alone is fast.
    may_be_tagged = "<" in whole or '"' in whole
    tagged = deque(_TAGGED.finditer(whole), maxlen=1) if may_be_tagged else None
    if tagged and answer_key not in whole[tagged[0].end() :]:
        text = f"answer: {next(filter(None, tagged[0].groups()[1:]), '')}"
    others = [key for key in (BOXED, "####", "The answer is:") if key != answer_key]
    readings = (_FORMS[key](text) for key in (answer_key, *others))
    flexible = next(filter(None, readings), "")
    numbers = _ANY_NUMBER.findall(text)
    return Answers(strict, flexible, numbers[-1].replace(",", "") if numbers else "")


def find_answers_column(responses: pl.Series, answer_key: str) -> pl.DataFrame:
    """Columns `strict`, `flexible` and `last_number`: `find_answers` of each string."""
    known = {text: find_answers(text, answer_key) for text in responses.unique()}
    schema = dict.fromkeys(Answers._fields, pl.String)
    return pl.DataFrame([known[text] for text in responses], schema=schema, orient="row")


def find_letter(response: str, answer_key: str) -> str:
    r"""The option that a response chooses, as a capital letter; "" where it names none.

    It is the flexible answer of `find_answers`, or the whole response where that is a letter alone.
    Forms are `B`, `(b)`, `B.`, `B) Paris`, `B: Paris`, `option B`, each also in bold or LaTeX.
    Several letters (`A, C`) choose no option.

    Raises:
        ValueError: an answer key that is not one of `ANSWER_KEYS`.
    """
    answer = find_answers(response, answer_key).flexible
    if not answer:
        last = _cut_turns(response)
        if chosen := _LETTER_CHOSEN.findall(last):
            return "".join(chosen[-1])
        # A text that is no answer may well begin like one.
        return _read_letter(last) if len(last) <= _LONGEST_LETTER else ""
    return _read_letter(answer)


def _read_letter(text: str) -> str:
    plain = unicodedata.normalize("NFKC", _MARKUP.sub("", text[:_LONGEST_LINE])).strip("\"'<> \n")
    match = _LETTER_ALONE.fullmatch(plain) or _LETTER_FIRST.match(plain)
    return match[match.lastindex].upper() if match else ""


def _cut_turns(text: str) -> str:
    """A response up to its first special token, without what a model only thinks."""
    pieces = (piece.strip() for piece in _SPECIAL_TOKEN.split(_cut_thoughts(text)))
    return next(filter(None, pieces), "")


def _cut_thoughts(text: str) -> str:
    for mark in _THOUGHT_ENDS:
        text = text.rpartition(mark)[2]
    return text


def _last_hashed(text: str) -> str:
    """The answer on the last line with `####`."""
    lines = text.replace("\N{FULLWIDTH NUMBER SIGN}", "#").replace(r"\#", "#").split("\n")
    for number in range(len(lines) - 1, -1, -1):
        line = lines[number]
        _, key, rest = (_CLOSING_HASHES.sub("", line) if "#" in line else "").rpartition("####")
        if key and not rest.strip():  # the answer is on the next line
            rest = next(filter(str.strip, lines[number + 1 : number + 3]), "")
        if key and (answer := _trim(rest.lstrip("#"))):
            if _ANSWER_WORD.fullmatch(answer):  # `#### Answer`, a heading
                return _last_spoken("\n".join(["answer:", *lines[number + 1 :]]))
            is_heading = _HEADING.match(rest.strip("# \t"))
            below = "\n".join(lines[number + 1 :]) if is_heading else ""
            return last_box(below) or _last_said(below)[0] or _last_spoken(answer) or answer
    return ""


def _last_spoken(text: str) -> str:
    """What follows the last "answer is", "answer:" or the like."""
    return next(filter(None, _last_said(text)), "")


def _last_said(text: str) -> tuple[str, str]:
    """The last answer that is said, and the last text that may only be about one."""
    answer = about = None
    for match in _SPOKEN.finditer(text):
        rest = text[match.end() : match.end() + _LONGEST_GAP]
        if about is None or rest.strip(_NO_ANSWER):
            about = match.end()
            answer = answer if _ABOUT_ANSWER.match(rest) else about

    def read(key: int | None) -> str:
        lines = text[key : key + 2 * _LONGEST_LINE].split("\n") if key is not None else []
        return _trim(next((line for line in lines if line.strip(_NO_ANSWER)), ""))

    return read(answer), read(about)


def last_box(text: str) -> str:
    """Contents of the last box in any form of it, "" where there is none.

    Forms are `\\boxed{5}`, `\\boxed {5}`, `\\boxed 5`, and the same with `\\fbox` or `\\framebox`.
    """
    if "ox" not in text:  # of all forms
        return ""
    marked = _EMPTY_BOX.sub("", _ANY_BOX.sub(r"\\boxed{", text))
    closed = last_boxed(marked)
    # A box without braces holds one word or number. It counts where it opens last.
    bare = None
    for match in _BARE_BOX.finditer(marked):
        bare = match
    if bare and (closed is None or bare.start() > marked.rfind(r"\boxed{")):
        return bare[1].strip()
    return (closed or "").strip()


def _trim(text: str) -> str:
    """An answer up to the end of its sentence, without emphasis, and out of its box."""
    text = _CALCULATION.sub("", text).strip().lstrip(":\N{FULLWIDTH COLON}= \t\u00a0")
    if len(text) > _LONGEST_LINE:  # a model that repeats itself
        return text.strip()
    for end in _SENTENCE_END.finditer(text):
        before = text[: end.start()]
        if before.count("$") % 2 == 0 and before.rpartition(" ")[2].strip("(") not in _SHORTENED:
            text = before
            break
    if box := last_box(text):
        return box
    text = text.strip().strip("*_`").strip()
    text = _PAIRED_EMPHASIS.sub(r"\2", text)
    return (
        text.rstrip(".\N{IDEOGRAPHIC FULL STOP},;:").strip() if not text.endswith("...") else text
    )


_FORMS: dict[str, Callable[[str], str]] = {
    "####": _last_hashed,
    "The answer is:": _last_spoken,
    BOXED: last_box,
}
