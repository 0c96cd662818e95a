"""Intervals, paired tests and estimators over per-question results.

Arrays of results are (questions,) or (seeds, questions), with values in [0, 1] and the same
questions in the same order wherever two of them are compared. An interval is a (low, high) pair,
(nan, nan) where it is undefined.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

_CHUNK = 500


class Estimate(NamedTuple):
    """A value and its interval."""

    value: float
    low: float
    high: float


NOTHING = Estimate(math.nan, math.nan, math.nan)


def wilson_interval(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Score interval of a proportion (Wilson 1927).

    With p = successes/n and z the normal quantile of (1+level)/2:
    (p + z²/2n ± z·sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n).

    Raises:
        ValueError: successes are not within 0..n.
    """
    from scipy.stats import norm

    if not 0 <= successes <= n:
        raise ValueError(f"wilson_interval: {successes} successes of {n}")
    if n == 0:
        return math.nan, math.nan
    z, share = norm.ppf((1 + level) / 2), successes / n
    centre = share + z**2 / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    # Rounding must not push the end at 0 or 1 past the estimate.
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == n else (centre + half) / scale
    return float(low), float(high)


def clustered_wilson_interval(
    right: ArrayLike, clusters: ArrayLike, level: float = 0.95
) -> tuple[float, float]:
    """Score interval of a proportion whose cases come in clusters, such as pairs of one question.

    Wilson's interval of the effective number of cases (Korn and Graubard 1998): n divided by the
    ratio of the variance between clusters to that of independent cases. Cases that are all right,
    or all wrong, tell nothing of that ratio and count once for each cluster. With one case in each
    cluster it is Wilson's own.

    Args:
        right: (cases,) of 0 and 1.
        clusters: (cases,) names of their clusters.
    """
    values = np.asarray(right, dtype=np.float64)
    n = values.size
    if n == 0:
        return math.nan, math.nan
    _, places = np.unique(np.asarray(clusters), return_inverse=True)
    share = float(values.mean())
    if share in (0.0, 1.0):
        effective = float(places.max() + 1)
    else:
        between = float((np.bincount(places, weights=values - share) ** 2).sum())
        effective = n * min(1.0, n * share * (1 - share) / between) if between else float(n)
    return wilson_interval(share * effective, effective, level)


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided exact p-value of McNemar's test (McNemar 1947; exact binomial form).

    `b` and `c` count the questions that only the one and only the other model gets right. Under
    the null hypothesis min(b, c) follows Binomial(b + c, 1/2): p = min(1, 2·P(X <= min(b, c))).
    """
    from scipy.stats import binom

    if b < 0 or c < 0:
        raise ValueError(f"mcnemar_exact: negative counts {b}, {c}")
    return 1.0 if b + c == 0 else float(min(1.0, 2 * binom.cdf(min(b, c), b + c, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, in their order (Holm 1979).

    The i-th smallest of n, from 0, is multiplied by n - i, and is no smaller than the one before.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted


@lru_cache(maxsize=8)
def _resampling_counts(n: int, draws: int, seed: int) -> NDArray[np.uint16]:
    """How often each of `n` items stands in each bootstrap resample: (draws, n)."""
    rng = np.random.default_rng([seed, n])
    counts = np.empty((draws, n), dtype=np.uint16)
    for start in range(0, draws, _CHUNK):
        rows = min(_CHUNK, draws - start)
        picked = rng.integers(n, size=(rows, n)) + np.arange(rows)[:, None] * n
        counts[start : start + rows] = np.bincount(picked.ravel(), minlength=rows * n).reshape(
            rows, n
        )
    return counts


def _as_matrix(values: ArrayLike) -> NDArray[np.float64]:
    matrix = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if matrix.ndim != 2 or matrix.size == 0:
        raise ValueError(f"results of shape {np.shape(values)}: (seeds, questions) is due")
    return matrix


def bootstrap_means(
    *arrays: ArrayLike, seed: int = 0, draws: int = 10_000
) -> list[NDArray[np.float64]]:
    """Means of each array over the same bootstrap resamples, each (draws,).

    Questions are resampled, and independently of them seeds where there are several (two-way
    bootstrap, Owen 2007), so that an interval has both kinds of variation in it; of two or three
    seeds it knows too little of theirs, and is then too narrow where seeds differ much. All arrays
    see the same draws: differences and ratios of them are paired.

    Raises:
        ValueError: an array is empty, or the shapes differ.
    """
    matrices = [_as_matrix(values) for values in arrays]
    if len({matrix.shape for matrix in matrices}) != 1:
        shapes = [matrix.shape for matrix in matrices]
        raise ValueError(f"paired results differ in seeds or questions: {shapes}")
    seeds, questions = matrices[0].shape
    counts = _resampling_counts(questions, draws, seed)
    seed_counts = np.random.default_rng([seed, seeds, 1]).multinomial(
        seeds, np.full(seeds, 1 / seeds), size=draws
    )
    stacked = np.concatenate(matrices)
    means = [np.empty(draws) for _ in matrices]
    for start in range(0, draws, _CHUNK):
        part = slice(start, start + _CHUNK)
        by_seed = (counts[part].astype(np.float64) @ stacked.T).reshape(-1, len(matrices), seeds)
        weighted = np.einsum("das,ds->ad", by_seed, seed_counts[part]) / (seeds * questions)
        for mean, values in zip(means, weighted, strict=True):
            mean[part] = values
    return means


def _percentiles(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_mean_interval(
    values: ArrayLike, seed: int = 0, draws: int = 10_000, level: float = 0.95
) -> Estimate:
    """Mean with its percentile bootstrap interval (Efron 1979)."""
    (means,) = bootstrap_means(values, seed=seed, draws=draws)
    return Estimate(float(np.mean(_as_matrix(values))), *_percentiles(means, level))


def paired_bootstrap_difference(
    a: ArrayLike, b: ArrayLike, seed: int = 0, draws: int = 10_000, level: float = 0.95
) -> Estimate:
    """mean(a) - mean(b) on the same questions, with its percentile bootstrap interval."""
    first, second = bootstrap_means(a, b, seed=seed, draws=draws)
    value = float(np.mean(_as_matrix(a)) - np.mean(_as_matrix(b)))
    return Estimate(value, *_percentiles(first - second, level))


def pgr(
    model: ArrayLike,
    floor: ArrayLike,
    ceiling: ArrayLike,
    seed: int = 0,
    draws: int = 10_000,
    level: float = 0.95,
) -> Estimate:
    """Performance gap recovered: (model - floor) / (ceiling - floor) (Burns et al. 2023).

    Each name stands for its mean accuracy. All three are nan unless the ceiling lies above the
    floor: there is then no gap to recover. The percentile interval resamples the three jointly.
    A draw without a gap counts as infinite, on the side on which the model lies of the floor; where
    more than (1 - level)/2 of the draws are such, or an end of the interval falls among them, the
    ratio has no bounded interval, and it is (nan, nan).
    """
    means = [float(np.mean(_as_matrix(values))) for values in (model, floor, ceiling)]
    draws_of = bootstrap_means(model, floor, ceiling, seed=seed, draws=draws)
    gap = means[2] - means[1]
    if gap <= 0:
        return NOTHING
    value = (means[0] - means[1]) / gap
    gaps = draws_of[2] - draws_of[1]
    positive = gaps > 0
    recovered = draws_of[0] - draws_of[1]
    ratios = np.where(recovered < 0, -np.inf, np.inf)
    ratios[positive] = recovered[positive] / gaps[positive]
    # An end between a finite draw and an infinite one is not defined, which numpy says as nan.
    with np.errstate(invalid="ignore"):
        ends = _percentiles(ratios, level)
    bounded = np.mean(~positive) <= (1 - level) / 2 and all(map(math.isfinite, ends))
    return Estimate(value, *(ends if bounded else (math.nan, math.nan)))


def pass_at_k(n: int, c: ArrayLike, k: int) -> NDArray[np.float64]:
    """Unbiased estimate that one of k samples is right (Chen et al. 2021, section 2.1).

    1 - C(n-c, k) / C(n, k) for each question, as the product of (n-c-j)/(n-j) over j < k, which
    no n overflows.

    Args:
        n: samples a question.
        c: right samples of each question, (questions,).
        k: samples that may be tried, 1..n.

    Raises:
        ValueError: k is not within 1..n, or a count not within 0..n.
    """
    right = np.asarray(c, dtype=np.float64)
    if not 1 <= k <= n:
        raise ValueError(f"pass_at_k: k={k} of n={n} samples; evaluation.ks must lie in 1..n")
    if right.size and not (right.min() >= 0 and right.max() <= n):
        raise ValueError(f"pass_at_k: counts outside 0..{n}")
    failing = np.ones_like(right)
    for j in range(k):
        failing *= np.maximum(n - right - j, 0) / (n - j)
    return 1 - failing


def independent_difference(a: Estimate, b: Estimate) -> Estimate:
    """a - b of two independent estimates, from the interval of each (Newcombe 1998, method 10).

    With Wilson intervals this is Newcombe's interval for a difference of proportions; it also holds
    for other intervals (Zou and Donner 2008). (nan, nan) where one of them is undefined.
    """
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    return Estimate(value, low, high)
