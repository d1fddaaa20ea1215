"""The numbers of the published page on the spread over seeds, computed from its tables."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2

from tests.helpers.recomputed import numbers

FOLDER = Path(__file__).parents[3] / "docs" / "results" / "seed_spread"
SEEDS, IMAGES = 50, 10_000


def read(name: str) -> list[dict[str, str]]:
    with open(FOLDER / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_both_deviations_follow_from_the_tables():
    """Observed with its chi-squared interval, from the trials; of independent errors, from the errors per image."""
    accuracies = np.array([float(row["test/accuracy"]) for row in read("trials.csv")])
    wrong = np.array([int(row["wrong"]) for row in read("errors.csv")])
    assert len(accuracies) == SEEDS
    assert wrong.sum() == round(float((1 - accuracies).sum()) * IMAGES)
    observed = 100 * accuracies.std(ddof=1)
    ends = [observed * math.sqrt((SEEDS - 1) / chi2.ppf(probability, SEEDS - 1)) for probability in (0.975, 0.025)]
    independent = 100 * math.sqrt((wrong * (SEEDS - wrong) / (SEEDS * (SEEDS - 1))).sum()) / IMAGES
    page = Path(f"{FOLDER}.md").read_text(encoding="utf-8")
    (row,) = (line for line in page.splitlines() if line.startswith("| Seeds spread as if"))
    _, statement, ours, *_ = row.split("|")
    assert numbers(statement)[0] == pytest.approx(independent, abs=0.0006)
    assert numbers(ours) == pytest.approx([observed, *ends], abs=0.0006)
