"""Estimators against closed forms, brute force and stated properties."""

from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weak_to_strong.evaluation import stats
from weak_to_strong.evaluation.stats import (
    bootstrap_mean_interval,
    bootstrap_means,
    clustered_wilson_interval,
    holm,
    interval_detectable,
    mcnemar_detectable,
    mcnemar_exact,
    mcnemar_power,
    paired_bootstrap_difference,
    pass_at_k,
    pgr,
    sign_flip_exact,
    wilson_interval,
)

RNG = np.random.default_rng(7)
FLOOR = (RNG.random(400) < 0.3).astype(float)
CEILING = (RNG.random(400) < 0.7).astype(float)


class TestWilson:
    def test_textbook_values(self):
        assert wilson_interval(10, 20) == pytest.approx((0.29930, 0.70070), abs=1e-5)
        assert wilson_interval(0, 10) == pytest.approx((0.0, 0.27753), abs=1e-5)

    @given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
    def test_holds_the_estimate_within_the_unit_interval(self, case):
        successes, n = case
        low, high = wilson_interval(successes, n)
        assert 0 <= low <= successes / n <= high <= 1

    def test_edges(self):
        assert all(map(math.isnan, wilson_interval(0, 0)))
        with pytest.raises(ValueError, match="3 successes of 2"):
            wilson_interval(3, 2)


class TestMcNemar:
    @pytest.mark.parametrize(
        ("b", "c", "p"), [(0, 0, 1.0), (5, 5, 1.0), (0, 5, 0.0625), (1, 9, 0.021484375)]
    )
    def test_exact_values(self, b, c, p):
        assert mcnemar_exact(b, c) == pytest.approx(p)
        assert mcnemar_exact(c, b) == mcnemar_exact(b, c)


class TestSignFlip:
    @given(st.lists(st.integers(-3, 3), max_size=10))
    def test_it_is_the_share_of_all_sign_patterns(self, differences):
        sums = [
            sum(sign * value for sign, value in zip(signs, differences, strict=True))
            for signs in product((1, -1), repeat=len(differences))
        ]
        p = np.mean([abs(total) >= abs(sum(differences)) for total in sums])
        assert sign_flip_exact(differences) == pytest.approx(p)

    @given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 10))
    def test_of_one_seed_it_is_mcnemars_test(self, wins, losses, ties):
        differences = [1] * wins + [-1] * losses + [0] * ties
        assert sign_flip_exact(differences) == pytest.approx(mcnemar_exact(wins, losses))

    def test_seeds_that_agree_count_once(self):
        # Three equal seeds say no more of the questions than one of them.
        assert sign_flip_exact([3] * 5 + [-3]) == pytest.approx(mcnemar_exact(5, 1))

    def test_shares_of_questions_are_refused(self):
        with pytest.raises(ValueError, match="no whole numbers"):
            sign_flip_exact([0.5, 1])


#: Shares to three digits: scipy overflows at those of 1e-308.
SHARES = st.integers(0, 1000).map(lambda number: number / 1000)


