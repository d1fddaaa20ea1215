"""The arithmetic of the benchmarks: ratios, rates, exponents, targets. No timings."""

import math

import pytest

from benchmarks import cnn, grid, growth, overheads
from benchmarks.machine import steal
from benchmarks.part import Target, exponent, table
from benchmarks.peers.matmul import FLOPS
from benchmarks.race import in_rounds
from benchmarks.setting import GRID, Cell, ConvCell, from_words


def test_ratios_are_formed_within_a_round():
    """A slow second half of both sides does not move the ratio; medians of each side would give 2."""
    assert in_rounds([2.0, 40.0, 60.0], [1.0, 20.0, 20.0]) == 2.0
    assert in_rounds([3.0, 3.0, 30.0], [1.0, 2.0, 10.0]) == 3.0


def test_exponent_of_a_power():
    """y = 3 x^0.7 has the exponent 0.7."""
    assert exponent({x: 3 * x**0.7 for x in (1.0, 2.0, 8.0, 32.0)}) == pytest.approx(0.7, abs=1e-12)


def test_exponent_is_the_least_squares_slope():
    """Points (0, 0), (1, 0), (2, 3) on logarithmic axes have the slope 1.5."""
    assert exponent({1.0: 1.0, math.e: 1.0, math.e**2: math.e**3}) == pytest.approx(1.5, abs=1e-12)


@pytest.mark.parametrize(
    ("wanted", "reached", "most", "met"),
    [(2.0, 2.0, False, True), (2.0, 1.99, False, False), (0.5, 0.5, True, True), (0.5, 0.51, True, False)],
)
def test_targets_are_met_or_missed(wanted, reached, most, met):
    """At least and at most, the number itself included."""
    target = Target("x", wanted, reached, most=most)
    assert target.met is met
    assert target.row()[-1] == ("met" if met else "missed")


def test_target_is_missed_by_nan():
    assert not Target("x", 1.0, math.nan).met
    assert not Target("x", 1.0, math.nan, most=True).met


def test_targets_show_fractions_as_percent():
    assert Target("share", 0.85, 0.851, "%").row() == ["share", "at least 85%", "85.1%", "met"]


def test_table_has_head_rule_and_rows():
    """Head, rule, rows, and an empty line behind."""
    assert table(["a", "b"], [[1, "c"]]) == ["| a | b |", "| --- | --- |", "| 1 | c |", ""]


def test_stolen_time_is_the_eighth_number():
    """The eighth number of user, nice, system, idle, iowait, irq, softirq, steal; what follows is part of user."""
    before, after = [0] * 10, [40, 0, 10, 30, 0, 0, 0, 20, 40, 0]
    assert steal(before, after) == 0.2
    assert steal([], []) is None
    assert steal(before, before) is None


def test_products_of_the_convolutional_net_are_counted_directly():
    """6 x multiply-accumulates of every product, but for the stem, whose input needs no gradient: 4."""
    width, stem, stages = 64, 3 * 64 * 9 * 32 * 32, 0
    inputs, side = width, 16
    for stage in range(4):
        outputs, side = width * 2**stage, side // (1 if stage == 0 else 2)
        stages += 9 * side**2 * (inputs * outputs + outputs * outputs)
        inputs = outputs
    expected = 128 * (4 * stem + 6 * (stages + 512 * 10))
    assert ConvCell().step_flops == expected


def test_products_of_an_mlp():
    """The first layer's input needs no gradient."""
    assert Cell(32, 10).step_flops == 128 * (4 * 784 * 32 + 6 * (10 * 32 * 32 + 320))


@pytest.mark.parametrize("setting", [*GRID, ConvCell(), ConvCell(8)])
def test_words_returns_options_of_a_setting(setting):
    assert from_words(setting.words) == setting


def test_convolutional_summary():
    """Two processes, 1 GFLOP a step: 500 ms are 4 GFLOP/s; ratios are of plain fp32, shares of the same round's peak."""
    rounds = {
        cnn.OWN: [1000.0, 1000.0],
        cnn.OWN_BF16: [500.0, 500.0],
        cnn.PLAIN: [2000.0, 2000.0],
        cnn.PLAIN_LAST: [1500.0, 1500.0],
        "fp32 matmul": [FLOPS / 1e9 * 500] * 2,
        "bf16 matmul": [FLOPS / 1e9 * 200] * 2,
    }
    found = cnn.summary(rounds, 1e9, 2)
    assert found["seconds"][cnn.OWN_BF16] == 0.5
    assert found["gflops"][cnn.OWN_BF16] == pytest.approx(4.0)
    assert found["ratios"] == {cnn.OWN: 2.0, cnn.OWN_BF16: 4.0, cnn.PLAIN: 1.0, cnn.PLAIN_LAST: 2000 / 1500}
    assert found["to_channels_last"][cnn.OWN] == 1.5
    assert found["peaks"] == {"fp32": pytest.approx(4.0), "bf16": pytest.approx(10.0)}
    assert found["shares"]["bf16"][cnn.OWN_BF16] == pytest.approx(0.4)
    targets = cnn.targets({"layouts": {"2 processes": found}})
    assert [(target.reached, target.met) for target in targets] == [
        (4.0, True),
        (pytest.approx(0.4), False),
        (1.5, True),
    ]


def test_grid_takes_the_better_layout_and_the_better_fathomlab():
    """Medians choose the layout, ratios are formed within rounds against it."""
    rounds = {
        "fathomlab (2 x 1 threads, 8 networks each)": [2.0, 2.0, 2.0],
        "fathomlab native (2 x 1 threads, 8 networks each)": [1.0, 2.0, 1.0],
        "plain loop (2 x 1 threads, 1 networks each)": [3.0, 6.0, 4.0],
        "plain loop (1 x 2 threads, 1 networks each)": [9.0, 1.0, 9.0],
    }
    summary = grid.summary(rounds, [2.0, 1.0, 2.0], ["fathomlab", "fathomlab native", "plain loop"], 1e6)
    assert summary["milliseconds"]["plain loop"] == 4.0
    assert summary["layout"]["plain loop"].startswith("plain loop (2 x 1")
    assert summary["ratios"] == {"fathomlab": 2.0, "fathomlab native": 1.0, "plain loop": 3.0}
    assert summary["share_of_peak"] == 0.5
    assert summary["peak_gflops"] == 2.0


def test_geometric_mean_over_the_cells():
    """Of 1 and 4 it is 2."""
    cells = {"a": {"ratios": {"x": 1.0}}, "b": {"ratios": {"x": 4.0}}}
    assert grid.ratios(cells)["x"] == pytest.approx(2.0)


def test_missing_peer_is_skipped_with_a_line(monkeypatch):
    monkeypatch.setattr(grid, "find_spec", lambda package: None if package == "jax" else object())
    systems, lines = grid.present()
    assert systems == [name for name in grid.LAYOUTS if name != "JAX vmap"]
    assert lines == ["skipped: JAX vmap, since jax is not installed here"]


def test_overheads_are_shares_of_training_and_evaluation():
    """Median over the rounds; what a round lacks is 0."""
    rounds = [
        {"training": 8.0, "evaluation": 2.0, "store": 0.1, "rest": 0.1},
        {"training": 10.0, "progress": 1.0},
        {"training": 10.0},
    ]
    assert overheads.share(rounds, overheads.BOOKKEEPING) == pytest.approx(0.02)
    assert overheads.share(rounds, ("probes",)) == 0


def test_further_trials():
    """Between 10 and 110 trials a second passes: a hundredth each."""
    assert growth.further({"10": 1.0, "110": 2.0}) == [0.01]
