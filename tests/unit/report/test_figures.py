"""The parts of a chart: fewer points without lost spikes, axes, and numbers and tables as text."""

import csv
import io
import itertools
from urllib.parse import unquote

import pytest

from fathomlab.analysis.statistics import Interval
from fathomlab.base.labels import format_factor_level
from fathomlab.report.charts import columns, drawn_seeds
from fathomlab.report.curve_figures import downsample
from fathomlab.report.figures.depths import Cell, Series, depth_figure
from fathomlab.report.figures.rows import Row, row_figure
from fathomlab.report.figures.scales import (
    Axis,
    evenly_spaced_indices,
    linear_axis,
    power_ticks,
    round_ticks,
    shortened,
    shortened_alike,
    spread_apart,
    text_width,
)
from fathomlab.report.numbers import count, duration, grouped, percent, plain, signed, span
from fathomlab.report.tables import table


def test_thinning_keeps_ends_and_spikes():
    """A spike of one epoch among ten thousand survives; few points are left as they are."""
    points = [(epoch, 100.0 if epoch == 7321 else -5.0 if epoch == 44 else epoch / 1e4) for epoch in range(10_000)]
    thinned = downsample(points, 400)
    assert 200 < len(thinned) <= 400
    assert {points[0], points[-1], (7321, 100.0), (44, -5.0)} <= set(thinned)
    assert thinned == sorted(thinned)
    assert downsample(points[:400], 400) == points[:400]


def test_spread_keeps_start_and_end():
    """Initialization, first step and last epoch are always among the snapshots."""
    assert evenly_spaced_indices(5, 8) == [0, 1, 2, 3, 4]
    chosen = evenly_spaced_indices(202, 52)
    assert (chosen[:2], chosen[-1], len(chosen)) == ([0, 1], 201, 52)


def test_numbers_have_signs_units_and_commas():
    """Signs, no minus zero, percentages, durations, thousands."""
    assert [signed(value) for value in (0.5, -0.5, -0.001, 0.0)] == ["+0.50", "\u22120.50", "0.00", "0.00"]
    assert [plain(value) for value in (-0.001, -1.5, None)] == ["0.00", "-1.50", ""]
    assert percent(0.98126) == "98.13"
    assert span(Interval(1.0, -0.5, 2.5, 3)) == "\u22120.50 to +2.50"
    assert span(Interval(1.0, None, None, 1)) == ""
    assert [duration(value) for value in (2.345, 59.6, 125, 7800, None)] == [
        "2.3 s",
        "60 s",
        "2 min 5 s",
        "2 h 10 min",
        "",
    ]
    assert (count(1, "trial"), count(2, "trial")) == ("1\u00a0trial", "2\u00a0trials")
    assert (grouped("21282122"), grouped("-3.5")) == ("21,282,122", "-3.5")
    assert count(1200, "trial") == "1,200\u00a0trials"


@pytest.mark.parametrize(
    ("key", "level", "expected"),
    [
        ("model.params.residual", False, "plain"),
        ("model.params.residual", True, "residual"),
        ("model.params.layers_dim", 32, "width 32"),
        ("model.params.layers", [3, 4, 6, 3], "blocks 3-4-6-3"),
        ("model.params.batch_norm", True, "batch norm on"),
        ("training.optimizer", "SGD", "optimizer SGD"),
    ],
)
def test_word_names_a_level(key: str, level: object, expected: str):
    """Readable names of factors and levels."""
    assert format_factor_level(key, level) == expected


def test_csv_address_decodes_to_the_table():
    """Commas, quotes, newlines, markup and letters beyond ASCII come back."""
    rows = [['a,"b"', "1.5"], ["<i>\n#?&%41", "\u00e9\u2028"]]
    result = table("t", ["x", "y"], rows)
    head, content = result.data_uri.split(",", 1)
    assert head == "data:text/csv;charset=utf-8"
    assert not set(content) & set(' "<>#%&?\n') - {"%"}
    assert list(csv.reader(io.StringIO(unquote(content), newline=""))) == [["x", "y"], *rows]


def test_parts_of_a_table_have_every_column_once():
    """Each part begins with the first column; the CSV stays one table."""
    full = table("t", ["name", "text", "a", "b", "c"], [["n", "x", "1", "2", "3"]], texts=2)
    first, second = full.parts(["b"])
    assert (first.columns, first.rows, first.texts) == (("name", "text", "a"), (("n", "x", "1"),), 2)
    assert (second.columns, second.rows, second.texts) == (("name", "b", "c"), (("n", "2", "3"),), 1)
    assert full.parts(()) == [full]


@pytest.mark.parametrize(("low", "high"), [(0.03, 1.7), (-85.0, 3.0), (1e-9, 3e-9), (97.1, 98.2), (0.0, 1e6)])
def test_round_ticks_are_inside_and_few(low: float, high: float):
    """Three to nine ticks within the axis, equally spaced."""
    ticks = round_ticks(low, high)
    assert 3 <= len(ticks) <= 9
    assert low <= ticks[0] < ticks[-1] <= high
    steps = {round((b - a) / (high - low), 6) for a, b in itertools.pairwise(ticks)}
    assert len(steps) == 1


