"""Selections of answers, against plain loops."""

from collections import Counter
from math import log
from random import Random

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from table_builders import labels, questions

from weak_to_strong.method.agreement import agreement_filter
from weak_to_strong.method.selections import KEEPS, TAKES, pool_answers, select_answers
from weak_to_strong.method.training_sets import sft_rows
from weak_to_strong.tables.schemas import SELECTED

#: Of one source: for each of four questions its answers; "" is none.
SOURCE = st.lists(
    st.lists(st.sampled_from(["1", "2", "3", ""]), min_size=1, max_size=4), min_size=4, max_size=4
)


def answers(*questions: list[str]) -> pl.DataFrame:
    """A table of answers; each text has its own length and ends in its answer."""
    rows = [
        (str(place), number, f"{'x' * (7 * place + 3 * number % 5)} {answer}", answer)
        for place, samples in enumerate(questions)
        for number, answer in enumerate(samples)
    ]
    return pl.DataFrame(rows, schema=["id", "sample", "response", "prediction"], orient="row")


def settings(keep: str, **others) -> dict:
    return {"keep": keep, "min_share": 0.6, "fraction": 0.5, "take": "first", **others}


def majority(votes: list[str]) -> tuple[str, float]:
    counts = Counter(votes)  # of equally frequent ones the first
    answer = max(counts, key=counts.get)
    return answer, counts[answer] / len(votes)


def entropy(votes: list[str]) -> float:
    return round(-sum(n / len(votes) * log(n / len(votes)) for n in Counter(votes).values()), 12)


def plain_selection(sources: list, chosen: dict, seed: int) -> list[tuple]:
    pooled = [[vote for source in sources for vote in source[place]] for place in range(4)]
    answered = [place for place in range(4) if majority(pooled[place])[0]]
    if chosen["take"] == "other":
        answered = [
            place for place in answered if set(pooled[place]) - {"", majority(pooled[place])[0]}
        ]
    count = round(chosen["fraction"] * len(answered))
    kept = {
        "all": lambda: answered,
        "share": lambda: [p for p in answered if majority(pooled[p])[1] >= 0.6],
        "agreement": lambda: [
            p
            for p in answered
            if all(majority(source[p])[0] == majority(pooled[p])[0] for source in sources)
        ],
        "entropy": lambda: sorted(answered, key=lambda p: entropy(pooled[p]))[:count],
        "random": lambda: Random(seed).sample(answered, count),
    }[chosen["keep"]]()
    rows = []
    for place in sorted(kept):
        answer, share = majority(pooled[place])
        if chosen["take"] == "other":
            others = [vote for vote in pooled[place] if vote not in ("", answer)]
            answer = majority(others)[0]
            share = others.count(answer) / len(pooled[place])
        by_source = [
            [
                text
                for text, own in answers(*source)
                .filter(pl.col("id") == str(place))
                .select("response", "prediction")
                .rows()
                if own == answer
            ]
            for source in sources
        ]
        texts = [*dict.fromkeys(text for texts in by_source for text in texts)]
        if chosen["take"] in ("first", "other"):
            texts = texts[:1]
        elif chosen["take"] == "each":
            texts = [texts[0] for texts in by_source if texts]
        elif chosen["take"] == "shortest":
            texts = [min(texts, key=len)]
        rows += [(str(place), text, answer, share) for text in texts]
    return rows


@given(
    st.lists(SOURCE, min_size=1, max_size=3),
    st.sampled_from(KEEPS),
    st.sampled_from(TAKES),
    st.integers(0, 9),
)
def test_a_selection_is_that_of_plain_loops(sources, keep, take, seed):
    chosen = settings(keep, take=take)
    expected = plain_selection(sources, chosen, seed)
    tables = [answers(*source) for source in sources]
    if not expected:
        with pytest.raises(ValueError, match=f"keep '{keep}' keeps none of 4 questions"):
            select_answers(tables, chosen, seed=seed)
        return
    selected = select_answers(tables, chosen, seed=seed)
    assert selected.schema == SELECTED
    assert selected.rows() == expected


ANSWERS = st.lists(st.sampled_from(["1", "2", ""]), min_size=5, max_size=5)


