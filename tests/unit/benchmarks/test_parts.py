"""The arithmetic of the benchmarks: ratios, rates, exponents, targets. No timings."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import cnn, evaluation, grid, growth, overheads, race, roofline
from benchmarks.machine import steal
from benchmarks.part import Options, Target, exponent, geometric_mean, table
from benchmarks.peers.yardsticks import FLOPS, STREAM_BYTES
from benchmarks.race import Cost, Course, Entrant, Entry, in_rounds
from benchmarks.setting import GRID, Cell, ConvCell, from_words, moved_bytes


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
    assert Target("share", 0.85, 0.851, "%").row() == ["share", "at least 85%", "85.1%", "", "met"]


def test_targets_show_wall_time_which_does_not_decide():
    assert Target("ratio", 2.0, 2.5, wall=1.5).row() == ["ratio", "at least 2x", "2.5x", "1.5x", "met"]


def test_corners_measure_one_round_of_what_takes_minutes():
    assert [Options(rounds, corners).at_most(3) for rounds, corners in ((5, False), (2, False), (5, True))] == [3, 2, 1]


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


def test_moved_bytes_count_parameters_units_and_pixels():
    """32 bytes per parameter; per image 24 per unit and 13 per pixel, batch 128."""
    assert moved_bytes(2, 3, 5) == 2 * 32 + 128 * (3 * 24 + 5 * 13)
    params = Cell(32, 10).architecture().num_params
    assert Cell(32, 10).step_bytes == moved_bytes(params, 11 * 32, 784)
    units = 64 * 32**2 + 2 * (64 * 16**2 + 128 * 8**2 + 256 * 4**2 + 512 * 2**2)
    assert ConvCell().step_bytes == moved_bytes(ConvCell().architecture().num_params, units, 3 * 32 * 32)


def course(cpu, wall):
    """Results of a race with a first step of 1 s, and 0.5 s of CPU time."""
    return Course(wall, cpu, {label: {"seconds": 0.7, "cpu_from_start": 0.5, "from_start": 1.0} for label in cpu})


def label(system, processes=2, threads=1, replicas=1):
    return Entry(system, Cell(32, 10), processes, threads, replicas).label


def test_convolutional_summary_and_targets():
    """Speedups are over the plain channels-last loop, in rounds; fp32 is compared with the fastest fp32 peer."""
    times = {
        cnn.FP32: [1000.0, 1000.0],
        cnn.BF16: [500.0, 500.0],
        cnn.PLAIN: [1200.0, 1200.0],
        cnn.CHANNELS_LAST: [1500.0, 1500.0],
        cnn.PLAIN_BF16: [600.0, 600.0],
    }
    labels = {system: label(system) for system in times}
    cpu = {labels[system]: values for system, values in times.items()}
    summary = cnn.summary(course(cpu, {name: [2 * cost for cost in costs] for name, costs in cpu.items()}), labels)
    assert summary["cpu"][cnn.BF16] == 500.0
    assert summary["wall"][cnn.BF16] == 1000.0
    assert summary["cpu_speedups"] == {
        cnn.FP32: 1.5,
        cnn.BF16: 3.0,
        cnn.PLAIN: 1.25,
        cnn.CHANNELS_LAST: 1.0,
        cnn.PLAIN_BF16: 2.5,
    }
    decided = [(target.wanted, target.reached, target.wall) for target in cnn.targets(summary)]
    assert decided == [(1.3, 1.5, 1.5), (1.0, 1.2, 1.2), (2.5, 3.0, 3.0), (1.0, 1.2, 1.2)]


def test_bf16_is_left_out_without_hardware_support(monkeypatch):
    monkeypatch.setattr(cnn.machine, "has_bf16", lambda: False)
    monkeypatch.setattr(cnn, "has_compiler", lambda: False)
    assert cnn.present() == [cnn.FP32, cnn.PLAIN, cnn.CHANNELS_LAST]


def test_roofline_is_in_cpu_time_and_within_rounds():
    """Half of the matmul rate in each round, although the second round is slow."""
    cell = Cell(32, 10)
    yardsticks = roofline.entries(cell, ("fp32 matmul", "memory stream"))
    matmul, stream = (yardsticks[name].label for name in ("fp32 matmul", "memory stream"))
    cpu = {matmul: [FLOPS / 1e8, FLOPS / 1e7], stream: [STREAM_BYTES / 1e7, STREAM_BYTES / 1e6]}
    times = [cell.step_flops / 5e7, cell.step_flops / 5e6]
    position = roofline.position(cell, times, yardsticks, course(cpu, {}))
    assert position["peaks"] == {"fp32 matmul": pytest.approx(55.0), "memory stream": pytest.approx(5.5)}
    assert position["shares"]["fp32 matmul"] == pytest.approx(0.5)
    share = cell.step_bytes / cell.step_flops * 5
    assert position["shares"]["memory stream"] == pytest.approx(share)
    assert position["gbytes"] == pytest.approx(27.5 * cell.step_bytes / cell.step_flops)


def test_grid_takes_the_better_layout_by_each_kind_of_time():
    """Medians choose the layout, and ratios are formed within rounds against the layout of fathomlab."""
    cpu = {
        label("fathomlab", replicas=8): [1.0, 2.0, 1.0],
        label("fathomlab reference", replicas=8): [2.0, 2.0, 2.0],
        label("plain loop"): [3.0, 6.0, 4.0],
        label("plain loop", 1, 2): [9.0, 1.0, 9.0],
    }
    wall = cpu | {label("plain loop", 1, 2): [2.0, 2.0, 2.0]}
    summary = grid.summary(course(cpu, wall), ["fathomlab", "fathomlab reference", "plain loop"])
    assert summary["cpu"] == {"fathomlab": 1.0, "fathomlab reference": 2.0, "plain loop": 4.0}
    assert summary["cpu_layouts"]["plain loop"] == label("plain loop")
    assert summary["wall_layouts"]["plain loop"] == label("plain loop", 1, 2)
    assert summary["cpu_ratios"] == {"fathomlab": 1.0, "fathomlab reference": 2.0, "plain loop": 3.0}
    assert summary["wall_ratios"]["plain loop"] == 2.0


def grid_record():
    """Two cells, in which JAX takes 1.5 and 6 times as long."""
    position = {"gflops": 50.0, "gbytes": 2.0, "peaks": {"fp32 matmul": 100.0}, "shares": {"fp32 matmul": 0.5}}
    cells = {}
    for name, times in (("w32 d10", [1.5, 1.5]), ("w128 d40", [6.0, 6.0])):
        cpu = {label("fathomlab", replicas=8): [1.0, 1.0], label("JAX vmap", replicas=8): times}
        summary = grid.summary(course(cpu, cpu), ["fathomlab", "JAX vmap"])
        cells[name] = summary | {"roofline": position}
    return {"about": {}, "skipped": [], "equivalence": {"JAX vmap": 1e-12}, "cells": cells}


def test_grid_targets_are_mean_smallest_ratio_and_first_step():
    rows = [target.row() for target in grid.targets(grid_record())]
    assert rows == [
        ["grid against JAX vmap, geometric mean over 2 cells", "at least 2x", "3x", "3x", "met"],
        ["grid against JAX vmap, smallest of 2 cells (w32 d10)", "at least 1x", "1.5x", "1.5x", "met"],
        ["process start to the end of the first step, largest of 2 cells", "at most 1 s", "0.5 s", "1 s", "met"],
    ]


def test_grid_text_has_both_times_the_roofline_and_first_steps():
    lines = grid.text(grid_record())
    assert lines.count("| w32 d10 | 1 | 1.5 |") == 2  # CPU time and wall time
    assert lines.count("| ratio to fathomlab, geometric mean | 1.00x | 3.00x |") == 2
    assert "| w32 d10 | 50 | 2.0 | 50% | 100 |" in lines
    assert "| w128 d40 | 0.7 | 0.7 |" in lines


def test_evaluation_is_in_images_per_second():
    """10,000 images in 10 ms are a thousand thousands per second."""
    cpu = {label("fathomlab", replicas=8): [10.0], label("plain loop"): [20.0]}
    cells = {"w32 d10": grid.summary(course(cpu, cpu), ["fathomlab", "plain loop"])}
    record = {"equivalence": {"plain loop": 0.0}, "skipped": [], "cells": cells}
    assert "| w32 d10 | plain loop | 500 | 2.00x | 500 | 2.00x |" in evaluation.text(record)
    assert [target.reached for target in evaluation.targets(record)] == [2.0]


def test_geometric_mean():
    assert geometric_mean([1.0, 4.0]) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("package", "compiler", "missing"),
    [("jax", True, {"JAX vmap"}), ("", False, {"compiled torch.func vmap", "compiled plain loop"})],
)
def test_missing_peer_is_skipped_with_a_line(monkeypatch, package, compiler, missing):
    monkeypatch.setattr(grid, "find_spec", lambda name: None if name == package else object())
    monkeypatch.setattr(grid, "has_compiler", lambda: compiler)
    systems, lines = grid.present(grid.LAYOUTS)
    assert systems == [name for name in grid.LAYOUTS if name not in missing]
    assert len(lines) == len(missing)
    assert all(any(name in line for line in lines) for name in missing)


def test_slow_layouts_leave_unless_one_kind_of_time_is_good(monkeypatch):
    """More than 1.5 times the system's best, by both kinds of time; other systems do not count."""
    stopped = []
    monkeypatch.setattr(Entrant, "stop", lambda entrant: stopped.append(entrant.entry.label))
    costs = {
        label("a"): Cost(1.0, 1.0),
        label("a", 1, 2): Cost(1.6, 1.6),
        label("a", replicas=4): Cost(9.0, 1.5),
        label("b"): Cost(50.0, 50.0),
    }
    entries = [Entry("a", Cell(32, 10), 2, 1), Entry("a", Cell(32, 10), 1, 2), Entry("a", Cell(32, 10), 2, 1, 4)]
    entrants = [Entrant(entry, [], 1, {}) for entry in (*entries, Entry("b", Cell(32, 10), 2, 1))]
    racing = race.contenders([(entrant, costs[entrant.entry.label]) for entrant in entrants])
    assert stopped == [label("a", 1, 2)]
    assert [entrant.entry.label for entrant in racing] == [label("a"), label("a", replicas=4), label("b")]


def test_round_divides_by_steps_and_networks(monkeypatch):
    """Two processes with 4 networks each; the slowest decides the wall time, CPU times are added. One did more steps."""
    answers = [{"wall": 0.4, "cpu": 0.5, "steps": 10}, {"wall": 1.6, "cpu": 0.6, "steps": 20}]
    monkeypatch.setattr(race, "_answer", lambda entry, process: answers[process.number])
    lines = []
    stdin = SimpleNamespace(write=lines.append, flush=lambda: None)
    processes: Any = [SimpleNamespace(number=number, stdin=stdin) for number in range(2)]
    entrant = Entrant(Entry("a", Cell(32, 10), 2, 1, 4), processes, 10, {})
    cost = entrant.round()
    assert (cost.wall, cost.cpu) == (pytest.approx(10.0), pytest.approx(10.0))
    assert lines == ["10\n", "10\n"]


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
