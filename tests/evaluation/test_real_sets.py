"""Intervals and inequalities: the same set of numbers, and never another one."""

from __future__ import annotations

import pytest

from weak_to_strong.evaluation.math_verify_worker import compare, read_value
from weak_to_strong.evaluation.real_sets import read_set

RIGHT = [
    *[("[-2,7]", r"-2 \leq x \leq 7"), (r"-2 \leq x \leq 7", "[-2,7]"), ("[-2,7]", r"x\in[-2, 7]")],
    *[("(2,5)", "2<x<5"), ("2<x<5", "(2,5)"), ("(2,5)", "x>2 and x<5"), ("(2,5)", "5>x>2")],
    *[(r"[3,\infty)", "x>=3"), (r"[3, +\infty)", "3 <= x"), (r"(-\infty,3)", "x<3")],
    *[(r"[3,\infty)", "x ≥ 3"), (r"[-1, 1]", r"-1 \leqslant x \leqslant 1"), ("]2,5[", "2<x<5")],
    (r"(-\infty,1)\cup(5,\infty)", r"x<1 \text{ or } x>5"),
    (r"(-\infty, 1) U (5, \infty)", "x < 1 or x > 5"),
    (r"x \neq 3", r"(-\infty,3)\cup(3,\infty)"),
    (r"\mathbb{R}\setminus\{3\}", r"x \ne 3"),
    (r"(0,1)\cup(1,2)", r"0<x<2, x\neq 1"),
    *[(r"(-\infty,\infty)", text) for text in (r"\mathbb{R}", r"x \in \mathbb{R}")],
    (r"(-\infty,\infty)", "all real numbers"),
    (r"[\frac{1}{2}, 3)", r"0.5 \le x < 3"),
    (r"[0,\sqrt{2}]", r"0\le t\le\sqrt2"),
    (r"(\pi, 2\pi)", r"\pi<\theta<2\pi"),
    *[(r"\{x \mid 2<x<5\}", "(2,5)"), (r"\{x : x>3\}", r"(3,\infty)"), ("0<f(x)<1", "(0,1)")],
    *[("|x|<2", "(-2,2)"), (r"(-\infty, -2] \cup [2, \infty)", r"|x| \ge 2")],
    (r"(-\infty, 5]", "The solution is x <= 5."),
]
WRONG = [
    *[("[2,5]", "2<x<5"), ("(2,5]", "2<x<5"), ("(2,5)", r"2 \le x \le 5"), ("(2,5)", "2<x<6")],
    *[(r"(3,\infty)", "x>=3"), (r"[3,\infty)", "x>3"), (r"[3,\infty)", "x<=3")],
    *[(r"(-\infty,1)\cup(5,\infty)", "1<x<5"), ("|x|>2", "(-2,2)"), ("x>3", "y>3")],
    *[("3", "x>3"), ("x>3", "3"), ("x=3", "x>3"), ("2", r"x\leq 2"), ("(2,5)", "x=2")],
    *[(r"(0.333,1)", r"\frac13<x<1"), ("1<x<2", "1<y<2"), ("[2,5]", "[2,5)"), ("(1,2)", "(2,1)")],
]


@pytest.mark.parametrize(("gold", "prediction"), RIGHT)
def test_the_same_set(gold, prediction):
    assert compare(gold, prediction) == "right"


@pytest.mark.parametrize(("gold", "prediction"), WRONG)
def test_another_set(gold, prediction):
    assert compare(gold, prediction) == "wrong"


@pytest.mark.parametrize("text", ["5", "a<b<c", "x<y", "1<x>0", "1 or 2", "x+1>2", "x<1, x>5", ""])
def test_no_set_of_numbers(text):
    assert read_set(text, read_value) is None


@pytest.mark.parametrize("end", [r"\infty-\infty", r"\sin(\infty)", r"\sqrt{-1}", "1/0"])
def test_ends_without_a_place_in_the_order(end):
    assert read_set(f"(2,{end})", read_value) is None
    assert read_set(rf"x<2 \cup x \ge {end}", read_value) is None
