"""Every procedure on data whose truth is known: intervals cover, tests err as often as they say.

The tolerance is four standard errors of the simulated share. Larger runs are marked slow; what can be summed exactly is.
"""

import math
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from fathomlab.analysis.contrasts import slope
from fathomlab.analysis.significance import (
    barnard_test_greater,
    binomial_test_greater,
    holm_adjusted,
    mcnemar_clustered,
    sign_flip,
    t_test_greater,
)
from fathomlab.analysis.statistics import bootstrap_interval, mean_interval, newcombe_interval, wilson_interval

SEED = 71828


def drawn() -> np.random.Generator:
    """The generator of a test; its seed is printed if the test fails."""
    print(f"seed {SEED}")
    return np.random.default_rng(SEED)


def near(share: float, wanted: float, runs: int) -> bool:
    """Within four standard errors."""
    return abs(share - wanted) <= 4 * math.sqrt(wanted * (1 - wanted) / runs)


def slowly(quick: int, slow: int) -> pytest.MarkDecorator:
    """Two sizes of a simulation."""
    return pytest.mark.parametrize("runs", [quick, pytest.param(slow, marks=pytest.mark.slow)])


@slowly(3000, 40_000)
@pytest.mark.parametrize("n", [3, 5, 10])
def test_t_interval_covers_the_mean(n: int, runs: int):
    """95 % at any number of seeds."""
    result = [mean_interval(row) for row in drawn().normal(0.3, 2.0, (runs, n)).tolist()]
    assert near(np.mean([end.low <= 0.3 <= end.high for end in result if end.low and end.high]), 0.95, runs)
    assert np.mean([end.high - end.mean < 1.0 for end in result if end.high]) < 0.9  # a width of nothing would not do


@slowly(400, 5000)
def test_bootstrap_of_twenty_covers_as_published(runs: int):
    """0.928 of 4,000 simulated intervals, by another program."""
    result = [bootstrap_interval(row) for row in drawn().standard_normal((runs, 20)).tolist()]
    assert near(np.mean([end.low <= 0 <= end.high for end in result if end.low and end.high]), 0.928, runs)


def binomials(n: int, chance: float) -> np.ndarray:
    """The chance of 0 to n successes."""
    return stats.binom.pmf(np.arange(n + 1), n, chance)


@pytest.mark.parametrize("n", [6, 10, 20])
def test_wilson_covers_on_average(n: int):
    """Summed over all outcomes, averaged over chances from 0.02 to 0.98, never far below."""
    ends = [wilson_interval(result, n) for result in range(n + 1)]
    low, high = (np.array([getattr(end, side) for end in ends]) for side in ("low", "high"))
    coverage = [float(binomials(n, p) @ ((low <= p) & (p <= high))) for p in np.linspace(0.02, 0.98, 97)]
    assert 0.945 < np.mean(coverage) < 0.965
    assert min(coverage) > 0.82


@pytest.mark.parametrize("n", [6, 10, 20])
def test_newcombe_covers_on_average(n: int):
    """Summed over all pairs of outcomes, averaged over a grid of both chances."""
    ends = [[newcombe_interval((one, n), (other, n)) for other in range(n + 1)] for one in range(n + 1)]
    low, high = (np.array([[getattr(end, side) for end in row] for row in ends]) for side in ("low", "high"))
    grid = np.linspace(0.03, 0.97, 20)
    coverage = [
        float(binomials(n, p) @ ((low <= p - q) & (p - q <= high)) @ binomials(n, q)) for p in grid for q in grid
    ]
    assert 0.945 < np.mean(coverage) < 0.972
    assert min(coverage) > 0.87


@pytest.mark.parametrize("n", [2, 3, 5, 8, 10, 16])
@pytest.mark.parametrize("null_value", [0.0, 0.2])
def test_fraction_differences_keep_the_error_level(n: int, null_value: float):
    """Exact, at chances between the places where p was maximized; Newcombe's interval alone would fail this at n = 8."""
    p_values = np.array(
        [[barnard_test_greater((one, n), (other, n), null_value) for other in range(n + 1)] for one in range(n + 1)]
    )
    for level in (0.025, 0.0125, 0.3):
        errs = [
            float(binomials(n, q + null_value) @ (p_values <= level) @ binomials(n, q))
            for q in np.linspace(0.003, 0.997 - null_value, 83)
        ]
        assert max(errs) <= level + 1e-6
    assert n < 5 or max(errs) > 0.15  # not by never deciding


