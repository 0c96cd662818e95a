"""Packed answers: every verdict, the texts of questions that tell models apart, nothing hidden."""

from __future__ import annotations

import base64
import gzip
import json

import polars as pl
import report_examples as examples

from weak_to_strong.report.answer_texts import AnswerSet, pack_answers
from weak_to_strong.report.display_text import MAX_SHOWN_CHARACTERS


def answers(verdicts, response="text", math=None):
    """The answers of a model, from a letter for each question."""
    words = {"r": "right", "w": "wrong", "u": "undecided"}
    return pl.DataFrame(
        {
            "id": [str(number) for number in range(len(verdicts))],
            "response": [response] * len(verdicts),
            "prediction": ["7"] * len(verdicts),
            "paper": [words[letter] for letter in verdicts],
            "math": [words[letter] for letter in math or verdicts],
        }
    ).reverse()  # in whichever order


def pack(*tables, limit=10**6, **columns):
    test = examples.problems(tables[0].height, **columns)
    labels = [("one", f"model {number}") for number in range(len(tables))]
    return pack_answers(AnswerSet(test, labels, list(tables)), limit)


def unpack(text):
    return json.loads(gzip.decompress(base64.b64decode(text)))


def test_all_verdicts_and_the_texts_of_questions_that_differ():
    packed = pack(answers("rrww", "a"), answers("rwww", "b", math="rwwu"), answers("rwwr", "a"))
    assert packed["paper"] == ["rrww", "rwww", "rwwr"]
    assert packed["math"] == ["rrww", "rwwu", "rwwr"]
    assert [text is not None for text in packed["texts"]] == [False, True, False, True]
    assert (packed["differing"], packed["packed"]) == (2, 2)
    content = unpack(packed["texts"][1])
    assert content == {
        "question": "context 1\n\nquestion 1",
        "gold": "1",
        "answers": [["a", "7"], ["b", "7"]],
        "of": [0, 1, 0],
    }


def test_wrong_and_undecided_are_both_not_right():
    assert pack(answers("w"), answers("u"))["differing"] == 0


def test_the_limit_leaves_questions_out_by_their_ids_and_not_by_result():
    first, second = "rw" * 40, "wr" * 40
    whole = pack(answers(first), answers(second))
    assert whole["packed"] == 80
    limit = sum(map(len, whole["texts"])) // 2
    part = pack(answers(first), answers(second), limit=limit)
    assert 30 < part["packed"] < 50
    assert sum(len(text) for text in part["texts"] if text) <= limit
    turned = pack(answers(second), answers(first), limit=limit)
    assert [text is None for text in turned["texts"]] == [text is None for text in part["texts"]]
    assert pack(answers(first), answers(second), limit=0)["packed"] == 0


def test_long_texts_are_cut_and_hidden_characters_shown():
    long = "x" * (MAX_SHOWN_CHARACTERS + 7)
    packed = pack(answers("r", long), answers("w", "\u202eevil\x00"))
    content = unpack(packed["texts"][0])
    assert content["answers"][0][0].endswith("[... 7 more characters]")
    assert content["answers"][1][0] == "\\u202eevil\\u0000"


def test_equal_answers_are_stored_once():
    many = pack(*[answers("r" if n else "w", "same words " * 50) for n in range(200)])
    assert len(unpack(many["texts"][0])["answers"]) == 1
    assert len(many["texts"][0]) < 1500


def test_the_same_answers_give_the_same_bytes():
    assert pack(answers("r"), answers("w")) == pack(answers("r"), answers("w"))
