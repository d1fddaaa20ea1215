"""Figures as files, and the values that marks show on hover."""

from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from fathomlab.analysis.statistics import Interval
from fathomlab.analysis.study import study
from fathomlab.base.errors import UserError
from fathomlab.cli.report import report
from fathomlab.probes.columns import Column
from fathomlab.report import figure_files
from fathomlab.report.accuracy_plots import accuracy_charts
from fathomlab.report.figure_files import FORMATS, figure_bytes, write_figures
from fathomlab.report.figures.depths import Cell, Series, depth_figure
from fathomlab.report.figures.lines import Line, line_figure
from fathomlab.report.figures.rows import Point, Row, row_figure
from fathomlab.report.figures.scales import linear_axis, log_axis
from fathomlab.report.figures.svg import inline_svg
from fathomlab.report.heatmaps import Cells, log_heatmap
from fathomlab.report.page import write_report
from fathomlab.report.sections.gradients import Profile, gradient_profile
from fathomlab.report.sections.predictions import Bin, reliability_diagram
from fathomlab.report.sections.probes import ProbeLine, probe_lines
from fathomlab.store.reading import Store
from tests.helpers import stores
from tests.helpers.pages import elements

SVG = "{http://www.w3.org/2000/svg}"
PERCENT = linear_axis("test accuracy (%)", 0, 100)


def hovered(figure: object) -> list[str]:
    """The values on hover, in the order of the marks; without the title of the figure."""
    root = ElementTree.fromstring(inline_svg(figure, "x", "Title", "What it shows."))  # type: ignore[arg-type]
    return [title.text or "" for title in root.iter("title")][1:]


