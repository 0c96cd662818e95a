"""Whole columns against one text, and tables against plain loops over rows."""

from __future__ import annotations

import re
import sys
from random import Random

import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from plain_steps import plain_pairs, plain_vote
from quirks import NO_QUIRKS
from released_data import GSM8K, MATH, WEAK_OUTPUTS, released
from table_builders import generations, labels, questions, table

from weak_to_strong.method import answers
from weak_to_strong.method.answer_keys import ANSWER_KEYS, BOXED
from weak_to_strong.method.answers import (
    PAPER,
    WHITESPACE,
    PaperQuirks,
    extract_answer,
    extract_column,
    normalise_answer,
    normalise_column,
    predict,
    predict_column,
)
from weak_to_strong.method.labels import read_answers
from weak_to_strong.method.majority_vote import SAMPLES, majority_vote
from weak_to_strong.method.pairs import PairSettings, build_pairs
from weak_to_strong.method.prompts import clean_column, clean_response
from weak_to_strong.method.training_sets import (
    encode_llama_factory_pairs,
    export_llama_factory_pairs,
)
from weak_to_strong.tables.files import write_json, write_json_rows
from weak_to_strong.tables.frames import write_table
from weak_to_strong.tables.schemas import GENERATIONS, PAIRS

#: What the steps of extraction and normalisation look for, whole and in pieces.
PIECES = [
    *("\\text{", "\\textbf{", "\\overline{", "\\boxed{", "\\fbox{", "\\text{\n}", "\\text{\ns}"),
    *(
        "}",
        "{",
        "$",
        "\n",
        "=",
        " ",
        "\\",
        "\\\\",
        "\\\\ ",
        "\\ ",
        "\\$",
        ".$",
        '"',
        "_",
        "(",
        "[3]",
    ),
    *(
        "a ",
        "an ",
        "ft",
        "f",
        "t",
        "x",
        "s",
        "m",
        "cm",
        "ways",
        "inch",
        "and",
        ",\\text{and}",
        "mbox",
    ),
    *("-", "+", "/", "1", "23", "0", ".0", ".00", ".5", ",", ",000", "%", "\\%", "^\\circ", "{,}"),
    *("frac", "\\dfrac", "\\tfrac", "sqrt", "\\dots", "\\ldots", "A", "B", "E", "Z"),
    *("\x1c", "\t", "\r", "\x85", "\u2028", "²", "½", "٣", "é", "√", "°"),
    *("#### ", "####", "The answer is ", "The answer is: ", "The answer is:", "Question", "Answer"),
]
BOXES = ["\\boxed{", "\\fbox{", "boxed{", "\\", "{", "}", "}", "1", " ", "\n", "é", "Question"]
texts = st.lists(
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(), max_size=20
)
quirks = st.sampled_from([PAPER, NO_QUIRKS]) | st.builds(
    PaperQuirks, **dict.fromkeys(PaperQuirks.__dataclass_fields__, st.booleans())
)


def column(values: list[str]) -> pl.Series:
    return pl.Series("text", values, dtype=pl.String)


def test_white_space_is_pythons():
    assert set(WHITESPACE) == {c for c in map(chr, range(sys.maxunicode + 1)) if c.isspace()}


@given(texts, quirks)
def test_normalised_columns(values, quirks):
    expected = [normalise_answer(text, quirks=quirks) for text in values]
    assert normalise_column(column(values), quirks).to_list() == expected


@given(st.lists(st.sampled_from(["a ", "an ", "x", "\\", " ", "$", "\n", "é"])).map("".join))
def test_articles_as_words_of_their_own(text):
    """polars' patterns do not look behind; Python's say what is meant."""
    expected = re.sub(r"(?<![\w\\])an? ", "", text).replace(" ", "").replace("$", "")
    assume(text.count("$") < 2 and "\\$" not in text and "\\ " not in text)
    assert normalise_answer(text, quirks=PaperQuirks(article_words=False)) == expected


@given(st.lists(st.sampled_from(["ft", "f", "t", ",", "+", "\\", "\n", "é"])).map("".join))
def test_feet_as_a_word_of_its_own(text):
    expected = re.sub(r"(?<![A-Za-z\\])ft(?![A-Za-z])", "", text)
    assert normalise_answer(text, quirks=PaperQuirks(ft_units=False)) == expected


@given(texts, st.sampled_from(ANSWER_KEYS), quirks)
def test_extracted_columns(values, key, quirks):
    assert extract_column(column(values), key).to_list() == [
        extract_answer(text, key) for text in values
    ]
    expected = [predict(text, key, quirks) for text in values]
    assert predict_column(column(values), key, quirks).to_list() == expected


@given(st.lists(st.lists(st.sampled_from(BOXES), max_size=14).map("".join), min_size=1))
def test_boxes(values):
    expected = [extract_answer(text, BOXED) for text in values]
    assert extract_column(column(values), BOXED).to_list() == expected


def test_boxes_are_read_without_a_loop(monkeypatch):
    """Down to three braces in a box; what is not closed is read text by text."""
    boxes = ["1", "\\frac{1}{2}", "\\{x^{2}\\}", "\\sqrt{\\frac{1}{x^{2}}}"]
    values = [f"First \\boxed{{0}}.\nSo \\boxed{{{box}}}." for box in boxes]
    monkeypatch.setattr(answers, "last_boxed", None)
    assert extract_column(column([*values, "none"]), BOXED).to_list() == [*boxes, ""]
    with pytest.raises(TypeError):
        extract_column(column(["\\boxed{1"]), BOXED)


