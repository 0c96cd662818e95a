"""Messages of a chat, and the answer after the reasoning."""

import polars as pl
import pytest

from weak_to_strong.method.chat import (
    chat_messages,
    complete_reasoning,
    final_part,
    opening_mark,
    settle_reasoning,
)
from weak_to_strong.method.labels import labels_from_generations
from weak_to_strong.tables.schemas import GENERATIONS, PAIRS, SFT_ROWS

MARK = "</think>"
OPEN, CUT = "<think>\nmaybe 3, no 4", "<think>\nmaybe 3"


def turns(messages):
    return [(turn["role"], turn["content"]) for turn in messages]


def test_demonstrations_are_turns():
    shots = [{"prompt": "1+1?", "response": "2"}, {"prompt": "1+2?", "response": "3"}]
    assert turns(chat_messages("2+2?", "Be brief.", shots)) == [
        ("system", "Be brief."),
        *(("user", "1+1?"), ("assistant", "2"), ("user", "1+2?"), ("assistant", "3")),
        ("user", "2+2?"),
    ]
    assert turns(chat_messages("2+2?")) == [("user", "2+2?")]


@pytest.mark.parametrize(("mark", "opening"), [(MARK, "<think>"), ("[/THINK]", "[THINK]")])
def test_the_opening_mark_lacks_the_slash(mark, opening):
    assert opening_mark(mark) == opening


@pytest.mark.parametrize(
    ("text", "reason", "whole", "final"),
    [
        (f"{OPEN}\n{MARK}\n\n#### 4", "stop", f"{OPEN}\n{MARK}\n\n#### 4", "#### 4"),
        # The prompt had the opening mark.
        (f"no 4\n{MARK}\n#### 4", "stop", f"<think>\nno 4\n{MARK}\n#### 4", "#### 4"),
        # The last mark counts: the reasoning may speak of it.
        (f"<think>\na {MARK} b {MARK} c", "stop", f"<think>\na {MARK} b {MARK} c", "c"),
        (CUT, "length", CUT, ""),
        (CUT, "stop", CUT, ""),
        ("maybe 3", "length", "<think>\nmaybe 3", ""),
        # A model that does not reason.
        ("So it is\n#### 4", "stop", "So it is\n#### 4", "So it is\n#### 4"),
        # Cut after the reasoning: what is there of the answer is read.
        (f"{OPEN}{MARK}It", "length", f"{OPEN}{MARK}It", "It"),
    ],
)
def test_the_answer_is_after_the_reasoning(text, reason, whole, final):
    frame = pl.DataFrame({"response": [text], "finish_reason": [reason]})
    frame = frame.with_columns(
        response=complete_reasoning(pl.col("response"), pl.col("finish_reason"), MARK)
    )
    assert frame["response"].to_list() == [whole]
    assert frame.select(final_part(pl.col("response"), MARK)).to_series().to_list() == [final]


def test_labels_have_the_reasoning_and_the_answer_after_it():
    texts = ["Question: is it #### 3? Answer: no\n</think>\n#### 4", "still #### 3"]
    rows = [("r", str(n), 0, text, "stop" if n == 0 else "length", 1, 1)
            for n, text in enumerate(texts)]  # fmt: skip
    generations = pl.DataFrame(rows, schema=GENERATIONS, orient="row")
    for extraction in ("paper", "flexible"):
        labels = labels_from_generations(
            generations, "####", extraction=extraction, answer_after=MARK
        )
        assert labels["prediction"].to_list() == ["4", ""]
        assert labels["response"].to_list() == [f"<think>\n{text}" for text in texts]


@pytest.fixture
def rows():
    table = [("a", "q", f" {OPEN}{MARK}\n\nIt is 4"), ("b", "q", f" {CUT}"), ("c", "q", " It is 4")]
    return pl.DataFrame(table, schema=SFT_ROWS, orient="row")


def test_rows_keep_or_drop_the_reasoning_on_purpose(rows):
    kept = settle_reasoning(rows, ["completion"], MARK, "keep")
    assert kept.equals(rows.filter(pl.col("id") != "b"))
    dropped = settle_reasoning(rows, ["completion"], MARK, "drop")
    assert dropped["completion"].to_list() == [" It is 4", " It is 4"]
    assert dropped.schema == SFT_ROWS


def test_a_pair_with_an_unfinished_side_is_left_out():
    table = [
        ("a", "q", " x", f" {CUT}", "none", 1.0),
        ("b", "q", f" {OPEN}{MARK}4", " 3", "none", 1.0),
    ]
    pairs = pl.DataFrame(table, schema=PAIRS, orient="row")
    settled = settle_reasoning(pairs, ["chosen", "rejected"], MARK, "drop")
    assert settled.select("id", "chosen", "rejected").rows() == [("b", " 4", " 3")]


def test_rows_of_which_none_is_finished_are_an_error(rows):
    with pytest.raises(
        ValueError, match=r"all 1 answers end before `</think>`; raise .*max_tokens"
    ):
        settle_reasoning(rows.filter(pl.col("id") == "b"), ["completion"], MARK, "keep")
