"""Intervals, paired tests and estimators over the results of single questions.

Arrays of results have the shape (questions,) or (seeds, questions) and values in [0, 1]. Arrays
that are compared have the same questions in the same order. An interval is a pair (low, high); an
undefined one is (nan, nan).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Resamples that are drawn and counted at once; bounds the memory.
_CHUNK = 500


class IntervalEstimate(NamedTuple):
    """A value and the interval around it."""

    value: float
    low: float
    high: float


UNDEFINED = IntervalEstimate(math.nan, math.nan, math.nan)


def wilson_interval(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927).

    With p = successes/n and z the normal quantile of (1+level)/2:
    (p + z²/2n ± z·sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n).

    Args:
        successes: number of successes, or a sum of shares.
        n: number of trials.
        level: of confidence, in (0, 1).

    Returns:
        Ends of the interval, in [0, 1]; nan without a trial.

    Raises:
        ValueError: `successes` is not within 0..n.
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
    # With rounding errors, an end at 0 or 1 could lie on the wrong side of the proportion.
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == n else (centre + half) / scale
    return float(low), float(high)


def clustered_wilson_interval(
    right: ArrayLike, clusters: ArrayLike, level: float = 0.95
) -> tuple[float, float]:
    """Wilson's interval of a proportion whose cases come in clusters, such as pairs of a question.

    The number of cases is replaced by an effective number (Korn and Graubard 1998): n divided by
    the ratio of the variance between clusters to the variance of independent cases. Where all cases
    are right, or all wrong, the ratio is unknown, and each cluster counts as one case. Clusters of
    one case each give `wilson_interval`.

    Args:
        right: shape (cases,), values 0 and 1.
        clusters: shape (cases,), the name of each case's cluster.
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

    Under the null hypothesis X = min(b, c) follows Binomial(b + c, 1/2), so that
    p = min(1, 2·P(X <= min(b, c))).

    Args:
        b: number of questions that only the first model gets right.
        c: number of questions that only the second model gets right.

    Raises:
        ValueError: a count is negative.
    """
    from scipy.stats import binom

    if b < 0 or c < 0:
        raise ValueError(f"mcnemar_exact: negative counts {b}, {c}")
    return 1.0 if b + c == 0 else float(min(1.0, 2 * binom.cdf(min(b, c), b + c, 0.5)))


def sign_flip_exact(differences: ArrayLike) -> float:
    """Two-sided exact p of paired differences over several seeds (Fisher's randomisation test).

    Under the null hypothesis the two models are exchangeable on each question: its difference, over
    all seeds at once, is as likely to have the other sign. p is the share of all sign patterns
    whose sum is at least as far from 0 as the observed one. With one seed it is `mcnemar_exact`.
    It says of the trained models, not of new seeds: only questions are drawn anew.

    Args:
        differences: of each question, the seeds on which only the first model is right less those
            on which only the second one is. Whole numbers, shape (questions,).

    Raises:
        ValueError: a difference is not a whole number.
    """
    from scipy.stats import binom

    values = np.asarray(differences, dtype=np.float64)
    if not np.array_equal(values, np.rint(values)):
        raise ValueError("sign_flip_exact: differences that are no whole numbers")
    sums = np.ones(1)
    sizes, counts = np.unique(np.abs(values[values != 0]).astype(int), return_counts=True)
    for size, count in zip(sizes, counts, strict=True):
        of_size = np.zeros(2 * size * count + 1)
        of_size[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
        sums = np.convolve(sums, of_size)
    distances = np.abs(np.arange(len(sums)) - len(sums) // 2)
    return float(min(1.0, sums[distances >= abs(values.sum())].sum()))


def mcnemar_power(n: int, discordant: float, difference: float, alpha: float = 0.05) -> float:
    """Power of the two-sided `mcnemar_exact` test at level alpha (Duffy 1984, the exact power).

    The number m of discordant questions follows Binomial(n, share), and the number that the first
    model wins follows Binomial(m, (1 + difference/share)/2). The power is the sum, over both, of
    the probabilities of the counts that the test rejects.

    Args:
        n: number of questions.
        discordant: share of questions that one model alone gets right, in [0, 1].
        difference: of the two accuracies, in [0, 1]. Where it is above `discordant`, the share is
            the difference: one model wins all discordant questions.
        alpha: level of the test.
    """
    from scipy.stats import binom

    share = max(discordant, difference)
    if share == 0:
        return 0.0
    low, high = binom.ppf([1e-12, 1 - 1e-12], n, share)
    sizes = np.arange(low, high + 1)
    # The test rejects counts of up to `critical` wins, or losses: the largest with 2·P <= alpha.
    critical = binom.ppf(alpha / 2, sizes, 0.5)
    critical -= 2 * binom.cdf(critical, sizes, 0.5) > alpha
    wins = (1 + difference / share) / 2
    rejected = binom.cdf(critical, sizes, wins) + binom.cdf(critical, sizes, 1 - wins)
    return float(binom.pmf(sizes, n, share) @ rejected)


@lru_cache(maxsize=1024)
def mcnemar_detectable(n: int, discordant: int, power: float = 0.8, alpha: float = 0.05) -> float:
    """Minimum detectable difference: the one at which `mcnemar_power` reaches `power`.

    The observed share of discordant questions stands for the true one. That is the only
    approximation: the sum is exact for the discrete test, whose true level is below alpha.

    Args:
        n: number of questions.
        discordant: number of questions that one model alone gets right.
        power: probability with which the difference would be found.
        alpha: level of the test.

    Returns:
        A difference of accuracies in (0, 1]; nan where n is too small for the test to reject.
    """
    from scipy.optimize import brentq

    def missing(difference: float) -> float:
        return mcnemar_power(n, discordant / n, difference, alpha) - power

    return float(brentq(missing, 0, 1, xtol=1e-9)) if n and missing(1) >= 0 else math.nan


def interval_detectable(low: float, high: float, power: float = 0.8, level: float = 0.95) -> float:
    """Minimum detectable effect of an estimate that is judged by its interval (Bloom 1995).

    With the normal quantiles z, and the standard error s = (high - low) / (2·z(level)) that the
    interval implies, it is (z((1+level)/2) + z(power))·s: 2.8·s for the usual levels. The estimate
    is taken to be normal, and s to be known. Few seeds make s uncertain.

    Args:
        low: lower end of the interval.
        high: its upper end, in the same unit.
        power: share of runs that would show the effect, in (0, 1).
        level: of confidence of the interval, in (0, 1).

    Returns:
        The effect in the unit of the interval; nan where that is undefined or has no width.
    """
    from scipy.stats import norm

    width = high - low
    if not width > 0:
        return math.nan
    z = norm.ppf((1 + level) / 2)
    return float((z + norm.ppf(power)) * width / (2 * z))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for the number of tests, in the given order (Holm 1979).

    The smallest of n p-values is multiplied by n, the next by n - 1, and so on. A corrected value
    is at most 1 and never smaller than the one before it.
    """
    adjusted, previous = [0.0] * len(p_values), 0.0
    ascending = sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, index in enumerate(ascending):
        factor = len(p_values) - rank
        previous = max(previous, min(1.0, factor * p_values[index]))
        adjusted[index] = previous
    return adjusted


@lru_cache(maxsize=8)
def _resampling_counts(n: int, draws: int, seed: int) -> NDArray[np.uint16]:
    """How often each of `n` items occurs in each bootstrap resample. Shape: (draws, n)."""
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
        raise ValueError(f"results of shape {np.shape(values)}; expected (seeds, questions)")
    return matrix


def bootstrap_means(
    *arrays: ArrayLike, seed: int = 0, draws: int = 10_000
) -> list[NDArray[np.float64]]:
    """Means of each array over the same bootstrap resamples. Shape of each result: (draws,).

    Questions are resampled. Where there are several seeds, they are resampled too, independently
    of the questions (two-way bootstrap, Owen 2007), so that an interval covers both kinds of
    variation. With two or three seeds the interval is too narrow where seeds differ much. All
    arrays use the same resamples, so differences and ratios of the results are paired.

    Args:
        arrays: results of the same seeds and questions.
        seed: of the resampling.
        draws: number of resamples.

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
) -> IntervalEstimate:
    """Mean and its percentile bootstrap interval (Efron 1979).

    Args:
        values: results, of shape (questions,) or (seeds, questions), in [0, 1].
        seed: of the resampling.
        draws: number of resamples.
        level: of confidence, in (0, 1).

    Raises:
        ValueError: the array is empty.
    """
    (means,) = bootstrap_means(values, seed=seed, draws=draws)
    return IntervalEstimate(float(np.mean(_as_matrix(values))), *_percentiles(means, level))


def paired_bootstrap_difference(
    a: ArrayLike, b: ArrayLike, seed: int = 0, draws: int = 10_000, level: float = 0.95
) -> IntervalEstimate:
    """mean(a) - mean(b) on the same questions, and its percentile bootstrap interval (Efron 1979).

    Args:
        a: results, of shape (questions,) or (seeds, questions), in [0, 1].
        b: results of the same seeds and questions.
        seed: of the resampling.
        draws: number of resamples.
        level: of confidence, in (0, 1).

    Raises:
        ValueError: an array is empty, or the shapes differ.
    """
    first, second = bootstrap_means(a, b, seed=seed, draws=draws)
    value = float(np.mean(_as_matrix(a)) - np.mean(_as_matrix(b)))
    return IntervalEstimate(value, *_percentiles(first - second, level))


def pgr(
    model: ArrayLike,
    floor: ArrayLike,
    ceiling: ArrayLike,
    seed: int = 0,
    draws: int = 10_000,
    level: float = 0.95,
) -> IntervalEstimate:
    """Performance gap recovered: (model - floor) / (ceiling - floor) (Burns et al. 2023).

    Each name stands for its mean accuracy. Without a gap (the ceiling is not above the floor) the
    value is nan. The percentile interval resamples the three jointly. A resample without a gap
    counts as plus infinity, or as minus infinity where the model lies below the floor. The interval
    is (nan, nan) where more than (1 - level)/2 of the resamples have no gap, or where one of its
    ends is infinite.

    Args:
        model: results, of shape (questions,) or (seeds, questions), in [0, 1].
        floor: results of the weak model on the same seeds and questions.
        ceiling: those of the strong model tuned on gold.
        seed: of the resampling.
        draws: number of resamples.
        level: of confidence, in (0, 1).

    Raises:
        ValueError: an array is empty, or the shapes differ.
    """
    mean_model, mean_floor, mean_ceiling = (
        float(np.mean(_as_matrix(values))) for values in (model, floor, ceiling)
    )
    models, floors, ceilings = bootstrap_means(model, floor, ceiling, seed=seed, draws=draws)
    gap = mean_ceiling - mean_floor
    if gap <= 0:
        return UNDEFINED
    value = (mean_model - mean_floor) / gap
    gaps = ceilings - floors
    positive = gaps > 0
    recovered = models - floors
    ratios = np.where(recovered < 0, -np.inf, np.inf)
    ratios[positive] = recovered[positive] / gaps[positive]
    # numpy gives nan for an end between a finite and an infinite ratio, and warns.
    with np.errstate(invalid="ignore"):
        ends = _percentiles(ratios, level)
    bounded = np.mean(~positive) <= (1 - level) / 2 and all(map(math.isfinite, ends))
    return IntervalEstimate(value, *(ends if bounded else (math.nan, math.nan)))


def pass_at_k(n: int, c: ArrayLike, k: int) -> NDArray[np.float64]:
    """Unbiased estimate that at least one of k samples is right (Chen et al. 2021, section 2.1).

    It is 1 - C(n-c, k) / C(n, k), computed as a product of (n-c-j)/(n-j) over j < k, which does not
    overflow.

    Args:
        n: number of samples of each question.
        c: number of right samples of each question. Shape: (questions,).
        k: number of samples that may be tried, 1..n.

    Returns:
        The estimate for each question. Shape: (questions,).

    Raises:
        ValueError: k is not within 1..n, or a count is not within 0..n.
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


def independent_difference(a: IntervalEstimate, b: IntervalEstimate) -> IntervalEstimate:
    """a - b of two independent estimates, with an interval from both intervals.

    With Wilson intervals this is Newcombe's method 10 for a difference of proportions (Newcombe
    1998). It also holds for other intervals (Zou and Donner 2008). It is (nan, nan) where one of
    the intervals is undefined.
    """
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    return IntervalEstimate(value, low, high)
