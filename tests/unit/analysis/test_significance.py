"""Tests against scipy, brute force and closed forms; Holm's procedure by hand; detectable effects by trying."""

import itertools
import math
from statistics import fmean, stdev

import numpy as np
import pytest
from scipy import stats

from fathomlab.analysis.power import additional_seeds, minimum_detectable_effect
from fathomlab.analysis.significance import (
    barnard_test_greater,
    binomial_test_greater,
    correlation,
    holm_adjusted,
    holm_levels,
    mcnemar_clustered,
    mcnemar_exact,
    sign_flip,
    t_test_greater,
)

VALUES = [0.3, -0.1, 0.25, 0.4, 0.05, 0.31]


def test_t_test_equals_scipy():
    """One-sided, against any border."""
    for null_value in (-0.2, 0.0, 0.3):
        expected = stats.ttest_1samp(VALUES, null_value, alternative="greater").pvalue
        assert t_test_greater(VALUES, null_value) == pytest.approx(expected)
    assert t_test_greater([0.3], 0.0) == 1.0


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_sign_flip_test_counts_all_flips(n: int):
    """Every pattern by itertools."""
    values = VALUES[:n]
    sums = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in itertools.product((1, -1), repeat=n)
    ]
    result = sign_flip(values)
    assert result.p == pytest.approx(fmean(total >= abs(sum(values)) - 1e-12 for total in sums))
    assert (result.floor, result.draws) == (2 / 2**n, None)


def test_sign_flip_test_has_known_extremes():
    """All of one sign, and all zero; ties count."""
    assert sign_flip([0.1] * 8).p == sign_flip([0.1] * 8).floor == 2 / 2**8
    assert sign_flip([0.0] * 8).p == 1.0
    assert sign_flip([0.1, 0.2, 0.3 - 1e-17]).p == 0.25
    with pytest.raises(ValueError, match="at least one difference"):
        sign_flip([])


def test_sign_flip_test_samples_above_twenty():
    """The drawn p is near that of all 2^21 patterns, says how many it drew, and is never 0."""
    values = [math.sin(place) + 0.25 for place in range(21)]
    assert sign_flip(values[:20]).draws is None
    result = sign_flip(values)
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    exact = float((np.abs(sums) >= abs(sum(values)) - 1e-9).mean())
    assert result.draws == 100_000
    assert result.p == pytest.approx(exact, abs=4 * math.sqrt(exact / 100_000))
    assert result == sign_flip(values)
    assert sign_flip([1.0] * 60).p == 1 / 100_001


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (6, 0), (3, 9), (40, 22)])
def test_mcnemar_equals_the_binomial_test(b: int, c: int):
    """Discordant pairs fall on either side with chance 1/2."""
    assert mcnemar_exact(b, c) == pytest.approx(stats.binomtest(b, b + c).pvalue if b + c else 1.0)


def test_image_test_swaps_images_over_all_seeds():
    """Against every pattern of swaps; and with one seed it is McNemar's test."""
    balance = np.array([3, -1, 2, 2, 0, 1, 1, -2, 3, 1])
    reach = abs(int(balance.sum()))
    moving = balance[balance != 0]
    swaps = [abs(int(moving @ np.array(signs))) for signs in itertools.product((1, -1), repeat=len(moving))]
    assert mcnemar_clustered(balance) == pytest.approx(fmean(total >= reach for total in swaps))
    single = np.array([1] * 17 + [-1] * 5 + [0] * 50)
    assert mcnemar_clustered(single) == pytest.approx(mcnemar_exact(17, 5))
    assert mcnemar_clustered(np.zeros(4, dtype=np.int64)) == 1.0
    assert mcnemar_clustered(np.array([1, -1])) == 1.0


def test_image_test_is_normal_for_many_images():
    """2,000 discordant images: the exact p beside that of the normal approximation, with Yates' half step."""
    balance = np.array([1] * 1080 + [-1] * 920)
    assert mcnemar_clustered(balance) == pytest.approx(2 * stats.norm.sf((160 - 1) / math.sqrt(2000)), rel=0.01)


def test_fraction_test_equals_the_binomial_tail():
    """As scipy has it."""
    for successes, n, null_value in ((8, 8, 0.5), (3, 10, 0.1), (0, 5, 0.3)):
        expected = stats.binomtest(successes, n, null_value, alternative="greater").pvalue
        assert binomial_test_greater(successes, n, null_value) == pytest.approx(expected)


@pytest.mark.parametrize("n", [3, 5, 8])
def test_all_against_none_has_a_closed_form(n: int):
    """max over p of p^n (1 - p)^n is 1/4^n."""
    assert barnard_test_greater((n, n), (0, n), 0.0) == pytest.approx(1 / 4**n)
    assert barnard_test_greater((0, n), (n, n), 0.0) == pytest.approx(1.0)


def test_null_values_beyond_all_differences():
    """A difference of fractions is above -1 and not above 1."""
    assert barnard_test_greater((5, 5), (0, 5), 1.0) == 1.0
    assert barnard_test_greater((0, 5), (5, 5), -1.1) == 0.0
    assert barnard_test_greater((5, 5), (0, 5), 0.3) > barnard_test_greater((5, 5), (0, 5), 0.0)


def test_correlation_equals_closed_forms():
    """Numpy's, or none."""
    assert correlation([1.0, 2.0, 4.0], [1.0, 3.0, 3.5]) == pytest.approx(np.corrcoef([1, 2, 4], [1, 3, 3.5])[0, 1])
    assert correlation([1.0, 2.0], [1.0, 3.0]) is None
    assert correlation([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]) is None


def test_holm_equals_a_textbook_example():
    """0.01, 0.02, 0.03, 0.04 (two-sided 5 %): only the first falls; adjusted 0.04, 0.06, 0.06, 0.06."""
    p_values = [0.04, 0.01, 0.03, 0.02]
    assert holm_adjusted(p_values) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    levels = holm_levels(p_values, lambda left: 0.05 / left)
    assert levels == pytest.approx([0.05 / 3, 0.05 / 4, 0.05 / 3, 0.05 / 3])
    assert holm_levels([], lambda left: 0.05 / left) == holm_adjusted([]) == []


def test_holm_adjusted_and_step_down_agree():
    """The adjusted p is at most alpha exactly where the procedure rejects."""
    rng = np.random.default_rng(3)
    for _ in range(200):
        p_values = (rng.random(5) ** 4 * 0.2).tolist()
        levels = holm_levels(p_values, lambda left: 0.025 / left)
        rejected = [p <= level for p, level in zip(p_values, levels, strict=True)]
        assert rejected == [p <= 0.025 for p in holm_adjusted(p_values)]


def test_power_inverts_the_number_of_seeds():
    """(t(0.975, 9) + 0.84) sd / sqrt(10); as many more seeds as bring it down to the distance, found by trying."""
    deviation = stdev(VALUES)
    assert minimum_detectable_effect(deviation, 10) == pytest.approx((2.262157 + 0.84) * deviation / math.sqrt(10))
    more = additional_seeds(deviation, 0.08, 6)
    assert more is not None
    assert minimum_detectable_effect(deviation, 6 + more) <= 0.08 < minimum_detectable_effect(deviation, 5 + more)
    assert additional_seeds(deviation, 0.0, 6) is None
    assert additional_seeds(deviation, 1e-6, 6) is None
    assert additional_seeds(deviation, 9.0, 1) == 1
    with pytest.raises(ValueError, match="got 1"):
        minimum_detectable_effect(1.0, 1)
