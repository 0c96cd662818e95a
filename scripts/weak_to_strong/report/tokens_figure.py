"""Accuracy against tokens spent, as the numbers that the page of a comparison draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

#: Width and height in pixels, and the place of the axes in them: left, right, top, bottom.
WIDTH, HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 745, 15, 365
#: Right end of the place of models that took no tokens, which no logarithm has.
_ZERO = 110
#: Marks of the experiments, around (0, 0): circle, square, diamond. Colours come first.
_MARKS = (
    "M-4.5,0a4.5,4.5 0 1,0 9,0a4.5,4.5 0 1,0 -9,0Z",
    "M-4,-4H4V4H-4Z",
    "M0,-5.5L5.5,0L0,5.5L-5.5,0Z",
)
#: Number of colours in the page's style.
_COLOURS = 8


def mark_of(number: int) -> dict[str, Any]:
    """Colour (number of a class in the page's style) and path of an experiment's mark."""
    return {"colour": number % _COLOURS, "path": _MARKS[number // _COLOURS % len(_MARKS)]}


def tokens_figure(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Places of points and ticks. The horizontal axis is logarithmic, with a place for no tokens.

    Args:
        models: number, mark, tokens, accuracy, low and high (shares or None) of each model.

    Returns:
        `points` (the models with `x`, `y`, `y_low` and `y_high` in pixels), `x_ticks` and `y_ticks`
        (pairs of place and text), `zero` (place of no tokens, or None), and the axes' places.
    """
    spent = [model["tokens"] for model in models if model["tokens"] > 0]
    first = math.floor(math.log10(min(spent))) if spent else 0
    last = max(math.ceil(math.log10(max(spent))), first + 1) if spent else 1
    top = max((model["high"] or model["accuracy"] for model in models), default=1.0)
    top = min(1.0, max(0.1, math.ceil(top * 10 - 1e-9) / 10))

    def x_of(tokens: float) -> float:
        if tokens <= 0:
            return (_LEFT + _ZERO) / 2
        share = (math.log10(tokens) - first) / (last - first)
        return round(_ZERO + share * (_RIGHT - _ZERO), 1)

    def y_of(accuracy: float) -> float:
        return round(_BOTTOM - min(accuracy / top, 1.0) * (_BOTTOM - _TOP), 1)

    points = [
        {
            **model,
            "x": x_of(model["tokens"]),
            "y": y_of(model["accuracy"]),
            **{
                f"y_{end}": y_of(model["accuracy"] if model[end] is None else model[end])
                for end in ("low", "high")
            },
        }
        for model in models
    ]
    step = 0.1 if top > 0.3 else 0.05
    return {
        "points": points,
        "x_ticks": [
            (x_of(digit * 10**power), _count_text(digit, power))
            for power in range(first, last + 1)
            for digit in ((1, 2, 5) if last - first < 3 else (1,))
            if digit == 1 or power < last
        ],
        "y_ticks": [
            (y_of(tick * step), f"{100 * tick * step:.0f}") for tick in range(round(top / step) + 1)
        ],
        "zero": x_of(0) if len(spent) < len(models) else None,
        "axes": {"left": _LEFT, "right": _RIGHT, "top": _TOP, "bottom": _BOTTOM},
        "width": WIDTH,
        "height": HEIGHT,
    }


def _count_text(digit: int, power: int) -> str:
    """A digit times a power of ten as text: 1, 20, 500, 1k, ..., 1M, ..., 1G, ...; later "1e15"."""
    units = ("", "k", "M", "G", "T")
    thousands, rest = divmod(power, 3)
    if thousands >= len(units):
        return f"{digit}e{power}"
    return f"{digit * 10**rest}{units[thousands]}"
