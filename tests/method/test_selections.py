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
from weak_to_strong.method.selections import (
    KEEPS,
    TAKES,
    add_answers,
    pool_answers,
    select_answers,
)
from weak_to_strong.method.training_sets import pad_disagreeing, sft_rows
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


def plain_texts(sources: list, place: int, take: str, answer: str | None = None) -> list[tuple]:
    """(source, text, answer) of the rows of a question: of an answer, or of all if it is None."""
    by_source = [
        [
            (number, text, own)
            for text, own in answers(*source)
            .filter(pl.col("id") == str(place))
            .select("response", "prediction")
            .rows()
            if answer in (None, own)
        ]
        for number, source in enumerate(sources)
    ]
    texts = [row for rows in by_source for row in rows]
    texts = [row for n, row in enumerate(texts) if row[1] not in {text for _, text, _ in texts[:n]}]
    return {
        "all": lambda: texts,
        "each": lambda: [rows[0] for rows in by_source if rows],
        "shortest": lambda: [min(texts, key=lambda row: len(row[1]))],
    }.get(take, lambda: texts[:1])()


def plain_selection(sources: list, chosen: dict, seed: int) -> list[tuple]:
    pooled = [[vote for source in sources for vote in source[place]] for place in range(4)]
    empty_too = chosen.get("keep_empty", False)
    answered = [place for place in range(4) if majority(pooled[place])[0] or empty_too]
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
        texts = plain_texts(sources, place, chosen["take"], answer)
        rows += [(str(place), text, answer, share) for _, text, _ in texts]
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


@given(
    st.lists(SOURCE, min_size=1, max_size=3),
    st.sampled_from(("agreement", "all")),
    st.sampled_from(TAKES[:-1]),
)
def test_questions_without_an_answer_are_kept_where_they_are_asked_for(sources, keep, take):
    chosen = settings(keep, take=take, keep_empty=True)
    expected = plain_selection(sources, chosen, 0)
    tables = [answers(*source) for source in sources]
    if keep == "all":
        assert {row[0] for row in expected} == {*"0123"}
    if not expected:
        with pytest.raises(ValueError, match="keeps none of 4 questions"):
            select_answers(tables, chosen)
        return
    assert select_answers(tables, chosen).rows() == expected


def any_rows(sources: list, place: int, take: str) -> list[tuple]:
    """(source, row of SELECTED) of a question of which any text is taken."""
    votes = [vote for source in sources for vote in source[place]]
    return [
        (source, (str(place), text, own, votes.count(own) / len(votes)))
        for source, text, own in plain_texts(sources, place, take)
    ]


@given(
    st.lists(SOURCE, min_size=1, max_size=3),
    st.sampled_from(TAKES[:-1]),
    st.booleans(),
    st.integers(1, 4),
    st.integers(0, 9),
)
@example([[*"1123"], [*"1231"]], "each", False, 3, 0)
@example([[*"1123"], [*"1231"]], "all", False, 3, 1)
def test_padding_is_drawn_from_what_is_not_kept(sources, take, keep_empty, target, seed):
    chosen = settings("agreement", take=take, keep_empty=keep_empty)
    kept = plain_selection(sources, chosen, 0)
    tables, chosen = [answers(*source) for source in sources], {**chosen, "pad_to": target}
    rest = [place for place in range(3) if str(place) not in {row[0] for row in kept}]
    missing = max(0, target - (3 - len(rest)))
    if not any(row[0] != "3" for row in kept) or missing > len(rest):
        message = "cannot pad to . questions: there are 3|keeps none of 4 questions"
        with pytest.raises(ValueError, match=message):
            select_answers(tables, {**chosen, "pad_seed": seed}, without=["3"])
        return
    drawn = Random(seed).sample(rest, missing)
    padding = [row for place in drawn for row in any_rows(sources, place, take)]
    padding = [(*row[:2], None, row[3]) for _, row in sorted(padding, key=lambda row: row[0])]
    selected = select_answers(tables, {**chosen, "pad_seed": seed}, without=["3"])
    assert selected.schema == SELECTED
    assert selected.rows() == [row for row in kept if row[0] != "3"] + padding


