"""Token ids of training rows, checked, and as columns of each trainer.

Prompt and completion are tokenised together, as the text that the model will see. The supervised
part begins where the ids first differ from those of the prompt alone. A BOS token comes from the
tokenizer, as at inference. The EOS token always ends a completion.

With `prompt: chat` the ids come from `chat_tokens.ChatTokens`, as at inference, and the token that
ends the assistant's turn ends a completion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from itertools import count as numbers
from random import Random
from typing import Any

import polars as pl

from weak_to_strong.jobs.logs import logger
from weak_to_strong.method.chat import chat_messages
from weak_to_strong.models.chat_format import ChatFormat
from weak_to_strong.models.chat_renderer import end_renderer
from weak_to_strong.models.chat_tokens import ChatTokens


@dataclass(frozen=True)
class Encoded:
    """Token ids of one training row.

    Attributes:
        id: id of the row.
        prompt: ids of the prompt.
        completions: ids of the one completion, or of the chosen and the rejected one.
        weight: of the row in the loss of sft or dpo, where rows have one; the mean is 1.
    """

    id: str
    prompt: list[int]
    completions: tuple[list[int], ...]
    weight: float | None = None

    @property
    def tokens(self) -> int:
        """Number of tokens of prompt and completion, summed over the completions."""
        return sum(len(self.prompt) + len(completion) for completion in self.completions)

    @property
    def supervised(self) -> int:
        """Number of tokens of the completions, with their end tokens."""
        return sum(len(completion) for completion in self.completions)

    @property
    def longest(self) -> int:
        """Number of tokens of the longest sequence."""
        return len(self.prompt) + max(len(completion) for completion in self.completions)


@dataclass(frozen=True)
class Question:
    """A question to sample answers to.

    Attributes:
        id: id of the question.
        text: the prompt.
        prompt: token ids of the prompt.
        answer: the answer that is rewarded, or None where only the samples tell it.
        answer_type, unit, parts: what a judge reads, see `schemas.PROBLEMS`.
        end: id of the token that ends an answer in a chat; None where the model's own do.
    """

    id: str
    text: str
    prompt: list[int]
    answer: str | None
    answer_type: str | None
    unit: str | None
    parts: str | None
    end: int | None = None

    @property
    def longest(self) -> int:
        """Number of tokens of the prompt."""
        return len(self.prompt)


def common_length(*sequences: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    length = 0
    for column in zip(*sequences, strict=False):
        if len(set(column)) > 1:
            break
        length += 1
    return length


def encode_rows(
    frame: pl.DataFrame,
    tokenizer: Any,
    max_length: int,
    columns: Sequence[str],
    chat: ChatFormat | None = None,
) -> list[Encoded]:
    """Token ids of each row, in table order. The name of a special token is ordinary text.

    Args:
        frame: table with the columns `id`, `prompt` and those of `columns`, and maybe `weight`.
        tokenizer: a Hugging Face tokenizer with an EOS token.
        max_length: most tokens of prompt and completion.
        columns: names of the completions, ("completion",) or ("chosen", "rejected").
        chat: how rows become the turns of a chat; None for plain text.

    Raises:
        ValueError: no rows; a row longer than `max_length` (rows are never cut); a row without a
            supervised token; a doubled BOS token; a tokenizer without an end token; or a chat
            template that does not fit, see `ChatTokens`.
    """
    if frame.is_empty():
        raise ValueError("training rows: none; look at the counts of the filter that made them")
    if chat is None:
        rows = _encode_texts(frame, tokenizer, columns)
    else:
        rows = _encode_chats(frame, tokenizer, columns, chat)
    for row in rows:
        if min(len(completion) for completion in row.completions) < 2:
            raise ValueError(f"row {row.id!r}: its completion has no tokens; drop the row")
    _check_lengths(rows, max_length)
    if "weight" in frame.columns:
        weighted = zip(rows, frame["weight"], strict=True)
        rows = [replace(row, weight=weight) for row, weight in weighted]
    return rows


def _encode_chats(
    frame: pl.DataFrame, tokenizer: Any, columns: Sequence[str], chat: ChatFormat
) -> list[Encoded]:
    maker = ChatTokens(tokenizer, chat)
    chats = [chat_messages(prompt, chat.system) for prompt in frame["prompt"]]
    ids, completions = frame["id"].to_list(), []
    for column in columns:
        answers = frame[column].str.strip_prefix(" ").to_list()
        prompts, turns = maker.answers(ids, chats, answers)
        completions.append(turns)
    end_renderer()
    return [
        Encoded(identity, prompt, tuple(turns))
        for identity, prompt, *turns in zip(ids, prompts, *completions, strict=True)
    ]


def _encode_texts(frame: pl.DataFrame, tokenizer: Any, columns: Sequence[str]) -> list[Encoded]:
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if eos is None:
        raise ValueError("tokenizer: has no end token; set eos_token in its configuration")

    def encode(texts: pl.Series) -> list[list[int]]:
        return tokenizer(texts.to_list(), split_special_tokens=True)["input_ids"]

    prompts = encode(frame["prompt"])
    together = [encode(frame["prompt"] + frame[column]) for column in columns]
    # A tokenizer may know a BOS token and not put it first. Then inference has none either.
    adds_bos = bos is not None and tokenizer("a")["input_ids"][:1] == [bos]
    rows, merged = [], 0
    for identity, prompt, *sequences in zip(frame["id"], prompts, *together, strict=True):
        sequences = [ids if ids[-1:] == [eos] else [*ids, eos] for ids in sequences]
        start = common_length(prompt, *sequences)
        merged += start < len([token for token in prompt if token != eos])
        row = Encoded(identity, prompt[:start], tuple(ids[start:] for ids in sequences))
        if bos is not None and row.prompt.count(bos) != adds_bos:
            raise ValueError(
                f"row {identity!r}: its prompt must have exactly {adds_bos:d} BOS token; "
                "remove the BOS text from the prompt"
            )
        rows.append(row)
    if merged:
        logger.warning("%d prompts end inside a token of their completion", merged)
    return rows


def question_order(
    count: int, epochs: int, per_update: int, max_steps: int | None, seed: int
) -> list[int]:
    """Numbers of the questions of a training in its order, which is another one in each pass.

    Args:
        count: number of questions.
        epochs: passes over them.
        per_update: questions of an update. The last update is whole, or left out.
        max_steps: number of updates, in place of `epochs`; None for whole passes.
        seed: of the order.

    Raises:
        ValueError: there are fewer questions than one update takes.
    """
    updates = max_steps or epochs * count // per_update
    if not updates:
        raise ValueError(
            f"global_batch_size: an update takes {per_update} questions, and there are {count}; "
            "lower it, or raise samples or epochs"
        )
    passes = (Random(f"{seed}/{number}").sample(range(count), count) for number in numbers())
    return list(islice(chain.from_iterable(passes), updates * per_update))


def encode_questions(
    frame: pl.DataFrame,
    tokenizer: Any,
    max_length: int,
    max_tokens: int,
    chat: ChatFormat | None = None,
) -> list[Question]:
    """Token ids of each prompt, in table order. The name of a special token is ordinary text.

    Args:
        frame: REWARD_ROWS.
        tokenizer: a Hugging Face tokenizer with an EOS token.
        max_length: most tokens of prompt and answer.
        max_tokens: most tokens of an answer.
        chat: how questions become the turns of a chat; None for plain text.

    Raises:
        ValueError: no rows; a prompt that leaves no room for an answer (prompts are never cut); a
            tokenizer without an end token; or a chat template that does not fit, see `ChatTokens`.
    """
    if frame.is_empty():
        raise ValueError("training rows: none; look at the table that they were made from")
    if tokenizer.eos_token_id is None:
        raise ValueError("tokenizer: has no end token; set eos_token in its configuration")
    if chat is None:
        prompts = tokenizer(frame["prompt"].to_list(), split_special_tokens=True)["input_ids"]
        end = None
    else:
        maker = ChatTokens(tokenizer, chat)
        prompts = maker.prompts(chat_messages(prompt, chat.system) for prompt in frame["prompt"])
        end = maker.end
        end_renderer()
    columns = ("id", "answer", "answer_type", "unit", "parts")
    rows = frame.select(*columns, text="prompt").iter_rows(named=True)
    questions = [
        Question(prompt=prompt, end=end, **row) for prompt, row in zip(prompts, rows, strict=True)
    ]
    room = max_length - max_tokens
    if too_long := [question for question in questions if question.longest > room]:
        longest = max(question.longest for question in too_long)
        raise ValueError(
            f"max_length: {len(too_long)} of {len(questions)} prompts leave no room for an answer "
            f"of {max_tokens} tokens in {max_length}, first {too_long[0].id!r} with "
            f"{too_long[0].longest}; raise max_length to at least {longest + max_tokens}"
        )
    return questions


def _check_lengths(rows: Sequence[Encoded], max_length: int) -> None:
    if too_long := [row for row in rows if row.longest > max_length]:
        raise ValueError(
            f"max_length: {len(too_long)} of {len(rows)} rows exceed {max_length} tokens, first "
            f"{too_long[0].id!r} with {too_long[0].longest}; raise max_length to at least "
            f"{max(row.longest for row in too_long)}"
        )


def sft_columns(rows: Sequence[Encoded]) -> Mapping[str, list]:
    """Columns `input_ids` and `labels` (-100 on the prompt) of the SFT trainer.

    Rows with weights have the column `weight` too.
    """
    columns: dict[str, list] = {
        "input_ids": [row.prompt + row.completions[0] for row in rows],
        "labels": [[-100] * len(row.prompt) + row.completions[0] for row in rows],
    }
    weights = [row.weight for row in rows if row.weight is not None]
    return columns | ({"weight": weights} if weights else {})


def dpo_columns(rows: Sequence[Encoded]) -> Mapping[str, list]:
    """Columns `prompt_ids`, `chosen_ids`, `rejected_ids` of the DPO and the KTO trainer.

    Rows with weights have the column `weight` too.
    """
    columns: dict[str, list] = {
        "prompt_ids": [row.prompt for row in rows],
        "chosen_ids": [row.completions[0] for row in rows],
        "rejected_ids": [row.completions[1] for row in rows],
    }
    weights = [row.weight for row in rows if row.weight is not None]
    return columns | ({"weight": weights} if weights else {})


def unpair(pairs: Sequence[Mapping[str, list[int]]]) -> list[dict[str, Any]]:
    """Single answers of a micro-batch of pairs, chosen ones first, as KTO's collator takes them.

    Args:
        pairs: rows with the columns of `dpo_columns`.

    Returns:
        `prompt_ids`, `completion_ids`, `label` (whether it is the chosen answer), and
        `KL_completion_ids`: the same side's answer to the pair's neighbour. The answer to a pair
        that is alone is that of its other side.
    """
    answers = []
    for side, other in (("chosen_ids", "rejected_ids"), ("rejected_ids", "chosen_ids")):
        for place, pair in enumerate(pairs):
            unmatched = pairs[place - 1][side] if len(pairs) > 1 else pair[other]
            answers.append(
                {
                    "prompt_ids": pair["prompt_ids"],
                    "completion_ids": pair[side],
                    "KL_completion_ids": unmatched,
                    "label": side == "chosen_ids",
                }
            )
    return answers


def orpo_columns(rows: Sequence[Encoded]) -> Mapping[str, list]:
    """Columns of the ORPO trainer: ids, attention masks and labels of both sides."""
    columns: dict[str, list] = {
        "prompt_input_ids": [row.prompt for row in rows],
        "prompt_attention_mask": [[1] * len(row.prompt) for row in rows],
    }
    for place, side in enumerate(("chosen", "rejected")):
        whole = [row.prompt + row.completions[place] for row in rows]
        columns[f"{side}_input_ids"] = whole
        columns[f"{side}_attention_mask"] = [[1] * len(ids) for ids in whole]
        columns[f"{side}_labels"] = [
            [-100] * len(row.prompt) + row.completions[place] for row in rows
        ]
    return columns