@pytest.mark.parametrize(("low", "high", "count"), [(1e-18, 1e2, 3), (0.001, 0.05, 3), (30.0, 50.0, 2), (0.9, 1.1, 2)])
def test_power_ticks_are_inside_and_few(low: float, high: float, count: int):
    """At least `count` and at most eight ticks within a logarithmic axis."""
    ticks = power_ticks(low, high)
    assert count <= len(ticks) <= 8
    assert all(low * 0.99 <= tick <= high * 1.01 for tick in ticks)


def test_fitted_axis_names_only_its_ends_without_room():
    """Of numbers, every second stays, with zero."""
    names = ("init", "step 1", "epoch 1", "epoch 2", "epoch 3")
    axis = Axis("snapshot", 0, 4, (0, 1, 2, 3, 4), texts=names)
    assert axis.fitted(4 * (text_width("epoch 1") + 5)) == axis
    narrow = axis.fitted(4 * (text_width("epoch 1") - 5))
    assert (narrow.ticks, narrow.tick_labels()) == ((0, 4), ["init", "epoch 3"])
    numbers = Axis("points", -40, 20, (-40.0, -30.0, -20.0, -10.0, 0.0, 10.0, 20.0))
    assert numbers.fitted(400) == numbers
    assert numbers.fitted(120).ticks == (-40.0, -20.0, 0.0, 20.0)


def test_at_most_two_hundred_seeds_are_drawn():
    """All up to that, then the smallest, the largest, and evenly many between."""
    assert drawn_seeds([3.0, 1.0, 2.0]) == [1.0, 2.0, 3.0]
    shown = drawn_seeds(float(value) for value in range(1000))
    assert (len(shown), shown[0], shown[-1]) == (200, 0.0, 999.0)


def test_names_are_spread_without_overlap():
    """At least the gap apart, in their order, and unmoved where there is room."""
    targets = [50.0, 51.0, 10.0, 52.0, 200.0]
    places = spread_apart(targets, 15)
    assert places[2] == 10.0
    assert places[4] == 200.0
    assert [places[0], places[1], places[3]] == pytest.approx([36.0, 51.0, 66.0])


def test_names_of_deepest_networks_are_right_of_all_marks():
    """Also with two depths, where the last marks are far from the edge."""
    mean = Interval(50.0, None, None, 1)
    series = [Series(name, tuple(Cell(depth, (50.0,), mean) for depth in (0, 1))) for name in ("plain", "residual")]
    axes = depth_figure(series, (2, 20), linear_axis("test accuracy (%)", 0, 100)).axes[0]
    (left,) = {text.get_position()[0] for text in axes.texts if text.get_text() in ("plain", "residual")}
    marks = max(float(max(line.get_xdata())) for line in axes.lines if line.get_transform() == axes.transData)
    low, high = axes.get_xlim()
    assert left > (marks - low) / (high - low)


def test_names_of_lines_differ_where_there_is_room():
    """Names that would be equal after shortening get more of a wide figure."""
    cells = (Cell(0, (50.0,), Interval(50.0, None, None, 1)),)
    names = [f"{kind}, activation {name}, optimizer Adam" for kind in ("residual", "none") for name in ("ReLU", "Tanh")]
    names += [name.replace("Adam", "SGD") for name in names]
    axes = depth_figure([Series(name, cells) for name in names], (2, 20), linear_axis("accuracy (%)", 0, 100)).axes[0]
    assert len({text.get_text() for text in axes.texts if "," in text.get_text()}) == len(names)


def test_long_labels_keep_both_ends():
    """The middle is replaced; a short label is not changed."""
    text = "stage1.1." + "x" * 80 + ".conv1"
    short = shortened(text, 100)
    assert text_width(short) <= 100
    assert (short[:3], short[-3:]) == ("sta", "nv1")
    assert shortened("input", 100) == "input"


def test_long_labels_that_differ_in_a_word_stay_different():
    """What they share is left out; what differs stays."""
    texts = [f"width 8, learning rate {rate}, depth {depth}" for rate in (0.001, 0.01) for depth in (1, 2)]
    short = shortened_alike(texts, 170)
    assert max(map(text_width, short)) <= 170
    assert short[0] == "width 8, \u2026 0.001, depth 1"
    assert len(set(short)) == 4
    words = itertools.product(("residual", "plain"), ("ReLU", "Tanh"), ("Adam", "SGD"))
    texts = [f"{kind}, activation {name}, optimizer {other}" for kind, name, other in words]
    narrow = [text for width in range(50, 200) for text in shortened_alike(texts, width)]
    assert not [text for text in narrow if "\u2026\u2026" in text or "\u2026 \u2026" in text]
    assert shortened_alike(["the same", "the same"], 500) == ["the same", "the same"]


@pytest.mark.parametrize("label", ["x" * 300, "learning rate 0.01 \u2212 learning rate 0.001 (points)"])
def test_long_label_of_an_axis_stays_in_the_figure(label: str):
    figure = row_figure(
        [Row("learning rate 0.01 \u2212 learning rate 0.001", mean=Interval(1, 0, 2, 3))], Axis(label, 0, 2, (0, 1, 2))
    )
    (axes,) = figure.axes
    figure.canvas.draw()
    box = axes.xaxis.label.get_window_extent()
    assert figure.bbox.x0 - 1 <= box.x0
    assert box.x1 <= figure.bbox.x1 + 1


@pytest.mark.parametrize("number", range(1, 13))
def test_last_row_has_several_figures(number: int):
    """Except a single figure, and seven, which fit neither two nor three."""
    last = number % columns(number)
    assert last != 1 or number in (1, 7)
