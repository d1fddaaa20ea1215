"""The spread of accuracy over seeds: closed forms, simulated networks, and scipy's chi-squared interval."""

import math

import numpy as np
import pytest
from scipy.stats import chi2

from fathomlab.analysis.seed_spread import seed_spread


def test_independent_errors_have_the_variance_of_their_sum():
    """Three seeds, four images: sample variances 0, 1/3, 1/3, 0 over the seeds."""
    correct = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]], bool)
    spread = seed_spread(correct)
    assert (spread.seeds, spread.images) == (3, 4)
    assert spread.independent == pytest.approx(math.sqrt(2 / 3) / 4)
    assert spread.observed == pytest.approx(np.std([0.5, 0.25, 0.75], ddof=1))


def test_interval_is_chi_squared():
    correct = np.random.default_rng(0).random((50, 100)) < 0.9
    spread = seed_spread(correct, 0.9)
    variance = np.var(correct.mean(1), ddof=1)
    exact = [math.sqrt(49 * variance / chi2.ppf(probability, 49)) for probability in (0.95, 0.05)]
    assert [spread.low, spread.high] == pytest.approx(exact)
    assert spread.low < spread.observed < spread.high


def test_simulated_independent_errors_agree_and_shared_errors_do_not():
    random = np.random.default_rng(1)
    rates = random.beta(0.1, 3, 2000)
    independent = seed_spread(random.random((400, 2000)) >= rates)
    assert independent.low < independent.independent < independent.high
    assert independent.independent == pytest.approx(math.sqrt((rates * (1 - rates)).sum()) / 2000, rel=0.02)
    luck = random.random((400, 1)) < 0.5  # half of the networks get every second image wrong
    shared = seed_spread((random.random((400, 2000)) >= rates) & (luck | (np.arange(2000) % 2 == 0)))
    assert shared.low > 5 * shared.independent


@pytest.mark.parametrize("shape", [(1, 5), (3, 0)])
def test_spread_needs_two_seeds_and_an_image(shape: tuple[int, int]):
    with pytest.raises(ValueError, match="two seeds"):
        seed_spread(np.ones(shape, bool))
