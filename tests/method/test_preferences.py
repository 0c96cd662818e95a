"""Pairs of what selections keep and of users' functions."""

from random import Random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_builders import labels, questions, samples, table

from weak_to_strong.method.answers import string_judge
from weak_to_strong.method.majority_vote import majority_vote
from weak_to_strong.method.pairs import PairSettings, build_pairs
from weak_to_strong.method.preferences import pairs_by_function, pairs_of_selection, weigh_pairs
from weak_to_strong.method.selections import select_answers
from weak_to_strong.tables.schemas import PAIRS, SELECTED, VOTES, WEIGHTED_PAIRS

SETTINGS = {"min_confidence": 0.6, "pairs_per_question": 1, "rng_seed": 42}


def selected(*rows: tuple[str, str, str, float]) -> pl.DataFrame:
    return table(SELECTED, rows)


def pairs(chosen: pl.DataFrame, answers: list[pl.DataFrame], ids="ab", **settings) -> pl.DataFrame:
    return pairs_of_selection(chosen, answers, questions(ids), {**SETTINGS, **settings})


def test_a_selected_text_is_chosen_over_an_answer_with_another_result():
    drawn = samples({"a": ["1", "1", "2", ""], "b": ["1", "1", "1", "1"]})
    made = pairs(selected(("a", "it is 1", "1", 0.75), ("b", "so 1", "1", 1.0)), [drawn])
    assert made.schema == PAIRS
    rejected = Random(42).choice(["2: 2", "3: "])
    assert made.rows() == [("a", "Question: a?\nAnswer:", " it is 1", f" {rejected}", "none", 0.75)]


def test_answers_of_several_models_may_be_rejected():
    tables = [labels({"a": "1", "b": "2"}, "weak {answer}"), samples({"a": ["2"], "b": ["1"]})]
    made = pairs(selected(("a", "so 1", "1", 1.0), ("b", "so 1", "1", 1.0)), tables)
    assert made["rejected"].to_list() == [" 0: 2", " weak 2"]


@pytest.mark.parametrize(
    "row",
    [("a", "so 1", "1", 0.5), ("a", "of my own", "", 0.0), ("a", "so 1", None, 1.0)],
    ids=["unsure", "no answer", "padding"],
)
def test_such_a_text_gives_no_pair(row):
    drawn = samples({"a": ["1", "2"], "b": ["1", "2"]})
    assert pairs(selected(row, ("b", "so 1", "1", 0.6)), [drawn])["id"].to_list() == ["b"]


def test_several_pairs_of_a_question():
    drawn = samples({"a": ["1", "1", "2", "3"], "b": ["1", "1", "1", "2"]})
    one = selected(("a", "so 1", "1", 1.0), ("b", "so 1", "1", 1.0))
    made = pairs(one, [drawn], pairs_per_question=2)
    assert made.select("chosen", "rejected").rows() == [
        (" so 1", " 2: 2"), (" so 1", " 3: 3"), (" so 1", " 3: 2")
    ]  # fmt: skip
    several = selected(("a", "x 1", "1", 1.0), ("a", "y 1", "1", 1.0), ("a", "2", "2", 1.0))
    made = pairs(several, [drawn], pairs_per_question=3)
    assert set(made["chosen"]) == {" x 1", " y 1"}
    assert made["rejected"].to_list() == [" 2: 2", " 3: 3"]
    assert set(made["weak_side"]) == {"none"}


answer = st.sampled_from(["", "1", "2", "3"])


@given(
    st.lists(st.lists(answer, min_size=4, max_size=4), min_size=1, max_size=5),
    st.integers(1, 3),
)
def test_own_samples_give_the_pairs_of_the_paper_without_its_weak_side(drawn, count):
    """A selection of all majority texts says what `weak_side: false` does, byte for byte."""
    made = samples({f"q{i}": texts for i, texts in enumerate(drawn)})
    ids = made["id"].unique(maintain_order=True)
    keep = {"keep": "all", "take": "all"}
    chosen = attempt(lambda: select_answers([made], keep))
    if chosen is None or not chosen["id"].is_duplicated().any():
        return
    votes = chosen.unique("id", keep="first", maintain_order=True).select(
        "id", majority="prediction", confidence="share", samples=pl.lit(4, pl.Int32)
    )
    unanswered = table(VOTES, [(name, "", 0.0, 4) for name in ids if name not in votes["id"]])
    settings = PairSettings(weak_side=False, pairs_per_question=count)
    of_paper = attempt(
        lambda: build_pairs(
            labels(dict.fromkeys(ids, "")), made, pl.concat([votes, unanswered]), questions(ids),
            settings,
        )
    )  # fmt: skip
    ours = attempt(lambda: pairs(chosen, [made], ids, pairs_per_question=count))
    assert (ours is None) == (of_paper is None)
    assert ours is None or ours.equals(of_paper)


def attempt(build):
    try:
        return build()
    except ValueError:
        return None


def unsure_judge(comparisons):
    """One that cannot compare an answer with 3."""
    return ["undecided" if "3" in pair else string_judge([(name, *pair)])[0]
            for name, *pair in comparisons]  # fmt: skip


