"""Token ids of training rows, checked, and as columns of each trainer.

Prompt and completion are tokenised together, as the text that the model will see. The supervised
part begins where the ids first differ from those of the prompt alone. A BOS token comes from the
tokenizer, as at inference. The EOS token always ends a completion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from weak_to_strong.jobs.logs import logger


@dataclass(frozen=True)
class Encoded:
    """Token ids of one training row.

    Attributes:
        id: id of the row.
        prompt: ids of the prompt.
        completions: ids of the one completion, or of the chosen and the rejected one.
    """

    id: str
    prompt: list[int]
    completions: tuple[list[int], ...]

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
    """Token ids of each row, in table order. The name of a special token is ordinary text.

    Args:
        frame: table with the columns `id`, `prompt` and those of `columns`.
        tokenizer: a Hugging Face tokenizer with an EOS token.
        max_length: most tokens of prompt and completion.
        columns: names of the completions, ("completion",) or ("chosen", "rejected").

    Raises:
        ValueError: no rows; a row longer than `max_length` (rows are never cut); a row without a
            supervised token; a doubled BOS token; or a tokenizer without an end token.
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
        if min(len(completion) for completion in row.completions) < 2:
            raise ValueError(f"row {identity!r}: its completion has no tokens; drop the row")
        rows.append(row)
    if merged:
        logger.warning("%d prompts end inside a token of their completion", merged)
    _check_lengths(rows, max_length)
    return rows


def _check_lengths(rows: Sequence[Encoded], max_length: int) -> None:
    if too_long := [row for row in rows if row.longest > max_length]:
        raise ValueError(
            f"max_length: {len(too_long)} of {len(rows)} rows exceed {max_length} tokens, first "
            f"{too_long[0].id!r} with {too_long[0].longest}; raise max_length to at least "
            f"{max(row.longest for row in too_long)}"
        )


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