@given(
    st.lists(SOURCE, min_size=1, max_size=3),
    st.sampled_from(TAKES[:-1]),
    st.integers(1, 4),
    st.integers(0, 9),
)
def test_as_many_as_another_selection_are_drawn_from_all(sources, take, count, seed):
    tables, chosen = [answers(*source) for source in sources], settings("random", take=take)
    if count == 4:
        with pytest.raises(ValueError, match="as_many_as: cannot draw 4 questions: there are 3"):
            select_answers(tables, chosen, seed=seed, without=["1"], as_many=count)
        return
    selected = select_answers(tables, chosen, seed=seed, without=["1"], as_many=count)
    drawn = sorted(Random(seed).sample([0, 2, 3], count))
    assert selected.schema == SELECTED
    assert selected.rows() == [row for place in drawn for _, row in any_rows(sources, place, take)]


ANSWERS = st.lists(st.sampled_from(["1", "2", ""]), min_size=5, max_size=5)


@given(ANSWERS, ANSWERS, st.booleans(), st.sampled_from([None, 3, 5]), st.integers(0, 9))
@example(["1", "2", "", "4", "5"], ["1", "3", "", "4", ""], False, None, 0)
@example(["1", "2", "", "4", "5"], ["1", "3", "", "4", ""], True, 4, 1)
def test_greedy_answers_of_two_sides_give_the_rows_of_stage_1(
    weak_answers, icl_answers, keep_empty, pad_to, seed
):
    """Of the weak side, of the ICL side, and of both: filtered, padded, random and all of them."""
    weak = labels(dict(zip("abcde", weak_answers, strict=True)), "weak {answer}")
    icl = labels(dict(zip("abcde", icl_answers, strict=True)), "icl {answer}")
    tables = {"questions": questions("abcde"), "weak_labels": weak, "icl_labels": icl}
    filtered = settings("agreement", keep_empty=keep_empty)
    if pad_to:
        filtered |= {"pad_to": pad_to, "pad_seed": seed}
    try:
        kept = agreement_filter(weak, icl, keep_empty=keep_empty)
    except ValueError:
        with pytest.raises(ValueError, match="keeps none of 5 questions"):
            select_answers([weak, icl], filtered)
        return
    kept = pad_disagreeing(kept, weak, icl, pad_to, seed) if pad_to else kept

    def check(kind: str, sides: list, chosen: dict, **others) -> None:
        selected = select_answers(sides, chosen, seed=seed, **others)
        ours = sft_rows("selected", questions=tables["questions"], selected=selected)
        assert ours.equals(sft_rows(kind, kept=kept, seed=seed, **tables))

    for side, sides, take in (
        ("weak", [weak, icl], "first"),
        ("icl", [icl, weak], "first"),
        ("hybrid", [weak, icl], "each"),
    ):
        check(f"kept_{side}", sides, {**filtered, "take": take})
        drawn = settings("random", take=take)
        check(f"random_{side}", sides, drawn, as_many=len(kept))
        if side != "hybrid":
            check(f"{side}_labels", sides[:1], settings("all", keep_empty=True))


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


def test_a_text_has_the_share_of_all_answers_that_the_judge_calls_the_same():
    def judge(comparisons):
        return ["right" if {a, b} <= {"1", "1.0"} or a == b else "wrong" for _, a, b in comparisons]

    pooled = pool_answers([answers(["1", "1.0", "2", ""])])
    shares = add_answers(pooled, pooled, judge).select("prediction", "share").rows()
    assert shares == [("1", 0.5), ("1.0", 0.5), ("2", 0.25), ("", 0.25)]


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
