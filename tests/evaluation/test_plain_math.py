"""Verdicts without math-verify: never another one than an exact comparison gives."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weak_to_strong.evaluation.plain_math import (
    approximate,
    certainly_differ,
    parse_fraction,
    plain_verdict,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-2/3", Fraction(-2, 3)),
        (r"\frac{4}{6}", Fraction(2, 3)),
        (r"-\dfrac{-1}{2}", Fraction(1, 2)),
        (r"\tfrac12", Fraction(1, 2)),
        ("1/0", None),
        (r"\frac123", None),
        ("1/2/3", None),
        ("7", None),
    ],
)
def test_parse_fraction(text, value):
    assert parse_fraction(text) == value


@pytest.mark.parametrize(
    ("latex", "value"),
    [
        ("-1.5", -1.5),
        (r"2\sqrt{3}", 2 * math.sqrt(3)),
        (r"\sqrt[3]{8}+1", 3),
        (r"\frac{\sqrt2}{2}", math.sqrt(2) / 2),
        (r"\frac{3\pi}{4}", 0.75 * math.pi),
        (r"80 - 20\pi", 80 - 20 * math.pi),
        ("-2^2", -4),
        ("2^{-1}", 0.5),
        (r"\left(1+\frac12\right)2^3", None),  # a number after a bracket: read it otherwise
        ("(1+2)(3+4)", 21),
        (r"3 \cdot 4 \times 5", 60),
        ("i^2", -1),
        (r"\sin^2 x + \cos^2 x", 1),
        (r"\tan\left(\frac{\pi}{4}\right)", 1),
    ],
)
def test_approximate(latex, value):
    assert approximate(latex) == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    "latex",
    [
        r"2\frac14",  # a mixed number
        r"1/2\pi",
        "2^10",
        "2^3^4",
        "1 2",
        "ab",
        "5m",
        "x = 5",
        r"50\%",
        r"\sin 2x",
        r"\sin x^2",
        r"\sin^{-1} x",
        r"\sin x / 2",
        r"\log 8",
        r"\pm 3",
        r"\text{no}",
        "5!",
        "1e5",
        "10^{12}",
        r"\sqrt{-1}",
        r"\frac{1}{0}",
        "9^{9^{9}}",
        "(" * 5000,
        "",
        "3)",
        "٣",
    ],
)
def test_what_is_not_plain_has_no_value(latex):
    assert approximate(latex) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("(1,2)", "(1,3)"),
        ("[1,2)", r"\left[1,\frac{5}{2}\right)"),
        ("1,2", "1,2,3"),
        (r"(-\infty,3)", r"(3,\infty)"),
        ("x^2-5x-24", "x^2+5x-24"),
        ("A,C", "B,C"),
        ("3y", "108"),
        ("6-5i", "6+5i"),
        (r"(-\infty,1)\cup[2,\infty)", r"(-\infty,1)\cup[3,\infty)"),
        (r"\{-1\}\cup[0,7)", "[0,7)"),
        (r"2\cos^4 \theta", r"\frac{63}{128}"),
        (r"\sin x \cos x", r"\sin x"),
    ],
)
def test_certainly_different(one, other):
    assert certainly_differ(one, other)
    assert certainly_differ(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("(1,2)", "2,1"),
        (r"\{1,2\}", "1,2"),
        ("(x-1)(x+1)", "x^2-1"),
        ("0.333333", r"\frac13"),
        ("X", "x"),
        ("3", "3\\text{ cm}"),
        ("3", "x=3"),
        ("no", "on"),
        (r"(1,2]\cup(2,3)", "(1,3)"),
        (r"(1,5)\cup(2,3)", "(1,5)"),
        (r"1-\sin^2 x", r"\cos^2 x"),
        (r"\infty", r"+\infty"),
    ],
)
def test_not_certainly_different(one, other):
    assert not certainly_differ(one, other)


@pytest.mark.parametrize(
    ("prediction", "gold", "verdict"),
    [
        ("1/2", "0.5", "right"),
        (r"\frac{2}{4}", r"\frac12", "right"),
        (r"\frac13", "0.333333", "right"),  # rounded to at least four digits
        (r"\frac13", "0.33", "wrong"),
        (r"50\%", "50", "right"),
        (r"50\%", r"\frac12", "right"),
        (r"50\%", "5", "wrong"),
        (r"6.25\%", "6.25", "right"),
        (r"90^\circ", "90", "right"),
        (r"90^{\circ}", r"45^\circ", "wrong"),
        ("x = 5", "5", "right"),
        ("x=5", "y=5", None),
        ("x+2=5", "5", None),
        ("f(x) = 2", "3", "wrong"),
        (r"\text{Monday}", "monday", "right"),
        ("east", r"\text{west}", "wrong"),
        ("even", "neve", "wrong"),
        ("(B)", r"\text{(C)}", "wrong"),
        ("infinity", r"\infty", None),
        ("abc", "cba", None),
        ("23", r"23\sqrt{3}", "wrong"),
        (r"5\text{ cm}", "5", "right"),
        (r"5\text{ cm}", "6", "wrong"),
        (r"5\text{ cm}", r"5\text{ m}", "wrong"),
        (r"5\text{ or more}", "5", None),
        (r"\frac{1}{2}\text{ cm}^2", "0.5", "right"),
        ("7days", "7", "right"),
        ("7days", "8", "wrong"),
        ("5 million", "6", "wrong"),
    ],
)
def test_plain_verdict(prediction, gold, verdict):
    assert plain_verdict(prediction, gold) == verdict
    assert plain_verdict(gold, prediction) == verdict


numbers = st.integers(-20, 20)
terms = st.recursive(
    st.integers(0, 20).map(lambda number: (str(number), Fraction(number))),
    lambda part: st.one_of(
        st.tuples(part, part).map(lambda p: (f"({p[0][0]}+{p[1][0]})", p[0][1] + p[1][1])),
        st.tuples(part, part).map(lambda p: (f"({p[0][0]})({p[1][0]})", p[0][1] * p[1][1])),
        st.tuples(part, numbers.filter(bool)).map(
            lambda p: (rf"\frac{{{p[0][0]}}}{{{p[1]}}}", p[0][1] / p[1])
        ),
        st.tuples(part, st.integers(0, 3)).map(lambda p: (f"({p[0][0]})^{p[1]}", p[0][1] ** p[1])),
    ),
    max_leaves=5,
)


@given(terms, terms)
def test_only_different_numbers_certainly_differ(one, other):
    """Against exact arithmetic."""
    value = approximate(one[0])
    assert value is None or math.isclose(value, one[1], rel_tol=1e-9, abs_tol=1e-9)
    if one[1] == other[1]:
        assert not certainly_differ(one[0], other[0])


@pytest.mark.parametrize(
    ("prediction", "gold", "verdict"),
    [
        ("Yes, it is", "Yes", "right"),
        ("Yes, it is", "No", "wrong"),
        ("True, as 5 is odd", r"\text{True}", "right"),
        ("Yes, but no", "Yes", None),
        ("There are no solutions", "no solution", "right"),
        ("no real solutions", "no solution", "wrong"),
        (r"\{0,1\}", "(0,1)", "wrong"),
        ("(1,2,3)", r"\left\{1,2,3\right\}", "wrong"),
    ],
)
def test_words_and_brackets(prediction, gold, verdict):
    assert plain_verdict(prediction, gold) == verdict
    assert plain_verdict(gold, prediction) == verdict
