"""Token ids of chats: the one place where messages become what a model reads and learns.

Labels, samples, evaluation and training all take their ids from `ChatTokens`. The prompt is what
the template makes of the messages, with the beginning of the assistant's turn. The answer of a
training row is what the template adds to it for the assistant's message, up to the token that ends
the turn. So a row's prompt has the very ids of a request's prompt.

Some templates open the reasoning at the end of each prompt, and leave it out of a turn that they
write (DeepSeek-R1's). There the answer is put behind the prompt as the model itself would write it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from weak_to_strong.jobs.logs import logger
from weak_to_strong.method.chat import (
    DEFAULT_ANSWER_AFTER,
    Turn,
    chat_messages,
    opening_mark,
)
from weak_to_strong.models.chat_format import ChatFormat
from weak_to_strong.models.chat_renderer import render_chats

#: A question and an answer, from which is seen how a template ends an answer.
_QUESTION, _ANSWER = "How many are two and two?", "Two and two are four, so it is 4"
_REASONING = "First the two, then the other two"


@dataclass(frozen=True)
class _Hidden:
    """Messages in which the names of special tokens stand as numbered marks.

    Attributes:
        messages: the messages.
        names: names of special tokens, by number of their mark.
        mark: pattern of a mark, whose group is the number.
    """

    messages: list[Turn]
    names: list[str]
    mark: str


class ChatTokens:
    """Makes token ids of chats for one model.

    Args:
        tokenizer: the model's Hugging Face tokenizer.
        chat: the model's chat format.

    Attributes:
        end: id of the token that ends the assistant's turn.

    Raises:
        ValueError: the template fails or reaches a limit; it leaves out the answer, or ends it
            without a special token; or it contradicts `thinking`.
    """

    def __init__(self, tokenizer: Any, chat: ChatFormat) -> None:
        self._tokenizer, self._chat = tokenizer, chat
        self._variables = {**tokenizer.special_tokens_map, **chat.options}
        self._bos = tokenizer.bos_token_id
        self._adds_bos = self._bos is not None and tokenizer("a")["input_ids"][:1] == [self._bos]
        special = {
            number: str(token.content)
            for number, token in tokenizer.added_tokens_decoder.items()
            if token.special
        }
        special |= dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
        self._special = special
        self._names = sorted(filter(None, special.values()), key=len, reverse=True)
        mark = chat.answer_after
        self._marks = () if mark is None else (mark, opening_mark(mark))
        self.end, self._tail = self._find_end()
        self._check_thinking()

    def prompts(self, chats: Iterable[Sequence[Turn]]) -> list[list[int]]:
        """Ids of each chat, with the beginning of the assistant's turn.

        Raises:
            ValueError: the template refuses a chat or reaches a limit; or two BOS tokens.
        """
        hidden = [self._hide(messages) for messages in chats]
        texts = self._render([(part.messages, True) for part in hidden])
        return self._with_bos(self._encode_all(texts, hidden))

    def answers(
        self, ids: Sequence[str], chats: Sequence[Sequence[Turn]], answers: Sequence[str]
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Ids of training rows: of each prompt, and of its answer with the token that ends it.

        Args:
            ids: id of each row, for messages of errors.
            chats: messages up to the question.
            answers: text of the assistant's turn of each.

        Raises:
            ValueError: see `prompts`; or the template leaves out a part of an answer, or writes
                another beginning of the turn than it asks with.
        """
        hidden = [
            self._hide([*messages, {"role": "assistant", "content": answer}])
            for messages, answer in zip(chats, answers, strict=True)
        ]
        asked = self._render([(part.messages[:-1], True) for part in hidden])
        rendered = self._render([(part.messages, False) for part in hidden])
        written = [
            self._behind_prompt(part.messages[-1]["content"], question, text) or text
            for part, question, text in zip(hidden, asked, rendered, strict=True)
        ]
        prompts = self._with_bos(self._encode_all(asked, hidden))
        wholes = self._with_bos(self._encode_all(written, hidden))
        completions, merged = [], 0
        for row, part, question, text, prompt, whole in zip(
            ids, hidden, asked, written, prompts, wholes, strict=True
        ):
            self._check_answer(row, part.messages[-1]["content"], question, text)
            if whole[: len(prompt)] == prompt:
                turn = whole[len(prompt) :]
            else:  # a token of the whole text spans the end of the prompt
                merged += 1
                (turn,) = self._encode_all([text[len(question) :]], [part])
            if self.end not in turn:
                raise self._error(f"row {row!r}: the answer's turn has no end token")
            last = len(turn) - 1 - turn[::-1].index(self.end)
            completions.append(turn[: last + 1])
        if merged:
            logger.warning("%d answers are tokenised apart from the end of their prompt", merged)
        return prompts, completions

    def check_answers(self, *, with_reasoning: bool) -> None:
        """Check on examples that the template is fit for training.

        Args:
            with_reasoning: whether answers have reasoning before them.

        Raises:
            ValueError: see `answers`.
        """
        texts = [_ANSWER]
        if with_reasoning and self._marks:
            after, opening = self._marks
            texts.append(f"{opening}\n{_REASONING}\n{after}\n\n{_ANSWER}")
        chat = chat_messages(_QUESTION, self._chat.system)
        self.answers(["(an example)"] * len(texts), [chat] * len(texts), texts)

    def _error(self, words: str) -> ValueError:
        return ValueError(f"the chat template of model `{self._chat.name}`: {words}")

    def _render(self, chats: Sequence[tuple[Sequence[Turn], bool]]) -> list[str]:
        try:
            return render_chats(self._chat.template, self._variables, chats)
        except ValueError as error:
            raise self._error(
                f"{error}; correct the template, or the task's `chat.system` and `chat.options`"
            ) from error

    def _with_bos(self, rows: Iterable[list[int]]) -> list[list[int]]:
        """Rows with exactly one BOS token where the template or the tokenizer puts one first."""
        finished = []
        for row in rows:
            if self._adds_bos and row[:1] != [self._bos]:
                row = [self._bos, *row]
            if self._bos is not None and row[:2] == [self._bos, self._bos]:
                raise self._error("begins a text with two BOS tokens; remove one of them")
            finished.append(row)
        return finished

    def _encode(self, texts: Sequence[str], **how: bool) -> list[list[int]]:
        """Ids of texts, without a BOS token that the tokenizer would add."""
        how = {"add_special_tokens": False, "split_special_tokens": False, **how}
        return self._tokenizer(list(texts), **how)["input_ids"] if texts else []

    def _encode_all(self, texts: Sequence[str], hidden: Sequence[_Hidden]) -> list[list[int]]:
        """Ids of rendered texts.

        A special token's name counts as the token where the template wrote it. Where a message has
        such a name it is text like any other.
        """
        rows = self._encode(texts)
        for place, (text, part) in enumerate(zip(texts, hidden, strict=True)):
            if part.names:
                pieces = re.split(part.mark, text)
                written = self._encode(pieces[::2])
                numbers = map(int, pieces[1::2])
                names = self._encode(
                    [part.names[number] for number in numbers], split_special_tokens=True
                )
                both = zip_longest(written, names, fillvalue=())
                rows[place] = [token for pair in both for ids in pair for token in ids]
        return rows

    def _hide(self, messages: Sequence[Turn]) -> _Hidden:
        """Messages with marks for special tokens' names, but for those that a model reasons with.

        The marks have characters for private use, of which no text has so many in a row.
        """
        found: list[str] = []
        sign = "\ue000"
        while any(sign in turn["content"] for turn in messages):
            sign += "\ue000"

        def number(match: re.Match) -> str:
            found.append(match[0])
            return f"{sign}{len(found) - 1}\ue001"

        turns = []
        for turn in messages:
            kept = self._marks if turn["role"] == "assistant" else ()
            names = [re.escape(name) for name in self._names if name not in kept]
            content = turn["content"]
            if names:
                content = re.sub("|".join(names), number, content)
            turns.append({**turn, "content": content})
        return _Hidden(turns, found, f"{sign}([0-9]+)\ue001")

    def _find_end(self) -> tuple[int, str]:
        """Id of the token that ends the assistant's turn, and the text from an answer up to it."""
        messages = chat_messages(_QUESTION, self._chat.system)
        answer = {"role": "assistant", "content": _ANSWER}
        (text,) = self._render([([*messages, answer], False)])
        before, found, after = text.rpartition(_ANSWER)
        if not found or _QUESTION not in before:
            raise self._error("leaves out the question or the answer; use a template for chats")
        for token in self._encode([after])[0]:
            if token in self._special:
                name = self._special[token]
                return token, after[: after.index(name) + len(name)]
            if self._tokenizer.decode([token]).strip():
                break
        raise self._error(
            f"ends an answer with {after[:40]!r}, and not with a special token, so that no answer "
            "would end; let the template write the end token there, as `{{ eos_token }}` does"
        )

    def _check_thinking(self) -> None:
        """Check that the beginning of the assistant's turn says what `thinking` says."""
        after = self._chat.answer_after or DEFAULT_ANSWER_AFTER
        messages = chat_messages(_QUESTION, self._chat.system)
        (text,) = self._render([(messages, True)])
        if self._chat.thinking is False and text.rstrip().endswith(opening_mark(after)):
            raise self._error(
                "begins each answer with reasoning, so `chat.thinking: false` has no effect; set "
                "it to true"
            )
        if self._chat.thinking is True and text.rstrip().endswith(after):
            raise self._error(
                "ends the reasoning before each answer, so `chat.thinking: true` has no effect; "
                "set it to false"
            )

    def _behind_prompt(self, answer: str, question: str, text: str) -> str | None:
        """The whole text of a row where the template opens the reasoning and writes no reasoning.

        An answer without reasoning gets an empty one, as Qwen3's template writes it. None for other
        templates; and where the rest of the turn, up to its end, is not as the template asks.

        Args:
            answer: the assistant's message, its special tokens hidden.
            question: the text that is asked with.
            text: the whole text as the template writes it.
        """
        if not self._marks or text.startswith(question):
            return None
        after, opening = self._marks
        before, opens, rest = question.rpartition(opening)
        if not opens or rest.strip():
            return None
        reasoning, _, final = answer.rpartition(after)
        turn = _squeeze(f"{before}{final}{self._tail}")
        if not _squeeze(text).startswith(turn):
            return None
        if reasoning:
            reasoning = reasoning.lstrip().removeprefix(opening).lstrip()
            return f"{question}{reasoning}{after}{final}{self._tail}"
        return f"{question}\n{after}\n\n{final.lstrip()}{self._tail}"

    def _check_answer(self, row: str, answer: str, question: str, text: str) -> None:
        """Check that a rendered row begins as its prompt and has all of its answer.

        Args:
            row: id of the row.
            answer: the assistant's message, its special tokens hidden.
            question: the text that is asked with.
            text: the whole text.
        """
        after = self._marks[0] if self._marks else None
        splits = text.startswith(question)
        turn = text[len(question) :] if splits else text
        if self._marks and splits and question.rstrip().endswith(self._marks[1]):
            turn = self._marks[1] + turn
        written = _squeeze(turn)
        if _squeeze(answer) not in written:
            has_rest = _squeeze(answer.rpartition(after)[2] if after else answer) in written
            if after and after in answer and has_rest:
                raise self._error(
                    f"row {row!r}: leaves the reasoning out of the answer; set the task's "
                    "`chat.reasoning` to drop, or use a template that keeps it"
                )
            raise self._error(f"row {row!r}: changes the text of the answer; correct the template")
        if not splits:
            raise self._error(
                f"row {row!r}: writes the beginning of an answer otherwise than it asks for one, "
                f"which ends with {question[-30:]!r}, so that training would not fit; name "
                "another template as `chat_template` of the model, or set `chat.options`; for a "
                "model that reasons before each answer set `chat.thinking`"
            )


def _squeeze(text: str) -> str:
    """A text without white space, which templates change at the ends of a message."""
    return "".join(text.split())