class TestPower:
    @given(st.integers(1, 12), SHARES, SHARES)
    def test_power_is_the_sum_over_all_outcomes(self, n, discordant, difference):
        share = max(discordant, difference)
        cells = [(share + difference) / 2, (share - difference) / 2, 1 - share]
        power = sum(
            math.comb(n, b) * math.comb(n - b, c) * cells[0] ** b * cells[1] ** c * rest
            for b in range(n + 1)
            for c in range(n + 1 - b)
            if mcnemar_exact(b, c) <= 0.05 and (rest := max(cells[2], 0.0) ** (n - b - c))
        )
        assert mcnemar_power(n, discordant, difference) == pytest.approx(power, abs=1e-9)

    # An example is a thousand tests.
    @settings(max_examples=20)
    @given(st.integers(20, 1200), st.floats(0, 0.6), st.integers(0, 2**32))
    def test_simulated_tests_find_the_detectable_difference_in_four_of_five(self, n, share, seed):
        discordant = round(n * share)
        difference = mcnemar_detectable(n, discordant)
        share = max(discordant / n, difference)
        cells = [(share + difference) / 2, (share - difference) / 2, 1 - share]
        runs = np.random.default_rng(seed).multinomial(n, cells, size=1000)
        rejected = np.mean([mcnemar_exact(int(b), int(c)) <= 0.05 for b, c, _ in runs])
        assert rejected == pytest.approx(0.8, abs=0.06)  # five standard errors

    def test_too_few_questions_can_show_nothing(self):
        # Five discordant questions on one side have p 0.0625.
        assert math.isnan(mcnemar_detectable(5, 5))
        assert math.isnan(mcnemar_detectable(0, 0))
        assert mcnemar_detectable(6, 6) < 1

    def test_models_without_discordant_questions_need_six(self):
        difference = mcnemar_detectable(400, 0)
        assert mcnemar_power(400, 0, difference) == pytest.approx(0.8)
        assert 6 / 400 < difference < 9 / 400

    def test_intervals_find_their_detectable_difference_in_four_of_five(self):
        # 15% of the questions discordant on either side, and the difference that this can show.
        n, side = 600, 0.15
        effect = 2.8 * math.sqrt(2 * side / n)
        results = np.random.default_rng(0).choice(
            [1.0, -1.0, 0.0], (400, n), p=[side + effect / 2, side - effect / 2, 1 - 2 * side]
        )
        estimates = [paired_bootstrap_difference(row > 0, row < 0, draws=300) for row in results]
        assert np.mean([low > 0 for _, low, _ in estimates]) == pytest.approx(0.8, abs=0.06)
        shown = [interval_detectable(low, high) for _, low, high in estimates]
        assert np.mean(shown) == pytest.approx(effect, rel=0.05)

    def test_an_interval_without_width_implies_nothing(self):
        assert math.isnan(interval_detectable(0.1, 0.1))
        assert math.isnan(interval_detectable(math.nan, math.nan))


class TestHolm:
    def test_textbook_values(self):
        assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
        assert holm([0.02]) == [0.02]
        assert holm([]) == []

    @given(st.lists(st.floats(0, 1), max_size=8))
    def test_none_becomes_smaller_and_their_order_stays(self, values):
        adjusted = holm(values)
        assert all(p <= after <= 1 for p, after in zip(values, adjusted, strict=True))
        pairs = sorted(zip(values, adjusted, strict=True))
        assert [after for _, after in pairs] == sorted(adjusted)


class TestBootstrap:
    def test_agrees_with_the_normal_approximation(self):
        value, low, high = bootstrap_mean_interval(FLOOR)
        half = 1.96 * math.sqrt(value * (1 - value) / FLOOR.size)
        assert value == FLOOR.mean()
        assert (low, high) == pytest.approx((value - half, value + half), abs=0.006)

    def test_same_seed_same_interval_other_seed_another(self):
        values = RNG.random(50)
        first = bootstrap_mean_interval(values, seed=1, draws=500)
        assert first == bootstrap_mean_interval(values, seed=1, draws=500)
        assert first != bootstrap_mean_interval(values, seed=2, draws=500)

    def test_draws_are_paired(self):
        shifted = paired_bootstrap_difference(FLOOR + 0.25, FLOOR, draws=200)
        assert shifted == pytest.approx((0.25, 0.25, 0.25))

    def test_seeds_that_differ_widen_the_interval(self):
        alike = np.stack([FLOOR, FLOOR, FLOOR])
        apart = np.stack([FLOOR * 0, FLOOR, FLOOR * 0 + 1])
        narrow, wide = (bootstrap_mean_interval(values, draws=2000) for values in (alike, apart))
        single = bootstrap_mean_interval(FLOOR, draws=2000)
        assert narrow == pytest.approx(single, abs=1e-9)
        assert wide.high - wide.low > 3 * (narrow.high - narrow.low)

    def test_means_match_explicit_resampling(self):
        values = RNG.random((2, 5))
        (means,) = bootstrap_means(values, draws=20_000)
        assert means.mean() == pytest.approx(values.mean(), abs=0.01)
        assert means.std() == pytest.approx(_two_way_deviation(values), rel=0.05)

    def test_shapes_are_checked(self):
        with pytest.raises(ValueError, match="differ in seeds or questions"):
            paired_bootstrap_difference(FLOOR, FLOOR[:-1])
        with pytest.raises(ValueError, match="expected"):
            bootstrap_mean_interval([])


def _two_way_deviation(values: np.ndarray) -> float:
    rng = np.random.default_rng(0)
    seeds, questions = values.shape
    means = [
        values[np.ix_(rng.integers(seeds, size=seeds), rng.integers(questions, size=questions))]
        for _ in range(20_000)
    ]
    return float(np.std([draw.mean() for draw in means]))


