"""The table of lines between networks on the published page."""

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.connectivity import BEGIN, END, FOLDER, markdown, read_lines, write_lines
from tests.helpers.recomputed import cells, numbers

LINES = FOLDER / "lines.csv"


def test_lines_are_read_as_they_are_written():
    text = LINES.read_text(encoding="utf-8")
    assert write_lines(read_lines(text)) == text


def test_page_has_the_table_of_the_lines():
    table = markdown(read_lines(LINES.read_text(encoding="utf-8")))
    for path in (FOLDER / "discussion.md", Path(f"{FOLDER}.md")):
        assert path.read_text(encoding="utf-8").count(f"{BEGIN}\n\n{table}\n{END}") == 1


def test_barriers_follow_from_the_lines():
    """Independent of the package: the worst point minus the mean of the ends, and t intervals over seeds."""
    with open(LINES, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    shown = (FOLDER / "discussion.md").read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip()
    for line in shown.splitlines()[2:]:
        condition, seeds, error, *_ = cells(line)
        barriers = []
        for seed in dict.fromkeys(row["seed"] for row in rows):
            points = [row for row in rows if row["condition"] == condition and row["seed"] == seed]
            errors = [1 - float(row["test/accuracy"]) for row in sorted(points, key=lambda row: float(row["alpha"]))]
            barriers.append(100 * (max(errors) - (errors[0] + errors[-1]) / 2))
        half = stats.t.ppf(0.975, len(barriers) - 1) * np.std(barriers, ddof=1) / len(barriers) ** 0.5
        expected = [np.mean(barriers), np.mean(barriers) - half, np.mean(barriers) + half]
        assert int(seeds) == len(barriers)
        assert numbers(error) == pytest.approx(expected, abs=0.006)
