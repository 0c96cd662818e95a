from __future__ import annotations

import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quirks import NO_QUIRKS
from released_data import GSM8K, MATH, WEAK_OUTPUTS, released

from weak_to_strong.method import answers
from weak_to_strong.method.answer_keys import ANSWER_KEYS
from weak_to_strong.method.answers import (
    PaperQuirks,
    extract_answer,
    normalise_answer,
    predict,
    predict_column,
)

SPOKEN = "The answer is:"


@pytest.mark.parametrize(
    ("response", "key", "raw"),
    [
        ("2*3=6\n#### 6", "####", "6"),
        ("#### 5\n#### 6\n", "####", "6"),
        ("#### 6\nso it is", "####", ""),  # the key is not on the last line
        ("####6", "####", ""),
        ("so\n####", "####", ""),
        ("#### 6 Question: 2\n#### 7", "####", "6"),
        ("#### 1 and #### 2", "####", "1 and #### 2"),
        (f"So 6. {SPOKEN} $6$ {SPOKEN} 6", SPOKEN, f"$6$ {SPOKEN} 6"),
        ("Hence. The answer is $-1,234.50$ or 3", SPOKEN, "-1234.50"),
        ("The answer is unclear. The answer is .5", "####", ".5"),
        ("There are 12", SPOKEN, ""),
        ("", "####", ""),
    ],
)
def test_extract_answer(response, key, raw):
    assert extract_answer(response, key) == raw


def test_unknown_answer_key_is_refused():
    with pytest.raises(ValueError, match="answer_key 'Answer:' is not one of"):
        extract_answer("Answer: 6", "Answer:")


@pytest.mark.parametrize(
    ("raw", "normalised"),
    [
        ("33,040", "33040"),
        ("-$1850", "-1850"),
        ("1 hour, 45 minutes", "1hour,45"),
        ("27 1/2", "271/2"),
        ("7.00", "7"),
        ("7.50", "7.50"),
        ("75\\%", "75"),
        ("6.25\\%", "6.25%"),
        ("E", "e"),
        ("\\text{B}", "b"),
        ("\\text{(B)}", "(B)"),
        ("Z", "Z"),
        ("60^\\circ", "60"),
        ("144\\text{ m}^3", "144"),
        ("5,\\!040", "5040"),
        ("$\\boxed{\\frac{3}{2}}$ The answer is: 3/2", "\\frac{3}{2}"),
        ("\\frac14", "\\frac{1}{4}"),
        ("-\\frac{11}4", "-\\frac{11}4"),
        ("2\\sqrt3", "2\\sqrt{3}"),
        ("\\textbf{12}", "12"),
    ],
)
def test_normalise_answer(raw, normalised):
    assert normalise_answer(raw) == normalised


@pytest.mark.parametrize(
    ("quirk", "raw", "on", "off"),
    [
        ("ft_units", "(-\\infty, 5)", "(-\\iny,5)", "(-\\infty,5)"),
        ("ft_units", "12 ft", "12", "12"),
        ("article_words", "\\tan A", "\\tA", "\\tanA"),
        ("article_words", "a dozen", "dozen", "dozen"),
        ("last_equals", "5x + 4y - 6 = 0", "0", "5x+4y-6=0"),
        ("last_equals", "$x = 5$", "5", "5"),
        ("dfrac_distinct", "\\dfrac{1}{2}", "\\dfrac{1}{2}", "\\frac{1}{2}"),
        ("joined_lists", "1, 2", "12", "1,2"),
        ("joined_lists", "-615,000", "-615,000", "-615000"),
        ("joined_lists", "1,336,000", "1336000", "1336000"),
        ("root_index", "\\sqrt[3]{2}", "\\sqrt{[}3]{2}", "\\sqrt[3]{2}"),
        ("row_breaks", "1 \\\\ 0", "1\\0", "1\\\\0"),
    ],
)
def test_each_quirk_can_be_turned_off(quirk, raw, on, off):
    assert normalise_answer(raw) == on
    assert normalise_answer(raw, quirks=PaperQuirks(**{quirk: False})) == off


def test_quirks_reach_predictions():
    quirks = PaperQuirks(joined_lists=False)
    responses = pl.Series(["#### 1, 2"])
    assert predict(responses[0], "####", quirks) == "1,2"
    assert predict_column(responses, "####", quirks).to_list() == ["1,2"]


latex = st.lists(
    st.sampled_from(["\\text{", "\\boxed{", "}", "$", "\n", "{", "a", "1", "\\textbf{"])
).map("".join)


@given(latex)
def test_linear_rewriting_equals_the_lazy_patterns(text):
    assert answers._unwrap(text, "\\text{") == re.sub(r"\\text\{(.*?)\}", r"\1", text)
    line = text.replace("\n", " ")
    assert answers._unwrap_boxed(line) == re.sub(r"\\boxed\{(.*)\}", r"\1", line)
    assert answers._keep_first_formula(line) == re.sub(r".*?\$(.*?)\$.*", r"$\1$", line)


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("quirks", [PaperQuirks(), NO_QUIRKS])
@pytest.mark.parametrize(
    "unit",
    ["\\text{", "\\text{\n", "$", "\\boxed{", "1", "1,", "-", " ", "x = ", "frac", "a ", "x"],
)
def test_a_megabyte_of_repetition_ends(unit, quirks):
    """Quadratic patterns would need hours here."""
    text = unit * (1_000_000 // len(unit))
    for end in ("", "}", "="):
        normalise_answer(text + end, quirks=quirks)
    for key in ANSWER_KEYS:
        predict(f"The answer is {text}", key)
        predict(f"{key} {text}\n{text}", key)


@given(st.lists(st.sampled_from(["#### 1", "#### 1.0", "no", ""])))
def test_predict_column_equals_predict(texts):
    column = predict_column(pl.Series("text", texts, dtype=pl.String), "####")
    assert column.to_list() == [predict(text, "####") for text in texts]
    assert (column.name, column.dtype) == ("prediction", pl.String)


def test_released_gsm8k_predictions_and_results():
    rows = released(WEAK_OUTPUTS)
    predictions = predict_column(pl.Series([row["response"] for row in rows]), "####").to_list()
    assert predictions == [row["pred"] for row in rows]
    gold = [normalise_answer(row["gold"]) for row in rows]
    right = [ours == theirs for ours, theirs in zip(predictions, gold, strict=True)]
    assert right == [row["result"] for row in rows]
    assert (len(rows), sum(right), predictions.count("")) == (7000, 2896, 94)


@pytest.mark.parametrize("side", ["weak", "icl"])
def test_released_math_predictions(side):
    rows = released(f"{MATH}/train_math_gemma_2b_iter1_{side}.json")
    assert [predict(row["output"], SPOKEN) for row in rows] == [row["pred"] for row in rows]


@pytest.mark.parametrize(
    ("stem", "key", "count"),
    [
        (f"{MATH}/train_math_gemma_2b_iter1_{{}}_wo_aug.json", SPOKEN, 448),
        (f"{GSM8K}/train_gsm8k_gemma_2b_iter1_{{}}.json", "####", 2177),
        (f"{GSM8K}/train_gsm8k_llama2_7b_iter2_{{}}.json", "####", 4022),
    ],
)
def test_released_kept_rows_agree(stem, key, count):
    weak, icl = (
        [(row["id"], predict(row["output"], key)) for row in released(stem.format(side))]
        for side in ("weak", "icl")
    )
    assert weak == icl
    assert len(weak) == count