@given(
    st.lists(st.tuples(answer, st.lists(answer, min_size=5, max_size=5)), min_size=1, max_size=6),
    st.sampled_from([0.0, 0.4, 0.6]),
    st.sampled_from([0.4, 0.8, 1.0]),
    st.integers(1, 3),
    st.sampled_from([string_judge, unsure_judge]),
)
def test_an_answer_on_one_side_gives_the_pairs_of_the_paper(
    rows, min_confidence, min_rejected, count, judge
):
    ids = [f"q{i}" for i in range(len(rows))]
    weak = labels({name: own for name, (own, _) in zip(ids, rows, strict=True)}, "weak {answer}")
    drawn = samples({name: texts for name, (_, texts) in zip(ids, rows, strict=True)})
    settings = {"pairs_per_question": count, "rng_seed": 7, "min_confidence": min_confidence}
    settings["weak_rejected_confidence"] = min_rejected
    votes = majority_vote(drawn, judge=judge)
    asked, pair_settings = questions(ids), PairSettings(**settings)
    of_paper = attempt(lambda: build_pairs(weak, drawn, votes, asked, pair_settings, judge=judge))
    for take in ("first", "shortest", "all"):
        selection = {"keep": "all", "take": take}
        ours = attempt(
            lambda chosen=selection: pairs_of_selection(
                select_answers([drawn], chosen, judge=judge), [drawn], asked, settings,
                one_side=weak, judge=judge,
            )
        )  # fmt: skip
        assert (ours is None) == (of_paper is None)
        assert ours is None or ours.equals(of_paper)


def test_no_pair_of_one_side_names_the_fix():
    drawn = samples({"a": ["1", "1"], "b": ["1", "1"]})
    one, weak = selected(("a", "so 1", "1", 1.0)), labels({"a": "1", "b": "1"})
    with pytest.raises(ValueError, match=r"lower `min_confidence` or `min_confidence_rejected`"):
        pairs_of_selection(one, [drawn], questions("ab"), SETTINGS, one_side=weak)


def test_pairs_weigh_in_proportion_to_their_confidence():
    drawn = samples({"a": ["1", "2"], "b": ["1", "2"]})
    made = pairs(selected(("a", "so 1", "1", 0.6), ("b", "so 1", "1", 1.0)), [drawn])
    weighed = weigh_pairs(made)
    assert weighed.schema == WEIGHTED_PAIRS
    assert weighed["weight"].to_list() == pytest.approx([0.75, 1.25])
    assert weighed.drop("weight").equals(made)


def test_pairs_without_any_confidence_have_no_weights():
    made = pairs(selected(("a", "so 1", "1", 1.0)), [samples({"a": ["2"], "b": ["1"]})])
    with pytest.raises(ValueError, match="all shares are 0; set `weights: equal` in the prefer"):
        weigh_pairs(made.with_columns(confidence=0.0))


def test_no_pair_at_all_names_the_fix():
    drawn = samples({"a": ["1", "1"], "b": ["1", "1"]})
    with pytest.raises(ValueError, match=r"1 of 1 reach .*; lower `min_confidence` of the entry"):
        pairs(selected(("a", "so 1", "1", 1.0)), [drawn])


@pytest.fixture
def write(tmp_path):
    def write_file(body: str) -> str:
        (tmp_path / "mine.py").write_text(
            f"import polars as pl\n\n\ndef build(answers, seed):\n    {body}\n"
        )
        return f"{tmp_path / 'mine.py'}:build"

    return write_file


def by_function(reference: str) -> pl.DataFrame:
    drawn = samples({"a": ["1", "1", "2"], "b": ["1", "2", ""]})
    return pairs_by_function(reference, [drawn], questions("ab"), 7)


def test_a_function_builds_the_pairs(write):
    made = by_function(
        write(
            'return pl.DataFrame({"id": ["b", "a"], "chosen": [f"new {seed}", "0: 1"], '
            '"rejected": ["0: 1", answers["response"][2]]})'
        )
    )
    assert made.schema == PAIRS
    assert made.rows() == [
        ("b", "Question: b?\nAnswer:", " new 7", " 0: 1", "none", 0.0),
        ("a", "Question: a?\nAnswer:", " 0: 1", " 2: 2", "none", pytest.approx(2 / 3)),
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 1 / 0", "mine.py:build: failed at line 5 with ZeroDivisionError"),
        (
            "return answers",
            "returned the columns .*; return a polars table with the columns id, ch",
        ),
        (
            'return pl.DataFrame({"id": ["a"], "chosen": ["x"], "rejected": [""]})',
            "row 0 with id 'a' has no rejected",
        ),
        (
            'return pl.DataFrame({"id": ["a"], "chosen": ["x"], "rejected": ["x"]})',
            "row 0 with id 'a' has one text as chosen and rejected",
        ),
    ],
)
def test_a_bad_function_ends_in_one_line(write, body, message):
    with pytest.raises(ValueError, match=message) as raised:
        by_function(write(body))
    assert "\n" not in str(raised.value)
