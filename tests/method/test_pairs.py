from __future__ import annotations

from random import Random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from released_data import GSM8K, released
from table_builders import labels, questions, samples

from weak_to_strong.method.answers import predict
from weak_to_strong.method.majority_vote import majority_vote
from weak_to_strong.method.pairs import PairSettings, build_pairs, shuffle_sides, swap_sides
from weak_to_strong.tables.schemas import PAIRS


def tables(weak: dict[str, str], answers: dict[str, list[str]]) -> tuple[pl.DataFrame, ...]:
    """Tables in which a response is its answer, marked with who wrote it and when."""
    drawn = samples(answers)
    return labels(weak, "weak {answer}"), drawn, majority_vote(drawn), questions(weak)


def sides(pairs: pl.DataFrame) -> list[tuple[str, str]]:
    return pairs.select("chosen", "rejected").rows()


def test_a_right_weak_answer_is_chosen_over_a_random_other_sample():
    pairs = build_pairs(*tables({"a": "1"}, {"a": ["1"] * 7 + ["2", "3", ""]}))
    assert pairs.schema == PAIRS
    expected = Random(42).choice(["7: 2", "8: 3", "9: "])
    assert pairs.rows() == [
        ("a", "Question: a?\nAnswer:", " weak 1", f" {expected}", "chosen", 0.7)
    ]


def test_a_wrong_weak_answer_is_rejected_at_high_confidence_only():
    answers = {"sure": ["1"] * 8 + ["2"] * 2, "unsure": ["1"] * 7 + ["2"] * 3}
    pairs = build_pairs(*tables({"sure": "2", "unsure": "2"}, answers))
    expected = Random(42).choice([f"{i}: 1" for i in range(8)])
    assert pairs.drop("prompt").rows() == [("sure", f" {expected}", " weak 2", "rejected", 0.8)]


@pytest.mark.parametrize(
    "answers",
    [
        ["1"] * 5 + ["2"] * 5,  # below min_confidence
        [""] * 8 + ["1"] * 2,  # the majority has no answer
        ["1"] * 10,  # unanimous: nothing to reject
    ],
)
def test_such_a_question_gives_no_pair(answers):
    pairs = build_pairs(*tables({"a": "1", "b": "1"}, {"a": answers, "b": ["1"] * 9 + ["2"]}))
    assert pairs["id"].to_list() == ["b"]


@given(st.integers(0, 1000))
def test_a_coin_of_the_seed_exchanges_the_sides(seed):
    rows = [(str(i), "p", f" good {i}", f" bad {i}", "chosen", 0.9) for i in range(60)]
    pairs = pl.DataFrame(rows, schema=PAIRS, orient="row")
    shuffled, swapped = shuffle_sides(pairs, seed), swap_sides(pairs)
    assert shuffled.schema == PAIRS
    assert shuffled.equals(shuffle_sides(pairs, seed))
    assert swapped["chosen"].equals(pairs["rejected"].alias("chosen"))
    assert swap_sides(swapped).equals(pairs)
    kept = [ours == theirs for ours, theirs in zip(shuffled.rows(), pairs.rows(), strict=True)]
    turned = [ours == theirs for ours, theirs in zip(shuffled.rows(), swapped.rows(), strict=True)]
    assert kept == [not exchanged for exchanged in turned]
    assert 10 < sum(kept) < 50
    assert set(swapped["weak_side"]) == {"rejected"}


def test_one_generator_serves_all_rows_in_the_order_of_the_questions():
    answers = {name: ["1"] * 6 + ["2", "3", "4", "5"] for name in "cab"}
    weak, samples, votes, questions = tables(dict.fromkeys("cab", "1"), answers)
    rng = Random(42)
    expected = [(name, f" {6 + rng.randrange(4)}:") for name in "cab"]
    shuffled = [table.sample(fraction=1, shuffle=True, seed=1) for table in (weak, samples, votes)]
    for ours in ((weak, samples, votes), shuffled):
        pairs = build_pairs(*ours, questions)
        rejected = [(name, text[:3]) for name, text in pairs.select("id", "rejected").rows()]
        assert rejected == expected


