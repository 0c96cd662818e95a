"""Times of the day and dates in their several forms."""

from __future__ import annotations

import pytest

from weak_to_strong.evaluation.times import time_verdict


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        ("9:30 pm", "21:30", "right"),
        ("9 am", "9:00 a.m.", "right"),
        ("9:30", "9:30 pm", "right"),
        ("noon", "12 pm", "right"),
        ("midnight", "0:00", "right"),
        ("12:30:15", "12:30:15", "right"),
        ("9 am", "9 pm", "wrong"),
        ("9:30 am", "21:30", "wrong"),
        ("12 am", "12 pm", "wrong"),
        ("12:30:15", "12:30:16", "wrong"),
        ("9:30", "21:30", "undecided"),
        ("9", "9", None),
        ("3:75", "3:75", None),
        ("January 15", "15th of Jan.", "right"),
        ("2024-01-15", "Monday, January 15, 2024", "right"),
        ("15/1/2024", "January 15, 2024", "right"),
        ("July 1776", "July 1776", "right"),
        ("January 15", "January 15, 2024", "right"),
        ("January 15", "February 15", "wrong"),
        ("2024-01-15", "2024-15-01", "wrong"),
        ("2/1/2024", "4/2/2024", "wrong"),
        ("2024-01-15", "2008", "wrong"),
        ("1/2/2024", "2/1/2024", "undecided"),
        ("1/2/2024", "January 2, 2024", "undecided"),
        ("January 15", "15", None),
        ("10/12", "12/10", None),
    ],
)
def test_times(one, other, verdict):
    assert time_verdict(one, other) == time_verdict(other, one) == verdict
