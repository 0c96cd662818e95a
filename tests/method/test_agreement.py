from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from released_data import GSM8K, WEAK_OUTPUTS, released, released_labels
from table_builders import labels

from weak_to_strong.method.agreement import agreement_filter
from weak_to_strong.tables.schemas import KEPT


@given(st.lists(st.tuples(*[st.sampled_from(["", "1", "2"])] * 2)), st.randoms())
def test_kept_are_the_agreeing_answers_in_weak_order(answers, rng):
    answers = [*answers, ("3", "3")]
    names = [str(i) for i in range(len(answers))]
    rng.shuffle(names)
    rows = list(zip(names, answers, strict=True))
    weak = labels({name: pair[0] for name, pair in rows}, "weak {id}")
    icl = labels({name: pair[1] for name, pair in sorted(rows)}, "icl {id}")
    for keep_empty in (False, True):
        kept = agreement_filter(weak, icl, keep_empty=keep_empty)
        assert kept.schema == KEPT
        assert kept.rows() == [
            (name, f"weak {name}", f"icl {name}", ours)
            for name, (ours, theirs) in rows
            if ours == theirs and (ours or keep_empty)
        ]


def test_a_broken_filter_keeps_what_it_should_not():
    answers = {"a": ("1", "1"), "b": ("1", "2"), "c": ("", "2"), "d": ("", "")}
    weak, icl = (labels({name: pair[side] for name, pair in answers.items()}) for side in (0, 1))
    kept = {keep: agreement_filter(weak, icl, keep=keep) for keep in ("disagreeing", "all")}
    assert all(table.schema == KEPT for table in kept.values())
    assert kept["disagreeing"]["id"].to_list() == ["b"]
    assert kept["all"]["id"].to_list() == list(answers)
    with pytest.raises(ValueError, match="no weak and ICL answers disagree"):
        agreement_filter(weak, weak, keep="disagreeing")


def test_other_equality_can_be_used():
    weak, icl = labels({"a": "0.50", "b": "2"}), labels({"a": "0.5", "b": "3"})

    def judge(rows):
        assert [name for name, *_ in rows] == ["a", "b"]
        return ["right" if float(one) == float(other) else "wrong" for _, one, other in rows]

    assert agreement_filter(weak, icl, judge=judge)["prediction"].to_list() == ["0.50"]


@pytest.mark.parametrize(
    ("weak", "icl", "message"),
    [
        ({"a": "1"}, {"a": "1", "b": "2"}, "different questions: 1 ids .* such as 'b'"),
        ({"a": "1", "b": ""}, {"a": "2", "b": ""}, "no weak and ICL answers agree .*1 weak, 1 ICL"),
    ],
)
def test_bad_sides_are_refused(weak, icl, message):
    with pytest.raises(ValueError, match=message):
        agreement_filter(labels(weak), labels(icl))


def test_a_repeated_id_is_refused():
    side = labels({"a": "1"})
    with pytest.raises(ValueError, match="weak labels: an id stands twice"):
        agreement_filter(pl.concat([side, side]), side)


def test_released_first_iteration():
    weak = released_labels(f"{GSM8K}/train_gsm8k_llama2_7b_full_weak.json")
    icl = released_labels(f"{GSM8K}/train_gsm8k_llama2_7b_iter1_icl.json")
    weak = weak.filter(pl.col("id").is_in(icl["id"].to_list()))
    kept = agreement_filter(weak, icl, keep_empty=True)
    assert len(kept) == 2683
    assert len(agreement_filter(weak, icl)) == 2683 - 8
    gold = {str(row["id"]): row["gold"] for row in released(WEAK_OUTPUTS)}
    assert sum(gold[name] == answer for name, answer in kept["id", "prediction"].rows()) == 2410