def test_several_pairs_of_a_question():
    """Negatives: a sample of three, or all in order; positives: one random, then in order."""
    many = build_pairs(
        *tables({"a": "1"}, {"a": ["1"] * 6 + list("2345")}), PairSettings(pairs_per_question=3)
    )
    drawn = Random(42).sample(["6: 2", "7: 3", "8: 4", "9: 5"], 3)
    assert sides(many) == [(" weak 1", f" {text}") for text in drawn]
    few = build_pairs(
        *tables({"a": "1"}, {"a": ["1"] * 8 + list("23")}), PairSettings(pairs_per_question=3)
    )
    assert sides(few) == [(" weak 1", " 8: 2"), (" weak 1", " 9: 3")]
    weak, samples, votes, questions = tables({"a": "2"}, {"a": ["1"] * 10})
    samples = samples.with_columns(response=pl.lit("same"))
    same = build_pairs(weak, samples, votes, questions, PairSettings(pairs_per_question=3))
    assert sides(same) == [(" same", " weak 2")]


def test_pairs_of_own_samples_only():
    pairs = build_pairs(
        *tables({"a": "9", "b": "9"}, {"a": ["1"] * 6 + ["2"] * 4, "b": ["1"] * 10}),
        PairSettings(weak_side=False),
    )
    assert pairs.select("id", "weak_side").rows() == [("a", "none")]
    assert pairs["chosen"][0].endswith(": 1")
    assert pairs["rejected"][0].endswith(": 2")


answer = st.sampled_from(["", "1", "2", "3"])


@given(
    st.lists(st.tuples(answer, st.lists(answer, min_size=4, max_size=4)), min_size=1, max_size=6),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.5, 0.75]),
)
def test_each_pair_has_the_weak_answer_on_one_side(questions, count, threshold):
    made = tables(
        {f"q{i}": weak for i, (weak, _) in enumerate(questions)},
        {f"q{i}": texts for i, (_, texts) in enumerate(questions)},
    )
    settings = PairSettings(threshold, threshold, pairs_per_question=count)
    try:
        pairs = build_pairs(*made, settings)
    except ValueError:
        # Nothing to learn from: no confident majority, or all samples equal the weak answer.
        for weak, texts in questions:
            majority = max(texts, key=texts.count)
            share = texts.count(majority) / len(texts)
            assert not majority or share < threshold or (weak == majority and share == 1)
        return
    votes = {name: (majority, share) for name, majority, share, _ in made[2].rows()}
    for name, _, chosen, rejected, side, confidence in pairs.rows():
        majority, share = votes[name]
        assert share == confidence >= threshold
        assert {"chosen": chosen, "rejected": rejected}[side].startswith(" weak ")
        assert chosen.split(" ")[-1] == majority != rejected.split(" ")[-1]
    assert max(pairs["id"].value_counts()["count"]) <= count


def test_no_pair_at_all_names_the_fix():
    with pytest.raises(ValueError, match=r"1 of 1 reach min_confidence 0.6; lower `pairs.min"):
        build_pairs(*tables({"a": "1"}, {"a": ["1"] * 10}))


def test_tables_of_other_questions_are_refused():
    weak, samples, votes, questions = tables({"a": "1"}, {"a": ["1", "1", "2"]})
    with pytest.raises(ValueError, match=r"weak labels are not of the questions .* id 'a'"):
        build_pairs(weak.clear(), samples, votes, questions)


def test_released_pairs_have_the_weak_answer_on_one_side():
    """Settles which side rules hold: the weak answer against one with another final answer."""
    weak = {
        row["id"]: row["output"]
        for row in released(f"{GSM8K}/train_gsm8k_llama2_7b_full_weak.json")
    }
    pairs = released(f"{GSM8K}/train_gsm8k_llama2_7b_iter2_hybrid_paired.json")
    assert len(pairs) == 2563
    for row in pairs:
        assert (weak[row["id"]] == row["output"][0]) != (weak[row["id"]] == row["output"][1])
        chosen, rejected = (predict(text, "####") for text in row["output"])
        assert chosen != rejected
        assert chosen
