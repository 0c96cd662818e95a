"""Token ids of training rows, made once for all trainers, and checked.

Prompt and completion are tokenised together, as the text that the model will see; the supervised
part begins where the ids leave those of the prompt alone. The tokenizer itself decides about a BOS
token, as it does at inference; the EOS token always ends a completion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from weak_to_strong.jobs.logs import logger


@dataclass(frozen=True)
class Encoded:
    """One training row: the prompt's ids, and one or two (chosen, rejected) completions' ids."""

    id: str
    prompt: list[int]
    completions: tuple[list[int], ...]

    @property
    def tokens(self) -> int:
        """Tokens of prompt and completion, over the completions."""
        return sum(len(self.prompt) + len(completion) for completion in self.completions)

    @property
    def supervised(self) -> int:
        """Tokens of the completions, end token included."""
        return sum(len(completion) for completion in self.completions)

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return len(self.prompt) + max(len(completion) for completion in self.completions)


def common_length(*sequences: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    length = 0
    for column in zip(*sequences, strict=False):
        if len(set(column)) > 1:
            break
        length += 1
    return length


def encode_rows(
    frame: pl.DataFrame, tokenizer: Any, max_length: int, columns: Sequence[str]
) -> list[Encoded]:
    """Token ids of each row, in table order. The name of a special token is text like any other.

    Args:
        frame: columns `id`, `prompt` and `columns`.
        tokenizer: a Hugging Face tokenizer with an EOS token.
        max_length: greatest allowed number of tokens of prompt and completion.
        columns: ("completion",) or ("chosen", "rejected").

    Raises:
        ValueError: no rows; a row longer than `max_length` (nothing is ever cut); a row without a
            supervised token; or a doubled BOS token.
    """
    if frame.is_empty():
        raise ValueError("training rows: none; look at the counts of the filter that made them")
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if eos is None:
        raise ValueError("tokenizer: has no end token; set eos_token in its configuration")

    def encode(texts: pl.Series) -> list[list[int]]:
        return tokenizer(texts.to_list(), split_special_tokens=True)["input_ids"]

    prompts = encode(frame["prompt"])
    together = [encode(frame["prompt"] + frame[column]) for column in columns]
    # A tokenizer may know a BOS token and not put it first; then inference has none either.
    expected = [bos] if bos is not None and tokenizer("a")["input_ids"][:1] == [bos] else []
    rows, merged = [], 0
    for identity, prompt, *sequences in zip(frame["id"], prompts, *together, strict=True):
        sequences = [ids if ids[-1:] == [eos] else [*ids, eos] for ids in sequences]
        start = common_length(prompt, *sequences)
        merged += start < len([token for token in prompt if token != eos])
        row = Encoded(identity, prompt[:start], tuple(ids[start:] for ids in sequences))
        if bos is not None and [token for token in row.prompt if token == bos] != expected:
            raise ValueError(
                f"row {identity!r}: its prompt has not exactly {len(expected)} BOS token; "
                "remove the BOS text from the prompt"
            )
        if min(len(completion) for completion in row.completions) < 2:
            raise ValueError(f"row {identity!r}: its completion has no tokens; drop the row")
        rows.append(row)
    if merged:
        logger.warning("%d prompts end inside a token of their completion", merged)
    if too_long := [row for row in rows if row.longest > max_length]:
        raise ValueError(
            f"max_length: {len(too_long)} of {len(rows)} rows exceed {max_length} tokens, first "
            f"{too_long[0].id!r} with {too_long[0].longest}; raise max_length to at least "
            f"{max(row.longest for row in too_long)}"
        )
    return rows


def sft_columns(rows: Sequence[Encoded]) -> Mapping[str, list]:
    """Columns `input_ids` and `labels` (-100 on the prompt) of the SFT trainer."""
    return {
        "input_ids": [row.prompt + row.completions[0] for row in rows],
        "labels": [[-100] * len(row.prompt) + row.completions[0] for row in rows],
    }


def dpo_columns(rows: Sequence[Encoded]) -> Mapping[str, list]:
    """Columns `prompt_ids`, `chosen_ids`, `rejected_ids` of the DPO trainer."""
    return {
        "prompt_ids": [row.prompt for row in rows],
        "chosen_ids": [row.completions[0] for row in rows],
        "rejected_ids": [row.completions[1] for row in rows],
    }


def orpo_columns(rows: Sequence[Encoded]) -> Mapping[str, list]:
    """Sequences, attention masks and labels of both sides, as ORPO's collator reads them."""
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
