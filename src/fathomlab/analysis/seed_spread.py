"""How far the test accuracies of seeds spread, and how far they would if networks erred independently on each image."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fathomlab.analysis.statistics import chi_squared_quantile

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True)
class SeedSpread:
    """Standard deviations over seeds of the test accuracy of one condition, as fractions.

    Attributes:
        seeds: Number of seeds.
        images: Number of test images.
        observed: Standard deviation of the test accuracies.
        low: Lower end of its 95% interval.
        high: Upper end.
        independent: Standard deviation that the same error rates of the images give if errors are independent between images.
        experiment: Name of the experiment; "" if it is not known.
        condition: Label of the condition; "" if it is not known.
    """

    seeds: int
    images: int
    observed: float
    low: float
    high: float
    independent: float
    experiment: str = ""
    condition: str = ""


def seed_spread(correct: "npt.NDArray[np.bool_]", level: float = 0.95) -> SeedSpread:
    """Compare the spread of accuracy over seeds with that of independent errors (Jordan, 2023, arXiv 2304.01910, section 3).

    If image i is wrong in a share p_i of all seeds, independently of other images, the accuracy over n images has the variance
    sum_i p_i (1 - p_i) / n^2. Each term is estimated without bias by the sample variance over the seeds. The interval of the
    observed deviation is the chi-squared interval, which assumes that accuracies are normally distributed.

    Args:
        correct: Whether each network classifies each test image correctly, (seeds, images); at least two seeds.
        level: Coverage of the interval, between 0 and 1.

    Raises:
        ValueError: If there are fewer than two seeds, or there are no images.

    Example:
        >>> spread = seed_spread(np.array([[True, True], [True, False]]))
        >>> round(spread.observed, 4), round(spread.independent, 4)
        (0.3536, 0.3536)
    """
    seeds, images = correct.shape
    if seeds < 2 or not images:
        raise ValueError(f"a spread needs two seeds and an image, got {seeds} and {images}")
    observed = float(correct.mean(1).std(ddof=1))
    independent = math.sqrt(float(correct.var(0, ddof=1).sum())) / images
    low, high = (
        observed * math.sqrt((seeds - 1) / chi_squared_quantile(p, seeds - 1))
        for p in ((1 + level) / 2, (1 - level) / 2)
    )
    return SeedSpread(seeds, images, observed, low, high, independent)