class TestClusteredWilson:
    def test_cases_apart_are_wilsons(self):
        right = [1, 0, 1, 1, 0, 1, 1]
        assert clustered_wilson_interval(right, range(7)) == pytest.approx(wilson_interval(5, 7))

    def test_copies_of_a_case_tell_nothing_new(self):
        right, names = [1, 0, 1, 1, 0], list("abcde")
        interval = clustered_wilson_interval(right * 4, names * 4)
        assert interval == pytest.approx(wilson_interval(3, 5))

    def test_all_right_counts_clusters(self):
        interval = clustered_wilson_interval([1] * 9, list("aaabbbccc"))
        assert interval == pytest.approx(wilson_interval(3, 3))

    def test_unlike_cases_of_a_cluster_count_whole(self):
        assert clustered_wilson_interval([1, 0] * 5, sorted("abcde" * 2)) == pytest.approx(
            wilson_interval(5, 10)
        )

    def test_covers_the_share_in_clusters_of_like_cases(self):
        rng, covered = np.random.default_rng(1), []
        for _ in range(400):
            right = np.repeat(rng.random(60) < 0.7, 3)
            low, high = clustered_wilson_interval(right, np.repeat(np.arange(60), 3))
            covered.append(low <= 0.7 <= high)
        assert np.mean(covered) >= 0.93

    def test_nothing(self):
        assert all(map(math.isnan, clustered_wilson_interval([], [])))


class TestPgr:
    def test_ends(self):
        assert pgr(FLOOR, FLOOR, CEILING, draws=500) == pytest.approx((0, 0, 0))
        assert pgr(CEILING, FLOOR, CEILING, draws=500) == pytest.approx((1, 1, 1))

    def test_between_with_interval(self):
        value, low, high = pgr((FLOOR + CEILING) / 2, FLOOR, CEILING, draws=500)
        assert value == pytest.approx(0.5)
        assert low <= value <= high

    @pytest.mark.parametrize("ceiling", [FLOOR, FLOOR * 0])
    def test_undefined_without_a_gap(self, ceiling):
        assert all(map(math.isnan, pgr(CEILING, FLOOR, ceiling, draws=100)))

    def test_no_interval_where_the_gap_is_not_resolved(self):
        ceiling = FLOOR.copy()
        ceiling[np.flatnonzero(FLOOR == 0)[:1]] = 1
        value, low, high = pgr(CEILING, FLOOR, ceiling, draws=500)
        assert value > 1
        assert math.isnan(low)
        assert math.isnan(high)

    def test_draws_without_a_gap_count_at_the_far_end(self, monkeypatch):
        """Of a hundred draws two have no gap: the interval ends two draws higher for it."""
        model, floor = np.arange(100) + 1.0, np.zeros(100)
        ceiling = np.where(np.arange(100) < 2, 0.0, 100.0)
        monkeypatch.setattr(stats, "bootstrap_means", lambda *_, **__: [model, floor, ceiling])
        _, low, high = pgr([0.5, 0.5], [0.0, 0.0], [1.0, 1.0])
        finite = (np.arange(2, 100) + 1.0) / 100
        assert low == pytest.approx(np.quantile(np.r_[finite, 9, 9], 0.025))
        assert high == pytest.approx(np.quantile(np.r_[finite, 9, 9], 0.975))


class TestPassAtK:
    @given(st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))))
    def test_equals_the_share_of_subsets_with_a_right_sample(self, case):
        n, k = case
        expected = [
            np.mean([any(i < c for i in chosen) for chosen in combinations(range(n), k)])
            for c in range(n + 1)
        ]
        assert pass_at_k(n, np.arange(n + 1), k) == pytest.approx(expected)

    def test_large_n_is_finite(self):
        assert pass_at_k(10_000, [1], 5_000)[0] == pytest.approx(0.5)

    @pytest.mark.parametrize("k", [0, 11])
    def test_k_beyond_the_samples(self, k):
        with pytest.raises(ValueError, match=r"evaluation\.ks"):
            pass_at_k(10, [1], k)

    def test_counts_beyond_the_samples(self):
        with pytest.raises(ValueError, match=r"outside 0\.\.10"):
            pass_at_k(10, [11], 1)