def test_figures_are_the_charts_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file per chart of the page and format, with the bytes of the format."""
    stores.write_blocks(tmp_path, seeds=2, epochs=1)
    store = Store(tmp_path)
    text = write_report(store, "1_3").read_text()
    names = [keys["id"] for tag, keys in elements(text).tags if tag == "figure"]
    monkeypatch.setattr(
        figure_files, "figure_bytes", lambda chart: {end: (chart.name + end).encode() for end in FORMATS}
    )
    written = write_figures(study(store, store.experiment("1_3")), tmp_path / "one")
    assert [path.name for path in written] == [f"{name}.{end}" for name in names for end in ("svg", "png", "pdf")]
    assert len(set(written)) == len(written) >= 18
    assert sorted(tmp_path.joinpath("one").iterdir()) == sorted(written)
    assert all(path.read_text() == path.name.replace(".", "") for path in written)


def test_figure_files_have_titles_on_white(tmp_path: Path) -> None:
    """Drawn again, the bytes are equal."""
    stores.write_blocks(tmp_path, seeds=2, epochs=1)
    chart = accuracy_charts(study(Store(tmp_path), Store(tmp_path).experiment("1_3")))[0]
    files = figure_bytes(chart)
    assert figure_bytes(chart) == files
    picture = Image.open(BytesIO(files["png"])).convert("RGB")
    assert picture.getpixel((0, 0)) == picture.getpixel((picture.width // 2, picture.height // 2)) == (255, 255, 255)
    root = ElementTree.fromstring(files["svg"])
    titles = [title.text or "" for title in root.iter(f"{SVG}title")]
    assert "Test accuracy by depth (%)" in titles
    assert any("95% interval" in title for title in titles)
    assert not [*root.iter(f"{SVG}text")]  # letters are outlines
    assert files["pdf"].startswith(b"%PDF-")


def test_figures_option_needs_an_experiment(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        report(runs=tmp_path, figures=tmp_path / "figures")
    assert caught.value.code == "missing-argument"


def test_marks_show_their_values_on_hover() -> None:
    """Interval, seeds, and mean with condition, depth, interval, and number of seeds."""
    mean = Interval(58.64, 43.7, 73.58, 2)
    text = "residual, depth 20: mean 58.64% (95% interval 43.7 to 73.58%, 2 seeds)"
    seeds = ["residual, depth 20: one seed, 57.28%", "residual, depth 20: one seed, 60%"]
    figure = depth_figure([Series("residual", (Cell(0, (57.28, 60.0), mean),))], [20], PERCENT)
    assert hovered(figure) == [text, *seeds, text]
    rows = [Row("a", (Point(1.0, diverged=True),), predicted=-2.5)]
    figure = row_figure(rows, linear_axis("slope (nats per layer)", -5, 5))
    assert hovered(figure) == ["a: 1 nats per layer, diverged", "a: predicted \u22122.5 nats per layer"]
    both = row_figure([Row("a", mean=Interval(1.0, None, None, 1), predicted=1.0)], linear_axis("slope (nats)", -5, 5))
    assert hovered(both) == ["a: 1 nats (1 seed); predicted 1 nats"] * 2  # one covers the other
    points = [Bin(8, 56.7068, 82.456, 1200), Bin(9, 60.0, 90.0, 1)]
    assert hovered(reliability_diagram(["b"], [points])) == ["b, mean confidence 56.7%: accuracy 82.5% (1,200 images)"]


def test_curves_and_cells_show_their_values_on_hover() -> None:
    """A text per point and per cell that has a number; long lines and large maps have a limited number."""
    x = linear_axis("epoch", 1, 100)
    line = Line("depth 5", ((1.0, 0.25), (2.0, 0.5)))
    assert hovered(line_figure([line], x, linear_axis("loss (nats)", 0, 1))) == [
        "depth 5, epoch 1: 0.25 nats",
        "depth 5, epoch 2: 0.5 nats",
    ]
    long = Line("a", tuple((float(epoch), 0.5) for epoch in range(1, 101)))
    assert len(hovered(line_figure([long], x, linear_axis("loss (nats)", 0, 1)))) == 30
    confidence = linear_axis("confidence (%)", 0, 100)
    assert hovered(line_figure([Line("a", ((84.0996, 82.759),))], confidence, PERCENT)) == [
        "a, confidence 84.1%: 82.76%"
    ]
    cells = Cells(((-1.0, None), (-17.5, 3.0)), ("input", "hidden.1"), ("init", "epoch 1"))
    assert hovered(log_heatmap(cells, -18, 3)) == [
        "input, init: 0.1",
        "hidden.1, init: 3.2e-18",
        "hidden.1, epoch 1: 1e+03",
    ]
    large = Cells(((0.0,) * 21,) * 20, tuple(map(str, range(20))), tuple(map(str, range(21))))
    assert hovered(log_heatmap(large, -1, 1)) == []


def test_lines_over_layers_name_the_layer_on_hover() -> None:
    """As the table does. Layers without a number have no text."""
    layers, values = ("input", "hidden.1", "output"), (-2.0, None, -1.0)
    texts = ["plain, input: 0.01", "plain, output: 0.1"]
    figure = gradient_profile([Profile("plain", "plain", layers, values, ())], log_axis("gradient norm", 1e-3, 1))
    assert hovered(figure) == texts
    line = ProbeLine("plain", "plain", layers, (0.01, None, 0.1))
    assert hovered(probe_lines([line], Column("Share of dead units", axis="layer"), "layer, input to output")) == texts


def test_depth_option_of_a_user_model_is_the_axis(tmp_path: Path) -> None:
    """Three levels of `model.params.depth`, for which no depth is recorded."""
    conditions = []
    for depth in (2, 4, 8):
        factors = {"model.params.depth": depth}
        trials = [(seed, stores.write_trial(tmp_path, "x", factors, seed, 0.5)) for seed in range(2)]
        conditions.append(stores.condition(f"depth={depth}", factors, None, trials))
    stores.write_experiment(tmp_path, "x", "Own", conditions, seeds=[0, 1])
    results = study(Store(tmp_path), Store(tmp_path).experiment("x"))
    (chart,) = accuracy_charts(results)
    assert chart.title == "Test accuracy by depth (%)"
    assert [row[0] for row in chart.table.rows] == ["depth 2", "depth 4", "depth 8"]