@given(ANSWERS, ANSWERS)
@example(["1", "2", "", "4", "5"], ["1", "3", "", "4", ""])
def test_agreement_of_two_greedy_answers_is_the_papers_filter(weak_answers, icl_answers):
    """The rows of Stage I, in every row: of the weak side, of the ICL side, and of both."""
    weak = labels(dict(zip("abcde", weak_answers, strict=True)), "weak {answer}")
    icl = labels(dict(zip("abcde", icl_answers, strict=True)), "icl {answer}")
    asked = questions("abcde")
    try:
        kept = agreement_filter(weak, icl)
    except ValueError:
        with pytest.raises(ValueError, match="keeps none of 5 questions"):
            select_answers([weak, icl], settings("agreement"))
        return
    for kind, tables, take in (
        ("kept_weak", [weak, icl], "first"),
        ("kept_icl", [icl, weak], "first"),
        ("kept_hybrid", [weak, icl], "each"),
    ):
        selected = select_answers(tables, settings("agreement", take=take))
        ours = sft_rows("selected", questions=asked, selected=selected)
        assert ours.equals(sft_rows(kind, questions=asked, kept=kept))


def test_each_takes_a_text_from_each_of_the_answers_even_the_same():
    weak, icl = answers(["1"], ["2"]), answers(["1", "1"], ["3", "2"])
    selected = select_answers([weak, icl], settings("all", take="each"))
    assert selected.select("id", "response").rows() == [
        ("0", " 1"), ("0", " 1"), ("1", f"{'x' * 7} 2"), ("1", f"{'x' * 10} 2")
    ]  # fmt: skip


def test_a_judge_tells_which_answers_are_the_same():
    def judge(comparisons):
        return ["right" if {a, b} <= {"1", "1.0"} or a == b else "wrong" for _, a, b in comparisons]

    table = answers(["1", "2", "1.0"], ["2", "3", "3"])
    selected = select_answers([table], settings("share"), judge=judge)
    assert selected.select("id", "prediction", "share").rows() == [
        ("0", "1", pytest.approx(2 / 3)),
        ("1", "3", pytest.approx(2 / 3)),
    ]


def test_the_answer_that_ranks_first_takes_the_place_of_the_majority():
    tables = [answers(["1"] * 9, ["1"]), answers(["2", "2", "1"], ["1"])]
    tables.append(tables[1])
    chosen = settings("share", min_share=0.2, vote="ranking")
    selected = select_answers(tables, chosen)
    assert selected.select("id", "prediction", "share").rows() == [
        ("0", "2", pytest.approx(4 / 15)),
        ("1", "1", 1.0),
    ]
    assert selected["response"][0].endswith(" 2")
    assert select_answers(tables, {**chosen, "keep": "agreement"})["id"].to_list() == ["1"]


def test_another_answer_is_none_that_the_judge_calls_the_same():
    def judge(comparisons):
        return ["right" if float(a) == float(b) else "wrong" for _, a, b in comparisons]

    table = answers(["1", "1", "1.0", "2", "2.0"], ["3", "3.0", "3", "", ""])
    (row,) = select_answers([table], settings("all", take="other"), judge=judge).rows()
    assert (row[0], row[1][-1:], *row[2:]) == ("0", "2", "2", pytest.approx(0.4))
    message = "keeps none of 1 questions, of which 0 have a majority answer and another one; change"
    with pytest.raises(ValueError, match=message):
        select_answers([answers(["3", ""])], settings("all", take="other"))


def test_questions_of_another_selection_are_left_out():
    table = answers(["1"], ["2"], ["3"], [""])
    selected = select_answers([table], settings("all"), without={"1"})
    assert selected["id"].to_list() == ["0", "2"]


def test_labels_have_no_samples():
    greedy = answers(["1"], ["2"]).drop("sample")
    assert pool_answers([greedy, greedy])["source"].to_list() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ([answers(["1"]), answers(["1"], ["2"])], "answers 2: are to other questions"),
        ([pl.concat([answers(["1"])] * 2)], "answers 1: a sample of a question stands twice"),
    ],
)
def test_tables_that_do_not_fit(tables, message):
    with pytest.raises(ValueError, match=message):
        select_answers(tables, settings("all"))