@given(texts, st.lists(st.sampled_from(["Question", "Answer", "\n\n", "}", "$", "\\", ""])))
def test_cleaned_columns(values, stops):
    expected = [clean_response(text, stops) for text in values]
    assert clean_column(column(values), stops).to_list() == expected


def test_released_texts():
    """Every text and gold answer of the released files that the tests know."""
    gsm8k = [row["response"] for row in released(WEAK_OUTPUTS)]
    math, gold = [], []
    for name in ("full_weak", "iter1_icl", "iter2_icl"):
        gsm8k += [row["output"] for row in released(f"{GSM8K}/train_gsm8k_llama2_7b_{name}.json")]
    for name in ("weak", "icl", "hybrid"):
        rows = released(f"{MATH}/train_math_gemma_2b_iter1_{name}.json")
        math += [row["output"] for row in rows]
        gold += [row["gold"] for row in rows]
    for values, key in ((gsm8k, "####"), (math, "The answer is:"), (math, "\\boxed")):
        for how in (PAPER, NO_QUIRKS):
            expected = [predict(text, key, how) for text in values]
            assert predict_column(column(values), key, how).to_list() == expected
    for how in (PAPER, NO_QUIRKS):
        expected = [normalise_answer(text, quirks=how) for text in gold]
        assert normalise_column(column(gold), how).to_list() == expected


def test_a_lazy_table_is_read_as_a_whole_one():
    whole = generations([("s", str(i), 0, f"so\n#### {i % 7},000.") for i in range(1000)])
    lazy = read_answers(whole.lazy(), "####", ["Question"]).collect(engine="streaming")
    assert lazy.equals(read_answers(whole, "####", ["Question"]))
    assert lazy["prediction"][8] == "1000"


answer = st.sampled_from(["", "1", "2", "3"])


@given(
    st.lists(st.tuples(answer, st.lists(answer, min_size=1, max_size=6)), min_size=1, max_size=8),
    st.integers(1, 4),
    st.sampled_from([(0.0, 0.0), (0.5, 0.5), (0.5, 0.75), (0.6, 0.8)]),
    st.booleans(),
    st.randoms(),
)
def test_votes_and_pairs(asked, count, thresholds, weak_side, rng):
    """Some texts are the same, so that positives are left out; rows are in any order."""
    names = [f"q{number}" for number in range(len(asked))]
    rows = [
        (name, number, f"{number // 2}: {text}", text)
        for name, (_, answers) in zip(names, asked, strict=True)
        for number, text in enumerate(answers)
    ]
    rng.shuffle(rows)
    samples = table(SAMPLES, rows)
    votes = majority_vote(samples)
    assert votes.equals(plain_vote(samples))
    given_labels = {name: text for name, (text, _) in zip(names, asked, strict=True)}
    tables = labels(given_labels, "weak {answer}"), samples, votes, questions(names)
    settings = {
        "min_confidence": thresholds[0],
        "weak_rejected_confidence": thresholds[1],
        "pairs_per_question": count,
        "weak_side": weak_side,
    }
    expected = plain_pairs(*tables, **settings)
    if expected.is_empty():
        with pytest.raises(ValueError, match="no question gives a contrastive pair"):
            build_pairs(*tables, PairSettings(**settings))
        return
    weak, _, *others = tables
    for drawn in (samples, samples.lazy()):
        assert build_pairs(weak, drawn, *others, PairSettings(**settings)).equals(expected)


@pytest.mark.parametrize("count", [1, 3])
def test_draws_over_many_questions(count):
    rng = Random(0)
    names = [str(number) for number in range(3000)]
    rows = [
        (name, number, f"{name}-{number}", rng.choice(["1", "1", "1", "2", ""]))
        for name in names
        for number in range(10)
    ]
    samples = table(SAMPLES, rows)
    weak = labels((rng.choice("12") for _ in names), "weak")
    votes = majority_vote(samples)
    assert votes.equals(plain_vote(samples))
    made = (weak, samples, votes, questions(names))
    pairs = build_pairs(*made, PairSettings(pairs_per_question=count))
    assert pairs.equals(plain_pairs(*made, pairs_per_question=count))
    assert len(pairs) > 1000


@given(
    st.lists(
        st.lists(
            st.fixed_dictionaries(
                {
                    "id": st.text()
                    | st.integers(-5).map(str)
                    | st.sampled_from(["007", "٣", "1\n", "0", "9" * 4300, "9" * 4301]),
                    "prompt": st.text(),
                    "chosen": st.text(),
                    "rejected": st.text().map(" {}".format),
                }
            )
        )
    )
)
def test_rows_are_written_as_one_list(tmp_path_factory, batches):
    folder = tmp_path_factory.mktemp("json")
    tables = [pl.DataFrame(batch, schema=PAIRS) for batch in batches]
    write_json(
        [row for table in tables for row in export_llama_factory_pairs(table)], folder / "one"
    )
    write_json_rows(map(encode_llama_factory_pairs, tables), folder / "batches")
    assert (folder / "batches").read_bytes() == (folder / "one").read_bytes()


def test_a_lazy_table_is_written_the_same_each_time(tmp_path):
    whole = generations([("s", str(i), 0, "x" * (i % 50)) for i in range(250_000)])
    for name in ("one", "two"):
        write_table(whole.lazy(), GENERATIONS, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert pl.read_parquet(tmp_path / "one").equals(whole)