@pytest.mark.parametrize("n", [5, 9])
def test_fractions_keep_the_error_level(n: int):
    """The exact binomial test at its border."""
    for null_value in (0.1, 0.5, 0.9):
        rejected = np.array([binomial_test_greater(result, n, null_value) <= 0.05 for result in range(n + 1)])
        assert binomials(n, null_value) @ rejected <= 0.05 + 1e-12


@slowly(3000, 40_000)
@pytest.mark.parametrize("n", [4, 8])
def test_t_test_errs_in_2_5_percent(n: int, runs: int):
    """One-sided, at the border of what matters."""
    p_values = [t_test_greater(row, 0.5) for row in drawn().normal(0.5, 1.0, (runs, n)).tolist()]
    assert near(np.mean(np.array(p_values) <= 0.025), 0.025, runs)


@slowly(2000, 20_000)
def test_sign_flip_test_keeps_its_exact_level(runs: int):
    """At 8 seeds p is a multiple of 2 / 2^8: 12 of 256 patterns lie at or below 5 %, whatever the symmetric distribution."""
    rows = drawn().standard_t(2, (runs, 8)).tolist()
    assert near(np.mean([sign_flip(row).p <= 0.05 for row in rows]), 12 / 256, runs)


@slowly(2000, 20_000)
def test_tost_errs_in_5_percent(build: SimpleNamespace, runs: int):
    """The true effect is exactly what matters; where it is nothing, equivalence is found."""
    rng = drawn()
    at_threshold, without_effect = (
        [build.judge(row, expect="equal", matters=0.01) for row in rng.normal(mean, 0.01, (count, 12)).tolist()]
        for mean, count in ((0.01, runs), (0.0, 300))
    )
    share = np.mean([verdict.tests.p <= 0.05 for verdict in at_threshold])
    assert near(share, 0.05, runs)
    assert share == np.mean([verdict.decision == "supported" for verdict in at_threshold])
    assert np.mean([verdict.decision == "supported" for verdict in without_effect]) > 0.85


def family(rows: np.ndarray, wrong: Sequence[int]) -> float:
    """How often Holm's procedure decides any of the claims that are wrong."""
    result = 0
    for claims in rows:
        adjusted = holm_adjusted([t_test_greater(values, 0.0) for values in claims.tolist()])
        result += any(adjusted[place] <= 0.025 for place in wrong)
    return result / len(rows)


@slowly(1000, 10_000)
def test_holm_errs_in_2_5_percent_over_all_claims(runs: int):
    """Five claims without effect; and three without beside two that hold, where the step-down has less to spread over."""
    rng = drawn()
    rows = rng.standard_normal((runs, 5, 6))
    share = family(rows, range(5))
    assert share <= 0.025 + 4 * math.sqrt(0.025 * 0.975 / runs)
    assert share > 0.008
    rows[:, :2] += 8.0
    assert family(rows, (2, 3, 4)) <= 0.025 + 4 * math.sqrt(0.025 * 0.975 / runs)


@slowly(2000, 20_000)
def test_trend_errs_in_2_5_percent(runs: int):
    """Flat over depth, with seed effects ten times the noise: the slope within seeds sees none of them."""
    rng, depths = drawn(), [5, 10, 20, 40]
    values = rng.normal(0, 10, (runs, 6, 1)) + rng.standard_normal((runs, 6, 4))
    p_values = [t_test_greater([slope(depths, row) for row in rows], 0.0) for rows in values.tolist()]
    assert near(np.mean(np.array(p_values) <= 0.025), 0.025, runs)


@slowly(1000, 10_000)
def test_image_test_treats_recurring_images_as_dependent(runs: int):
    """Equal levels, images whose difference keeps its sign over five seeds: pooled McNemar errs, swapping images does not."""
    rng = drawn()
    lean = rng.choice([-1, 1], (runs, 1, 60))
    change = np.where(rng.random((runs, 5, 60)) < 0.8, lean, -lean)
    clustered = [mcnemar_clustered(row.sum(axis=0)) for row in change]
    share = float(np.mean(np.array(clustered) <= 0.05))
    assert share <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / runs)
    assert share > 0.02
    gains = (change > 0).sum(axis=(1, 2))
    pooled = 2 * stats.binom.cdf(np.minimum(gains, 300 - gains), 300, 0.5)
    assert np.mean(pooled <= 0.05) > 0.15
