from __future__ import annotations

import pytest
from table_builders import generations

from weak_to_strong.method.answers import PaperQuirks
from weak_to_strong.method.labels import labels_from_generations, read_answers, select_request
from weak_to_strong.tables.schemas import LABELS


def test_labels_are_cleaned_text_and_normalised_answers_in_row_order():
    labels = labels_from_generations(
        generations(
            [
                ("weak-1", "7", 0, " ten\n#### 1,000\n\nQuestion: a?\n#### 3"),
                ("weak-1", "3", 0, "no idea."),
            ]
        ),
        "####",
        ["Question", "Answer"],
    )
    assert labels.schema == LABELS
    assert labels.rows() == [("7", "ten\n#### 1,000", "1000"), ("3", "no idea", "")]


def test_labels_without_a_quirk():
    table = generations([("weak-1", "7", 0, "#### 1, 2")])
    labels = labels_from_generations(table, "####", [], PaperQuirks(joined_lists=False))
    assert labels["prediction"].to_list() == ["1,2"]


def test_several_samples_or_requests_are_refused():
    with pytest.raises(ValueError, match="several responses to id '7'"):
        labels_from_generations(generations([("s", "7", 0, "a"), ("s", "7", 1, "b")]), "####")
    with pytest.raises(ValueError, match="several requests"):
        labels_from_generations(generations([("s", "7", 0, "a"), ("t", "8", 0, "b")]), "####")


def test_select_request_names_what_the_file_holds():
    table = generations([("icl-1", "7", 0, "a"), ("weak-1", "7", 0, "b")])
    assert select_request(table, "weak-1")["response"].to_list() == ["b"]
    with pytest.raises(ValueError, match=r"'weak-2' has no generations .*icl-1, weak-1"):
        select_request(table, "weak-2")


def test_read_answers_keeps_samples_apart():
    table = generations([("s", "7", 0, "#### 1."), ("s", "7", 1, "#### 2")])
    answers = read_answers(table, "####").select("sample", "response", "prediction")
    assert answers.rows() == [(0, "#### 1", "1"), (1, "#### 2", "2")]
