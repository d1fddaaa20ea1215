"""Exponents of best levels against depth: exact power laws, intervals over seeds, and what has none."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fathomlab.analysis.statistics import mean_interval
from fathomlab.analysis.study import Study, study
from fathomlab.analysis.transfer import exponents, power
from fathomlab.config.schema import TuneOptions
from fathomlab.report.sections.tuning import powers_table, section

LR, DEPTH, SCALE = "training.lr", "model.params.hidden_layers_num", "model.params.branch_scale"
RATES = [2.0**-step for step in range(8, -1, -1)]
DEPTHS = (4, 8, 16)


def read(
    build: SimpleNamespace, best: dict[str, dict[int, list[Any]]], rates: list[Any] = RATES, tune: bool = True
) -> Study:
    """A study in which a seed's validation accuracy is highest at its best rate: scale -> depth -> best rate of each seed."""
    conditions = [
        (
            {"depth": depth, SCALE: scale, DEPTH: depth, LR: rate},
            [
                level if isinstance(level, str) else {"val/accuracy": 1 - abs(math.log(level / rate)) / 10}
                for level in levels
            ],
        )
        for scale, depths in best.items()
        for depth, levels in depths.items()
        for rate in rates
    ]
    return study(*build.store(conditions, [], tune=TuneOptions((LR,)) if tune else None, seeds=(0, 1)))


def test_exact_power_laws_have_their_exponent(build: SimpleNamespace):
    """lr = 1/L for one seed and 1/sqrt(L) at two of three depths for the other: the interval is that of their exponents."""
    best = {
        "none": {4: [0.25, 0.5], 8: [0.125, 0.5], 16: [0.0625, 0.25]},
        "1/L": {depth: [0.25] * 2 for depth in DEPTHS},
    }
    first, second = exponents(read(build, best))
    assert (first.key, first.edges, first.total) == (LR, 0, 6)
    twin = [
        np.polyfit(np.log(DEPTHS), np.log([best["none"][depth][seed] for depth in DEPTHS]), 1)[0] for seed in (0, 1)
    ]
    assert twin == pytest.approx([-1, -0.5])
    exact = mean_interval(twin)
    assert (first.interval.mean, first.interval.low, first.interval.high) == pytest.approx(
        (exact.mean, exact.low, exact.high)
    )
    assert first.best[8] == {0: 0.125, 1: 0.5}
    assert (second.interval.mean, second.interval.low, second.interval.n) == pytest.approx((0, 0, 2))
    assert {first.series, second.series} == {"branch scale none", "branch scale 1/L"}


def test_power_equals_a_fit_of_numpy():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(1, 90, 7), rng.uniform(0.1, 3, 7)
    assert power(list(zip(x, y, strict=True))) == pytest.approx(np.polyfit(np.log(x), np.log(y), 1)[0])


def test_seeds_without_every_level_are_left_out(build: SimpleNamespace):
    """A diverged trial counts as chance accuracy; a failed one takes its seed out."""
    (result,) = exponents(read(build, {"none": {4: [0.25, "failed"], 8: [0.25, 0.25], 16: [0.25, 0.25]}}))
    assert result.interval.n == 1
    assert result.interval.low is None
    (result,) = exponents(read(build, {"none": {4: [0.25, "diverged"], 8: [0.25, 0.25], 16: [0.25, 0.25]}}))
    assert result.best[4] == {0: 0.25, 1: RATES[0]}  # equally bad everywhere: the first level


def test_edges_are_counted(build: SimpleNamespace):
    (result,) = exponents(read(build, {"none": {4: [1.0, 0.5], 8: [RATES[0], 0.25], 16: [0.25, 0.25]}}))
    assert (result.edges, result.total) == (2, 6)


@pytest.mark.parametrize(
    ("depths", "rates"), [((4, 8), RATES), (DEPTHS, [0.0, 0.1]), (DEPTHS, [0.1]), (DEPTHS, ["Adam", "SGD"])], ids=str
)
def test_others_have_no_exponent(build: SimpleNamespace, depths: tuple[int, ...], rates: list[Any]):
    conditions = [
        ({"depth": depth, DEPTH: depth, LR: rate}, [{"val/accuracy": 0.5}]) for depth in depths for rate in rates
    ]
    assert exponents(study(*build.store(conditions, [], tune=TuneOptions((LR,))))) == []
    assert exponents(study(*build.store(conditions, []))) == []


def test_table_shows_levels_and_exponents(build: SimpleNamespace):
    tuned = read(build, {"none": {4: [0.25, 0.25], 8: [0.125, 0.125], 16: [0.0625, 0.0625]}})
    table = powers_table(tuned)
    assert table is not None
    assert table.rows == (
        ("branch scale none", "learning rate", "0.25", "0.125", "0.0625", "-1.00", "-1.00", "-1.00", "2", "0 of 6"),
    )
    assert table.columns[2:5] == ("depth 4", "depth 8", "depth 16")
    shown = section(tuned, (), ())
    assert shown is not None
    assert shown.content.powers == table
